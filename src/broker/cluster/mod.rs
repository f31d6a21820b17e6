//! This broker as a node of a cluster: what it knows of the others, and what it tells them.
//!
//! The protocol is in `tests/cluster/PROTOCOL.md`. State that outlives a node is in the store that all nodes share
//! (`store/cluster/`); a session is owned by the node to which its client is connected, and by nobody while the client is away.
//!
//! ```text
//!   others' log entries -> mirror -> router           what messages are matched against
//!   others' messages    -> events -> outboxes         inbox of this node, queues of sessions that it owns
//!   CONNECT             -> claims -> registry         one owner for each client
//!   silence of others   -> watch  -> recovery         their clients are free, their wills are published
//! ```

mod claims;
mod events;
mod heart;
mod jobs;
mod mirror;
mod publish;
mod recovery;
mod release;
mod routes;
mod sweep;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) use claims::Wanted;
use heart::Heart;
use mirror::Mirror;
pub(crate) use routes::LocalRoutes;

use super::core::{Core, RouteScratch};
use crate::session::OutboxLimits;
use crate::store::cluster::{ClusterOp, Entry, Incarnation, Mid, RouteKind, Shared, Token, new_uid};
use crate::store::{Journal, Op, Receipt, StoreError, Uid};

/// See the module.
pub(crate) struct Cluster {
    pub(crate) store: Arc<dyn Shared>,
    pub(crate) journal: Arc<Journal>,
    incarnation: Incarnation,
    tokens: AtomicU64,
    sessions: AtomicU32,
    mids: AtomicU64,
    mirror: Mirror,
    pub(crate) routes: LocalRoutes,
    /// Who waits for a client that another connection has.
    waiting: Mutex<HashMap<Arc<str>, Vec<Arc<Notify>>>>,
    heart: Heart,
    /// Told when hints may have been lost of who waits for a client of this node.
    looks_for_wanted: Notify,
    lease: Duration,
    /// Queues that have messages which a dead node had begun.
    reached: Mutex<HashMap<Mid, Vec<Uid>>>,
    /// Clients that are being released.
    releases: AtomicUsize,
    released: Notify,
    pub(crate) counters: Counters,
}

/// A node and what it knows of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub(crate) incarnation: Incarnation,
    pub(crate) nodes: usize,
    pub(crate) routes: usize,
    pub(crate) sessions: usize,
    pub(crate) heartbeat_age: Duration,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) claims_waited: AtomicU64,
    pub(crate) recovered_nodes: AtomicU64,
    pub(crate) recovered_clients: AtomicU64,
    pub(crate) inbox_messages: AtomicU64,
    pub(crate) entries_applied: AtomicU64,
}

impl Cluster {
    pub(crate) fn new(
        store: Arc<dyn Shared>,
        journal: Arc<Journal>,
        lease: Duration,
        limits: &Arc<OutboxLimits>,
    ) -> Cluster {
        let incarnation = store.incarnation();
        Cluster {
            mirror: Mirror::new(incarnation, Arc::clone(&journal), Arc::clone(limits)),
            routes: LocalRoutes::default(),
            incarnation,
            tokens: AtomicU64::new(1),
            sessions: AtomicU32::new(1),
            mids: AtomicU64::new(1),
            waiting: Mutex::default(),
            heart: Heart::new(lease),
            looks_for_wanted: Notify::new(),
            lease,
            reached: Mutex::default(),
            releases: AtomicUsize::new(0),
            released: Notify::new(),
            store,
            journal,
            counters: Counters::default(),
        }
    }

    /// What there is to be seen.
    pub(crate) fn glance(&self) -> Glance {
        let (routes, sessions) = self.mirror.sizes();
        Glance {
            incarnation: self.incarnation,
            nodes: self.mirror.living().len(),
            routes,
            sessions,
            heartbeat_age: self.heart.age().unwrap_or(Duration::MAX),
        }
    }

    /// Whether this node may have been declared dead: until it knows better, it sends nothing that others may be sending as well.
    pub(crate) fn is_stale(&self) -> bool {
        self.heart.is_stale()
    }

    fn new_token(&self) -> Token {
        Token {
            incarnation: self.incarnation,
            number: self.tokens.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn new_mid(&self) -> Mid {
        Mid {
            incarnation: self.incarnation,
            number: self.mids.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn new_uid(&self, client_id: &str) -> Uid {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        new_uid(self.incarnation, number, client_id)
    }

    /// Writes a change; what is to be waited for until it is kept.
    fn write(&self, ops: impl IntoIterator<Item = ClusterOp<'static>>) -> Option<Receipt> {
        let mut scratch = RouteScratch::default();
        for op in ops {
            scratch.pen().write(&self.journal, &Op::Cluster(op));
        }
        scratch.pen().receipt()
    }

    /// Writes changes, and waits until they are kept.
    async fn keep(&self, ops: impl IntoIterator<Item = ClusterOp<'static>>) {
        let receipt = self.write(ops);
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
    }

    /// Waits until all is kept that has been written until now.
    async fn keep_all(&self) {
        let receipt = self.settle();
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
    }

    /// Asks the store, where that holds nobody up.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        let asked = tokio::task::spawn_blocking(move || ask(&*store));
        asked
            .await
            .map_err(|error| StoreError::Unavailable(format!("the store was not asked: {error}")))?
    }

    /// Asks the store until it answers.
    async fn ask_until<T: Send + 'static>(
        &self,
        what: &str,
        ask: impl Fn(&dyn Shared) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> T {
        loop {
            match self.ask(ask.clone()).await {
                Ok(answer) => return answer,
                // The journal says it aloud.
                Err(error) => tracing::debug!(%error, "{what} can't be read: that is tried again"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Before what the store did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(200);

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Reads what there is, begins to follow what others do, and takes part. Blocks. To be called before there are clients.
    pub(crate) fn join_cluster(self: &Arc<Core>) -> Result<Vec<tokio::task::AbortHandle>, StoreError> {
        let Some(cluster) = &self.cluster else {
            return Ok(Vec::new());
        };
        self.load_mirror(cluster)?;
        cluster.store.follow_log(Arc::new(events::Events::new(self)))?;
        heart::beat_once(cluster);
        Ok(vec![
            tokio::spawn(heart::run(Arc::clone(self))).abort_handle(),
            tokio::spawn(watch::run(Arc::clone(self))).abort_handle(),
            tokio::spawn(sweep::run(Arc::clone(self))).abort_handle(),
        ])
    }

    fn load_mirror(&self, cluster: &Cluster) -> Result<(), StoreError> {
        let snapshot = cluster.store.snapshot()?;
        for node in snapshot.nodes {
            cluster.mirror.apply(self, &Entry::Join(node));
        }
        for (node, filter, kind) in &snapshot.routes {
            let (node, kind): (_, RouteKind) = (*node, *kind);
            cluster.mirror.apply(self, &Entry::Route { node, filter, kind });
        }
        cluster.store.retained(&mut |message| {
            self.router.retained.restore(message);
        })?;
        self.arm_retained_sweep();
        cluster.store.sessions(&mut |stored| cluster.mirror.load(self, &stored))
    }
}
