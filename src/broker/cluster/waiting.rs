//! A connection that waits for its client, which another connection has, or whose wills are being published.
//!
//! It is told when it has it. What is told may get lost, so it looks now and then, and tells the owner again: the one with the need asks,
//! and less often the longer it waits, as there may be thousands of them when a node has died.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Cluster;
use crate::broker::core::Core;
use crate::store::cluster::{ClientRecord, Token};

/// See the module.
pub(super) struct Waiting<'a> {
    cluster: &'a Cluster,
    client_id: &'a Arc<str>,
    told: Arc<Notify>,
}

/// Between two looks, at first and in the end.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(1);

impl<'a> Waiting<'a> {
    pub(super) fn begin(cluster: &'a Cluster, client_id: &'a Arc<str>) -> Waiting<'a> {
        let told = Arc::new(Notify::new());
        let mut waiting = cluster.waiting.lock();
        waiting
            .entry(Arc::clone(client_id))
            .or_default()
            .push(Arc::clone(&told));
        drop(waiting);
        Waiting {
            cluster,
            client_id,
            told,
        }
    }

    /// Waits until it has the client. `None` if another one will have it.
    pub(super) async fn wait_for(&self, core: &Arc<Core>, token: Token, mut record: ClientRecord) -> Option<()> {
        let mut pause = FIRST_LOOK;
        while record.owner != Some(token) {
            if record.next != Some(token) {
                return None;
            }
            let told = tokio::time::timeout(pause, self.told.notified()).await;
            pause = (pause * 2).min(LAST_LOOK);
            record = self.cluster.read_client(self.client_id).await;
            let owner = record.owner.filter(|_| told.is_err() && record.next == Some(token));
            if let Some(owner) = owner {
                self.want_again(core, owner).await;
            }
        }
        Some(())
    }

    /// Waits until the wills of the client's connections before have been published: what it publishes comes behind them. What there is
    /// of the client then, or when nobody waits any more.
    pub(super) async fn until_wills_are_out(
        &self,
        mut record: ClientRecord,
        is_over: impl Fn() -> bool,
    ) -> ClientRecord {
        let mut pause = FIRST_LOOK;
        while record.has_wills && !is_over() {
            let _ = tokio::time::timeout(pause, self.told.notified()).await;
            pause = (pause * 2).min(LAST_LOOK);
            record = self.cluster.read_client(self.client_id).await;
        }
        record
    }

    /// The owner may not have heard of it. A dead one hears nothing.
    async fn want_again(&self, core: &Arc<Core>, from: Token) {
        if from.incarnation == self.cluster.incarnation {
            return core.give_up(self.client_id, from);
        }
        if self.cluster.mirror.lives(from.incarnation) {
            let told = self
                .cluster
                .questions
                .wants
                .ask((from, Arc::clone(self.client_id)))
                .await;
            if let Err(error) = told {
                tracing::debug!(%error, "the owner of a client can't be told that it is wanted");
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.cluster.waiting.lock();
        if let Some(all) = waiting.get_mut(self.client_id) {
            all.retain(|other| !Arc::ptr_eq(other, &self.told));
            if all.is_empty() {
                waiting.remove(self.client_id);
            }
        }
    }
}

impl Cluster {
    pub(super) fn notify_waiting(&self, client_id: &str) {
        let waiting = self.waiting.lock();
        waiting
            .get(client_id)
            .into_iter()
            .flatten()
            .for_each(|told| told.notify_one());
    }

    pub(super) fn notify_all_waiting(&self) {
        self.waiting
            .lock()
            .values()
            .flatten()
            .for_each(|told| told.notify_one());
    }
}
