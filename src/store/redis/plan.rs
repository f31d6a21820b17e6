//! From a batch of changes to calls of the script that writes: one for each home that is touched, or a few.
//!
//! The changes of a session stay in their order, but for messages that are put into its queue: they move behind changes
//! that they do not touch, so that they go in one run, sorted by their places. Sessions do not depend on each other.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use redis::Cmd;

use super::entry::{
    cursor_bytes, live_terms, message_bytes, no_terms, received_bytes, record_sums, replayed_terms, subscription_bytes,
    will_bytes,
};
use super::keys::{Home, Keys};
use super::{note, script};
use crate::message::Publication;
use crate::store::client::read_client;
use crate::store::op::{Lane, Op, Recipients, SessionRecord, Uid};
use crate::store::{Batch, StoreError};

/// Sessions that one call changes at most: meanwhile Redis does nothing else.
const SESSIONS: usize = 500;

/// What a batch comes to.
#[derive(Debug)]
pub(super) struct Plan {
    /// The global one is the first. Each home's calls are in order.
    pub(super) calls: Vec<Call>,
    /// Whose place changes with it.
    pub(super) moved: HashMap<Uid, Option<Place>>,
    /// Nothing in it takes more memory than before.
    pub(super) only_frees: bool,
    is_noted: bool,
}

/// One call of the script.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) home: Home,
    /// Of the home's calls, counted from 1.
    pub(super) number: u64,
    /// The number of messages, the messages, and the changes.
    pub(super) arguments: Arguments,
}

impl Call {
    /// The call of the script with this name. It does nothing if the incarnation is not in the home that fences, either.
    pub(super) fn command(&self, name: &str, keys: &Keys, incarnation: u64, fence: Option<Home>) -> Cmd {
        let mut command = script::call(name, &keys.of(self.home, "hw"));
        let fence = fence.map(|home| keys.of(home, "hw")).unwrap_or_default();
        command.arg(incarnation).arg(self.number).arg(fence);
        self.arguments.iter().for_each(|argument| {
            command.arg(argument);
        });
        command
    }
}

/// Where a session or its will is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) home: Home,
    pub(super) has_session: bool,
    pub(super) has_will: bool,
}

/// Where all sessions and wills are.
pub(super) type Places = HashMap<Uid, Place>;

/// Arguments of a command, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

const COUNT_DIGITS: usize = 9;

