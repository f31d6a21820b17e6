//! `{g}`: what every node mirrors.

use std::collections::{BTreeMap, BTreeSet};

use super::Hw;
use super::call::{Answer, Call, Entry, NodeState, Servers, Snapshot};
use crate::guard::{Guard, Guards};
use crate::ids::{Home, Inc, Message, Mid, Time, Topic};

#[derive(Clone, Debug, Default)]
pub struct Global {
    pub hw: Hw,
    /// `inc`.
    last_inc: Inc,
    /// `gen`: incarnations up to this one are over.
    pub generation: Inc,
    /// Homes that have lost writes of the generation before.
    pub lost: BTreeSet<Home>,
    /// `nodes`: heartbeats and applied positions.
    pub nodes: BTreeMap<Inc, NodeState>,
    /// `rec`: who recovers whom.
    pub recoverers: BTreeMap<Inc, Inc>,
    /// `log`, by positions.
    pub log: BTreeMap<u64, Entry>,
    pub position: u64,
    /// `f:I`.
    pub routes: BTreeSet<(Inc, Topic)>,
    /// `ret`.
    pub retained: BTreeMap<Topic, Message>,
    /// `m2`: what has been retained once, with the incarnation whose job it is.
    pub once: BTreeMap<Mid, Inc>,
}

impl Global {
    pub(super) fn run(&mut self, guards: &Guards, inc: Inc, call: &Call) -> Answer {
        match call {
            Call::Join => self.join(),
            Call::Beat { applied, servers } => self.beat(inc, *applied, servers),
            Call::Nodes => self.nodes(),
            Call::Dead {
                inc: dead,
                counter,
                lost,
            } => self.dead(guards, inc, (*dead, *counter), lost),
            Call::Bye => self.bye(inc),
            Call::TakeOver(dead) => self.take_over(inc, *dead),
            Call::Recovered(dead) => self.recovered(*dead),
            Call::Log(entries) => {
                entries.iter().for_each(|entry| self.append(entry.clone()));
                self.position_now()
            }
            Call::Retain(messages) => {
                messages
                    .iter()
                    .for_each(|(message, once)| self.retain(guards, message, *once));
                self.position_now()
            }
            Call::Forget(mid) => {
                self.once.remove(mid);
                Answer::Ok
            }
            Call::Position => self.position_now(),
            Call::Raise { over, lost } => self.raise(*over, lost),
            Call::Retire(over) => {
                self.retire(inc, *over);
                Answer::Ok
            }
            Call::Number(inc) => Answer::Number(self.hw.last.get(inc).copied()),
            Call::ReadLog { from } => self.read_log(*from),
            Call::Snapshot => Answer::Snapshot(Snapshot {
                position: self.position,
                nodes: self.nodes.keys().copied().collect(),
                routes: self.routes.iter().copied().collect(),
                retained: self.retained.values().copied().collect(),
            }),
            other => unreachable!("{other:?} is not for this home"),
        }
    }

    fn position_now(&self) -> Answer {
        Answer::Position {
            position: self.position,
            generation: self.generation,
        }
    }

    /// Redis has lost writes of this incarnation: all that there are are over.
    fn raise(&mut self, over: Inc, lost: &[Home]) -> Answer {
        if self.generation < over {
            let is_old = |inc: &Inc| *inc <= self.generation;
            let in_order = !self.nodes.keys().any(is_old) && !self.recoverers.keys().any(is_old);
            if in_order {
                self.lost.clear();
            }
            self.generation = self.last_inc.max(over);
        }
        self.lost.extend(lost);
        Answer::Ok
    }

    /// An incarnation is over, as its successor says, or nobody knows it. May be repeated.
    fn retire(&mut self, by: Inc, over: Inc) {
        if self.nodes.remove(&over).is_some() {
            self.append(Entry::Dead(over));
        }
        self.hw.remove(over);
        self.recoverers.entry(over).or_insert(by);
    }

    /// What a server has that does not have the last writes. It numbers incarnations from the time on.
    pub fn restored(mut self, guards: &Guards, now: Time) -> Global {
        if guards.has(Guard::IncsGoOn) {
            self.last_inc = self.last_inc.max(now as Inc);
        }
        self
    }

