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

#![cfg_attr(
    not(feature = "redis"),
    allow(dead_code, unused_imports, reason = "there is no store that brokers could share")
)]

mod about;
mod asking;
mod claims;
mod events;
mod everywhere;
mod expired;
mod gathered;
mod heart;
mod jobs;
mod kick;
mod leave;
mod members;
mod mirror;
mod missed;
mod own_thread;
mod publish;
mod questions;
mod recovery;
mod release;
mod rests;
mod routes;
mod settle;
mod sweep;
mod touched;
mod waiting;
mod watch;
mod witness;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

pub(crate) use about::Totals;
use asking::Asking;
pub(crate) use claims::Wanted;
use gathered::Gathered;
use heart::Heart;
use mirror::Mirror;
use own_thread::OwnThread;
pub(crate) use routes::LocalRoutes;
use settle::Settling;
use touched::Touched;
use work::Works;

use super::core::{Core, RouteScratch};
use crate::session::OutboxLimits;
use crate::store::cluster::{ClientRecord, ClusterOp, Entry, Incarnation, Mid, RouteKind, Shared, Token, new_uid};
use crate::store::{Journal, Op, Receipt, StoreError, StoredSession, Uid};
use crate::topic::TopicFilter;

/// What makes a broker a node of a cluster.
pub(crate) struct NodeSettings {
    pub(crate) store: Arc<dyn Shared>,
    /// How long a node may be silent.
    pub(crate) lease: Duration,
    pub(crate) name: Arc<str>,
    /// How long connections stay open without the store.
    pub(crate) isolation_limit: Duration,
}

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
    questions: Questions,
    heart: Heart,
    lease: Duration,
    /// See [`NodeSettings`].
    pub(crate) name: Arc<str>,
    isolation_limit: Duration,
    /// Where the HTTP listener is, if there is one.
    http: Mutex<Option<Box<str>>>,
    /// Each node's counter, and since when it is that.
    beats: Mutex<HashMap<Incarnation, (u64, Instant)>>,
    /// Told when something may have been missed of what was put into the queues of sessions here.
    looks_for_missed: Notify,
    asking: Asking,
    /// Of messages that a dead node had begun: which member of a Shared Subscription has them, or is to.
    choices: Mutex<HashMap<Mid, Vec<Choice>>>,
    works: Works,
    settling: Settling,
    touched: Touched,
    is_leaving: AtomicBool,
    /// For what the threads of the store begin.
    runtime: Handle,
    pub(crate) counters: Counters,
}

/// What is asked for each client that connects.
struct Questions {
    clients: Arc<Gathered<Arc<str>, ClientRecord>>,
    sessions: Arc<Gathered<Uid, Option<StoredSession>>>,
    inbox: Arc<Gathered<(), ()>>,
    /// Owners who are to be told that somebody waits.
    wants: Arc<Gathered<(Token, Arc<str>), ()>>,
}

impl Questions {
    fn new(store: &Arc<dyn Shared>) -> Questions {
        Questions {
            clients: Gathered::new(store, |store, client_ids| store.clients(client_ids)),
            sessions: Gathered::new(store, |store, uids| store.these(uids)),
            inbox: Gathered::new(store, |store, asked| store.empty_inbox().map(|()| asked.to_vec())),
            wants: Gathered::new(store, |store, wanted| {
                store.want(wanted).map(|()| vec![(); wanted.len()])
            }),
        }
    }
}

/// A member of a Shared Subscription that is to get a message.
#[derive(Clone, Debug)]
struct Choice {
    share: TopicFilter,
    uid: Uid,
}

/// A node and what it knows of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub(crate) incarnation: Incarnation,
    pub(crate) nodes: usize,
    pub(crate) routes: usize,
    pub(crate) sessions: usize,
    pub(crate) heartbeat_age: Duration,
    /// Time since the store has last answered whoever reads the log and the inbox.
    pub(crate) contact_age: Duration,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) claims_waited: AtomicU64,
    pub(crate) recovered_nodes: AtomicU64,
    pub(crate) recovered_clients: AtomicU64,
    /// Sessions whose messages of Shared Subscriptions were given to others.
    pub(crate) rests_given: AtomicU64,
    /// Messages that were put into queues again which Redis had lost, and those that could not be.
    pub(crate) appended_again: AtomicU64,
    pub(crate) not_appended_again: AtomicU64,
    pub(crate) inbox_messages: AtomicU64,
    pub(crate) entries_applied: AtomicU64,
    /// Entries of the log that were not applied yet when this was looked at last.
    pub(crate) log_lag: AtomicU64,
}

