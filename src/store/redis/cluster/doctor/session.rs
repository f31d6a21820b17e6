//! Sessions: records, and queues.

use std::collections::BTreeSet;

use redis::Value;

use super::Examination;
use super::bucket::optional;
use super::fault::{Advice, Fault};
use crate::packet::QoS;
use crate::store::cluster::bucket_of_uid;
use crate::store::redis::entry::{ELEMENTS, read_delivery};
use crate::store::redis::keys::Home;
use crate::store::redis::read::{self, Record, pairs};
use crate::store::redis::reply::{bytes, list, number, parse};
use crate::store::redis::script;
use crate::store::{Extent, Lane, Page, StoreError, StoredDelivery, StoredMessage, StoredSession, Uid};
use crate::topic::TopicFilter;

/// A session at one moment.
struct Look {
    record: Record,
    is_listed: bool,
    /// The session of its client.
    of_client: Option<Vec<u8>>,
    /// It has ended, and others get what is in its queue.
    is_rest: bool,
    /// Each lane: how many elements there are, and the first places of the first and the last message; or all of them.
    lanes: [Vec<Value>; 2],
}

/// What is in a lane.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    bytes: u64,
    last: Option<u64>,
    /// Messages of QoS 1 from Shared Subscriptions: they go to other members if the session ends.
    given: u64,
}

/// What the record notes of a lane.
#[derive(Clone, Copy, Debug)]
struct Noted {
    last: Option<u64>,
    bytes: u64,
    /// `None` for the lane that has no such messages.
    given: Option<u64>,
}

/// Sessions that are looked at with one pipeline.
const AT_A_TIME: usize = 500;

const PAGE: Page = Page {
    messages: 1_000,
    bytes: 4 * 1024 * 1024,
};

const LANES: [(Lane, &str); 2] = [(Lane::Live, "q"), (Lane::Replayed, "r")];

const FIELDS: [&[u8]; 13] = [
    b"cid", b"csum", b"expiry", b"window", b"away", b"unsent", b"sum", b"owner", b"last", b"bytes", b"rlast",
    b"rbytes", b"given",
];

