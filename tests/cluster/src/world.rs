//! The simulated world: time, what is under way, Redis, and what was seen.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::check::{Event, Seen};
use crate::exec::{Exec, Proc};
use crate::guard::Guards;
use crate::home::{Answer, Call, Envelope, Hint, State};
use crate::ids::{Home, Inc, Time};
use crate::net::{Net, shard_of};
use crate::node::Node;
use crate::random::Random;

/// How long a node may be silent.
pub const LEASE: Time = 300;

/// How long wills wait at least when their node leaves.
pub const GRACE: Time = LEASE * 2;

/// A pause that is none when all orders are tried.
const MOMENT: Time = 5;

/// The first lane of hints.
const HINTS: u64 = 1 << 63;

/// How many of the last steps a failure shows.
const STEPS_SHOWN: usize = 400;

type Action = Box<dyn FnOnce(&Rc<World>)>;

/// What is under way.
struct Due {
    /// Those of one lane happen in order; none is for what time alone decides.
    lane: Option<u64>,
    action: Action,
}

/// Chooses among what could happen next, when all interleavings are tried.
#[derive(Debug, Default)]
pub struct Chooser {
    /// Choices to be made again.
    pub script: Vec<usize>,
    /// What was chosen, of how many.
    pub made: Vec<(usize, usize)>,
    /// How often time may pass while commands are under way.
    pub rests: usize,
    /// Until when it does.
    rests_until: Time,
}

/// How long time passes then.
const REST: Time = 60;

impl Chooser {
    pub fn new(script: Vec<usize>, rests: usize) -> Chooser {
        Chooser {
            script,
            rests,
            ..Chooser::default()
        }
    }

    fn choose(&mut self, of: usize) -> usize {
        let choice = self.script.get(self.made.len()).copied().unwrap_or(0).min(of - 1);
        self.made.push((choice, of));
        choice
    }
}

/// How rough the world is.
#[derive(Clone, Debug)]
pub struct Roughness {
    pub latency: (Time, Time),
    /// Percent of calls that Redis refuses.
    pub refuses: u64,
    /// Percent of messages to Redis that are held back for long.
    pub holds: u64,
    /// Percent of hints that are lost.
    pub forgets: u64,
    /// How long a node may take to send what it has gathered.
    pub flush: Time,
}

pub struct World {
    pub exec: Exec,
    pub net: Net,
    pub guards: Guards,
    pub random: Random,
    pub roughness: RefCell<Roughness>,
    pub homes: RefCell<BTreeMap<Home, State>>,
    /// The running node of each place.
    pub slots: RefCell<BTreeMap<u32, Rc<Node>>>,
    pub history: RefCell<Vec<Seen>>,
    /// Faults are over: clients go on to the end.
    pub is_calm: Cell<bool>,
    /// Clients take everything down.
    pub is_closing: Cell<bool>,
    pub chooser: RefCell<Option<Chooser>>,
    /// When all orders are tried, that of hints is, too.
    pub hints_race: Cell<bool>,
    /// Nodes beat, watch and sweep by themselves.
    pub has_clockwork: Cell<bool>,
    now: Cell<Time>,
    due: RefCell<BTreeMap<(Time, u64), Due>>,
    count: Cell<u64>,
    next_proc: Cell<Proc>,
    is_tracing: bool,
    trace: RefCell<VecDeque<String>>,
}

impl World {
    pub fn new(seed: u64, guards: Guards, roughness: Roughness, is_tracing: bool) -> Rc<World> {
        let homes = std::iter::once(Home::Global).chain(Home::buckets());
        Rc::new(World {
            exec: Exec::default(),
            net: Net::default(),
            guards,
            random: Random::new(seed),
            roughness: RefCell::new(roughness),
            homes: RefCell::new(homes.map(|home| (home, State::new(home))).collect()),
            slots: RefCell::default(),
            history: RefCell::default(),
            is_calm: Cell::default(),
            is_closing: Cell::default(),
            chooser: RefCell::default(),
            hints_race: Cell::default(),
            has_clockwork: Cell::new(true),
            now: Cell::new(1),
            due: RefCell::default(),
            count: Cell::default(),
            next_proc: Cell::new(1),
            is_tracing,
            trace: RefCell::default(),
        })
    }

