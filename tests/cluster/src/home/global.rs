//! `{g}`: what every node mirrors.

use std::collections::{BTreeMap, BTreeSet};

use super::Hw;
use super::call::{Answer, Call, Entry, NodeState, Snapshot};
use crate::guard::{Guard, Guards};
use crate::ids::{Inc, Message, Topic};

#[derive(Clone, Debug, Default)]
pub struct Global {
    pub hw: Hw,
    /// `inc`.
    last_inc: Inc,
    /// `nodes`: heartbeats and applied positions.
    pub nodes: BTreeMap<Inc, (u64, u64)>,
    /// `rec`: who recovers whom.
    pub recoverers: BTreeMap<Inc, Inc>,
    /// `log`, by positions.
    pub log: BTreeMap<u64, Entry>,
    pub position: u64,
    /// `f:I`.
    pub routes: BTreeSet<(Inc, Topic)>,
    /// `ret`.
    pub retained: BTreeMap<Topic, Message>,
}

impl Global {
    pub(super) fn run(&mut self, guards: &Guards, inc: Inc, call: &Call) -> Answer {
        match call {
            Call::Join => self.join(),
            Call::Beat { applied } => self.beat(inc, *applied),
            Call::Nodes => self.nodes(),
            Call::Dead { inc: dead, counter } => self.dead(guards, inc, *dead, *counter),
            Call::TakeOver(dead) => self.take_over(inc, *dead),
            Call::Recovered(dead) => self.recovered(*dead),
            Call::Log(entries) => {
                entries.iter().for_each(|entry| self.append(entry.clone()));
                Answer::Position {
                    position: self.position,
                }
            }
            Call::Position => Answer::Position {
                position: self.position,
            },
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

    /// A number and all that makes it a member, at once: what a lost answer leaves behind is a node that never beats.
    fn join(&mut self) -> Answer {
        self.last_inc += 1;
        let inc = self.last_inc;
        self.append(Entry::Join(inc));
        self.nodes.insert(inc, (0, self.position));
        self.hw.last.insert(inc, 0);
        Answer::Joined { inc }
    }

    fn beat(&mut self, inc: Inc, applied: u64) -> Answer {
        let Some((counter, position)) = self.nodes.get_mut(&inc) else {
            return Answer::Beat { present: false };
        };
        *counter += 1;
        // A beat that was held back must not undo a later one.
        *position = applied.max(*position);
        let least = self.nodes.values().map(|(_, applied)| *applied).min().unwrap_or(0);
        self.log = self.log.split_off(&(least + 1));
        Answer::Beat { present: true }
    }

    fn nodes(&self) -> Answer {
        let state = |(inc, (counter, applied)): (&Inc, &(u64, u64))| NodeState {
            inc: *inc,
            counter: *counter,
            applied: *applied,
        };
        Answer::Nodes {
            nodes: self.nodes.iter().map(state).collect(),
            recoverers: self.recoverers.iter().map(|(dead, by)| (*dead, *by)).collect(),
            position: self.position,
        }
    }

    fn dead(&mut self, guards: &Guards, by: Inc, dead: Inc, counter: u64) -> Answer {
        match self.nodes.get(&dead) {
            Some((now, _)) if *now == counter || !guards.has(Guard::DeadCounter) => {}
            _ => return Answer::NotOwner,
        }
        self.nodes.remove(&dead);
        self.hw.remove(dead);
        self.recoverers.insert(dead, by);
        self.append(Entry::Dead(dead));
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
        self.routes.retain(|(inc, _)| *inc != dead);
        Answer::Ok
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
