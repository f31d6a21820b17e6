//! What messages are matched against: the log of the cluster, folded into the router.
//!
//! Invariants:
//! * Entries are applied in the order of the log, by one thread. What is applied twice changes nothing.
//! * A session that is kept has one outbox here, from its first subscription to its last, and while this node owns it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::core::Core;
use crate::message::Message;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::router::Route;
use crate::session::{Outbox, OutboxLimits, Subscription};
use crate::store::cluster::{Entry, Incarnation, RouteKind, inbox_of};
use crate::store::{Journal, Pen, StoredSession, StoredSubscription, SubscriptionRecord, Uid};
use crate::topic::TopicFilter;

/// See the module.
pub(super) struct Mirror {
    own: Incarnation,
    journal: Arc<Journal>,
    limits: Arc<OutboxLimits>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Uid, Mirrored>,
    nodes: HashMap<Incarnation, Mirrored>,
    /// The nodes that live.
    living: BTreeSet<Incarnation>,
    /// The sessions of each client that have subscriptions: one, but for a moment.
    clients: HashMap<Arc<str>, Vec<Uid>>,
    /// Sessions that are owned here.
    owned: usize,
    /// Filters of all sessions.
    subscriptions: usize,
}

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Filters of other nodes.
    pub(super) routes: usize,
    /// Sessions that are kept, and have subscriptions or are owned here.
    pub(super) sessions: usize,
    /// Those that are owned here.
    pub(super) owned: usize,
    /// Subscriptions of all of them.
    pub(super) subscriptions: usize,
}

/// Who is in the router, and with which filters.
struct Mirrored {
    outbox: Arc<Outbox>,
    filters: HashSet<TopicFilter>,
    is_owned: bool,
    /// Of a member of Shared Subscriptions: the node to which its client is connected.
    present_at: Option<Incarnation>,
}

impl Mirrored {
    fn new(outbox: Arc<Outbox>) -> Mirrored {
        Mirrored {
            outbox,
            filters: HashSet::new(),
            is_owned: false,
            present_at: None,
        }
    }

    fn see(&mut self, at: Option<Incarnation>) {
        self.present_at = at;
        self.outbox.set_present(at.is_some());
    }

    fn is_needed(&self) -> bool {
        self.is_owned || !self.filters.is_empty()
    }
}

impl Mirror {
    pub(super) fn new(own: Incarnation, journal: Arc<Journal>, limits: Arc<OutboxLimits>) -> Mirror {
        Mirror {
            own,
            journal,
            limits,
            state: Mutex::default(),
        }
    }

    /// Applies an entry.
    pub(super) fn apply(&self, core: &Core, entry: &Entry<'_>) {
        match *entry {
            Entry::Join(node) => drop(self.state.lock().living.insert(node)),
            Entry::Dead(node) => self.remove_node(core, node),
            Entry::Subscribe {
                uid,
                client_id,
                ref subscription,
            } => self.subscribe(core, uid, client_id, subscription),
            Entry::Unsubscribe { uid, filter } => self.unsubscribe(core, uid, filter),
            Entry::End { uid } => self.end(core, uid),
            Entry::Present { uid, node } => self.see(uid, Some(node)),
            Entry::Away { uid } => self.see(uid, None),
            Entry::Route { node, filter, kind } => self.route(core, node, filter, kind),
            Entry::Unroute { node, filter } => self.unroute(core, node, filter),
            Entry::Retain { ref message } => {
                let retained = core
                    .router
                    .retained
                    .set(Arc::new(Message::new(message)), &mut Pen::default());
                if retained == Ok(true) {
                    core.arm_retained_sweep();
                }
            }
            Entry::RetainClear { topic } => core.router.retained.clear(topic, &mut Pen::default()),
        }
    }

    /// Takes a session that is in the store.
    pub(super) fn load(&self, core: &Core, stored: &StoredSession) {
        for subscription in &stored.subscriptions {
            let record = SubscriptionRecord {
                filter: &subscription.filter,
                options: subscription.options,
                identifier: subscription.identifier,
                replays: false,
            };
            self.subscribe(core, stored.uid, &stored.client_id, &record);
        }
        self.see(stored.uid, stored.owner);
    }

    /// The outbox of a session that is owned here from now on.
    pub(super) fn own(&self, uid: Uid, client_id: &Arc<str>) -> Arc<Outbox> {
        let mut state = self.state.lock();
        let mirrored = self.session(&mut state, uid, client_id);
        let was_owned = std::mem::replace(&mut mirrored.is_owned, true);
        let outbox = Arc::clone(&mirrored.outbox);
        state.owned += usize::from(!was_owned);
        outbox
    }

