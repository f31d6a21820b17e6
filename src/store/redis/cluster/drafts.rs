//! From what an import puts into a cluster to commands of Redis.
//!
//! Clients that are connected, and wills that are due, are of a node that was never there.

use std::collections::{HashMap, HashSet};

use redis::Cmd;

use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{Incarnation, Mid, Token, bucket_of_client, bucket_of_uid, new_uid};
use crate::store::op::{Lane, Op, Recipients, SessionRecord, SubscriptionRecord};
use crate::store::redis::entry::{
    cursor_bytes, job_head, live_terms, message_bytes, no_terms, received_bytes, record_sums, replayed_terms,
    subscription_bytes, will_bytes,
};
use crate::store::redis::keys::{Home, Keys};
use crate::store::{StoreError, TermsRecord, Uid, read_client};

/// What has been put there so far, as far as that matters to what comes.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    /// The node that was never there.
    pub(super) node: Incarnation,
    sessions: HashMap<Uid, Session>,
    /// All of which there is something.
    clients: HashSet<Box<str>>,
    /// Subscriptions whose retained messages remain to be sent.
    replays: HashMap<(Uid, Box<str>), Vec<u8>>,
    /// The terms of the message that was put into a lane of replays last.
    replayed: Vec<u8>,
    /// Tokens and identities that have been given.
    given: u64,
}

/// What is known of a session that has been put there.
#[derive(Debug)]
struct Session {
    uid: Uid,
    client_id: Box<str>,
    /// Since when its client is away, in milliseconds.
    away_since: Option<u64>,
    /// Live messages, and those that are replayed.
    lanes: [Sum; 2],
    /// Live messages of QoS 1 from groups.
    of_groups: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    last: Option<u64>,
    bytes: u64,
}

impl Drafts {
    pub(super) fn new(node: Incarnation) -> Drafts {
        Drafts {
            node,
            ..Drafts::default()
        }
    }

    /// Whether anything is of the node.
    pub(super) fn is_owned(&self) -> bool {
        self.given > 0
    }

    /// What a change comes to.
    ///
    /// # Errors
    /// If it is none that an import makes, or can't be read.
    pub(super) fn commands(&mut self, keys: &Keys, op: &Op<'_>) -> Result<Vec<Cmd>, StoreError> {
        Ok(match *op {
            Op::Session(ref record) => self.session(keys, record),
            Op::Floor { uid, index } => self.floor(keys, uid, index),
            Op::Subscribe { uid, ref subscription } => self.subscribe(keys, uid, subscription),
            Op::Received { uid, packet_id } => self.received(keys, uid, packet_id),
            Op::Message {
                ref message,
                ref recipients,
            } => self.message(keys, message, recipients),
            Op::Replayed {
                uid,
                index,
                before,
                filter,
                ref terms,
                ref message,
            } => {
                self.replayed = replayed_terms(message, before, terms);
                self.replay(keys, (uid, index), filter, message)
            }
            Op::Released {
                uid,
                lane: Lane::Live,
                index,
            } => {
                let terms = no_terms(Lane::Live);
                self.put(keys, (uid, Lane::Live, index), &terms, &[])
            }
            Op::Released {
                uid,
                lane: Lane::Replayed,
                ..
            } => self.release_replayed(keys, uid),
            Op::Done {
                uid,
                lane: Lane::Replayed,
                ..
            } => self.take_back(keys, uid),
            Op::Will {
                uid,
                delay_interval,
                expires_in,
                ref message,
                client,
            } => {
                let will = will_bytes(delay_interval, expires_in, message, client);
                self.will(keys, uid, u64::from(delay_interval), &will, client)?
            }
            Op::Retain { ref message } => {
                let mut retain = command("HSET", &keys.of(Home::Global, "ret"));
                retain.arg(message.topic).arg(message_bytes(message));
                vec![retain]
            }
            _ => return Err(StoreError::Refused(format!("an import makes no such change: {op:?}"))),
        })
    }

