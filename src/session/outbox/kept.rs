//! The queue of a session that is kept in a store.
//!
//! Each message that is put into the queue gets its place in the session's live lane, from which its Packet Identifier
//! follows, and is written to the journal in the same step. It can be taken out when that is durable: so what a client has
//! been sent, and by which identifier, is known also to the next process.
//!
//! ```text
//!   places:   first ...            tail.from ...                next
//!             in memory (queue)    in the store only (tail)
//!             durable ........ durable_to | being kept ........
//! ```
//!
//! Invariants:
//! * The places of the messages in `queue` rise; places may be missing, of messages that have been given up.
//! * While there is a tail, what comes goes to its end. The owner loads it when `queue` is empty.
//! * There is a tail until its `from` has come to `next`, whatever the count says.

use std::collections::VecDeque;
use std::sync::Arc;

use super::found::Found;
use super::{Inner, Link, Outbox};
use crate::session::delivery::{Delivery, OVERHEAD};
use crate::session::inflight::{live_identifier, live_place};
use crate::store::{Extent, Journal, Lane, Op, Pen, Recipient, StoredDelivery, TermsRecord, Waits};

/// See the module.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) journal: Arc<Journal>,
    /// A place at or below that of the first message in memory, and above all that have been taken out.
    pub(super) first: u64,
    /// The place of the next message.
    pub(super) next: u64,
    /// All places below this one are durable.
    pub(super) durable_to: u64,
    /// Runs of places that may not be: each with its batch, and the place where it ends.
    runs: VecDeque<(u64, u64)>,
    pub(super) tail: Option<Tail>,
    /// The first part of the tail, if an earlier process left it.
    pub(super) found: Option<Box<Found>>,
    /// Places that were dropped, and the journal does not know. Those below them may be in flight.
    pub(super) dropped: Vec<u64>,
    /// See [`Appetite`](super::Appetite), as the owner last slept.
    below: u64,
    /// Others put messages into the queue as well: see `shared.rs`.
    pub(super) is_shared: bool,
    /// The owner is to look whether there are messages of which it was not told.
    pub(super) looks: bool,
    /// It is doing so.
    pub(super) is_looking: bool,
}

/// The end of a queue, which is in the store only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    pub(super) from: u64,
    /// About how many messages, and how many bytes they will be charged.
    pub(super) count: usize,
    pub(super) bytes: usize,
}

impl Tail {
    /// Takes off so many messages; how many there were of them, and about how many bytes.
    pub(super) fn give(&mut self, count: usize) -> (usize, usize) {
        let count = count.min(self.count);
        let bytes = if count == self.count {
            self.bytes
        } else {
            self.bytes / self.count * count
        };
        self.count -= count;
        self.bytes -= bytes;
        (count, bytes)
    }
}

/// Where a stored queue is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailPage {
    pub(crate) from: u64,
    /// Places below this one are durable, and so will be found if they are there.
    pub(super) durable_to: u64,
}

/// What an offline session may have in memory of its queue; the rest is in the store.
pub(super) const MESSAGES_IN_MEMORY: usize = 1000;
const BYTES_IN_MEMORY: usize = 256 * 1024;

impl Kept {
    pub(super) fn new(journal: Arc<Journal>) -> Kept {
        Kept {
            journal,
            first: 0,
            next: 0,
            durable_to: 0,
            runs: VecDeque::new(),
            tail: None,
            found: None,
            dropped: Vec::new(),
            below: u64::MAX,
            is_shared: false,
            looks: false,
            is_looking: false,
        }
    }

    pub(super) fn tail_count(&self) -> usize {
        self.tail.map_or(0, |tail| tail.count)
    }

