//! A Session, as its owner holds it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::delivery::Delivery;
use super::inbound::InboundQos2;
use super::inflight::Inflight;
use super::outbox::Outbox;
use super::will::WillMessage;
use crate::packet::SubscriptionOptions;
use crate::topic::TopicFilter;

/// A subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) options: SubscriptionOptions,
    pub(crate) identifier: Option<u32>,
}

/// Session state (section 4.1).
///
/// Exactly one owner at a time: the connection task while the client is connected, the registry otherwise. The
/// messages that wait to be sent are in the outbox, which publishers share.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) subscriptions: HashMap<TopicFilter, Subscription, foldhash::fast::RandomState>,
    pub(crate) inflight: Inflight,
    pub(crate) inbound: InboundQos2,
    /// Messages taken out of the outbox that a hook is being asked about.
    pub(crate) forwarding: VecDeque<Delivery>,
    /// Seconds; 0 ends the session with its connection, `u32::MAX` is never.
    pub(crate) expiry_interval: u32,
    /// Set while the client is connected or the Will Delay Interval runs.
    pub(crate) will: Option<Box<WillMessage>>,
}

impl Session {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Session {
        Session {
            outbox,
            subscriptions: HashMap::default(),
            inflight: Inflight::default(),
            inbound: InboundQos2::default(),
            forwarding: VecDeque::new(),
            expiry_interval: 0,
            will: None,
        }
    }

    pub(crate) fn client_id(&self) -> &Arc<str> {
        &self.outbox.client_id
    }

    /// Whether the session outlives its connection.
    pub(crate) fn is_persistent(&self) -> bool {
        self.expiry_interval > 0
    }
}
