//! The scripts in a real server, in the words of the simulation.

mod changes;
mod picture;

use std::collections::{BTreeMap, BTreeSet};

use cluster_sim::home::{Answer, Call, Job, Put, State};
use cluster_sim::ids::{
    Cid, Filter, Home as SimHome, Inc, Message, Mid as SimMid, Qos, Token as SimToken, Topic, Uid as SimUid,
};
use redis::Value;

use super::testing::LEASE;
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{Limits, Mid, Token, bucket_of_client};
use crate::store::redis::cluster::ClusterStore;
use crate::store::redis::cluster::call::{Answer as RealAnswer, Outcome};
use crate::store::redis::cluster::owed::Owed;
use crate::store::redis::cluster::plan::{Context, Plan};
use crate::store::redis::cluster::rematch::Additions;
use crate::store::redis::entry::read_job;
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, list, number};
use crate::store::redis::script::eval;
use crate::store::redis::testing::RedisServer;
use crate::store::{Batch, Uid};

const BEAT: &str = concat!("#!lua\n", include_str!("../../scripts/cluster/beat.lua"));

/// See the module.
pub(super) struct Real {
    store: ClusterStore,
    link: Link,
    limits: Limits,
    clients: Vec<String>,
    /// Clients whose owner has begun.
    opened: BTreeSet<Cid>,
}

impl Real {
    pub(super) fn join(server: &RedisServer, nodes: usize, limits: Limits) -> Real {
        let settings = server.settings();
        let mut stores: Vec<_> = (0..nodes)
            .map(|_| ClusterStore::open(&settings, limits, LEASE).expect("joins"))
            .collect();
        // The clients of the simulation have its buckets.
        let in_bucket = |bucket: u8, skip: usize| {
            let mut clients = (0..)
                .map(|n| format!("client-{n}"))
                .filter(|id| bucket_of_client(id) == bucket);
            clients.nth(skip).expect("one")
        };
        Real {
            store: stores.swap_remove(0),
            link: Link::connect(&settings).expect("connects"),
            limits,
            clients: (0..6)
                .map(|cid| in_bucket(bucket_of(SimHome::of_client(cid)), usize::from(cid / 3)))
                .collect(),
            opened: BTreeSet::new(),
        }
    }

    pub(super) fn has_opened(&self, cid: Cid) -> bool {
        self.opened.contains(&cid)
    }

    /// Makes the call that the simulation has made, and answered in this way: what is answered, in words.
    pub(super) fn call(
        &mut self,
        (home, inc, seq): (SimHome, Inc, u64),
        call: &Call,
        answer: &Answer,
        after: &State,
    ) -> String {
        let changes = self.changes(home, call, answer, after);
        let context = Context {
            incarnation: u64::from(inc),
            limits: self.limits,
            longest_told: 100,
        };
        let batch = Batch {
            number: 1,
            bytes: &changes.0,
        };
        let plan = Plan::new(
            &batch,
            context,
            &Additions::default(),
            &[seq - 1; 257],
            &Owed::default(),
        )
        .expect("a plan");
        let [made] = &plan.calls[..] else {
            panic!("{} calls for {call:?}", plan.calls.len());
        };
        let command = made.command(&self.store.scripts, &self.store.keys, u64::from(inc));
        let reply = self
            .link
            .ask(command)
            .unwrap_or_else(|error| panic!("{call:?}: {error}"));
        self.note_owner(call, answer);
        let mut parts = match reply {
            Value::Array(parts) => parts.into_iter(),
            word => vec![word].into_iter(),
        };
        let word = String::from_utf8(bytes(parts.next().expect("a word")).expect("text")).expect("text");
        match &*word {
            // What the simulation does not tell.
            "OK" if matches!(
                call,
                Call::Dead { .. } | Call::TakeOver(_) | Call::Recovered(_) | Call::Free { .. }
            ) =>
            {
                word
            }
            "OK" => outcome(&made.read(parts).expect("answers")),
            "GAP" => format!("GAP {}", number(parts.next().expect("a number")).expect("a number")),
            _ => word,
        }
    }

    fn note_owner(&mut self, call: &Call, answer: &Answer) {
        match (call, answer) {
            (Call::Open(open), Answer::Opened { .. }) => drop(self.opened.insert(open.cid)),
            (Call::Release { cid, .. } | Call::Free { cid, .. }, Answer::Left { .. }) => drop(self.opened.remove(cid)),
            _ => {}
        }
    }

    /// What the simulation has answered, in the words of [`call`](Real::call).
    pub(super) fn words(&self, answer: &Answer) -> String {
        match answer {
            Answer::Appended(puts) => {
                let there: Vec<_> = puts.iter().map(|put| *put != Put::Gone).collect();
                format!("appended {there:?}")
            }
            Answer::Swept(uids) => {
                let mut uids: Vec<_> = uids.iter().map(|uid| format!("{uid:?}")).collect();
                uids.sort();
                format!("ended {uids:?}")
            }
            Answer::Position { position, .. } => format!("position {position}"),
            _ => "OK".to_owned(),
        }
    }

    pub(super) fn beat(&mut self, inc: Inc, applied: u64) -> bool {
        let mut command = eval(BEAT, &["mqtt:{g}:nodes"]);
        command.arg(inc).arg(applied);
        let reply = list(self.link.ask(command).expect("an answer")).expect("a list");
        reply[0] == Value::Int(1)
    }

