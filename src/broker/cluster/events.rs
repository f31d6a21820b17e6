//! What the store tells this node of others.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::Cluster;
use crate::broker::core::Core;
use crate::broker::registry::Entry as Registered;
use crate::session::Delivery;
use crate::stats::Discard;
use crate::store::cluster::{ClusterOp, Entry, Follower, InboxMessage};
use crate::store::{StoredMessage, Uid};

/// Passes on what it is told, while the broker is there.
pub(super) struct Events {
    core: Weak<Core>,
    cluster: Weak<Cluster>,
}

impl Events {
    pub(super) fn new(core: &Arc<Core>) -> Events {
        Events {
            core: Arc::downgrade(core),
            cluster: core.cluster.as_ref().map_or_else(Weak::new, Arc::downgrade),
        }
    }

    fn get(&self) -> Option<(Arc<Core>, Arc<Cluster>)> {
        Some((self.core.upgrade()?, self.cluster.upgrade()?))
    }
}

impl Follower for Events {
    fn apply(&self, entry: &Entry<'_>) -> u64 {
        let Some((core, cluster)) = self.get() else {
            return u64::MAX;
        };
        cluster.mirror.apply(&core, entry);
        cluster.counters.entries_applied.fetch_add(1, Ordering::Relaxed);
        cluster.journal.open_batch()
    }

    fn inbox(&self, messages: &mut dyn Iterator<Item = InboxMessage<'_>>) {
        let Some((core, cluster)) = self.get() else { return };
        let mut count = 0;
        core.route_inbox(&mut messages.inspect(|_| count += 1));
        cluster.counters.inbox_messages.fetch_add(count, Ordering::Relaxed);
    }

    fn arrived(&self, uid: Uid, place: u64, message: Option<StoredMessage>) {
        if let Some((_, cluster)) = self.get()
            && let Some(outbox) = cluster.mirror.owned(uid)
        {
            outbox.arrived(place, message.map(Delivery::from_stored));
        }
    }

    fn look(&self) {
        let Some((_, cluster)) = self.get() else { return };
        cluster.mirror.all_owned().iter().for_each(|outbox| outbox.look());
        cluster.notify_all_waiting();
        cluster.looks_for_wanted.notify_one();
    }

    fn look_into(&self, uid: Uid) {
        if let Some((_, cluster)) = self.get()
            && let Some(outbox) = cluster.mirror.owned(uid)
        {
            outbox.look();
        }
    }

    fn wanted(&self, client_id: &str) {
        if let Some((core, _)) = self.get() {
            core.give_up(client_id);
        }
    }

    fn granted(&self, client_id: &str) {
        if let Some((_, cluster)) = self.get() {
            cluster.notify_waiting(client_id);
        }
    }

    fn gone(&self, uid: Uid) {
        let Some((_, cluster)) = self.get() else { return };
        if cluster.mirror.has(uid) && cluster.mirror.owned(uid).is_none() {
            drop(cluster.write([ClusterOp::Log(Entry::End { uid })]));
        }
    }

    fn full(&self, uid: Uid) {
        let Some((core, cluster)) = self.get() else { return };
        match cluster.mirror.outbox(uid) {
            Some(outbox) => outbox.count_discard(Discard::QueueFull),
            None => core.stats.discarded(Discard::QueueFull, 1),
        }
    }
}

impl Core {
    /// Somebody else has claimed the client: its connection here ends.
    pub(super) fn give_up(&self, client_id: &str) {
        let outbox = match self.registry.shard(client_id).get(client_id) {
            Some(Registered::Online { outbox, .. }) => Arc::clone(outbox),
            _ => return,
        };
        outbox.signal(|signals| signals.takeover = true);
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
