//! One attempt to write: how it may fail, and what is waited for when it has not.

use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::keys::{Home, Keys};
use super::link::Link;
use super::reply::{list, number};
use crate::store::{RedisSettings, StoreError};

/// Why an attempt has failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The connection can't be used any more.
    Lost(StoreError),
    /// The scripts must be sent again; nothing was done.
    Forgotten,
    Refused(StoreError),
    /// There is no memory left.
    Full(StoreError),
    /// Not for this process any more.
    Stopped(StoreError),
}

impl Failed {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Failed::Lost(error) | Failed::Refused(error) | Failed::Full(error) | Failed::Stopped(error) => error,
            Failed::Forgotten => {
                StoreError::Unavailable("Redis forgets scripts as soon as they have been loaded".to_owned())
            }
        }
    }
}

/// Makes attempts until one succeeds, or one fails in a way that a repetition at once does not mend. The server closes
/// connections that are idle, and all of them when it starts again.
pub(super) fn insist(
    timeout: Duration,
    was_idle: bool,
    mut attempt: impl FnMut() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let begun = Instant::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt() {
            Err(Failed::Lost(_)) if was_idle && attempts == 1 && begun.elapsed() < timeout / 2 => {}
            Err(Failed::Forgotten) if attempts <= 2 => {}
            result => return result,
        }
    }
}

/// The number of the last call that an incarnation has made to each home; `None` where it may make none.
pub(super) fn last_calls(link: &mut Link, keys: &Keys, incarnation: u64) -> Result<Vec<(Home, Option<u64>)>, Failed> {
    calls_of(link, keys, &incarnation.to_string())
}

/// The highest incarnation that was ever taken the right to write to each home.
pub(super) fn highest_fenced(link: &mut Link, keys: &Keys) -> Result<Vec<(Home, Option<u64>)>, Failed> {
    calls_of(link, keys, "top")
}

fn calls_of(link: &mut Link, keys: &Keys, field: &str) -> Result<Vec<(Home, Option<u64>)>, Failed> {
    let commands: Vec<_> = Home::all()
        .map(|home| {
            let mut command = redis::cmd("HGET");
            command.arg(keys.of(home, "hw")).arg(field);
            command
        })
        .collect();
    let replies = link.run(&commands).map_err(Failed::Lost)?;
    let numbers = Home::all().zip(replies).map(|(home, reply)| {
        let last = match link.checked(reply).map_err(Failed::Refused)? {
            Value::Nil => None,
            last => Some(number(last).map_err(Failed::Refused)?),
        };
        Ok((home, last))
    });
    numbers.collect()
}

/// A reply that is no error. A server that has become a replica, or has given the
/// key to another, is left.
pub(super) fn accepted(link: &Link, reply: Value) -> Result<Value, Failed> {
    match reply {
        Value::ServerError(error) if error.code() == "NOSCRIPT" => Err(Failed::Forgotten),
        Value::ServerError(error) if matches!(error.code(), "READONLY" | "MASTERDOWN" | "MOVED" | "ASK") => {
            Err(Failed::Lost(link.fault(&error)))
        }
        Value::ServerError(error) if error.code() == "OOM" => Err(Failed::Full(link.fault(&error))),
        Value::ServerError(error) => Err(Failed::Refused(link.fault(&error))),
        reply => Ok(reply),
    }
}

/// Waits for replicas, and for the append-only file.
pub(super) fn wait(settings: &RedisSettings) -> Option<Cmd> {
    let replicas = settings.wait;
    let millis = u64::try_from(settings.timeout.as_millis() / 2).unwrap_or(u64::MAX);
    if settings.fsync {
        let mut command = redis::cmd("WAITAOF");
        command.arg(1).arg(replicas).arg(millis);
        return Some(command);
    }
    let mut command = redis::cmd("WAIT");
    command.arg(replicas).arg(millis);
    (replicas > 0).then_some(command)
}

pub(super) fn waited(settings: &RedisSettings, link: &Link, reply: Value) -> Result<(), Failed> {
    let wanted = u64::from(settings.wait);
    let (synced, replicas) = match settings.fsync {
        false => (1, number(reply)),
        true => {
            let mut both = list(reply).map_err(Failed::Refused)?.into_iter();
            let synced = both.next().and_then(|synced| number(synced).ok()).unwrap_or(0);
            (synced, number(both.next().unwrap_or(Value::Int(0))))
        }
    };
    let replicas = replicas.map_err(Failed::Refused)?;
    let address = link.address();
    if synced == 0 {
        let why = format!("Redis at {address} has not synced its append-only file in time");
        return Err(Failed::Refused(StoreError::Unavailable(why)));
    }
    if replicas < wanted {
        let why =
            format!("{replicas} replicas of Redis at {address} have the last changes, and {wanted} must have them");
        return Err(Failed::Refused(StoreError::Unavailable(why)));
    }
    Ok(())
}

/// What can't be used now may be usable later, while a broker runs: a password is changed in two places, one after the other.
pub(super) fn for_now(error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(why) => StoreError::Unavailable(why),
        other => other,
    }
}

pub(super) fn lost_writes(link: &Link) -> StoreError {
    StoreError::Refused(format!(
        "Redis at {} has lost changes that it had confirmed (it, or a replica that took its place, did not have them on \
         disk): this broker can't go on from there, and must be started again",
        link.address()
    ))
}
