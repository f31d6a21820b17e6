//! The calls of a home, while they are made of changes.

use std::collections::{HashMap, HashSet};

use super::call::{Call, Expected, Run};
use super::plan::Context;
use super::runs::Runs;
use crate::store::Uid;
use crate::store::cluster::{Incarnation, Mid};
use crate::store::redis::arguments::Arguments;
use crate::store::redis::keys::Home;

/// Sessions, clients and inboxes that one call changes at most, and changes in it: meanwhile Redis does nothing else.
pub(super) const MOST_TOUCHED: usize = 500;
pub(super) const MOST_CHANGES: usize = 4000;

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
    /// What is put into queues behind all that is in `changes`.
    runs: Runs,
    published: Vec<usize>,
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
    /// The last part, if that is a run of places: the first of them, and how many.
    places: Option<(u64, u64)>,
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
        draft.end_runs_before(touched);
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
        draft.end_runs_before(touched);
        draft.group(of, begin).parts += 1;
        Change { draft }
    }

    /// A place, as a part of a change: those that follow each other are one.
    pub(super) fn place(
        &mut self,
        (touched, frees): (Touched<'_>, bool),
        of: GroupOf,
        begin: impl FnOnce(Change<'_>) -> Change<'_>,
        place: u64,
    ) {
        let draft = self.draft(touched, frees);
        draft.end_runs_before(touched);
        let group = draft.group(of, begin);
        match &mut group.places {
            Some((first, places)) if *first + *places == place => *places += 1,
            last => {
                let before = last.replace((place, 1));
                group.parts += 1;
                draft.push_places(before);
            }
        }
    }

    /// A message of the batch for a queue: it goes behind those that are for the same one, if no other change of the session is
    /// between them.
    pub(super) fn append(&mut self, uid: Uid, published: usize, context: &Context, (terms, message): (&[u8], &[u8])) {
        let draft = self.draft(Touched::Session(uid), false);
        draft.limits(context);
        draft.runs.add(uid, published, terms, message);
    }

    /// A message of a change that has one argument for all of its messages, and one answer.
    pub(super) fn more(
        &mut self,
        touched: (Touched<'_>, bool),
        of: GroupOf,
        begin: impl FnOnce(Change<'_>) -> Change<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let draft = &mut *self.part(touched, of, begin).draft;
        if draft.group.as_ref().is_some_and(|group| group.parts == 1) {
            draft.changes.push(b"");
            draft.expected.push(Expected::Sent(0));
        }
        if let Some(Expected::Sent(messages)) = draft.expected.last_mut() {
            *messages += 1;
        }
        draft.changes.extend(write);
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
    pub(super) fn finish(self, home: Home, made: u64) -> impl Iterator<Item = Call> {
        let numbered = self.calls.into_iter().zip(made + 1..);
        numbered.map(move |(draft, number)| draft.finish(home, number))
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
            runs: Runs::default(),
            published: Vec::new(),
            has_limits: false,
            only_frees: true,
        }
    }

    /// The group that the last change is, or a new one.
    fn group(&mut self, of: GroupOf, begin: impl FnOnce(Change<'_>) -> Change<'_>) -> &mut Group {
        if self.group.as_ref().is_none_or(|group| group.of != of) {
            self.end_group();
            begin(Change { draft: &mut *self });
            self.changes.push_count();
        }
        let counter = self.changes.len() - 1;
        self.group.get_or_insert(Group {
            of,
            parts: 0,
            counter,
            places: None,
        })
    }

    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            self.push_places(group.places);
            self.changes.set_count(group.counter, group.parts);
        }
    }

    fn push_places(&mut self, places: Option<(u64, u64)>) {
        if let Some((first, places)) = places {
            self.changes.push_number(first);
            self.changes.push_number(places);
        }
    }

    /// A change comes that may concern what is in runs.
    fn end_runs_before(&mut self, touched: Touched<'_>) {
        let concerns = match touched {
            Touched::Session(uid) => self.runs.has(uid),
            Touched::Client(_) | Touched::Home => true,
            Touched::Inbox(_) => false,
        };
        if concerns {
            self.end_runs();
        }
    }

    fn end_runs(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        self.end_group();
        let runs = std::mem::take(&mut self.runs);
        self.changes.push(b"q");
        self.changes.push_number(runs.iter().len() as u64);
        for (uid, run) in runs.iter() {
            run.push(uid, &mut self.changes);
            self.expected.push(Expected::Run(Run {
                uid,
                argument: self.changes.len() - 1,
                first: self.published.len(),
                messages: run.published.len(),
            }));
            self.published.extend_from_slice(&run.published);
        }
    }

    /// The limits of queues, if the call has them not yet.
    fn limits(&mut self, context: &Context) {
        if std::mem::replace(&mut self.has_limits, true) {
            return;
        }
        self.end_group();
        self.changes.push(b"l");
        let Context {
            limits,
            longest_told,
            longest_joined,
            ..
        } = *context;
        let drops_oldest = u64::from(limits.drops_oldest);
        let bounds = [limits.queue_messages, limits.queue_bytes, longest_told, drops_oldest];
        for number in bounds.into_iter().chain([longest_joined]) {
            self.changes.push_number(number);
        }
    }

    fn finish(mut self, home: Home, number: u64) -> Call {
        self.end_runs();
        self.end_group();
        Call {
            home,
            number,
            messages: self.messages,
            changes: self.changes,
            only_frees: self.only_frees,
            expected: self.expected,
            published: self.published,
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
    pub(super) fn limits(self, context: &Context) -> Self {
        self.draft.limits(context);
        self
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