    /// A number and all that makes it a member, at once: what a lost answer leaves behind is a node that never beats.
    fn join(&mut self) -> Answer {
        self.last_inc += 1;
        let inc = self.last_inc;
        self.append(Entry::Join(inc));
        let state = NodeState {
            inc,
            applied: self.position,
            ..NodeState::default()
        };
        self.nodes.insert(inc, state);
        self.hw.last.insert(inc, 0);
        Answer::Joined {
            inc,
            generation: self.generation,
        }
    }

    fn beat(&mut self, inc: Inc, applied: u64, servers: &Servers) -> Answer {
        let generation = self.generation;
        let Some(node) = self.nodes.get_mut(&inc) else {
            return Answer::Beat {
                present: false,
                generation,
            };
        };
        node.counter += 1;
        // A beat that was held back must not undo a later one.
        node.applied = applied.max(node.applied);
        node.servers = servers.clone();
        let least = self.nodes.values().map(|node| node.applied).min().unwrap_or(0);
        self.log = self.log.split_off(&(least + 1));
        Answer::Beat {
            present: true,
            generation,
        }
    }

    fn nodes(&self) -> Answer {
        Answer::Nodes {
            nodes: self.nodes.values().cloned().collect(),
            recoverers: self.recoverers.iter().map(|(dead, by)| (*dead, *by)).collect(),
            lost: self.lost.iter().copied().collect(),
            position: self.position,
        }
    }

    /// If what the dead node has written last may be lost, nobody can tell what that was.
    fn dead(&mut self, guards: &Guards, by: Inc, (dead, counter): (Inc, u64), lost: &[Home]) -> Answer {
        match self.nodes.get(&dead) {
            Some(node) if node.counter == counter || !guards.has(Guard::DeadCounter) => {}
            _ => return Answer::NotOwner,
        }
        if !lost.is_empty() {
            self.raise(dead, lost);
        }
        self.nodes.remove(&dead);
        self.hw.remove(dead);
        self.recoverers.insert(dead, by);
        self.append(Entry::Dead(dead));
        Answer::Ok
    }

    /// Who has given up all buckets leaves nothing behind. May be repeated.
    fn bye(&mut self, inc: Inc) -> Answer {
        if self.nodes.remove(&inc).is_none() {
            return Answer::NotOwner;
        }
        self.hw.remove(inc);
        self.routes.retain(|(of, _)| *of != inc);
        // It has no jobs any more: nobody repeats them.
        self.once.retain(|_, of| *of != inc);
        self.append(Entry::Dead(inc));
        Answer::Ok
    }

    /// What a dead recoverer had taken, itself included, goes to another one.
    fn take_over(&mut self, by: Inc, dead: Inc) -> Answer {
        if self.nodes.contains_key(&dead) {
            return Answer::NotOwner;
        }
        for recoverer in self.recoverers.values_mut().filter(|recoverer| **recoverer == dead) {
            *recoverer = by;
        }
        Answer::Ok
    }

    fn recovered(&mut self, dead: Inc) -> Answer {
        self.recoverers.remove(&dead);
        self.once.retain(|_, of| *of != dead);
        self.routes.retain(|(inc, _)| *inc != dead);
        Answer::Ok
    }

    /// Whoever repeats a job does not put its message over later ones.
    fn retain(&mut self, guards: &Guards, message: &Message, once: Option<(Mid, Inc)>) {
        if let Some((mid, of)) = once.filter(|_| guards.has(Guard::RetainOnce))
            && self.once.insert(mid, of).is_some()
        {
            return;
        }
        self.append(Entry::Retain(*message));
    }

    fn append(&mut self, entry: Entry) {
        match &entry {
            Entry::Route(inc, topic) => drop(self.routes.insert((*inc, *topic))),
            Entry::Unroute(inc, topic) => drop(self.routes.remove(&(*inc, *topic))),
            Entry::Retain(message) => drop(self.retained.insert(message.topic, *message)),
            _ => {}
        }
        self.position += 1;
        self.log.insert(self.position, entry);
    }

    fn read_log(&self, from: u64) -> Answer {
        let first = self.log.keys().next().copied().unwrap_or(self.position + 1);
        if from < first {
            return Answer::Trimmed;
        }
        let entries = self
            .log
            .range(from..)
            .map(|(position, entry)| (*position, entry.clone()));
        Answer::Log {
            position: self.position,
            entries: entries.collect(),
        }
    }
}
