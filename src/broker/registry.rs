//! Which sessions there are, and who owns each.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::Owned;
use super::timers::TimerKey;
use crate::session::{Outbox, Session};
use crate::store::cluster::Token;
use crate::time::Millis;

/// A session by its Client Identifier.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A connection owns the session.
    Online {
        outbox: Arc<Outbox>,
        /// In a cluster, that of the connection.
        token: Option<Token>,
        /// The connection that waits for the session. A later one replaces it, so that the last CONNECT wins.
        claimant: Option<oneshot::Sender<Owned>>,
    },
    /// The registry owns it.
    Offline(Box<Offline>),
}

impl Entry {
    pub(super) fn online(outbox: Arc<Outbox>) -> Entry {
        Entry::Online {
            outbox,
            token: None,
            claimant: None,
        }
    }

    fn outbox(&self) -> &Arc<Outbox> {
        match self {
            Entry::Online { outbox, .. } => outbox,
            Entry::Offline(offline) => &offline.session.outbox,
        }
    }
}

/// A session that waits for its client.
#[derive(Debug)]
pub(crate) struct Offline {
    pub(crate) session: Box<Session>,
    /// `None` is never.
    pub(crate) expires_at: Option<Millis>,
    pub(crate) will_at: Option<Millis>,
    pub(crate) timer: Option<TimerKey>,
}

impl Offline {
    pub(crate) fn next_due(&self) -> Option<Millis> {
        match (self.expires_at, self.will_at) {
            (Some(expires), Some(will)) => Some(expires.min(will)),
            (one, other) => one.or(other),
        }
    }
}

pub(crate) type Shard = HashMap<Arc<str>, Entry, foldhash::fast::RandomState>;

/// An entry, as others see it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) outbox: Arc<Outbox>,
    /// When the session of a client that is away ends; of one that is connected nothing is known here.
    pub(crate) away: Option<Away>,
}

/// A session without a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Away {
    /// `None` is never.
    pub(crate) expires_at: Option<Millis>,
}

impl Seen {
    fn of(entry: &Entry) -> Seen {
        Seen {
            outbox: Arc::clone(entry.outbox()),
            away: match entry {
                Entry::Online { .. } => None,
                Entry::Offline(offline) => Some(Away {
                    expires_at: offline.expires_at,
                }),
            },
        }
    }
}

/// All sessions, spread over shards by Client Identifier.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    hasher: foldhash::fast::RandomState,
    online: AtomicUsize,
    offline: AtomicUsize,
    most_online: AtomicUsize,
}

/// Into how many parts the sessions are spread.
pub(crate) const SHARDS: usize = 64;

impl Default for Registry {
    fn default() -> Self {
        Registry {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: foldhash::fast::RandomState::default(),
            online: AtomicUsize::new(0),
            offline: AtomicUsize::new(0),
            most_online: AtomicUsize::new(0),
        }
    }
}

