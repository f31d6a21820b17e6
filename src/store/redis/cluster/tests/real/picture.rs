//! All that a home has, in the same words of the simulation and of the server.

use std::collections::BTreeSet;

use cluster_sim::home::{self, Answer, Call, Envelope, State, Target, To};
use cluster_sim::ids::{Cid, Home as SimHome, Qos, Token as SimToken};

use super::super::differential::MOST_NODES;
use super::asking::servers_of;
use super::{
    Real, bucket_of, filter_text, group_text, id, key, real_home, share_text, sim_mid, text, token, topic, uid_text,
};
use crate::packet::QoS;
use crate::store::Uid;
use crate::store::cluster::Entry;
use crate::store::op::{Lane, publication};
use crate::store::redis::cluster::read::choices;
use crate::store::redis::entry::{read_delivery, read_live_terms, read_message, read_will};
use crate::store::redis::reply::{bytes, list, number};
use crate::wire::Reader;

const HALF_AN_HOUR: u64 = 1_800_000;

/// All that a home has, in words.
#[derive(Debug, Default)]
pub(in super::super) struct Picture {
    pub(in super::super) lines: Vec<String>,
    /// What is below has been dropped from the log.
    pub(in super::super) log_from: u64,
}

impl Picture {
    fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    fn sorted(mut self) -> Picture {
        self.lines.sort();
        self
    }
}

impl Real {
    pub(in super::super) fn of_simulation(&self, mut state: State, now: u64) -> Picture {
        match &mut state {
            State::Global(global) => of_global(global),
            State::Bucket(_) => {
                let mut inboxes = Vec::new();
                for inc in 1..=3 {
                    let envelope = Envelope {
                        inc,
                        seq: None,
                        call: Call::Take { above: 0 },
                    };
                    let Answer::Taken(taken) = state.run(&cluster_sim::guard::Guards::all(), now, &envelope) else {
                        unreachable!("it is answered so");
                    };
                    let ids: Vec<_> = taken.iter().map(|(_, message)| message.id).collect();
                    inboxes.extend((!ids.is_empty()).then(|| format!("inbox {inc} {ids:?}")));
                }
                let State::Bucket(bucket) = &state else {
                    unreachable!("it was one")
                };
                of_bucket(bucket, now, inboxes)
            }
        }
    }

    pub(in super::super) fn of_server(&mut self, home: SimHome, log_from: u64) -> Picture {
        match home {
            SimHome::Global => self.read_global(log_from),
            SimHome::Bucket(_) => self.read_bucket(bucket_of(home)),
        }
    }

    fn read_global(&mut self, log_from: u64) -> Picture {
        let mut picture = Picture::default();
        self.read_hw("{g}", &mut picture);
        for (inc, state) in self.hash("mqtt:{g}:nodes") {
            picture.add(format!("node {inc} {}", text(&state)));
        }
        for (dead, by) in self.hash("mqtt:{g}:rec") {
            picture.add(format!("recoverer of {dead} {}", text(&by)));
        }
        let lost = self.words_of(&["SMEMBERS", "mqtt:{g}:lost"]);
        lost.iter().for_each(|home| picture.add(format!("lost {home}")));
        for route in self.hash("mqtt:{g}:f").into_keys() {
            picture.add(format!("route {route}"));
        }
        for (topic, message) in self.hash("mqtt:{g}:ret") {
            picture.add(format!(
                "retained {topic} {}",
                id(read_message(&message).expect("a message").payload())
            ));
        }
        for (mid, of) in self.hash("mqtt:{g}:m2") {
            picture.add(format!("once {:?} of {}", sim_mid(&mid), text(&of)));
        }
        let meta = self.hash("mqtt:{g}:meta");
        picture.add(format!("position {}", text(&meta["pos"])));
        let generation = meta.get("gen").map_or_else(|| "0".to_owned(), |over| text(over));
        picture.add(format!("generation {generation}"));
        for entry in list(self.ask(&["XRANGE", "mqtt:{g}:log", "-", "+"])).expect("entries") {
            let mut parts = list(entry).expect("an entry").into_iter();
            let position = text(&bytes(parts.next().expect("an identifier")).expect("bytes"))[2..].to_owned();
            let fields = list(parts.next().expect("fields")).expect("fields");
            let bytes = bytes(fields[1].clone()).expect("bytes");
            if position.parse::<u64>().expect("a number") >= log_from {
                let entry = Entry::read(&mut Reader::new(&bytes)).expect("an entry");
                picture.add(format!("log {position} {}", self.entry(&entry)));
            }
        }
        picture.sorted()
    }