    /// Bytes for which the queue is charged, and which are not in memory.
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.map_or(0, |tail| tail.bytes)
    }

    pub(super) fn place(&self, delivery: &Delivery) -> u64 {
        live_place(self.first, delivery.identifier)
    }

    /// Up to which place all is durable.
    fn durable_to(&mut self) -> u64 {
        if !self.runs.is_empty() {
            let durable = self.journal.durable();
            while let Some((batch, end)) = self.runs.front().copied()
                && batch <= durable
            {
                self.durable_to = end;
                self.runs.pop_front();
            }
            if self.runs.is_empty() {
                self.runs.shrink_to(4);
            }
        }
        self.durable_to
    }

    /// Whether this message, the first of the queue, may be sent.
    pub(super) fn may_take(&mut self, first: &Delivery, below: u64) -> bool {
        let place = self.place(first);
        place < below && place < self.durable_to()
    }

    pub(super) fn set_below(&mut self, below: u64) {
        self.below = below;
    }

    pub(super) fn has_for_owner(&mut self, first: Option<&Delivery>) -> bool {
        let below = self.below;
        self.has_some(first, below)
    }

    pub(super) fn has_some(&mut self, first: Option<&Delivery>, below: u64) -> bool {
        match first {
            Some(first) => self.may_take(first, below),
            None if self.is_shared => self.shared_from().is_some_and(|from| from < below),
            None => self
                .tail
                .is_some_and(|tail| tail.from < below && tail.from < self.durable_to()),
        }
    }

    /// The message has left the front of the queue.
    pub(super) fn passed(&mut self, delivery: &Delivery) {
        self.first = self.place(delivery) + 1;
    }

    /// The first message of the queue has been dropped.
    pub(super) fn dropped(&mut self, delivery: &Delivery) {
        self.dropped.push(self.place(delivery));
        self.passed(delivery);
    }

    /// Drops the first message of the tail, which is all that there is; how many bytes that were, if there was one.
    pub(super) fn drop_from_tail(&mut self) -> Option<usize> {
        let tail = self.tail.as_mut().filter(|tail| tail.count > 0)?;
        let (_, bytes) = tail.give(1);
        match &mut self.found {
            Some(found) if found.count > 0 => {
                found.count -= 1;
                found.owed += 1;
            }
            Some(found) => {
                self.dropped.push(found.known_from);
                found.known_from += 1;
            }
            None => {
                self.dropped.push(tail.from);
                tail.from += 1;
                self.first = tail.from;
            }
        }
        self.end_tail();
        Some(bytes)
    }

    /// There is no tail, if all of it has left.
    fn end_tail(&mut self) {
        let next = self.next;
        self.tail.take_if(|tail| tail.from >= next);
    }

    /// Gives the message its place and writes it down; whether it stays in memory.
    pub(super) fn admit(&mut self, uid: u64, delivery: &mut Delivery, is_long: bool, pen: &mut Pen) -> Admitted {
        let place = self.next;
        self.next += 1;
        delivery.identifier = live_identifier(place);
        let ids: Vec<u8> = delivery
            .subscription_ids()
            .iter()
            .flat_map(|id| id.to_be_bytes())
            .collect();
        let recipient = Recipient {
            uid,
            index: place,
            terms: TermsRecord {
                qos: delivery.qos,
                retain: delivery.retain,
                subscription_ids: &ids,
                share: delivery.any_share().map(|share| share.as_str()),
            },
        };
        let batch = pen.add_recipient(&self.journal, &recipient);
        let is_first = match self.runs.back_mut() {
            Some((last, end)) if *last == batch => {
                *end = self.next;
                false
            }
            _ => {
                self.runs.push_back((batch, self.next));
                true
            }
        };
        if self.tail.is_none() && is_long {
            self.tail = Some(Tail {
                from: place,
                count: 0,
                bytes: 0,
            });
        }
        if let Some(tail) = &mut self.tail {
            tail.count += 1;
            tail.bytes += delivery.charge as usize;
        }
        Admitted {
            in_memory: self.tail.is_none(),
            first_of_batch: is_first,
        }
    }

    /// Puts what was read into the queue, which is empty: how many messages, how many bytes, and what they had been counted
    /// for.
    fn load(
        &mut self,
        page: TailPage,
        deliveries: Vec<(u64, Delivery)>,
        is_last: bool,
        queue: &mut VecDeque<Delivery>,
    ) -> (usize, usize, (usize, usize)) {
        let (mut added, mut bytes, mut passed) = (0, 0, 0);
        let Some(tail) = &mut self.tail else {
            return (0, 0, (0, 0));
        };
        let found_end = self.found.as_ref().map(|found| found.end);
        for (place, delivery) in deliveries {
            // Messages may have been dropped meanwhile. Above what is durable, places may be missing that are still to come;
            // and between what was found and the rest there may be more places than identifiers.
            if place < tail.from {
                continue;
            }
            if place >= page.durable_to || (added > 0 && found_end.is_some_and(|end| place >= end)) {
                break;
            }
            tail.from = place + 1;
            if let Some(found) = &mut self.found {
                if found.is_gone(place) {
                    continue;
                }
                if found.claims(place) {
                    self.dropped.push(place);
                    continue;
                }
            }
            if added == 0 {
                self.first = place;
            }
            passed += self.found.as_mut().map_or(1, |found| found.pass(place));
            added += 1;
            bytes += delivery.charge as usize;
            queue.push_back(delivery);
        }
        if is_last {
            tail.from = tail.from.max(page.durable_to);
        }
        (added, bytes, self.give(passed))
    }

    /// So many messages have left the tail; how many had been counted, and about how many bytes.
    fn give(&mut self, passed: usize) -> (usize, usize) {
        let absent = self.leave_found();
        let Some(tail) = &mut self.tail else { return (0, 0) };
        let is_end = tail.from >= self.next;
        let given = tail.give(if is_end { usize::MAX } else { passed + absent });
        self.end_tail();
        given
    }

    /// Writes down what was dropped.
    pub(super) fn settle_dropped(&mut self, uid: u64, pen: &mut Pen) {
        let durable_to = self.durable_to();
        let lane = Lane::Live;
        for index in std::mem::take(&mut self.dropped) {
            let done = Op::Done { uid, lane, index };
            if index < durable_to {
                pen.write(&self.journal, &done);
            } else {
                // Another pen may still have to write the message.
                self.journal.write_last(&done);
            }
        }
    }
}

