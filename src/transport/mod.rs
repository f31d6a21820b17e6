//! What connections come over. Each transport yields a stream of bytes, and what is known of the peer; everything after
//! that is shared.

mod proxy;
mod tcp;
mod tls;
mod websocket;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use crate::identity::{ClientCertificate, Peer, Transport};
pub use proxy::TrustedProxies;
pub(crate) use tcp::{prepare, split};
pub use tls::{CertificateName, ClientAuth, Tls, TlsError, TlsSettings};
pub use websocket::WebSocket;
pub(crate) use websocket::WebSocketStream;
#[cfg(feature = "cli")]
pub(crate) use websocket::frame as websocket_frame;

/// Why a connection ended before its first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) Cow<'static, str>);

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused(error.to_string().into())
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What lies between the socket of a listener and MQTT.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    /// The socket's clients are proxies that say who the client is.
    pub(crate) proxy_protocol: bool,
    pub(crate) trusted: TrustedProxies,
    /// Whether the certificate that a proxy tells of names the user.
    pub(crate) proxied_username: bool,
    pub(crate) tls: Option<Tls>,
    pub(crate) websocket: Option<WebSocket>,
}

/// A stream of MQTT's bytes.
pub(crate) enum Stream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
    WebSocket(WebSocketStream<S>),
    SecureWebSocket(Box<WebSocketStream<TlsStream<S>>>),
}

impl Layers {
    /// Whether there is nothing between.
    pub(crate) fn is_empty(&self) -> bool {
        !self.proxy_protocol && self.tls.is_none() && self.websocket.is_none()
    }

    /// Goes through all layers of a new connection. `peer` learns what they say of the client.
    pub(crate) async fn open<S>(&self, mut io: S, peer: &mut Peer) -> Result<Stream<S>, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.proxy_protocol {
            self.read_proxy_header(&mut io, peer).await?;
        }
        match (&self.tls, &self.websocket) {
            (None, None) => Ok(Stream::Plain(io)),
            (Some(tls), None) => {
                peer.transport = Transport::Tls;
                Ok(Stream::Tls(Box::new(tls.accept(io, b"mqtt", peer).await?)))
            }
            (None, Some(websocket)) => {
                peer.transport = Transport::WebSocket;
                Ok(Stream::WebSocket(websocket.accept(io, &self.trusted, peer).await?))
            }
            (Some(tls), Some(websocket)) => {
                peer.transport = Transport::SecureWebSocket;
                let stream = tls.accept(io, b"http/1.1", peer).await?;
                let stream = websocket.accept(stream, &self.trusted, peer).await?;
                Ok(Stream::SecureWebSocket(Box::new(stream)))
            }
        }
    }

    async fn read_proxy_header(&self, io: &mut (impl AsyncRead + Unpin), peer: &mut Peer) -> Result<(), Refused> {
        if let Some(address) = peer.address.filter(|address| !self.trusted.contains(address.ip())) {
            return Err(Refused(format!("PROXY header: {address} is no trusted proxy").into()));
        }
        let proxied = proxy::read(io).await?;
        if proxied.address.is_some() {
            peer.address = proxied.address;
        }
        if let Some(name) = proxied.common_name {
            peer.username = Some(name.clone()).filter(|_| self.proxied_username);
            peer.certificate = Some(Arc::new(ClientCertificate {
                common_name: Some(name),
                alternative_names: Vec::new(),
            }));
        }
        Ok(())
    }
}
