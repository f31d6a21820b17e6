//! Calls of the scripts that write: what they are given, and what they answer.

use std::collections::{HashMap, HashSet};

use redis::{Cmd, Value};

use super::scripts::ClusterScripts;
use crate::store::cluster::{Incarnation, Limits, Mid};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::plan::Arguments;
use crate::store::redis::reply::{list, number, text};
use crate::store::redis::script;
use crate::store::{StoreError, Uid};

/// Sessions, clients and inboxes that one call changes at most, and changes in it: meanwhile Redis does nothing else.
pub(super) const MOST_TOUCHED: usize = 500;
const MOST_CHANGES: usize = 4000;

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) home: Home,
    /// Of the home's calls, counted from 1.
    pub(super) number: u64,
    pub(super) arguments: Arguments,
    /// Nothing in it takes more memory than before, or what it takes is needed to free more.
    only_frees: bool,
    pub(super) expected: Vec<Expected>,
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
    /// What has become of a message for a queue. The terms are an argument of the call.
    Appended {
        uid: Uid,
        message: usize,
        terms: usize,
        /// Of a Shared Subscription: which of the plan's, and the identity of the message if it has one.
        gift: Option<(usize, Option<Mid>)>,
    },
    /// What has become of a message for an inbox.
    Sent,
    /// What is left to do of clients of this bucket, with identities from the first one on.
    Left {
        bucket: u8,
        first: Mid,
        most: u32,
        /// By this node.
        is_own: bool,
    },
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// It had been done already, by an attempt whose answer was lost.
    Unknown,
    /// For each that was expected.
    Answered(Vec<Answer>),
    Logged {
        position: u64,
        not_retained: u64,
    },
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
    pub(super) fn command(&self, scripts: &ClusterScripts, keys: &Keys, incarnation: Incarnation) -> Cmd {
        let mut command = script::call(scripts.of(self.home, self.only_frees), &keys.of(self.home, "hw"));
        command.arg(incarnation).arg(self.number);
        self.arguments.iter().for_each(|argument| {
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
            Expected::Sent => false,
        };
        self.is_done && matches!(self.outcome, Some(Outcome::Unknown)) && self.expected.iter().any(must_be_known)
    }

    /// Reads what follows `OK`.
    pub(super) fn read(&self, parts: impl Iterator<Item = Value>) -> Result<Outcome, StoreError> {
        let mut parts = parts;
        let mut next = || parts.next().unwrap_or(Value::Nil);
        if self.home == Home::Global {
            return Ok(Outcome::Logged {
                position: number(next())?,
                not_retained: number(next())?,
            });
        }
        let answers = self.expected.iter().map(|expected| read_answer(*expected, next()));
        answers.collect::<Result<_, _>>().map(Outcome::Answered)
    }
}

