//! One message for one client.

use std::sync::Arc;

use crate::codec::encode::PublishFrame;
use crate::message::Message;
use crate::packet::QoS;
use crate::store::StoredMessage;
use crate::time::Clock;
use crate::topic::TopicFilter;

/// What few subscriptions have, kept apart and shared, so that every queue's entry is small.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Extras {
    /// The Subscription Identifiers of all subscriptions that the message matched [MQTT-3.3.4-3].
    pub(crate) subscription_ids: Box<[u32]>,
    /// The Shared Subscription that chose this client.
    pub(crate) share: Option<TopicFilter>,
    /// It comes from the queue that the session has for these alone (see [`Membership`](super::Membership)), where it has this place.
    place: Option<u64>,
}

impl Extras {
    /// `None` if there is nothing to say.
    pub(crate) fn new(subscription_ids: &[u32], share: Option<TopicFilter>) -> Option<Arc<Extras>> {
        (!subscription_ids.is_empty() || share.is_some()).then(|| {
            Arc::new(Extras {
                subscription_ids: subscription_ids.into(),
                share,
                place: None,
            })
        })
    }
}

/// How a message goes to one subscriber: what its subscriptions and the message's own flags come to.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) extras: Option<Arc<Extras>>,
}

impl Terms {
    /// Whether there are no Subscription Identifiers to be sent.
    pub(super) fn is_plain(&self) -> bool {
        self.extras
            .as_ref()
            .is_none_or(|extras| extras.subscription_ids.is_empty())
    }
}

/// A message queued or in flight for one client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    extras: Option<Arc<Extras>>,
    /// Bytes for which the session's queue was charged.
    pub(crate) charge: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Its Packet Identifier, if its place in the session is fixed: see `outbox/kept.rs`. Else 0.
    pub(crate) identifier: u16,
}

impl Delivery {
    /// A message whose memory counts for this session.
    pub(crate) fn new(message: Arc<Message>, terms: Terms) -> Delivery {
        let Terms { qos, retain, extras } = terms;
        let mut delivery = Delivery {
            message,
            extras,
            charge: 0,
            qos,
            retain,
            identifier: 0,
        };
        let size = delivery.message.size() + OVERHEAD + size_of_val(delivery.subscription_ids());
        delivery.charge = u32::try_from(size).unwrap_or(u32::MAX);
        delivery
    }

    /// As it was stored.
    pub(crate) fn from_stored(stored: StoredMessage) -> Delivery {
        let share = stored.share.and_then(|text| TopicFilter::parse(&text).ok());
        let terms = Terms {
            qos: stored.qos,
            retain: stored.retain,
            extras: Extras::new(&stored.subscription_ids, share),
        };
        Delivery::new(stored.message, terms)
    }

    /// As it goes on to the session, from this place of the queue that it has for its Shared Subscriptions.
    pub(super) fn of_member(mut self, place: u64) -> Delivery {
        let share = self.any_share().cloned();
        self.identifier = 0;
        self.extras = Some(Arc::new(Extras {
            subscription_ids: self.subscription_ids().into(),
            share,
            place: Some(place),
        }));
        self
    }

    /// See [`Delivery::of_member`].
    pub(crate) fn member_place(&self) -> Option<u64> {
        self.extras.as_ref()?.place
    }

    pub(crate) fn subscription_ids(&self) -> &[u32] {
        self.extras.as_ref().map_or(&[], |extras| &extras.subscription_ids)
    }

    /// The Shared Subscription by which the message may move to another member when the session ends: QoS 2 does not
    /// move [MQTT-4.8.2-5]..
    pub(crate) fn share(&self) -> Option<&TopicFilter> {
        let extras = self.extras.as_ref().filter(|_| self.qos == QoS::AtLeastOnce)?;
        extras.share.as_ref()
    }

    /// The Shared Subscription that chose the client, if one did.
    pub(crate) fn any_share(&self) -> Option<&TopicFilter> {
        self.extras.as_ref()?.share.as_ref()
    }

    /// The PUBLISH that carries it, apart from what the connection adds (DUP, Packet Identifier, Topic Alias).
    pub(crate) fn frame(&self, clock: &Clock) -> PublishFrame<'_> {
        PublishFrame {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: self.message.topic(),
            packet_id: 0,
            topic_alias: None,
            message_expiry_interval: self.message.remaining_expiry(clock),
            subscription_identifiers: self.subscription_ids(),
            properties: self.message.raw_properties(),
            payload: self.message.payload(),
        }
    }
}

/// What an entry of a queue takes beside its message.
pub(crate) const OVERHEAD: usize = size_of::<Delivery>();
