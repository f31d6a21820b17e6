//! Which clients are traced: each of their packets is logged.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::core::Core;
use super::glob;
use super::registry::SHARDS;
use crate::identity::Peer;

/// Clients that are traced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceTargets {
    /// Client Identifiers, in which `*` stands for any characters and `?` for one.
    pub clients: Vec<String>,
    /// Addresses, whatever the Client Identifier.
    pub addresses: Vec<IpAddr>,
}

impl TraceTargets {
    /// Whether nobody is traced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.addresses.is_empty()
    }

    fn cover(&self, client_id: &str, peer: &Peer) -> bool {
        let address = peer.address.map(|address| address.ip().to_canonical());
        self.clients.iter().any(|pattern| glob::matches(pattern, client_id))
            || address.is_some_and(|address| self.addresses.iter().any(|one| one.to_canonical() == address))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct TraceList {
    /// Whether there are any: nobody asks further otherwise.
    any: AtomicBool,
    targets: RwLock<TraceTargets>,
}

impl TraceList {
    pub(crate) fn targets(&self) -> TraceTargets {
        self.targets.read().clone()
    }

    fn replace(&self, targets: TraceTargets) -> TraceTargets {
        let any = !targets.is_empty();
        let before = std::mem::replace(&mut *self.targets.write(), targets);
        self.any.store(any, Ordering::Relaxed);
        before
    }

    /// Whether this client is traced.
    pub(crate) fn covers(&self, client_id: &str, peer: &Peer) -> bool {
        self.any.load(Ordering::Relaxed) && self.targets.read().cover(client_id, peer)
    }
}

impl Core {
    /// Traces these clients, connected or not, and no others.
    pub(crate) async fn trace(&self, targets: TraceTargets) {
        let before = self.trace.replace(targets.clone());
        for shard in 0..SHARDS {
            for outbox in self.registry.online_in_shard(shard) {
                // One that is not introduced yet may have looked at the list before.
                let is_concerned = outbox.glance().client.is_none_or(|client| {
                    let covers = |targets: &TraceTargets| targets.cover(&client.client_id, &client.peer);
                    covers(&before) || covers(&targets)
                });
                if is_concerned {
                    outbox.signal(|signals| signals.retrace = true);
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_chosen_by_identifier_or_address() {
        let peer = |ip: &str| Peer::from(std::net::SocketAddr::new(ip.parse().expect("an address"), 1));
        let targets = TraceTargets {
            clients: vec!["sensor-*".into()],
            addresses: vec![IpAddr::from([10, 0, 0, 1])],
        };
        assert!(targets.cover("sensor-1", &peer("10.0.0.2")) && targets.cover("other", &peer("10.0.0.1")));
        assert!(targets.cover("other", &peer("::ffff:10.0.0.1")));
        assert!(!targets.cover("other", &peer("10.0.0.2")) && !targets.cover("other", &Peer::default()));
        assert!(!TraceTargets::default().cover("", &peer("10.0.0.1")) && TraceTargets::default().is_empty());
    }
}
