//! Brokers that share a Redis.

use std::time::Duration;

use super::Broker;
use super::persistence::{self, Place};

/// Nodes of a cluster of its own.
pub struct Cluster {
    place: Place,
    nodes: Vec<Broker>,
}

/// Short, so that a node is soon declared dead.
pub const CLUSTER_LEASE: Duration = Duration::from_secs(1);

impl Cluster {
    /// With [`CLUSTER_LEASE`].
    pub fn start(nodes: usize) -> Cluster {
        let lease = CLUSTER_LEASE.as_secs_f64().to_string();
        Cluster::with_options(nodes, &["--cluster-lease", &lease])
    }

    pub fn with_options(nodes: usize, options: &[&str]) -> Cluster {
        let mut place = persistence::in_cluster(1);
        place.options.extend(options.iter().map(|option| option.to_string()));
        let mut cluster = Cluster {
            place,
            nodes: Vec::new(),
        };
        (0..nodes).for_each(|_| cluster.add());
        cluster
    }

    pub fn add(&mut self) {
        let options: Vec<_> = self.place.options.iter().map(String::as_str).collect();
        self.nodes.push(Broker::start_as_told(&options));
    }

    /// Takes a node out, which the caller may end.
    pub fn take(&mut self, node: usize) -> Broker {
        self.nodes.remove(node)
    }

    pub fn kill(&mut self, node: usize) {
        drop(self.take(node));
    }

    /// What this option is for all nodes.
    pub fn option(&self, name: &str) -> &str {
        let at = self.place.options.iter().position(|option| option == name);
        &self.place.options[at.expect("it is given") + 1]
    }

    /// What `redis-cli` says of the server of all clusters.
    pub fn redis_cli(&self, words: &[&str]) -> String {
        persistence::redis_cli(persistence::redis(), words)
    }

    /// The names of all keys of the cluster in Redis, without its prefix.
    pub fn keys(&self) -> Vec<String> {
        self.place.keys()
    }
}

impl std::ops::Index<usize> for Cluster {
    type Output = Broker;

    fn index(&self, node: usize) -> &Broker {
        &self.nodes[node]
    }
}
