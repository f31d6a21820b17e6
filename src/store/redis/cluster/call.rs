//! Calls of the scripts that write: what they are given, and what they answer.

use redis::{Cmd, Value};

use super::scripts::ClusterScripts;
use crate::store::cluster::{Incarnation, Mid};
use crate::store::redis::arguments::Arguments;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::reply::{list, number, text};
use crate::store::redis::script;
use crate::store::{StoreError, Uid};

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) home: Home,
    /// Of the home's calls, counted from 1.
    pub(super) number: u64,
    /// Which of the batch's messages go with it.
    pub(super) messages: Vec<usize>,
    pub(super) changes: Arguments,
    /// Nothing in it takes more memory than before, or what it takes is needed to free more.
    pub(super) only_frees: bool,
    pub(super) expected: Vec<Expected>,
    /// Which messages of those that the batch publishes are in runs.
    pub(super) published: Vec<usize>,
    pub(super) outcome: Option<Outcome>,
    /// What it does must have been done before the batch's other calls do anything.
    pub(super) is_first: bool,
    /// It has been answered, and is as durable as it must be.
    pub(super) is_done: bool,
    /// What it has answered has been looked at.
    pub(super) is_seen: bool,
}

/// What a call answers for one of its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// What has become of a message for a queue. The terms are an argument of the changes.
    Appended {
        uid: Uid,
        message: usize,
        terms: usize,
        /// Of a Shared Subscription: which of the plan's, and the identity of the message if it has one.
        gift: Option<(usize, Option<Mid>)>,
    },
    /// What has become of a run of messages for a queue: for all together, or for each.
    Run(Run),
    /// What has become of so many messages for an inbox.
    Sent(usize),
    /// What is left to do of clients of this bucket, with identities from the first one on.
    Left {
        bucket: u8,
        first: Mid,
        most: u32,
        /// By this node.
        is_own: bool,
    },
}

/// Messages that are put into a queue one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) uid: Uid,
    /// Which argument of the changes its entries are.
    pub(super) argument: usize,
    /// Which of the call's [`published`](Call::published) is the first.
    pub(super) first: usize,
    pub(super) messages: usize,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// It had been done already, by an attempt whose answer was lost.
    Unknown,
    /// For each that was expected.
    Answered(Vec<Answer>),
    Logged {
        reached: Reached,
        not_retained: u64,
    },
}

/// How far the global home is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// The last entry of the log.
    pub(super) position: u64,
    /// Incarnations up to this one are over.
    pub(super) generation: Incarnation,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The place in the queue, if the session is of a client of this node.
    Place(u64),
    Gone,
    Full,
    /// It had been put there before.
    Known,
    /// The client is owned by another node, or by none; or it was put into an inbox.
    Elsewhere,
    /// As `Place` or `Elsewhere`, and so many of the oldest messages have given way.
    Instead(Option<u64>, u64),
    /// Of the messages of a run.
    Each(Vec<Answer>),
    Left(Left),
}

/// What a change has left to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Wills that are due now.
    pub(super) jobs: Vec<Mid>,
    /// Sessions that have ended.
    pub(super) ended: Vec<Uid>,
    /// Those of them whose messages groups have given them.
    pub(super) rests: Vec<(Mid, Uid)>,
}

impl Call {
    /// Made when it is sent, as it has a copy of each of its messages: those of all calls of a batch may be more than there is memory.
    pub(super) fn command(
        &self,
        messages: &[Vec<u8>],
        scripts: &ClusterScripts,
        keys: &Keys,
        incarnation: Incarnation,
    ) -> Cmd {
        let arguments = || {
            let messages = self.messages.iter().map(|message| &*messages[*message]);
            messages.chain(self.changes.iter())
        };
        let size = arguments().map(<[u8]>::len).sum();
        let script = scripts.of(self.home, self.only_frees);
        let mut command = script::call_of_size(script, &keys.of(self.home, "hw"), 1 + arguments().count(), size);
        command.arg(incarnation).arg(self.number).arg(self.messages.len());
        arguments().for_each(|argument| {
            command.arg(argument);
        });
        command
    }

