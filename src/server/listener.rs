//! Where clients connect, and what lies between there and MQTT.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::RwLock;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::transport::{CertificateName, Layers, Tls, TrustedProxies, WebSocket};

/// A socket that clients connect to, and the layers between it and MQTT: from the outside, the PROXY protocol, TLS,
/// WebSocket.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mqtt_broker::{Broker, Config, Listener, Tls, TlsSettings, WebSocket};
/// use tokio::net::TcpListener;
///
/// let broker = Broker::start(Config::default());
/// let tls = Tls::load(TlsSettings::new("server.pem", "server.key"))?;
/// let listener = Listener::from(TcpListener::bind("0.0.0.0:8889").await?);
/// broker.serve(listener.tls(tls).websocket(WebSocket::default())).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Socket,
    front: FrontHandle,
    /// Those that are open, counted if the listener has a name.
    pub(super) connections: Arc<AtomicUsize>,
}

/// What a listener is besides its socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Front {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) layers: Arc<Layers>,
}

/// The front of a listener, which can be replaced while it listens: connections that begin then have the new one.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrontHandle(Arc<RwLock<Front>>);

impl FrontHandle {
    #[cfg(feature = "cli")]
    pub(crate) fn replace(&self, front: Front) {
        *self.0.write() = front;
    }

    fn edit(&self, edit: impl FnOnce(&mut Layers)) {
        edit(Arc::make_mut(&mut self.0.write().layers));
    }
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Socket {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Socket::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                // A client that comes by IPv4 has an address of IPv4, whatever the socket says.
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                Ok(Accepted::Tcp(socket, address))
            }
            Socket::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener {
            socket: Socket::Tcp(listener),
            front: FrontHandle::default(),
            connections: Arc::default(),
        }
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener {
            socket: Socket::Unix(listener),
            front: FrontHandle::default(),
            connections: Arc::default(),
        }
    }
}

impl Listener {
    /// Gives it a name, by which [`Broker::reconfigure_listener`](crate::Broker::reconfigure_listener) knows it, and
    /// which hooks find in [`Peer::listener`](crate::Peer::listener).
    #[must_use]
    pub fn name(self, name: impl Into<Arc<str>>) -> Listener {
        self.front.0.write().name = Some(name.into());
        self
    }

    /// The front as it is now.
    pub(super) fn front(&self) -> Front {
        self.front.0.read().clone()
    }

    #[cfg(feature = "cli")]
    pub(crate) fn handle(&self) -> FrontHandle {
        self.front.clone()
    }

    /// Clients speak TLS.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Listener {
        self.front.edit(|layers| layers.tls = Some(tls));
        self
    }

    /// Clients speak WebSocket, within TLS if there is both.
    #[must_use]
    pub fn websocket(self, websocket: WebSocket) -> Listener {
        self.front.edit(|layers| layers.websocket = Some(websocket));
        self
    }

    /// Whoever connects is a proxy, and begins with a header of the PROXY protocol, version 1 or 2. Only the trusted
    /// proxies of the listener may. `username` says whether the common name of the client's certificate, if the proxy
    /// has verified one, is its user name.
    #[must_use]
    pub fn proxy_protocol(self, username: Option<CertificateName>) -> Listener {
        self.front.edit(|layers| {
            layers.proxy_protocol = true;
            layers.proxied_username = username == Some(CertificateName::CommonName);
        });
        self
    }

    /// Proxies that are believed: their PROXY headers, and on WebSocket their `X-Forwarded-For`.
    #[must_use]
    pub fn trusted_proxies(self, trusted: TrustedProxies) -> Listener {
        self.front.edit(|layers| layers.trusted = trusted);
        self
    }
}
