//! What the store tells this node of others.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::Cluster;
use crate::broker::core::Core;
use crate::broker::registry::Entry as Registered;
use crate::message::Publication;
use crate::packet::QoS;
use crate::session::{Delivery, Terms};
use crate::stats::Discard;
use crate::store::cluster::{ClusterOp, Entry, Follower, InboxMessage, Member, Mid, Rest, Token, Witness};
use crate::store::{StoredMessage, Uid};
use crate::topic::TopicFilter;

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

    fn arrived(&self, uid: Uid, place: u64, messages: &mut dyn Iterator<Item = Option<StoredMessage>>) {
        if let Some((_, cluster)) = self.get()
            && let Some(outbox) = cluster.mirror.owned(uid)
        {
            outbox.arrived(place, messages.map(|message| message.map(Delivery::from_stored)));
        }
    }

    fn look(&self) {
        let Some((_, cluster)) = self.get() else { return };
        cluster.looks_for_missed.notify_one();
        cluster.notify_all_waiting();
    }

    fn look_into(&self, uid: Uid) {
        if let Some((_, cluster)) = self.get()
            && let Some(outbox) = cluster.mirror.owned(uid)
        {
            outbox.look();
        }
    }

    fn wanted(&self, client_id: &str, from: Token) {
        if let Some((core, _)) = self.get() {
            core.give_up(client_id, from);
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

    fn choose(&self, share: &str, message: &Publication<'_>, without: &[Uid]) -> Option<Member> {
        let (core, _) = self.get()?;
        let filter = TopicFilter::parse(share).ok()?;
        let group = core.router.group(&filter)?;
        let mut chosen = None;
        group.choose(message, |route, terms, placement| {
            let outbox = &route.outbox;
            let may = terms.qos > QoS::AtMostOnce && outbox.is_member_for(placement) && !without.contains(&outbox.key);
            if may {
                chosen = Some(member(outbox.key, &terms));
            }
            may
        });
        chosen
    }

    fn to_do(&self, jobs: &[(u8, Mid)], rests: &[Rest]) {
        if let Some((core, cluster)) = self.get() {
            core.do_soon(&cluster, jobs, rests);
        }
    }

    fn full(&self, uid: Uid) {
        let Some((core, cluster)) = self.get() else { return };
        match cluster.mirror.outbox(uid) {
            Some(outbox) => outbox.count_discard(Discard::QueueFull),
            None => core.stats.discarded(Discard::QueueFull, 1),
        }
    }

    fn witnesses(&self) -> Vec<Witness> {
        self.get().map_or_else(Vec::new, |(core, _)| core.witnesses())
    }

    fn said(&self, words: &[u8]) {
        if let Some((core, cluster)) = self.get() {
            core.hear(&cluster, words, &cluster.runtime);
        }
    }
}

fn member(uid: Uid, terms: &Terms) -> Member {
    let ids = terms.extras.iter().flat_map(|extras| extras.subscription_ids.iter());
    Member {
        uid,
        qos: terms.qos,
        retain: terms.retain,
        subscription_ids: ids.flat_map(|id| id.to_be_bytes()).collect(),
    }
}

impl Core {
    /// Somebody else has claimed the client: the connection here with this token ends, if it is there still.
    pub(super) fn give_up(&self, client_id: &str, from: Token) {
        if let Some(Registered::Online { outbox, token, .. }) = self.registry.shard(client_id).get(client_id)
            && *token == Some(from)
        {
            outbox.signal(|signals| signals.takeover = true);
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
