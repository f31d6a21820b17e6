//! A store in memory: what a store is, in the fewest words. It keeps what is in it for as long as the process lives.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::op::{Recipient, SessionRecord, SubscriptionRecord, TermsRecord};
use super::{
    Batch, Extent, Lane, Op, Page, Store, StoreError, StoredDelivery, StoredMessage, StoredSession, StoredSubscription,
    StoredWill, Uid,
};
use crate::message::{Message, Publication};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    last_batch: u64,
    sessions: HashMap<Uid, Session>,
    wills: HashMap<Uid, Will>,
    retained: HashMap<Box<str>, Arc<Message>>,
}

#[derive(Clone, Debug)]
struct Session {
    /// Without what is in the other fields.
    record: StoredSession,
    subscriptions: BTreeMap<Box<str>, StoredSubscription>,
    received: BTreeSet<u16>,
    live: BTreeMap<u64, StoredDelivery>,
    replayed: BTreeMap<u64, StoredDelivery>,
    floor: u64,
}

#[derive(Clone, Debug)]
struct Will {
    delay_interval: u32,
    expires_in: Option<u32>,
    message: Arc<Message>,
    client: Box<[u8]>,
}

impl Store for MemoryStore {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if batch.number <= state.last_batch {
            return Ok(());
        }
        // It is kept as a whole or not at all.
        let ops = batch.ops().collect::<Result<Vec<_>, _>>()?;
        ops.into_iter().for_each(|op| state.apply(op));
        state.last_batch = batch.number;
        Ok(())
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        Ok(self.state.lock().last_batch)
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        let all: Vec<_> = self.state.lock().sessions.values().map(Session::stored).collect();
        all.into_iter().for_each(each);
        Ok(())
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        let state = self.state.lock();
        for (uid, will) in &state.wills {
            each(StoredWill {
                uid: *uid,
                delay_interval: will.delay_interval,
                expires_in: will.expires_in,
                message: Message::new(&will.message.as_publication()),
                client: will.client.clone(),
            });
        }
        Ok(())
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        let state = self.state.lock();
        let all = state.retained.values();
        all.map(|message| Message::new(&message.as_publication()))
            .for_each(each);
        Ok(())
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        let state = self.state.lock();
        let Some(session) = state.sessions.get(&uid) else {
            return Ok(Vec::new());
        };
        let mut bytes = 0;
        let page = session.lane(lane).range(from..).take(most.messages);
        let page = page.take_while(|(_, delivery)| {
            let fits = bytes < most.bytes;
            bytes += delivery.bytes();
            fits
        });
        Ok(page.map(|(_, delivery)| delivery.clone()).collect())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl State {
    fn apply(&mut self, op: Op<'_>) {
        match op {
            Op::Session(record) => self.put_session(&record),
            Op::SessionEnd { uid } => drop(self.sessions.remove(&uid)),
            Op::Subscribe { uid, subscription } => self.of(uid, |session| session.subscribe(&subscription)),
            Op::Unsubscribe { uid, filter } => self.of(uid, |session| drop(session.subscriptions.remove(filter))),
            Op::Message { message, recipients } => {
                let message = Arc::new(Message::new(&message));
                for recipient in recipients.iter() {
                    self.of(recipient.uid, |session| session.put(&recipient, &message));
                }
            }
            Op::Replayed {
                uid,
                index,
                before,
                filter,
                terms,
                message,
            } => self.of(uid, |session| session.replay(index, before, filter, &terms, &message)),
            Op::ReplayEnd { uid, filter } => self.of(uid, |session| {
                if let Some(subscription) = session.subscriptions.get_mut(filter) {
                    subscription.replay = None;
                }
            }),
            Op::Released { uid, lane, index } => self.of(uid, |session| session.release(lane, index)),
            Op::Done { uid, lane, index } => self.of(uid, |session| drop(session.lane_mut(lane).remove(&index))),
            Op::Floor { uid, index } => self.of(uid, |session| {
                session.floor = session.floor.max(index);
                session.live = session.live.split_off(&session.floor);
            }),
            Op::Received { uid, packet_id } => self.of(uid, |session| {
                session.received.insert(packet_id);
            }),
            Op::ReceivedEnd { uid, packet_id } => self.of(uid, |session| {
                session.received.remove(&packet_id);
            }),
            Op::Retain { message } => {
                self.retained
                    .insert(message.topic.into(), Arc::new(Message::new(&message)));
            }
            Op::RetainClear { topic } => drop(self.retained.remove(topic)),
            Op::Will {
                uid,
                delay_interval,
                expires_in,
                message,
                client,
            } => {
                let will = Will {
                    delay_interval,
                    expires_in,
                    message: Arc::new(Message::new(&message)),
                    client: client.into(),
                };
                self.wills.insert(uid, will);
            }
            Op::WillEnd { uid } => drop(self.wills.remove(&uid)),
            Op::Cluster(_) => {}
        }
    }

    fn of(&mut self, uid: Uid, change: impl FnOnce(&mut Session)) {
        if let Some(session) = self.sessions.get_mut(&uid) {
            change(session);
        }
    }

    fn put_session(&mut self, record: &SessionRecord<'_>) {
        let session = self.sessions.entry(record.uid).or_insert_with(|| Session {
            record: StoredSession {
                uid: record.uid,
                client_id: record.client_id.into(),
                expiry_interval: 0,
                window: 0,
                away_since: None,
                unsent: 0,
                subscriptions: Vec::new(),
                received: Vec::new(),
                accepted: Vec::new(),
                live: Extent::default(),
                replayed: Extent::default(),
                owner: None,
            },
            subscriptions: BTreeMap::new(),
            received: BTreeSet::new(),
            live: BTreeMap::new(),
            replayed: BTreeMap::new(),
            floor: 0,
        });
        session.record.expiry_interval = record.expiry_interval;
        session.record.window = record.window;
        session.record.away_since = record.away_since;
        session.record.unsent = record.unsent;
    }
}

impl Session {
    fn stored(&self) -> StoredSession {
        let unsent = self.record.unsent.max(self.floor);
        StoredSession {
            subscriptions: self.subscriptions.values().cloned().collect(),
            received: self.received.iter().copied().collect(),
            accepted: Vec::new(),
            live: extent(&self.live, unsent),
            replayed: extent(&self.replayed, 0),
            ..self.record.clone()
        }
    }

