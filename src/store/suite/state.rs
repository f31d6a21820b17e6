//! All that can be read from a store, in a form that can be compared.

use std::collections::BTreeMap;
use std::fmt;

use crate::message::{Message, Publication};
use crate::packet::QoS;
use crate::store::{Lane, Page, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid};
use crate::time::Millis;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The parts of each are in order.
    pub(crate) sessions: BTreeMap<Uid, StoredSession>,
    pub(crate) queues: BTreeMap<(Uid, Lane), Vec<Place>>,
    pub(crate) wills: BTreeMap<Uid, Will>,
    pub(crate) retained: BTreeMap<Box<str>, Text>,
}

/// A place in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) index: u64,
    pub(crate) before: u64,
    pub(crate) message: Option<Sent>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) text: Text,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: Box<[u32]>,
    pub(crate) share: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) delay_interval: u32,
    pub(crate) expires_in: Option<u32>,
    pub(crate) text: Text,
    pub(crate) client: Box<[u8]>,
}

/// A message. It shows little of itself when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) topic: Box<str>,
    pub(crate) payload: Box<[u8]>,
    pub(crate) properties: Box<[u8]>,
    pub(crate) expires_at: Option<Millis>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

const LARGE: Page = Page {
    messages: 1000,
    bytes: 1 << 20,
};

impl State {
    /// Reads all, and asserts that nothing is there twice.
    pub(crate) fn read(store: &dyn Store) -> Result<State, StoreError> {
        let mut state = State::default();
        let State {
            sessions,
            wills,
            retained,
            ..
        } = &mut state;
        store.sessions(&mut |mut session| {
            session.subscriptions.sort_by(|a, b| a.filter.cmp(&b.filter));
            session.received.sort_unstable();
            let before = sessions.insert(session.uid, session);
            assert!(before.is_none(), "a session is read twice: {before:?}");
        })?;
        store.wills(&mut |will| {
            let before = wills.insert(will.uid, Will::from(&will));
            assert!(before.is_none(), "a will is read twice: {before:?}");
        })?;
        store.retained(&mut |message| {
            let before = retained.insert(message.topic().into(), Text::from(&message));
            assert!(before.is_none(), "a topic is read twice: {before:?}");
        })?;
        for uid in state.sessions.keys().copied() {
            for lane in [Lane::Live, Lane::Replayed] {
                let queue = read_queue(store, uid, lane, LARGE)?;
                state.queues.insert((uid, lane), queue);
            }
        }
        Ok(state)
    }

    pub(crate) fn session(&self, uid: Uid) -> &StoredSession {
        let session = self.sessions.get(&uid);
        session.unwrap_or_else(|| panic!("session {uid} is not there"))
    }

    pub(crate) fn queue(&self, uid: Uid, lane: Lane) -> &[Place] {
        self.queues.get(&(uid, lane)).map_or(&[], |queue| &**queue)
    }
}

/// Reads a queue page by page.
pub(crate) fn read_queue(store: &dyn Store, uid: Uid, lane: Lane, most: Page) -> Result<Vec<Place>, StoreError> {
    let mut queue: Vec<Place> = Vec::new();
    loop {
        let from = queue.last().map_or(0, |place| place.index + 1);
        let page = store.queue(uid, lane, from, most)?;
        if page.is_empty() {
            return Ok(queue);
        }
        queue.extend(page.iter().map(Place::from));
    }
}

/// The places of the live lane, with what is there: the payload, or `None` once it is released.
pub(crate) fn live(state: &State, uid: Uid) -> Vec<(u64, Option<String>)> {
    payloads(state.queue(uid, Lane::Live))
}

/// The same of the lane of replays.
pub(crate) fn replayed(state: &State, uid: Uid) -> Vec<(u64, Option<String>)> {
    payloads(state.queue(uid, Lane::Replayed))
}

fn payloads(queue: &[Place]) -> Vec<(u64, Option<String>)> {
    let payload = |sent: &Sent| String::from_utf8_lossy(&sent.text.payload).into_owned();
    let places = queue.iter();
    places
        .map(|place| (place.index, place.message.as_ref().map(payload)))
        .collect()
}

impl From<&StoredDelivery> for Place {
    fn from(delivery: &StoredDelivery) -> Place {
        let message = delivery.message.as_ref().map(|stored| Sent {
            text: Text::from(&*stored.message),
            qos: stored.qos,
            retain: stored.retain,
            subscription_ids: stored.subscription_ids.clone(),
            share: stored.share.clone(),
        });
        Place {
            index: delivery.index,
            before: delivery.before,
            message,
        }
    }
}

impl From<&StoredWill> for Will {
    fn from(will: &StoredWill) -> Will {
        Will {
            delay_interval: will.delay_interval,
            expires_in: will.expires_in,
            text: Text::from(&will.message),
            client: will.client.clone(),
        }
    }
}

impl From<&Message> for Text {
    fn from(message: &Message) -> Text {
        Text::from(&message.as_publication())
    }
}

impl From<&Publication<'_>> for Text {
    fn from(message: &Publication<'_>) -> Text {
        Text {
            topic: message.topic.into(),
            payload: message.payload.into(),
            properties: message.properties.into(),
            expires_at: message.expires_at,
            qos: message.qos,
            retain: message.retain,
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = &self.topic[..self.topic.floor_char_boundary(40)];
        let payload = String::from_utf8_lossy(&self.payload[..self.payload.len().min(20)]);
        let (topic_len, payload_len) = (self.topic.len(), self.payload.len());
        write!(f, "{topic:?} ({topic_len} bytes): {payload:?} ({payload_len} bytes)")?;
        let Text {
            properties,
            expires_at,
            qos,
            retain,
            ..
        } = self;
        write!(f, ", {properties:?}, {expires_at:?}, {qos:?}, retain {retain}")
    }
}
