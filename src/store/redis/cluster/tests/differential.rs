//! The scripts against those of the simulation (`tests/cluster/src/home/`): any calls, with any numbers, answer alike, and come
//! to the same.
//!
//! **What the scripts do not have yet** is never called here, and stays empty: groups (targets and filters have none, so there
//! are no rests and no choices, and `known` is not asked), `How::Left` and `depart`, `bye`, and all that is done when writes
//! were lost (`gen`, `lost`, servers in heartbeats, `retire`, `end_session`, `is_older` and `ends` of `free`). The mark that
//! `fence` leaves is not compared; of what an append answers, only whether the queue is there: places are seen in the queues.
//!
//! Calls that both have and that the scripts do in another way, to be brought into them next:
//!
//! * A session in which nothing was changed ends with its connection. The simulation leaves [`Guard::UnusedEnds`] out.
//! * `release` and `free` of a client that nobody has opened leave what waits as it is. Such calls are not made while
//!   something waits.
//! * `append` of a message that `m2` has is *before*, even if the queue is gone. Such calls are not made.
//! * `open` leaves a will or an end that is due to the sweep in the simulation, the script does it: such calls are not made.
//!   Here it is the simulation that lacks something.

use std::collections::BTreeSet;

use cluster_sim::guard::{Guard, Guards};
use cluster_sim::home::{self, Answer, Append, Call, Change, Envelope, How, Put, State, To};
use cluster_sim::ids::{Cid, Home, Inc, Message, Mid, Qos, Token, Uid, Will};
use cluster_sim::random::Random;

use super::real::Real;
use super::testing::LIMITS;
use crate::store::redis::testing::RedisServer;

pub(super) const HOUR: u64 = 3_600_000;
const NODES: u64 = 3;
const CLIENTS: u64 = 6;
const STEPS: usize = 400;

/// What has to be answered at least once for the test to be one.
const KINDS: &[&str] = &[
    "done",
    "fenced",
    "gap",
    "not owner",
    "granted",
    "waits",
    "resumed",
    "ended",
    "changed",
    "begun",
    "appended",
    "gone",
    "swept",
];

fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Done => "done",
        Answer::Fenced => "fenced",
        Answer::Gap(_) => "gap",
        Answer::NotOwner => "not owner",
        Answer::Granted => "granted",
        Answer::Waits => "waits",
        Answer::Opened { ended: Some(_), .. } => "ended",
        Answer::Opened { ended: None, .. } => "resumed",
        Answer::Changed(made) if made.contains(&true) => "changed",
        Answer::Begun(Some(_)) => "begun",
        Answer::Appended(puts) if puts.iter().any(|put| *put != Put::Gone) => "appended",
        Answer::Appended(_) => "gone",
        Answer::Swept(ended) if !ended.is_empty() => "swept",
        _ => "other",
    }
}

/// Both, and what has been done with them.
struct Both {
    random: Random,
    guards: Guards,
    now: u64,
    /// The global home, then the buckets.
    homes: Vec<State>,
    real: Real,
    /// The number of the last call of each node for each home.
    numbers: Vec<Vec<u64>>,
    /// Numbers that were never used.
    fresh: u32,
    story: Vec<String>,
    /// What has been answered, of all kinds.
    answers: BTreeSet<&'static str>,
}

#[test]
fn scripts_do_what_those_of_the_simulation_do() {
    let seeds = match std::env::var("DIFFERENTIAL_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..8).collect::<Vec<u64>>(),
    };
    let server = RedisServer::start(&[]);
    let mut answers = BTreeSet::new();
    for seed in &seeds {
        server.command::<()>(&["FLUSHALL"]);
        let mut both = Both::begin(&server, *seed);
        for _ in 0..STEPS {
            both.step();
        }
        both.compare_all();
        answers.append(&mut both.answers);
    }
    let wanted = KINDS.iter().filter(|kind| seeds.len() > 1 && !answers.contains(*kind));
    assert_eq!(
        wanted.collect::<Vec<_>>(),
        [""; 0].iter().collect::<Vec<_>>(),
        "never answered"
    );
}

