//! A bucket: who may write to it, who owns its clients, and what has begun in it.

use std::collections::BTreeSet;

use redis::{Cmd, Value};

use super::Examination;
use super::census::{Found, InboxKind, canonical};
use super::fault::{Advice, Fault, quoted};
use super::global::Nodes;
use crate::store::cluster::{Incarnation, Mid, bucket_of_inbox, bucket_of_uid};
use crate::store::redis::cluster::{inbox, stream};
use crate::store::redis::entry::read_job;
use crate::store::redis::keys::Home;
use crate::store::redis::read::pairs;
use crate::store::redis::reply::{bytes, list, number, text};
use crate::store::{StoreError, Uid, read_client};

/// Entries of an inbox that are read at a time.
const AT_A_TIME: usize = 64;

/// What a bucket lists beside its clients and sessions.
struct Lists {
    writers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Nodes that may not write any more, and have left something, perhaps.
    fenced: BTreeSet<String>,
    sessions: BTreeSet<Uid>,
    due: BTreeSet<String>,
    jobs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Which members of Shared Subscriptions get the messages of jobs.
    chosen: Vec<(Vec<u8>, Vec<u8>)>,
    onces: Vec<(Vec<u8>, Vec<u8>)>,
    /// Sessions that have ended, whose queues have messages for others.
    rests: Vec<(Vec<u8>, Vec<u8>)>,
    owned: BTreeSet<String>,
}

