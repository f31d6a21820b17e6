//! Which keys there are under the prefix, by what they belong to.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::{Advice, Fault};
use crate::store::cluster::Incarnation;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::{StoreError, Uid};

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) keys: u64,
    pub(super) buckets: BTreeMap<u8, Found>,
    /// Keys of no kind that there is.
    pub(super) strangers: Vec<Fault>,
}

/// Those of a bucket.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) clients: BTreeSet<String>,
    /// Sessions of which there is a record or a queue.
    pub(super) sessions: BTreeSet<Uid>,
    /// Nodes that own clients.
    pub(super) owners: BTreeSet<Incarnation>,
    pub(super) inboxes: BTreeSet<(Incarnation, InboxKind)>,
}

/// Which of the inboxes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InboxKind {
    /// For QoS 1 and 2.
    Kept,
    Qos0,
}

impl InboxKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            InboxKind::Kept => "in",
            InboxKind::Qos0 => "in0",
        }
    }
}

/// Looks for all keys.
pub(super) fn census(link: &mut Link, keys: &Keys) -> Result<Census, StoreError> {
    let mut census = Census::default();
    let all: BTreeSet<_> = link.scan(&format!("{}:{{*", keys.prefix()))?.into_iter().collect();
    for key in all {
        census.keys += 1;
        let name = std::str::from_utf8(&key).ok().and_then(|key| keys.parse(key));
        if !name.is_some_and(|(home, name)| census.add(home, name)) {
            let key = String::from_utf8_lossy(&key);
            let what = "it is no key of a cluster's store";
            census.strangers.push(Fault::new(key, what, Advice::Stranger));
        }
    }
    Ok(census)
}

impl Census {
    /// Whether it is one of a cluster.
    fn add(&mut self, home: Home, name: &str) -> bool {
        match home {
            Home::Global => matches!(
                name,
                "meta" | "inc" | "hw" | "nodes" | "rec" | "lost" | "log" | "f" | "ret" | "m2" | "about"
            ),
            Home::Bucket(bucket) => self.buckets.entry(bucket).or_default().add(name),
        }
    }
}

impl Found {
    fn add(&mut self, name: &str) -> bool {
        let Some((kind, of)) = name.split_once(':') else {
            return matches!(
                name,
                "hw" | "fenced" | "sessions" | "t" | "jobs" | "chosen" | "m2" | "rest"
            );
        };
        if kind == "c" {
            return self.clients.insert(of.to_owned());
        }
        let Some(number) = canonical(of) else { return false };
        match kind {
            "s" | "q" | "r" => self.sessions.insert(number),
            "own" => self.owners.insert(number),
            "in" => self.inboxes.insert((number, InboxKind::Kept)),
            "in0" => self.inboxes.insert((number, InboxKind::Qos0)),
            _ => return false,
        };
        true
    }
}

/// A number as the scripts write it.
pub(super) fn canonical(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