impl Cluster {
    pub(crate) fn new(node: NodeSettings, journal: Arc<Journal>, limits: &Arc<OutboxLimits>) -> Cluster {
        let NodeSettings {
            store,
            lease,
            name,
            isolation_limit,
        } = node;
        let incarnation = store.incarnation();
        Cluster {
            mirror: Mirror::new(incarnation, Arc::clone(&journal), Arc::clone(limits)),
            routes: LocalRoutes::default(),
            incarnation,
            tokens: AtomicU64::new(1),
            sessions: AtomicU32::new(1),
            mids: AtomicU64::new(1),
            waiting: Mutex::default(),
            questions: Questions::new(&store),
            heart: Heart::new(lease),
            lease,
            name,
            isolation_limit,
            http: Mutex::default(),
            beats: Mutex::default(),
            looks_for_missed: Notify::new(),
            asking: Asking::default(),
            choices: Mutex::default(),
            works: Works::default(),
            settling: Settling::default(),
            touched: Touched::default(),
            is_leaving: AtomicBool::new(false),
            runtime: Handle::current(),
            store,
            journal,
            counters: Counters::default(),
        }
    }

    /// What there is to be seen.
    pub(crate) fn glance(&self) -> Glance {
        let sizes = self.mirror.sizes();
        Glance {
            incarnation: self.incarnation,
            nodes: self.mirror.living().len(),
            routes: sizes.routes,
            sessions: sizes.sessions,
            contact_age: self.store.last_contact().map_or(Duration::MAX, |at| at.elapsed()),
            heartbeat_age: self.heart.age().unwrap_or(Duration::MAX),
        }
    }

    /// Whether this node may have been declared dead: until it knows better, it sends nothing that others may be sending as well.
    pub(crate) fn is_stale(&self) -> bool {
        self.heart.is_stale() || self.store.is_over()
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
        if number == LAST_SESSION {
            self.store.end("it has made as many sessions as it has names for");
        }
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

    /// Asks the store for somebody who does not wait for long.
    async fn ask_soon<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let asked = tokio::time::timeout(SOON, self.ask(ask)).await;
        asked.unwrap_or_else(|_| Err(StoreError::Unavailable("the store does not answer in time".to_owned())))
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

/// Behind it there are names enough for those who are connecting.
const LAST_SESSION: u32 = u32::MAX - (1 << 20);
/// Before what the store did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(200);
/// Whoever looks after a cluster wants to know soon that nothing can be known.
const SOON: Duration = Duration::from_secs(4);

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
        heart::beat_once(cluster);
        heart::beat_meanwhile(cluster, || self.load_mirror(cluster))?;
        cluster.store.follow_log(Arc::new(events::Events::new(self)))?;
        if heart::beat_once(cluster) == heart::Beat::Over {
            return Err(StoreError::Unavailable(
                "the others have declared this node dead while it was starting".to_owned(),
            ));
        }
        let (beats, looks) = (OwnThread::start("heartbeat")?, OwnThread::start("cluster")?);
        Ok(vec![
            tokio::spawn(about::run(Arc::clone(self))).abort_handle(),
            tokio::spawn(expired::run(Arc::clone(self))).abort_handle(),
            tokio::spawn(missed::run(Arc::clone(self))).abort_handle(),
            tokio::spawn(heart::run(Arc::clone(self), beats)).abort_handle(),
            tokio::spawn(watch::run(Arc::clone(self), looks)).abort_handle(),
            tokio::spawn(sweep::run(Arc::clone(self))).abort_handle(),
            tokio::spawn(settle::run(Arc::clone(self))).abort_handle(),
        ])
    }

    /// The store is lost. What this node knows is for the next one of its process, if Redis has lost some of it.
    pub(crate) fn hand_over(&self) {
        let Some(cluster) = &self.cluster else { return };
        let online = self.registry.online_outboxes().into_iter();
        let online = online.map(|outbox| Arc::clone(&outbox.client_id));
        let clients: std::collections::BTreeSet<_> = online.chain(cluster.touched.all()).collect();
        cluster
            .store
            .hand_over(clients.iter().map(|client_id| (**client_id).into()).collect());
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
