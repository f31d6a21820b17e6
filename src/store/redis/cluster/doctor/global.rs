//! What all nodes mirror: who lives, the log, filters, and retained messages.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;

use super::Examination;
use super::bucket::one;
use super::census::canonical;
use super::fault::{Advice, Fault, quoted};
use crate::store::StoreError;
use crate::store::cluster::{About, Entry, Incarnation, Mid};
use crate::store::redis::cluster::stream;
use crate::store::redis::entry::read_message;
use crate::store::redis::keys::Home;
use crate::store::redis::read::pairs;
use crate::store::redis::reply::{bytes, bytes_or_none, list, number, parse};
use crate::store::redis::script;
use crate::topic::TopicFilter;
use crate::wire::Reader;

/// The global home at one moment.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// How many incarnations have begun.
    pub(super) begun: Incarnation,
    position: u64,
    /// Up to where each has applied the log, and how often it has said that it lives.
    pub(super) living: BTreeMap<Incarnation, Life>,
    /// Who is dead, and who recovers it.
    pub(super) recovered: BTreeMap<Incarnation, Incarnation>,
    writers: BTreeSet<Incarnation>,
    /// The first entry of the log that is there, and the last that ever was.
    first: Option<u64>,
    newest: u64,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    pub(super) beats: u64,
    applied: u64,
}

/// Fields or entries that are read at a time.
const AT_A_TIME: usize = 500;

impl Nodes {
    /// Whether something of it may be there.
    pub(super) fn has(&self, node: Incarnation) -> bool {
        self.living.contains_key(&node) || self.recovered.contains_key(&node)
    }
}

