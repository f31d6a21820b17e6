//! What is to be listened on, before anything is bound.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;

use crate::server::Front;
use crate::transport::Layers;
use crate::{CertificateName, Tls, TlsSettings, TrustedProxies, WebSocket};

/// What clients of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Kind {
    /// The option that sets the port.
    pub(super) fn option(self) -> &'static str {
        match self {
            Kind::Tcp => "--port",
            Kind::Tls => "--tls-port",
            Kind::Ws => "--ws-port",
            Kind::Wss => "--wss-port",
        }
    }

    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Kind::Tls | Kind::Wss)
    }

    pub(crate) fn has_websocket(self) -> bool {
        matches!(self, Kind::Ws | Kind::Wss)
    }

    fn scheme(self) -> &'static str {
        match self {
            Kind::Tcp => "mqtt",
            Kind::Tls => "mqtts",
            Kind::Ws => "ws",
            Kind::Wss => "wss",
        }
    }
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Tcp {
        address: SocketAddr,
        /// The name of the host has other addresses besides: this one may be missing.
        is_one_of_many: bool,
    },
    Unix(PathBuf),
}

/// An address, whatever else the name of its host stands for: that may change, and the socket stays what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(f),
            Place::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What tells whether a listener of before is the one that is wanted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) at: Place,
    /// Where the system chooses the port, the place does not tell.
    chosen: Option<(Arc<str>, Kind)>,
}

/// A listener: where it is, and what lies between there and MQTT.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// Of its table, or its place: what holds for its clients is found by it, also when it is no more.
    pub(crate) name: Arc<str>,
    pub(crate) at: At,
    pub(crate) kind: Kind,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) websocket: Option<WebSocket>,
    /// Whether connections begin with a PROXY header.
    pub(crate) is_proxied: bool,
    pub(crate) certificate_name: Option<CertificateName>,
    pub(crate) trusted: Option<TrustedProxies>,
    /// Whether clients may connect without saying who they are.
    pub(crate) is_anonymous: bool,
}

/// The name of a listener without a table.
pub(super) fn place_name(at: &At, kind: Kind) -> Arc<str> {
    match at {
        At::Tcp { address, .. } => format!("{}://{address}", kind.scheme()).into(),
        At::Unix(path) => format!("mqtt+unix://{}", path.display()).into(),
    }
}

impl Spec {
    pub(crate) fn key(&self) -> Key {
        Key {
            at: match &self.at {
                At::Tcp { address, .. } => Place::Tcp(*address),
                At::Unix(path) => Place::Unix(path.clone()),
            },
            chosen: self.has_chosen_port().then(|| (Arc::clone(&self.name), self.kind)),
        }
    }

    /// What it is besides its socket.
    pub(crate) fn front(&self, tls: Option<Tls>) -> Front {
        let layers = Layers {
            proxy_protocol: self.is_proxied,
            trusted: self.trusted.clone().unwrap_or_default(),
            proxied_username: self.is_proxied && self.certificate_name == Some(CertificateName::CommonName),
            tls,
            websocket: self.websocket.clone(),
        };
        Front {
            name: Some(Arc::clone(&self.name)),
            layers: Arc::new(layers),
        }
    }

    /// Where clients connect, as they would write it. The port is the one that the system has chosen.
    pub(crate) fn url(&self, bound: Option<SocketAddr>) -> String {
        let path = self.websocket.as_ref().map_or("", |websocket| &websocket.path);
        match (&self.at, bound) {
            (At::Tcp { address, .. }, bound) => {
                format!("{}://{}{path}", self.kind.scheme(), bound.unwrap_or(*address))
            }
            (At::Unix(path), _) => format!("mqtt+unix://{}", path.display()),
        }
    }

    /// Whether the system chooses the port.
    pub(crate) fn has_chosen_port(&self) -> bool {
        matches!(&self.at, At::Tcp { address, .. } if address.port() == 0)
    }

    /// Whether anybody on other machines may connect.
    pub(crate) fn is_open(&self) -> bool {
        match &self.at {
            At::Tcp { address, .. } => self.is_anonymous && !address.ip().is_loopback(),
            At::Unix(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str, is_one_of_many: bool) -> Spec {
        Spec {
            name: "test".into(),
            at: At::Tcp {
                address: address.parse().expect("an address"),
                is_one_of_many,
            },
            kind: Kind::Tcp,
            tls: None,
            websocket: None,
            is_proxied: false,
            certificate_name: None,
            trusted: None,
            is_anonymous: true,
        }
    }

    /// A host that has got another address, or lost one, keeps the sockets of the others.
    #[test]
    fn a_listener_is_known_by_its_address() {
        assert_eq!(spec("127.0.0.1:1883", false).key(), spec("127.0.0.1:1883", true).key());
        for other in ["127.0.0.2:1883", "127.0.0.1:1884"] {
            assert_ne!(spec("127.0.0.1:1883", false).key(), spec(other, false).key());
        }
    }
}