pub(super) struct Admitted {
    pub(super) in_memory: bool,
    /// The first of its batch that is put into this queue.
    pub(super) first_of_batch: bool,
}

impl Waits for Outbox {
    fn kept(&self) {
        self.signal_if_online();
    }
}

impl Outbox {
    /// The session is kept from now on. To be called before anything is put into its queue.
    pub(crate) fn keep(&self, journal: &Arc<Journal>) {
        let kept = Kept::new(Arc::clone(journal));
        self.inner.lock().kept = Some(Box::new(kept));
    }

    /// Goes on with a queue that is in the store. What is in it below `unsent` has been sent, and so may have been the first
    /// messages up to the client's window.
    pub(crate) fn restore(&self, journal: &Arc<Journal>, live: &Extent, unsent: u64, window: u16) {
        let Extent { first, next, .. } = *live;
        let count = live.count as usize;
        let bytes = live.bytes as usize + count * (OVERHEAD + MESSAGE);
        let tail = Tail {
            from: first,
            count,
            bytes,
        };
        let mut inner = self.inner.lock();
        inner.kept = Some(Box::new(Kept {
            first,
            next,
            durable_to: next,
            tail: (count > 0).then_some(tail),
            found: (count > 0).then(|| Box::new(Found::new(first, next, count, unsent, window))),
            ..Kept::new(Arc::clone(journal))
        }));
        inner.queue_len += count;
        inner.queue_bytes += bytes;
        inner.waiting_bytes += bytes;
    }

