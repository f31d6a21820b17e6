use std::task::{Context, Waker};

use super::*;
use crate::message::Publication;
use crate::packet::{QoS, Version};
use crate::session::outbox::Wire;
use crate::session::{Appetite, FrameScratch, OutboxLimits, Outgoing, Placement, QueueOverflow, Taken, Terms, WakeUps};
use crate::stats::Stats;
use crate::store::{Gated, Page, SessionRecord, Store, StoredSession};
use crate::time::Clock;

const ALL: Appetite = Appetite {
    bytes: 1 << 20,
    window: 10_000,
    below: u64::MAX,
};

struct Scene {
    store: Arc<Gated>,
    journal: Arc<Journal>,
    outbox: Arc<Outbox>,
    wake_ups: WakeUps,
}

impl Scene {
    fn new(messages: usize, overflow: QueueOverflow) -> Scene {
        let store = Arc::new(Gated::default());
        let journal = Journal::start(Arc::clone(&store) as _).expect("started");
        let limits = OutboxLimits::new(Arc::new(Stats::default()));
        limits.set(messages, 1 << 30, overflow);
        let outbox = Arc::new(Outbox::new(7, "client".into(), Arc::new(limits)));
        outbox.keep(&journal);
        let mut scene = Scene {
            store,
            journal,
            outbox,
            wake_ups: WakeUps::default(),
        };
        let record = SessionRecord {
            uid: 7,
            client_id: "client",
            expiry_interval: 10,
            away_since: None,
            unsent: 0,
            window: 10,
        };
        scene.wake_ups.pen.write(&scene.journal, &Op::Session(record));
        scene
    }

    fn attach(&self) {
        self.outbox.attach(Wire {
            version: Version::V5,
            maximum_packet_size: usize::MAX,
            frames: true,
        });
    }

    fn offer(&mut self, number: usize) -> bool {
        let payload = number.to_string();
        let publication = Publication {
            topic: "t",
            payload: payload.as_bytes(),
            properties: &[],
            expires_at: None,
            qos: QoS::AtLeastOnce,
            retain: false,
        };
        let terms = Terms {
            qos: QoS::AtLeastOnce,
            retain: false,
            extras: None,
        };
        let (clock, mut frames) = (Clock::start(), FrameScratch::default());
        let mut outgoing = Outgoing::new(&publication, &mut frames, &clock);
        let taken = self
            .outbox
            .offer(&mut outgoing, terms, Placement::Here, &mut self.wake_ups);
        self.wake_ups.pen.end_message(&publication);
        taken
    }

    /// Waits until all that was written is kept.
    fn keep(&mut self) {
        let batch = self.wake_ups.pen.batch();
        self.wake_ups.pen.leave();
        // What was dropped may be in a later batch.
        while batch.is_some_and(|batch| self.journal.durable() < batch) || self.journal.pending() > 0 {
            std::thread::yield_now();
        }
    }

    fn take(&self, appetite: Appetite) -> Vec<(u16, String)> {
        let mut taken = Taken::default();
        self.outbox.take(appetite, &mut taken);
        let text = |delivery: &Delivery| String::from_utf8_lossy(delivery.message.payload()).into_owned();
        taken
            .deliveries
            .iter()
            .map(|delivery| (delivery.identifier, text(delivery)))
            .collect()
    }

    fn load(&self) -> usize {
        let Some(page) = self.outbox.tail_page() else { return 0 };
        let most = Page {
            messages: 100,
            bytes: usize::MAX,
        };
        let read = self.store.queue(7, Lane::Live, page.from, most).expect("read");
        let read: Vec<_> = read
            .into_iter()
            .filter_map(|stored| Some((stored.index, delivery_of(stored, Lane::Live)?)))
            .collect();
        let count = read.len();
        self.outbox.loaded(page, read, count == 0, &mut Pen::default());
        count
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.wake_ups.pen.leave();
        self.journal.close();
    }
}

impl Scene {
    /// Another process goes on, with this limit.
    fn restart(&mut self, messages: usize) {
        self.keep();
        let limits = OutboxLimits::new(Arc::new(Stats::default()));
        limits.set(messages, 1 << 30, QueueOverflow::DropOldest);
        let outbox = Outbox::new(7, "client".into(), Arc::new(limits));
        let restore = |stored: StoredSession| outbox.restore(&self.journal, &stored.live, stored.unsent, 0);
        let mut stored = None;
        self.store
            .sessions(&mut |session| stored = Some(session))
            .expect("read");
        restore(stored.expect("there"));
        self.outbox = Arc::new(outbox);
    }

    fn done(&mut self, index: u64) {
        let (uid, lane) = (7, Lane::Live);
        self.wake_ups.pen.write(&self.journal, &Op::Done { uid, lane, index });
    }

    fn stored(&self) -> Vec<u64> {
        let most = Page {
            messages: 100,
            bytes: usize::MAX,
        };
        let read = self.store.queue(7, Lane::Live, 0, most).expect("read");
        read.iter().map(|stored| stored.index).collect()
    }
}

/// Places 1, 2 and 4 of 0 to 6 are not there.
fn with_gaps(limit: usize) -> Scene {
    let mut scene = Scene::new(100, QueueOverflow::DropOldest);
    (0..7).for_each(|number| assert!(scene.offer(number)));
    [1, 2, 4].into_iter().for_each(|index| scene.done(index));
    scene.restart(limit);
    scene
}