impl Both {
    fn begin(server: &RedisServer, seed: u64) -> Both {
        let mut both = Both {
            random: Random::new(seed),
            guards: Guards::without(Guard::UnusedEnds),
            now: 0,
            homes: std::iter::once(Home::Global)
                .chain(Home::buckets())
                .map(State::new)
                .collect(),
            real: Real::join(server, NODES as usize, LIMITS),
            numbers: vec![vec![0; 4]; NODES as usize + 1],
            fresh: 0,
            story: vec![format!("seed {seed}")],
            answers: BTreeSet::new(),
        };
        for inc in 1..=NODES as Inc {
            both.simulate(Home::Global, 0, None, Call::Join);
            Home::buckets().for_each(|home| drop(both.simulate(home, inc, None, Call::Enter)));
        }
        both.compare_all();
        both
    }

    /// What was done last.
    fn story(&self) -> String {
        let seed = &self.story[..1];
        let last = &self.story[self.story.len().saturating_sub(30).max(1)..];
        [seed, last].concat().join("\n")
    }

    fn simulate(&mut self, home: Home, inc: Inc, seq: Option<u64>, call: Call) -> Answer {
        let envelope = Envelope { inc, seq, call };
        self.homes[index(home)].run(&self.guards, self.now, &envelope)
    }

    fn step(&mut self) {
        match self.random.between(1, 100) {
            1..=4 => self.pass(),
            5..=8 => self.beat(),
            _ => {
                if let Some((home, inc, call)) = self.any_call() {
                    self.call(home, inc, call);
                    self.compare(home);
                }
            }
        }
    }

    /// Mostly with the next number.
    fn call(&mut self, home: Home, inc: Inc, call: Call) {
        let next = self.numbers[inc as usize][index(home)] + 1;
        let number = match self.random.between(1, 20) {
            1 => next.saturating_sub(self.random.between(1, 3)).max(1),
            2 => next + self.random.between(1, 2),
            _ => next,
        };
        self.story.push(format!("{home:?} I{inc} number {number} {call:?}"));
        let answer = self.simulate(home, inc, Some(number), call.clone());
        let expected = self
            .real
            .call((home, inc, number), &call, &answer, &self.homes[index(home)]);
        self.story.push(format!("  {answer:?} {expected}"));
        self.answers.insert(kind(&answer));
        let is_made = match answer {
            Answer::Done => expected == "DONE",
            Answer::Fenced => expected == "FENCED",
            Answer::Gap(last) => expected == format!("GAP {last}"),
            ref answer => {
                self.numbers[inc as usize][index(home)] = number;
                expected == self.real.words(answer)
            }
        };
        assert!(is_made, "{}", self.story());
        if let (Call::Fence(fenced), State::Bucket(bucket)) = (&call, &mut self.homes[index(home)])
            && answer == Answer::Ok
        {
            // Here it is there as long as its node may write.
            bucket.inboxes.remove(fenced);
        }
        if let Answer::Swept(_) = answer {
            self.real.rename_jobs(home, &mut self.homes[index(home)]);
        }
    }

    fn pass(&mut self) {
        self.story.push("an hour and a half".to_owned());
        self.now += HOUR * 3 / 2;
        self.real.pass(HOUR * 3 / 2);
        self.compare_all();
    }

    fn beat(&mut self) {
        let inc = self.any_node();
        let State::Global(global) = &self.homes[0] else { return };
        let applied = self.random.between(0, global.position);
        self.story.push(format!("I{inc} has applied {applied}"));
        let servers = Default::default();
        let beat = Call::Beat { applied, servers };
        let answer = self.simulate(Home::Global, inc, None, beat);
        let present = self.real.beat(inc, applied);
        assert!(
            matches!(answer, Answer::Beat { present: expected, .. } if expected == present),
            "{}",
            self.story()
        );
        self.compare(Home::Global);
    }

    fn compare_all(&mut self) {
        std::iter::once(Home::Global)
            .chain(Home::buckets())
            .for_each(|home| self.compare(home));
    }

    fn compare(&mut self, home: Home) {
        let expected = self.real.of_simulation(self.homes[index(home)].clone(), self.now);
        let found = self.real.of_server(home, expected.log_from);
        assert_eq!(found.lines, expected.lines, "{home:?} after\n{}", self.story());
    }

    fn any_node(&self) -> Inc {
        self.random.between(1, NODES) as Inc
    }

    fn fresh(&mut self) -> u32 {
        self.fresh += 1;
        self.fresh
    }