    /// Where to read on in the stored queue, if the owner has nothing left in memory.
    pub(crate) fn tail_page(&self) -> Option<TailPage> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let kept = inner.kept.as_mut().filter(|_| inner.queue.is_empty())?;
        if kept.is_shared {
            return kept.shared_page();
        }
        let tail = kept.tail?;
        let durable_to = kept.durable_to();
        (tail.from < durable_to).then_some(TailPage {
            from: tail.from,
            durable_to,
        })
    }

    /// Puts in what was read; `is_last` if there was no more to be read.
    pub(crate) fn loaded(&self, page: TailPage, deliveries: Vec<(u64, Delivery)>, is_last: bool, pen: &mut Pen) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(kept) = &mut inner.kept else { return };
        let (added, bytes, known) = match kept.is_shared {
            true => kept.load_shared(page, deliveries, is_last, &mut inner.queue),
            false => kept.load(page, deliveries, is_last, &mut inner.queue),
        };
        kept.settle_dropped(self.key, pen);
        inner.queue_len = (inner.queue_len + added).saturating_sub(known.0);
        inner.queue_bytes = (inner.queue_bytes + bytes).saturating_sub(known.1);
        inner.waiting_bytes = (inner.waiting_bytes + bytes).saturating_sub(known.1);
    }

    /// This message of the tail is in flight, or was released, if there is none. `false` if it has been dropped meanwhile.
    pub(crate) fn pass(&self, place: u64, delivery: Option<&Delivery>) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(kept) = &mut inner.kept else { return false };
        let Some(tail) = kept.tail.as_mut().filter(|tail| tail.from <= place) else {
            return false;
        };
        tail.from = place + 1;
        kept.first = tail.from;
        let passed = kept.found.as_mut().map_or(1, |found| found.pass(place));
        let (count, known) = kept.give(passed);
        let (added, bytes) = delivery.map_or((0, 0), |delivery| (1, delivery.charge as usize));
        inner.queue_len = (inner.queue_len + added).saturating_sub(count);
        inner.queue_bytes = (inner.queue_bytes + bytes).saturating_sub(known);
        inner.waiting_bytes = inner.waiting_bytes.saturating_sub(known);
        true
    }

    /// The place of the next message of a session that is kept.
    pub(crate) fn next_place(&self) -> u64 {
        self.inner.lock().kept.as_ref().map_or(0, |kept| kept.next)
    }

    /// About how many messages are in the store only.
    pub(crate) fn stored_messages(&self) -> usize {
        self.inner.lock().kept.as_ref().map_or(0, |kept| kept.tail_count())
    }

    /// What of the queue is in the store only, if there is something: from which place.
    pub(crate) fn stored_from(&self) -> Option<u64> {
        self.inner.lock().kept.as_ref()?.tail.map(|tail| tail.from)
    }
}

impl Inner {
    pub(super) fn waiting_messages(&self) -> usize {
        self.queue.len() + self.kept.as_ref().map_or(0, |kept| kept.tail_count())
    }

    /// Whether the owner may take the first message of the queue, or load some.
    pub(super) fn has_queued(&mut self) -> bool {
        match &mut self.kept {
            None => !self.queue.is_empty(),
            Some(kept) => kept.has_for_owner(self.queue.front()),
        }
    }

    /// Puts a message at the end of a queue that is kept; whether somebody is to be told when its batch is.
    pub(super) fn append_kept(&mut self, uid: u64, mut delivery: Delivery, pen: &mut Pen) -> bool {
        let Some(kept) = &mut self.kept else { return false };
        let is_online = matches!(self.link, Link::Online(_));
        let is_long = !is_online && (self.queue.len() >= MESSAGES_IN_MEMORY || self.waiting_bytes > BYTES_IN_MEMORY);
        let admitted = kept.admit(uid, &mut delivery, is_long, pen);
        if admitted.in_memory {
            self.queue.push_back(delivery);
        }
        admitted.first_of_batch
    }
}

/// About what a short message takes beside its entry.
pub(super) const MESSAGE: usize = 160;

/// What the store has of a message, as it goes to the client.
pub(crate) fn delivery_of(stored: StoredDelivery, lane: Lane) -> Option<Delivery> {
    let mut delivery = Delivery::from_stored(stored.message?);
    if lane == Lane::Live {
        delivery.identifier = live_identifier(stored.index);
    }
    Some(delivery)
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
