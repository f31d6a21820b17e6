//! Whether the others live.
//!
//! A node is dead if its counter was seen unchanged for a lease in which all that this node has asked was answered, and its own heartbeats
//! were taken: an outage of the store kills nobody, nor does one that can be read and not be written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::own_thread::OwnThread;
use super::{Cluster, recovery};
use crate::broker::core::Core;
use crate::store::cluster::{ClusterOp, Homes, Incarnation, Members};

/// Looks five times in a lease, on a thread of its own, declares dead who is, and recovers what falls to this node.
pub(super) async fn run(core: Arc<Core>, thread: OwnThread) {
    let Some(cluster) = core.cluster.clone() else { return };
    let mut watch = Watch::new(cluster.lease);
    let mut recovering = recovery::Recovering::default();
    let mut epoch = 0;
    loop {
        let asked = Instant::now();
        let store = Arc::clone(&cluster.store);
        match thread.run(move || store.members()).await.flatten() {
            Ok(members) => {
                cluster.note_beats(&members);
                if !cluster.heart.is_heard() || epoch != members.epoch {
                    watch.forget();
                }
                epoch = members.epoch;
                let silent = watch.look(&members, asked, Instant::now(), cluster.incarnation);
                for (node, counter) in silent.into_iter().filter(|_| !cluster.is_leaving()) {
                    tracing::warn!(
                        node,
                        "a node of the cluster is dead: nothing was heard of it for a lease"
                    );
                    let lost = cluster.homes_without(&members, node);
                    cluster.keep([ClusterOp::Dead { node, counter, lost }]).await;
                }
                if cluster.settling.may_recover() {
                    recovering.begin(&core, &cluster, &members);
                }
            }
            Err(error) => tracing::debug!(%error, "the members of the cluster can't be read"),
        }
        tokio::time::sleep(cluster.lease / 5).await;
    }
}

impl Cluster {
    /// The homes that may lack what a node has written last, if something is known to be lost of its generation: nobody can tell what that
    /// was. A server that has started again, or taken over, and has all that the others know, is taken to have that, too.
    fn homes_without(&self, members: &Members, node: Incarnation) -> Homes {
        if node > members.generation {
            return Homes::default();
        }
        let servers = members.servers.iter().find(|(other, _)| *other == node);
        servers.map_or_else(Homes::default, |(_, servers)| self.store.homes_without(servers))
    }

    /// For people: what is concluded from silence is another matter, see [`Watch`].
    fn note_beats(&self, members: &Members) {
        let now = Instant::now();
        let mut beats = self.beats.lock();
        beats.retain(|node, _| members.nodes.iter().any(|(other, _)| other == node));
        for (node, counter) in &members.nodes {
            let (known, since) = beats.entry(*node).or_insert((*counter, now));
            if known != counter {
                (*known, *since) = (*counter, now);
            }
        }
    }
}

/// What was seen of each node's counter.
struct Watch {
    lease: Duration,
    seen: HashMap<Incarnation, (u64, Instant)>,
    answered: Option<Instant>,
}

impl Watch {
    fn new(lease: Duration) -> Watch {
        Watch {
            lease,
            seen: HashMap::new(),
            answered: None,
        }
    }

    /// Redis takes nothing of this node at the moment, and so perhaps of nobody: silence says nothing.
    fn forget(&mut self) {
        self.seen.clear();
    }

    /// Who is silent for a lease, with the counter that was seen. An answer that was long under way, or long after the one before, says
    /// nothing of what was between.
    fn look(&mut self, members: &Members, asked: Instant, now: Instant, own: Incarnation) -> Vec<(Incarnation, u64)> {
        let half = self.lease / 2;
        let was_long = now.duration_since(asked) > half;
        if was_long || self.answered.is_none_or(|before| now.duration_since(before) > half) {
            self.seen.clear();
        }
        if was_long {
            self.answered = None;
            return Vec::new();
        }
        self.answered = Some(now);
        self.seen
            .retain(|node, _| members.nodes.iter().any(|(other, _)| other == node));
        let mut silent = Vec::new();
        for (node, counter) in members.nodes.iter().copied().filter(|(node, _)| *node != own) {
            // What is read is as old as the question: the silence counts from there, and lasts until the answer to a later one.
            let (known, since) = self.seen.entry(node).or_insert((counter, now));
            if *known != counter {
                (*known, *since) = (counter, now);
            } else if asked.saturating_duration_since(*since) >= self.lease {
                silent.push((node, counter));
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(nodes: &[(Incarnation, u64)]) -> Members {
        Members {
            nodes: nodes.to_vec(),
            ..Members::default()
        }
    }

    /// C4: no death without a lease of silence in which the store answered.
    #[test]
    fn silence_counts_only_while_the_store_answers() {
        let lease = Duration::from_secs(1);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut watch = Watch::new(lease);
        let mut look = |nodes: &[(u64, u64)], asked, answered| watch.look(&members(nodes), at(asked), at(answered), 1);
        for moment in (0..1000).step_by(200) {
            assert_eq!(look(&[(1, 0), (2, 5), (3, moment)], moment, moment + 1), []);
        }
        assert_eq!(look(&[(1, 0), (2, 5), (3, 9)], 1100, 1101), [(2, 5)]);
        // Nothing was answered for a while: it may have lived.
        assert_eq!(look(&[(2, 5)], 1700, 1701), []);
        assert_eq!(look(&[(2, 5)], 2100, 2101), []);
        // An answer that was long under way.
        assert_eq!(look(&[(2, 5)], 2300, 2900), []);
        for moment in (3000..4000).step_by(250) {
            assert_eq!(look(&[(2, 5)], moment, moment + 1), []);
        }
        assert_eq!(look(&[(2, 5)], 4002, 4003), [(2, 5)]);
        // A counter that moves lives.
        assert_eq!(look(&[(2, 6)], 4200, 4201), []);
    }
}
