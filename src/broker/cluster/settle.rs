//! What a node does before it serves anybody if there is something of incarnations that are over because Redis has lost writes: see
//! "When Redis loses writes" in `tests/cluster/PROTOCOL.md`.
//!
//! Order:
//! 1. The incarnations before of this process are over, and so is all that nobody knows any more.
//! 2. Nothing of an older generation is at work.
//! 3. Sessions of this process that may have sent what is not in their queues now end: their clients are told so.
//! 4. What is of older generations is recovered, by whoever it falls to.
//! 5. What had been confirmed, and was lost, is put into queues again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::session::Delivery;
use crate::store::cluster::{Again, ClusterOp, Homes, Incarnation, Inherited, Members, bucket_of_client};
use crate::store::{Op, StoreError};

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Settling {
    may_recover: AtomicBool,
    is_done: AtomicBool,
    done: Notify,
    /// Homes that have lost writes of the generation before.
    lost: parking_lot::Mutex<Homes>,
}

/// Before it is looked again how far others are.
const AGAIN: Duration = Duration::from_millis(100);

impl Settling {
    /// Whether what dead nodes have left may be dealt with.
    pub(super) fn may_recover(&self) -> bool {
        self.may_recover.load(Ordering::Acquire)
    }

    pub(super) fn lost(&self) -> Homes {
        *self.lost.lock()
    }

    pub(super) async fn until_done(&self) {
        loop {
            let done = self.done.notified();
            if self.is_done.load(Ordering::Acquire) {
                return;
            }
            done.await;
        }
    }

    fn done(&self) {
        self.may_recover.store(true, Ordering::Release);
        self.is_done.store(true, Ordering::Release);
        self.done.notify_waiters();
    }
}

pub(super) async fn run(core: Arc<Core>) {
    let Some(cluster) = core.cluster.clone() else { return };
    let inherited = cluster.store.inherited();
    if cluster.store.generation() > 0 || !inherited.nodes.is_empty() {
        settle(&core, &cluster, inherited).await;
    }
    cluster.settling.done();
}

async fn settle(core: &Arc<Core>, cluster: &Arc<Cluster>, inherited: Inherited) {
    let Inherited { nodes, clients } = inherited;
    let had_any = !nodes.is_empty();
    cluster.retire(nodes).await;
    let members = cluster.until_no_older().await;
    *cluster.settling.lost.lock() = members.lost;
    cluster.retire_strangers(&members).await;
    let ended = cluster
        .end_sessions(&clients, members.lost, core.config().will_grace)
        .await;
    cluster.settling.may_recover.store(true, Ordering::Release);
    cluster.until_recovered().await;
    let again = cluster.append_again().await;
    cluster.store.has_settled();
    if had_any {
        say(&again, ended, members.lost);
    }
    cluster.count_again(&again);
    core.give_again(again).await;
}

fn say(again: &Again, sessions: usize, homes: Homes) {
    tracing::warn!(
        homes = %homes,
        appended = again.made + again.for_others.len() as u64,
        not_appended = again.full + again.forgotten,
        sessions,
        of_ended_sessions = again.gone,
        "what Redis had lost of what this process knows is in order: messages are in queues again, and sessions have ended whose \
         clients may have lost some"
    );
}

impl Cluster {
    /// Whether what incarnations before have left has been dealt with, so that clients can be served.
    pub(crate) async fn until_settled(&self) {
        self.settling.until_done().await;
    }

    fn is_older(&self, node: Incarnation) -> bool {
        node <= self.store.generation()
    }

    async fn retire(self: &Arc<Cluster>, nodes: impl IntoIterator<Item = Incarnation>) {
        self.keep(nodes.into_iter().map(|node| ClusterOp::Retire { node }))
            .await;
    }

    async fn members(&self) -> Members {
        self.ask_until("the members of the cluster", |store| store.members())
            .await
    }

    /// Those that have begun anew say so of the ones before; those that don't are declared dead.
    async fn until_no_older(&self) -> Members {
        loop {
            let members = self.members().await;
            if !members.nodes.iter().any(|(node, _)| self.is_older(*node)) {
                return members;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Incarnations whose beginning, end or recovery was lost.
    async fn retire_strangers(self: &Arc<Cluster>, members: &Members) {
        let mut known = self.ask_until("who may write", |store| store.writers()).await;
        known.extend(members.recoverers.iter().map(|(_, by)| *by));
        known.sort_unstable();
        known.dedup();
        let is_new = |node: &Incarnation| !members.recoverers.iter().any(|(dead, _)| dead == node);
        let strangers = known.into_iter().filter(|node| self.is_older(*node)).filter(is_new);
        self.retire(strangers).await;
    }

    /// Of those that were connected to this process lately, where writes were lost. How many they may be.
    async fn end_sessions(self: &Arc<Cluster>, clients: &[Box<str>], lost: Homes, grace: u32) -> usize {
        let mut scratch = RouteScratch::default();
        let touched = clients.iter().filter(|id| lost.has_bucket(bucket_of_client(id)));
        let mut ended = 0;
        for client_id in touched {
            let end = ClusterOp::EndSession {
                client_id,
                generation: self.store.generation(),
                grace,
                mid: self.new_mid(),
            };
            scratch.pen().write(&self.journal, &Op::Cluster(end));
            ended += 1;
        }
        let receipt = scratch.pen().receipt();
        drop(scratch);
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
        // The wills and rests of these sessions are done by tasks of their own.
        self.all_done().await;
        ended
    }

    async fn until_recovered(&self) {
        loop {
            let members = self.members().await;
            if !members.recoverers.iter().any(|(dead, _)| self.is_older(*dead)) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn append_again(&self) -> Again {
        loop {
            match self.ask(|store| store.append_again()).await {
                Ok(again) => return again,
                // The store is over, and this process begins again once more.
                Err(StoreError::Refused(_)) => std::future::pending().await,
                Err(error) => tracing::debug!(%error, "what was lost can't be put into queues yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn count_again(&self, again: &Again) {
        let appended = again.made + again.for_others.len() as u64;
        self.counters.appended_again.fetch_add(appended, Ordering::Relaxed);
        let lost = again.full + again.forgotten;
        self.counters.not_appended_again.fetch_add(lost, Ordering::Relaxed);
    }
}

impl Core {
    /// Gives to other members of Shared Subscriptions what the ones before can't have any more.
    async fn give_again(self: &Arc<Core>, again: Again) {
        if again.for_others.is_empty() {
            return;
        }
        let mut scratch = RouteScratch::default();
        for message in again.for_others {
            self.reroute_shared(&Delivery::from_stored(message), &mut scratch);
        }
        let receipt = scratch.pen().receipt();
        drop(scratch);
        if let Some(receipt) = receipt {
            receipt.kept().await;
        }
    }
}
