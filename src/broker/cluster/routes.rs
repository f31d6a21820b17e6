//! What the sessions on this node subscribe to, as far as other nodes have to know of it: each filter once.
//!
//! Invariants:
//! * Entries are written under the lock in which what they say has become so, and by a pen that writes at once: the log has
//!   them in that order.
//! * Who subscribes to what another session here subscribes to already waits for the batch in which the log is told of that.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Cluster;
use crate::broker::core::RouteScratch;
use crate::packet::QoS;
use crate::session::Subscription;
use crate::store::Op;
use crate::store::cluster::{ClusterOp, Entry, RouteKind};
use crate::topic::TopicFilter;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LocalRoutes(Mutex<HashMap<TopicFilter, Users>>);

/// How many subscriptions want all messages, and how many those of QoS 0.
#[derive(Clone, Copy, Debug, Default)]
struct Users {
    all: u32,
    only_qos0: u32,
    /// The batch of the entry that has told the log of it.
    told_in: u64,
}

impl Users {
    fn kind(self) -> Option<RouteKind> {
        match self {
            Users {
                all: 0, only_qos0: 0, ..
            } => None,
            Users { all: 0, .. } => Some(RouteKind::OnlyQos0),
            Users { .. } => Some(RouteKind::All),
        }
    }

    fn of(&mut self, kind: RouteKind) -> &mut u32 {
        match kind {
            RouteKind::All => &mut self.all,
            RouteKind::OnlyQos0 => &mut self.only_qos0,
        }
    }
}

/// What of its messages a subscription needs by the inbox. To one that has a queue in the store others come by that, if they are
/// sent at QoS 1 or 2.
fn kind_of(subscription: &Subscription, has_queue: bool) -> RouteKind {
    match has_queue && subscription.options.qos > QoS::AtMostOnce {
        true => RouteKind::OnlyQos0,
        false => RouteKind::All,
    }
}

impl Cluster {
    /// A session on this node has this subscription.
    pub(crate) fn join_route(
        self: &Arc<Cluster>,
        filter: &TopicFilter,
        subscription: &Subscription,
        has_queue: bool,
        scratch: &mut RouteScratch,
    ) {
        scratch.pen().begin(&self.journal);
        let kind = kind_of(subscription, has_queue);
        self.change_route(filter, scratch, |users| *users.of(kind) += 1);
    }

    /// A session on this node has it no more.
    pub(crate) fn leave_route(
        &self,
        filter: &TopicFilter,
        subscription: &Subscription,
        has_queue: bool,
        scratch: &mut RouteScratch,
    ) {
        let kind = kind_of(subscription, has_queue);
        self.change_route(filter, scratch, |users| {
            let count = users.of(kind);
            *count = count.saturating_sub(1);
        });
    }

    fn change_route(&self, filter: &TopicFilter, scratch: &mut RouteScratch, change: impl FnOnce(&mut Users)) {
        let mut routes = self.routes.0.lock();
        let users = routes.entry(filter.clone()).or_default();
        let before = users.kind();
        change(users);
        let after = users.kind();
        if before == after {
            return scratch.pen().move_to(&self.journal, users.told_in);
        }
        let (node, text) = (self.incarnation, filter.as_str());
        let entry = match after {
            Some(kind) => Entry::Route {
                node,
                filter: text,
                kind,
            },
            None => Entry::Unroute { node, filter: text },
        };
        users.told_in = scratch
            .pen()
            .write_now(&self.journal, &Op::Cluster(ClusterOp::Log(entry)));
        if after.is_none() {
            routes.remove(filter);
        }
    }
}
