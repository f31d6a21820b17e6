//! Random changes, with the store closed, killed and asked again in between: it must agree with the model.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::changes::{Changes, changes, record};
use super::state::{Place, State, read_queue};
use super::{Bench, Subject};
use crate::message::Publication;
use crate::packet::{QoS, SubscriptionOptions};
use crate::store::{
    Batch, Extent, Lane, MemoryStore, Op, Page, SessionRecord, Store, SubscriptionRecord, TermsRecord, Uid,
};
use crate::time::Millis;

/// What happens to a store.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    /// The last batch comes once more.
    Again,
    Close,
    Kill,
    /// A queue is read in pages.
    Pages {
        client: u64,
        messages: usize,
        bytes: usize,
    },
    Compare,
}

/// A change, of the session that a client has now, or of the one that it had before.
#[derive(Clone, Debug)]
struct Change {
    client: u64,
    is_late: bool,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Session {
        away: Option<u64>,
        unsent: u64,
        window: u16,
    },
    SessionEnd,
    Subscribe {
        filter: usize,
        identifier: u32,
        replays: bool,
    },
    Unsubscribe {
        filter: usize,
    },
    Message {
        others: Vec<(u64, u64)>,
        index: u64,
        message: Text,
    },
    Replayed {
        index: u64,
        before: u64,
        filter: usize,
        message: Text,
    },
    ReplayEnd {
        filter: usize,
    },
    Released {
        lane: Lane,
        index: u64,
    },
    Done {
        lane: Lane,
        index: u64,
    },
    Floor {
        index: u64,
    },
    Received {
        packet_id: u16,
    },
    ReceivedEnd {
        packet_id: u16,
    },
    Retain {
        message: Text,
    },
    RetainClear {
        topic: usize,
    },
    Will {
        expires_in: Option<u32>,
        message: Text,
    },
    WillEnd,
}

/// A message, and how it goes to a subscriber.
#[derive(Clone, Debug)]
struct Text {
    topic: usize,
    length: usize,
    properties: Vec<u8>,
    expires_at: Option<u64>,
    qos: u8,
    retain: bool,
    share: bool,
}

const CLIENTS: u64 = 4;
const TOPICS: [&str; 5] = ["a", "a/b", "", "ü", "$share/g/a"];

/// For three seconds, or as many as the variable `STORE_MODEL_SECONDS` says: one life of a store after the other.
pub(crate) fn agrees_with_the_model<S: Subject>() {
    let seconds = std::env::var("STORE_MODEL_SECONDS").map(|seconds| seconds.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(3));
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    });
    let steps = proptest::collection::vec(step(), 1..40);
    let mut lives = 0;
    while Instant::now() < end || lives < 3 {
        let life = steps.new_tree(&mut runner).expect("a case");
        let agrees = runner.run_one(life, |steps| {
            steps.iter().for_each({
                let mut pair = Pair::<S>::new();
                move |step| pair.step(step)
            });
            Ok::<(), TestCaseError>(())
        });
        agrees.unwrap_or_else(|error| panic!("after {lives} lives: {error}"));
        lives += 1;
    }
}

/// A store, and the model that it must agree with.
struct Pair<S: Subject> {
    bench: Bench<S>,
    model: MemoryStore,
    last: Changes,
    /// How many sessions each client has had.
    generations: [u64; CLIENTS as usize],
    /// One above the highest place of each queue that has been told of.
    behind: HashMap<Uid, u64>,
}

impl<S: Subject> Pair<S> {
    fn new() -> Pair<S> {
        Pair {
            bench: Bench::new(),
            model: MemoryStore::default(),
            last: changes(),
            generations: [0; CLIENTS as usize],
            behind: HashMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(list) => {
                self.last = list.iter().fold(changes(), |batch, change| self.write(batch, change));
                self.bench.commit(&self.last);
                self.commit_to_model();
            }
            Step::Again if self.bench.number() > 0 => {
                self.bench.commit_again(&self.last);
                self.commit_to_model();
            }
            Step::Again => {}
            Step::Close => self.bench.reopen(),
            Step::Kill => self.bench.kill(),
            Step::Pages {
                client,
                messages,
                bytes,
            } => self.compare_pages(self.uid(*client, false), *messages, *bytes),
            Step::Compare => self.compare(),
        }
    }

    fn commit_to_model(&self) {
        let batch = Batch {
            number: self.bench.number(),
            bytes: self.last.bytes(),
        };
        self.model.commit(&batch).expect("the model takes all");
    }

    /// Those of the sessions of a client differ by much, so that their bytes and digits begin alike.
    fn uid(&self, client: u64, is_late: bool) -> Uid {
        let generation = self.generations[client as usize];
        client + 1 + 10 * generation.saturating_sub(u64::from(is_late))
    }