    fn session(&mut self, keys: &Keys, record: &SessionRecord<'_>) -> Vec<Cmd> {
        let client_id = record.client_id;
        let uid = new_uid(self.node, self.sessions.len() as u32 + 1, client_id);
        let away_since = record.away_since.map(|at| at.as_unix().max(1));
        let session = Session {
            uid,
            client_id: client_id.into(),
            away_since,
            lanes: [
                Sum {
                    last: record.unsent.checked_sub(1),
                    bytes: 0,
                },
                Sum::default(),
            ],
            of_groups: 0,
        };
        let home = Home::Bucket(bucket_of_client(client_id));
        let mut commands = session_commands(keys, home, uid, record);
        commands.extend(session.noted(keys));
        let mut client = command("HSET", &keys.of(home, &format!("c:{client_id}")));
        client.arg("uid").arg(uid);
        match away_since {
            None => {
                let mut owner = command("HSET", &keys.session(home, uid));
                owner.arg("owner").arg(self.node);
                commands.push(owner);
                commands.push(self.own(keys, client_id, &mut client));
            }
            Some(since) if record.expiry_interval != u32::MAX => {
                let ends_at = since.saturating_add(u64::from(record.expiry_interval) * 1000);
                client.arg("ends_at").arg(ends_at);
                commands.push(due(keys, client_id, ends_at));
            }
            Some(_) => {}
        }
        commands.push(client);
        self.clients.insert(client_id.into());
        self.sessions.insert(record.uid, session);
        commands
    }

    /// The client is connected to the node that was never there.
    fn own(&mut self, keys: &Keys, client_id: &str, client: &mut Cmd) -> Cmd {
        let token = Token {
            incarnation: self.node,
            number: self.next(),
        };
        client
            .arg("owner")
            .arg(token.to_string())
            .arg("opened")
            .arg(token.to_string());
        let home = Home::Bucket(bucket_of_client(client_id));
        let mut own = command("SADD", &keys.of(home, &format!("own:{}", self.node)));
        own.arg(client_id);
        own
    }

    fn floor(&mut self, keys: &Keys, uid: Uid, index: u64) -> Vec<Cmd> {
        self.changed(keys, uid, |session| {
            let [live, _] = &mut session.lanes;
            live.last = live.last.max(index.checked_sub(1));
        })
    }

    /// Changes what is noted of a session, if there is one.
    fn changed(&mut self, keys: &Keys, uid: Uid, change: impl FnOnce(&mut Session)) -> Vec<Cmd> {
        let Some(session) = self.sessions.get_mut(&uid) else {
            return Vec::new();
        };
        change(session);
        session.noted(keys).into_iter().collect()
    }

    fn subscribe(&mut self, keys: &Keys, uid: Uid, subscription: &SubscriptionRecord<'_>) -> Vec<Cmd> {
        let bytes = subscription_bytes(subscription);
        if subscription.replays {
            self.replays.insert((uid, subscription.filter.into()), bytes.clone());
        }
        self.field(keys, uid, &format!("sub:{}", subscription.filter), &bytes)
    }

    /// Its message was published when it came.
    fn received(&mut self, keys: &Keys, uid: Uid, packet_id: u16) -> Vec<Cmd> {
        self.field(keys, uid, &format!("in:{packet_id}"), &received_bytes(packet_id))
    }

    fn field(&self, keys: &Keys, uid: Uid, name: &str, value: &[u8]) -> Vec<Cmd> {
        let Some(session) = self.sessions.get(&uid) else {
            return Vec::new();
        };
        let mut set = command("HSET", &session.record(keys));
        set.arg(name).arg(value);
        vec![set]
    }