impl Registry {
    pub(crate) fn shard(&self, client_id: &str) -> MutexGuard<'_, Shard> {
        self.shards[self.hasher.hash_one(client_id) as usize % SHARDS].lock()
    }

    /// Clients with a connection.
    pub(crate) fn online(&self) -> usize {
        self.online.load(Ordering::Relaxed)
    }

    /// Sessions without a connection.
    pub(crate) fn offline(&self) -> usize {
        self.offline.load(Ordering::Relaxed)
    }

    /// The most clients that were connected at a time.
    pub(crate) fn most_online(&self) -> usize {
        self.most_online.load(Ordering::Relaxed)
    }

    /// The outboxes of all connected clients.
    pub(crate) fn online_outboxes(&self) -> Vec<Arc<Outbox>> {
        (0..SHARDS).flat_map(|shard| self.online_in_shard(shard)).collect()
    }

    /// Those of one shard.
    pub(crate) fn online_in_shard(&self, shard: usize) -> Vec<Arc<Outbox>> {
        let shard = self.shards[shard].lock();
        let online = shard.values().filter_map(|entry| match entry {
            Entry::Online { outbox, .. } => Some(Arc::clone(outbox)),
            Entry::Offline(_) => None,
        });
        online.collect()
    }

    /// The sessions of one shard, of those whose Client Identifier passes: the first by identifier behind `after`, at most
    /// `limit` of them, in order.
    pub(crate) fn some_of_shard(
        &self,
        shard: usize,
        after: Option<&str>,
        limit: usize,
        passes: impl Fn(&str) -> bool,
    ) -> Vec<Seen> {
        let shard = self.shards[shard].lock();
        let mut found: Vec<_> = shard
            .iter()
            .filter(|(id, _)| after.is_none_or(|after| &***id > after) && passes(id))
            .collect();
        if found.len() > limit {
            found.select_nth_unstable_by(limit, |(one, _), (other, _)| one.cmp(other));
            found.truncate(limit);
        }
        found.sort_unstable_by_key(|(id, _)| *id);
        found.into_iter().map(|(_, entry)| Seen::of(entry)).collect()
    }

    /// What there is of this client.
    pub(crate) fn see(&self, client_id: &str) -> Option<Seen> {
        self.shard(client_id).get(client_id).map(Seen::of)
    }

    /// Whether there is a session for the client, in a connection or without one.
    pub(crate) fn has(&self, client_id: &str) -> bool {
        self.shard(client_id).contains_key(client_id)
    }

    /// Discards the QoS 0 messages that wait for slow clients.
    pub(crate) fn shed_qos0(&self) {
        for outbox in self.online_outboxes() {
            outbox.shed_qos0();
        }
    }

    /// QoS 1 and 2 messages that wait in all sessions, and the bytes of all that waits in memory.
    pub(crate) fn queued_messages(&self) -> (usize, usize) {
        let each = (0..SHARDS).map(|shard| self.queued_in_shard(shard));
        each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// The same of one shard.
    pub(crate) fn queued_in_shard(&self, shard: usize) -> (usize, usize) {
        // Publishers keep outboxes busy: no CONNECT is to wait until all of its shard have been asked.
        let outboxes: Vec<_> = {
            let shard = self.shards[shard].lock();
            shard.values().map(|entry| Arc::clone(entry.outbox())).collect()
        };
        let each = outboxes
            .iter()
            .map(|outbox| (outbox.queue_len(), outbox.bytes_in_memory()));
        each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    pub(crate) fn went_online(&self) {
        let online = self.online.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_online.fetch_max(online, Ordering::Relaxed);
    }

    pub(crate) fn went_offline(&self) {
        self.online.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn stored(&self) {
        self.offline.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unstored(&self) {
        self.offline.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::session::{OutboxLimits, QueueOverflow};

    #[test]
    fn a_busy_outbox_does_not_hold_up_its_shard() {
        let limits = OutboxLimits::new(Arc::default());
        limits.set(1, 1, QueueOverflow::DropNew);
        let outbox = Arc::new(Outbox::new(1, "busy".into(), Arc::new(limits)));
        let registry = Registry::default();
        let entry = Entry::online(Arc::clone(&outbox));
        registry.shard("busy").insert("busy".into(), entry);
        let before = Arc::strong_count(&outbox);
        std::thread::scope(|scope| {
            outbox.signal(|_| {
                scope.spawn(|| assert_eq!(registry.queued_messages(), (0, 0)));
                // The question waits for the outbox, which is locked here, once it has it in hand.
                let in_hand = || Arc::strong_count(&outbox) > before;
                let deadline = Instant::now() + Duration::from_secs(30);
                while !in_hand() || registry.shards.iter().any(Mutex::is_locked) {
                    assert!(
                        Instant::now() < deadline,
                        "the outbox is asked under the lock of its shard"
                    );
                    std::thread::yield_now();
                }
            });
        });
    }
}