    /// The session is not owned here any more.
    pub(super) fn disown(&self, uid: Uid) {
        let mut state = self.state.lock();
        let Some(mirrored) = state.sessions.get_mut(&uid) else {
            return;
        };
        let was_owned = std::mem::replace(&mut mirrored.is_owned, false);
        mirrored.outbox.disown();
        state.owned -= usize::from(was_owned);
        state.forget_unneeded(uid);
    }

    /// The outbox of a session, if it is owned here.
    pub(super) fn owned(&self, uid: Uid) -> Option<Arc<Outbox>> {
        let state = self.state.lock();
        let mirrored = state.sessions.get(&uid).filter(|mirrored| mirrored.is_owned)?;
        Some(Arc::clone(&mirrored.outbox))
    }

    /// The outbox of a session that is known here, whoever owns it.
    pub(super) fn outbox(&self, uid: Uid) -> Option<Arc<Outbox>> {
        let state = self.state.lock();
        state.sessions.get(&uid).map(|mirrored| Arc::clone(&mirrored.outbox))
    }

    /// Those of all sessions that are owned here.
    pub(super) fn all_owned(&self) -> Vec<Arc<Outbox>> {
        let state = self.state.lock();
        let owned = state.sessions.values().filter(|mirrored| mirrored.is_owned);
        owned.map(|mirrored| Arc::clone(&mirrored.outbox)).collect()
    }

    /// Sessions of this client that are in the router, but for this one.
    pub(super) fn others_of(&self, client_id: &str, uid: Uid) -> Vec<Uid> {
        let state = self.state.lock();
        let uids = state.clients.get(client_id).into_iter().flatten();
        uids.copied().filter(|other| *other != uid).collect()
    }

    /// The session of this client, if it is in the router.
    pub(super) fn session_of(&self, client_id: &str) -> Option<Uid> {
        self.state.lock().clients.get(client_id)?.last().copied()
    }

    /// Filters that the session has in the router, and not in the store: its node has died between the two.
    pub(super) fn strays(&self, uid: Uid, stored: &[StoredSubscription]) -> Vec<TopicFilter> {
        let state = self.state.lock();
        let filters = state
            .sessions
            .get(&uid)
            .into_iter()
            .flat_map(|mirrored| &mirrored.filters);
        let is_stored = |filter: &TopicFilter| stored.iter().any(|one| *one.filter == *filter.as_str());
        filters.filter(|filter| !is_stored(filter)).cloned().collect()
    }

    /// Whether a session that has ended is in the router.
    pub(super) fn has(&self, uid: Uid) -> bool {
        self.state.lock().sessions.contains_key(&uid)
    }

    /// The nodes that live, in order.
    pub(super) fn living(&self) -> Vec<Incarnation> {
        self.state.lock().living.iter().copied().collect()
    }

    pub(super) fn lives(&self, node: Incarnation) -> bool {
        self.state.lock().living.contains(&node)
    }

    /// The first node that lives, of those from this one on.
    pub(super) fn living_from(&self, node: Incarnation) -> Option<Incarnation> {
        self.state.lock().living.range(node..).next().copied()
    }

    /// How many subscriptions a session has.
    pub(super) fn subscriptions_of(&self, uid: Uid) -> usize {
        let state = self.state.lock();
        state.sessions.get(&uid).map_or(0, |mirrored| mirrored.filters.len())
    }

    pub(super) fn sizes(&self) -> Sizes {
        let state = self.state.lock();
        Sizes {
            routes: state.nodes.values().map(|node| node.filters.len()).sum(),
            sessions: state.sessions.len(),
            owned: state.owned,
            subscriptions: state.subscriptions,
        }
    }

