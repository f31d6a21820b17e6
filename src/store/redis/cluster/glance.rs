//! Looking at sessions, whoever owns them: in parts, and without their messages.

use redis::Value;

use super::read::one;
use crate::store::cluster::{AwaySession, bucket_of_uid};
use crate::store::redis::entry::ELEMENTS;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes_or_none, list, number, parse};
use crate::store::{StoreError, Uid};
use crate::time::Millis;

/// Sessions that are looked for at a time. Redis yields more of a bucket that has few: up to 512.
const AT_A_TIME: usize = 100;

/// How many sessions there are.
pub(super) fn count(link: &mut Link, keys: &Keys) -> Result<u64, StoreError> {
    let commands: Vec<_> = Home::buckets()
        .map(|home| one("SCARD", keys.of(home, "sessions")))
        .collect();
    let mut sum = 0;
    for reply in link.run(&commands)? {
        sum += number(link.checked(reply)?)?;
    }
    Ok(sum)
}

/// Some of the sessions of a bucket in the order of their names, and where the bucket goes on.
pub(super) fn some(
    link: &mut Link,
    keys: &Keys,
    bucket: u8,
    cursor: u64,
) -> Result<(Vec<AwaySession>, u64), StoreError> {
    let mut command = one("SSCAN", keys.of(Home::Bucket(bucket), "sessions"));
    command.arg(cursor).arg("COUNT").arg(AT_A_TIME);
    let mut reply = list(link.ask(command)?)?.into_iter();
    let next = number(reply.next().unwrap_or(Value::Nil))?;
    let found = list(reply.next().unwrap_or(Value::Nil))?;
    let mut uids = found.into_iter().map(number).collect::<Result<Vec<Uid>, _>>()?;
    uids.sort_unstable();
    uids.dedup();
    Ok((each(link, keys, &uids)?, next))
}

/// Those of these sessions that are there.
pub(super) fn each(link: &mut Link, keys: &Keys, uids: &[Uid]) -> Result<Vec<AwaySession>, StoreError> {
    let mut commands = Vec::with_capacity(uids.len() * 2);
    for uid in uids {
        let home = Home::Bucket(bucket_of_uid(*uid));
        let mut fields = one("HMGET", keys.session(home, *uid));
        fields.arg(&["cid", "owner", "expiry", "away", "bytes"]);
        commands.extend([fields, one("LLEN", keys.of(home, &format!("q:{uid}")))]);
    }
    let mut replies = link.run(&commands)?.into_iter();
    let mut next = || link.checked(replies.next().unwrap_or(Value::Nil));
    let mut sessions = Vec::new();
    for uid in uids {
        let (fields, length) = (list(next()?)?, number(next()?)?);
        sessions.extend(session(*uid, fields, length)?);
    }
    Ok(sessions)
}

/// `None` if it has ended since it was looked for.
fn session(uid: Uid, fields: Vec<Value>, length: u64) -> Result<Option<AwaySession>, StoreError> {
    let mut fields = fields.into_iter().map(bytes_or_none);
    let mut next = || fields.next().unwrap_or(Ok(None));
    let Some(client_id) = next()? else { return Ok(None) };
    let mut number = || next()?.map(|bytes| parse::<u64>(&bytes)).transpose();
    let (owner, expiry, away, bytes) = (number()?, number()?, number()?, number()?);
    let ends = |seconds: u64| {
        let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds != u32::MAX)?;
        let away = away.filter(|away| *away > 0 && owner.is_none())?;
        Some(Millis::from_unix(away).plus_seconds(seconds))
    };
    Ok(Some(AwaySession {
        uid,
        client_id: String::from_utf8_lossy(&client_id).into(),
        owner,
        ends_at: expiry.and_then(ends),
        messages: length / ELEMENTS as u64,
        bytes: bytes.unwrap_or_default(),
    }))
}
