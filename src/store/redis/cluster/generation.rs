//! What a node asks when Redis may have lost writes, and how it says that it has.

use std::collections::BTreeSet;

use redis::Value;

use super::scripts::{LOOK_PLACES, RAISE};
use crate::store::cluster::{Homes, Incarnation, bucket_of_uid};
use crate::store::redis::entry::read_live_terms;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, bytes_or_none, list, number, parse};
use crate::store::redis::script::{self, eval};
use crate::store::{StoreError, Uid};

/// What there is of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The place that it gives next.
    pub(super) next: u64,
    /// What is at each place that was asked for, if anything.
    pub(super) places: Vec<Option<Seen>>,
}

/// A message in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) share: Option<Box<str>>,
    /// Its [checksum](crate::store::redis::entry::message_sum); `None` once it has been released.
    pub(super) sum: Option<u32>,
}

/// Redis has lost writes of this incarnation in these homes: all that there are are over. The generation as it is now. May be repeated.
pub(super) fn raise(link: &mut Link, keys: &Keys, over: Incarnation, lost: Homes) -> Result<Incarnation, StoreError> {
    let mut command = eval(RAISE, &[&keys.of(Home::Global, "meta")]);
    command.arg(over);
    Home::all().filter(|home| home.is_in(lost)).for_each(|home| {
        command.arg(home.name());
    });
    number(link.ask(command)?)
}

/// Incarnations that may write to one of these buckets, or could and may have left something there.
pub(super) fn writers(
    link: &mut Link,
    keys: &Keys,
    homes: impl Iterator<Item = Home>,
) -> Result<BTreeSet<Incarnation>, StoreError> {
    let commands: Vec<_> = homes
        .flat_map(|home| [("HKEYS", "hw"), ("SMEMBERS", "fenced")].map(|(name, key)| (name, keys.of(home, key))))
        .map(|(name, key)| {
            let mut command = redis::cmd(name);
            command.arg(key);
            command
        })
        .collect();
    let mut writers = BTreeSet::new();
    for reply in link.run(&commands)? {
        for name in list(link.checked(reply)?)? {
            let name = bytes(name)?;
            if name != b"top" {
                writers.insert(parse(&name)?);
            }
        }
    }
    Ok(writers)
}

/// Which incarnations are over: all up to this one, or 0.
pub(super) fn current(link: &mut Link, keys: &Keys) -> Result<Incarnation, StoreError> {
    let mut command = redis::cmd("HGET");
    command.arg(keys.of(Home::Global, "meta")).arg("gen");
    match link.ask(command)? {
        Value::Nil => Ok(0),
        generation => number(generation),
    }
}

/// What is at these places of queues; `None` for a session that is not there.
pub(super) fn look_places(
    link: &mut Link,
    keys: &Keys,
    wanted: &[(Uid, Vec<u64>)],
) -> Result<Vec<Option<Found>>, StoreError> {
    let name = script::load(link, LOOK_PLACES)?;
    let commands: Vec<_> = wanted
        .iter()
        .map(|(uid, places)| {
            let mut command = script::call(&name, &keys.session(Home::Bucket(bucket_of_uid(*uid)), *uid));
            command.arg(*uid).arg(&places[..]);
            command
        })
        .collect();
    let replies = link.run(&commands)?.into_iter();
    replies.map(|reply| found(link.checked(reply)?)).collect()
}

fn found(reply: Value) -> Result<Option<Found>, StoreError> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let mut parts = list(reply)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let last = bytes(next())?;
    let places = list(next())?.into_iter().map(seen);
    Ok(Some(Found {
        next: if last.is_empty() { 0 } else { parse::<u64>(&last)? + 1 },
        places: places.collect::<Result<_, _>>()?,
    }))
}

fn seen(entry: Value) -> Result<Option<Seen>, StoreError> {
    if entry == Value::Nil {
        return Ok(None);
    }
    let mut parts = list(entry)?.into_iter().map(bytes_or_none);
    let mut next = || parts.next().unwrap_or(Ok(None));
    let (terms, sum) = (next()?.unwrap_or_default(), next()?.unwrap_or_default());
    let terms = read_live_terms(&terms).map_err(|error| StoreError::Damaged(error.0.to_owned()))?;
    Ok(Some(Seen {
        share: terms.share.map(Box::from),
        sum: sum.try_into().ok().map(u32::from_be_bytes),
    }))
}

#[cfg(test)]
#[path = "generation_tests.rs"]
mod tests;