impl Examination<'_> {
    pub(super) fn sessions(&mut self, bucket: u8, uids: &BTreeSet<Uid>) -> Result<(), StoreError> {
        let uids: Vec<_> = uids.iter().copied().collect();
        for part in uids.chunks(AT_A_TIME) {
            let commands: Vec<_> = part.iter().map(|uid| self.look(bucket, *uid, false)).collect();
            let replies = self.link.run(&commands)?;
            for (uid, reply) in part.iter().zip(replies) {
                let home = Home::Bucket(bucket);
                let look = self.link.checked(reply).and_then(look);
                if let Some(look) = self.noted(home, &format!("s:{uid}"), look)? {
                    self.session(bucket, *uid, look)?;
                }
            }
        }
        Ok(())
    }

    fn look(&self, bucket: u8, uid: Uid, with_queues: bool) -> redis::Cmd {
        let key = self.keys.session(Home::Bucket(bucket), uid);
        let mut command = script::call(&self.looks.session, &key);
        command.arg(uid).arg(u8::from(with_queues));
        command
    }

    fn session(&mut self, bucket: u8, uid: Uid, look: Look) -> Result<(), StoreError> {
        let home = Home::Bucket(bucket);
        let key = self.keys.session(home, uid);
        if look.record.is_empty() {
            return self.without_record(bucket, uid, &look);
        }
        self.report.sessions += 1;
        let of_client = look.of_client.as_deref().and_then(|uid| parse::<Uid>(uid).ok());
        if of_client != Some(uid) {
            let what = format!("its client has {of_client:?} as its session: nobody can find this one");
            let advice = Advice::Run(removal(self, bucket, uid));
            self.fault(Fault::new(&*key, what, advice).of_kind("not that of its client"));
        }
        if !look.is_listed {
            let sessions = self.key(home, "sessions");
            let what = format!("{sessions} does not have it: nobody puts messages into its queue");
            self.fault(Fault::new(&*key, what, Advice::Run(format!("SADD {sessions} {uid}"))));
        }
        if bucket_of_uid(uid) != bucket {
            self.fault(Fault::new(&*key, "a session of another bucket", Advice::Stranger));
        }
        if let Some(name) = look
            .record
            .iter()
            .find(|(name, _)| !is_field(name))
            .map(|(name, _)| name)
        {
            let name = String::from_utf8_lossy(name);
            self.fault(Fault::new(
                &*key,
                format!("no session has a field {name:?}"),
                Advice::Stranger,
            ));
        }
        let noted = LANES.map(|(lane, _)| Noted::of(&look.record, lane));
        match stored(uid, look) {
            Ok(session) => self.contents(bucket, &session, &noted),
            Err(StoreError::Damaged(what)) => {
                self.fault(Fault::new(&*key, what, Advice::BeginAnew));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn without_record(&mut self, bucket: u8, uid: Uid, look: &Look) -> Result<(), StoreError> {
        let home = Home::Bucket(bucket);
        if look.is_listed {
            let sessions = self.key(home, "sessions");
            let what = format!("session {uid} is in it, and has no record");
            self.fault(Fault::new(
                &*sessions,
                what,
                Advice::Run(format!("SREM {sessions} {uid}")),
            ));
        }
        if look.is_rest {
            return Ok(());
        }
        for ((_, name), lane) in LANES.iter().zip(&look.lanes) {
            if lane.first().cloned().map_or(Ok(0), number)? > 0 {
                let key = self.key(home, &format!("{name}:{uid}"));
                let command = format!("UNLINK {key}");
                self.fault(Fault::new(key, "a queue without a session", Advice::Run(command)));
            }
        }
        Ok(())
    }

    /// Subscriptions and queues.
    fn contents(&mut self, bucket: u8, session: &StoredSession, noted: &[Noted; 2]) -> Result<(), StoreError> {
        let key = self.keys.session(Home::Bucket(bucket), session.uid);
        for subscription in &session.subscriptions {
            if let Err(error) = TopicFilter::parse(&subscription.filter) {
                let what = format!("its subscription to {:?}: {error}", subscription.filter);
                self.fault(Fault::new(&*key, what, Advice::BeginAnew));
            }
        }
        let mut is_right = true;
        for (((lane, _), extent), noted) in LANES.into_iter().zip([session.live, session.replayed]).zip(noted) {
            self.report.messages += extent.count;
            is_right &= self.is_as_noted(bucket, session.uid, lane, &extent, noted)?;
        }
        match is_right {
            true => Ok(()),
            false => self.look_again(bucket, session.uid),
        }
    }

    /// Whether a lane, read page by page, is what was noted before: if not, it may have changed meanwhile.
    fn is_as_noted(
        &mut self,
        bucket: u8,
        uid: Uid,
        lane: Lane,
        extent: &Extent,
        noted: &Noted,
    ) -> Result<bool, StoreError> {
        let mut sum = Sum::default();
        let mut from = (extent.count > 0).then_some(0);
        while let Some(first) = from {
            let key = (self.keys, Home::Bucket(bucket), uid, lane);
            let page = match read::queue(self.link, key, self.scripts, first, PAGE) {
                Err(StoreError::Damaged(_)) => return Ok(false),
                page => page?,
            };
            page.iter().for_each(|delivery| sum.add(delivery));
            from = page.last().map(|last| last.index.saturating_add(1));
        }
        Ok(sum.fault(noted).is_none() && sum.count == extent.count)
    }

    /// Reads the record and its queues at one moment.
    fn look_again(&mut self, bucket: u8, uid: Uid) -> Result<(), StoreError> {
        let command = self.look(bucket, uid, true);
        let look = self.link.ask(command).and_then(look)?;
        if look.record.is_empty() {
            return Ok(());
        }
        for ((lane, name), elements) in LANES.into_iter().zip(look.lanes) {
            let noted = Noted::of(&look.record, lane);
            let fault = match summed(lane, elements) {
                Ok(sum) => sum.fault(&noted),
                Err(StoreError::Damaged(what)) => Some(what),
                Err(error) => return Err(error),
            };
            if let Some(what) = fault {
                let key = self.key(Home::Bucket(bucket), &format!("{name}:{uid}"));
                self.fault(Fault::new(key, what, Advice::BeginAnew).of_kind("queue"));
            }
        }
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, delivery: &StoredDelivery) {
        self.count += 1;
        self.bytes += delivery.bytes() as u64;
        self.last = Some(delivery.index);
        let goes_on = |stored: &StoredMessage| stored.share.is_some() && stored.qos == QoS::AtLeastOnce;
        self.given += u64::from(delivery.message.as_ref().is_some_and(goes_on));
    }

    /// What does not go with the last place and the bytes that the record notes.
    fn fault(&self, noted: &Noted) -> Option<String> {
        if self.last > noted.last {
            return Some(format!(
                "place {:?} is in it, and {:?} is noted as the last",
                self.last, noted.last
            ));
        }
        if self.bytes != noted.bytes {
            let (count, bytes) = (self.count, self.bytes);
            return Some(format!(
                "it has {count} messages of {bytes} bytes, and {} are noted",
                noted.bytes
            ));
        }
        let given = noted.given.filter(|given| *given != self.given)?;
        Some(format!(
            "groups have given it {} messages of QoS 1, and {given} are noted",
            self.given
        ))
    }
}

impl Noted {
    fn of(record: &Record, lane: Lane) -> Noted {
        let number = |name: &[u8]| {
            let field = record.iter().find(|(other, _)| other == name);
            field.and_then(|(_, value)| parse(value).ok())
        };
        match lane {
            Lane::Live => Noted {
                last: number(b"last"),
                bytes: number(b"bytes").unwrap_or(0),
                given: number(b"given"),
            },
            Lane::Replayed => Noted {
                last: number(b"rlast"),
                bytes: number(b"rbytes").unwrap_or(0),
                given: None,
            },
        }
    }
}

fn summed(lane: Lane, elements: Vec<Value>) -> Result<Sum, StoreError> {
    let elements = elements.into_iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    let (entries, rest) = elements.as_chunks::<ELEMENTS>();
    if !rest.is_empty() {
        return Err(StoreError::Damaged("it has half a message".to_owned()));
    }
    let mut sum = Sum::default();
    for [place, terms, message] in entries {
        let read = read_delivery(lane, [place, terms, message]);
        let delivery = read.map_err(|error| {
            let place = String::from_utf8_lossy(place).into_owned();
            StoreError::Damaged(format!("the message at place {place:?} can't be read: {}", error.0))
        })?;
        if sum.last.is_some_and(|last| last >= delivery.index) {
            return Err(StoreError::Damaged(format!("place {} is not in order", delivery.index)));
        }
        sum.add(&delivery);
    }
    Ok(sum)
}

fn stored(uid: Uid, look: Look) -> Result<StoredSession, StoreError> {
    let ends = look.lanes.map(|lane| {
        let mut ends = lane.into_iter();
        Some((ends.next()?, ends.next()?, ends.next()?))
    });
    read::session(uid, look.record, ends)
}

fn look(reply: Value) -> Result<Look, StoreError> {
    let mut parts = list(reply)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    Ok(Look {
        record: pairs(next())?,
        is_listed: number(next())? > 0,
        of_client: optional(next())?.into_iter().next().flatten(),
        is_rest: number(next())? > 0,
        lanes: [list(next())?, list(next())?],
    })
}

fn is_field(name: &[u8]) -> bool {
    FIELDS.contains(&name) || name.starts_with(b"sub:") || name.starts_with(b"in:")
}

fn removal(examination: &Examination<'_>, bucket: u8, uid: Uid) -> String {
    let key = |name: &str| examination.key(Home::Bucket(bucket), &format!("{name}:{uid}"));
    let sessions = examination.key(Home::Bucket(bucket), "sessions");
    format!(
        "UNLINK {} {} {}, and SREM {sessions} {uid}",
        key("s"),
        key("q"),
        key("r")
    )
}
