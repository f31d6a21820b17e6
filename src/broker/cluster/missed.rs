//! Messages in the queues of sessions here of which this node was not told, since what is said between nodes may get lost.
//!
//! Each session is looked after once a minute, and all when something may have been missed. What is asked for is the last place of each
//! queue, for hundreds of sessions at a time: a session that knows it reads nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use crate::broker::core::Core;
use crate::session::Outbox;

/// Between two parts of all sessions, and how many parts there are.
const PAUSE: Duration = Duration::from_secs(1);
const PARTS: usize = 60;
/// Sessions that are asked about at a time.
const AT_A_TIME: usize = 500;

/// Looks until the broker ends.
pub(super) async fn run(core: Arc<Core>) {
    let Some(cluster) = core.cluster.clone() else { return };
    let mut part = 0;
    loop {
        let is_told = tokio::time::timeout(PAUSE, cluster.looks_for_missed.notified())
            .await
            .is_ok();
        let mut owned = cluster.mirror.all_owned();
        if !is_told {
            part = (part + 1) % PARTS;
            owned.retain(|outbox| outbox.key as usize / 256 % PARTS == part);
        }
        for outboxes in owned.chunks(AT_A_TIME) {
            if !cluster.look_for_missed(outboxes).await {
                // All of them are to be looked after when the store is back.
                if is_told {
                    cluster.looks_for_missed.notify_one();
                    tokio::time::sleep(PAUSE).await;
                }
                break;
            }
        }
    }
}

impl Cluster {
    /// Whether the store has answered.
    async fn look_for_missed(&self, outboxes: &[Arc<Outbox>]) -> bool {
        let uids: Vec<_> = outboxes.iter().map(|outbox| outbox.key).collect();
        match self.ask(move |store| store.next_places(&uids)).await {
            Ok(places) => {
                let with_place = outboxes.iter().zip(places);
                with_place.for_each(|(outbox, place)| outbox.look_if_below(place));
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the last places of queues can't be read");
                false
            }
        }
    }
}