    fn entry(&self, entry: &Entry<'_>) -> String {
        let cid = |client: &str| self.clients.iter().position(|known| known == client).expect("a client");
        match entry {
            Entry::Join(inc) => format!("join {inc}"),
            Entry::Dead(inc) => format!("dead {inc}"),
            Entry::Subscribe {
                uid,
                client_id,
                subscription,
            } => format!("sub {} {} {}", cid(client_id), uid_text(*uid), subscription.filter),
            Entry::Unsubscribe { uid, filter } => format!("unsub {} {filter}", uid_text(*uid)),
            Entry::End { uid } => format!("end {}", uid_text(*uid)),
            Entry::Present { uid, node } => format!("present {} {node}", uid_text(*uid)),
            Entry::Away { uid } => format!("away {}", uid_text(*uid)),
            Entry::Route { node, filter, .. } => format!("route {node} {filter}"),
            Entry::Unroute { node, filter } => format!("unroute {node} {filter}"),
            Entry::Retain { message } => format!("retain {}", id(message.payload)),
            Entry::RetainClear { topic } => format!("clear {topic}"),
        }
    }

    fn read_bucket(&mut self, bucket: u8) -> Picture {
        let mut picture = Picture::default();
        let fenced = self.read_hw(&format!("{{{bucket}}}"), &mut picture);
        for cid in 0..6 {
            self.read_client(bucket, cid, &mut picture);
        }
        let sessions: Vec<String> = self.words_of(&["SMEMBERS", &key(bucket, "sessions")]);
        for uid in &sessions {
            self.read_session(bucket, uid, &mut picture);
        }
        let keys: Vec<String> = self.words_of(&["KEYS", &format!("mqtt:{{{bucket}}}:s:*")]);
        assert_eq!(keys.len(), sessions.len(), "sessions and the list of them");
        for inc in self.words_of(&["SMEMBERS", &key(bucket, "fenced")]) {
            picture.add(format!("mark of {inc}"));
        }
        for inc in 1..=MOST_NODES {
            let owned = self.words_of(&["SMEMBERS", &key(bucket, &format!("own:{inc}"))]);
            let cids: BTreeSet<_> = owned
                .iter()
                .map(|client| self.clients.iter().position(|known| known == client))
                .collect();
            let cids: Vec<_> = cids.into_iter().flatten().collect();
            if !cids.is_empty() {
                picture.add(format!("owned by {inc} {cids:?}"));
            }
            let ids = if inc <= 3 {
                self.read_inbox(bucket, inc)
            } else {
                Vec::new()
            };
            if !ids.is_empty() && !fenced.contains(&inc) {
                picture.add(format!("inbox {inc} {ids:?}"));
            }
        }
        for (mid, id, of) in self.jobs(bucket) {
            picture.add(format!("job {mid:?} {id} of {of}"));
        }
        for (mid, chosen) in self.hash(&key(bucket, "chosen")) {
            for (share, uid) in choices(&chosen).expect("choices") {
                let (group, uid) = (group_text(&share), uid_text(uid));
                picture.add(format!("choice {:?} of {group}: {uid}", sim_mid(&mid)));
            }
        }
        let rests: Vec<_> = self.rests(bucket).collect();
        for (mid, uid, of) in &rests {
            let messages = self.read_rest(bucket, *uid);
            picture.add(format!("rest {mid:?} {} of {of}: {messages:?}", uid_text(*uid)));
        }
        let queues: Vec<String> = self.words_of(&["KEYS", &format!("mqtt:{{{bucket}}}:q:*")]);
        for queue in queues {
            let uid = queue.rsplit(':').next().expect("a name");
            let is_of_rest = rests.iter().any(|(_, ended, _)| ended.to_string() == uid);
            assert!(
                is_of_rest || sessions.iter().any(|other| other == uid),
                "{queue} is of nobody"
            );
        }
        for (mid, known) in self.hash(&key(bucket, "m2")) {
            let known = text(&known);
            let mut words = known.split(' ');
            let of = words.next().expect("whose it is").to_owned();
            for queue in words {
                let queue = self.queue_text(queue);
                picture.add(format!("once {:?} {queue} of {of}", sim_mid(&mid)));
            }
        }
        picture.sorted()
    }

