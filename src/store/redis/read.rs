//! Reading what is kept: in pipelines of bounded size, and never by a scan of all keys.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redis::{Cmd, Value};

use super::entry::{
    ELEMENTS, RECEIVED, read_delivery, read_message, read_place, read_received, read_subscription, record_sums,
};
use super::keys::{Home, Keys};
use super::link::Link;
use super::reply::{bytes, bytes_or_none, list, number, parse};
use super::script::{self, Scripts};
use crate::message::Message;
use crate::store::op::{Lane, Uid};
use crate::store::{Extent, Page, StoreError, StoredDelivery, StoredSession};
use crate::time::Millis;
use crate::wire::Malformed;

/// Sessions, wills, or topics that are read with one pipeline.
const AT_A_TIME: usize = 500;

/// One element of a list, hash or set after the other, and what is said if it can't be read.
fn damaged(what: &str, error: Malformed) -> StoreError {
    StoreError::Damaged(format!("{what} in Redis: {}", error.0))
}

/// The members of one set of each bucket.
pub(super) fn members(link: &mut Link, keys: &Keys, name: &str) -> Result<Vec<(Home, Uid)>, StoreError> {
    let commands: Vec<_> = Home::buckets()
        .map(|home| one("SMEMBERS", keys.of(home, name)))
        .collect();
    let mut all = Vec::new();
    for (home, reply) in Home::buckets().zip(link.run(&commands)?) {
        for uid in list(link.checked(reply)?)? {
            all.push((home, number(uid)?));
        }
    }
    Ok(all)
}

/// Reads the sessions of these places.
pub(super) fn sessions(
    link: &mut Link,
    keys: &Keys,
    places: &[(Uid, Home)],
    each: &mut dyn FnMut(StoredSession),
) -> Result<(), StoreError> {
    for part in places.chunks(AT_A_TIME) {
        let commands: Vec<_> = part
            .iter()
            .map(|(uid, home)| one("HGETALL", keys.session(*home, *uid)))
            .collect();
        let mut records = Vec::with_capacity(part.len());
        for reply in link.run(&commands)? {
            records.push(pairs(link.checked(reply)?)?);
        }
        let commands: Vec<_> = part
            .iter()
            .zip(&records)
            .flat_map(|((uid, home), record)| more_commands(keys, *home, *uid, record))
            .collect();
        let mut replies = link.run(&commands)?.into_iter();
        for ((uid, _), record) in part.iter().zip(records) {
            let mut next = || link.checked(replies.next().unwrap_or(Value::Nil));
            if record.is_empty() {
                match number(next()?)? {
                    // It has ended since its place was looked up.
                    0 => continue,
                    _ => return Err(StoreError::Damaged(format!("session {uid} in Redis has no record"))),
                }
            }
            let mut ends = [const { None }; 2];
            for (lane, ends) in LANES.into_iter().zip(&mut ends) {
                if has_had(&record, lane) {
                    *ends = Some((next()?, next()?, next()?));
                }
            }
            each(session(*uid, record, ends)?);
        }
    }
    Ok(())
}

const LANES: [Lane; 2] = [Lane::Live, Lane::Replayed];

/// What has to be asked about a session beside its record: of most nothing.
fn more_commands(keys: &Keys, home: Home, uid: Uid, record: &Record) -> Vec<Cmd> {
    if record.is_empty() {
        let mut member = one("SISMEMBER", keys.of(home, "sessions"));
        member.arg(uid);
        return vec![member];
    }
    let lanes = LANES.into_iter().filter(|lane| has_had(record, *lane));
    let commands = lanes.flat_map(|lane| {
        let key = lane_key(keys, home, lane, uid);
        let mut first = one("LINDEX", key.clone());
        first.arg(0);
        let mut last = one("LINDEX", key.clone());
        last.arg(-(ELEMENTS as isize));
        [one("LLEN", key), first, last]
    });
    commands.collect()
}

/// Names and values.
pub(super) type Record = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether there has ever been a message in the lane.
fn has_had(record: &Record, lane: Lane) -> bool {
    let last: &[u8] = match lane {
        Lane::Live => b"last",
        Lane::Replayed => b"rlast",
    };
    record.iter().any(|(name, _)| name == last)
}

fn lane_key(keys: &Keys, home: Home, lane: Lane, uid: Uid) -> String {
    match lane {
        Lane::Live => keys.of(home, &format!("q:{uid}")),
        Lane::Replayed => keys.of(home, &format!("r:{uid}")),
    }
}

fn one(name: &str, key: String) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

pub(super) fn pairs(value: Value) -> Result<Record, StoreError> {
    let mut items = list(value)?.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        pairs.push((bytes(name)?, bytes(value)?));
    }
    Ok(pairs)
}

/// Length of a list, the first and the last place in it.
pub(super) type Ends = (Value, Value, Value);

