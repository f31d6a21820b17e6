//! What the database does not have yet: the net effect of batches that are in the journal. What began and ended in them
//! leaves nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::lane::{Body, Delivery, ENTRY, High, Places, Terms};
use crate::store::op::{SessionRecord, SubscriptionRecord};
use crate::store::{Lane, Op, StoredSubscription, Uid};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pub(super) sessions: HashMap<Uid, Delta, foldhash::fast::RandomState>,
    /// `None`: there is none any more.
    pub(super) wills: HashMap<Uid, Option<Box<[u8]>>, foldhash::fast::RandomState>,
    pub(super) retained: HashMap<Box<str>, Option<Arc<Body>>, foldhash::fast::RandomState>,
    /// Memory that it takes, about.
    pub(super) memory: usize,
    /// Bytes of the journal whose effect it is.
    pub(super) journal: u64,
    /// The last batch of it.
    pub(super) last: u64,
}

/// What is below a change of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Below {
    /// No such session.
    #[default]
    Nothing,
    /// The session, which goes on.
    Kept,
    /// A session that has ended.
    Ended,
}

/// What has changed of a session.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) below: Below,
    pub(super) is_there: bool,
    pub(super) record: Option<Box<Record>>,
    pub(super) subscriptions: BTreeMap<Box<str>, Subscription>,
    /// Packet Identifiers that came or went.
    pub(super) received: BTreeMap<u16, bool>,
    pub(super) floor: Option<u64>,
    pub(super) live: Places,
    pub(super) replayed: Places,
}

/// See [`SessionRecord`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) client_id: Box<str>,
    pub(super) expiry_interval: u32,
    pub(super) window: u16,
    /// As in [`Millis`](crate::time::Millis); 0 is never.
    pub(super) away_since: u64,
    pub(super) unsent: u64,
}

/// What has happened to a subscription.
#[derive(Clone, Debug)]
pub(super) enum Subscription {
    Set(Box<StoredSubscription>),
    Removed,
    /// The replay of what is below has come to a topic, if it goes on.
    Replayed(Box<str>),
    ReplayEnded,
}

/// What is known of each session, whatever layer it is in.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) live: High,
    pub(super) replayed: High,
    pub(super) floor: u64,
    /// Packet Identifiers that are in use.
    pub(super) received: BTreeSet<u16>,
}

pub(super) type Sessions = HashMap<Uid, Known, foldhash::fast::RandomState>;

/// Memory of a session's changes without what is in them, about.
const DELTA: usize = size_of::<Delta>() + 32;
/// Memory of a record, a subscription, a will or a retained message without its bytes, about.
const OBJECT: usize = 120;

impl Overlay {
    pub(super) fn apply(&mut self, op: Op<'_>, known: &mut Sessions) {
        match op {
            Op::Session(record) => self.put_session(&record, known),
            Op::SessionEnd { uid } => self.end_session(uid, known),
            Op::Retain { message } => self.retain(message.topic, Some(Body::new(&message))),
            Op::RetainClear { topic } => self.retain(topic, None),
            Op::Will { uid, .. } => {
                let mut bytes = Vec::new();
                op.write(&mut bytes);
                self.memory += OBJECT + bytes.len();
                self.wills.insert(uid, Some(bytes.into_boxed_slice()));
            }
            // Brokers on disk form no cluster.
            Op::Cluster(_) => {}
            Op::WillEnd { uid } => {
                self.memory += OBJECT;
                self.wills.insert(uid, None);
            }
            Op::Message { message, recipients } => {
                let body = Body::new(&message);
                self.memory += OBJECT + body.bytes.len();
                for recipient in recipients.iter() {
                    let Some((delta, known, memory)) = self.of(recipient.uid, known) else {
                        continue;
                    };
                    if recipient.index < known.floor {
                        continue;
                    }
                    let delivery = Delivery {
                        before: 0,
                        terms: Terms::new(&recipient.terms),
                        body: Arc::clone(&body),
                    };
                    if delta.live.put(recipient.index, &mut known.live, delivery) {
                        *memory += ENTRY;
                    }
                }
            }
            Op::Subscribe { uid, .. }
            | Op::Unsubscribe { uid, .. }
            | Op::Replayed { uid, .. }
            | Op::ReplayEnd { uid, .. }
            | Op::Released { uid, .. }
            | Op::Done { uid, .. }
            | Op::Floor { uid, .. }
            | Op::Received { uid, .. }
            | Op::ReceivedEnd { uid, .. } => {
                if let Some((delta, known, memory)) = self.of(uid, known) {
                    delta.apply(op, known, memory);
                }
            }
        }
    }

    /// What has changed of a session that is there, what is known of it, and the memory to be counted.
    fn of<'a>(
        &'a mut self,
        uid: Uid,
        known: &'a mut Sessions,
    ) -> Option<(&'a mut Delta, &'a mut Known, &'a mut usize)> {
        let known = known.get_mut(&uid)?;
        let memory = &mut self.memory;
        let delta = self.sessions.entry(uid).or_insert_with(|| {
            *memory += DELTA;
            Delta {
                below: Below::Kept,
                is_there: true,
                ..Delta::default()
            }
        });
        Some((delta, known, memory))
    }

    fn retain(&mut self, topic: &str, body: Option<Arc<Body>>) {
        let size = |body: &Option<Arc<Body>>| body.as_ref().map_or(0, |body| body.bytes.len());
        self.memory += size(&body);
        match self.retained.insert(topic.into(), body) {
            Some(old) => self.memory -= size(&old),
            None => self.memory += OBJECT + topic.len(),
        }
    }

    fn put_session(&mut self, record: &SessionRecord<'_>, known: &mut Sessions) {
        self.memory += OBJECT + record.client_id.len();
        let below = match known.contains_key(&record.uid) {
            true => Below::Kept,
            false => Below::Nothing,
        };
        known.entry(record.uid).or_default();
        let delta = self.sessions.entry(record.uid).or_insert_with(|| {
            self.memory += DELTA;
            Delta {
                below,
                ..Delta::default()
            }
        });
        delta.is_there = true;
        delta.put_record(record);
    }

    fn end_session(&mut self, uid: Uid, known: &mut Sessions) {
        if known.remove(&uid).is_none() {
            return;
        }
        match self.sessions.remove(&uid).map(|delta| delta.below) {
            Some(Below::Nothing) => {}
            Some(Below::Kept | Below::Ended) | None => {
                self.memory += DELTA;
                let below = Below::Ended;
                self.sessions.insert(
                    uid,
                    Delta {
                        below,
                        ..Delta::default()
                    },
                );
            }
        }
    }
}