    pub fn now(&self) -> Time {
        self.now.get()
    }

    pub fn new_proc(&self) -> Proc {
        let proc = self.next_proc.get();
        self.next_proc.set(proc + 1);
        proc
    }

    pub fn latency(&self) -> Time {
        if self.chooser.borrow().is_some() {
            return 0;
        }
        let roughness = self.roughness.borrow();
        if self.random.percent(10) {
            return self.random.between(roughness.latency.0, roughness.latency.1 * 8);
        }
        self.random.between(roughness.latency.0, roughness.latency.1)
    }

    pub fn at(&self, time: Time, lane: Option<u64>, action: impl FnOnce(&Rc<World>) + 'static) {
        let count = self.count.get();
        self.count.set(count + 1);
        let action = Box::new(action);
        self.due
            .borrow_mut()
            .insert((time.max(self.now()), count), Due { lane, action });
    }

    pub async fn sleep(self: &Rc<Self>, time: Time) {
        let until = self.now() + time;
        let mut is_set = false;
        poll_fn(|context| {
            if self.now() >= until && is_set {
                return Poll::Ready(());
            }
            if !is_set {
                let waker = context.waker().clone();
                self.at(until, None, |_| waker.wake());
            }
            is_set = true;
            Poll::Pending
        })
        .await;
    }

    pub async fn doze(self: &Rc<Self>, least: Time, most: Time) {
        let is_moment = most <= MOMENT && self.chooser.borrow().is_some();
        self.sleep(if is_moment { 0 } else { self.random.between(least, most) })
            .await;
    }

    /// Before something is looked at again.
    pub async fn poll(self: &Rc<Self>) {
        let (least, most) = if self.is_calm.get() { (40, 160) } else { (4, 36) };
        self.doze(least, most).await;
    }

    pub fn note(&self, event: Event) {
        self.trace(|| format!("{event:?}"));
        self.history.borrow_mut().push((self.now(), event));
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.is_tracing {
            let mut trace = self.trace.borrow_mut();
            trace.push_back(format!("{:>6} {}", self.now(), line()));
            if trace.len() > STEPS_SHOWN && std::env::var_os("SIM_FULL_TRACE").is_none() {
                trace.pop_front();
            }
        }
    }

    pub fn last_steps(&self) -> String {
        self.trace.borrow().iter().map(|line| format!("{line}\n")).collect()
    }

    /// One call of a script, by a home that is there.
    pub fn execute(&self, home: Home, envelope: &Envelope) -> Answer {
        let mut homes = self.homes.borrow_mut();
        let state = homes.entry(home).or_insert_with(|| State::new(home));
        let answer = state.run(&self.guards, self.now(), envelope);
        self.trace(|| {
            let Envelope { inc, seq, call } = envelope;
            let seq = seq.map(|seq| format!("#{seq}")).unwrap_or_default();
            format!("I{inc}{seq} -> {home:?}: {call:?} = {answer:?}")
        });
        self.watch(envelope, &answer);
        if let State::Bucket(bucket) = state {
            let hints = bucket.hints(envelope.inc, &envelope.call, &answer);
            hints.into_iter().for_each(|(inc, hint)| self.send_hint(inc, hint));
        }
        answer
    }

    /// As a message of Redis to whoever listens: some are lost, and they come in any order.
    fn send_hint(&self, inc: Inc, hint: Hint) {
        if self.random.percent(self.roughness.borrow().forgets) {
            return;
        }
        let lane = self.hints_race.get().then(|| HINTS + self.count.get());
        self.at(self.now() + self.latency(), lane, move |world| {
            if let Some(node) = world.node_of(inc) {
                node.on_hint(hint);
            }
        });
    }

