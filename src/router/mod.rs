//! From a Topic Name to its subscribers.
//!
//! Literal filters are spread over shards by hash, so that subscribing locks one of them; wildcard filters are in a
//! trie of their own. A publisher holds a read lock while it collects the matches, and none while it delivers.

mod changes;
pub mod filters;
mod matches;
pub mod retained;
mod retained_store;
mod routes;
mod shared;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::HashMap;
use parking_lot::RwLock;

use crate::packet::QoS;
use crate::session::{Extras, Outbox, Subscription};
use crate::topic::TopicFilter;
use changes::Changes;
use filters::FilterIndex;
pub(crate) use matches::{LastMatch, Matches};
pub(crate) use retained_store::{Found, Full, RetainedStore};
use routes::Routes;
pub(crate) use shared::Group;

/// A subscriber of one Topic Filter.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) outbox: Arc<Outbox>,
    extras: Option<Arc<Extras>>,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

impl Route {
    pub(crate) fn new(outbox: Arc<Outbox>, filter: &TopicFilter, subscription: &Subscription) -> Route {
        let options = &subscription.options;
        let share = filter.share_name().is_some().then(|| filter.clone());
        Route {
            outbox,
            extras: Extras::new(subscription.identifier.map(u32::from).as_slice(), share),
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
        }
    }

    fn identifiers(&self) -> &[u32] {
        self.extras.as_ref().map_or(&[], |extras| &extras.subscription_ids)
    }
}

/// Who subscribes to one Topic Filter.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    routes: Routes,
    /// The Shared Subscriptions of this filter; boxed, since most filters have none. Never an empty map.
    groups: Option<Box<Groups>>,
}

/// By the whole filter, ShareName included: a filter may have as many as there are subscriptions.
type Groups = HashMap<TopicFilter, Arc<Group>>;

/// All subscriptions of all sessions, and the retained messages.
#[derive(Debug)]
pub(crate) struct Router {
    literals: [RwLock<FilterIndex<Subscribers>>; SHARDS],
    wildcards: RwLock<FilterIndex<Subscribers>>,
    hasher: foldhash::fast::RandomState,
    changes: Changes,
    subscriptions: AtomicUsize,
    shared_subscriptions: AtomicUsize,
    pub(crate) retained: RetainedStore,
}

const SHARDS: usize = 16;

impl Router {
    pub(crate) fn new(retained: RetainedStore) -> Router {
        Router {
            literals: std::array::from_fn(|_| RwLock::new(FilterIndex::new())),
            wildcards: RwLock::new(FilterIndex::new()),
            hasher: foldhash::fast::RandomState::default(),
            changes: Changes::new(),
            subscriptions: AtomicUsize::new(0),
            shared_subscriptions: AtomicUsize::new(0),
            retained,
        }
    }

