//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::broker::Core;
use crate::connection;
use crate::identity::Peer;
use crate::transport;

/// Connections above the maximum that may be there at a time to be told so; further ones are closed unheard.
const REFUSALS_AT_A_TIME: usize = 256;
/// Pause after an error that is likely to come again at once: no file descriptors, no memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the broker stops.
pub(crate) async fn accept(core: Arc<Core>, listener: TcpListener) -> io::Result<()> {
    let mut stopping = core.stopping.subscribe();
    let mut short_of_resources = false;
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                short_of_resources = false;
                admit(&core, socket, address.into());
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut short_of_resources, true) {
                    tracing::error!(%error, "can't accept connections for now");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn admit(core: &Arc<Core>, socket: TcpStream, peer: Peer) {
    let most = core.config.max_connections.saturating_add(REFUSALS_AT_A_TIME);
    if core.connections.load(Ordering::Acquire) >= most {
        tracing::debug!(%peer, "too many connections");
        return;
    }
    // An error means that the connection has gone already.
    let _ = socket.set_nodelay(true);
    let (socket, direct) = transport::split(socket);
    tokio::spawn(connection::serve_directly(socket, Some(direct), peer, Arc::clone(core)));
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
