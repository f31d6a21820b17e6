use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::broker::RouteScratch;
use crate::message::Publication;
use crate::router::LastMatch;
use crate::store::Pen;
use crate::time::Millis;

const DEADLINE: Duration = Duration::from_secs(30);

fn core() -> Arc<Core> {
    Arc::new(Core::new(Policy::default(), None, None))
}

fn retain(core: &Core, topic: &str, expires_at: Option<Millis>) {
    let publication = Publication {
        topic,
        payload: b"x",
        properties: &[],
        expires_at,
        qos: QoS::AtMostOnce,
        retain: true,
    };
    core.route(
        &publication,
        None,
        &mut RouteScratch::default(),
        &mut LastMatch::default(),
    );
}

/// Runs a task until it first waits for something.
async fn step(task: &mut Pin<&mut impl Future<Output = ()>>) {
    poll_fn(|cx| {
        assert!(task.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// Panics when it is woken.
struct Mine;

impl Wake for Mine {
    fn wake(self: Arc<Self>) {
        panic!("a panic on purpose");
    }
}

#[tokio::test]
async fn a_panic_ends_one_timer_only() {
    let core = core();
    let (mined, sound) = (core.new_outbox("mined".into()), core.new_outbox("sound".into()));
    let mine = Waker::from(Arc::new(Mine));
    assert!(!mined.poll_ready(&Context::from_waker(&mine), None));
    core.timers.set(Millis::from_unix(1), Due::Alarm(mined));
    core.timers.set(Millis::from_unix(2), Due::Alarm(Arc::clone(&sound)));
    let timers = tokio::spawn(run_timers(Arc::clone(&core)));
    let woken = poll_fn(|cx| match sound.poll_ready(cx, None) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    tokio::time::timeout(DEADLINE, woken)
        .await
        .expect("the later timer goes off");
    assert!(!timers.is_finished());
    timers.abort();
}

#[tokio::test]
async fn many_timers_leave_room_for_other_tasks() {
    let core = core();
    for n in 1..=2 * TIMERS_AT_A_TIME as u64 {
        core.timers.set(Millis::from_unix(n), Due::Session("nobody".into()));
    }
    let mut timers = pin!(run_timers(Arc::clone(&core)));
    step(&mut timers).await;
    assert_eq!(core.timers.len(), TIMERS_AT_A_TIME);
    step(&mut timers).await;
    assert_eq!(core.timers.len(), 0);
}

#[tokio::test]
async fn expired_retained_messages_go_in_batches() {
    let core = core();
    (0..2500).for_each(|n| retain(&core, &format!("old/{n}"), Some(Millis::from_unix(1))));
    retain(&core, "ever", None);
    assert_eq!(core.timers.len(), 1);
    let mut timers = pin!(run_timers(Arc::clone(&core)));
    for left in [1501, 501, 1] {
        step(&mut timers).await;
        assert_eq!(core.router.retained.len(), left);
    }
    assert_eq!(core.timers.len(), 0);
}

#[tokio::test]
async fn there_is_one_timer_for_the_first_retained_message_that_expires() {
    let core = core();
    let at = |seconds| core.clock.now().plus_seconds(seconds);
    retain(&core, "ever", None);
    assert_eq!(core.timers.len(), 0);
    let mut timers = pin!(run_timers(Arc::clone(&core)));
    step(&mut timers).await;
    let times = [at(3000), at(2000), at(1000), at(4000)];
    for (topic, time) in ["a", "b", "c", "d"].iter().zip(times) {
        retain(&core, topic, Some(time));
        assert_eq!(core.timers.len(), 1);
    }
    assert!(
        core.timers
            .next_due()
            .is_some_and(|due| times[2] <= due && due < times[1])
    );
    // Its time has come, but the message that it was for has not expired yet.
    core.sweep_retained();
    assert_eq!((core.timers.len(), core.router.retained.len()), (1, 5));
    // The timer that is set has an end when there is nothing that it could be for.
    ["a", "b", "c", "d"]
        .iter()
        .for_each(|topic| core.router.retained.clear(topic, &mut Pen::default()));
    core.sweep_retained();
    assert_eq!(core.timers.len(), 0);
}