/// What makes room in a queue with gaps are its oldest messages, and none is left behind; whoever drops them.
#[tokio::test]
async fn the_oldest_are_dropped_from_a_queue_with_gaps() {
    for trims in [false, true] {
        for (limit, more) in [(4, 2), (1, 1), (1, 5), (3, 6)] {
            let mut scene = with_gaps(limit);
            let offer = |scene: &mut Scene| (7..7 + more).for_each(|number| assert!(scene.offer(number)));
            if trims {
                offer(&mut scene);
            } else {
                std::thread::scope(|scope| scope.spawn(|| offer(&mut scene)).join().expect("offered"));
            }
            scene.keep();
            let left: Vec<_> = [0, 3, 5, 6].into_iter().chain(7..7 + more as u64).collect();
            let left = left[left.len() - limit..].to_vec();
            if trims {
                while scene.stored() != left {
                    tokio::task::yield_now().await;
                }
            }
            scene.attach();
            let mut all = Vec::new();
            while scene.load() > 0 {
                all.extend(scene.take(ALL));
            }
            scene.load();
            let text = |place: &u64| (*place as u16 + 1, place.to_string());
            assert_eq!(
                all,
                left.iter().map(text).collect::<Vec<_>>(),
                "limit {limit}, {more} more"
            );
            scene.keep();
            assert_eq!(scene.stored(), left);
            assert_eq!((scene.outbox.stored_from(), scene.outbox.queue_len()), (None, limit));
        }
    }
}

/// Of what was found the first messages up to the window stay, and those that were released.
#[test]
fn what_may_have_been_sent_is_not_dropped() {
    let mut found = Found::new(0, 4, 4, 1, 2);
    found.owed = 4;
    let store = with_gaps(100);
    let most = Page {
        messages: 100,
        bytes: usize::MAX,
    };
    let read = store.store.queue(7, Lane::Live, 0, most).expect("read");
    // Places 0 and 3 of these four.
    assert_eq!(found.look_at(&read, 0), Vec::<u64>::new());
    assert_eq!(found.owed, 0);
    let mut found = Found::new(0, 7, 4, 1, 2);
    found.owed = 4;
    assert_eq!(found.look_at(&read, 0), [5, 6]);
}

fn numbered(range: std::ops::Range<usize>) -> Vec<(u16, String)> {
    range.map(|number| (number as u16 + 1, number.to_string())).collect()
}

/// A message leaves the queue only when it is durable, and its owner is told then.
#[test]
fn nothing_leaves_before_it_is_kept() {
    let mut scene = Scene::new(100, QueueOverflow::DropNew);
    scene.attach();
    scene.keep();
    let closed = Arc::clone(&scene.store);
    let closed = closed.gate.lock();
    assert!(!scene.outbox.poll_ready(&Context::from_waker(Waker::noop()), Some(ALL)));
    assert!(scene.offer(0) && scene.offer(1));
    scene.wake_ups.pen.leave();
    assert!(!scene.outbox.has_for(ALL));
    assert!(scene.take(ALL).is_empty());
    assert!(!scene.outbox.take_signals().kept);
    drop(closed);
    while !scene.outbox.take_signals().kept {
        std::thread::yield_now();
    }
    assert!(scene.outbox.has_for(ALL));
    assert_eq!(scene.take(ALL), numbered(0..2));
}

/// Messages whose identifier may be in use wait.
#[test]
fn places_are_bounded() {
    let mut scene = Scene::new(100, QueueOverflow::DropNew);
    scene.attach();
    (0..5).for_each(|number| assert!(scene.offer(number)));
    scene.keep();
    let below = |below| Appetite { below, ..ALL };
    assert_eq!(scene.take(below(3)), numbered(0..3));
    assert!(!scene.outbox.has_for(below(3)) && scene.outbox.has_for(below(4)));
    assert_eq!(scene.take(ALL), numbered(3..5));
}

/// What a client that is away may have in memory is bounded; the rest is read again, in order, and what comes meanwhile is
/// behind it.
#[test]
fn the_end_of_a_long_queue_is_in_the_store_only() {
    let mut scene = Scene::new(10_000, QueueOverflow::DropNew);
    (0..2500).for_each(|number| assert!(scene.offer(number)));
    scene.keep();
    assert_eq!(scene.outbox.stored_messages(), 1500);
    assert_eq!(scene.outbox.queue_len(), 2500);
    scene.attach();
    let mut all = scene.take(ALL);
    assert_eq!(all.len(), 1000);
    for number in 2500..2600 {
        assert!(scene.offer(number));
        scene.keep();
        scene.load();
        all.extend(scene.take(ALL));
    }
    while scene.load() > 0 {
        all.extend(scene.take(ALL));
    }
    scene.load();
    assert_eq!(all, numbered(0..2600));
    assert_eq!(scene.outbox.stored_messages(), 0);
    // All are in flight now.
    let bytes = scene.outbox.backlog();
    scene.outbox.settle(2600, bytes);
    assert_eq!((scene.outbox.queue_len(), scene.outbox.backlog()), (0, 0));
    assert!(scene.offer(2600));
    scene.keep();
    assert_eq!(scene.take(ALL), numbered(2600..2601));
}

/// The oldest are dropped wherever they are, and the store is told.
#[test]
fn the_oldest_are_dropped_from_memory_and_from_the_store() {
    let mut scene = Scene::new(1500, QueueOverflow::DropOldest);
    (0..4000).for_each(|number| assert!(scene.offer(number)));
    scene.keep();
    scene.attach();
    let mut all = scene.take(ALL);
    while scene.load() > 0 {
        all.extend(scene.take(ALL));
    }
    assert_eq!(all, numbered(2500..4000));
    let most = Page { messages: 1, bytes: 1 };
    let first = scene.store.queue(7, Lane::Live, 0, most).expect("read");
    assert_eq!(first.first().map(|stored| stored.index), Some(2500));
}
