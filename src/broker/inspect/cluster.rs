//! A cluster as a whole, and why something was not learnt of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::store::StoreError;
use crate::time::Millis;

/// The cluster of which a broker is a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterState {
    /// The number of the node that tells this.
    pub node: u64,
    /// The nodes that live.
    pub nodes: Vec<ClusterNode>,
    /// Dead nodes that are being recovered.
    pub recoveries: Vec<Recovery>,
    /// The position of the last entry of the log that all nodes apply.
    pub log_position: u64,
    /// Entries of the log that are kept.
    pub log_entries: u64,
    /// Topic Filters that nodes want messages of for their clients.
    pub routes: u64,
    /// Retained messages, but for what each broker tells of itself.
    pub retained_messages: u64,
    /// How long a node may be silent.
    pub lease: Duration,
}

/// A node of a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterNode {
    /// Its number, which is new at each start.
    pub node: u64,
    /// What it is called; `None` until it has said so.
    pub name: Option<String>,
    /// Version of the broker.
    pub version: Option<String>,
    /// Where its HTTP listener is, if it has one.
    pub http: Option<String>,
    /// When it began.
    pub since: Option<Millis>,
    /// How many entries the log has now that it had not applied at its last heartbeat.
    pub log_lag: u64,
    /// For how long nothing new was heard of it; `None` if it was not looked at yet.
    pub heartbeat_age: Option<Duration>,
    /// What it has counted, by name, as it was a second ago.
    pub figures: Vec<(&'static str, u64)>,
}

/// A dead node whose clients are being freed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovery {
    /// Its number.
    pub node: u64,
    /// What it was called.
    pub name: Option<String>,
    /// The node that does it.
    pub by: u64,
}

/// The node to which a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRef {
    /// Its number.
    pub node: u64,
    /// What it is called.
    pub name: Arc<str>,
}

/// What has become of the wish to disconnect a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnected {
    /// Its connection is told to close, or its session has ended.
    Done,
    /// It has a session, and is not connected.
    IsAway,
    /// There is nothing of it.
    IsUnknown,
}

/// Why something was not learnt of a cluster, or not done in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterError {
    /// The cursor is not one of an earlier page.
    BadCursor,
    /// The node with this number does not answer.
    Silent(u64),
    /// The client changes hands all the time, or is not given up in time.
    Busy,
    /// What is kept can't be read or changed.
    Store(StoreError),
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterError::BadCursor => super::BadCursor.fmt(f),
            ClusterError::Silent(node) => write!(
                f,
                "node {node} of the cluster does not answer: if it is dead, the others will have taken over its clients after \
                 the lease; try again"
            ),
            ClusterError::Busy => f.write_str("the client's session is just changing hands: try again"),
            ClusterError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClusterError {}

impl From<super::BadCursor> for ClusterError {
    fn from(_: super::BadCursor) -> ClusterError {
        ClusterError::BadCursor
    }
}

impl From<StoreError> for ClusterError {
    fn from(error: StoreError) -> ClusterError {
        ClusterError::Store(error)
    }
}