    /// What Redis has seen.
    fn watch(&self, envelope: &Envelope, answer: &Answer) {
        match (&envelope.call, answer) {
            (Call::Claim { token, .. }, Answer::Granted | Answer::Waits) => {
                self.note(Event::Claimed { token: *token });
            }
            (Call::Open(open), Answer::Opened { .. }) => self.note(Event::Opened {
                cid: open.cid,
                token: open.token,
            }),
            (Call::Retain(messages), Answer::Position { .. }) => {
                for (message, _) in messages {
                    self.note(Event::Retains { id: message.id });
                }
            }
            (Call::Beat { .. }, Answer::Beat { present: true, .. }) => self.note(Event::Beat { inc: envelope.inc }),
            (Call::Bye, Answer::Ok) => self.note(Event::NodeLeft { inc: envelope.inc }),
            (Call::Dead { inc, .. }, Answer::Ok) => self.note(Event::Dead { inc: *inc }),
            _ => {}
        }
    }

    /// A server takes over that does not have what was written from now on for so long.
    pub fn fail_over(self: &Rc<Self>, shard: u8, lag: Time) {
        let is_there = |home: &Home| shard_of(*home) == shard;
        let homes = self.homes.borrow();
        let before: Vec<_> = homes.iter().filter(|(home, _)| is_there(home)).collect();
        let before: Vec<_> = before.into_iter().map(|(home, state)| (*home, state.clone())).collect();
        drop(homes);
        let since = self.now();
        self.note(Event::LosesFrom);
        self.at(since + lag, None, move |world| {
            world.trace(|| format!("shard {shard} fails over to its state of {since}"));
            for (home, state) in before {
                let state = state.restored(&world.guards, world.now());
                world.homes.borrow_mut().insert(home, state);
            }
            world.net.change_server(world, shard);
            let loses_beats = shard == shard_of(Home::Global);
            world.note(Event::FailedOver { since, loses_beats });
        });
    }

    pub fn node_of(&self, inc: Inc) -> Option<Rc<Node>> {
        self.slots.borrow().values().find(|node| node.inc.get() == inc).cloned()
    }

    /// Lets everything happen that is due until then.
    pub fn run_until(self: &Rc<Self>, end: Time) {
        self.exec.run();
        while let Some(key) = self.next_due(end) {
            self.happen(key);
        }
        self.now.set(end.max(self.now()));
    }

    /// Lets one thing happen, unless there is nothing before the end.
    pub fn step(self: &Rc<Self>, end: Time) -> bool {
        self.exec.run();
        let Some(key) = self.next_due(end) else { return false };
        self.happen(key);
        true
    }

    fn happen(self: &Rc<Self>, key: (Time, u64)) {
        let due = self.due.borrow_mut().remove(&key);
        self.now.set(key.0.max(self.now()));
        if let Some(due) = due {
            (due.action)(self);
        }
        self.exec.run();
    }

    fn next_due(&self, end: Time) -> Option<(Time, u64)> {
        let due = self.due.borrow();
        let first = due.keys().next().copied().filter(|(time, _)| *time <= end)?;
        let mut chooser = self.chooser.borrow_mut();
        let Some(chooser) = chooser.as_mut() else {
            return Some(first);
        };
        if first.0 <= self.now() && due[&first].lane.is_none() {
            return Some(first);
        }
        let timer = due.iter().find(|(_, due)| due.lane.is_none()).map(|(key, _)| *key);
        if let Some(timer) = timer.filter(|(time, _)| *time <= chooser.rests_until) {
            return Some(timer);
        }
        let mut lanes = BTreeMap::new();
        for (key, due) in due.iter() {
            if let Some(lane) = due.lane {
                lanes.entry(lane).or_insert(*key);
            }
        }
        if lanes.is_empty() {
            return Some(first);
        }
        let may_rest = chooser.rests > 0 && timer.is_some();
        if lanes.len() == 1 && !may_rest {
            return lanes.into_values().next();
        }
        let choice = chooser.choose(lanes.len() + usize::from(may_rest));
        if choice == lanes.len() {
            chooser.rests -= 1;
            chooser.rests_until = self.now() + REST;
            return timer;
        }
        lanes.into_values().nth(choice)
    }

    /// Ends the world; tasks and what they hold refer to each other.
    pub fn end(&self) {
        self.exec.clear();
        drop(std::mem::take(&mut *self.due.borrow_mut()));
        self.slots.borrow_mut().clear();
        self.exec.clear();
    }
}
