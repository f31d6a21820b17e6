//! Sending the retained messages of a new subscription, a little at a time.
//!
//! A walk through all retained messages could hold locks for long and fill a queue with references to large messages.
//! So a subscription keeps a cursor instead, and the owner of the session moves it on when the client takes more.
//! Messages retained after the subscription was made are left out: they come as live messages, and those wait behind
//! the walk, so that an older message never follows a newer one.

use std::collections::HashSet;
use std::sync::Arc;

use super::state::Subscription;
use crate::topic::TopicFilter;

/// The walk of one subscription through the retained messages.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) filter: TopicFilter,
    pub(crate) subscription: Subscription,
    /// The last change of the retained messages before the subscription was made.
    pub(crate) until: u64,
    /// The first topic that has not been looked at; empty at first.
    pub(crate) cursor: Arc<str>,
    /// Topics whose retained message is among the live ones: nobody remembers when it was retained.
    pub(crate) leave_out: Option<Arc<Topics>>,
}

pub(crate) type Topics = HashSet<Box<str>>;

impl Replay {
    /// In place of `until`, while that is not known.
    pub(crate) const NOT_BEGUN: u64 = u64::MAX;

    /// `until` is to be read after the subscription has been put into the router.
    pub(crate) fn new(filter: TopicFilter, subscription: Subscription, until: u64) -> Replay {
        Replay {
            filter,
            subscription,
            until,
            cursor: Arc::default(),
            leave_out: None,
        }
    }

    /// Whether this topic's message is to be sent.
    pub(crate) fn has(&self, topic: &str) -> bool {
        self.leave_out.as_ref().is_none_or(|topics| !topics.contains(topic))
    }

    /// Goes on behind this topic, or from the beginning if that is empty.
    pub(crate) fn resume_behind(&mut self, topic: &str) {
        if !topic.is_empty() {
            // No topic is between these two: none has this character [MQTT-4.7.3-2].
            self.cursor = format!("{topic}\0").into();
        }
    }
}
