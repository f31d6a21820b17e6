//! Looks whether all that a cluster has in Redis belongs together: nothing without an owner, a due time, or a session.
//!
//! It changes nothing, and may look while nodes are at work, while they recover others, and when all are gone: what a dead node
//! has left is in order as long as there is a note of that node. What must be seen at one moment is read by a script; between the homes,
//! what is of a node is in order if the node was there before or after. All the same it looks twice, and tells what is wrong both times, as it
//! was the second time.

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
use crate::store::redis::doctor::Report;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::script::Scripts;

/// Looks at all that is under the prefix, of which is known that it is a cluster's.
///
/// # Errors
/// If Redis can't be reached, or refuses to show it.
pub(in crate::store::redis) fn doctor(link: &mut Link, keys: &Keys) -> Result<Report, StoreError> {
    let (looks, scripts) = (Looks::load(link)?, Scripts::load(link)?);
    let (first, faults) = Examination::new(link, keys, (&looks, &scripts)).run()?;
    if faults.is_empty() {
        return Ok(first);
    }
    let (mut second, again) = Examination::new(link, keys, (&looks, &scripts)).run()?;
    let lasting = again
        .iter()
        .filter(|fault| faults.iter().any(|before| fault.is_still(before)));
    second.faults = lasting.map(Fault::to_string).collect();
    Ok(second)
}

struct Examination<'a> {
    link: &'a mut Link,
    keys: &'a Keys,
    looks: &'a Looks,
    scripts: &'a Scripts,
    report: Report,
    faults: BTreeSet<Fault>,
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
            faults: BTreeSet::new(),
            mentions: BTreeSet::new(),
            unentered: Vec::new(),
        }
    }

    /// What there is, and all that looks wrong.
    fn run(mut self) -> Result<(Report, BTreeSet<Fault>), StoreError> {
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
        let lost = self.lost();
        self.noted(Home::Global, "lost", lost)?;
        let abouts = self.abouts();
        self.noted(Home::Global, "about", abouts)?;
        let onces = self.retained_once();
        self.noted(Home::Global, "m2", onces)?;
        let retained = self.retained();
        self.noted(Home::Global, "ret", retained)?;
        let after = self.nodes()?;
        self.judge_nodes(&after);
        self.judge_mentions(&before, &after);
        self.report.incarnation = after.begun;
        self.report.living = after.living.into_keys().collect();
        self.report.recovered = after.recovered.into_keys().collect();
        Ok((self.report, self.faults))
    }

    fn key(&self, home: Home, name: &str) -> String {
        self.keys.of(home, name)
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.insert(fault);
    }

    /// Notes what is damaged; every other error ends the examination.
    fn noted<T>(&mut self, home: Home, name: &str, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Damaged(what)) => {
                let key = self.key(home, name);
                self.fault(Fault::new(key, what, Advice::Lost).of_kind("damaged"));
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
            let advice = Advice::Run(format!("SET {inc} {highest}"));
            self.fault(Fault::new(&*inc, what, advice).of_kind("behind"));
        }
    }
}
