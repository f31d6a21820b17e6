//! What sessions that have ended leave behind: QoS 1 messages of Shared Subscriptions, which go on to other members
//! [MQTT-4.8.2-5], and wills that are due.
//!
//! A rest is the queue of such a session, and the duty of one node to empty it. That stays until its messages are kept by others: a
//! node that dies between leaves both.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Cluster;
use crate::broker::core::{Core, RouteScratch};
use crate::session::delivery_of;
use crate::store::cluster::{ClusterOp, Mid, Rest};
use crate::store::{Lane, Page, StoredDelivery, Uid};

/// Read at a time, and kept by others before more is read.
const PAGE: Page = Page {
    messages: 500,
    bytes: 256 * 1024,
};

impl Core {
    /// Does what calls of this node have left it to do.
    pub(super) fn do_soon(self: &Arc<Core>, cluster: &Arc<Cluster>, jobs: &[(u8, Mid)], rests: &[Rest]) {
        let (core, cluster) = (Arc::clone(self), Arc::clone(cluster));
        let (mids, rests) = (jobs.to_vec(), rests.to_vec());
        let work = cluster.begin_work();
        let runtime = cluster.runtime.clone();
        runtime.spawn(async move {
            let jobs = match mids.is_empty() {
                true => Vec::new(),
                false => {
                    let mids = Arc::new(mids);
                    cluster.ask_until("what is due", move |store| store.jobs(&mids)).await
                }
            };
            tokio::join!(core.do_jobs(&cluster, jobs), core.give_rests(&cluster, rests));
            drop(work);
        });
    }

    /// Gives to other members what sessions have left.
    pub(super) async fn give_rests(self: &Arc<Core>, cluster: &Arc<Cluster>, rests: Vec<Rest>) {
        for Rest { mid, uid, .. } in rests {
            self.give_rest(cluster, uid).await;
            cluster.keep([ClusterOp::FinishRest { uid, mid }]).await;
            cluster.counters.rests_given.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn give_rest(self: &Arc<Core>, cluster: &Arc<Cluster>, uid: Uid) {
        let mut from = 0;
        loop {
            let page = cluster
                .ask_until("messages of shared subscriptions", move |store| {
                    store.queue(uid, Lane::Live, from, PAGE)
                })
                .await;
            let Some(last) = page.last() else { return };
            from = last.index + 1;
            self.give_page(page);
            cluster.keep_all().await;
        }
    }

    fn give_page(&self, page: Vec<StoredDelivery>) {
        let mut scratch = RouteScratch::default();
        for delivery in page.into_iter().filter_map(|stored| delivery_of(stored, Lane::Live)) {
            if delivery.share().is_some() && !delivery.message.has_expired(&self.clock) {
                self.reroute_shared(&delivery, &mut scratch);
            }
        }
    }
}