impl Arguments {
    pub(super) fn push(&mut self, argument: &[u8]) {
        self.bytes.extend_from_slice(argument);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn push_number(&mut self, number: u64) {
        // Writing to a vector can't fail.
        let _ = write!(self.bytes, "{number}");
        self.ends.push(self.bytes.len());
    }

    /// Puts more behind the last argument.
    pub(super) fn extend(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        if let Some(end) = self.ends.last_mut() {
            *end = self.bytes.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// Puts another number in the place of one that had as many digits: see [`push_count`](Arguments::push_count).
    pub(super) fn set_count(&mut self, index: usize, count: usize) {
        let end = self.ends[index];
        self.bytes[end - COUNT_DIGITS..end].copy_from_slice(format!("{count:0COUNT_DIGITS$}").as_bytes());
    }

    /// A number that can be [set](Arguments::set_count) when what it counts has been pushed behind it.
    pub(super) fn push_count(&mut self) {
        self.push(&[b'0'; COUNT_DIGITS]);
    }

    pub(super) fn append(&mut self, other: &Arguments) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

impl Plan {
    /// # Errors
    /// If the batch can't be read.
    pub(super) fn new(batch: &Batch<'_>, places: &Places, calls_made: &[u64]) -> Result<Plan, StoreError> {
        let mut planner = Planner {
            places,
            moved: HashMap::new(),
            messages: Vec::new(),
            homes: BTreeMap::new(),
            global: Arguments::default(),
            only_frees: true,
        };
        for op in batch.ops() {
            planner.add(op?);
        }
        Ok(planner.finish(batch.number, calls_made))
    }

    pub(super) fn is_noted(&self) -> bool {
        self.is_noted
    }

    /// Notes in the global call what the others are, so that they can be made by who comes after a crash.
    pub(super) fn note(&mut self, incarnation: u64) {
        match self.calls.split_first_mut() {
            Some((global, others)) if !others.is_empty() && !self.is_noted => {
                global.arguments.push(b"J");
                global.arguments.push(&note::write(incarnation, others));
                self.is_noted = true;
            }
            _ => {}
        }
    }
}

struct Planner<'a> {
    places: &'a Places,
    moved: HashMap<Uid, Option<Place>>,
    /// All messages of the batch.
    messages: Vec<Vec<u8>>,
    homes: BTreeMap<Home, HomePlan>,
    global: Arguments,
    only_frees: bool,
}

#[derive(Default)]
struct HomePlan {
    calls: Vec<CallPlan>,
    /// In which call a session is, and where there.
    sections: HashMap<Uid, (usize, usize)>,
}

#[derive(Default)]
struct CallPlan {
    /// Which of the batch's messages go with it, and under which numbers.
    messages: Vec<usize>,
    numbers: HashMap<usize, usize>,
    sections: Vec<Section>,
}

/// The changes of one session.
#[derive(Default)]
struct Section {
    changes: Arguments,
    /// Messages that are put into the queue, behind `changes`.
    puts: Vec<Put>,
    lowest_put: u64,
    /// What is finished in a lane, behind `changes`, and of other places than `puts`.
    finished: Vec<u64>,
    highest_finished: u64,
    lane: Option<Lane>,
}

struct Put {
    place: u64,
    terms: Vec<u8>,
    /// Its number in the call.
    message: usize,
}

impl Planner<'_> {
    fn add(&mut self, op: Op<'_>) {
        self.only_frees &= frees(&op);
        match op {
            Op::Session(record) => self.session(&record),
            Op::SessionEnd { uid } => self.session_end(uid),
            Op::Message { message, recipients } => self.message(&message, &recipients),
            Op::Replayed {
                uid,
                index,
                before,
                filter,
                terms,
                message,
            } => {
                let Some(home) = self.home_of_session(uid) else {
                    return;
                };
                let number = self.messages.len();
                self.messages.push(message_bytes(&message));
                let (section, message_number) = self.section_with(home, uid, number);
                section.flush();
                section.changes.push(b"p");
                section.changes.push_number(index);
                section
                    .changes
                    .push(&replayed_terms(Some(index), &message, before, &terms));
                section.changes.push_number(message_number as u64);
                section.changes.push(filter.as_bytes());
                section.changes.push(&cursor_bytes(message.topic));
            }
            Op::Retain { message } => {
                self.global.push(b"R");
                self.global.push(message.topic.as_bytes());
                self.global.push(&message_bytes(&message));
            }
            Op::RetainClear { topic } => {
                self.global.push(b"C");
                self.global.push(topic.as_bytes());
            }
            Op::Will {
                uid,
                delay_interval,
                expires_in,
                message,
                client,
            } => self.will(uid, &will_bytes(delay_interval, expires_in, &message, client), client),
            Op::WillEnd { uid } => self.will_end(uid),
            _ => self.of_session(&op),
        }
    }

    /// What concerns one session, and nothing if that is not there.
    fn of_session(&mut self, op: &Op<'_>) {
        let Some(uid) = uid_of(op) else {
            return;
        };
        let Some(home) = self.home_of_session(uid) else {
            return;
        };
        let section = self.section(home, uid);
        match *op {
            Op::Subscribe { ref subscription, .. } => {
                section.change(
                    b"+",
                    &[subscription.filter.as_bytes(), &subscription_bytes(subscription)],
                );
            }
            Op::Unsubscribe { filter, .. } => section.change(b"-", &[filter.as_bytes()]),
            Op::ReplayEnd { filter, .. } => section.change(b"x", &[filter.as_bytes()]),
            Op::Received { packet_id, .. } => {
                section.change(b"i", &[packet_id.to_string().as_bytes(), &received_bytes(packet_id)]);
            }
            Op::ReceivedEnd { packet_id, .. } => section.change(b"o", &[packet_id.to_string().as_bytes()]),
            Op::Done { lane, index, .. } => section.done(lane, index),
            Op::Released { lane, index, .. } => {
                section.flush();
                section.changes.push(b"r");
                section.changes.push(lane_name(lane));
                section.changes.push_number(index);
                section.changes.push(&no_terms(lane, Some(index)));
            }
            Op::Floor { index, .. } => {
                section.flush();
                section.changes.push(b"f");
                section.changes.push_number(index);
            }
            _ => {}
        }
    }

    fn session(&mut self, record: &SessionRecord<'_>) {
        let place = self.place(record.uid);
        let place = Place {
            home: place.map_or_else(|| Home::of_client(record.client_id), |place| place.home),
            has_session: true,
            has_will: place.is_some_and(|place| place.has_will),
        };
        self.moved.insert(record.uid, Some(place));
        let section = self.section(place.home, record.uid);
        section.flush();
        let fields = [
            u64::from(record.expiry_interval),
            u64::from(record.window),
            record.away_since.map_or(0, |at| at.as_unix().max(1)),
            record.unsent,
        ];
        let (client_sum, sum) = record_sums(record.client_id.as_bytes(), fields);
        section.changes.push(b"s");
        fields.iter().for_each(|field| section.changes.push_number(*field));
        section.changes.push(&sum);
        section.changes.push(record.client_id.as_bytes());
        section.changes.push(&client_sum);
    }

    fn session_end(&mut self, uid: Uid) {
        let Some(place) = self.place(uid).filter(|place| place.has_session) else {
            return;
        };
        self.set_place(
            uid,
            Place {
                has_session: false,
                ..place
            },
        );
        let section = self.section(place.home, uid);
        section.puts.clear();
        section.finished.clear();
        section.changes.push(b"e");
    }

    fn message(&mut self, message: &Publication<'_>, recipients: &Recipients<'_>) {
        let number = self.messages.len();
        self.messages.push(message_bytes(message));
        for recipient in recipients.iter() {
            let Some(home) = self.home_of_session(recipient.uid) else {
                continue;
            };
            let terms = live_terms(Some(recipient.index), message, &recipient.terms);
            let (section, message) = self.section_with(home, recipient.uid, number);
            section.put(Put {
                place: recipient.index,
                terms,
                message,
            });
        }
    }

    fn will(&mut self, uid: Uid, bytes: &[u8], client: &[u8]) {
        let place = self.place(uid).unwrap_or_else(|| Place {
            // A will without a readable client has no session that it must be found with.
            home: read_client(client).map_or(Home::Bucket(uid as u8), |client| Home::of_client(&client.client_id)),
            has_session: false,
            has_will: false,
        });
        self.moved.insert(
            uid,
            Some(Place {
                has_will: true,
                ..place
            }),
        );
        self.section(place.home, uid).change(b"w", &[bytes]);
    }

    fn will_end(&mut self, uid: Uid) {
        if let Some(place) = self.place(uid).filter(|place| place.has_will) {
            self.set_place(
                uid,
                Place {
                    has_will: false,
                    ..place
                },
            );
            self.section(place.home, uid).change(b"z", &[]);
        }
    }

    fn place(&self, uid: Uid) -> Option<Place> {
        match self.moved.get(&uid) {
            Some(place) => *place,
            None => self.places.get(&uid).copied(),
        }
    }

    fn set_place(&mut self, uid: Uid, place: Place) {
        let is_there = place.has_session || place.has_will;
        self.moved.insert(uid, is_there.then_some(place));
    }

    fn home_of_session(&self, uid: Uid) -> Option<Home> {
        self.place(uid)
            .filter(|place| place.has_session)
            .map(|place| place.home)
    }

    fn section(&mut self, home: Home, uid: Uid) -> &mut Section {
        let (call, section) = self.homes.entry(home).or_default().section(uid);
        &mut call.sections[section]
    }

    /// The section, and the number that a message of the batch has in its call.
    fn section_with(&mut self, home: Home, uid: Uid, message: usize) -> (&mut Section, usize) {
        let (call, section) = self.homes.entry(home).or_default().section(uid);
        let number = *call.numbers.entry(message).or_insert_with(|| {
            call.messages.push(message);
            call.messages.len()
        });
        (&mut call.sections[section], number)
    }

    fn finish(self, batch: u64, calls_made: &[u64]) -> Plan {
        let mut calls = Vec::new();
        let mut global = Arguments::default();
        global.push_number(0);
        global.append(&self.global);
        global.push(b"B");
        global.push_number(batch);
        calls.push(Call {
            home: Home::Global,
            number: calls_made[Home::Global.index()] + 1,
            arguments: global,
        });
        for (home, plan) in self.homes {
            for (call, number) in plan.calls.into_iter().zip(calls_made[home.index()] + 1..) {
                calls.push(Call {
                    home,
                    number,
                    arguments: call.finish(&self.messages),
                });
            }
        }
        Plan {
            calls,
            moved: self.moved,
            only_frees: self.only_frees,
            is_noted: false,
        }
    }
}

impl HomePlan {
    fn section(&mut self, uid: Uid) -> (&mut CallPlan, usize) {
        let has_room = self.calls.last().is_some_and(|call| call.sections.len() < SESSIONS);
        let (call, section) = match self.sections.get(&uid) {
            Some(found) => *found,
            None => {
                if !has_room {
                    self.calls.push(CallPlan::default());
                }
                let call = self.calls.len() - 1;
                let sections = &mut self.calls[call].sections;
                sections.push(Section::new(uid));
                let place = (call, sections.len() - 1);
                self.sections.insert(uid, place);
                place
            }
        };
        (&mut self.calls[call], section)
    }
}

impl CallPlan {
    fn finish(self, messages: &[Vec<u8>]) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.push_number(self.messages.len() as u64);
        for message in self.messages {
            arguments.push(&messages[message]);
        }
        for mut section in self.sections {
            section.flush();
            arguments.append(&section.changes);
        }
        arguments
    }
}

impl Section {
    fn new(uid: Uid) -> Section {
        let mut section = Section::default();
        section.changes.push(b"u");
        section.changes.push_number(uid);
        section
    }