    fn lane(&self, lane: Lane) -> &BTreeMap<u64, StoredDelivery> {
        match lane {
            Lane::Live => &self.live,
            Lane::Replayed => &self.replayed,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut BTreeMap<u64, StoredDelivery> {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Replayed => &mut self.replayed,
        }
    }

    fn subscribe(&mut self, record: &SubscriptionRecord<'_>) {
        let subscription = StoredSubscription {
            filter: record.filter.into(),
            options: record.options,
            identifier: record.identifier,
            replay: record.replays.then(Box::default),
        };
        self.subscriptions.insert(record.filter.into(), subscription);
    }

    fn put(&mut self, recipient: &Recipient<'_>, message: &Arc<Message>) {
        if recipient.index >= self.floor {
            let stored = StoredMessage::new(Arc::clone(message), &recipient.terms);
            self.live.entry(recipient.index).or_insert(StoredDelivery {
                index: recipient.index,
                before: 0,
                message: Some(stored),
            });
        }
    }

    fn replay(
        &mut self,
        index: u64,
        before: u64,
        filter: &str,
        terms: &TermsRecord<'_>,
        publication: &Publication<'_>,
    ) {
        let message = Arc::new(Message::new(publication));
        self.replayed.entry(index).or_insert(StoredDelivery {
            index,
            before,
            message: Some(StoredMessage::new(message, terms)),
        });
        if let Some(subscription) = self.subscriptions.get_mut(filter)
            && let Some(replay) = &mut subscription.replay
        {
            *replay = publication.topic.into();
        }
    }

    fn release(&mut self, lane: Lane, index: u64) {
        if lane == Lane::Live && index < self.floor {
            return;
        }
        let place = self.lane_mut(lane).entry(index).or_insert(StoredDelivery {
            index,
            before: 0,
            message: None,
        });
        place.message = None;
    }
}

fn extent(lane: &BTreeMap<u64, StoredDelivery>, at_least: u64) -> Extent {
    let next = lane.last_key_value().map_or(0, |(last, _)| last + 1).max(at_least);
    Extent {
        first: lane.first_key_value().map_or(next, |(first, _)| *first),
        next,
        count: lane.len() as u64,
        bytes: lane.values().map(|delivery| delivery.bytes() as u64).sum(),
    }
}

#[cfg(test)]
mod tests {
    use crate::store::suite::{Memory, store_suite};

    store_suite!(Memory);
}