impl Examination<'_> {
    /// Who is there. What does not go together is told once, at the end.
    pub(super) fn nodes(&mut self) -> Result<Nodes, StoreError> {
        let meta = self.key(Home::Global, "meta");
        let reply = self.link.ask(script::call(&self.looks.global, &meta))?;
        let mut parts = list(reply)?.into_iter();
        let mut next = || parts.next().unwrap_or(Value::Nil);
        let (position, begun) = (list(next())?.into_iter().nth(2), number(next())?);
        let (living, recovered, writers) = (pairs(next())?, pairs(next())?, pairs(next())?);
        let first = stream::items(next())?.first().map(|(position, _)| *position);
        let newest = bytes(next())?;
        Ok(Nodes {
            begun,
            position: position.map_or(Ok(0), number)?,
            living: numbered(living, life)?,
            recovered: numbered(recovered, parse)?,
            writers: writers
                .iter()
                .filter(|(name, _)| name != b"top")
                .map(|(name, _)| parse(name))
                .collect::<Result<_, _>>()?,
            first,
            newest: match &newest[..] {
                b"0-0" => 0,
                newest => stream::number(newest)?,
            },
        })
    }

    /// Whether who is there, and what the log says, go together.
    pub(super) fn judge_nodes(&mut self, nodes: &Nodes) {
        let living: BTreeSet<_> = nodes.living.keys().copied().collect();
        let hw = self.key(Home::Global, "hw");
        for node in living.difference(&nodes.writers) {
            self.fault(Fault::new(
                hw.clone(),
                format!("node {node} is one of the cluster, and may not write"),
                Advice::Restart,
            ));
        }
        for node in nodes.writers.difference(&living) {
            let command = format!("HDEL {hw} {node}");
            self.fault(Fault::new(
                hw.clone(),
                format!("{node} may write, and is no node of the cluster"),
                Advice::Run(command),
            ));
        }
        let rec = self.key(Home::Global, "rec");
        for (dead, by) in &nodes.recovered {
            if nodes.living.contains_key(dead) {
                let what = format!("node {dead} is recovered, and lives");
                self.fault(Fault::new(rec.clone(), what, Advice::Run(format!("HDEL {rec} {dead}"))));
            }
            if !nodes.has(*by) {
                let what = format!("node {dead} is recovered by {by}, which is no node of the cluster");
                self.fault(Fault::new(rec.clone(), what, Advice::Recover(*dead)));
            }
        }
        self.judge_log(nodes);
    }

    fn judge_log(&mut self, nodes: &Nodes) {
        let log = self.key(Home::Global, "log");
        let position = nodes.position;
        if nodes.newest != position {
            let what = format!("its last entry is {}, and {position} is noted in meta", nodes.newest);
            self.fault(Fault::new(log.clone(), what, Advice::Lost).of_kind("last entry"));
        }
        let first = nodes.first.unwrap_or(position + 1);
        for (node, life) in &nodes.living {
            if life.applied + 1 < first {
                let what = format!(
                    "it begins with entry {first}, and node {node} has applied what is up to {}",
                    life.applied
                );
                let kind = format!("begins too late for {node}");
                self.fault(Fault::new(log.clone(), what, Advice::Restart).of_kind(kind));
            }
            if life.applied > position {
                let what = format!(
                    "node {node} has applied entry {}, and {position} is the last",
                    life.applied
                );
                let kind = format!("ends too early for {node}");
                self.fault(Fault::new(log.clone(), what, Advice::Lost).of_kind(kind));
            }
        }
    }

    /// Reads the log: no entry is missing between the first and the last, and each can be read.
    pub(super) fn log(&mut self) -> Result<(), StoreError> {
        let log = self.key(Home::Global, "log");
        let mut last = None;
        loop {
            let mut command = redis::cmd("XRANGE");
            let from = last.map_or_else(|| "-".to_owned(), |last| format!("({}", stream::identifier(last)));
            command.arg(&log).arg(from).arg("+").arg("COUNT").arg(AT_A_TIME);
            let entries = stream::items(self.link.ask(command)?)?;
            if entries.is_empty() {
                return Ok(());
            }
            for (position, entry) in entries {
                if let Some(last) = last
                    && position != last + 1
                    && !self.is_trimmed(&log, last + 1)?
                {
                    let what = format!("the entries from {} to {} are missing", last + 1, position - 1);
                    self.fault(Fault::new(log.clone(), what, Advice::Restart));
                }
                if let Some(error) = fault_of_entry(&entry) {
                    let what = format!("entry {position} can't be read: {error}");
                    self.fault(Fault::new(log.clone(), what, Advice::Restart));
                }
                last = Some(position);
            }
        }
    }

    /// Whether the log begins behind this position by now.
    fn is_trimmed(&mut self, log: &str, position: u64) -> Result<bool, StoreError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(log).arg("-").arg("+").arg("COUNT").arg(1);
        let first = stream::items(self.link.ask(command)?)?;
        Ok(first.first().is_none_or(|(first, _)| *first > position))
    }

    /// Filters that nodes want messages of.
    pub(super) fn filters(&mut self) -> Result<(), StoreError> {
        let key = self.key(Home::Global, "f");
        self.each_field(&key, |examination, name, kind| {
            let text = String::from_utf8_lossy(name).into_owned();
            let parts = text.split_once(':');
            let parts = parts.and_then(|(node, filter)| Some((canonical(node)?, filter)));
            let remove = || Advice::Run(format!("HDEL {key} {}", quoted(&text)));
            match parts {
                Some((node, filter)) if TopicFilter::parse(filter).is_ok() && matches!(kind, b"0" | b"1") => {
                    examination.mention(node, &key, &format!("it has the filter {filter:?} of it"));
                }
                _ => examination.fault(Fault::new(&*key, format!("{text:?} is no filter of a node"), remove())),
            }
        })
    }

    /// What was lost before the generation that is over.
    pub(super) fn lost(&mut self) -> Result<(), StoreError> {
        let (key, meta) = (self.key(Home::Global, "lost"), self.key(Home::Global, "meta"));
        let mut generation = redis::cmd("HGET");
        generation.arg(&meta).arg("gen");
        let mut replies = self.link.run(&[one("SMEMBERS", key.clone()), generation])?.into_iter();
        let mut next = || self.link.checked(replies.next().unwrap_or(Value::Nil));
        let (homes, generation) = (list(next()?)?, bytes_or_none(next()?)?);
        let is_none = generation.is_none();
        if let Some(generation) = generation {
            match std::str::from_utf8(&generation).ok().and_then(canonical) {
                Some(generation) => self.report.generation = generation,
                None => {
                    let what = "gen does not say which incarnations are over";
                    self.fault(Fault::new(&*meta, what, Advice::Run(format!("HDEL {meta} gen"))));
                }
            }
        }
        for home in homes {
            let home = String::from_utf8_lossy(&bytes(home)?).into_owned();
            let what = match Home::named(&home).filter(|named| named.name() == home) {
                Some(named) if !is_none => {
                    named.insert_into(&mut self.report.lost);
                    continue;
                }
                Some(_) => format!("home {home} has lost writes of incarnations that are over, and none is"),
                None => format!("{home:?} is no home"),
            };
            let command = format!("SREM {key} {}", quoted(&home));
            self.fault(Fault::new(&*key, what, Advice::Run(command)));
        }
        Ok(())
    }

    /// What nodes say of themselves.
    pub(super) fn abouts(&mut self) -> Result<(), StoreError> {
        let key = self.key(Home::Global, "about");
        self.each_field(&key, |examination, name, about| {
            let node = std::str::from_utf8(name).ok().and_then(canonical);
            match node.filter(|_| About::read(about).is_ok()) {
                Some(node) => examination.mention(node, &key, "it has what the node says of itself"),
                None => {
                    let name = String::from_utf8_lossy(name);
                    let remove = Advice::Run(format!("HDEL {key} {}", quoted(&name)));
                    examination.fault(Fault::new(
                        &*key,
                        format!("{name:?} is nothing that a node says of itself"),
                        remove,
                    ));
                }
            }
        })
    }

    /// Messages of jobs that have been put into the log.
    pub(super) fn retained_once(&mut self) -> Result<(), StoreError> {
        let key = self.key(Home::Global, "m2");
        self.each_field(&key, |examination, name, of| {
            examination.report.onces += 1;
            let name = String::from_utf8_lossy(name);
            let of = std::str::from_utf8(of).ok().and_then(canonical);
            match of.filter(|_| Mid::parse(&name).is_some()) {
                Some(of) => examination.mention(of, &key, "it has retained a message once"),
                None => {
                    let remove = Advice::Run(format!("HDEL {key} {}", quoted(&name)));
                    let what = format!("{name:?} is no message of a node that has been retained once");
                    examination.fault(Fault::new(&*key, what, remove));
                }
            }
        })
    }

    pub(super) fn retained(&mut self) -> Result<(), StoreError> {
        let key = self.key(Home::Global, "ret");
        self.each_field(&key, |examination, topic, message| {
            examination.report.retained += 1;
            let shown = String::from_utf8_lossy(topic).into_owned();
            let error = match read_message(message) {
                Ok(message) if message.topic().as_bytes() == topic => return,
                Ok(_) => "it is of another topic",
                Err(error) => error.0,
            };
            let advice = Advice::Run(format!(
                "publish to {shown:?} again with RETAIN, or HDEL {key} {}",
                quoted(&shown)
            ));
            examination.fault(Fault::new(
                &*key,
                format!("the retained message of {shown:?}: {error}"),
                advice,
            ));
        })
    }

    /// Reads a hash that may be large. While Redis makes one larger or smaller, a scan may yield a field again.
    fn each_field(
        &mut self,
        key: &str,
        mut each: impl FnMut(&mut Examination<'_>, &[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let mut seen = BTreeSet::new();
        let mut cursor = b"0".to_vec();
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(key).arg(&cursor).arg("COUNT").arg(AT_A_TIME);
            let mut reply = list(self.link.ask(command)?)?.into_iter();
            cursor = bytes_or_none(reply.next().unwrap_or(Value::Nil))?.unwrap_or_default();
            for (name, value) in pairs(reply.next().unwrap_or(Value::Nil))? {
                if seen.insert(name.clone()) {
                    each(self, &name, &value);
                }
            }
            if cursor == b"0" {
                return Ok(());
            }
        }
    }
}

fn fault_of_entry(bytes: &[u8]) -> Option<&'static str> {
    let mut reader = Reader::new(bytes);
    match Entry::read(&mut reader) {
        Ok(_) if reader.is_empty() => None,
        Ok(_) => Some("bytes behind the end"),
        Err(error) => Some(error.0),
    }
}

fn numbered<T>(
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    value: impl Fn(&[u8]) -> Result<T, StoreError>,
) -> Result<BTreeMap<Incarnation, T>, StoreError> {
    let fields = fields.into_iter();
    fields.map(|(name, of)| Ok((parse(&name)?, value(&of)?))).collect()
}

fn life(state: &[u8]) -> Result<Life, StoreError> {
    // Behind that are servers, perhaps.
    let parts = state.splitn(3, |byte| *byte == b':').take(2).map(parse);
    match parts.collect::<Result<Vec<u64>, _>>()?[..] {
        [beats, applied] => Ok(Life { beats, applied }),
        _ => Err(StoreError::Damaged(format!(
            "{:?} says of no node how far it is",
            String::from_utf8_lossy(state)
        ))),
    }
}
