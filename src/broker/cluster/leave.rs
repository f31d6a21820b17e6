//! A node that leaves in good order: nobody has to find out that it is gone, and nothing of it stays.
//!
//! Order: its clients are released, and what that leaves to do is done; what it recovers is recovered; then it gives up each bucket, and in the end
//! its place among the nodes. One that dies between is declared dead, and there is less to recover.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Cluster;

/// Before it is looked again whether there is something left.
const AGAIN: Duration = Duration::from_millis(50);

impl Cluster {
    /// Nobody is declared dead by this node from now on, and nothing that is due is looked for.
    pub(crate) fn begin_to_leave(&self) {
        self.is_leaving.store(true, Ordering::Release);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Leaves the cluster, if the store answers. To be called when all connections have ended.
    pub(crate) async fn leave(self: &Arc<Cluster>) {
        loop {
            self.all_done().await;
            self.keep_all().await;
            if self.recovers_nobody().await && self.has_departed().await {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        while let Err(error) = self.ask(|store| store.bye()).await {
            tracing::debug!(%error, "the cluster can't be left: that is tried again");
            tokio::time::sleep(AGAIN).await;
        }
        tracing::info!("left the cluster: nothing of this node is left in it");
    }

    async fn recovers_nobody(&self) -> bool {
        let members = self
            .ask_until("the members of the cluster", |store| store.members())
            .await;
        !members
            .recoverers
            .iter()
            .any(|(_, recoverer)| *recoverer == self.incarnation)
    }

    async fn has_departed(&self) -> bool {
        match self.ask(|store| store.depart()).await {
            Ok(buckets) => buckets.is_empty(),
            Err(error) => {
                tracing::debug!(%error, "the buckets can't be given up: that is tried again");
                false
            }
        }
    }
}