    fn any_call(&mut self) -> Option<(Home, Inc, Call)> {
        let inc = self.any_node();
        if self.random.percent(15) {
            return Some((Home::Global, inc, self.any_global_call(inc)));
        }
        let cid = self.random.between(0, CLIENTS - 1) as Cid;
        let home = Home::of_client(cid);
        let owner = self.bucket(home).clients.get(&cid).and_then(|client| client.owner);
        let inc = owner.filter(|_| self.random.percent(75)).map_or(inc, |owner| owner.inc);
        let call = match self.random.between(1, 100) {
            1..=12 => Call::Claim {
                cid,
                token: self.token(inc),
            },
            13..=26 => Call::Open(self.any_open(inc, cid)),
            27..=46 => Call::Changes(vec![(cid, self.opened(inc, cid)?, self.any_change())]),
            47..=52 => Call::Begin {
                cid,
                token: self.opened(inc, cid)?,
                pid: self.random.between(1, 2) as u16,
                mid: self.mid(inc),
            },
            53..=70 => Call::Append(
                (0..self.random.between(1, 4))
                    .map(|_| self.any_append(inc, home))
                    .collect(),
            ),
            71..=80 => Call::Release {
                cid,
                token: self.owner(inc, cid),
                how: if self.random.percent(50) { How::Clean } else { How::Lost },
                mid: self.mid(inc),
            },
            81..=86 => {
                // All that can be due: in which order is not compared.
                let mids = (0..CLIENTS).map(|_| self.mid(inc)).collect();
                Call::Sweep { mids }
            }
            _ => self.any_recovery(inc, cid),
        };
        self.is_alike(home, &call).then_some((home, inc, call))
    }

    /// Whether both have it: see the module.
    fn is_alike(&self, home: Home, call: &Call) -> bool {
        match call {
            Call::Open(open) => !self.is_due(home, open.cid),
            Call::Release { cid, .. } | Call::Free { cid, .. } => !self.waits_unopened(home, *cid),
            Call::Append(items) => !items.iter().any(|item| self.is_known_and_gone(home, item)),
            _ => true,
        }
    }

    fn waits_unopened(&self, home: Home, cid: Cid) -> bool {
        let client = self.bucket(home).clients.get(&cid);
        client.is_some_and(|client| client.owner.is_some() && (client.will_at.is_some() || client.ends_at.is_some()))
    }

    fn is_known_and_gone(&self, home: Home, item: &Append) -> bool {
        let bucket = self.bucket(home);
        let is_there = match item.target.to {
            To::Session(_, uid) => bucket.sessions.contains_key(&uid),
            To::Inbox(inc) => bucket.inboxes.contains_key(&inc),
        };
        let is_known = |(mid, _)| bucket.once.contains_key(&(mid, Some(item.target)));
        !is_there && item.once.is_some_and(is_known)
    }

    /// A will or an end.
    fn is_due(&self, home: Home, cid: Cid) -> bool {
        let client = self.bucket(home).clients.get(&cid);
        client.is_some_and(|client| {
            [client.will_at, client.ends_at]
                .into_iter()
                .flatten()
                .any(|at| at <= self.now)
        })
    }

    fn any_recovery(&mut self, inc: Inc, cid: Cid) -> Call {
        let other = self.any_node();
        match self.random.between(1, 40) {
            1 => Call::Fence(other),
            2..=8 => Call::Free {
                of: other,
                cid,
                mid: self.mid(inc),
                is_older: false,
                ends: false,
            },
            9..=14 => Call::ForgetOf(other),
            15..=28 => Call::Forget(self.known_mid()),
            _ => Call::Finish(self.known_mid()),
        }
    }

    fn any_global_call(&mut self, inc: Inc) -> Call {
        let other = self.any_node();
        match self.random.between(1, 40) {
            1 => Call::Dead {
                inc: other,
                counter: self.random.between(0, 2),
                lost: Vec::new(),
            },
            2..=5 => Call::TakeOver(other),
            6..=8 => Call::Recovered(other),
            _ => Call::Log((0..self.random.between(1, 3)).map(|_| self.any_entry(inc)).collect()),
        }
    }

    fn any_entry(&mut self, inc: Inc) -> home::Entry {
        let topic = self.random.between(0, 2) as u8;
        let cid = self.random.between(0, CLIENTS - 1) as Cid;
        let uid = Uid { inc, n: 1 };
        match self.random.between(1, 6) {
            1 => home::Entry::Sub(cid, uid, topic.into()),
            2 => home::Entry::Unsub(uid, topic.into()),
            3 => home::Entry::End(uid),
            4 => home::Entry::Route(inc, topic),
            5 => home::Entry::Unroute(inc, topic),
            _ => home::Entry::Retain(self.any_message(true)),
        }
    }

