//! Queues that other brokers put messages into as well: those of sessions that a cluster keeps, and the inboxes of its nodes.
//!
//! A message for one of them is written down, and nothing else: its place is given by the store. The owner of a session
//! is told of places in any order, of some with their message, and of some not at all.
//!
//! Invariants:
//! * A message goes from a telling into `queue` only at the place behind the last one that is known. All others are read from the store:
//!   so what is taken out is in the order of places, whole, and once.
//! * While there is a tail, nothing goes into `queue` but what was read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::kept::{Kept, MESSAGE, MESSAGES_IN_MEMORY, Tail};
use super::{Inner, Link, Outbox, OutboxLimits, Placement, TailPage, WakeUps};
use crate::packet::QoS;
use crate::session::delivery::{Delivery, OVERHEAD, Terms};
use crate::session::inflight::live_identifier;
use crate::session::outgoing::Outgoing;
use crate::store::cluster::node_of_inbox;
use crate::store::{Extent, Journal, Recipient, TermsRecord};

impl Outbox {
    /// The queue of a session that the cluster keeps, or the inbox of a node.
    pub(crate) fn new_shared(
        key: u64,
        client_id: Arc<str>,
        limits: Arc<OutboxLimits>,
        journal: &Arc<Journal>,
    ) -> Outbox {
        Outbox {
            shared: Some(Arc::clone(journal)),
            ..Outbox::new(key, client_id, limits)
        }
    }

    /// Whether others put messages into the queue as well.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether it stands for another node.
    pub(crate) fn is_node(&self) -> bool {
        node_of_inbox(self.key).is_some()
    }

    /// Writes down a message that is not for the sessions here alone; whether it was taken. `None` if it is for the connection.
    pub(super) fn offer_shared(
        &self,
        outgoing: &Outgoing<'_>,
        terms: &Terms,
        placement: Placement,
        wake_ups: &mut WakeUps,
    ) -> Option<bool> {
        let journal = self.shared.as_ref()?;
        let publication = outgoing.publication();
        if self.is_node() {
            // A route for QoS 0 alone.
            if terms.qos < publication.qos {
                return Some(false);
            }
        } else if terms.qos == QoS::AtMostOnce {
            return None;
        } else if placement == Placement::IfOnline && !self.is_connected() {
            return Some(false);
        }
        write_down(journal, self.key, terms, wake_ups);
        Some(true)
    }

    /// Whether it is the queue of a session that is to be asked now whether it takes a message.
    pub(crate) fn is_member_for(&self, placement: Placement) -> bool {
        self.is_shared() && !self.is_node() && (placement != Placement::IfOnline || self.is_connected())
    }

    /// Here, or to another node as far as that is known.
    fn is_connected(&self) -> bool {
        self.is_present.load(Ordering::Relaxed) || matches!(self.inner.lock().link, Link::Online(_))
    }

    /// The session is owned here, and goes on with the queue that the store has.
    pub(crate) fn own(&self, live: &Extent) {
        let Some(journal) = &self.shared else { return };
        let mut inner = self.inner.lock();
        let (count, bytes) = (live.count as usize, live.bytes as usize);
        let bytes = bytes + count * (OVERHEAD + MESSAGE);
        inner.kept = Some(Box::new(Kept::of_shared(journal, live, count, bytes)));
        inner.queue_len = count;
        inner.queue_bytes = bytes;
        inner.waiting_bytes = bytes;
    }

    /// The session is not owned here any more.
    pub(crate) fn disown(&self) {
        let mut inner = self.inner.lock();
        inner.link = Link::Offline;
        inner.rest();
        inner.signals.takeover = false;
        inner.kept = None;
        inner.queue = VecDeque::new();
        inner.queue_len = 0;
        inner.queue_bytes = 0;
        inner.waiting_bytes = 0;
    }

    /// Messages have been put into the queue at this place and those behind it.
    pub(crate) fn arrived(&self, place: u64, deliveries: impl Iterator<Item = Option<Delivery>>) {
        let mut inner = self.inner.lock();
        for (place, delivery) in (place..).zip(deliveries) {
            inner.arrived(place, delivery);
        }
        inner.wake_if_ready();
    }

    /// The store will give this place next: if nobody has told of all below it, they are looked for.
    pub(crate) fn look_if_below(&self, next: u64) {
        let is_below = self.inner.lock().kept.as_ref().is_some_and(|kept| kept.next < next);
        if is_below {
            self.look();
        }
    }

    /// The place that the store will give next, as far as that is known; `None` of a queue that it does not have.
    pub(crate) fn known_next(&self) -> Option<u64> {
        self.inner.lock().kept.as_ref().map(|kept| kept.next)
    }

