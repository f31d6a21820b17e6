//! The task of one connection: read a batch, handle its packets in order, write once.

mod buffers;
mod handshake;
mod link;
mod task;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::broker::Core;
use crate::identity::Peer;
use link::Link;

/// Serves one connection from its first byte to its last.
pub(crate) async fn serve(io: impl AsyncRead + AsyncWrite + Send + Unpin, peer: Peer, core: Arc<Core>) {
    let place = Place::enter(&core);
    let mut link = Link::new(io);
    // Boxed, so that the memory of the handshake is not held for the life of the connection.
    let shaken = Box::pin(handshake::shake_hands(&mut link, peer, &core, place.number)).await;
    if let Some(client) = shaken {
        task::run(&mut link, client).await;
    }
    drop(place);
    Box::pin(link.linger()).await;
}

/// A connection among those that count against the maximum.
struct Place<'a> {
    core: &'a Core,
    /// Connections at the time, this one included.
    number: usize,
}

impl<'a> Place<'a> {
    fn enter(core: &'a Core) -> Place<'a> {
        core.stats.sockets.fetch_add(1, Ordering::Relaxed);
        let number = core.connections.fetch_add(1, Ordering::AcqRel) + 1;
        Place { core, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.core.connections.fetch_sub(1, Ordering::AcqRel);
        self.core.connection_closed.notify_one();
    }
}
