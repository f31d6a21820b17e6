//! Looks whether all that is in Redis belongs together: nothing without an owner, a due time, or a session.
//!
//! It changes nothing, and may look while a broker is at work. What is in motion then looks like a fault for a moment; so
//! it looks twice, and tells what it has seen both times.

use std::collections::BTreeSet;
use std::fmt;

use super::cluster;
use super::keys::Keys;
use super::link::Link;
use super::schema::expect_there;
use crate::store::cluster::Homes;
use crate::store::{RedisSettings, StoreError};

/// What there is, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The last node that has joined.
    pub(crate) incarnation: u64,
    pub(crate) keys: u64,
    pub(crate) sessions: u64,
    pub(crate) messages: u64,
    pub(crate) wills: u64,
    pub(crate) retained: u64,
    /// Nodes that live, or have died and were not declared dead.
    pub(crate) living: BTreeSet<u64>,
    /// Nodes whose remains are being recovered.
    pub(crate) recovered: BTreeSet<u64>,
    /// Of which there is a session, a will or a connection.
    pub(crate) clients: u64,
    /// Messages that have begun, and must have effect once.
    pub(crate) jobs: u64,
    /// Messages of which buckets have noted that they have them; one counts in each of them.
    pub(crate) onces: u64,
    /// Sessions that have ended, whose messages of Shared Subscriptions others are to get.
    pub(crate) rests: u64,
    /// Incarnations up to this one are over, as Redis has lost writes in these homes; 0 if none is.
    pub(crate) generation: u64,
    pub(crate) lost: Homes,
    pub(crate) faults: BTreeSet<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "incarnation: {}", self.incarnation)?;
        writeln!(f, "nodes: {:?}", self.living)?;
        writeln!(f, "dead nodes: {:?}", self.recovered)?;
        if self.generation > 0 {
            let (generation, lost) = (self.generation, self.lost);
            writeln!(f, "over, as Redis has lost writes: nodes up to {generation}; in {lost}")?;
        }
        writeln!(f, "clients: {}", self.clients)?;
        writeln!(f, "messages that have begun: {}", self.jobs)?;
        writeln!(f, "messages that are noted as put into queues: {}", self.onces)?;
        writeln!(f, "sessions that have left messages: {}", self.rests)?;
        writeln!(f, "keys: {}", self.keys)?;
        writeln!(f, "sessions: {}", self.sessions)?;
        writeln!(f, "queued messages: {}", self.messages)?;
        writeln!(f, "wills: {}", self.wills)?;
        writeln!(f, "retained messages: {}", self.retained)?;
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
        }
        match self.faults.len() {
            0 => write!(f, "no faults"),
            faults => write!(f, "faults: {faults}"),
        }
    }
}

/// Looks at all that is under the prefix.
///
/// # Errors
/// If Redis can't be reached, or refuses to show it.
pub(crate) fn doctor(settings: &RedisSettings) -> Result<Report, StoreError> {
    let keys = Keys::new(&settings.prefix)?;
    let mut link = Link::connect(settings)?;
    expect_there(&mut link, &keys)?;
    cluster::doctor(&mut link, &keys)
}