    /// What is due is due earlier.
    pub(super) fn pass(&mut self, millis: u64) {
        for bucket in 1..=3 {
            let due: Vec<String> = self.words_of(&["ZRANGE", &key(bucket, "t"), "0", "-1"]);
            for client in due {
                self.ask(&["ZINCRBY", &key(bucket, "t"), &format!("-{millis}"), &client]);
            }
            for client in &self.clients.clone() {
                let key = key(bucket, &format!("c:{client}"));
                for field in ["will_at", "ends_at"] {
                    if self.ask(&["HEXISTS", &key, field]) == Value::Int(1) {
                        self.ask(&["HINCRBY", &key, field, &format!("-{millis}")]);
                    }
                }
            }
        }
    }

    /// Which of several wills that are due gets which identity is not compared.
    pub(super) fn rename_jobs(&mut self, home: SimHome, state: &mut State) {
        let found: BTreeMap<u32, SimMid> = self.jobs(bucket_of(home)).map(|(mid, id, _)| (id, mid)).collect();
        if let State::Bucket(bucket) = state {
            let jobs = std::mem::take(&mut bucket.jobs).into_values().map(|job| {
                let mid = found.get(&job.message.id).copied().unwrap_or(job.mid);
                (mid, Job { mid, ..job })
            });
            bucket.jobs = jobs.collect();
        }
    }

    fn jobs(&mut self, bucket: u8) -> impl Iterator<Item = (SimMid, u32, u64)> + use<> {
        let jobs = self.hash(&key(bucket, "jobs"));
        jobs.into_iter().map(move |(mid, value)| {
            let job = read_job(bucket, Mid::parse(&mid).expect("an identity"), &value).expect("a job");
            let of_will = job.will.as_ref().map(|will| &will.message);
            let id = id(job.message.as_ref().or(of_will).expect("a message").payload());
            (sim_mid(&mid), id, job.of)
        })
    }

    fn ask(&mut self, words: &[&str]) -> Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        self.link
            .ask(command)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn words_of(&mut self, words: &[&str]) -> Vec<String> {
        let items = list(self.ask(words)).expect("a list").into_iter();
        items.map(|item| text(&bytes(item).expect("bytes"))).collect()
    }

    fn hash(&mut self, key: &str) -> BTreeMap<String, Vec<u8>> {
        let mut items = list(self.ask(&["HGETALL", key])).expect("a list").into_iter();
        let mut fields = BTreeMap::new();
        while let (Some(name), Some(value)) = (items.next(), items.next()) {
            fields.insert(text(&bytes(name).expect("bytes")), bytes(value).expect("bytes"));
        }
        fields
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Logged { position, .. } => format!("position {position}"),
        Outcome::Answered(answers) => {
            let ended = answers.iter().find_map(|answer| match answer {
                RealAnswer::Ended(uids) => Some(uids),
                _ => None,
            });
            if let Some(ended) = ended {
                let mut uids: Vec<_> = ended.iter().map(|uid| uid_text(*uid)).collect();
                uids.sort();
                return format!("ended {uids:?}");
            }
            let there: Vec<_> = answers.iter().map(|answer| *answer != RealAnswer::Gone).collect();
            match there.is_empty() {
                true => "OK".to_owned(),
                false => format!("appended {there:?}"),
            }
        }
        Outcome::Unknown => "DONE".to_owned(),
    }
}

/// An inbox and the clients of one bucket of the simulation are in one bucket here.
fn bucket_of(home: SimHome) -> u8 {
    match home {
        SimHome::Bucket(0) => 3,
        SimHome::Bucket(number) => number,
        SimHome::Global => unreachable!("it is no bucket"),
    }
}

fn key(bucket: u8, name: &str) -> String {
    format!("mqtt:{{{bucket}}}:{name}")
}

fn topic(topic: Topic) -> String {
    format!("t{topic}")
}

/// Of a session's own subscription: those of groups are not compared yet.
fn unshared(filter: Filter) -> String {
    assert_eq!(filter.group, None);
    topic(filter.topic)
}

fn message<'a>(message: &Message, topic: &'a str, payload: &'a str) -> Publication<'a> {
    Publication {
        topic,
        payload: payload.as_bytes(),
        properties: &[],
        expires_at: None,
        qos: match message.qos {
            Qos::One => QoS::AtLeastOnce,
            Qos::Two => QoS::ExactlyOnce,
        },
        retain: message.retain,
    }
}

fn token(token: SimToken) -> Token {
    Token {
        incarnation: u64::from(token.inc),
        number: u64::from(token.conn),
    }
}

fn mid(mid: SimMid) -> Mid {
    Mid {
        incarnation: u64::from(mid.inc),
        number: u64::from(mid.n),
    }
}

fn sim_mid(text: &str) -> SimMid {
    let mid = Mid::parse(text).expect("an identity");
    SimMid {
        inc: mid.incarnation as Inc,
        n: mid.number as u32,
    }
}

fn uid_text(uid: Uid) -> String {
    let uid = SimUid {
        inc: (uid >> 40) as Inc,
        n: (uid >> 8) as u32,
    };
    format!("{uid:?}")
}

fn id(payload: &[u8]) -> u32 {
    text(payload).parse().expect("a number")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
