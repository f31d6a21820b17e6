//! Reading what a cluster keeps: in pipelines of bounded size, and never by a scan of all keys.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{Cmd, Value};

use crate::store::cluster::{
    ClientRecord, Incarnation, Job, Mid, Rest, RouteKind, Snapshot, Token, bucket_of_client, bucket_of_uid,
};
use crate::store::redis::entry::read_job;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, bytes_or_none, list, number, parse, text};
use crate::store::redis::{read, script};
use crate::store::{StoreError, StoredSession, Uid};
use crate::wire::Malformed;

const DUE: &str = concat!("#!lua flags=no-writes\n", include_str!("../scripts/cluster/due.lua"));

/// Fields of a hash that are read at a time.
const AT_A_TIME: usize = 500;

pub(super) fn sessions(link: &mut Link, keys: &Keys, uids: &[Uid]) -> Result<Vec<Option<StoredSession>>, StoreError> {
    let places: Vec<_> = uids
        .iter()
        .map(|uid| (*uid, Home::Bucket(bucket_of_uid(*uid))))
        .collect();
    let mut found: HashMap<Uid, StoredSession> = HashMap::with_capacity(uids.len());
    read::sessions(link, keys, &places, &mut |session| {
        found.insert(session.uid, session);
    })?;
    Ok(uids.iter().map(|uid| found.get(uid).cloned()).collect())
}

pub(super) fn next_places(link: &mut Link, keys: &Keys, uids: &[Uid]) -> Result<Vec<u64>, StoreError> {
    let commands = uids.iter().map(|uid| {
        let mut command = one("HGET", keys.session(Home::Bucket(bucket_of_uid(*uid)), *uid));
        command.arg("last");
        command
    });
    let replies = link.run(commands)?;
    let places = replies.into_iter().map(|reply| {
        let last = bytes_or_none(link.checked(reply)?)?;
        last.map_or(Ok(0), |last| parse::<u64>(&last).map(|last| last.saturating_add(1)))
    });
    places.collect()
}

pub(super) fn clients(link: &mut Link, keys: &Keys, client_ids: &[Arc<str>]) -> Result<Vec<ClientRecord>, StoreError> {
    let mut records = Vec::with_capacity(client_ids.len());
    for part in client_ids.chunks(AT_A_TIME) {
        let commands = part.iter().map(|client_id| {
            let home = Home::Bucket(bucket_of_client(client_id));
            let mut command = one("HMGET", keys.of(home, &format!("c:{client_id}")));
            command.arg(&["owner", "next", "opened", "uid", "wills"]);
            command
        });
        for reply in link.run(commands)? {
            records.push(client(link.checked(reply)?)?);
        }
    }
    Ok(records)
}

fn client(fields: Value) -> Result<ClientRecord, StoreError> {
    let mut fields = list(fields)?.into_iter().map(bytes_or_none);
    let mut next = || fields.next().unwrap_or(Ok(None));
    Ok(ClientRecord {
        owner: next()?.map(token).transpose()?,
        next: next()?.map(token).transpose()?,
        opened: next()?.map(token).transpose()?,
        uid: next()?.map(|uid| parse(&uid)).transpose()?,
        has_wills: next()?.is_some(),
    })
}

/// Nodes, and the filters of each.
pub(super) fn snapshot(link: &mut Link, keys: &Keys) -> Result<Snapshot, StoreError> {
    let mut nodes = Vec::new();
    for node in list(link.ask(one("HKEYS", keys.of(Home::Global, "nodes")))?)? {
        nodes.push(number(node)?);
    }
    nodes.sort_unstable();
    Ok(Snapshot {
        nodes,
        routes: routes(link, keys)?,
    })
}

