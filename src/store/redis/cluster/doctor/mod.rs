//! Looks whether all that a cluster has in Redis belongs together: nothing without an owner, a due time, or a session.
//!
//! It changes nothing, and may look while nodes are at work, while they recover others, and when all are gone: what a dead node
//! has left is in order as long as there is a note of that node. What must be seen at one moment is read by a script; between the homes,
//! what is of a node is in order if the node was there before or after. All the same it looks twice, and tells what it has seen both times.

mod bucket;
mod census;
mod client;
mod fault;
mod global;
mod session;

use std::collections::BTreeSet;

use self::fault::{Advice, Fault};
use self::global::Nodes;
use super::scripts::Looks;
use crate::store::StoreError;
use crate::store::cluster::Incarnation;
use crate::store::redis::doctor::{Members, Report};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::script::Scripts;

/// Looks at all that is under the prefix, of which is known that it is a cluster's.
///
/// # Errors
/// If Redis can't be reached, or refuses to show it.
pub(in crate::store::redis) fn doctor(link: &mut Link, keys: &Keys) -> Result<Report, StoreError> {
    let (looks, scripts) = (Looks::load(link)?, Scripts::load(link)?);
    let first = Examination::new(link, keys, (&looks, &scripts)).run()?;
    if first.faults.is_empty() {
        return Ok(first);
    }
    let mut second = Examination::new(link, keys, (&looks, &scripts)).run()?;
    second.faults.retain(|fault| first.faults.contains(fault));
    Ok(second)
}

struct Examination<'a> {
    link: &'a mut Link,
    keys: &'a Keys,
    looks: &'a Looks,
    scripts: &'a Scripts,
    report: Report,
    members: Members,
    /// What there is of nodes, with what is said if there is no such node.
    mentions: BTreeSet<(Incarnation, String, String)>,
    /// Nodes that may not write to a bucket, in which they have never been.
    unentered: Vec<(Incarnation, String)>,
}

impl<'a> Examination<'a> {
    fn new(link: &'a mut Link, keys: &'a Keys, (looks, scripts): (&'a Looks, &'a Scripts)) -> Examination<'a> {
        Examination {
            link,
            keys,
            looks,
            scripts,
            report: Report::default(),
            members: Members::default(),
            mentions: BTreeSet::new(),
            unentered: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Report, StoreError> {
        let before = self.nodes()?;
        let census = census::census(self.link, self.keys)?;
        self.report.keys = census.keys;
        census.strangers.into_iter().for_each(|fault| self.fault(fault));
        let mut buckets = census.buckets;
        for bucket in 0..=u8::MAX {
            let found = buckets.remove(&bucket).unwrap_or_default();
            let examined = self.bucket(bucket, &found, &before);
            self.noted(Home::Bucket(bucket), "", examined)?;
        }
        let log = self.log();
        self.noted(Home::Global, "log", log)?;
        let filters = self.filters();
        self.noted(Home::Global, "f", filters)?;
        let abouts = self.abouts();
        self.noted(Home::Global, "about", abouts)?;
        let retained = self.retained();
        self.noted(Home::Global, "ret", retained)?;
        let after = self.nodes()?;
        self.judge_nodes(&after);
        self.judge_mentions(&before, &after);
        self.report.incarnation = after.begun;
        self.members.living = after.living.into_keys().collect();
        self.members.recovered = after.recovered.into_keys().collect();
        self.report.members = Some(self.members);
        Ok(self.report)
    }

    fn key(&self, home: Home, name: &str) -> String {
        self.keys.of(home, name)
    }

    fn fault(&mut self, fault: Fault) {
        self.report.faults.insert(fault.to_string());
    }

    /// Notes what is damaged; every other error ends the examination.
    fn noted<T>(&mut self, home: Home, name: &str, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Damaged(what)) => {
                let key = self.key(home, name);
                self.fault(Fault::new(key, what, Advice::Lost));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// There is something of this node, which is in order if there is the node.
    fn mention(&mut self, node: Incarnation, key: &str, what: &str) {
        self.mentions.insert((node, key.to_owned(), what.to_owned()));
    }

    /// A node that there was before or after may have been there when it was mentioned.
    fn judge_mentions(&mut self, before: &Nodes, after: &Nodes) {
        let mut highest = after.begun;
        for (node, key, what) in std::mem::take(&mut self.mentions) {
            highest = highest.max(node);
            if !before.has(node) && !after.has(node) {
                let what = format!("there is no node {node} in the cluster, nor is one recovered, and {what}");
                self.fault(Fault::new(key, what, Advice::Recover(node)));
            }
        }
        for (node, key) in std::mem::take(&mut self.unentered) {
            if after.living.contains_key(&node) {
                let what = format!("node {node} lives, and may not write here");
                self.fault(Fault::new(key, what, Advice::Restart));
            }
        }
        if highest > after.begun {
            let inc = self.key(Home::Global, "inc");
            let what = format!("{} is noted, and incarnation {highest} has begun", after.begun);
            self.fault(Fault::new(&*inc, what, Advice::Run(format!("SET {inc} {highest}"))));
        }
    }
}