impl Delta {
    pub(super) fn places(&self, lane: Lane) -> &Places {
        match lane {
            Lane::Live => &self.live,
            Lane::Replayed => &self.replayed,
        }
    }

    fn places_mut<'a>(&'a mut self, lane: Lane, known: &'a mut Known) -> (&'a mut Places, &'a mut High) {
        match lane {
            Lane::Live => (&mut self.live, &mut known.live),
            Lane::Replayed => (&mut self.replayed, &mut known.replayed),
        }
    }

    fn put_record(&mut self, record: &SessionRecord<'_>) {
        self.record = Some(Box::new(Record {
            client_id: record.client_id.into(),
            expiry_interval: record.expiry_interval,
            window: record.window,
            away_since: record.away_since.map_or(0, |at| at.as_unix().max(1)),
            unsent: record.unsent,
        }));
    }

    fn apply(&mut self, op: Op<'_>, known: &mut Known, memory: &mut usize) {
        match op {
            Op::Subscribe { subscription, .. } => {
                *memory += OBJECT + subscription.filter.len() * 2;
                self.subscribe(&subscription);
            }
            Op::Unsubscribe { filter, .. } => {
                *memory += OBJECT + filter.len();
                self.subscriptions.insert(filter.into(), Subscription::Removed);
            }
            Op::Replayed {
                index,
                before,
                filter,
                terms,
                message,
                ..
            } => {
                let body = Body::new(&message);
                *memory += OBJECT + ENTRY + body.bytes.len();
                let terms = Terms::new(&terms);
                let delivery = Delivery { before, terms, body };
                self.replayed.put(index, &mut known.replayed, delivery);
                self.replay(filter, message.topic);
            }
            Op::ReplayEnd { filter, .. } => {
                *memory += OBJECT + filter.len();
                self.end_replay(filter);
            }
            Op::Released { lane, index, .. } => {
                if lane == Lane::Live && index < known.floor {
                    return;
                }
                let (places, high) = self.places_mut(lane, known);
                *memory += usize::from(places.release(index, high)) * ENTRY;
            }
            Op::Done { lane, index, .. } => {
                if lane == Lane::Live && index < known.floor {
                    return;
                }
                let (places, high) = self.places_mut(lane, known);
                let more = places.finish(index, *high);
                *memory = memory.saturating_add_signed(more * ENTRY as isize);
            }
            Op::Floor { index, .. } => {
                known.floor = known.floor.max(index);
                self.floor = Some(known.floor);
                *memory = memory.saturating_sub(self.live.cut(known.floor) * ENTRY);
            }
            Op::Received { packet_id, .. } => self.receive(packet_id, true, known, memory),
            Op::ReceivedEnd { packet_id, .. } => self.receive(packet_id, false, known, memory),
            // What has no session is with the overlay.
            _ => {}
        }
    }

    /// A Packet Identifier comes into use, or is free again. What differs from what is below differs no more when it
    /// changes again.
    fn receive(&mut self, packet_id: u16, is_there: bool, known: &mut Known, memory: &mut usize) {
        let changes = match is_there {
            true => known.received.insert(packet_id),
            false => known.received.remove(&packet_id),
        };
        if !changes {
            return;
        }
        match self.received.remove(&packet_id) {
            Some(_) => *memory = memory.saturating_sub(ENTRY),
            None => {
                *memory += ENTRY;
                self.received.insert(packet_id, is_there);
            }
        }
    }

    fn subscribe(&mut self, record: &SubscriptionRecord<'_>) {
        let subscription = StoredSubscription {
            filter: record.filter.into(),
            options: record.options,
            identifier: record.identifier,
            replay: record.replays.then(Box::default),
        };
        let set = Subscription::Set(Box::new(subscription));
        self.subscriptions.insert(record.filter.into(), set);
    }

    fn replay(&mut self, filter: &str, topic: &str) {
        match self.subscriptions.get_mut(filter) {
            Some(Subscription::Set(subscription)) => {
                if let Some(replay) = &mut subscription.replay {
                    *replay = topic.into();
                }
            }
            Some(Subscription::Removed | Subscription::ReplayEnded) => {}
            Some(Subscription::Replayed(replayed)) => *replayed = topic.into(),
            None => {
                let replayed = Subscription::Replayed(topic.into());
                self.subscriptions.insert(filter.into(), replayed);
            }
        }
    }

    fn end_replay(&mut self, filter: &str) {
        match self.subscriptions.get_mut(filter) {
            Some(Subscription::Set(subscription)) => subscription.replay = None,
            Some(Subscription::Removed) => {}
            Some(entry) => *entry = Subscription::ReplayEnded,
            None => {
                self.subscriptions.insert(filter.into(), Subscription::ReplayEnded);
            }
        }
    }
}