    /// It has been answered. What was answered before says more than that it had been done.
    pub(super) fn answered(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Unknown if self.outcome.is_some() => {}
            outcome => self.outcome = Some(outcome),
        }
    }

    /// It had been done already, and what it answered then must be known.
    pub(super) fn must_be_asked(&self) -> bool {
        let must_be_known = |expected: &Expected| match expected {
            Expected::Appended { gift, .. } => gift.is_some(),
            Expected::Left { is_own, .. } => *is_own,
            Expected::Run(_) | Expected::Sent(_) => false,
        };
        self.is_done && matches!(self.outcome, Some(Outcome::Unknown)) && self.expected.iter().any(must_be_known)
    }

    /// Reads what follows `OK`.
    pub(super) fn read(&self, parts: impl Iterator<Item = Value>) -> Result<Outcome, StoreError> {
        let mut parts = parts;
        let mut next = || parts.next().unwrap_or(Value::Nil);
        if self.home == Home::Global {
            let (position, not_retained, generation) = (number(next())?, number(next())?, number(next())?);
            let reached = Reached { position, generation };
            return Ok(Outcome::Logged { reached, not_retained });
        }
        let answers = self.expected.iter().map(|expected| read_answer(*expected, next()));
        answers.collect::<Result<_, _>>().map(Outcome::Answered)
    }
}

/// Reads fields of `meta`: there is no position before the first entry, and mostly no generation.
pub(super) fn read_reached(value: Value) -> Result<Reached, StoreError> {
    let mut parts = list(value)?.into_iter();
    let mut next = || match parts.next() {
        None | Some(Value::Nil) => Ok(0),
        Some(part) => number(part),
    };
    Ok(Reached {
        position: next()?,
        generation: next()?,
    })
}

fn read_answer(expected: Expected, value: Value) -> Result<Answer, StoreError> {
    match (expected, value) {
        (Expected::Left { .. }, value) => read_left(value).map(Answer::Left),
        (Expected::Run(_), Value::Array(each)) => {
            let each = each.into_iter().map(read_put);
            each.collect::<Result<_, _>>().map(Answer::Each)
        }
        (_, one) => read_put(one),
    }
}

fn read_put(value: Value) -> Result<Answer, StoreError> {
    Ok(match value {
        Value::Int(-1) => Answer::Gone,
        Value::Int(-2) => Answer::Full,
        Value::Int(-3) => Answer::Known,
        Value::Int(-4) => Answer::Elsewhere,
        Value::Array(parts) => read_instead(parts)?,
        place => Answer::Place(number(place)?),
    })
}

fn read_instead(parts: Vec<Value>) -> Result<Answer, StoreError> {
    let mut parts = parts.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let place = match next() {
        Value::Int(-4) => None,
        place => Some(number(place)?),
    };
    Ok(Answer::Instead(place, number(next())?))
}

fn read_left(value: Value) -> Result<Left, StoreError> {
    let mut parts = list(value)?.into_iter();
    let mut next = || list(parts.next().unwrap_or(Value::Nil));
    let jobs = next()?.into_iter().map(mid).collect::<Result<_, _>>()?;
    let ended = next()?.into_iter().map(number).collect::<Result<_, _>>()?;
    let rests = next()?;
    let rests = rests.as_chunks::<2>().0.iter();
    let rests = rests.map(|[name, uid]| Ok((mid(name.clone())?, number(uid.clone())?)));
    Ok(Left {
        jobs,
        ended,
        rests: rests.collect::<Result<_, StoreError>>()?,
    })
}

fn mid(value: Value) -> Result<Mid, StoreError> {
    let text = text(value)?;
    Mid::parse(&text).ok_or_else(|| StoreError::Damaged(format!("Redis has answered {text:?} as an identity")))
}
