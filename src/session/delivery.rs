//! One message for one client.

use std::sync::Arc;

use crate::codec::encode::PublishFrame;
use crate::message::Message;
use crate::packet::QoS;
use crate::time::Millis;
use crate::topic::TopicFilter;

/// The Subscription Identifiers of all subscriptions that a message matched [MQTT-3.3.4-3].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SubscriptionIds {
    #[default]
    None,
    One([u32; 1]),
    Many(Arc<[u32]>),
}

impl SubscriptionIds {
    pub(crate) fn new(identifiers: &[u32]) -> SubscriptionIds {
        match *identifiers {
            [] => SubscriptionIds::None,
            [one] => SubscriptionIds::One([one]),
            _ => SubscriptionIds::Many(identifiers.into()),
        }
    }

    pub(crate) fn one(identifier: Option<u32>) -> SubscriptionIds {
        identifier.map_or(SubscriptionIds::None, |id| SubscriptionIds::One([id]))
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            SubscriptionIds::None => &[],
            SubscriptionIds::One(one) => one,
            SubscriptionIds::Many(many) => many,
        }
    }

    /// What they take outside of the entry.
    fn memory(&self) -> usize {
        match self {
            SubscriptionIds::None | SubscriptionIds::One(_) => 0,
            SubscriptionIds::Many(many) => size_of_val(&**many),
        }
    }
}

/// How a message goes to one subscriber: what its subscriptions and the message's own flags come to.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: SubscriptionIds,
    /// The Shared Subscription that chose this client, by which the message may move to another member.
    pub(crate) share: Option<TopicFilter>,
}

/// A message queued or in flight for one client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    pub(crate) subscription_ids: SubscriptionIds,
    pub(crate) share: Option<TopicFilter>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Bytes for which the session's queue was charged.
    pub(crate) charge: u32,
}

impl Delivery {
    /// A message whose memory counts for this session.
    pub(crate) fn new(message: Arc<Message>, terms: Terms) -> Delivery {
        let charge = u32::try_from(message.size() + OVERHEAD + terms.subscription_ids.memory()).unwrap_or(u32::MAX);
        let Terms {
            qos,
            retain,
            subscription_ids,
            share,
        } = terms;
        Delivery {
            message,
            subscription_ids,
            share,
            qos,
            retain,
            charge,
        }
    }

    /// The PUBLISH that carries it, apart from what the connection adds (DUP, Packet Identifier, Topic Alias).
    pub(crate) fn frame(&self, now: Millis) -> PublishFrame<'_> {
        PublishFrame {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: self.message.topic(),
            packet_id: 0,
            topic_alias: None,
            message_expiry_interval: self.message.remaining_expiry(now),
            subscription_identifiers: self.subscription_ids.as_slice(),
            properties: self.message.raw_properties(),
            payload: self.message.payload(),
        }
    }
}

/// What an entry of a queue takes beside its message.
pub(crate) const OVERHEAD: usize = size_of::<Delivery>();
