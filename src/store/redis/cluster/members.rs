//! Who is in the cluster: this node says that it is, and looks who else is, each over a connection of its own.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Cmd, Value};

use super::call::{Reached, read_reached};
use super::serving;
use crate::store::cluster::{Homes, Incarnation, Members, Servers, Serving};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, list, number, parse, text};
use crate::store::redis::script;
use crate::store::{RedisSettings, StoreError};
use crate::time::Millis;

/// It must be possible also when Redis has no memory left.
const BEAT: &str = concat!("#!lua flags=allow-oom\n", include_str!("../scripts/cluster/beat.lua"));
const MEMBERS: &str = concat!(
    "#!lua flags=no-writes\n",
    include_str!("../scripts/cluster/members.lua")
);

/// The nodes that there are, each with its counter.
#[cfg(any(feature = "cli", test))]
pub(super) fn nodes(link: &mut Link, keys: &Keys) -> Result<std::collections::BTreeMap<Incarnation, u64>, StoreError> {
    let mut command = redis::cmd("HGETALL");
    command.arg(keys.of(Home::Global, "nodes"));
    let nodes = pairs(list(link.ask(command)?)?, |state| counter(&state))?;
    Ok(nodes.into_iter().collect())
}

/// See the module.
#[derive(Debug)]
pub(super) struct Membership {
    nodes: String,
    recoverers: String,
    incarnation: Incarnation,
    beats: Line,
    looks: Line,
}

/// What a heartbeat is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) is_member: bool,
    /// Incarnations up to this one are over.
    pub(super) generation: Incarnation,
}

/// A connection that is kept.
#[derive(Debug)]
struct Line {
    keys: Keys,
    settings: RedisSettings,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    link: Option<Link>,
    /// How many servers it has led to: what was seen on one says nothing of another.
    epoch: u64,
    serving: Serving,
}

impl Membership {
    /// Redis may take so long to answer, if that is less than what is set.
    pub(super) fn new(settings: &RedisSettings, keys: &Keys, incarnation: Incarnation, most: Duration) -> Membership {
        let mut settings = settings.clone();
        settings.timeout = settings.timeout.min(most);
        Membership {
            nodes: keys.of(Home::Global, "nodes"),
            recoverers: keys.of(Home::Global, "rec"),
            incarnation,
            beats: Line::new(&settings, keys),
            looks: Line::new(&settings, keys),
        }
    }

    /// See [`Shared::beat`](crate::store::cluster::Shared::beat). This node has found all that it has written on these servers.
    pub(super) fn beat(&self, applied: u64, servers: &Servers) -> Result<Beat, StoreError> {
        let mut command = script::eval(BEAT, &[&self.nodes]);
        command.arg(self.incarnation).arg(applied).arg(servers.to_string());
        let mut reply = list(self.beats.ask(&command)?.0)?.into_iter().map(number);
        let mut next = || reply.next().unwrap_or(Ok(0));
        let (is_member, _, generation) = (next()? > 0, next()?, next()?);
        Ok(Beat { is_member, generation })
    }

    /// The servers of the last heartbeat.
    pub(super) fn beating_on(&self) -> Serving {
        self.beats.kept.lock().serving.clone()
    }

    /// See [`Shared::members`](crate::store::cluster::Shared::members).
    pub(super) fn members(&self) -> Result<Members, StoreError> {
        let command = script::eval(MEMBERS, &[&self.nodes, &self.recoverers]);
        let (reply, epoch) = self.looks.ask(&command)?;
        let mut reply = list(reply)?.into_iter();
        let mut next = || reply.next().unwrap_or(Value::Nil);
        let (nodes, recoverers, now, lost) = (list(next())?, list(next())?, list(next())?, list(next())?);
        let Reached { position, generation } = read_reached(next())?;
        let mut members = Members {
            nodes: pairs(nodes.clone(), |state| counter(&state))?,
            recoverers: pairs(recoverers, |by| parse(&by))?,
            servers: pairs(nodes, |state| Ok(servers(&state)))?,
            generation,
            lost: homes(lost)?,
            position,
            epoch,
            now: Some(time(now)?),
        };
        members.servers.retain(|(_, servers)| !servers.is_empty());
        members.nodes.sort_unstable();
        members.recoverers.sort_unstable();
        members.servers.sort_unstable_by_key(|(node, _)| *node);
        Ok(members)
    }

    pub(super) fn close(&self) {
        self.beats.kept.lock().link = None;
        self.looks.kept.lock().link = None;
    }
}

impl Line {
    fn new(settings: &RedisSettings, keys: &Keys) -> Line {
        Line {
            keys: keys.clone(),
            settings: settings.clone(),
            kept: Mutex::default(),
        }
    }

    /// Asks over the connection; over a new one, if it turns out to be closed. What is asked may be done twice.
    fn ask(&self, command: &Cmd) -> Result<(Value, u64), StoreError> {
        let begun = Instant::now();
        let mut kept = self.kept.lock();
        if let Some(mut link) = kept.link.take() {
            match link.ask(command.clone()) {
                Err(_) if begun.elapsed() < self.settings.timeout / 2 => {}
                Err(error) => return Err(error),
                Ok(reply) => {
                    kept.link = Some(link);
                    return Ok((reply, kept.epoch));
                }
            }
        }
        let mut link = Link::connect(&self.settings)?;
        let serving = serving::read(&mut link, &self.keys)?;
        if kept.serving != serving {
            kept.epoch += 1;
            kept.serving = serving;
        }
        let reply = link.ask(command.clone())?;
        kept.link = Some(link);
        Ok((reply, kept.epoch))
    }
}

/// What a node has written of itself: its counter, and up to where it has applied the log.
fn counter(state: &[u8]) -> Result<u64, StoreError> {
    match state.iter().position(|byte| *byte == b':') {
        Some(end) => parse(&state[..end]),
        None => Err(StoreError::Damaged("a node in Redis has no counter".to_owned())),
    }
}

/// Behind that are servers, if it knows any.
fn servers(state: &[u8]) -> Servers {
    let servers = state.splitn(3, |byte| *byte == b':').nth(2).unwrap_or_default();
    Servers::parse(&String::from_utf8_lossy(servers))
}

fn homes(names: Vec<Value>) -> Result<Homes, StoreError> {
    let mut homes = Homes::default();
    for name in names {
        let name = text(name)?;
        let home = Home::named(&name).ok_or_else(|| StoreError::Damaged(format!("{name:?} is no home in Redis")))?;
        home.insert_into(&mut homes);
    }
    Ok(homes)
}

fn pairs<T>(
    fields: Vec<Value>,
    value: impl Fn(Vec<u8>) -> Result<T, StoreError>,
) -> Result<Vec<(Incarnation, T)>, StoreError> {
    let (pairs, _) = fields.as_chunks::<2>();
    let pairs = pairs.iter().cloned();
    pairs
        .map(|[name, of]| Ok((number(name)?, value(bytes(of)?)?)))
        .collect()
}

/// Seconds and microseconds.
fn time(parts: Vec<Value>) -> Result<Millis, StoreError> {
    let mut parts = parts.into_iter().map(number);
    let mut next = || parts.next().unwrap_or(Ok(0));
    Ok(Millis::from_unix(next()? * 1000 + next()? / 1000))
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
