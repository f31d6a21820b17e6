use std::task::Waker;

use super::*;
use crate::message::Publication;
use crate::session::FrameScratch;
use crate::stats::Stats;

const APPETITE: Appetite = Appetite {
    below: u64::MAX,
    bytes: 1 << 20,
    window: 10,
};

fn online() -> Arc<Outbox> {
    let limits = OutboxLimits::new(Arc::new(Stats::default()));
    limits.set(100, 1 << 20, QueueOverflow::DropNew);
    let outbox = Arc::new(Outbox::new(1, "client".into(), Arc::new(limits)));
    outbox.attach(Wire {
        version: Version::V311,
        maximum_packet_size: usize::MAX,
        frames: true,
    });
    outbox
}

fn sleep(outbox: &Outbox, appetite: Option<Appetite>) -> bool {
    outbox.poll_ready(&Context::from_waker(Waker::noop()), appetite)
}

fn offer(outbox: &Arc<Outbox>, frames: &mut FrameScratch) {
    let publication = Publication {
        topic: "t",
        payload: b"some bytes",
        properties: &[],
        expires_at: None,
        qos: QoS::AtMostOnce,
        retain: false,
    };
    let terms = Terms {
        qos: QoS::AtMostOnce,
        retain: false,
        extras: None,
    };
    let clock = Clock::start();
    let mut outgoing = Outgoing::new(&publication, frames, &clock);
    assert!(outbox.offer(&mut outgoing, terms, Placement::Here, &mut WakeUps::default()));
}

fn allocated(outbox: &Outbox) -> usize {
    let inner = outbox.inner.lock();
    let of = |item: &Qos0| match item {
        Qos0::Frames { bytes, .. } => bytes.capacity(),
        Qos0::Message(_) => 0,
    };
    inner.qos0.iter().map(of).sum()
}

/// What is allocated is at most twice what is charged, however large the spare buffers of publishers are.
#[test]
fn few_frames_do_not_keep_a_large_buffer_from_others() {
    let large = 16 * 1024;
    let mut frames = FrameScratch::default();
    (0..2).for_each(|_| frames.reuse(Vec::with_capacity(large)));

    // The socket takes nothing.
    let slow = online();
    assert!(!sleep(&slow, None));
    offer(&slow, &mut frames);
    assert!(allocated(&slow) <= 2 * slow.backlog());

    // It will empty the buffer soon.
    let idle = online();
    assert!(!sleep(&idle, Some(APPETITE)));
    offer(&idle, &mut frames);
    assert_eq!(allocated(&idle), large);

    // It could not.
    assert!(!sleep(&idle, None));
    assert!(allocated(&idle) <= 2 * idle.backlog());
    for _ in 0..100 {
        offer(&idle, &mut frames);
        assert!(!sleep(&idle, None));
        assert!(allocated(&idle) <= 2 * idle.backlog());
    }
    let mut taken = Taken::default();
    idle.take(APPETITE, &mut taken);
    assert!(matches!(&taken.qos0[..], [Qos0::Frames { count: 101, .. }]));
    assert_eq!((allocated(&idle), idle.backlog()), (0, 0));
}