    /// There may be messages in the queue of which nobody has told.
    pub(crate) fn look(&self) {
        let mut inner = self.inner.lock();
        if let Some(kept) = &mut inner.kept {
            kept.looks = true;
            inner.wake_if_ready();
        }
    }
}

impl Inner {
    fn arrived(&mut self, place: u64, delivery: Option<Delivery>) {
        let Some(kept) = self.kept.as_mut().filter(|kept| place >= kept.next) else {
            return;
        };
        let is_next = place == kept.next && kept.tail.is_none() && self.queue.len() < MESSAGES_IN_MEMORY;
        let missed = (place - kept.next) as usize + 1;
        kept.next = place + 1;
        kept.durable_to = kept.next;
        let charge = match delivery {
            Some(mut delivery) if is_next => {
                delivery.identifier = live_identifier(place);
                let charge = delivery.charge as usize;
                self.queue.push_back(delivery);
                charge
            }
            _ => {
                let bytes = missed * (OVERHEAD + MESSAGE);
                kept.extend_tail(kept.next - missed as u64, missed, bytes);
                bytes
            }
        };
        self.queue_len += missed;
        self.queue_bytes += charge;
        self.waiting_bytes += charge;
    }
}

impl Kept {
    fn of_shared(journal: &Arc<Journal>, live: &Extent, count: usize, bytes: usize) -> Kept {
        let mut kept = Kept::new(Arc::clone(journal));
        kept.first = live.first;
        kept.next = live.next;
        kept.durable_to = live.next;
        kept.is_shared = true;
        // Others may have put something there since it was read.
        kept.looks = true;
        if count > 0 {
            kept.extend_tail(live.first, count, bytes);
        }
        kept
    }

    fn extend_tail(&mut self, from: u64, count: usize, bytes: usize) {
        let tail = self.tail.get_or_insert(Tail {
            from,
            count: 0,
            bytes: 0,
        });
        tail.count += count;
        tail.bytes += bytes;
    }

    /// From which place there may be something to read.
    pub(super) fn shared_from(&self) -> Option<u64> {
        let from = self.tail.map_or(self.next, |tail| tail.from);
        (self.tail.is_some() || self.looks || self.is_looking).then_some(from)
    }

    /// Where to read on. What is asked for while that is read, is looked for again.
    pub(super) fn shared_page(&mut self) -> Option<TailPage> {
        let from = self.shared_from()?;
        self.is_looking |= std::mem::take(&mut self.looks);
        Some(TailPage {
            from,
            durable_to: self.next,
        })
    }

    /// What was read goes behind the last place that is known: see [`Kept::load`].
    pub(super) fn load_shared(
        &mut self,
        page: TailPage,
        deliveries: Vec<(u64, Delivery)>,
        is_last: bool,
        queue: &mut VecDeque<Delivery>,
    ) -> (usize, usize, (usize, usize)) {
        let mut end = self.tail.map_or(self.next, |tail| tail.from);
        if page.from != end {
            return (0, 0, (0, 0));
        }
        let (mut added, mut bytes) = (0, 0);
        for (place, delivery) in deliveries {
            if added == 0 {
                self.first = place;
            }
            end = place + 1;
            added += 1;
            bytes += delivery.charge as usize;
            queue.push_back(delivery);
        }
        // Of places that came to be known meanwhile, the last page may know nothing.
        let is_complete = is_last && page.durable_to == self.next;
        self.is_looking &= !is_last;
        self.next = self.next.max(end);
        self.durable_to = self.next;
        if is_complete || (end >= self.next && !self.is_looking) {
            let known = self.tail.take();
            return (added, bytes, known.map_or((0, 0), |tail| (tail.count, tail.bytes)));
        }
        self.extend_tail(end, 0, 0);
        let known = self.tail.as_mut().map_or((0, 0), |tail| {
            tail.from = end;
            tail.give(added)
        });
        (added, bytes, known)
    }
}

impl Inner {
    fn wake_if_ready(&mut self) {
        if self.waker.is_some()
            && self.is_ready()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

/// Writes down that a message goes to this queue, or into this inbox.
pub(crate) fn write_down(journal: &Arc<Journal>, uid: u64, terms: &Terms, wake_ups: &mut WakeUps) {
    let extras = terms.extras.as_deref();
    let ids: Vec<u8> = extras
        .iter()
        .flat_map(|extras| extras.subscription_ids.iter())
        .flat_map(|id| id.to_be_bytes())
        .collect();
    let recipient = Recipient {
        uid,
        index: 0,
        terms: TermsRecord {
            qos: terms.qos,
            retain: terms.retain,
            subscription_ids: &ids,
            share: extras
                .and_then(|extras| extras.share.as_ref())
                .map(|share| share.as_str()),
        },
    };
    wake_ups.pen.add_recipient(journal, &recipient);
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
