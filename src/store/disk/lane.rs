//! Changes of a queue that the database does not have yet, in their least form: each place has one.
//!
//! A change is a function of what is below it, in an older layer or in the database, and is applied again without harm.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::Publication;
use crate::store::op::{put_publication, put_terms};
use crate::store::{Lane, TermsRecord};

/// A message, shared by the queues that it is in.
#[derive(Debug)]
pub(super) struct Body {
    /// See [`put_publication`].
    pub(super) bytes: Box<[u8]>,
    /// Bytes of topic, properties and payload.
    pub(super) size: u32,
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
        let mut bytes = Vec::new();
        if terms.subscription_ids.is_empty() && terms.share.is_none() {
            bytes.reserve_exact(1);
        }
        put_terms(&mut bytes, terms);
        match *bytes {
            [byte] => Terms::Plain(byte),
            _ => Terms::Long(bytes.into()),
        }
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

/// Changes of a queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) entries: BTreeMap<u64, Entry>,
}

/// Places from this one on have never been used.
pub(super) type High = u64;

/// Memory of an entry, about.
pub(super) const ENTRY: usize = 80;

impl Places {
    /// The message is put into a place; whether there is an entry more.
    pub(super) fn put(&mut self, index: u64, high: &mut High, delivery: Delivery) -> bool {
        if let Some(entry) = self.entries.get_mut(&index) {
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
        self.entries.insert(index, Entry { change, is_fresh });
        true
    }

    /// The place is released; whether there is an entry more.
    pub(super) fn release(&mut self, index: u64, high: &mut High) -> bool {
        if let Some(entry) = self.entries.get_mut(&index) {
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
        self.entries.insert(index, Entry { change, is_fresh });
        true
    }

    /// The place is finished; how many entries there are more.
    pub(super) fn finish(&mut self, index: u64, high: High) -> isize {
        match self.entries.get_mut(&index) {
            Some(entry) if entry.is_fresh => {
                self.entries.remove(&index);
                -1
            }
            Some(entry) => {
                entry.change = Change::Removed;
                0
            }
            None if index >= high => 0,
            None => {
                let (change, is_fresh) = (Change::Removed, false);
                self.entries.insert(index, Entry { change, is_fresh });
                1
            }
        }
    }

    /// All places below are finished; how many entries there are less.
    pub(super) fn cut(&mut self, floor: u64) -> usize {
        let before = self.entries.len();
        self.entries = self.entries.split_off(&floor);
        before - self.entries.len()
    }
}

/// The lane's number in the database.
pub(super) const fn lane_number(lane: Lane) -> u8 {
    lane as u8
}