pub(super) fn session(
    uid: Uid,
    fields: Record,
    [live, replayed]: [Option<Ends>; 2],
) -> Result<StoredSession, StoreError> {
    let what = || format!("session {uid}");
    let mut subscriptions = Vec::new();
    let mut received = Vec::new();
    let mut accepted = Vec::new();
    let mut rest = HashMap::new();
    for (name, value) in fields {
        if let Some(filter) = name.strip_prefix(b"sub:") {
            let filter = crate::wire::text(filter).map_err(|error| damaged(&what(), error))?;
            subscriptions.push(read_subscription(filter, &value).map_err(|error| damaged(&what(), error))?);
        } else if let Some(packet_id) = name.strip_prefix(b"in:") {
            let packet_id = read_received(packet_id, &value).map_err(|error| damaged(&what(), error))?;
            received.push(packet_id);
            if value.len() != RECEIVED {
                let message = read_message(&value).map_err(|error| damaged(&what(), error))?;
                accepted.push((packet_id, Arc::new(message)));
            }
        } else {
            rest.insert(name, value);
        }
    }
    let field = |name: &str| rest.get(name.as_bytes());
    let required =
        |name: &str| field(name).ok_or_else(|| StoreError::Damaged(format!("{} in Redis has no {name}", what())));
    let number_of = |name: &str| parse::<u64>(required(name)?);
    let bytes_of = |name: &str| field(name).map_or(Ok(0), |value| parse::<u64>(value));
    let narrow = |name: &str| StoreError::Damaged(format!("{} in Redis has a {name} out of range", what()));
    subscriptions.sort_by(|one, other| one.filter.cmp(&other.filter));
    received.sort_unstable();
    let client_id = crate::wire::text(required("cid")?).map_err(|error| damaged(&what(), error))?;
    let unsent = number_of("unsent")?;
    let numbers = [number_of("expiry")?, number_of("window")?, number_of("away")?, unsent];
    let (client_sum, sum) = record_sums(client_id.as_bytes(), numbers);
    if *required("csum")? != client_sum || *required("sum")? != sum {
        return Err(StoreError::Damaged(format!(
            "{} in Redis is not what its checksum says",
            what()
        )));
    }
    // Places below this one have been given.
    let floor = field("last").map_or(Ok(0), |last| parse::<u64>(last).map(|last| last.saturating_add(1)))?;
    Ok(StoredSession {
        uid,
        client_id: client_id.into(),
        expiry_interval: number_of("expiry")?.try_into().map_err(|_| narrow("expiry"))?,
        window: number_of("window")?.try_into().map_err(|_| narrow("window"))?,
        away_since: Some(number_of("away")?).filter(|away| *away > 0).map(Millis::from_unix),
        unsent,
        subscriptions,
        received,
        accepted,
        live: extent(live, bytes_of("bytes")?, unsent.max(floor))?,
        replayed: extent(replayed, bytes_of("rbytes")?, 0)?,
        owner: field("owner").map(|owner| parse(owner)).transpose()?,
    })
}

fn extent(ends: Option<Ends>, bytes: u64, at_least: u64) -> Result<Extent, StoreError> {
    let (length, first, last) = ends.unwrap_or((Value::Int(0), Value::Nil, Value::Nil));
    let length = number(length)?;
    if length % ELEMENTS as u64 != 0 {
        return Err(StoreError::Damaged("a queue in Redis has half a message".to_owned()));
    }
    let place = |end: Value| match bytes_or_none(end)? {
        Some(place) => read_place(&place).map(Some).map_err(|error| damaged("a queue", error)),
        None => Ok(None),
    };
    let next = place(last)?.map_or(0, |last| last.saturating_add(1)).max(at_least);
    Ok(Extent {
        first: place(first)?.unwrap_or(next),
        next,
        count: length / ELEMENTS as u64,
        bytes,
    })
}

pub(super) fn retained(link: &mut Link, keys: &Keys, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
    // While Redis makes a hash larger or smaller, a scan may yield a field again.
    let mut seen = HashSet::new();
    let mut cursor = b"0".to_vec();
    loop {
        let mut command = one("HSCAN", keys.of(Home::Global, "ret"));
        command.arg(&cursor).arg("COUNT").arg(AT_A_TIME);
        let mut reply = list(link.ask(command)?)?.into_iter();
        cursor = bytes(reply.next().unwrap_or(Value::Nil))?;
        for (topic, message) in pairs(reply.next().unwrap_or(Value::Nil))? {
            if seen.contains(&topic) {
                continue;
            }
            let what = || format!("the retained message of {:?}", String::from_utf8_lossy(&topic));
            let message = read_message(&message).map_err(|error| damaged(&what(), error))?;
            if message.topic().as_bytes() != topic {
                return Err(StoreError::Damaged(format!("{} in Redis is of another topic", what())));
            }
            each(message);
            seen.insert(topic);
        }
        if cursor == b"0" {
            return Ok(());
        }
    }
}

/// Reads a page of a queue.
pub(super) fn queue(
    link: &mut Link,
    key: (&Keys, Home, Uid, Lane),
    scripts: &Scripts,
    from: u64,
    most: Page,
) -> Result<Vec<StoredDelivery>, StoreError> {
    let (keys, home, uid, lane) = key;
    let ask = |link: &mut Link| -> Result<Value, StoreError> {
        let mut command = script::call(&scripts.page, &lane_key(keys, home, lane, uid));
        command.arg(from).arg(most.messages).arg(most.bytes);
        Ok::<_, StoreError>(link.run(&[command])?.pop().unwrap_or(Value::Nil))
    };
    let mut reply = ask(link)?;
    if script::is_unknown(&reply) {
        Scripts::load(link)?;
        reply = ask(link)?;
    }
    let elements: Vec<_> = list(link.checked(reply)?)?
        .into_iter()
        .map(bytes)
        .collect::<Result<_, _>>()?;
    let (entries, rest) = elements.as_chunks::<ELEMENTS>();
    let read = |[place, terms, message]: &[Vec<u8>; ELEMENTS]| read_delivery(lane, [place, terms, message]);
    let page: Result<Vec<_>, _> = entries.iter().map(read).collect();
    let page = page.map_err(|error| damaged(&format!("the queue of session {uid}"), error))?;
    if !rest.is_empty() || !page.is_sorted_by(|one, next| one.index < next.index) {
        return Err(StoreError::Damaged(format!(
            "the queue of session {uid} in Redis is not in order"
        )));
    }
    Ok(page)
}