    /// A change that does not touch the queues.
    fn change(&mut self, code: &[u8], arguments: &[&[u8]]) {
        self.changes.push(code);
        arguments.iter().for_each(|argument| self.changes.push(argument));
    }

    fn put(&mut self, put: Put) {
        // What is finished lies before what is put, as a rule: that is known without a search.
        if put.place <= self.highest_finished && self.finished.contains(&put.place) {
            self.flush();
        }
        if self.puts.is_empty() {
            self.lowest_put = put.place;
        }
        self.lowest_put = self.lowest_put.min(put.place);
        self.puts.push(put);
    }

    fn done(&mut self, lane: Lane, place: u64) {
        let is_other_lane = !self.finished.is_empty() && self.lane != Some(lane);
        let is_put = place >= self.lowest_put && self.puts.iter().any(|put| put.place == place);
        if is_other_lane || is_put {
            self.flush();
        }
        if self.finished.is_empty() {
            self.highest_finished = place;
        }
        self.highest_finished = self.highest_finished.max(place);
        self.lane = Some(lane);
        self.finished.push(place);
    }

    fn flush(&mut self) {
        if !self.puts.is_empty() {
            // Of several at one place the first stays the first.
            self.puts.sort_by_key(|put| put.place);
            self.changes.push(b"a");
            self.changes.push_number(self.puts.len() as u64);
            for put in self.puts.drain(..) {
                self.changes.push_number(put.place);
                self.changes.push(&put.terms);
                self.changes.push_number(put.message as u64);
            }
        }
        if let Some(lane) = self.lane.filter(|_| !self.finished.is_empty()) {
            self.changes.push(b"d");
            self.changes.push(lane_name(lane));
            self.changes.push_number(self.finished.len() as u64);
            for place in self.finished.drain(..) {
                self.changes.push_number(place);
            }
        }
    }
}

fn lane_name(lane: Lane) -> &'static [u8] {
    match lane {
        Lane::Live => b"0",
        Lane::Replayed => b"1",
    }
}

fn frees(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::SessionEnd { .. }
            | Op::Unsubscribe { .. }
            | Op::ReplayEnd { .. }
            | Op::Released { .. }
            | Op::Done { .. }
            | Op::Floor { .. }
            | Op::ReceivedEnd { .. }
            | Op::RetainClear { .. }
            | Op::WillEnd { .. }
    )
}

fn uid_of(op: &Op<'_>) -> Option<Uid> {
    match *op {
        Op::Subscribe { uid, .. }
        | Op::Unsubscribe { uid, .. }
        | Op::ReplayEnd { uid, .. }
        | Op::Released { uid, .. }
        | Op::Done { uid, .. }
        | Op::Floor { uid, .. }
        | Op::Received { uid, .. }
        | Op::ReceivedEnd { uid, .. } => Some(uid),
        _ => None,
    }
}
