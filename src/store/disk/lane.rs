//! Changes of a queue that the database does not have yet, in their least form: each place has one.
//!
//! A change is a function of what is below it, in an older layer or in the database, and is applied again without harm.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::shared::Note;
use crate::message::Publication;
use crate::store::op::{put_publication, put_terms, short_terms};
use crate::store::{Lane, TermsRecord};

/// A message, shared by the queues that it is in.
#[derive(Debug)]
pub(super) struct Body {
    /// See [`put_publication`].
    pub(super) bytes: Box<[u8]>,
    /// Bytes of topic, properties and payload.
    pub(super) size: u32,
    pub(super) note: Note,
}

impl Body {
    pub(super) fn new(message: &Publication<'_>) -> Arc<Body> {
        let size = message.topic.len() + message.properties.len() + message.payload.len();
        let mut bytes = Vec::with_capacity(size + 24);
        put_publication(&mut bytes, message);
        Arc::new(Body {
            bytes: bytes.into_boxed_slice(),
            // A packet, and so a message, is shorter than 256 MiB.
            size: size as u32,
            note: Note::default(),
        })
    }
}

/// How a message goes to a subscriber: see [`put_terms`].
#[derive(Clone, Debug)]
pub(super) enum Terms {
    /// One byte, as most have.
    Plain(u8),
    Long(Arc<[u8]>),
}

impl Terms {
    pub(super) fn new(terms: &TermsRecord<'_>) -> Terms {
        if let Some(byte) = short_terms(terms) {
            return Terms::Plain(byte);
        }
        let mut bytes = Vec::new();
        put_terms(&mut bytes, terms);
        Terms::Long(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Terms::Plain(byte) => std::slice::from_ref(byte),
            Terms::Long(bytes) => bytes,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// See [`StoredDelivery`](crate::store::StoredDelivery).
    pub(super) before: u64,
    pub(super) terms: Terms,
    pub(super) body: Arc<Body>,
}

/// What has happened to a place.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// It is there, unless another one is below.
    PutIfAbsent(Delivery),
    /// It is there, whatever is below.
    Put(Delivery),
    /// It is released; `before` is that of what is below, if there is anything.
    Released { or_before: u64 },
    /// It is released, whatever is below.
    ReleasedNow { before: u64 },
    /// It is not there.
    Removed,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) change: Change,
    /// Nothing is below: so that it goes without a trace.
    is_fresh: bool,
}

/// Changes of a queue. Most are of messages that come and go again: those lie one behind the other.
///
/// Invariant: the places in `others` are below all in `recent`, or behind all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// The place of what is first in `recent`.
    first: u64,
    /// From the first to the last that is there. Only fresh ones make it longer.
    recent: VecDeque<Option<Entry>>,
    others: BTreeMap<u64, Entry>,
}

/// So many places may be missing between two that lie one behind the other.
const MOST_MISSING: u64 = 64;
/// What an empty queue may keep allocated.
const FEW: usize = 16;

/// Places from this one on have never been used.
pub(super) type High = u64;

/// Memory of an entry, about.
pub(super) const ENTRY: usize = size_of::<Entry>();

impl Places {
    /// The message is put into a place; whether there is an entry more.
    pub(super) fn put(&mut self, index: u64, high: &mut High, delivery: Delivery) -> bool {
        if let Some(entry) = self.get_mut(index) {
            if matches!(entry.change, Change::Removed) {
                entry.change = Change::Put(delivery);
            }
            return false;
        }
        let is_fresh = index >= *high;
        *high = (*high).max(index.saturating_add(1));
        let change = match is_fresh {
            true => Change::Put(delivery),
            false => Change::PutIfAbsent(delivery),
        };
        self.insert(index, Entry { change, is_fresh });
        true
    }

    /// The place is released; whether there is an entry more.
    pub(super) fn release(&mut self, index: u64, high: &mut High) -> bool {
        if let Some(entry) = self.get_mut(index) {
            entry.change = match &entry.change {
                Change::PutIfAbsent(delivery) => Change::Released {
                    or_before: delivery.before,
                },
                Change::Put(delivery) => Change::ReleasedNow {
                    before: delivery.before,
                },
                Change::Released { or_before } => Change::Released { or_before: *or_before },
                Change::ReleasedNow { before } => Change::ReleasedNow { before: *before },
                Change::Removed => Change::ReleasedNow { before: 0 },
            };
            return false;
        }
        let is_fresh = index >= *high;
        *high = (*high).max(index.saturating_add(1));
        let change = match is_fresh {
            true => Change::ReleasedNow { before: 0 },
            false => Change::Released { or_before: 0 },
        };
        self.insert(index, Entry { change, is_fresh });
        true
    }

    /// The place is finished; how many entries there are more.
    pub(super) fn finish(&mut self, index: u64, high: High) -> isize {
        match self.get_mut(index) {
            Some(entry) if entry.is_fresh => {
                self.remove(index);
                -1
            }
            Some(entry) => {
                entry.change = Change::Removed;
                0
            }
            None if index >= high => 0,
            None => {
                let (change, is_fresh) = (Change::Removed, false);
                self.insert(index, Entry { change, is_fresh });
                1
            }
        }
    }

    /// All places below are finished; how many entries there are less.
    pub(super) fn cut(&mut self, floor: u64) -> usize {
        let above = self.others.split_off(&floor);
        let mut less = std::mem::replace(&mut self.others, above).len();
        while self.first < floor
            && let Some(entry) = self.recent.pop_front()
        {
            less += usize::from(entry.is_some());
            self.first += 1;
        }
        self.trim();
        less
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.others.is_empty()
    }

