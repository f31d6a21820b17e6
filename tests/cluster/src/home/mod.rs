//! What scripts do to the keys of one home: each call is atomic, and sees nothing but its home.

pub mod bucket;
pub mod call;
pub mod global;
mod queues;

use std::collections::{BTreeMap, BTreeSet};

use crate::guard::{Guard, Guards};
use crate::ids::{Home, Inc, Time};

pub use bucket::Bucket;
pub use call::{Answer, Append, Call, Change, Entry, Hint, How, Job, Put, Rest, Target, To};
pub use global::Global;
pub use queues::hint_of;

/// A call on its way to a home.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub inc: Inc,
    /// Its number among the calls of this incarnation for this home; reads and some others have none.
    pub seq: Option<u64>,
    pub call: Call,
}

/// `hw`: who may write here, and the number of the last call of each.
#[derive(Clone, Debug, Default)]
pub struct Hw {
    pub last: BTreeMap<Inc, u64>,
    /// The highest incarnation that was ever removed: none up to it may enter any more.
    pub top: Inc,
    /// Those that were removed, and may have left something.
    pub fenced: BTreeSet<Inc>,
}

impl Hw {
    /// What to answer if the call must not be made.
    fn refuses(&self, guards: &Guards, inc: Inc, seq: u64) -> Option<Answer> {
        let Some(last) = self.last.get(&inc).copied() else {
            return guards.has(Guard::Fenced).then_some(Answer::Fenced);
        };
        if seq <= last {
            return guards.has(Guard::Duplicate).then_some(Answer::Done);
        }
        (seq > last + 1 && guards.has(Guard::Gap)).then_some(Answer::Gap(last))
    }

    fn count(&mut self, inc: Inc, seq: u64) {
        if let Some(last) = self.last.get_mut(&inc) {
            *last = seq.max(*last);
        }
    }

    /// Lets an incarnation write, unless it has been removed.
    pub fn enter(&mut self, guards: &Guards, inc: Inc) -> bool {
        if self.last.contains_key(&inc) {
            return true;
        }
        if guards.has(Guard::EnterOnce) && inc <= self.top {
            return false;
        }
        self.last.insert(inc, 0);
        true
    }

    pub fn remove(&mut self, inc: Inc) {
        self.last.remove(&inc);
        self.top = self.top.max(inc);
    }
}

/// What a home is.
#[derive(Clone, Debug)]
pub enum State {
    Global(Global),
    Bucket(Bucket),
}

impl State {
    pub fn new(home: Home) -> State {
        match home {
            Home::Global => State::Global(Global::default()),
            Home::Bucket(number) => State::Bucket(Bucket::new(number)),
        }
    }

    /// As a server has it that does not have the last writes.
    pub fn restored(self, guards: &Guards, now: Time) -> State {
        match self {
            State::Global(home) => State::Global(home.restored(guards, now)),
            bucket => bucket,
        }
    }

    fn hw(&mut self) -> &mut Hw {
        match self {
            State::Global(home) => &mut home.hw,
            State::Bucket(home) => &mut home.hw,
        }
    }

    /// One script.
    pub fn run(&mut self, guards: &Guards, now: Time, envelope: &Envelope) -> Answer {
        let Envelope { inc, seq, call } = envelope;
        if let Some(seq) = seq {
            if let Some(answer) = self.hw().refuses(guards, *inc, *seq) {
                return answer;
            }
            self.hw().count(*inc, *seq);
        }
        match self {
            State::Global(home) => home.run(guards, *inc, call),
            State::Bucket(home) => home.run(guards, now, *inc, call),
        }
    }
}