/// A scan may yield a field again.
fn routes(link: &mut Link, keys: &Keys) -> Result<Vec<(Incarnation, Box<str>, RouteKind)>, StoreError> {
    let mut routes = Vec::new();
    let mut cursor = b"0".to_vec();
    loop {
        let mut command = one("HSCAN", keys.of(Home::Global, "f"));
        command.arg(&cursor).arg("COUNT").arg(AT_A_TIME);
        let mut reply = list(link.ask(command)?)?.into_iter();
        cursor = bytes(reply.next().unwrap_or(Value::Nil))?;
        let fields = list(reply.next().unwrap_or(Value::Nil))?;
        for [name, kind] in fields.as_chunks::<2>().0 {
            routes.push(route(&text(name.clone())?, number(kind.clone())?)?);
        }
        if cursor == b"0" {
            return Ok(routes);
        }
    }
}

/// The jobs with these identities, of those that are there.
pub(super) fn jobs(link: &mut Link, keys: &Keys, mids: &[(u8, Mid)]) -> Result<Vec<Job>, StoreError> {
    let mut jobs = Vec::new();
    for part in mids.chunks(AT_A_TIME) {
        let commands = part.iter().map(|(bucket, mid)| {
            let mut command = one("HGET", keys.of(Home::Bucket(*bucket), "jobs"));
            command.arg(mid.to_string());
            command
        });
        let replies = link.run(commands)?;
        for ((bucket, mid), reply) in part.iter().zip(replies) {
            if let Some(value) = bytes_or_none(link.checked(reply)?)? {
                jobs.push(job((*bucket, *mid), &value)?);
            }
        }
    }
    Ok(jobs)
}

pub(super) fn jobs_of(link: &mut Link, keys: &Keys, of: Incarnation) -> Result<Vec<Job>, StoreError> {
    let mut jobs = Vec::new();
    for (bucket, reply) in each_bucket(link, |home| one("HGETALL", keys.of(home, "jobs")))? {
        for [name, value] in list(reply)?.as_chunks::<2>().0 {
            let name = text(name.clone())?;
            let mid = Mid::parse(&name).ok_or_else(|| damaged(&format!("the job {name}"), UNKNOWN))?;
            let job = job((bucket, mid), &bytes(value.clone())?)?;
            jobs.extend(Some(job).filter(|job| job.of == of));
        }
    }
    add_choices(link, keys, &mut jobs)?;
    // Those of one node that have begun one after the other stay in this order.
    jobs.sort_by_key(|job| job.mid);
    Ok(jobs)
}

/// What has been chosen for a job is beside it.
fn add_choices(link: &mut Link, keys: &Keys, jobs: &mut [Job]) -> Result<(), StoreError> {
    for part in jobs.chunks_mut(AT_A_TIME) {
        let commands = part.iter().map(|job| {
            let mut command = one("HGET", keys.of(Home::Bucket(job.bucket), "chosen"));
            command.arg(job.mid.to_string());
            command
        });
        let replies = link.run(commands)?;
        for (job, reply) in part.iter_mut().zip(replies) {
            let Some(chosen) = bytes_or_none(link.checked(reply)?)? else {
                continue;
            };
            let choices = choices(&chosen);
            job.choices =
                choices.ok_or_else(|| damaged(&format!("what is chosen for the job {}", job.mid), UNKNOWN))?;
        }
    }
    Ok(())
}

/// For each a session, a space, the Shared Subscription, and a NUL.
pub(super) fn choices(chosen: &[u8]) -> Option<Vec<(Box<str>, Uid)>> {
    let chosen = std::str::from_utf8(chosen).ok()?.strip_suffix('\0')?;
    let choices = chosen.split('\0').map(|choice| {
        let (uid, share) = choice.split_once(' ')?;
        Some((share.into(), uid.parse().ok()?))
    });
    choices.collect()
}

