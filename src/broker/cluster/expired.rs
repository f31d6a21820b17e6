//! Retained messages that have expired: the log removes them, on all nodes and in the store, so that they do not count to the limit.
//!
//! Nobody is sent one that has expired. It stays in memory until the log says that it goes: so whichever node is the first of those
//! that live finds it, also if the one that was the first before has died with its changes under way.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::store::cluster::ClusterOp;
use crate::store::{Op, Receipt};

const PAUSE: Duration = Duration::from_secs(1);
/// Messages that go with one batch.
const AT_A_TIME: usize = 5000;

/// Looks until the broker ends.
pub(super) async fn run(core: Arc<Core>) {
    let Some(cluster) = core.cluster.clone() else { return };
    loop {
        tokio::time::sleep(PAUSE).await;
        // By the time that it is kept, the log has been applied here, and nothing is found twice.
        if cluster.is_first()
            && let Some(receipt) = core.write_expired(&cluster)
        {
            receipt.kept().await;
        }
    }
}

impl Cluster {
    fn is_first(&self) -> bool {
        self.mirror.living_from(0) == Some(self.incarnation)
    }
}

impl Core {
    /// What is to be waited for, if something has expired.
    fn write_expired(&self, cluster: &Cluster) -> Option<Receipt> {
        let expired = self.router.retained.expired(self.clock.now(), AT_A_TIME);
        let mut scratch = RouteScratch::default();
        for (at, topic) in &expired {
            let op = ClusterOp::Expire { topic, at: *at };
            scratch.pen().write(&cluster.journal, &Op::Cluster(op));
        }
        scratch.pen().receipt()
    }
}
