//! The scripts in a real server, in the words of the simulation.

mod asking;
mod changes;
mod picture;

use std::collections::{BTreeMap, BTreeSet};

use cluster_sim::home::{Answer, Call, Job, Put, Rest, State, Target, To};
use cluster_sim::ids::{
    Cid, Filter, Group, Home as SimHome, Inc, Message, Mid as SimMid, Qos, Token as SimToken, Topic, Uid as SimUid,
};
use redis::Value;

use super::testing::{Changes, LEASE};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{ClusterOp, Entry, Homes, Limits, Mid, Token, bucket_of_client};
use crate::store::redis::cluster::ClusterStore;
use crate::store::redis::cluster::call::{Answer as RealAnswer, Call as RealCall, Expected, Outcome};
use crate::store::redis::cluster::calls::{HomeCalls, Touched};
use crate::store::redis::cluster::members::Membership;
use crate::store::redis::cluster::owed::Owed;
use crate::store::redis::cluster::plan::{Context, Plan};
use crate::store::redis::cluster::read::rest;
use crate::store::redis::cluster::rematch::Additions;
use crate::store::redis::cluster::scripts::{BYE, ClusterScripts, DEPART};
use crate::store::redis::entry::read_job;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, list, number};
use crate::store::redis::script::eval;
use crate::store::redis::testing::RedisServer;
use crate::store::{Batch, RedisSettings, Uid};

const KNOWN: &str = concat!("#!lua\n", include_str!("../../scripts/cluster/known.lua"));

pub(super) use asking::{nodes_text, queue_text};

/// See the module.
pub(super) struct Real {
    settings: RedisSettings,
    keys: Keys,
    scripts: ClusterScripts,
    membership: Membership,
    link: Link,
    limits: Limits,
    clients: Vec<String>,
    /// Clients whose owner has begun.
    opened: BTreeSet<Cid>,
}

impl Real {
    /// Nobody has joined yet.
    pub(super) fn new(server: &RedisServer, limits: Limits) -> Real {
        let settings = server.settings();
        let keys = Keys::new(&settings.prefix).expect("a prefix");
        let mut link = Link::connect(&settings).expect("connects");
        // The clients of the simulation have its buckets.
        let in_bucket = |bucket: u8, skip: usize| {
            let mut clients = (0..)
                .map(|n| format!("client-{n}"))
                .filter(|id| bucket_of_client(id) == bucket);
            clients.nth(skip).expect("one")
        };
        Real {
            scripts: ClusterScripts::load(&mut link).expect("are loaded"),
            membership: Membership::new(&settings, &keys, 0, LEASE),
            settings,
            keys,
            link,
            limits,
            clients: (0..6)
                .map(|cid| in_bucket(bucket_of(SimHome::of_client(cid)), usize::from(cid / 3)))
                .collect(),
            opened: BTreeSet::new(),
        }
    }

