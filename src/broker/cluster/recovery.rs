//! What a dead node has left behind: its clients become free, its wills and what it had begun are published, each once.
//!
//! Each step can be done again, by this node or by the one that recovers it. The order is that of `tests/cluster/PROTOCOL.md`:
//! from the fence on no late call of the dead node can do anything; what it had begun is finished before its clients are free; what it
//! has done once is forgotten when all of that is kept.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Choice, Cluster};
use crate::broker::core::{Core, RouteScratch};
use crate::store::Op;
use crate::store::cluster::{ClusterOp, How, Incarnation, Members, bucket_of_client};
use crate::topic::TopicFilter;
use parking_lot::Mutex;

/// The nodes that this one recovers at the moment.
#[derive(Debug, Default)]
pub(super) struct Recovering(Arc<Mutex<HashSet<Incarnation>>>);

impl Recovering {
    /// Begins what falls to this node and has not been begun; takes over from recoverers that are dead themselves.
    pub(super) fn begin(&mut self, core: &Arc<Core>, cluster: &Arc<Cluster>, members: &Members) {
        for (dead, recoverer) in &members.recoverers {
            if *recoverer != cluster.incarnation || !self.0.lock().insert(*dead) {
                continue;
            }
            let (core, cluster, dead) = (Arc::clone(core), Arc::clone(cluster), *dead);
            let recovering = Arc::clone(&self.0);
            tokio::spawn(async move {
                recover(&core, &cluster, dead).await;
                recovering.lock().remove(&dead);
            });
        }
    }
}

async fn recover(core: &Arc<Core>, cluster: &Arc<Cluster>, dead: Incarnation) {
    tracing::info!(node = dead, "recovering what a dead node has left");
    let everywhere = |op: fn(u8, Incarnation) -> ClusterOp<'static>| (0..=u8::MAX).map(move |bucket| op(bucket, dead));
    cluster
        .keep(everywhere(|bucket, node| ClusterOp::Fence { bucket, node }))
        .await;
    cluster.keep([ClusterOp::TakeOver { node: dead }]).await;
    finish(core, cluster, dead).await;
    let clients = free_clients(cluster, dead, core.config().will_grace).await;
    // Wills, and what members have left.
    finish(core, cluster, dead).await;
    cluster.keep([ClusterOp::Destroy { node: dead }]).await;
    cluster
        .keep(everywhere(|bucket, node| ClusterOp::ForgetOf { bucket, node }))
        .await;
    cluster.keep([ClusterOp::Recovered { node: dead }]).await;
    cluster.counters.recovered_nodes.fetch_add(1, Ordering::Relaxed);
    cluster
        .counters
        .recovered_clients
        .fetch_add(clients as u64, Ordering::Relaxed);
    tracing::info!(node = dead, clients, "recovered what a dead node had left");
}

/// Clients wait for their wills, but for no rest.
async fn finish(core: &Arc<Core>, cluster: &Arc<Cluster>, dead: Incarnation) {
    tokio::join!(finish_jobs(core, cluster, dead), finish_rests(core, cluster, dead));
}

async fn finish_rests(core: &Arc<Core>, cluster: &Arc<Cluster>, dead: Incarnation) {
    let rests = cluster
        .ask_until("what members of a dead node have left", move |store| {
            store.rests_of(dead)
        })
        .await;
    core.give_rests(cluster, rests).await;
}

async fn finish_jobs(core: &Arc<Core>, cluster: &Arc<Cluster>, dead: Incarnation) {
    let mut jobs = cluster
        .ask_until("what a dead node had begun", move |store| store.jobs_of(dead))
        .await;
    let mids: Vec<_> = jobs.iter().map(|job| job.mid).collect();
    for job in &mut jobs {
        // A group has one member that gets it, whom the dead node may have chosen.
        let choices = std::mem::take(&mut job.choices).into_iter();
        let choices = choices.filter_map(|(share, uid)| {
            let share = TopicFilter::parse(&share).ok()?;
            Some(Choice { share, uid })
        });
        let choices = choices.collect();
        cluster.choices.lock().insert(job.mid, choices);
    }
    core.do_jobs(cluster, jobs).await;
    mids.iter().for_each(|mid| drop(cluster.choices.lock().remove(mid)));
}

/// How many there were.
async fn free_clients(cluster: &Arc<Cluster>, dead: Incarnation, grace: u32) -> usize {
    let clients = cluster
        .ask_until("the clients of a dead node", move |store| store.owned_by(dead))
        .await;
    let mut scratch = RouteScratch::default();
    let is_older = dead <= cluster.store.generation();
    let lost = cluster.settling.lost();
    for client_id in &clients {
        let free = ClusterOp::Free {
            node: dead,
            client_id,
            mid: cluster.new_mid(),
            // All connections of its generation have been closed, and their clients may come back.
            how: match is_older {
                true => How::Left { grace },
                false => How::Lost,
            },
            ends: is_older && lost.has_bucket(bucket_of_client(client_id)),
        };
        scratch.pen().write(&cluster.journal, &Op::Cluster(free));
    }
    let receipt = scratch.pen().receipt();
    drop(scratch);
    if let Some(receipt) = receipt {
        receipt.kept().await;
    }
    clients.len()
}
