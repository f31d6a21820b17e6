//! Reads what is kept of clients, of all of them: which session each has, and their wills.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::cluster::Mid;
use crate::store::redis::entry::{read_job, read_will};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::read::pairs;
use crate::store::redis::reply::{bytes_or_none, list, parse};
use crate::store::{StoreError, StoredWill, Uid};
use crate::wire::Malformed;

/// What a client has to do with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    /// To some node, which may be dead.
    pub(super) is_connected: bool,
    /// When the session ends, in milliseconds.
    pub(super) ends_at: Option<u64>,
}

/// A will.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) will: StoredWill,
    /// Of the session, if there is one.
    pub(super) uid: Option<Uid>,
    /// When it is due, if its client has gone.
    pub(super) at: Option<u64>,
}

/// Clients that are read with one pipeline.
const AT_A_TIME: usize = 500;

/// The sessions of clients.
pub(super) fn clients(link: &mut Link, keys: &Keys) -> Result<BTreeMap<Uid, Owned>, StoreError> {
    let mut owned = BTreeMap::new();
    each(link, keys, &["uid", "owner", "ends_at"], |_, fields| {
        let [Some(uid), owner, ends_at] = fields else {
            return Ok(());
        };
        let ends_at = ends_at.as_deref().map(parse).transpose()?;
        let is_connected = owner.is_some();
        owned.insert(parse(uid)?, Owned { is_connected, ends_at });
        Ok(())
    })?;
    Ok(owned)
}

/// The wills of clients.
pub(super) fn wills(link: &mut Link, keys: &Keys) -> Result<Vec<Kept>, StoreError> {
    let mut wills = Vec::new();
    each(link, keys, &["will", "uid", "will_at"], |key, fields| {
        let [Some(will), uid, at] = fields else {
            return Ok(());
        };
        let uid: Option<Uid> = uid.as_deref().map(parse).transpose()?;
        let will = read_will(uid.unwrap_or(0), will);
        let will = will.map_err(|error| StoreError::Damaged(format!("the will in {key}: {}", error.0)))?;
        let at = at.as_deref().map(parse).transpose()?;
        wills.push(Kept { will, uid, at });
        Ok(())
    })?;
    Ok(wills)
}

/// Wills that have begun to be published.
pub(super) fn begun_wills(link: &mut Link, keys: &Keys) -> Result<Vec<StoredWill>, StoreError> {
    let mut wills = Vec::new();
    for bucket in 0..=u8::MAX {
        let mut command = redis::cmd("HGETALL");
        command.arg(keys.of(Home::Bucket(bucket), "jobs"));
        for (mid, value) in pairs(link.ask(command)?)? {
            let mid = String::from_utf8_lossy(&mid).into_owned();
            let job = Mid::parse(&mid).ok_or(Malformed("it has no identity"));
            let job = job.and_then(|mid| read_job(bucket, mid, &value));
            let job = job.map_err(|error| StoreError::Damaged(format!("the job {mid}: {}", error.0)))?;
            wills.extend(job.will);
        }
    }
    Ok(wills)
}

/// Reads these fields of all clients.
fn each<const COUNT: usize>(
    link: &mut Link,
    keys: &Keys,
    names: &[&str; COUNT],
    mut found: impl FnMut(&str, &[Option<Vec<u8>>; COUNT]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let all: BTreeSet<_> = link
        .scan(&format!("{}:{{*}}:c:*", keys.prefix()))?
        .into_iter()
        .collect();
    let all: Vec<_> = all.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
    let is_client = |key: &&String| {
        let known = keys.parse(key);
        known.is_some_and(|(home, name)| matches!(home, Home::Bucket(_)) && name.starts_with("c:"))
    };
    let all: Vec<_> = all.iter().filter(is_client).collect();
    for part in all.chunks(AT_A_TIME) {
        let commands: Vec<_> = part
            .iter()
            .map(|key| {
                let mut command = redis::cmd("HMGET");
                command.arg(*key).arg(names);
                command
            })
            .collect();
        let replies = link.run(&commands)?;
        for (key, reply) in part.iter().zip(replies) {
            let fields = list(link.checked(reply)?)?.into_iter().map(bytes_or_none);
            let fields = fields.collect::<Result<Vec<_>, _>>()?;
            if let Ok(fields) = fields.try_into() {
                found(key, &fields)?;
            }
        }
    }
    Ok(())
}