    /// Those that may not write here.
    fn read_hw(&mut self, tag: &str, picture: &mut Picture) -> Vec<u64> {
        let hw = self.hash(&format!("mqtt:{tag}:hw"));
        for (inc, last) in &hw {
            picture.add(format!("hw {inc} {}", text(last)));
        }
        (1..=3).filter(|inc| !hw.contains_key(&inc.to_string())).collect()
    }

    fn read_client(&mut self, bucket: u8, cid: Cid, picture: &mut Picture) {
        let client = self.clients[usize::from(cid)].clone();
        let record = self.hash(&key(bucket, &format!("c:{client}")));
        let due = text(&bytes(self.ask(&["ZSCORE", &key(bucket, "t"), &client])).unwrap_or_default());
        if record.is_empty() {
            assert_eq!(due, "", "what is due of a client that is not there");
            return;
        }
        let now = list(self.ask(&["TIME"])).expect("the time");
        let now = number(now[0].clone()).expect("a number") as i64 * 1000;
        let word = |name: &str| record.get(name).map_or_else(|| "-".to_owned(), |value| text(value));
        let at = |name: &str| record.get(name).map(|at| text(at).parse::<i64>().expect("a time"));
        let will = record.get("will").map(|will| read_will(0, will).expect("a will"));
        let will_at = at("will_at").filter(|_| will.is_some());
        let first = [will_at, at("ends_at")].into_iter().flatten().min();
        let expected = first.filter(|_| !record.contains_key("owner"));
        assert_eq!(
            due,
            expected.map_or(String::new(), |at| at.to_string()),
            "when something is due"
        );
        let uid = record
            .get("uid")
            .map_or_else(|| "-".to_owned(), |uid| uid_text(text(uid).parse().expect("a uid")));
        let will = will.map(|will| (id(will.message.payload()), u64::from(will.delay_interval) * 1000));
        if will_at.is_some() && record.contains_key("left") {
            picture.add(format!("client {cid} has been left"));
        }
        if let Some(wills) = record.get("wills") {
            let wills: BTreeSet<_> = text(wills).split(' ').map(sim_mid).collect();
            picture.add(format!("client {cid} waits for {wills:?}"));
        }
        picture.add(client_line(
            (cid, &word("owner"), &word("next"), &uid),
            will,
            will_at.map(|at| at - now),
            at("ends_at").map(|at| at - now),
        ));
    }

    fn read_session(&mut self, bucket: u8, uid: &str, picture: &mut Picture) {
        let record = self.hash(&key(bucket, &format!("s:{uid}")));
        let client = text(&record["cid"]);
        let cid = self
            .clients
            .iter()
            .position(|known| *known == client)
            .expect("a client");
        let name = uid_text(uid.parse().expect("a uid"));
        let next = record
            .get("last")
            .map_or(0, |last| text(last).parse::<u64>().expect("a place") + 1);
        let expiry = text(&record["expiry"]).parse::<u64>().expect("a number") * 1000;
        picture.add(format!("session {name} of {cid} expiry {expiry} next {next}"));
        let given = record.get("given").map_or_else(|| "0".to_owned(), |given| text(given));
        picture.add(format!("session {name} given {given}"));
        for (field, value) in &record {
            if let Some(filter) = field.strip_prefix("sub:") {
                picture.add(format!("session {name} subscribes {filter}"));
            }
            if let Some(packet_id) = field.strip_prefix("in:") {
                let received = read_message(value).expect("a message");
                picture.add(format!(
                    "session {name} received {packet_id} {}",
                    id(received.payload())
                ));
            }
        }
        let queue = list(self.ask(&["LRANGE", &key(bucket, &format!("q:{uid}")), "0", "-1"])).expect("a queue");
        let queue: Vec<_> = queue.into_iter().map(|part| bytes(part).expect("bytes")).collect();
        for [place, terms, message] in queue.as_chunks::<3>().0 {
            let read = read_delivery(Lane::Live, [place, terms, message]).expect("an entry");
            let share = read_live_terms(terms).expect("terms").share.map(group_text);
            let what = read
                .message
                .map_or("released".to_owned(), |stored| id(stored.message.payload()).to_string());
            picture.add(format!("session {name} queue {} {what} of {share:?}", read.index));
        }
    }

