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
    cluster.until_settled().await;
    loop {
        tokio::time::sleep(PAUSE).await;
        if cluster.is_leaving() {
            return;
        }
        let buckets = cluster.own_buckets();
        match cluster.ask(move |store| store.due(&buckets, MOST)).await {
            Ok(due) => {
                for (bucket, clients) in due.into_iter().filter(|(_, clients)| *clients > 0) {
                    sweep(&cluster, bucket, clients as u32).await;
                }
            }
            Err(error) => tracing::debug!(%error, "what is due can't be read"),
        }
    }
}

async fn sweep(cluster: &Arc<Cluster>, bucket: u8, most: u32) {
    let first = Mid {
        incarnation: cluster.incarnation,
        number: cluster.mids.fetch_add(u64::from(most), Ordering::Relaxed),
    };
    // What has come of it, the store tells.
    cluster.keep([ClusterOp::Sweep { bucket, first, most }]).await;
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
