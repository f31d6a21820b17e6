//! The broker as a whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::broker::core::Core;
use crate::broker::metrics;
use crate::broker::registry::SHARDS;
use crate::stats::Discard;

/// What there is in a broker, and what it has counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeState {
    /// Chosen anew at each start.
    pub id: Arc<str>,
    /// Version of the broker.
    pub version: &'static str,
    /// Time since the start.
    pub uptime: Duration,
    /// Clients that are connected.
    pub connected_clients: usize,
    /// The most that were connected at a time.
    pub connected_clients_max: usize,
    /// Sessions whose client is away.
    pub disconnected_sessions: usize,
    /// Connections, those without a CONNECT included.
    pub open_connections: usize,
    /// Subscriptions, shared ones included.
    pub subscriptions: usize,
    /// Shared subscriptions.
    pub shared_subscriptions: usize,
    /// Retained messages.
    pub retained_messages: usize,
    /// Bytes of retained messages.
    pub retained_bytes: usize,
    /// QoS 1 and 2 messages that wait or are in flight.
    pub queued_messages: usize,
    /// Bytes that wait or are in flight.
    pub queued_bytes: usize,
    /// Counters since the start, by the names that they have among the metrics.
    pub counters: Vec<(&'static str, u64)>,
    /// Messages that were discarded, by cause.
    pub discarded: Vec<(Discard, u64)>,
}

impl Core {
    pub(crate) async fn state(&self) -> NodeState {
        let (mut queued_messages, mut queued_bytes) = (0, 0);
        for shard in 0..SHARDS {
            let (messages, bytes) = self.registry.queued_in_shard(shard);
            queued_messages += messages;
            queued_bytes += bytes;
            tokio::task::yield_now().await;
        }
        let (registry, router) = (&self.registry, &self.router);
        let counters = metrics::counters(&self.stats);
        NodeState {
            id: Arc::clone(&self.id),
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.clock.uptime(),
            connected_clients: registry.online(),
            connected_clients_max: registry.most_online(),
            disconnected_sessions: registry.offline(),
            open_connections: self.connections.load(Ordering::Relaxed),
            subscriptions: router.subscriptions(),
            shared_subscriptions: router.shared_subscriptions(),
            retained_messages: router.retained.len(),
            retained_bytes: router.retained.bytes(),
            queued_messages,
            queued_bytes,
            counters: counters
                .map(|(name, _, value)| (name, value.load(Ordering::Relaxed)))
                .into(),
            discarded: Discard::ALL.map(|cause| (cause, self.stats.discards(cause))).into(),
        }
    }
}