impl Examination<'_> {
    pub(super) fn bucket(&mut self, bucket: u8, found: &Found, nodes: &Nodes) -> Result<(), StoreError> {
        let lists = self.lists(Home::Bucket(bucket), found)?;
        self.writers(bucket, &lists, nodes);
        self.fenced(bucket, &lists.fenced);
        self.report.jobs += lists.jobs.len() as u64;
        self.report.onces += lists.onces.len() as u64;
        self.report.rests += lists.rests.len() as u64;
        for (mid, job) in &lists.jobs {
            self.job(bucket, mid, job);
        }
        for (mid, _) in &lists.chosen {
            self.choice(bucket, mid, &lists.jobs);
        }
        for (mid, queues) in &lists.onces {
            self.once(bucket, mid, queues);
        }
        for (mid, rest) in &lists.rests {
            self.rest(bucket, mid, rest)?;
        }
        for node in &found.owners {
            let key = self.key(Home::Bucket(bucket), &format!("own:{node}"));
            self.mention(*node, &key, "it owns clients");
        }
        for (node, kind) in &found.inboxes {
            self.inbox(bucket, *node, *kind)?;
        }
        let clients = found.clients.iter().chain(&lists.due).chain(&lists.owned);
        self.clients(bucket, &clients.collect(), &found.owners)?;
        let sessions = found.sessions.iter().chain(&lists.sessions);
        self.sessions(bucket, &sessions.copied().collect())
    }

    fn lists(&mut self, home: Home, found: &Found) -> Result<Lists, StoreError> {
        let key = |name: &str| self.keys.of(home, name);
        let mut commands = vec![
            one("HGETALL", key("hw")),
            one("SMEMBERS", key("sessions")),
            one("HGETALL", key("jobs")),
            one("HGETALL", key("chosen")),
            one("HGETALL", key("m2")),
            one("HGETALL", key("rest")),
            one("SMEMBERS", key("fenced")),
            one("ZRANGE", key("t")),
        ];
        if let Some(due) = commands.last_mut() {
            due.arg(0).arg(-1);
        }
        let owned = found.owners.iter();
        commands.extend(owned.map(|node| one("SMEMBERS", key(&format!("own:{node}")))));
        let mut replies = self.link.run(&commands)?.into_iter();
        let mut next = || self.link.checked(replies.next().unwrap_or(Value::Nil));
        let mut lists = Lists {
            writers: pairs(next()?)?,
            sessions: list(next()?)?.into_iter().map(number).collect::<Result<_, _>>()?,
            jobs: pairs(next()?)?,
            chosen: pairs(next()?)?,
            onces: pairs(next()?)?,
            rests: pairs(next()?)?,
            fenced: texts(next()?)?,
            due: texts(next()?)?,
            owned: BTreeSet::new(),
        };
        for _ in &found.owners {
            lists.owned.extend(texts(next()?)?);
        }
        Ok(lists)
    }

    fn writers(&mut self, bucket: u8, lists: &Lists, nodes: &Nodes) {
        let hw = self.key(Home::Bucket(bucket), "hw");
        let (mut writers, mut top) = (BTreeSet::new(), 0);
        for (name, value) in &lists.writers {
            let name = String::from_utf8_lossy(name).into_owned();
            let value = std::str::from_utf8(value).ok().and_then(canonical);
            match (canonical(&name), value) {
                (Some(node), Some(_)) => {
                    writers.insert(node);
                    self.mention(node, &hw, "it may write here");
                }
                (None, Some(value)) if name == "top" => top = value,
                _ => {
                    let command = format!("HDEL {hw} {}", quoted(&name));
                    self.fault(Fault::new(
                        &*hw,
                        format!("{name:?} counts no calls"),
                        Advice::Run(command),
                    ));
                }
            }
        }
        // A node that is leaving is removed from the buckets first.
        for (node, life) in &nodes.living {
            if life.beats > 0 && *node > top && !writers.contains(node) {
                self.unentered.push((*node, hw.clone()));
            }
        }
    }

    fn fenced(&mut self, bucket: u8, marks: &BTreeSet<String>) {
        let key = self.key(Home::Bucket(bucket), "fenced");
        for mark in marks {
            match canonical(mark) {
                Some(node) => self.mention(node, &key, "what it has left here is noted"),
                None => {
                    let command = format!("SREM {key} {}", quoted(mark));
                    self.fault(Fault::new(&*key, format!("{mark:?} is no node"), Advice::Run(command)));
                }
            }
        }
    }

    fn job(&mut self, bucket: u8, name: &[u8], value: &[u8]) {
        let key = self.key(Home::Bucket(bucket), "jobs");
        let name = String::from_utf8_lossy(name).into_owned();
        let read = Mid::parse(&name).and_then(|mid| read_job(bucket, mid, value).ok());
        let is_right = read.as_ref().is_some_and(|job| {
            let will = job.will.as_ref();
            will.is_none_or(|will| read_client(&will.client).is_ok())
        });
        match read {
            Some(job) if is_right => self.mention(job.of, &key, "a message has begun that it has to publish"),
            _ => {
                let advice = Advice::Run(format!("HDEL {key} {} (its message is lost then)", quoted(&name)));
                self.fault(Fault::new(&*key, format!("the job {name:?} can't be read"), advice));
            }
        }
    }

    fn choice(&mut self, bucket: u8, name: &[u8], jobs: &[(Vec<u8>, Vec<u8>)]) {
        if !jobs.iter().any(|(job, _)| job == name) {
            let key = self.key(Home::Bucket(bucket), "chosen");
            let name = String::from_utf8_lossy(name).into_owned();
            let command = format!("HDEL {key} {}", quoted(&name));
            let what = format!("members have been chosen for {name:?}, which is no job");
            self.fault(Fault::new(key, what, Advice::Run(command)));
        }
    }

    fn rest(&mut self, bucket: u8, name: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let key = self.key(Home::Bucket(bucket), "rest");
        let name = String::from_utf8_lossy(name).into_owned();
        let value = String::from_utf8_lossy(value);
        let parts = value
            .split_once(' ')
            .and_then(|(uid, of)| Some((canonical(uid)?, canonical(of)?)));
        let command = format!("HDEL {key} {}", quoted(&name));
        let Some((uid, of)) = parts.filter(|_| Mid::parse(&name).is_some()) else {
            let what = format!("{name:?} says of no session that it has ended: {value:?}");
            self.fault(Fault::new(key, what, Advice::Run(command)));
            return Ok(());
        };
        self.mention(
            of,
            &key,
            "it has to give messages of a session that has ended to others",
        );
        let queue = self.key(Home::Bucket(bucket), &format!("q:{uid}"));
        let mut still = one("HEXISTS", key.clone());
        still.arg(&name);
        let mut replies = self.link.run(&[one("LLEN", queue), still])?.into_iter();
        let mut next = || self.link.checked(replies.next().unwrap_or(Value::Nil)).and_then(number);
        if next()? == 0 && next()? == 1 {
            let what = format!("the queue of session {uid}, which has ended, is not there");
            self.fault(Fault::new(key, what, Advice::Run(command)));
        }
        Ok(())
    }

    fn once(&mut self, bucket: u8, name: &[u8], value: &[u8]) {
        let key = self.key(Home::Bucket(bucket), "m2");
        let name = String::from_utf8_lossy(name).into_owned();
        let value = String::from_utf8_lossy(value);
        let mut words = value.split(' ');
        let of = words.next().and_then(canonical);
        let are_here = words.all(|queue| is_queue_of(bucket, queue));
        match of {
            Some(of) if are_here && Mid::parse(&name).is_some() => {
                self.mention(of, &key, "it has put messages into queues here, once");
            }
            _ => {
                let command = format!("HDEL {key} {}", quoted(&name));
                let what = format!("what is noted of {name:?} names no queues of this bucket: {value:?}");
                self.fault(Fault::new(&*key, what, Advice::Run(command)));
            }
        }
    }

    fn inbox(&mut self, bucket: u8, node: Incarnation, kind: InboxKind) -> Result<(), StoreError> {
        let key = self.key(Home::Bucket(bucket), &format!("{}:{node}", kind.name()));
        self.mention(node, &key, "this is its inbox");
        if bucket_of_inbox(node) != bucket {
            let command = format!("UNLINK {key}");
            let what = "the inbox of this node is in another bucket";
            self.fault(Fault::new(&*key, what, Advice::Run(command)));
        }
        let mut from = "-".to_owned();
        loop {
            let mut command = one("XRANGE", key.clone());
            command.arg(&from).arg("+").arg("COUNT").arg(AT_A_TIME);
            let entries = stream::items(self.link.ask(command)?)?;
            let Some((last, _)) = entries.last() else {
                return Ok(());
            };
            from = format!("({}", stream::identifier(*last));
            for (number, entry) in &entries {
                if let Err(error) = inbox::decode(entry, &mut Vec::new()) {
                    let command = format!(
                        "XDEL {key} {} (its messages are lost then)",
                        stream::identifier(*number)
                    );
                    let what = format!("entry {number} can't be read: {}", error.0);
                    self.fault(Fault::new(&*key, what, Advice::Run(command)));
                }
            }
        }
    }
}

/// A session, or `n` and a node; for a Shared Subscription `s` and a hash follow.
fn is_queue_of(bucket: u8, queue: &str) -> bool {
    let (who, share) = match queue.split_once('s') {
        Some((who, share)) => (who, Some(share)),
        None => (queue, None),
    };
    let is_hash = |share: &str| share.len() == 40 && share.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_here = match who.strip_prefix('n') {
        Some(node) => canonical(node).is_some_and(|node| bucket_of_inbox(node) == bucket),
        None => canonical(who).is_some_and(|uid| bucket_of_uid(uid) == bucket),
    };
    is_here && share.is_none_or(is_hash)
}

fn texts(value: Value) -> Result<BTreeSet<String>, StoreError> {
    list(value)?.into_iter().map(text).collect()
}

pub(super) fn one(name: &str, key: String) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

/// A list of what may be nothing.
pub(super) fn optional(value: Value) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    let items = list(value)?.into_iter();
    items
        .map(|item| match item {
            Value::Nil => Ok(None),
            item => bytes(item).map(Some),
        })
        .collect()
}
