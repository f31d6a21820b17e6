//! What is read from a store.

use std::sync::Arc;

use super::{TermsRecord, Uid};
use crate::message::Message;
use crate::packet::{QoS, SubscriptionOptions};
use crate::time::Millis;

/// A session, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSession {
    pub(crate) uid: Uid,
    pub(crate) client_id: Box<str>,
    pub(crate) expiry_interval: u32,
    /// See [`SessionRecord`].
    pub(crate) window: u16,
    pub(crate) away_since: Option<Millis>,
    pub(crate) unsent: u64,
    pub(crate) subscriptions: Vec<StoredSubscription>,
    /// Packet Identifiers of QoS 2 messages that were accepted and not released.
    pub(crate) received: Vec<u16>,
    /// In a cluster, their messages.
    pub(crate) accepted: Vec<(u16, Arc<Message>)>,
    pub(crate) live: Extent,
    pub(crate) replayed: Extent,
    /// In a cluster, the node to which its client is connected.
    pub(crate) owner: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSubscription {
    pub(crate) filter: Box<str>,
    pub(crate) options: SubscriptionOptions,
    /// 0 is none.
    pub(crate) identifier: u32,
    /// The replay of its retained messages, if it has not ended: it has come to this topic, or to none if that is empty.
    pub(crate) replay: Option<Box<str>>,
}

impl StoredSubscription {
    /// Whether it is a Shared Subscription.
    pub(crate) fn is_shared(&self) -> bool {
        self.filter.starts_with("$share/")
    }
}

/// How much there is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first place that is there; `next` if there is none.
    pub(crate) first: u64,
    /// A place above all that there have been, of those that may matter still: above those that are there, at or above
    /// the floor and the first that was not sent.
    pub(crate) next: u64,
    /// Places that are there, released ones included.
    pub(crate) count: u64,
    /// Bytes of topics, properties and payloads.
    pub(crate) bytes: u64,
}

/// A place in a queue.
#[derive(Clone, Debug)]
pub(crate) struct StoredDelivery {
    pub(crate) index: u64,
    /// Of a replayed message: the place in the live lane before which it was sent.
    pub(crate) before: u64,
    /// `None` once it has been released.
    pub(crate) message: Option<StoredMessage>,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredMessage {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: Box<[u32]>,
    pub(crate) share: Option<Box<str>>,
}

/// A will, as it is kept.
#[derive(Debug)]
pub(crate) struct StoredWill {
    pub(crate) uid: Uid,
    pub(crate) delay_interval: u32,
    pub(crate) expires_in: Option<u32>,
    pub(crate) message: Message,
    /// See [`read_client`].
    pub(crate) client: Box<[u8]>,
}

impl StoredDelivery {
    /// Bytes of topic, properties and payload.
    pub(crate) fn bytes(&self) -> usize {
        let message = self.message.as_ref().map(|stored| stored.message.as_publication());
        message.map_or(0, |message| {
            message.topic.len() + message.properties.len() + message.payload.len()
        })
    }
}

impl StoredMessage {
    pub(crate) fn new(message: Arc<Message>, terms: &TermsRecord<'_>) -> StoredMessage {
        StoredMessage {
            message,
            qos: terms.qos,
            retain: terms.retain,
            subscription_ids: terms.subscription_ids().collect(),
            share: terms.share.map(Box::from),
        }
    }
}