    fn message(&mut self, keys: &Keys, message: &Publication<'_>, recipients: &Recipients<'_>) -> Vec<Cmd> {
        let body = message_bytes(message);
        let mut commands = Vec::new();
        for recipient in recipients.iter() {
            let terms = live_terms(message, &recipient.terms);
            let goes_on = goes_on(&recipient.terms);
            if let Some(session) = self.sessions.get_mut(&recipient.uid) {
                session.of_groups += u64::from(goes_on);
            }
            commands.extend(self.put(keys, (recipient.uid, Lane::Live, recipient.index), &terms, &body));
        }
        commands
    }

    /// Puts a message at the end of a lane: they come in the order of their places.
    fn put(&mut self, keys: &Keys, (uid, lane, index): (Uid, Lane, u64), terms: &[u8], body: &[u8]) -> Vec<Cmd> {
        let Some(session) = self.sessions.get(&uid) else {
            return Vec::new();
        };
        let mut push = command("RPUSH", &session.lane(keys, lane));
        push.arg(index).arg(terms).arg(body);
        let noted = self.changed(keys, uid, |session| {
            let sum = &mut session.lanes[lane as usize];
            sum.last = sum.last.max(Some(index));
            sum.bytes += size(terms);
        });
        std::iter::once(push).chain(noted).collect()
    }

    fn replay(&mut self, keys: &Keys, (uid, index): (Uid, u64), filter: &str, message: &Publication<'_>) -> Vec<Cmd> {
        let terms = self.replayed.clone();
        let mut commands = self.put(keys, (uid, Lane::Replayed, index), &terms, &message_bytes(message));
        if let Some(subscription) = self.replays.get(&(uid, filter.into())) {
            let cursor = [subscription, &cursor_bytes(message.topic)[..]].concat();
            commands.extend(self.field(keys, uid, &format!("sub:{filter}"), &cursor));
        }
        commands
    }

    /// Of the message that was put into the lane last only the place is left.
    fn release_replayed(&mut self, keys: &Keys, uid: Uid) -> Vec<Cmd> {
        let Some(session) = self.sessions.get(&uid) else {
            return Vec::new();
        };
        let lane = session.lane(keys, Lane::Replayed);
        let terms = std::mem::take(&mut self.replayed);
        let (mut bare, mut body) = (command("LSET", &lane), command("LSET", &lane));
        bare.arg(-2).arg([&[0; 4], &terms[4..]].concat());
        body.arg(-1).arg("");
        let noted = self.changed(keys, uid, |session| session.lanes[1].bytes -= size(&terms));
        [bare, body].into_iter().chain(noted).collect()
    }

    /// The message that was put into the lane last was there for a cursor alone.
    fn take_back(&mut self, keys: &Keys, uid: Uid) -> Vec<Cmd> {
        let Some(session) = self.sessions.get(&uid) else {
            return Vec::new();
        };
        let mut trim = command("LTRIM", &session.lane(keys, Lane::Replayed));
        trim.arg(0).arg(-4);
        let terms = std::mem::take(&mut self.replayed);
        let noted = self.changed(keys, uid, |session| session.lanes[1].bytes -= size(&terms));
        std::iter::once(trim).chain(noted).collect()
    }

    /// That of a session waits with it. Another one has nothing to wait for.
    fn will(&mut self, keys: &Keys, uid: Uid, delay: u64, will: &[u8], client: &[u8]) -> Result<Vec<Cmd>, StoreError> {
        let Some(session) = self.sessions.get(&uid) else {
            let client = read_client(client);
            let client = client.map_err(|error| StoreError::Damaged(format!("the client of a will: {}", error.0)))?;
            return Ok(self.stray_will(keys, &client.client_id, will));
        };
        let client_id = &*session.client_id;
        let home = Home::Bucket(bucket_of_client(client_id));
        let mut set = command("HSET", &keys.of(home, &format!("c:{client_id}")));
        set.arg("will").arg(will);
        let mut commands = Vec::new();
        if let Some(since) = session.away_since {
            let will_at = since.saturating_add(delay * 1000);
            set.arg("will_at").arg(will_at);
            commands.push(due(keys, client_id, will_at));
        }
        commands.push(set);
        Ok(commands)
    }