    /// Which one it is, and what was over then.
    pub(super) fn join(&mut self) -> (Inc, Inc) {
        let store = ClusterStore::open(&self.settings, self.limits, LEASE).expect("joins");
        (store.incarnation as Inc, store.generation as Inc)
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
        let context = Context {
            incarnation: u64::from(inc),
            limits: self.limits,
            longest_told: 100,
            longest_joined: 50,
        };
        let (calls, messages): (Vec<_>, _) = match call {
            // No change of the broker, but a part of some.
            Call::Choose {
                mid: job,
                group,
                member,
            } => (self.choose(home, seq, (*job, *group, *member)), Vec::new()),
            call => {
                let changes = match call {
                    Call::FinishRest(job) => self.finish_rest(bucket_of(home), *job),
                    call => self.changes(home, call, answer, after),
                };
                let batch = Batch {
                    number: 1,
                    bytes: &changes.0,
                };
                let nothing = (Additions::default(), Owed::default());
                let plan = Plan::new(&batch, context, &nothing.0, &[seq - 1; 257], &nothing.1);
                let plan = plan.expect("a plan");
                let calls = plan.calls.into_iter();
                // What is chosen for a job is noted in another home, and compared by itself.
                let calls = calls.filter(|made| !made.is_first || !matches!(call, Call::Append(_)));
                (calls.collect(), plan.messages)
            }
        };
        let [made] = &calls[..] else {
            panic!("{} calls for {call:?}", calls.len());
        };
        let command = made.command(&messages, &self.scripts, &self.keys, u64::from(inc));
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
                Call::Dead { .. } | Call::Retire(_) | Call::TakeOver(_) | Call::Recovered(_) | Call::Forget(_)
            ) =>
            {
                word
            }
            "OK" => outcome(made, &made.read(parts).expect("answers")),
            "GAP" => format!("GAP {}", number(parts.next().expect("a number")).expect("a number")),
            _ => word,
        }
    }

    fn note_owner(&mut self, call: &Call, answer: &Answer) {
        match (call, answer) {
            (Call::Open(open), Answer::Opened { .. }) => drop(self.opened.insert(open.cid)),
            (
                Call::Release { cid, .. } | Call::Free { cid, .. } | Call::EndSession { cid, .. },
                Answer::Left { .. },
            ) => drop(self.opened.remove(cid)),
            _ => {}
        }
    }

    /// What the simulation has answered, in the words of [`call`](Real::call).
    pub(super) fn words(&self, call: &Call, answer: &Answer) -> String {
        match answer {
            Answer::Left { ended } | Answer::Opened { ended, .. } => ended_text(ended.iter().copied()),
            Answer::NotOwner
                if matches!(
                    call,
                    Call::Open(_) | Call::Release { .. } | Call::Free { .. } | Call::EndSession { .. }
                ) =>
            {
                ended_text([])
            }
            Answer::Appended(puts) => {
                let there: Vec<_> = puts.iter().map(|put| *put != Put::Gone).collect();
                format!("appended {there:?}")
            }
            Answer::Swept(uids) => ended_text(uids.iter().copied()),
            Answer::Position { position, generation } => reached_text(*position, u64::from(*generation)),
            _ => "OK".to_owned(),
        }
    }

    fn choose(
        &self,
        home: SimHome,
        seq: u64,
        (job, group, (cid, uid)): (SimMid, Group, (Cid, SimUid)),
    ) -> Vec<RealCall> {
        let mut calls = HomeCalls::default();
        let change = calls.change(Touched::Home, false, b"choose");
        let change = change.text(mid(job).to_string()).text(share_text(group));
        change.number(self.uid(cid, uid));
        calls.finish(Home::Bucket(bucket_of(home)), seq - 1).collect()
    }

    fn finish_rest(&mut self, bucket: u8, job: SimMid) -> Changes {
        let rest = self.rests(bucket).find(|(mid, ..)| *mid == job);
        let uid = rest.map_or(9 << 40 | u64::from(bucket), |(_, uid, _)| uid);
        let mid = mid(job);
        Changes::default().cluster(ClusterOp::FinishRest { uid, mid })
    }

    /// What became of messages for groups.
    pub(super) fn known(&mut self, home: SimHome, items: &[(Target, Option<SimMid>)]) -> Vec<bool> {
        let mut command = eval(KNOWN, &[&key(bucket_of(home), "hw")]);
        for (target, job) in items {
            let (To::Session(cid, uid), Some(group)) = (target.to, target.group) else {
                panic!("no group is in an inbox");
            };
            command.arg(job.map(|job| mid(job).to_string()).unwrap_or_default());
            command.arg(self.uid(cid, uid)).arg(share_text(group));
        }
        let known = list(self.link.ask(command).expect("an answer")).expect("a list");
        known.into_iter().map(|known| known == Value::Int(1)).collect()
    }

    /// Whether it has given up the home.
    pub(super) fn leave(&mut self, home: SimHome, inc: Inc) -> bool {
        let mut entry = Vec::new();
        Entry::Dead(u64::from(inc)).write(&mut entry);
        let mut command = match home {
            SimHome::Global => eval(BYE, &["mqtt:{g}:nodes"]),
            SimHome::Bucket(_) => eval(DEPART, &[&key(bucket_of(home), "hw")]),
        };
        command.arg(inc);
        match home {
            SimHome::Global => command.arg(entry),
            SimHome::Bucket(_) => command.arg(1),
        };
        self.link.ask(command).expect("an answer") == Value::Int(1)
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

    /// Which of several clients that are due gets which identity is not compared.
    pub(super) fn rename_jobs(&mut self, home: SimHome, state: &mut State) {
        let found: BTreeMap<u32, SimMid> = self.jobs(bucket_of(home)).map(|(mid, id, _)| (id, mid)).collect();
        let rests: BTreeMap<_, _> = self
            .rests(bucket_of(home))
            .map(|(mid, uid, _)| (sim_uid(uid), mid))
            .collect();
        if let State::Bucket(bucket) = state {
            let mut names = BTreeMap::new();
            let jobs = std::mem::take(&mut bucket.jobs).into_values().map(|job| {
                let mid = found.get(&job.message.id).copied().unwrap_or(job.mid);
                names.insert(job.mid, mid);
                (mid, Job { mid, ..job })
            });
            bucket.jobs = jobs.collect();
            for client in bucket.clients.values_mut() {
                let wills = client.wills.iter().map(|mid| names.get(mid).copied().unwrap_or(*mid));
                client.wills = wills.collect();
            }
            let before = std::mem::take(&mut bucket.rests).into_values().map(|rest| {
                let mid = rests.get(&rest.uid).copied().unwrap_or(rest.mid);
                (mid, Rest { mid, ..rest })
            });
            bucket.rests = before.collect();
        }
    }

    fn rests(&mut self, bucket: u8) -> impl Iterator<Item = (SimMid, Uid, u64)> + use<> {
        let rests = self.hash(&key(bucket, "rest"));
        rests.into_iter().map(|(name, value)| {
            let (uid, of) = rest(Mid::parse(&name).expect("an identity"), &value).expect("a rest");
            (sim_mid(&name), uid, of)
        })
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

fn outcome(made: &RealCall, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Logged { reached, .. } => reached_text(reached.position, reached.generation),
        Outcome::Answered(answers) => {
            let ended = answers.iter().find_map(|answer| match answer {
                RealAnswer::Left(left) => Some(&left.ended),
                _ => None,
            });
            if let Some(ended) = ended {
                return ended_text(ended.iter().map(|uid| sim_uid(*uid)));
            }
            let there = there(made, answers);
            match there.is_empty() {
                true => "OK".to_owned(),
                false => format!("appended {there:?}"),
            }
        }
        Outcome::Unknown => "DONE".to_owned(),
    }
}

/// Of each message, in their order, whether what it is for is there. Those in runs come behind others.
fn there(made: &RealCall, answers: &[RealAnswer]) -> Vec<bool> {
    let mut there = BTreeMap::new();
    let mut others = Vec::new();
    for (expected, answer) in made.expected.iter().zip(answers) {
        let is_there = *answer != RealAnswer::Gone;
        match expected {
            Expected::Run(run) => {
                let numbers = &made.published[run.first..run.first + run.messages];
                there.extend(numbers.iter().map(|number| (*number, is_there)));
            }
            Expected::Sent(messages) => others.extend((0..*messages).map(|_| is_there)),
            _ => others.push(is_there),
        }
    }
    let mut others = others.into_iter();
    let count = there.len() + others.len();
    (0..count)
        .map(|number| there.remove(&number).unwrap_or_else(|| others.next().expect("one")))
        .collect()
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

fn filter_text(filter: Filter) -> String {
    match filter.group {
        Some(group) => format!("$share/g{group}/{}", topic(filter.topic)),
        None => topic(filter.topic),
    }
}

/// What a message is put into a queue for: in the simulation, it is the group that counts.
fn share_text(group: Group) -> String {
    format!("$share/g{group}/#")
}

fn group_text(share: &str) -> String {
    share
        .strip_prefix("$share/g")
        .and_then(|share| share.strip_suffix("/#"))
        .expect("a group")
        .to_owned()
}

pub(super) fn reached_text(position: u64, generation: u64) -> String {
    format!("position {position} generation {generation}")
}

fn real_home(home: SimHome) -> Home {
    match home {
        SimHome::Global => Home::Global,
        home => Home::Bucket(bucket_of(home)),
    }
}

fn homes(lost: &[SimHome]) -> Homes {
    let mut homes = Homes::default();
    lost.iter().for_each(|home| real_home(*home).insert_into(&mut homes));
    homes
}

fn ended_text(uids: impl IntoIterator<Item = SimUid>) -> String {
    let mut uids: Vec<_> = uids.into_iter().map(|uid| format!("{uid:?}")).collect();
    uids.sort();
    format!("ended {uids:?}")
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

fn sim_uid(uid: Uid) -> SimUid {
    SimUid {
        inc: (uid >> 40) as Inc,
        n: (uid >> 8) as u32,
    }
}

fn uid_text(uid: Uid) -> String {
    format!("{:?}", sim_uid(uid))
}

fn id(payload: &[u8]) -> u32 {
    text(payload).parse().expect("a number")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
