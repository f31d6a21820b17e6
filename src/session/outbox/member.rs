//! From the queue that a session has for its Shared Subscriptions to those that wait for the client: see
//! [`Membership`](crate::session::Membership).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Appetite, Outbox, Taken, WakeUps};
use crate::session::delivery::Delivery;
use crate::session::inflight::live_place;

/// What is taken out at a time.
pub(crate) const MEMBER_BATCH: Appetite = Appetite {
    bytes: 64 * 1024,
    window: 64,
    below: u64::MAX,
};

impl Outbox {
    /// The session has a queue for its Shared Subscriptions from now on: their messages of QoS 1 and 2 come by that.
    pub(crate) fn set_member(&self) {
        self.is_member.store(true, Ordering::Relaxed);
    }

    /// See [`Outbox::set_member`].
    pub(crate) fn is_member(&self) -> bool {
        self.is_member.load(Ordering::Relaxed)
    }

    /// Whether the client is known to be connected, to whichever node.
    pub(crate) fn set_present(&self, is_present: bool) {
        self.is_present.store(is_present, Ordering::Relaxed);
    }

    /// Takes some messages out of such a queue, for the session.
    pub(crate) fn take_for_member(&self, taken: &mut Taken) -> Vec<Delivery> {
        self.take(MEMBER_BATCH, taken);
        let mut next = taken.from.take().unwrap_or_default();
        let mut bytes = 0;
        let mut deliveries = Vec::with_capacity(taken.deliveries.len());
        for delivery in taken.deliveries.drain(..) {
            let place = live_place(next, delivery.identifier);
            next = place + 1;
            bytes += delivery.charge as usize;
            deliveries.push(delivery.of_member(place));
        }
        self.settle(deliveries.len(), bytes);
        deliveries
    }

    /// Puts them among those that wait for the client, whose limits have been looked at before.
    pub(crate) fn put_of_member(self: &Arc<Outbox>, deliveries: Vec<Delivery>, wake_ups: &mut WakeUps) {
        let mut inner = self.inner.lock();
        for delivery in deliveries {
            let charge = delivery.charge as usize;
            inner.charge(charge);
            inner.waiting_bytes += charge;
            inner.queue.push_back(delivery);
        }
        if inner.waker.is_some() && inner.is_ready() {
            self.call_owner(&mut inner, wake_ups);
        }
    }
}