    /// From this place on, in order.
    pub(super) fn range(&self, places: RangeInclusive<u64>) -> impl Iterator<Item = (u64, &Entry)> {
        let (start, end) = (*places.start(), *places.end());
        let skipped = usize::try_from(start.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let recent = self.recent.range(skipped.min(self.recent.len())..);
        let recent = recent.zip(self.first.max(start)..);
        let recent = recent.filter_map(|(entry, index)| Some((index, entry.as_ref()?)));
        let below = start..self.first.max(start);
        let behind = self.first.max(start)..;
        let below = self.others.range(below).map(|(index, entry)| (*index, entry));
        let behind = self.others.range(behind).map(|(index, entry)| (*index, entry));
        below
            .chain(recent)
            .chain(behind)
            .take_while(move |(index, _)| *index <= end)
    }

    fn get_mut(&mut self, index: u64) -> Option<&mut Entry> {
        match self.slot(index) {
            Some(slot) => self.recent[slot].as_mut(),
            None => self.others.get_mut(&index),
        }
    }

    /// Where among the recent ones this place is, also if it is missing.
    fn slot(&self, index: u64) -> Option<usize> {
        let slot = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (slot < self.recent.len()).then_some(slot)
    }

    /// Puts an entry where there is none.
    fn insert(&mut self, index: u64, entry: Entry) {
        if let Some(slot) = self.slot(index) {
            self.recent[slot] = Some(entry);
        } else if entry.is_fresh && self.goes_on_at(index) {
            if self.recent.is_empty() {
                self.first = index;
            }
            let missing = index - self.first - self.recent.len() as u64;
            self.recent.extend((0..missing).map(|_| None));
            self.recent.push_back(Some(entry));
        } else {
            self.others.insert(index, entry);
        }
    }

    /// Whether this place may be behind all that are recent.
    fn goes_on_at(&self, index: u64) -> bool {
        let (is_near, first) = match self.recent.is_empty() {
            true => (true, index),
            false => {
                let end = self.first + self.recent.len() as u64;
                (index >= end && index - end <= MOST_MISSING, self.first)
            }
        };
        is_near && self.others.last_key_value().is_none_or(|(last, _)| *last < first)
    }

    fn remove(&mut self, index: u64) {
        match self.slot(index) {
            Some(slot) => self.recent[slot] = None,
            None => drop(self.others.remove(&index)),
        }
        self.trim();
    }

    /// Begins and ends with what is there.
    fn trim(&mut self) {
        while let Some(None) = self.recent.front() {
            self.recent.pop_front();
            self.first += 1;
        }
        while let Some(None) = self.recent.back() {
            self.recent.pop_back();
        }
        if self.recent.is_empty() && self.recent.capacity() > FEW {
            self.recent = VecDeque::new();
        }
    }
}

/// The lane's number in the database.
pub(super) const fn lane_number(lane: Lane) -> u8 {
    lane as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Release(u64),
        Finish(u64),
        Cut(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = prop_oneof![6 => 0..40u64, 2 => 40..200u64, 1 => 1_000..1_010u64];
        (place, 0..10).prop_map(|(place, kind)| match kind {
            0..6 => Step::Release(place),
            6..9 => Step::Finish(place),
            _ => Step::Cut(place),
        })
    }

    /// What [`Places`] is without its two parts.
    #[derive(Default)]
    struct Model(BTreeMap<u64, (bool, bool)>);

    impl Model {
        fn apply(&mut self, step: Step, high: &mut u64) {
            match step {
                Step::Release(index) => {
                    let is_fresh = index >= *high;
                    *high = (*high).max(index + 1);
                    self.0.entry(index).or_insert((true, is_fresh)).0 = true;
                }
                Step::Finish(index) => match self.0.get(&index) {
                    Some((_, true)) => drop(self.0.remove(&index)),
                    None if index >= *high => {}
                    _ => drop(self.0.insert(index, (false, false))),
                },
                Step::Cut(floor) => self.0 = self.0.split_off(&floor),
            }
        }

        fn range(&self, places: RangeInclusive<u64>) -> Vec<(u64, bool)> {
            self.0
                .range(places)
                .map(|(index, (is_there, _))| (*index, *is_there))
                .collect()
        }
    }

    fn range(places: &Places, of: RangeInclusive<u64>) -> Vec<(u64, bool)> {
        let found = places.range(of);
        found
            .map(|(index, entry)| (index, !matches!(entry.change, Change::Removed)))
            .collect()
    }

    proptest! {
        /// In whatever order places come and go, what is there is what a map would have, and in its order.
        #[test]
        fn places_are_as_in_a_map(steps in prop::collection::vec(step(), 1..200), from in 0..50u64, len in 0..300u64) {
            let (mut places, mut model) = (Places::default(), Model::default());
            let (mut high, mut known) = (20, 20);
            for step in steps {
                model.apply(step, &mut known);
                let before = places.range(0..=u64::MAX).count() as isize;
                let more = match step {
                    Step::Release(index) => isize::from(places.release(index, &mut high)),
                    Step::Finish(index) => places.finish(index, high),
                    Step::Cut(floor) => -(places.cut(floor) as isize),
                };
                prop_assert_eq!(range(&places, 0..=u64::MAX), model.range(0..=u64::MAX));
                prop_assert_eq!(before + more, model.0.len() as isize);
                prop_assert_eq!(places.is_empty(), model.0.is_empty());
                prop_assert_eq!(high, known);
            }
            prop_assert_eq!(range(&places, from..=from + len), model.range(from..=from + len));
        }
    }
}
