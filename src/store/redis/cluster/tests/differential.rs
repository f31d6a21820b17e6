//! The scripts against those of the simulation (`tests/cluster/src/home/`): any calls, with any numbers, answer alike, and come
//! to the same. Of what an append answers, only whether the queue is there is compared: places are seen in the queues.
//!
//! That a session in which nothing was changed ends with its connection is for the node to see to, which knows whether it has sent
//! the CONNACK: the simulation leaves [`Guard::UnusedEnds`] out.
//!
//! `open` leaves a will or an end that is due to the sweep in the simulation, the script does it: such calls are not made. Here it is
//! the simulation that lacks something.

use std::collections::BTreeSet;

use cluster_sim::guard::{Guard, Guards};
use cluster_sim::home::call::Servers;
use cluster_sim::home::{self, Answer, Append, Call, Change, Envelope, How, Put, State, Target, To};
use cluster_sim::ids::{Cid, Filter, Group, Home, Inc, Index, Message, Mid, Qos, Token, Uid, Will};
use cluster_sim::random::Random;
use cluster_sim::world::GRACE;

use super::real::{Real, reached_text};
use super::testing::LIMITS;
use crate::store::redis::testing::RedisServer;

pub(super) const HOUR: u64 = 3_600_000;
const NODES: u64 = 3;
/// With those that join later. Only the first ones have inboxes here: those of the others are in buckets that the simulation does not have.
pub(super) const MOST_NODES: u64 = 8;
const CLIENTS: u64 = 6;
const STEPS: usize = 600;

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
    "known",
    "not known",
    "swept",
    "not yet",
    "departed",
    "a rest",
    "a choice",
    "a member",
    "left",
    "unused",
    "retained again",
    "a raise",
    "a raise with a death",
    "in order again",
    "retired",
    "an end of a session that had an owner",
    "an end of a session that had none",
    "an owner that is newer",
    "freed, of an older one",
    "freed and ended",
    "marks",
    "servers",
    "a queue that is there",
    "a queue that is not there",
    "a number",
    "no number",
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
        Answer::NotYet => "not yet",
        Answer::Number(Some(_)) => "a number",
        Answer::Number(None) => "no number",
        Answer::Found(Some(_)) => "a queue that is there",
        Answer::Found(None) => "a queue that is not there",
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
    /// How many have joined.
    nodes: u64,
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
        both.look_at_all();
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
            real: Real::new(server, LIMITS),
            nodes: 0,
            numbers: vec![vec![0; 4]; MOST_NODES as usize + 1],
            fresh: 0,
            story: vec![format!("seed {seed}")],
            answers: BTreeSet::new(),
        };
        (0..NODES).for_each(|_| both.join());
        both.compare_all();
        both
    }

    fn join(&mut self) {
        self.story.push("a node joins".to_owned());
        let answer = self.simulate(Home::Global, 0, None, Call::Join);
        let Answer::Joined { inc, generation } = answer else {
            unreachable!("joining has one answer")
        };
        assert_eq!(self.real.join(), (inc, generation), "{}", self.story());
        self.nodes += 1;
        for home in Home::buckets() {
            let entered = self.simulate(home, inc, None, Call::Enter);
            assert_eq!(entered, Answer::Ok);
        }
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
            9..=10 => self.leave(),
            11..=13 => self.ask_what_is_known(),
            14 => self.raise(),
            15..=17 => self.look(),
            18 if self.nodes < MOST_NODES => self.join(),
            19 if self.random.percent(30) => self.put_in_order(),
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
        self.note(&call, &answer);
        let is_made = match answer {
            Answer::Done => expected == "DONE",
            Answer::Fenced => expected == "FENCED",
            Answer::Gap(last) => expected == format!("GAP {last}"),
            ref answer => {
                self.numbers[inc as usize][index(home)] = number;
                expected == self.real.words(&call, answer)
            }
        };
        assert!(is_made, "{}", self.story());
        self.lengthen_grace(home, &call);
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

    /// What has been seen of what is done when writes are lost.
    fn note(&mut self, call: &Call, answer: &Answer) {
        let what = match (call, answer) {
            (Call::Retire(_), Answer::Ok) => "retired",
            (Call::Dead { lost, .. }, Answer::Ok) if !lost.is_empty() => "a raise with a death",
            (Call::Free { ends: true, .. }, Answer::Left { ended: Some(_) }) => "freed and ended",
            (Call::Free { is_older: true, .. }, Answer::Left { .. }) => "freed, of an older one",
            _ => return,
        };
        self.answers.insert(what);
    }

    /// That of the simulation is shorter than this test may take.
    fn lengthen_grace(&mut self, home: Home, call: &Call) {
        let (Call::Release { cid, .. } | Call::Free { cid, .. } | Call::EndSession { cid, .. }, State::Bucket(bucket)) =
            (call, &mut self.homes[index(home)])
        else {
            return;
        };
        let Some(client) = bucket.clients.get_mut(cid).filter(|client| client.is_left) else {
            return;
        };
        // Without a session there is no delay.
        let delay = client
            .will
            .filter(|_| client.uid.is_some())
            .map_or(0, |will| will.delay);
        if client.will.is_some() && client.will_at == Some(self.now + delay.max(GRACE)) {
            client.will_at = Some(self.now + delay.max(HOUR));
            self.answers.insert("left");
        }
    }

    /// One node gives up a bucket, or all of what it is.
    fn leave(&mut self) {
        let inc = self.any_node();
        let home = match self.random.percent(10) {
            true => Home::Global,
            false => Home::of_client(self.random.between(0, CLIENTS - 1) as Cid),
        };
        let call = if home == Home::Global { Call::Bye } else { Call::Depart };
        // Few are left that can do anything else.
        let is_last = (1..=self.nodes as Inc).filter(|inc| self.may_write(home, *inc)).count() == 1;
        if is_last && self.may_write(home, inc) {
            return;
        }
        self.story.push(format!("{home:?} I{inc} {call:?}"));
        let may_write = self.may_write(home, inc);
        let answer = self.simulate(home, inc, None, call);
        if answer == Answer::Ok && may_write && home != Home::Global {
            self.answers.insert("departed");
        }
        self.answers.insert(kind(&answer));
        let is_done = self.real.leave(home, inc);
        assert_eq!(is_done, answer == Answer::Ok, "{}", self.story());
        self.compare(home);
    }

    fn may_write(&self, home: Home, inc: Inc) -> bool {
        let hw = match &self.homes[index(home)] {
            State::Global(global) => &global.hw,
            State::Bucket(bucket) => &bucket.hw,
        };
        hw.last.contains_key(&inc)
    }

    fn ask_what_is_known(&mut self) {
        let (inc, cid) = (self.any_node(), self.random.between(0, CLIENTS - 1) as Cid);
        let home = Home::of_client(cid);
        let mut appends: Vec<_> = (0..4).map(|_| self.any_append(inc, home)).collect();
        // Those that are there are few.
        let once = self.bucket(home).once.iter();
        let noted = once.filter_map(|((mid, target), of)| Some((*mid, (*target)?, *of)));
        let noted: Vec<_> = noted.filter(|(_, target, _)| target.group.is_some()).collect();
        if !noted.is_empty() {
            let (mid, target, of) = noted[self.random.index(noted.len())];
            let message = self.any_message(false);
            let once = Some((mid, of));
            appends.push(Append { target, message, once });
        }
        appends.retain(|append| append.target.group.is_some());
        let mid = |append: &Append| append.once.map(|(mid, _)| mid);
        let items: Vec<_> = appends.iter().map(|append| (append.target, mid(append))).collect();
        self.story.push(format!("{home:?} known {items:?}"));
        let answer = self.simulate(home, inc, None, Call::Known(items.clone()));
        let known = self.real.known(home, &items);
        assert_eq!(answer, Answer::Known(known.clone()), "{}", self.story());
        for known in known {
            self.answers.insert(if known { "known" } else { "not known" });
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
        let shards = 0..self.random.between(0, 3) as u8;
        let servers: Servers = shards.map(|shard| (shard, self.random.between(1, 9) as u32)).collect();
        self.story.push(format!("I{inc} has applied {applied} {servers:?}"));
        let beat = Call::Beat {
            applied,
            servers: servers.clone(),
        };
        let answer = self.simulate(Home::Global, inc, None, beat);
        let (present, generation) = self.real.beat(inc, applied, &servers);
        assert_eq!(answer, Answer::Beat { present, generation }, "{}", self.story());
        if present && !servers.is_empty() {
            self.answers.insert("servers");
        }
        self.compare(Home::Global);
    }

    /// Of a node that there was, perhaps.
    fn raise(&mut self) {
        let (over, lost) = (self.random.between(0, self.nodes) as Inc, self.any_homes());
        let before = self.generation();
        self.story.push(format!("raise over {over} {lost:?}"));
        let raise = Call::Raise {
            over,
            lost: lost.clone(),
        };
        self.simulate(Home::Global, over, None, raise);
        let generation = self.real.raise(over, &lost);
        assert_eq!(generation, self.generation(), "{}", self.story());
        if generation > before {
            self.answers.insert("a raise");
        }
        self.compare(Home::Global);
    }

    fn any_homes(&mut self) -> Vec<Home> {
        let homes = std::iter::once(Home::Global).chain(Home::buckets());
        homes.filter(|_| self.random.percent(40)).collect()
    }

    /// As the next incarnations do it, so that what was lost before does not matter any more.
    fn put_in_order(&mut self) {
        let generation = self.generation();
        let newest = self.nodes as Inc;
        if newest <= generation || !self.may_write(Home::Global, newest) {
            return;
        }
        for inc in 1..=generation {
            for call in [Call::Retire(inc), Call::Recovered(inc)] {
                self.call(Home::Global, newest, call);
            }
        }
        let lost = self.global().lost.len();
        self.compare(Home::Global);
        let over = newest;
        self.simulate(
            Home::Global,
            newest,
            None,
            Call::Raise {
                over,
                lost: vec![Home::Global],
            },
        );
        self.real.raise(over, &[Home::Global]);
        if lost > 1 && self.global().lost.len() == 1 {
            self.answers.insert("in order again");
        }
        self.compare(Home::Global);
    }

    fn generation(&self) -> Inc {
        self.global().generation
    }

    fn global(&self) -> &home::Global {
        match &self.homes[0] {
            State::Global(global) => global,
            State::Bucket(_) => unreachable!("it is the first one"),
        }
    }

    /// All that only reads.
    fn look_at_all(&mut self) {
        self.compare_all();
        for home in std::iter::once(Home::Global).chain(Home::buckets()) {
            (1..=self.nodes as Inc).for_each(|inc| self.look_at_number(home, inc));
        }
        for home in Home::buckets() {
            self.look_at_writers(home);
            let uids: Vec<_> = self.bucket(home).sessions.keys().copied().collect();
            uids.into_iter().for_each(|uid| self.look_at_queue(home, uid));
        }
        self.look_at_nodes();
    }

    fn look(&mut self) {
        let (inc, cid) = (self.any_node(), self.random.between(0, CLIENTS - 1) as Cid);
        let home = Home::of_client(cid);
        match self.random.between(1, 5) {
            1 => self.look_at_nodes(),
            2 => self.look_at_number([Home::Global, home][self.random.index(2)], inc),
            3 => self.look_at_writers(home),
            _ => {
                let uid = self.bucket(home).clients.get(&cid).and_then(|client| client.uid);
                self.look_at_queue(home, uid.unwrap_or(Uid { inc: 9, n: 9 }));
            }
        }
    }

    fn look_at_nodes(&mut self) {
        let answer = self.simulate(Home::Global, 0, None, Call::Nodes);
        let position = self.simulate(Home::Global, 0, None, Call::Position);
        let Answer::Position { position, generation } = position else {
            unreachable!("it is answered so")
        };
        let expected = reached_text(position, u64::from(generation));
        assert_eq!(self.real.position(), expected, "{}", self.story());
        assert_eq!(
            self.real.nodes(),
            super::real::nodes_text(&answer, generation),
            "{}",
            self.story()
        );
    }

    fn look_at_number(&mut self, home: Home, inc: Inc) {
        let answer = self.simulate(home, 0, None, Call::Number(inc));
        assert_eq!(Answer::Number(self.real.number(home, inc)), answer, "{}", self.story());
        self.answers.insert(kind(&answer));
    }

    fn look_at_writers(&mut self, home: Home) {
        let answer = self.simulate(home, 0, None, Call::Writers);
        let Answer::Incs(incs) = answer else {
            unreachable!("it is answered so")
        };
        let expected: BTreeSet<_> = incs.into_iter().map(u64::from).collect();
        assert_eq!(self.real.writers(home), expected, "{home:?} after {}", self.story());
    }

    fn look_at_queue(&mut self, home: Home, uid: Uid) {
        let answer = self.simulate(home, 0, None, Call::Look(uid));
        self.answers.insert(kind(&answer));
        let cid = self.bucket(home).sessions.get(&uid).map_or(0, |session| session.cid);
        let Answer::Found(found) = answer else {
            unreachable!("it is answered so")
        };
        assert_eq!(
            self.real.look((cid, uid), found.as_ref()),
            super::real::queue_text(found.as_ref()),
            "{}",
            self.story()
        );
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
        if let State::Bucket(bucket) = &self.homes[index(home)] {
            let mut saw = |what, is_there: bool| {
                if is_there {
                    self.answers.insert(what);
                }
            };
            saw("a rest", !bucket.rests.is_empty());
            saw("a choice", bucket.jobs.values().any(|job| job.choices.len() > 1));
            let mut sessions = bucket.sessions.values();
            saw(
                "a member",
                sessions.any(|session| session.queue.values().any(|queued| queued.group.is_some())),
            );
            saw("marks", !bucket.hw.fenced.is_empty());
            saw("unused", bucket.sessions.values().any(|session| !session.is_used));
        }
    }

    fn any_node(&self) -> Inc {
        self.random.between(1, self.nodes) as Inc
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
        let inc = self.owning_node(cid).filter(|_| self.random.percent(75)).unwrap_or(inc);
        let call = match self.random.between(1, 100) {
            1..=12 => Call::Claim {
                cid,
                token: self.token(inc),
            },
            13..=26 => Call::Open(self.any_open(inc, cid)),
            27..=46 => Call::Changes(vec![(cid, self.opened(inc, cid)?, self.any_change(inc, cid)?)]),
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
            71..=72 => self.any_end(cid),
            73..=80 => Call::Release {
                cid,
                token: self.owner(inc, cid),
                how: [How::Clean, How::Lost, How::Left][self.random.index(3)],
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
            _ => true,
        }
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
        if let Some(mid) = self.known_job(Home::of_client(cid))
            && self.random.percent(40)
        {
            let (group, member) = (self.random.between(0, 2) as Group, (cid, Uid { inc, n: self.fresh() }));
            return Call::Choose { mid, group, member };
        }
        match self.random.between(1, 40) {
            1 => Call::Fence(other),
            2..=8 => Call::Free {
                of: self
                    .owning_node(cid)
                    .filter(|_| self.random.percent(70))
                    .unwrap_or(other),
                cid,
                mid: self.mid(inc),
                is_older: self.random.percent(50),
                ends: self.random.percent(30),
            },
            9..=14 => Call::ForgetOf(other),
            15..=22 => Call::Forget(self.known_mid()),
            23..=30 => Call::Choose {
                mid: self.known_mid(),
                group: self.random.between(0, 2) as Group,
                member: (cid, Uid { inc, n: self.fresh() }),
            },
            31..=34 => Call::FinishRest(self.known_mid()),
            _ => Call::Finish(self.known_mid()),
        }
    }

    fn owning_node(&self, cid: Cid) -> Option<Inc> {
        let client = self.bucket(Home::of_client(cid)).clients.get(&cid);
        client.and_then(|client| client.owner).map(|owner| owner.inc)
    }

    /// For generations before and behind the owner.
    fn any_end(&mut self, cid: Cid) -> Call {
        let (by, generation) = (self.any_node(), self.random.between(0, self.nodes) as Inc);
        let client = self.bucket(Home::of_client(cid)).clients.get(&cid);
        let what = match client.and_then(|client| Some((client.uid?, client.owner))) {
            Some((_, Some(owner))) if owner.inc <= generation => "an end of a session that had an owner",
            Some((_, Some(_))) => "an owner that is newer",
            Some((_, None)) => "an end of a session that had none",
            None => "other",
        };
        self.answers.insert(what);
        Call::EndSession {
            cid,
            mid: self.mid(by),
            generation,
        }
    }

    fn any_global_call(&mut self, inc: Inc) -> Call {
        let other = self.any_node();
        match self.random.between(1, 40) {
            1..=3 => Call::Dead {
                inc: other,
                counter: self.counter(other),
                lost: if self.random.percent(50) {
                    self.any_homes()
                } else {
                    Vec::new()
                },
            },
            4 => Call::Retire(other),
            5 => Call::TakeOver(other),
            6..=8 => Call::Recovered(other),
            9..=12 => Call::Forget(self.known_mid()),
            13..=22 => Call::Retain(vec![self.any_retained(inc)]),
            _ => Call::Log((0..self.random.between(1, 3)).map(|_| self.any_entry(inc)).collect()),
        }
    }

    /// That of the node, mostly.
    fn counter(&mut self, inc: Inc) -> u64 {
        let now = self.global().nodes.get(&inc).map_or(0, |node| node.counter);
        now + u64::from(self.random.percent(30))
    }

    fn any_retained(&mut self, inc: Inc) -> (Message, Option<(Mid, Inc)>) {
        let known: Vec<_> = self.global().once.iter().map(|(mid, of)| (*mid, *of)).collect();
        let once = match self.random.between(1, 4) {
            1 => None,
            2 if !known.is_empty() => {
                self.answers.insert("retained again");
                Some(known[self.random.index(known.len())])
            }
            _ => Some((self.mid(inc), self.any_node())),
        };
        (self.any_message(true), once)
    }

    fn any_entry(&mut self, inc: Inc) -> home::Entry {
        let topic = self.random.between(0, 2) as u8;
        let cid = self.random.between(0, CLIENTS - 1) as Cid;
        let uid = Uid { inc, n: 1 };
        match self.random.between(1, 6) {
            1 => home::Entry::Sub(cid, uid, self.any_filter()),
            2 => home::Entry::Unsub(uid, self.any_filter()),
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

    fn any_change(&mut self, inc: Inc, cid: Cid) -> Option<Change> {
        let filter = self.any_filter();
        let place = self.random.between(0, 5);
        Some(match self.random.between(1, 6) {
            1 => Change::Subscribe(filter, filter.group.map(|_| Uid { inc, n: self.fresh() })),
            2 => Change::Unsubscribe(filter),
            3 | 4 => Change::Received(self.random.between(1, 2) as u16, self.any_message(false)),
            5 => Change::Released(Some(place).filter(|place| self.can_be_released(cid, *place))?),
            _ => Change::Done(place),
        })
    }

    fn any_filter(&mut self) -> Filter {
        let topic = self.random.between(0, 2) as u8;
        match self.random.percent(40) {
            true => Filter::shared(self.random.between(0, 1) as Group, topic),
            false => topic.into(),
        }
    }

    /// PUBREC is for QoS 2. What it makes of another message that a group may still give to others is not compared.
    fn can_be_released(&self, cid: Cid, place: Index) -> bool {
        let bucket = self.bucket(Home::of_client(cid));
        let uid = bucket.clients.get(&cid).and_then(|client| client.uid);
        let session = uid.and_then(|uid| bucket.sessions.get(&uid));
        let queued = session.and_then(|session| session.queue.get(&place));
        queued.is_none_or(|queued| queued.message.qos == Qos::Two)
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
        let group = match to {
            To::Session(..) => self.random.percent(50).then(|| self.random.between(0, 1) as Group),
            To::Inbox(_) => None,
        };
        let message = self.any_message(false);
        // The store makes one for groups if there is none, as nodes do in the simulation.
        let has_one = group.is_some() && message.qos == Qos::Two;
        let once = once.or_else(|| has_one.then(|| (self.mid(inc), inc)));
        Append {
            target: Target { to, group },
            message,
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
        let mut known: Vec<Mid> = match &self.homes[0] {
            State::Global(global) => global.once.keys().copied().collect(),
            State::Bucket(_) => Vec::new(),
        };
        for home in Home::buckets() {
            known.extend(self.bucket(home).jobs.keys());
            known.extend(self.bucket(home).rests.keys());
            known.extend(self.bucket(home).once.keys().map(|(mid, _)| *mid));
        }
        match known.is_empty() {
            true => Mid { inc: 1, n: 0 },
            false => known[self.random.index(known.len())],
        }
    }

    /// One that is there, if there is one.
    fn known_job(&self, home: Home) -> Option<Mid> {
        let jobs: Vec<_> = self.bucket(home).jobs.keys().copied().collect();
        (!jobs.is_empty()).then(|| jobs[self.random.index(jobs.len())])
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
