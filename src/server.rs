//! Accepting connections.

mod listener;

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::broker::Core;
use crate::config::Config;
use crate::connection::{self, Place};
use crate::identity::{Peer, Transport};
use crate::rate::Meter;
use crate::transport::{self, Layers, Stream};
use listener::Accepted;
pub(crate) use listener::Front;
#[cfg(feature = "cli")]
pub(crate) use listener::FrontHandle;
pub use listener::Listener;

/// Connections above the maximum that may be there at a time to be told so; further ones are closed unheard.
const REFUSALS_AT_A_TIME: usize = 256;
/// The same for one address.
const REFUSALS_OF_AN_ADDRESS: usize = 16;
/// Pause after an error that is likely to come again at once: no file descriptors, no memory.
const PAUSE: Duration = Duration::from_millis(100);
/// Time for which the log does not repeat it.
const SILENCE: Duration = Duration::from_secs(10);

/// Accepts connections until the broker stops.
pub(crate) async fn accept(core: Arc<Core>, listener: Listener) -> io::Result<()> {
    let mut stopping = core.stopping.subscribe();
    let mut complained: Option<Instant> = None;
    let mut meter = Meter::default();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let front = listener.front();
                let Some(policy) = core.policies.of(front.name.as_deref()) else {
                    continue;
                };
                admit(&core, &listener, front, &policy.config, accepted);
                let wait = pace(&core, &policy.config, &mut meter);
                if !wait.is_zero() {
                    tracing::debug!(?wait, "connections come faster than they may");
                    tokio::select! {
                        _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() > SILENCE) {
                    complained = Some(Instant::now());
                    tracing::error!(%error, "can't accept connections for now");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// How long the next connection is to wait: in the kernel's queue, like others behind it.
fn pace(core: &Core, config: &Config, meter: &mut Meter) -> Duration {
    let rate = config.connection_rate;
    rate.map_or(Duration::ZERO, |rate| meter.count(1, rate, core.clock.now()))
}

fn admit(core: &Arc<Core>, listener: &Listener, front: Front, config: &Config, accepted: Accepted) {
    let most = core.config().max_connections.saturating_add(REFUSALS_AT_A_TIME);
    // What lingers is not refused, but it has its file.
    let connections = core.connections.load(Ordering::Acquire);
    if connections + core.lingering.load(Ordering::Acquire) >= most {
        tracing::debug!("too many connections");
        return;
    }
    // Not all: a client whose session is here may come for what waits, and so make room.
    if core.memory.is_full() && connections.saturating_sub(core.registry.online()) >= REFUSALS_AT_A_TIME {
        tracing::debug!("too many connections while the memory is full");
        return;
    }
    let Front { name, layers } = front;
    let mut place = Place::enter(core);
    if name.is_some() && config.max_connections != usize::MAX {
        place.enter_listener(&listener.connections);
    }
    match accepted {
        Accepted::Tcp(socket, address) => {
            transport::prepare(&socket, config.tcp_keepalive, !layers.is_empty());
            let is_proxy = !layers.is_empty() && layers.trusted.contains(address.ip());
            if !is_proxy && !has_room(&mut place, address.ip(), config) {
                return;
            }
            let peer = Peer {
                listener: name,
                ..address.into()
            };
            admit_tcp(socket, peer, layers, place);
        }
        Accepted::Unix(socket) => {
            let peer = Peer {
                transport: Transport::Unix,
                listener: name,
                ..Peer::default()
            };
            tokio::spawn(pass_layers(socket, peer, layers, place));
        }
    }
}

/// Counts the connection to its address. Some above the maximum are told so; further ones are closed unheard.
fn has_room(place: &mut Place, address: IpAddr, config: &Config) -> bool {
    let number = place.enter_address(address, config);
    let most = config.max_connections_per_address.map_or(u32::MAX, NonZeroU32::get) as usize;
    let has_room = number <= most.saturating_add(REFUSALS_OF_AN_ADDRESS);
    if !has_room {
        tracing::debug!(%address, "too many connections from this address");
    }
    has_room
}

fn admit_tcp(socket: TcpStream, peer: Peer, layers: Arc<Layers>, place: Place) {
    if layers.is_empty() {
        let (socket, direct) = transport::split(socket);
        tokio::spawn(connection::serve(socket, Some(direct), peer, place));
    } else {
        tokio::spawn(pass_layers(socket, peer, layers, place));
    }
}

/// Goes through what lies between the socket and MQTT. Then a task of its own serves the connection, so that this one's
/// memory is given back.
async fn pass_layers<S>(socket: S, mut peer: Peer, layers: Arc<Layers>, mut place: Place)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let core = Arc::clone(place.core());
    let mut stopping = core.stopping.subscribe();
    let from = peer.clone();
    let Some(policy) = core.policies.of(peer.listener.as_deref()) else {
        return;
    };
    let limit = policy.config.connect_timeout;
    let opened = tokio::select! {
        opened = timeout(limit, layers.open(socket, &mut peer)) => opened,
        // There is nobody yet who could be told.
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    // What a proxy has said. Its own connections, such as those that look whether the broker lives, are not counted.
    let said = peer.address.filter(|_| peer.address != from.address);
    if said.is_some_and(|address| !has_room(&mut place, address.ip(), &policy.config)) {
        return;
    }
    match opened {
        Ok(Ok(Stream::Plain(io))) => spawn(io, peer, place),
        Ok(Ok(Stream::Tls(io))) => spawn(*io, peer, place),
        Ok(Ok(Stream::WebSocket(io))) => spawn(io, peer, place),
        Ok(Ok(Stream::SecureWebSocket(io))) => spawn(*io, peer, place),
        Ok(Err(reason)) => tracing::debug!(peer = %from, %reason, "connection refused"),
        Err(_) => tracing::debug!(peer = %from, "connection refused: its handshake took too long"),
    }
}

fn spawn<S>(io: S, peer: Peer, place: Place)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    tokio::spawn(connection::serve(io, None, peer, place));
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
