//! Who is at the other end of a connection.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::packet::Version;
use crate::time::Millis;

/// Where a connection comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The address of the client, if the transport has one; as a trusted proxy says, if there is one between.
    pub address: Option<SocketAddr>,
    /// What it comes over.
    pub transport: Transport,
    /// The user that its certificate names, if that is what the listener asks for. It takes the place of the User Name
    /// in the CONNECT.
    pub username: Option<Box<str>>,
    /// The certificate that the client has proven to have.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The request that began a WebSocket connection, if the listener keeps it.
    pub upgrade: Option<Arc<UpgradeRequest>>,
    /// The name of the listener that it has connected to, if that has one.
    pub listener: Option<Arc<str>>,
}

/// What a connection comes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    WebSocket,
    /// WebSocket over TLS.
    SecureWebSocket,
    /// A Unix domain socket.
    Unix,
}

/// The names in a client's certificate, which has been verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// The Common Name of its subject.
    pub common_name: Option<Box<str>>,
    /// Its Subject Alternative Names: hosts, addresses, mail addresses, URIs.
    pub alternative_names: Vec<Box<str>>,
}

/// The HTTP request of a WebSocket client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeRequest {
    /// Its path, with the query if there is one.
    pub path: Box<str>,
    /// Names, in lower case, and values.
    pub headers: Vec<(Box<str>, Box<str>)>,
}

impl UpgradeRequest {
    /// The first value of a header, whose name is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| **known == *name);
        found.map(|(_, value)| &**value)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer {
            address: Some(address),
            ..Peer::default()
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None if self.transport == Transport::Unix => f.write_str("a Unix socket"),
            None => f.write_str("unknown"),
        }
    }
}

/// The address by which limits tell one party from another: an IPv6 network of 64 bits belongs to one.
pub(crate) fn party(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// A connected client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Client Identifier.
    pub client_id: Arc<str>,
    /// User Name of its CONNECT.
    pub username: Option<Box<str>>,
    /// Protocol version.
    pub version: Version,
    /// Where it comes from.
    pub peer: Peer,
    /// When its CONNECT was accepted.
    pub connected_at: Millis,
    /// Seconds of Keep Alive, as agreed; 0 is none.
    pub keep_alive: u16,
    /// Seconds for which its session outlives the connection, as agreed; `u32::MAX` is for ever.
    pub session_expiry: u32,
    /// How it has proven who it is.
    pub(crate) proof: Proof,
    /// What whoever let it in said that it may do, in place of the access list.
    pub(crate) rights: Option<Arc<Rights>>,
}

/// How a client has proven who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It has not: anybody may have its name, or it has none.
    #[default]
    Nothing,
    /// By its certificate.
    Certificate,
    /// By a password or a verifier in the password file.
    Password,
    /// By a token that this key has signed.
    #[cfg(feature = "jwt")]
    Token(KeyPrint),
    /// By the word of an HTTP endpoint.
    #[cfg(feature = "http-auth")]
    Endpoint,
}

/// Names a key without telling it.
#[cfg(feature = "jwt")]
pub(crate) type KeyPrint = u64;

/// Topic Filters that a client may use. What is in none of them it may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Nothing is checked.
    pub(crate) everything: bool,
    pub(crate) read: Vec<Box<str>>,
    pub(crate) write: Vec<Box<str>>,
    /// These outweigh all others.
    pub(crate) never_read: Vec<Box<str>>,
    pub(crate) never_write: Vec<Box<str>>,
}

/// Makes Client Identifiers for clients that leave theirs to the broker: unguessable, and never used twice.
#[derive(Debug, Default)]
pub(crate) struct IdentifierSource {
    /// Keyed with the system's randomness.
    random: RandomState,
    next: AtomicU64,
}

impl IdentifierSource {
    pub(crate) fn next(&self) -> Arc<str> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.random.hash_one((0, number)), self.random.hash_one((1, number)));
        format!("auto-{high:016x}{low:016x}").into()
    }

    pub(crate) fn broker_id(&self) -> Arc<str> {
        format!("{:016x}", self.random.hash_one("broker")).into()
    }
}
