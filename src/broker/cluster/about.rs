//! What nodes tell each other of themselves, and what all of it comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Cluster;
use crate::broker::core::Core;
use crate::broker::inspect::{ClusterNode, ClusterState, NodeRef, Recovery};
use crate::store::StoreError;
use crate::store::cluster::{About, Incarnation, Overview};

/// Between what a node tells of itself.
const PAUSE: Duration = Duration::from_secs(1);
/// What is asked for `$SYS` is soon answered, or not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

type Count = fn(&Core, &Cluster) -> u64;

/// What a node counts. Other versions may know more or fewer of them: new ones come behind the others.
const FIGURES: [(&str, Count); 21] = [
    ("connected_clients", |core, _| core.registry.online() as u64),
    ("owned_sessions", |_, cluster| cluster.mirror.sizes().owned as u64),
    ("own_subscriptions", Cluster::own_subscriptions),
    ("received_packets", |core, _| count(&core.stats.packets_received)),
    ("sent_packets", |core, _| count(&core.stats.packets_sent)),
    ("received_bytes", |core, _| count(&core.stats.bytes_received)),
    ("sent_bytes", |core, _| count(&core.stats.bytes_sent)),
    ("publish_received_messages", |core, _| {
        count(&core.stats.publish_received)
    }),
    ("publish_sent_messages", |core, _| count(&core.stats.publish_sent)),
    ("publish_received_bytes", |core, _| {
        count(&core.stats.publish_bytes_received)
    }),
    ("publish_sent_bytes", |core, _| count(&core.stats.publish_bytes_sent)),
    ("discarded_messages", |core, _| core.stats.all_discards()),
    ("recovered_nodes", |_, cluster| count(&cluster.counters.recovered_nodes)),
    ("recovered_clients", |_, cluster| {
        count(&cluster.counters.recovered_clients)
    }),
    ("claims_waited", |_, cluster| count(&cluster.counters.claims_waited)),
    ("inbox_messages", |_, cluster| count(&cluster.counters.inbox_messages)),
    ("applied_log_entries", |_, cluster| {
        count(&cluster.counters.entries_applied)
    }),
    ("committed_batches", |_, cluster| {
        cluster.journal.commits().within.last().copied().unwrap_or_default()
    }),
    ("last_commit_microseconds", |_, cluster| {
        (cluster.journal.commits().last_seconds * 1e6) as u64
    }),
    ("store_failing", |_, cluster| u64::from(cluster.journal.is_failing())),
    ("given_rests", |_, cluster| count(&cluster.counters.rests_given)),
];

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What a node has said of one of them.
fn figure(about: &About, name: &str) -> u64 {
    let place = FIGURES.iter().position(|(known, _)| *known == name);
    let figure = place.and_then(|place| about.figures.get(place));
    figure.copied().unwrap_or_default()
}

/// Sums over the nodes that live, for `$SYS/cluster/`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) nodes: usize,
    /// Sessions that are kept.
    pub(crate) sessions: u64,
    /// Retained messages, without those that are one node's own.
    pub(crate) retained: u64,
    abouts: Vec<About>,
    /// Those of sessions that are kept.
    subscriptions: u64,
}

impl Totals {
    pub(crate) fn of(&self, figure_name: &str) -> u64 {
        self.abouts.iter().map(|about| figure(about, figure_name)).sum()
    }

    /// Sessions whose clients are away.
    pub(crate) fn away(&self) -> u64 {
        self.sessions.saturating_sub(self.of("owned_sessions"))
    }

    pub(crate) fn subscriptions(&self) -> u64 {
        self.subscriptions + self.of("own_subscriptions")
    }
}

