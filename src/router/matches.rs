//! The subscribers that one publication goes to.

use std::sync::Arc;

use super::changes::Stamp;
use super::{Group, Route};
use crate::message::Publication;
use crate::session::{Extras, Outbox, Terms};

/// Subscribers collected from all filters that match; reusable memory.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    routes: Vec<Route>,
    groups: Vec<Arc<Group>>,
    /// Filters with routes that matched: with one, no client is in `routes` twice.
    filters: usize,
    /// The Subscription Identifiers of one client.
    identifiers: Vec<u32>,
}

/// The subscribers of the topic that a publisher has published to last: most publish to the same again.
///
/// It keeps an outbox from being freed until its owner publishes to another topic, or goes; a closed outbox is empty.
#[derive(Debug, Default)]
pub(crate) struct LastMatch {
    topic: String,
    /// `None` if the topic is all that is known.
    pub(super) stamp: Option<Stamp>,
    pub(super) matches: Matches,
}

/// Subscribers above which looking them up is little of what the publication costs.
const MOST_REMEMBERED: usize = 8;
/// Bytes of a topic above which it is not worth its memory.
const LONGEST_REMEMBERED: usize = 256;

impl LastMatch {
    #[inline]
    pub(super) fn is_for(&self, topic: &str) -> bool {
        self.topic == topic
    }

    /// Remembers the topic, and the subscribers if it is the topic of the last time: who changes topics all the time
    /// does not pay for it.
    pub(super) fn remember(&mut self, topic: &str, stamp: Stamp, found: &Matches) {
        self.matches.clear();
        self.stamp = None;
        if topic.len() > LONGEST_REMEMBERED {
            self.topic.clear();
        } else if !self.is_for(topic) {
            self.topic.clear();
            self.topic.push_str(topic);
        } else if found.len() <= MOST_REMEMBERED {
            self.matches.copy(found);
            self.stamp = Some(stamp);
        }
    }
}

impl Matches {
    fn copy(&mut self, other: &Matches) {
        self.routes.clone_from(&other.routes);
        self.groups.clone_from(&other.groups);
        self.filters = other.filters;
    }

    pub(crate) fn clear(&mut self) {
        self.routes.clear();
        self.groups.clear();
        self.filters = 0;
    }

    pub(crate) fn add<'a>(&mut self, routes: &[Route], groups: impl Iterator<Item = &'a Arc<Group>>) {
        self.filters += usize::from(!routes.is_empty());
        self.routes.extend_from_slice(routes);
        self.groups.extend(groups.cloned());
    }

    /// Deliveries at the most.
    pub(crate) fn len(&self) -> usize {
        self.routes.len() + self.groups.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.groups.is_empty()
    }

    /// The Shared Subscriptions.
    pub(crate) fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// Calls `deliver` once for each client, with what its matching subscriptions come to: the highest QoS
    /// [MQTT-3.3.4-2], all Subscription Identifiers [MQTT-3.3.4-4], without those that are No Local to the publisher
    /// `origin` [MQTT-3.8.3-3].
    pub(crate) fn for_each_client(
        &mut self,
        publication: &Publication<'_>,
        origin: Option<u64>,
        mut deliver: impl FnMut(&Route, Terms),
    ) {
        if self.filters > 1 {
            self.routes.sort_by_key(|route| route.outbox.key);
        }
        let allowed = |route: &Route| !(route.no_local && origin == Some(route.outbox.key));
        for same_client in self.routes.chunk_by(|a, b| a.outbox.key == b.outbox.key) {
            let mut matching = same_client.iter().filter(|route| allowed(route));
            let Some(first) = matching.next() else { continue };
            let mut terms = terms(first, publication);
            self.identifiers.clear();
            self.identifiers.extend(first.identifiers());
            for other in matching {
                terms.qos = terms.qos.max(other.qos.min(publication.qos));
                terms.retain |= other.retain_as_published && publication.retain;
                self.identifiers.extend(other.identifiers());
            }
            if self.identifiers.len() > first.identifiers().len() {
                terms.extras = Extras::new(&self.identifiers, None);
            }
            deliver(first, terms);
        }
    }

    /// The sessions, possibly more than once.
    pub(crate) fn outboxes(&self) -> impl Iterator<Item = Arc<Outbox>> {
        self.routes.iter().map(|route| Arc::clone(&route.outbox))
    }

    /// Gives back memory after an unusually large fan-out.
    pub(crate) fn trim(&mut self) {
        const KEEP: usize = 4096;
        self.clear();
        self.routes.shrink_to(KEEP);
        self.groups.shrink_to(KEEP);
        self.identifiers.clear();
        self.identifiers.shrink_to(KEEP);
    }
}

/// The lower of both QoS [MQTT-3.8.4-8]; RETAIN only if the subscription keeps it [MQTT-3.3.1-12], [MQTT-3.3.1-13].
pub(super) fn terms(route: &Route, publication: &Publication<'_>) -> Terms {
    Terms {
        qos: route.qos.min(publication.qos),
        retain: route.retain_as_published && publication.retain,
        extras: route.extras.clone(),
    }
}