    /// What a session has left that goes on: groups and messages.
    fn read_rest(&mut self, bucket: u8, uid: Uid) -> Vec<(String, u32)> {
        let queue = list(self.ask(&["LRANGE", &key(bucket, &format!("q:{uid}")), "0", "-1"])).expect("a queue");
        let queue: Vec<_> = queue.into_iter().map(|part| bytes(part).expect("bytes")).collect();
        let parts = queue.as_chunks::<3>().0.iter();
        let entries = parts.map(|parts| {
            let [place, terms, message] = parts.each_ref().map(|part| &part[..]);
            read_delivery(Lane::Live, [place, terms, message]).expect("an entry")
        });
        let messages = entries.filter_map(|entry| entry.message);
        let goes_on = messages.filter(|stored| stored.qos == QoS::AtLeastOnce && stored.share.is_some());
        goes_on
            .map(|stored| {
                (
                    group_text(stored.share.as_deref().expect("a group")),
                    id(stored.message.payload()),
                )
            })
            .collect()
    }

    /// A queue in `m2`.
    fn queue_text(&mut self, queue: &str) -> String {
        let Some((uid, hash)) = queue.split_once('s') else {
            return queue.parse().map_or_else(|_| queue.to_owned(), uid_text);
        };
        let group = (0..3).find(|group| {
            let script = format!("#!lua\nreturn redis.sha1hex('{}')", share_text(*group));
            self.ask(&["EVAL", &script, "0"]) == redis::Value::BulkString(hash.into())
        });
        format!(
            "{} of {}",
            uid_text(uid.parse().expect("a uid")),
            group.expect("a group")
        )
    }

    fn read_inbox(&mut self, bucket: u8, inc: u64) -> Vec<u32> {
        let mut ids = Vec::new();
        for entry in list(self.ask(&["XRANGE", &key(bucket, &format!("in:{inc}")), "-", "+"])).expect("entries") {
            let fields = list(list(entry).expect("an entry").swap_remove(1)).expect("fields");
            let bytes = bytes(fields[1].clone()).expect("bytes");
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                assert_eq!(reader.u8(), Ok(0), "has no share");
                ids.push(id(publication(&mut reader).expect("a message").payload));
            }
        }
        ids
    }
}

fn of_global(global: &home::Global) -> Picture {
    let mut picture = Picture {
        log_from: global.log.keys().next().copied().unwrap_or(global.position + 1),
        ..Picture::default()
    };
    hw_lines(&global.hw, &mut picture);
    picture.add(format!("generation {}", global.generation));
    for home in &global.lost {
        picture.add(format!("lost {}", real_home(*home).name()));
    }
    for (inc, node) in &global.nodes {
        let servers = servers_of(&node.servers);
        let colon = if node.servers.is_empty() { "" } else { ":" };
        picture.add(format!("node {inc} {}:{}{colon}{servers}", node.counter, node.applied));
    }
    for (dead, by) in &global.recoverers {
        picture.add(format!("recoverer of {dead} {by}"));
    }
    for (inc, to) in &global.routes {
        picture.add(format!("route {inc}:{}", topic(*to)));
    }
    for (of, message) in &global.retained {
        picture.add(format!("retained {} {}", topic(*of), message.id));
    }
    for (mid, of) in &global.once {
        picture.add(format!("once {mid:?} of {of}"));
    }
    picture.add(format!("position {}", global.position));
    for (position, entry) in &global.log {
        let entry = match entry {
            home::Entry::Join(inc) => format!("join {inc}"),
            home::Entry::Dead(inc) => format!("dead {inc}"),
            home::Entry::Sub(cid, uid, to) => format!("sub {cid} {uid:?} {}", filter_text(*to)),
            home::Entry::Unsub(uid, from) => format!("unsub {uid:?} {}", filter_text(*from)),
            home::Entry::End(uid) => format!("end {uid:?}"),
            home::Entry::Route(inc, to) => format!("route {inc} {}", topic(*to)),
            home::Entry::Unroute(inc, from) => format!("unroute {inc} {}", topic(*from)),
            home::Entry::Retain(message) => format!("retain {}", message.id),
        };
        picture.add(format!("log {position} {entry}"));
    }
    picture.sorted()
}