fn read_answer(expected: Expected, value: Value) -> Result<Answer, StoreError> {
    if let Expected::Left { .. } = expected {
        return read_left(value).map(Answer::Left);
    }
    Ok(match value {
        Value::Int(-1) => Answer::Gone,
        Value::Int(-2) => Answer::Full,
        Value::Int(-3) => Answer::Known,
        Value::Int(-4) => Answer::Elsewhere,
        place => Answer::Place(number(place)?),
    })
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

/// The calls of one home, while they are made.
#[derive(Debug, Default)]
pub(super) struct HomeCalls {
    calls: Vec<Draft>,
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Touched<'a> {
    Session(Uid),
    Client(&'a str),
    Inbox(Incarnation),
    /// Nothing that there are many of.
    Home,
}

/// One call, while it is made.
#[derive(Debug)]
struct Draft {
    /// Which messages of the batch go with it, and under which numbers.
    messages: Vec<usize>,
    numbers: HashMap<usize, usize>,
    /// Hashes of what it is about.
    touched: HashSet<u64, foldhash::fast::FixedState>,
    changes: Arguments,
    /// How many changes.
    count: usize,
    expected: Vec<Expected>,
    group: Option<Group>,
    has_limits: bool,
    only_frees: bool,
}

/// A change that has several parts, to which more can be added while it is the last one.
#[derive(Debug)]
struct Group {
    of: GroupOf,
    parts: usize,
    /// The argument that counts them.
    counter: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupOf {
    /// Queues that a message is put into.
    Message(usize),
    /// Queues of members of groups, if the message has an identity for them alone.
    Gift(usize),
    /// What is finished of a session in a lane.
    Done(Uid, u8),
    /// What is put into the inbox of a node, that of QoS 0 or the other one.
    Inbox(Incarnation, bool),
}

impl HomeCalls {
    /// A change, by its name and arguments.
    pub(super) fn change(&mut self, touched: Touched<'_>, frees: bool, name: &[u8]) -> Change<'_> {
        let draft = self.draft(touched, frees);
        draft.end_group();
        draft.changes.push(name);
        Change { draft }
    }

    /// A part of a change that has several. `begin` pushes what is before the number of parts, unless the last change is of
    /// the same group.
    pub(super) fn part(
        &mut self,
        (touched, frees): (Touched<'_>, bool),
        of: GroupOf,
        begin: impl FnOnce(Change<'_>) -> Change<'_>,
    ) -> Change<'_> {
        let draft = self.draft(touched, frees);
        if draft.group.as_ref().is_none_or(|group| group.of != of) {
            draft.end_group();
            begin(Change { draft: &mut *draft });
            let counter = draft.changes.len();
            draft.changes.push_count();
            draft.group = Some(Group { of, parts: 0, counter });
        }
        if let Some(group) = &mut draft.group {
            group.parts += 1;
        }
        Change { draft }
    }

    /// A part of a change that has one argument for all of them, which grows.
    pub(super) fn more(
        &mut self,
        touched: (Touched<'_>, bool),
        of: GroupOf,
        begin: impl FnOnce(Change<'_>) -> Change<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Change<'_> {
        let change = self.part(touched, of, begin);
        let draft = &mut *change.draft;
        if draft.group.as_ref().is_some_and(|group| group.parts == 1) {
            draft.changes.push(b"");
        }
        draft.changes.extend(write);
        change
    }

    fn draft(&mut self, touched: Touched<'_>, frees: bool) -> &mut Draft {
        use std::hash::BuildHasher;
        let hash = foldhash::fast::FixedState::default().hash_one(touched);
        let has_room = |draft: &Draft| {
            draft.count < MOST_CHANGES && (draft.touched.len() < MOST_TOUCHED || draft.touched.contains(&hash))
        };
        if !self.calls.last().is_some_and(has_room) {
            self.calls.push(Draft::new());
        }
        let last = self.calls.len() - 1;
        let draft = &mut self.calls[last];
        draft.touched.insert(hash);
        draft.count += 1;
        draft.only_frees &= frees;
        draft
    }

    /// The calls, numbered from the one behind this.
    pub(super) fn finish(self, home: Home, made: u64, messages: &[Vec<u8>]) -> impl Iterator<Item = Call> {
        let numbered = self.calls.into_iter().zip(made + 1..);
        numbered.map(move |(draft, number)| draft.finish(home, number, messages))
    }
}

impl Draft {
    fn new() -> Draft {
        Draft {
            messages: Vec::new(),
            numbers: HashMap::new(),
            touched: HashSet::default(),
            changes: Arguments::default(),
            count: 0,
            expected: Vec::new(),
            group: None,
            has_limits: false,
            only_frees: true,
        }
    }

    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            self.changes.set_count(group.counter, group.parts);
        }
    }

    fn finish(mut self, home: Home, number: u64, messages: &[Vec<u8>]) -> Call {
        self.end_group();
        let mut arguments = Arguments::default();
        arguments.push_number(self.messages.len() as u64);
        for message in &self.messages {
            arguments.push(&messages[*message]);
        }
        let before = arguments.len();
        arguments.append(&self.changes);
        for expected in &mut self.expected {
            if let Expected::Appended { terms, .. } = expected {
                *terms += before;
            }
        }
        Call {
            home,
            number,
            arguments,
            only_frees: self.only_frees,
            expected: self.expected,
            outcome: None,
            is_first: false,
            is_done: false,
            is_seen: false,
        }
    }
}

/// A change that is being written.
pub(super) struct Change<'a> {
    draft: &'a mut Draft,
}

impl Change<'_> {
    pub(super) fn text(self, argument: impl AsRef<[u8]>) -> Self {
        self.draft.changes.push(argument.as_ref());
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.draft.changes.push_number(number);
        self
    }

    /// A message of the batch.
    pub(super) fn message(self, message: usize) -> Self {
        let draft = &mut *self.draft;
        let number = *draft.numbers.entry(message).or_insert_with(|| {
            draft.messages.push(message);
            draft.messages.len()
        });
        self.number(number as u64)
    }

    /// The limits of queues, if the call has them not yet; to be written before the name of a change.
    pub(super) fn limits(self, limits: &Limits, longest: u64) -> Self {
        if std::mem::replace(&mut self.draft.has_limits, true) {
            return self;
        }
        let numbers = [limits.queue_messages, limits.queue_bytes, longest];
        numbers
            .into_iter()
            .fold(self.text("l"), |change, number| change.number(number))
    }

    /// The terms of a message, of which it is told what has become.
    pub(super) fn terms(self, (uid, gift): (Uid, Option<(usize, Option<Mid>)>), message: usize, terms: &[u8]) {
        let expected = Expected::Appended {
            uid,
            message,
            terms: self.draft.changes.len(),
            gift,
        };
        self.text(terms).expect(expected);
    }

    pub(super) fn expect(self, expected: Expected) {
        self.draft.expected.push(expected);
    }
}
