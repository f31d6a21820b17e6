use std::task::{Context, Waker};

use proptest::prelude::*;

use super::*;
use crate::message::{Message, Publication};
use crate::packet::Version;
use crate::session::outbox::{Appetite, QueueOverflow, Taken, Wire};
use crate::stats::Stats;
use crate::store::{MemoryStore, Pen};

const ALL: Appetite = Appetite {
    bytes: 1 << 20,
    window: 100,
    below: u64::MAX,
};

fn delivery(place: u64) -> Delivery {
    let payload = place.to_string();
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
    let mut delivery = Delivery::new(Arc::new(Message::new(&publication)), terms);
    delivery.identifier = live_identifier(place);
    delivery
}

/// The queue of a session as the store has it, and its owner.
struct Scene {
    outbox: Outbox,
    journal: Arc<Journal>,
    /// Places in the store, and those of them that the owner may be told of yet.
    stored: u64,
    untold: Vec<u64>,
    /// A page that is being read: what the store had when it was.
    page: Option<(TailPage, Option<Vec<u64>>)>,
    taken: Vec<u64>,
    page_size: usize,
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append,
    /// One of the untold places, with its message or without.
    Tell(usize, bool),
    /// It is never told.
    Lose(usize),
    BeginToRead,
    Read,
    EndToRead,
    Take,
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Append),
        4 => (0..8_usize, any::<bool>()).prop_map(|(which, whole)| Step::Tell(which, whole)),
        1 => (0..8_usize).prop_map(Step::Lose),
        2 => Just(Step::BeginToRead),
        2 => Just(Step::Read),
        2 => Just(Step::EndToRead),
        3 => Just(Step::Take),
        1 => Just(Step::Look),
    ]
}

impl Scene {
    fn new(found: u64, page_size: usize) -> Scene {
        let journal = Journal::start(Arc::new(MemoryStore::default())).expect("started");
        let limits = OutboxLimits::new(Arc::new(Stats::default()));
        limits.set(100, 1 << 30, QueueOverflow::DropNew);
        let outbox = Outbox::new_shared(1 << 40, "client".into(), Arc::new(limits), &journal);
        outbox.own(&Extent {
            first: 0,
            next: found,
            count: found,
            bytes: found,
        });
        outbox.attach(Wire {
            version: Version::V5,
            maximum_packet_size: usize::MAX,
            frames: true,
        });
        Scene {
            outbox,
            journal,
            stored: found,
            untold: Vec::new(),
            page: None,
            taken: Vec::new(),
            page_size,
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Append => {
                self.untold.push(self.stored);
                self.stored += 1;
            }
            Step::Tell(which, whole) if which < self.untold.len() => {
                let place = self.untold.remove(which);
                self.outbox
                    .arrived(place, std::iter::once(whole.then(|| delivery(place))));
            }
            Step::Lose(which) if which < self.untold.len() => drop(self.untold.remove(which)),
            Step::Tell(..) | Step::Lose(_) => {}
            Step::BeginToRead if self.page.is_none() => {
                self.page = self.outbox.tail_page().map(|page| (page, None));
            }
            Step::Read => self.read(),
            Step::EndToRead => self.end_to_read(),
            Step::BeginToRead => {}
            Step::Take => self.take(),
            Step::Look => self.outbox.look(),
        }
    }

    fn read(&mut self) {
        if let Some((page, read @ None)) = &mut self.page {
            *read = Some((page.from..self.stored).take(self.page_size).collect());
        }
    }

    fn end_to_read(&mut self) {
        let Some((page, Some(read))) = self.page.take_if(|(_, read)| read.is_some()) else {
            return;
        };
        let is_last = read.len() < self.page_size;
        let deliveries = read.into_iter().map(|place| (place, delivery(place))).collect();
        self.outbox.loaded(page, deliveries, is_last, &mut Pen::default());
    }

    fn take(&mut self) {
        let mut taken = Taken::default();
        self.outbox.take(ALL, &mut taken);
        let places = taken.deliveries.iter().map(|delivery| {
            let text = std::str::from_utf8(delivery.message.payload()).expect("text");
            text.parse::<u64>().expect("a place")
        });
        self.taken.extend(places);
    }

    fn is_ready(&self) -> bool {
        self.outbox.poll_ready(&Context::from_waker(Waker::noop()), Some(ALL))
    }

    /// The owner does what it does whenever it is woken, until there is nothing to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.page.is_none() && !self.is_ready() {
                return;
            }
            let steps = [Step::BeginToRead, Step::Read, Step::EndToRead, Step::Take];
            steps.into_iter().for_each(|step| self.take_step(step));
        }
        panic!("it never rests");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.journal.let_go();
    }
}

proptest! {
    /// Whatever the owner is told, and when, and however late what it reads comes: it takes each message once and in order,
    /// all that it was told of, and all that there is once it has looked. Then nothing is left of the counts.
    #[test]
    fn messages_are_taken_in_order_and_once(
        found in 0..5_u64,
        page_size in 1..4_usize,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut scene = Scene::new(found, page_size);
        let mut told = found;
        for step in steps {
            if let Step::Tell(which, _) = step && let Some(place) = scene.untold.get(which) {
                told = told.max(place + 1);
            }
            scene.take_step(step);
        }
        scene.settle();
        let expected: Vec<u64> = (0..scene.taken.len() as u64).collect();
        prop_assert_eq!(&scene.taken, &expected);
        prop_assert!(scene.taken.len() as u64 >= told, "{} of {told}", scene.taken.len());
        scene.outbox.look();
        scene.settle();
        let expected: Vec<u64> = (0..scene.stored).collect();
        prop_assert_eq!(&scene.taken, &expected);
        prop_assert_eq!(scene.outbox.stored_messages(), 0);
    }
}

/// Who owns a session has its queue; who does not has nothing of it.
#[test]
fn what_is_disowned_is_forgotten() {
    let mut scene = Scene::new(3, 10);
    scene.outbox.arrived(5, std::iter::once(None));
    scene.outbox.disown();
    assert!(!scene.is_ready());
    scene.outbox.arrived(6, std::iter::once(Some(delivery(6))));
    scene.take();
    assert!(scene.taken.is_empty());
    assert_eq!((scene.outbox.queue_len(), scene.outbox.backlog()), (0, 0));
}
