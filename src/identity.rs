//! Who is at the other end of a connection.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::packet::Version;

/// Where a connection comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address of the client, if the transport has one.
    pub address: Option<SocketAddr>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer { address: Some(address) }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("unknown"),
        }
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
