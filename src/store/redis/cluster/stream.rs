//! Streams: their entries, which have one field, and numbers that go up.
//!
//! The first part of each identifier is 1: time, which may go back, has no say in the order.

use redis::{Cmd, Value};

use crate::store::StoreError;
use crate::store::redis::reply::{bytes, list, parse, text};

/// The number of an entry, and what is in it.
pub(super) type Item = (u64, Vec<u8>);

/// The identifier of an entry.
pub(super) fn identifier(number: u64) -> String {
    format!("1-{number}")
}

/// The number in an identifier.
pub(super) fn number(identifier: &[u8]) -> Result<u64, StoreError> {
    match identifier.strip_prefix(b"1-") {
        Some(number) => parse(number),
        None => Err(StoreError::Damaged(format!(
            "an entry of a stream in Redis is {:?}",
            String::from_utf8_lossy(identifier)
        ))),
    }
}

/// Reads what is behind these entries, at most so many of each stream, or waits for it.
pub(super) fn read(streams: &[(&str, String)], most: usize, wait_millis: u64) -> Cmd {
    let mut command = redis::cmd("XREAD");
    command
        .arg("BLOCK")
        .arg(wait_millis)
        .arg("COUNT")
        .arg(most)
        .arg("STREAMS");
    streams.iter().for_each(|(key, _)| {
        command.arg(*key);
    });
    streams.iter().for_each(|(_, last)| {
        command.arg(last);
    });
    command
}

/// What [`read`] has found: streams by their keys, of which there are only those that have something.
pub(super) fn found(reply: Value) -> Result<Vec<(String, Vec<Item>)>, StoreError> {
    if reply == Value::Nil {
        return Ok(Vec::new());
    }
    let streams = list(reply)?.into_iter().map(|stream| {
        let [key, entries] = parts(stream)?;
        Ok((text(key)?, items(entries)?))
    });
    streams.collect()
}

/// Entries of one stream.
pub(super) fn items(entries: Value) -> Result<Vec<Item>, StoreError> {
    let entries = list(entries)?.into_iter().map(|entry| {
        let [identifier, fields] = parts(entry)?;
        let [_, value] = parts(fields)?;
        Ok((number(&bytes(identifier)?)?, bytes(value)?))
    });
    entries.collect()
}

fn parts(value: Value) -> Result<[Value; 2], StoreError> {
    <[Value; 2]>::try_from(list(value)?)
        .map_err(|_| StoreError::Damaged("an entry of a stream in Redis has other fields than ours".to_owned()))
}
