//! Who is in the cluster: this node says that it is, and looks who else is, each over a connection of its own.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Cmd, Value};

use crate::store::cluster::{Incarnation, Members};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, list, number, parse};
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

/// A connection that is kept.
#[derive(Debug)]
struct Line {
    settings: RedisSettings,
    link: Mutex<Option<Link>>,
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
            beats: Line::new(&settings),
            looks: Line::new(&settings),
        }
    }

    /// See [`Shared::beat`](crate::store::cluster::Shared::beat).
    pub(super) fn beat(&self, applied: u64) -> Result<bool, StoreError> {
        let mut command = script::eval(BEAT, &[&self.nodes]);
        command.arg(self.incarnation).arg(applied);
        let reply = list(self.beats.ask(&command)?)?;
        Ok(number(reply.into_iter().next().unwrap_or(Value::Nil))? > 0)
    }

    /// See [`Shared::members`](crate::store::cluster::Shared::members).
    pub(super) fn members(&self) -> Result<Members, StoreError> {
        let command = script::eval(MEMBERS, &[&self.nodes, &self.recoverers]);
        let mut reply = list(self.looks.ask(&command)?)?.into_iter();
        let mut next = || list(reply.next().unwrap_or(Value::Nil));
        let (nodes, recoverers, now) = (next()?, next()?, next()?);
        let mut members = Members {
            nodes: pairs(nodes, |state| counter(&state))?,
            recoverers: pairs(recoverers, |by| parse(&by))?,
            now: Some(time(now)?),
        };
        members.nodes.sort_unstable();
        members.recoverers.sort_unstable();
        Ok(members)
    }

    pub(super) fn close(&self) {
        *self.beats.link.lock() = None;
        *self.looks.link.lock() = None;
    }
}

impl Line {
    fn new(settings: &RedisSettings) -> Line {
        Line {
            settings: settings.clone(),
            link: Mutex::new(None),
        }
    }

    /// Asks over the connection; over a new one, if it turns out to be closed. What is asked may be done twice.
    fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        let begun = Instant::now();
        let mut kept = self.link.lock();
        if let Some(mut link) = kept.take() {
            match link.ask(command.clone()) {
                Err(_) if begun.elapsed() < self.settings.timeout / 2 => {}
                Err(error) => return Err(error),
                Ok(reply) => {
                    *kept = Some(link);
                    return Ok(reply);
                }
            }
        }
        let mut link = Link::connect(&self.settings)?;
        let reply = link.ask(command.clone())?;
        *kept = Some(link);
        Ok(reply)
    }
}

/// What a node has written of itself: its counter, and up to where it has applied the log.
fn counter(state: &[u8]) -> Result<u64, StoreError> {
    match state.iter().position(|byte| *byte == b':') {
        Some(end) => parse(&state[..end]),
        None => Err(StoreError::Damaged("a node in Redis has no counter".to_owned())),
    }
}

fn pairs(
    fields: Vec<Value>,
    value: impl Fn(Vec<u8>) -> Result<u64, StoreError>,
) -> Result<Vec<(Incarnation, u64)>, StoreError> {
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
