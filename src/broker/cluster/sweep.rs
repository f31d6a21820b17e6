//! Wills and sessions of clients that are away, when their time has come: each bucket has one node that looks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Cluster;
use crate::broker::core::Core;
use crate::store::cluster::{ClusterOp, Mid};

/// How often, and how many clients of a bucket at a time.
const PAUSE: Duration = Duration::from_millis(500);
const MOST: usize = 200;

/// Looks until the broker ends. Two nodes that look into the same bucket do no harm.
pub(super) async fn run(core: Arc<Core>) {
    let Some(cluster) = core.cluster.clone() else { return };
    loop {
        tokio::time::sleep(PAUSE).await;
        let buckets = cluster.own_buckets();
        match cluster.ask(move |store| store.due(&buckets, MOST)).await {
            Ok(due) => {
                for (bucket, clients) in due.into_iter().filter(|(_, clients)| *clients > 0) {
                    sweep(&core, &cluster, bucket, clients as u32).await;
                }
            }
            Err(error) => tracing::debug!(%error, "what is due can't be read"),
        }
    }
}

async fn sweep(core: &Arc<Core>, cluster: &Arc<Cluster>, bucket: u8, most: u32) {
    let first = Mid {
        incarnation: cluster.incarnation,
        number: cluster.mids.fetch_add(u64::from(most), Ordering::Relaxed),
    };
    cluster.keep([ClusterOp::Sweep { bucket, first, most }]).await;
    let mids: Vec<_> = (0..u64::from(most))
        .map(|more| Mid {
            number: first.number + more,
            ..first
        })
        .map(|mid| (bucket, mid))
        .collect();
    // Only those of this call: another one may have just been finished.
    let jobs = cluster
        .ask_until("what has come due", move |store| store.jobs(&mids))
        .await;
    for job in jobs {
        core.do_job(cluster, job);
    }
}

impl Cluster {
    /// The buckets that fall to this node.
    fn own_buckets(&self) -> Vec<u8> {
        let living = self.mirror.living();
        let Some(place) = living.iter().position(|node| *node == self.incarnation) else {
            return Vec::new();
        };
        (0..=u8::MAX)
            .filter(|bucket| usize::from(*bucket) % living.len() == place)
            .collect()
    }
}