    fn any_message(&mut self, retain: bool) -> Message {
        Message {
            id: self.fresh(),
            topic: self.random.between(0, 2) as u8,
            qos: if self.random.percent(50) { Qos::One } else { Qos::Two },
            retain,
        }
    }

    fn any_open(&mut self, inc: Inc, cid: Cid) -> home::call::Open {
        let message = self.any_message(false);
        let has_will = self.random.percent(60);
        let delay = if self.random.percent(50) { 0 } else { 2 * HOUR };
        home::call::Open {
            cid,
            token: self.owner(inc, cid),
            clean: self.random.percent(20),
            uid: self.random.percent(75).then(|| Uid { inc, n: self.fresh() }),
            expiry: [0, HOUR, HOUR, 4 * HOUR, 4 * HOUR][self.random.index(5)],
            will: has_will.then_some(Will { message, delay }),
            mid: self.mid(inc),
        }
    }

    fn any_change(&mut self) -> Change {
        let topic = self.random.between(0, 2) as u8;
        let place = self.random.between(0, 5);
        match self.random.between(1, 6) {
            1 => Change::Subscribe(topic.into(), None),
            2 => Change::Unsubscribe(topic.into()),
            3 | 4 => Change::Received(self.random.between(1, 2) as u16, self.any_message(false)),
            5 => Change::Released(place),
            _ => Change::Done(place),
        }
    }

    fn any_append(&mut self, inc: Inc, home: Home) -> Append {
        let clients: Vec<_> = (0..CLIENTS as Cid)
            .filter(|cid| Home::of_client(*cid) == home)
            .collect();
        let cid = clients[self.random.index(clients.len())];
        let uid = self.bucket(home).clients.get(&cid).and_then(|client| client.uid);
        let nodes = (1..=NODES as Inc).filter(|inc| Home::of_inbox(*inc) == home);
        let to = match self.random.between(1, 5) {
            1 => nodes
                .map(To::Inbox)
                .next()
                .unwrap_or(To::Session(cid, Uid { inc, n: 0 })),
            2 => To::Session(cid, Uid { inc: 9, n: 9 }),
            _ => To::Session(cid, uid.unwrap_or(Uid { inc, n: 0 })),
        };
        let once = self.random.percent(50).then(|| {
            let mid = if self.random.percent(50) {
                self.known_mid()
            } else {
                self.mid(inc)
            };
            (mid, mid.inc)
        });
        Append {
            target: to.into(),
            message: self.any_message(false),
            once,
        }
    }

    fn token(&mut self, inc: Inc) -> Token {
        Token {
            inc,
            conn: self.fresh(),
        }
    }

    fn mid(&mut self, inc: Inc) -> Mid {
        Mid { inc, n: self.fresh() }
    }

    /// One that was used, perhaps.
    fn known_mid(&self) -> Mid {
        let mut known: Vec<Mid> = Vec::new();
        for home in Home::buckets() {
            known.extend(self.bucket(home).jobs.keys());
            known.extend(self.bucket(home).once.keys().map(|(mid, _)| *mid));
        }
        match known.is_empty() {
            true => Mid { inc: 1, n: 0 },
            false => known[self.random.index(known.len())],
        }
    }

    fn bucket(&self, home: Home) -> &home::Bucket {
        match &self.homes[index(home)] {
            State::Bucket(bucket) => bucket,
            State::Global(_) => unreachable!("it is no bucket"),
        }
    }

    /// The owner, mostly.
    fn owner(&mut self, inc: Inc, cid: Cid) -> Token {
        let owner = self
            .bucket(Home::of_client(cid))
            .clients
            .get(&cid)
            .and_then(|client| client.owner);
        match owner.filter(|owner| owner.inc == inc && !self.random.percent(10)) {
            Some(owner) => owner,
            None => self.token(inc),
        }
    }

    /// The owner, if it is of this node and has begun; or another one, whose changes have no effect.
    fn opened(&mut self, inc: Inc, cid: Cid) -> Option<Token> {
        let owner = self
            .bucket(Home::of_client(cid))
            .clients
            .get(&cid)
            .and_then(|client| client.owner);
        match owner {
            Some(owner) if owner.inc == inc => self.real.has_opened(cid).then_some(owner),
            _ => Some(self.token(inc)),
        }
    }
}

/// The place of a home in a list.
pub(super) fn index(home: Home) -> usize {
    match home {
        Home::Global => 0,
        Home::Bucket(number) => 1 + usize::from(number),
    }
}