pub(super) fn rests_of(link: &mut Link, keys: &Keys, of: Incarnation) -> Result<Vec<Rest>, StoreError> {
    let mut rests = Vec::new();
    for (_, reply) in each_bucket(link, |home| one("HGETALL", keys.of(home, "rest")))? {
        for [name, value] in list(reply)?.as_chunks::<2>().0 {
            let name = text(name.clone())?;
            let mid = Mid::parse(&name).ok_or_else(|| damaged(&format!("the rest {name}"), UNKNOWN))?;
            let (uid, its) = rest(mid, &bytes(value.clone())?)?;
            rests.extend((its == of).then_some(Rest { mid, uid, of }));
        }
    }
    rests.sort_by_key(|rest| rest.mid);
    Ok(rests)
}

/// The session that has left it, and whose it is.
pub(super) fn rest(mid: Mid, value: &[u8]) -> Result<(Uid, Incarnation), StoreError> {
    let words = std::str::from_utf8(value).ok().and_then(|text| text.split_once(' '));
    let rest = words.and_then(|(uid, of)| Some((uid.parse().ok()?, of.parse().ok()?)));
    rest.ok_or_else(|| damaged(&format!("the rest {mid}"), UNKNOWN))
}

pub(super) fn owned_by(link: &mut Link, keys: &Keys, of: Incarnation) -> Result<Vec<Box<str>>, StoreError> {
    let replies = each_bucket(link, |home| one("SMEMBERS", keys.of(home, &format!("own:{of}"))))?;
    texts(replies)
}

/// How many clients of each bucket have something that is due.
pub(super) fn due(link: &mut Link, keys: &Keys, buckets: &[u8], most: usize) -> Result<Vec<(u8, usize)>, StoreError> {
    let commands = buckets
        .iter()
        .map(|bucket| script::eval(DUE, &[&keys.of(Home::Bucket(*bucket), "t")]));
    let replies = link.run(commands)?;
    let mut due = Vec::new();
    for (bucket, reply) in buckets.iter().zip(replies) {
        match number(link.checked(reply)?)? {
            0 => {}
            count => due.push((*bucket, usize::try_from(count).unwrap_or(most).min(most))),
        }
    }
    Ok(due)
}

/// Asks each bucket: the replies that are no errors.
fn each_bucket(link: &mut Link, command: impl Fn(Home) -> Cmd) -> Result<Vec<(u8, Value)>, StoreError> {
    let commands: Vec<_> = Home::buckets().map(command).collect();
    let replies = link.run(&commands)?;
    let replies = (0..=u8::MAX).zip(replies);
    replies
        .map(|(bucket, reply)| Ok((bucket, link.checked(reply)?)))
        .collect()
}

fn texts(replies: Vec<(u8, Value)>) -> Result<Vec<Box<str>>, StoreError> {
    let mut texts = Vec::new();
    for (_, reply) in replies {
        for item in list(reply)? {
            texts.push(text(item)?.into());
        }
    }
    Ok(texts)
}

pub(super) fn one(name: &str, key: String) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

fn token(bytes: Vec<u8>) -> Result<Token, StoreError> {
    let token = std::str::from_utf8(&bytes).ok().and_then(Token::parse);
    token.ok_or_else(|| damaged("the owner of a client", UNKNOWN))
}

fn route(name: &str, kind: u64) -> Result<(Incarnation, Box<str>, RouteKind), StoreError> {
    let damaged = || damaged(&format!("the route {name}"), UNKNOWN);
    let (node, filter) = name.split_once(':').ok_or_else(damaged)?;
    let kind = match kind {
        0 => RouteKind::All,
        1 => RouteKind::OnlyQos0,
        _ => return Err(damaged()),
    };
    Ok((node.parse().map_err(|_| damaged())?, filter.into(), kind))
}

fn job((bucket, mid): (u8, Mid), value: &[u8]) -> Result<Job, StoreError> {
    read_job(bucket, mid, value).map_err(|error| damaged(&format!("the job {mid}"), error))
}

const UNKNOWN: Malformed = Malformed("it is not what this version writes");

fn damaged(what: &str, error: Malformed) -> StoreError {
    StoreError::Damaged(format!("{what} in Redis: {}", error.0))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