    /// Adds a subscription, or replaces the one that the session has for this filter [MQTT-3.8.4-3]: in one step, so
    /// that no message is lost or delivered twice meanwhile [MQTT-3.8.4-4].
    pub(crate) fn subscribe(&self, filter: &TopicFilter, route: Route) {
        let mut index = self.index(filter).write();
        let subscribers = match filter.shareable() {
            Some(text) => index.shared_entry(text),
            None => index.entry(filter.filter()),
        };
        let added = match filter.share_name() {
            None => subscribers.routes.insert(route),
            Some(_) => subscribers.group(filter).join(route),
        };
        self.changes.note(filter);
        if added {
            self.counter(filter).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the subscription that the session `key` has for this filter; whether there was one.
    pub(crate) fn unsubscribe(&self, filter: &TopicFilter, key: u64) -> bool {
        let mut index = self.index(filter).write();
        let Some(subscribers) = index.get_mut(filter.filter()) else {
            return false;
        };
        let removed = match filter.share_name() {
            None => subscribers.routes.remove(key),
            Some(_) => subscribers.leave_group(filter, key),
        };
        if subscribers.is_empty() {
            index.remove(filter.filter());
        }
        self.changes.note(filter);
        if removed {
            self.counter(filter).fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// The subscribers of this Topic Name: those of the last time, if it is the same and they are, or collected anew.
    pub(crate) fn recall<'a>(&self, topic: &str, last: &'a mut LastMatch, anew: &'a mut Matches) -> &'a mut Matches {
        if last.is_for(topic) && last.stamp.is_some_and(|stamp| self.changes.is_current(&stamp)) {
            return &mut last.matches;
        }
        let stamp = self.changes.stamp(topic);
        self.matching(topic, anew);
        last.remember(topic, stamp, anew);
        anew
    }

    /// Collects the subscribers of this Topic Name.
    pub(crate) fn matching(&self, topic: &str, into: &mut Matches) {
        into.clear();
        let mut collect = |subscribers: &Subscribers| into.add(subscribers.routes.as_slice(), subscribers.groups());
        self.literal_shard(topic).read().for_each_match(topic, &mut collect);
        let wildcards = self.wildcards.read();
        if !wildcards.is_empty() {
            wildcards.for_each_match(topic, &mut collect);
        }
    }

    /// The members of a Shared Subscription.
    pub(crate) fn group(&self, filter: &TopicFilter) -> Option<Arc<Group>> {
        let index = self.index(filter).read();
        let groups = index.get(filter.filter())?.groups.as_ref()?;
        groups.get(filter).cloned()
    }

    /// The routes of just this Topic Filter behind the session `after`, at most `limit`, in the order of their keys.
    pub(crate) fn some_routes(&self, filter: &TopicFilter, after: u64, limit: usize) -> Vec<Route> {
        let index = self.index(filter).read();
        let Some(subscribers) = index.get(filter.filter()) else {
            return Vec::new();
        };
        if filter.share_name().is_some() {
            let group = subscribers
                .groups
                .as_ref()
                .and_then(|groups| groups.get(filter))
                .cloned();
            drop(index);
            return group.map_or_else(Vec::new, |group| group.some_routes(after, limit));
        }
        let routes = subscribers.routes.as_slice();
        let start = routes.partition_point(|route| route.outbox.key <= after);
        routes[start..].iter().take(limit).cloned().collect()
    }

    /// Subscriptions, shared ones included.
    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed) + self.shared_subscriptions()
    }

    /// Shared Subscriptions, one for each member.
    pub(crate) fn shared_subscriptions(&self) -> usize {
        self.shared_subscriptions.load(Ordering::Relaxed)
    }

    fn counter(&self, filter: &TopicFilter) -> &AtomicUsize {
        if filter.share_name().is_some() {
            &self.shared_subscriptions
        } else {
            &self.subscriptions
        }
    }

    fn index(&self, filter: &TopicFilter) -> &RwLock<FilterIndex<Subscribers>> {
        if filter.has_wildcard() {
            &self.wildcards
        } else {
            self.literal_shard(filter.filter())
        }
    }

    fn literal_shard(&self, topic: &str) -> &RwLock<FilterIndex<Subscribers>> {
        &self.literals[self.hasher.hash_one(topic) as usize % SHARDS]
    }
}

impl Subscribers {
    fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.groups.is_none()
    }

    fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter().flat_map(|groups| groups.values())
    }

    fn group(&mut self, filter: &TopicFilter) -> &Arc<Group> {
        self.groups.get_or_insert_default().entry(filter.clone()).or_default()
    }

    fn leave_group(&mut self, filter: &TopicFilter, key: u64) -> bool {
        let Some(groups) = &mut self.groups else { return false };
        let Some(group) = groups.get(filter) else { return false };
        let removed = group.leave(key);
        if group.is_empty() {
            groups.remove(filter);
            filters::shrink(groups);
        }
        if groups.is_empty() {
            self.groups = None;
        }
        removed
    }
}

#[cfg(test)]
mod tests;
