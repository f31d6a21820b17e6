//! A connection among those that count against the maximum: of the broker, of the listener, of the address.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use crate::broker::Core;
use crate::config::Config;

/// See the module: with what is asked once, when its CONNECT is there.
pub(crate) struct Place {
    pub(super) held: Held,
    /// Connections at the time, this one included.
    pub(super) number: usize,
    /// When it began.
    pub(super) since: Instant,
}

/// What the connection holds until its end. Given back when dropped.
pub(super) struct Held {
    pub(super) core: Arc<Core>,
    counted: Option<Box<Counted>>,
}

/// Where it counts besides.
#[derive(Default)]
struct Counted {
    /// Connections of its listener, and how many there were.
    listener: Option<(Arc<AtomicUsize>, usize)>,
    /// Its address, and how many connections that had.
    address: Option<(IpAddr, usize)>,
}

impl Place {
    pub(crate) fn enter(core: &Arc<Core>) -> Place {
        core.stats.sockets.fetch_add(1, Ordering::Relaxed);
        let number = core.connections.fetch_add(1, Ordering::AcqRel) + 1;
        Place {
            held: Held {
                core: Arc::clone(core),
                counted: None,
            },
            number,
            since: Instant::now(),
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.held.core
    }

    /// Counts it among those of its listener.
    pub(crate) fn enter_listener(&mut self, connections: &Arc<AtomicUsize>) {
        let number = connections.fetch_add(1, Ordering::AcqRel) + 1;
        let counted = self.held.counted.get_or_insert_default();
        counted.listener = Some((Arc::clone(connections), number));
    }

    /// Counts it among those of its address, if these are limited; how many there are.
    pub(crate) fn enter_address(&mut self, address: IpAddr, config: &Config) -> usize {
        if config.max_connections_per_address.is_none() {
            return 0;
        }
        let counted = self.held.counted.get_or_insert_default();
        if let Some((_, number)) = counted.address {
            return number;
        }
        let number = self.held.core.addresses.enter(address);
        counted.address = Some((address, number));
        number
    }
}

impl Held {
    /// Which limit it is above, if there is one; `number` is that of its [`Place`].
    pub(super) fn excess(&self, number: usize, config: &Config) -> Option<&'static str> {
        if number > self.core.config().max_connections {
            return Some("too many connections");
        }
        let Counted { listener, address } = self.counted.as_deref()?;
        if listener
            .as_ref()
            .is_some_and(|(_, number)| *number > config.max_connections)
        {
            return Some("too many connections of this listener");
        }
        let most = config.max_connections_per_address?.get() as usize;
        let is_above = address.is_some_and(|(_, number)| number > most);
        is_above.then_some("too many connections from this address")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Counted { listener, address } = self.counted.take().map(|counted| *counted).unwrap_or_default();
        if let Some((connections, _)) = listener {
            connections.fetch_sub(1, Ordering::AcqRel);
        }
        if let Some((address, _)) = address {
            self.core.addresses.leave(address);
        }
        self.core.connections.fetch_sub(1, Ordering::AcqRel);
        self.core.connection_closed.notify_one();
    }
}