fn hw_lines(hw: &home::Hw, picture: &mut Picture) {
    for (inc, last) in &hw.last {
        picture.add(format!("hw {inc} {last}"));
    }
    if hw.top > 0 {
        picture.add(format!("hw top {}", hw.top));
    }
}

fn of_bucket(bucket: &home::Bucket, now: u64, inboxes: Vec<String>) -> Picture {
    let mut picture = Picture {
        lines: inboxes,
        ..Picture::default()
    };
    hw_lines(&bucket.hw, &mut picture);
    for (cid, client) in &bucket.clients {
        let token_text = |by: Option<SimToken>| by.map_or_else(|| "-".to_owned(), |by| token(by).to_string());
        let uid = client.uid.map_or_else(|| "-".to_owned(), |uid| format!("{uid:?}"));
        if !client.wills.is_empty() {
            picture.add(format!("client {cid} waits for {:?}", client.wills));
        }
        let until = |at: u64| at as i64 - now as i64;
        let will_at = client.will_at.filter(|_| client.will.is_some());
        picture.add(client_line(
            (*cid, &token_text(client.owner), &token_text(client.next), &uid),
            client.will.map(|will| (will.message.id, will.delay)),
            will_at.map(until),
            client.ends_at.map(until),
        ));
        if will_at.is_some() && client.is_left {
            picture.add(format!("client {cid} has been left"));
        }
    }
    for (uid, session) in &bucket.sessions {
        let (cid, expiry, next) = (session.cid, session.expiry, session.next);
        picture.add(format!("session {uid:?} of {cid} expiry {expiry} next {next}"));
        let goes_on = |queued: &&home::call::Queued| queued.group.is_some() && queued.message.qos == Qos::One;
        let given = session.queue.values().filter(goes_on).count();
        picture.add(format!("session {uid:?} given {given}"));
        for to in &session.subs {
            picture.add(format!("session {uid:?} subscribes {}", filter_text(*to)));
        }
        for (pid, message) in &session.received {
            picture.add(format!("session {uid:?} received {pid} {}", message.id));
        }
        for (index, queued) in &session.queue {
            let share = queued.group.map(|group| group.to_string());
            let what = if queued.released {
                "released".to_owned()
            } else {
                queued.message.id.to_string()
            };
            picture.add(format!("session {uid:?} queue {index} {what} of {share:?}"));
        }
    }
    for inc in &bucket.hw.fenced {
        picture.add(format!("mark of {inc}"));
    }
    for (inc, cids) in &bucket.owned {
        picture.add(format!("owned by {inc} {:?}", cids.iter().collect::<Vec<_>>()));
    }
    for (mid, rest) in &bucket.rests {
        let messages = rest.messages.iter();
        let messages: Vec<_> = messages
            .map(|(group, message)| (group.to_string(), message.id))
            .collect();
        picture.add(format!("rest {mid:?} {:?} of {}: {messages:?}", rest.uid, rest.of));
    }
    for (mid, job) in &bucket.jobs {
        for (group, (_, uid)) in &job.choices {
            picture.add(format!("choice {mid:?} of {group}: {uid:?}"));
        }
        picture.add(format!("job {mid:?} {} of {}", job.message.id, job.of));
    }
    for ((mid, to), of) in &bucket.once {
        let queue = match to {
            Some(Target {
                to: To::Session(_, uid),
                group: None,
            }) => format!("{uid:?}"),
            Some(Target {
                to: To::Session(_, uid),
                group: Some(group),
            }) => format!("{uid:?} of {group}"),
            Some(Target {
                to: To::Inbox(inc),
                group: None,
            }) => format!("n{inc}"),
            target => unreachable!("{target:?}"),
        };
        picture.add(format!("once {mid:?} {queue} of {of}"));
    }
    picture.sorted()
}

/// Times are compared to half an hour.
fn client_line(
    (cid, owner, next, uid): (Cid, &str, &str, &str),
    will: Option<(u32, u64)>,
    will_in: Option<i64>,
    ends_in: Option<i64>,
) -> String {
    let halves = |millis: i64| (millis as f64 / HALF_AN_HOUR as f64).round();
    let (will_in, ends_in) = (will_in.map(halves), ends_in.map(halves));
    format!("client {cid} owner {owner} next {next} uid {uid} will {will:?} {will_in:?} ends {ends_in:?}")
}