    /// Of a client without session, or of a connection before the one that has the client.
    fn stray_will(&mut self, keys: &Keys, client_id: &str, will: &[u8]) -> Vec<Cmd> {
        let key = |name: &str| keys.of(Home::Bucket(bucket_of_client(client_id)), name);
        if self.clients.insert(client_id.into()) {
            let mut client = command("HSET", &key(&format!("c:{client_id}")));
            client.arg("will").arg(will);
            let own = self.own(keys, client_id, &mut client);
            return vec![client, own];
        }
        let mid = Mid {
            incarnation: self.node,
            number: self.next(),
        };
        let mut job = command("HSET", &key("jobs"));
        job.arg(mid.to_string())
            .arg([&job_head(self.node, None), will].concat());
        vec![job]
    }

    /// A connection, or something that is to be done once.
    fn next(&mut self) -> u64 {
        self.given += 1;
        self.given
    }
}

impl Session {
    fn home(&self) -> Home {
        Home::Bucket(bucket_of_uid(self.uid))
    }

    fn record(&self, keys: &Keys) -> String {
        keys.session(self.home(), self.uid)
    }

    fn lane(&self, keys: &Keys, lane: Lane) -> String {
        let name = match lane {
            Lane::Live => "q",
            Lane::Replayed => "r",
        };
        keys.of(self.home(), &format!("{name}:{}", self.uid))
    }

    /// What its record says of its lanes.
    fn noted(&self, keys: &Keys) -> Option<Cmd> {
        let mut set = command("HSET", &self.record(keys));
        let names = [("last", "bytes"), ("rlast", "rbytes")];
        for (sum, (last, bytes)) in self.lanes.iter().zip(names) {
            if let Some(place) = sum.last {
                set.arg(last).arg(place).arg(bytes).arg(sum.bytes);
            }
        }
        if self.of_groups > 0 {
            set.arg("given").arg(self.of_groups);
        }
        self.lanes.iter().any(|sum| sum.last.is_some()).then_some(set)
    }
}

/// The record of a session, and that it is there.
fn session_commands(keys: &Keys, home: Home, uid: Uid, record: &SessionRecord<'_>) -> Vec<Cmd> {
    let fields = [
        u64::from(record.expiry_interval),
        u64::from(record.window),
        record.away_since.map_or(0, |at| at.as_unix().max(1)),
        record.unsent,
    ];
    let (client_sum, sum) = record_sums(record.client_id.as_bytes(), fields);
    let mut session = command("HSET", &keys.session(home, uid));
    for (name, field) in ["expiry", "window", "away", "unsent"].into_iter().zip(fields) {
        session.arg(name).arg(field);
    }
    session
        .arg("sum")
        .arg(&sum)
        .arg("cid")
        .arg(record.client_id)
        .arg("csum")
        .arg(&client_sum);
    let mut sessions = command("SADD", &keys.of(home, "sessions"));
    sessions.arg(uid);
    vec![session, sessions]
}

/// Something of a client without owner is due, unless something else is before.
fn due(keys: &Keys, client_id: &str, at: u64) -> Cmd {
    let mut due = command("ZADD", &keys.of(Home::Bucket(bucket_of_client(client_id)), "t"));
    due.arg("LT").arg(at).arg(client_id);
    due
}

/// As the scripts count messages that go to another member if the session ends.
fn goes_on(terms: &TermsRecord<'_>) -> bool {
    terms.share.is_some() && terms.qos == QoS::AtLeastOnce
}

/// What the message counts for.
fn size(terms: &[u8]) -> u64 {
    terms
        .first_chunk()
        .map_or(0, |size| u64::from(u32::from_be_bytes(*size)))
}

/// A command about a key.
pub(super) fn command<K: redis::ToRedisArgs>(name: &str, key: &K) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}