    fn write(&mut self, batch: Changes, change: &Change) -> Changes {
        let uid = self.uid(change.client, change.is_late);
        match &change.kind {
            // No number is used twice.
            Kind::Session { .. } if change.is_late && self.generations[change.client as usize] > 0 => batch,
            Kind::SessionEnd => {
                self.generations[change.client as usize] += u64::from(!change.is_late);
                batch.session_end(uid)
            }
            Kind::Message { others, index, message } => {
                let others = others.iter().filter(|(client, _)| *client != change.client);
                let places = others.map(|(client, index)| (self.uid(*client, false), *index));
                let mut places: Vec<_> = [(uid, *index)].into_iter().chain(places).collect();
                places.sort_unstable();
                places.dedup_by_key(|place| place.0);
                places.iter().for_each(|(uid, index)| self.has_been(*uid, *index));
                batch.send(&places, &message.terms(), &message.publication())
            }
            kind => {
                if let Kind::Released { index, .. } | Kind::Replayed { index, .. } = kind {
                    self.has_been(uid, *index);
                }
                write_of_one(batch, uid, kind)
            }
        }
    }

    fn has_been(&mut self, uid: Uid, index: u64) {
        let behind = self.behind.entry(uid).or_default();
        *behind = (*behind).max(index + 1);
    }

    fn compare(&self) {
        let (mut read, mut expected) = (
            self.bench.state(),
            State::read(&self.model).expect("the model is readable"),
        );
        for (uid, session) in &mut read.sessions {
            let Some(model) = expected.sessions.get_mut(uid) else {
                continue;
            };
            let behind = self.behind.get(uid).copied().unwrap_or_default();
            same_next(&mut session.live, &mut model.live, behind);
            same_next(&mut session.replayed, &mut model.replayed, behind);
        }
        assert_eq!(read, expected, "the store (left) is not as its model (right)");
    }

    fn compare_pages(&self, uid: Uid, messages: usize, bytes: usize) {
        let most = Page { messages, bytes };
        for lane in [Lane::Live, Lane::Replayed] {
            for from in 0..4 {
                let page = |store: &dyn Store| -> Vec<Place> {
                    let page = store.queue(uid, lane, from, most).expect("readable");
                    page.iter().map(Place::from).collect()
                };
                assert_eq!(page(self.bench.store()), page(&self.model), "from {from}, {most:?}");
            }
            let queue = |store| read_queue(store, uid, lane, most).expect("readable");
            assert_eq!(queue(self.bench.store()), queue(&self.model), "{most:?}");
        }
    }
}

/// A store may tell a `next` that is higher than must be, but not above all that there has been.
fn same_next(read: &mut Extent, model: &mut Extent, behind: u64) {
    assert!(
        read.next >= model.next && read.next <= model.next.max(behind),
        "{read:?}, but {model:?} expected, and at most {behind}"
    );
    assert!(read.count > 0 || read.first == read.next, "{read:?}");
    for extent in [read, model] {
        extent.next = 0;
        if extent.count == 0 {
            extent.first = 0;
        }
    }
}

/// Writes a change of one session, or of none.
fn write_of_one(batch: Changes, uid: Uid, kind: &Kind) -> Changes {
    match kind {
        Kind::Session { away, unsent, window } => batch.record(SessionRecord {
            away_since: away.map(Millis::from_unix),
            unsent: *unsent,
            window: *window,
            ..record(uid, &format!("client {}", uid % 10))
        }),
        Kind::Subscribe {
            filter,
            identifier,
            replays,
        } => batch.subscribe(
            uid,
            SubscriptionRecord {
                filter: TOPICS[*filter],
                options: SubscriptionOptions::default(),
                identifier: *identifier,
                replays: *replays,
            },
        ),
        Kind::Unsubscribe { filter } => batch.unsubscribe(uid, TOPICS[*filter]),
        Kind::Replayed {
            index,
            before,
            filter,
            message,
        } => batch.op(&Op::Replayed {
            uid,
            index: *index,
            before: *before,
            filter: TOPICS[*filter],
            terms: message.terms(),
            message: message.publication(),
        }),
        Kind::ReplayEnd { filter } => batch.replay_end(uid, TOPICS[*filter]),
        Kind::Released { lane, index } => batch.released(uid, *lane, *index),
        Kind::Done { lane, index } => batch.done(uid, *lane, *index),
        Kind::Floor { index } => batch.floor(uid, *index),
        Kind::Received { packet_id } => batch.received(uid, *packet_id),
        Kind::ReceivedEnd { packet_id } => batch.received_end(uid, *packet_id),
        Kind::Retain { message } => batch.op(&Op::Retain {
            message: message.publication(),
        }),
        Kind::RetainClear { topic } => batch.clear(TOPICS[*topic]),
        Kind::Will { expires_in, message } => batch.op(&Op::Will {
            uid,
            delay_interval: message.length as u32,
            expires_in: *expires_in,
            message: message.publication(),
            client: &message.properties,
        }),
        Kind::WillEnd => batch.will_end(uid),
        Kind::SessionEnd | Kind::Message { .. } => unreachable!("written by the pair"),
    }
}