    fn session<'s>(&self, state: &'s mut State, uid: Uid, client_id: &Arc<str>) -> &'s mut Mirrored {
        let State { sessions, clients, .. } = state;
        sessions.entry(uid).or_insert_with(|| {
            clients.entry(Arc::clone(client_id)).or_default().push(uid);
            let limits = Arc::clone(&self.limits);
            let outbox = Outbox::new_shared(uid, Arc::clone(client_id), limits, &self.journal);
            Mirrored::new(Arc::new(outbox))
        })
    }

    fn subscribe(&self, core: &Core, uid: Uid, client_id: &str, record: &SubscriptionRecord<'_>) {
        let Ok(filter) = TopicFilter::parse(record.filter) else {
            return tracing::error!(
                filter = record.filter,
                "a subscription in the cluster has no valid Topic Filter"
            );
        };
        let mut state = self.state.lock();
        let client_id = Arc::from(client_id);
        let mirrored = self.session(&mut state, uid, &client_id);
        let subscription = Subscription {
            options: record.options,
            identifier: NonZeroU32::new(record.identifier),
            replay: 0,
        };
        let route = Route::new(Arc::clone(&mirrored.outbox), &filter, &subscription);
        core.router.subscribe(&filter, route);
        let is_new = mirrored.filters.insert(filter);
        state.subscriptions += usize::from(is_new);
    }

    /// A node that has died meanwhile has no clients.
    fn see(&self, uid: Uid, at: Option<Incarnation>) {
        let mut state = self.state.lock();
        let State { sessions, living, .. } = &mut *state;
        if let Some(mirrored) = sessions.get_mut(&uid) {
            mirrored.see(at.filter(|node| living.contains(node)));
        }
    }

    fn unsubscribe(&self, core: &Core, uid: Uid, filter: &str) {
        let Ok(filter) = TopicFilter::parse(filter) else { return };
        let mut state = self.state.lock();
        if let Some(mirrored) = state.sessions.get_mut(&uid)
            && mirrored.filters.remove(&filter)
        {
            core.router.unsubscribe(&filter, uid);
            state.subscriptions -= 1;
            state.forget_unneeded(uid);
        }
    }

    fn end(&self, core: &Core, uid: Uid) {
        let mut state = self.state.lock();
        let Some(mirrored) = state.sessions.get_mut(&uid) else {
            return;
        };
        let filters = std::mem::take(&mut mirrored.filters);
        for filter in &filters {
            core.router.unsubscribe(filter, uid);
        }
        state.subscriptions -= filters.len();
        state.forget_unneeded(uid);
    }

    fn route(&self, core: &Core, node: Incarnation, filter: &str, kind: RouteKind) {
        let Some(filter) = TopicFilter::parse(filter).ok().filter(|_| node != self.own) else {
            return;
        };
        let mut state = self.state.lock();
        if !state.living.contains(&node) {
            return;
        }
        let mirrored = state.nodes.entry(node).or_insert_with(|| {
            let name = format!("node {node}").into();
            let outbox = Outbox::new_shared(inbox_of(node), name, Arc::clone(&self.limits), &self.journal);
            Mirrored::new(Arc::new(outbox))
        });
        let route = Route::new(Arc::clone(&mirrored.outbox), &filter, &wanted(kind));
        core.router.subscribe(&filter, route);
        mirrored.filters.insert(filter);
    }

    fn unroute(&self, core: &Core, node: Incarnation, filter: &str) {
        let Ok(filter) = TopicFilter::parse(filter) else { return };
        if let Some(mirrored) = self.state.lock().nodes.get_mut(&node)
            && mirrored.filters.remove(&filter)
        {
            core.router.unsubscribe(&filter, inbox_of(node));
        }
    }

    fn remove_node(&self, core: &Core, node: Incarnation) {
        let mut state = self.state.lock();
        state.living.remove(&node);
        for mirrored in state.sessions.values_mut() {
            if mirrored.present_at == Some(node) {
                mirrored.see(None);
            }
        }
        let filters = state.nodes.remove(&node).map(|mirrored| mirrored.filters);
        for filter in filters.into_iter().flatten() {
            core.router.unsubscribe(&filter, inbox_of(node));
        }
    }
}

impl State {
    fn forget_unneeded(&mut self, uid: Uid) {
        if self.sessions.get(&uid).is_none_or(Mirrored::is_needed) {
            return;
        }
        let Some(mirrored) = self.sessions.remove(&uid) else {
            return;
        };
        let client_id = &mirrored.outbox.client_id;
        if let Some(uids) = self.clients.get_mut(client_id) {
            uids.retain(|other| *other != uid);
            if uids.is_empty() {
                self.clients.remove(client_id);
            }
        }
    }
}

/// What a node wants by a route: messages as they were published, from which it makes what its sessions want.
fn wanted(kind: RouteKind) -> Subscription {
    Subscription {
        options: SubscriptionOptions {
            qos: match kind {
                RouteKind::All => QoS::ExactlyOnce,
                RouteKind::OnlyQos0 => QoS::AtMostOnce,
            },
            no_local: false,
            retain_as_published: true,
            retain_handling: RetainHandling::SendNever,
        },
        identifier: None,
        replay: 0,
    }
}