/// Tells the others of this node until the broker ends.
pub(super) async fn run(core: Arc<Core>) {
    let Some(cluster) = core.cluster.clone() else { return };
    loop {
        let about = cluster.about(&core);
        match cluster.ask(move |store| store.announce(&about)).await {
            Ok(lag) => cluster.counters.log_lag.store(lag, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "the others could not be told of this node"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Cluster {
    /// This node, as that of a client.
    pub(crate) fn own_ref(&self) -> NodeRef {
        NodeRef {
            node: self.incarnation,
            name: Arc::clone(&self.name),
        }
    }

    /// From now on the others are told that the HTTP listener is there.
    #[cfg(feature = "cli")]
    pub(crate) fn set_http(&self, url: Option<String>) {
        *self.http.lock() = url.map(Box::from);
    }

    fn about(&self, core: &Core) -> About {
        About {
            name: (&*self.name).into(),
            version: env!("CARGO_PKG_VERSION").into(),
            http: self.http.lock().clone(),
            since: Some(core.clock.started()),
            lease: Some(self.lease),
            figures: FIGURES.iter().map(|(_, count)| count(core, self)).collect(),
        }
    }

    /// Subscriptions that no other node counts: of sessions here of which nothing is kept.
    fn own_subscriptions(core: &Core, cluster: &Cluster) -> u64 {
        let sizes = cluster.mirror.sizes();
        let own = core.router.subscriptions().saturating_sub(sizes.routes);
        own.saturating_sub(sizes.subscriptions) as u64
    }

    /// What all nodes come to; `None` if the store does not say so soon.
    pub(crate) async fn totals(&self) -> Option<Totals> {
        if self.journal.is_failing() {
            // Who has asked in vain takes a connection until the time is over.
            return None;
        }
        let asked = self.ask(|store| Ok((store.overview()?, store.count_sessions()?)));
        let (overview, sessions) = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        let lives = |node: Incarnation| overview.nodes.iter().any(|(other, _)| *other == node);
        let abouts = overview.about.iter().filter(|(node, _)| lives(*node));
        Some(Totals {
            nodes: overview.nodes.len(),
            sessions,
            retained: overview.retained,
            abouts: abouts.map(|(_, about)| about.clone()).collect(),
            subscriptions: self.mirror.sizes().subscriptions as u64,
        })
    }
}

impl Core {
    /// The cluster, as the store and this node see it.
    pub(crate) async fn cluster_state(&self, cluster: &Cluster) -> Result<ClusterState, StoreError> {
        let mut overview = cluster.ask_soon(|store| store.overview()).await?;
        // What it says of itself is as old as a second.
        overview.about.retain(|(node, _)| *node != cluster.incarnation);
        overview.about.push((cluster.incarnation, cluster.about(self)));
        let nodes = overview.nodes.iter();
        let recoveries = overview.recoverers.iter();
        Ok(ClusterState {
            node: cluster.incarnation,
            nodes: nodes
                .map(|(node, applied)| cluster.node(&overview, *node, *applied))
                .collect(),
            recoveries: recoveries
                .map(|(dead, by)| Recovery {
                    node: *dead,
                    name: name_of(&overview, *dead),
                    by: *by,
                })
                .collect(),
            log_position: overview.position,
            log_entries: overview.log_entries,
            routes: overview.routes,
            retained_messages: overview.retained,
            lease: cluster.lease,
        })
    }
}

fn about_of(overview: &Overview, node: Incarnation) -> Option<&About> {
    let found = overview.about.iter().find(|(other, _)| *other == node);
    found.map(|(_, about)| about)
}

fn name_of(overview: &Overview, node: Incarnation) -> Option<String> {
    about_of(overview, node).map(|about| about.name.to_string())
}

impl Cluster {
    fn node(&self, overview: &Overview, node: Incarnation, applied: u64) -> ClusterNode {
        let about = about_of(overview, node);
        let seen = self.beats.lock().get(&node).map(|(_, since)| since.elapsed());
        ClusterNode {
            node,
            name: name_of(overview, node),
            version: about.map(|about| about.version.to_string()),
            http: about.and_then(|about| about.http.as_deref()).map(str::to_owned),
            since: about.and_then(|about| about.since),
            log_lag: overview.position.saturating_sub(applied),
            heartbeat_age: match node == self.incarnation {
                true => self.heart.age(),
                false => seen,
            },
            figures: about.map_or_else(Vec::new, |about| {
                let figures = FIGURES.iter().zip(&about.figures);
                figures.map(|((name, _), value)| (*name, *value)).collect()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of another version may tell fewer figures, or more.
    #[test]
    fn sums_are_of_what_nodes_tell() {
        let about = |figures: &[u64]| About {
            figures: figures.to_vec(),
            ..About::default()
        };
        let totals = Totals {
            nodes: 3,
            sessions: 10,
            retained: 0,
            abouts: vec![about(&[1, 2, 3]), about(&[10]), about(&[100; 30])],
            subscriptions: 7,
        };
        assert_eq!(totals.of("connected_clients"), 111);
        assert_eq!(totals.of("owned_sessions"), 102);
        assert_eq!(totals.subscriptions(), 110);
        assert_eq!(totals.away(), 0);
    }
}