impl Text {
    fn publication(&self) -> Publication<'_> {
        const PAYLOAD: [u8; 3000] = [b'x'; 3000];
        Publication {
            topic: TOPICS[self.topic],
            payload: &PAYLOAD[..self.length],
            properties: &self.properties,
            expires_at: self.expires_at.map(Millis::from_unix),
            qos: QoS::from_u8(self.qos).expect("0 to 2"),
            retain: self.retain,
        }
    }

    fn terms(&self) -> TermsRecord<'_> {
        TermsRecord {
            qos: QoS::from_u8(self.qos).expect("0 to 2"),
            retain: self.retain,
            subscription_ids: if self.share { &[0, 0, 0, 1, 0, 1, 0, 0] } else { &[] },
            share: self.share.then_some("$share/g/a"),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(change(), 0..15).prop_map(Step::Commit),
        1 => Just(Step::Again),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => (0..CLIENTS, 1..6_usize, prop_oneof![Just(1_usize), 1..4000_usize]).prop_map(|(client, messages, bytes)| {
            Step::Pages {
                client,
                messages,
                bytes,
            }
        }),
        3 => Just(Step::Compare),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    (0..CLIENTS, proptest::bool::weighted(0.1), kind()).prop_map(|(client, is_late, kind)| Change {
        client,
        is_late,
        kind,
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => (proptest::option::of(1..1000_u64), index(), 1..100_u16)
            .prop_map(|(away, unsent, window)| Kind::Session { away, unsent, window }),
        1 => Just(Kind::SessionEnd),
        3 => (topic(), 0..3_u32, any::<bool>())
            .prop_map(|(filter, identifier, replays)| Kind::Subscribe { filter, identifier, replays }),
        1 => topic().prop_map(|filter| Kind::Unsubscribe { filter }),
        8 => (proptest::collection::vec((0..CLIENTS, index()), 0..4), index(), text())
            .prop_map(|(others, index, message)| Kind::Message { others, index, message }),
        3 => (index(), index(), topic(), text())
            .prop_map(|(index, before, filter, message)| Kind::Replayed { index, before, filter, message }),
        1 => topic().prop_map(|filter| Kind::ReplayEnd { filter }),
        2 => (lane(), index()).prop_map(|(lane, index)| Kind::Released { lane, index }),
        4 => (lane(), index()).prop_map(|(lane, index)| Kind::Done { lane, index }),
        1 => (0..12_u64).prop_map(|index| Kind::Floor { index }),
        1 => (1..4_u16).prop_map(|packet_id| Kind::Received { packet_id }),
        1 => (1..4_u16).prop_map(|packet_id| Kind::ReceivedEnd { packet_id }),
        3 => text().prop_map(|message| Kind::Retain { message }),
        1 => topic().prop_map(|topic| Kind::RetainClear { topic }),
        1 => (proptest::option::of(0..3_u32), text())
            .prop_map(|(expires_in, message)| Kind::Will { expires_in, message }),
        1 => Just(Kind::WillEnd),
    ]
}

fn topic() -> std::ops::Range<usize> {
    0..TOPICS.len()
}

fn lane() -> impl Strategy<Value = Lane> {
    prop_oneof![3 => Just(Lane::Live), 1 => Just(Lane::Replayed)]
}

/// Few places, so that they meet; some far away, with another number of digits and bytes.
fn index() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..16_u64, 1 => 250..260_u64, 1 => Just(1 << 33)]
}

fn text() -> impl Strategy<Value = Text> {
    let properties = proptest::collection::vec(any::<u8>(), 0..4);
    let length = prop_oneof![4 => 0..20_usize, 1 => 0..3000_usize];
    let flags = (0..3_u8, any::<bool>(), any::<bool>());
    (topic(), length, properties, proptest::option::of(1..1000_u64), flags).prop_map(
        |(topic, length, properties, expires_at, (qos, retain, share))| Text {
            topic,
            length,
            properties,
            expires_at,
            qos,
            retain,
            share,
        },
    )
}
