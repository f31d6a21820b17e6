//! Direct writes: a publisher writes QoS 0 to the socket of a subscriber that sleeps.
//!
//! A message to a client that is otherwise idle costs a wake-up of its task and a turn of it, to write what the
//! publisher has at hand. So for plain TCP, at the end of its batch, the publisher may write in the owner's place.
//!
//! Invariants:
//! * One writes at a time. The socket is lent only while the owner sleeps with nothing to write: it has a waker and an
//!   appetite for QoS 0 then. The owner, once awake, writes nothing before [`Outbox::poll_awake`] is ready.
//! * Order: what a publisher has taken out is in the socket, or in `rest`, before anybody takes out more. `rest` is the
//!   end of a packet, and precedes whatever the owner writes next.
//! * No lock is held during the write, which does not block; a batch makes a bounded number of them.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Inner, Outbox, Qos0};
use crate::session::outgoing::FrameScratch;
use crate::store::Pen;

/// Writes that a publisher makes for others in a batch. With more subscribers, waking them spreads the work over all
/// threads.
const WRITES_IN_A_BATCH: usize = 4;

/// The sending side of a client's socket.
pub(crate) trait DirectWrite: std::fmt::Debug + Send + Sync {
    /// How much of it the socket has taken at once: nothing if something is wrong with it, which the owner will find
    /// out.
    fn write(&self, bytes: &[u8]) -> usize;
}

/// What an outbox knows of direct writes.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// Of a connected client whose transport allows it.
    socket: Option<Arc<dyn DirectWrite>>,
    /// What of a packet the socket has not taken.
    rest: Option<Box<Vec<u8>>>,
    /// A publisher will write, or wake the owner, at the end of its batch.
    called: bool,
    /// A publisher writes.
    lent: bool,
    /// The owner has woken up meanwhile, and waits for the publisher.
    claimed: bool,
}

impl Direct {
    pub(super) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// The client is gone. A publisher that still writes finds another socket here, or none.
    pub(super) fn close(&mut self) {
        *self = Direct {
            called: self.called,
            ..Direct::default()
        };
    }
}

/// What a publisher does for its subscribers at the end of a batch. Dropping it does that, too, so that none is
/// forgotten.
#[derive(Debug, Default)]
pub(crate) struct WakeUps {
    wakers: Vec<Waker>,
    direct: Vec<Arc<Outbox>>,
    /// What it writes to the journal.
    pub(crate) pen: Pen,
}

impl WakeUps {
    /// To be called before the publisher waits for anything.
    pub(crate) fn carry_out(&mut self, scratch: &mut FrameScratch) {
        self.pen.leave();
        self.wakers.drain(..).for_each(Waker::wake);
        for outbox in self.direct.drain(..) {
            outbox.write_directly(scratch);
        }
    }
}

impl Drop for WakeUps {
    fn drop(&mut self) {
        self.carry_out(&mut FrameScratch::default());
    }
}

impl Outbox {
    /// Lets publishers write to the client's socket while its owner sleeps, until the client is gone.
    pub(crate) fn allow_direct(&self, socket: Arc<dyn DirectWrite>) {
        self.inner.lock().direct.socket = Some(socket);
    }

    /// The owner is awake, and may write when this is ready, first of all what is returned. It waits only while a
    /// publisher is just writing.
    pub(crate) fn poll_awake(&self, cx: &Context<'_>) -> Poll<Option<Box<Vec<u8>>>> {
        let mut inner = self.inner.lock();
        if inner.direct.lent {
            inner.direct.claimed = true;
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inner.waker = None;
        Poll::Ready(inner.direct.rest.take())
    }

    /// Has the owner woken at the end of the batch, or its work done for it.
    pub(super) fn call_owner(self: &Arc<Outbox>, inner: &mut Inner, wake_ups: &mut WakeUps) {
        if !inner.can_be_written() || wake_ups.direct.len() >= WRITES_IN_A_BATCH {
            wake_ups.wakers.extend(inner.waker.take());
        } else if !std::mem::replace(&mut inner.direct.called, true) {
            wake_ups.direct.push(Arc::clone(self));
        }
    }

    /// Writes what waits, or wakes the owner if that can't be done.
    fn write_directly(&self, scratch: &mut FrameScratch) {
        let mut inner = self.inner.lock();
        inner.direct.called = false;
        let Some(mut loan) = inner.lend() else {
            let waker = if inner.is_ready() { inner.waker.take() } else { None };
            drop(inner);
            return waker.into_iter().for_each(Waker::wake);
        };
        drop(inner);
        let written = loan.socket.write(&loan.bytes);
        self.limits.stats.sent_directly(loan.count, loan.payload_bytes, written);
        let rest = (written < loan.bytes.len()).then(|| Box::new(loan.bytes.split_off(written)));
        scratch.reuse(loan.bytes);
        self.end_loan(&loan.socket, rest);
    }

    fn end_loan(&self, socket: &Arc<dyn DirectWrite>, rest: Option<Box<Vec<u8>>>) {
        let mut inner = self.inner.lock();
        let still_there = inner
            .direct
            .socket
            .as_ref()
            .is_some_and(|now| std::ptr::addr_eq(Arc::as_ptr(now), Arc::as_ptr(socket)));
        if !still_there {
            return;
        }
        inner.direct.lent = false;
        inner.direct.rest = rest;
        let claimed = std::mem::take(&mut inner.direct.claimed);
        let waker = if claimed || inner.is_ready() {
            inner.waker.take()
        } else {
            None
        };
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A socket that a publisher may write to, and what.
struct Loan {
    socket: Arc<dyn DirectWrite>,
    bytes: Vec<u8>,
    count: u32,
    payload_bytes: u32,
}

impl Inner {
    /// Whether the owner sleeps, and all that waits for it is QoS 0 in one buffer.
    fn can_be_written(&self) -> bool {
        self.direct.socket.is_some()
            && !self.direct.lent
            && self.direct.rest.is_none()
            && self.waker.is_some()
            && self.wants_qos0
            && self.signals.is_empty()
            && (!self.wants_queue || self.queue.is_empty())
            && self.qos0.len() == 1
            && matches!(self.qos0.front(), Some(Qos0::Frames { .. }))
    }

    fn lend(&mut self) -> Option<Loan> {
        if !self.can_be_written() {
            return None;
        }
        let socket = Arc::clone(self.direct.socket.as_ref()?);
        let item = self.qos0.pop_front()?;
        self.qos0_bytes -= item.charge();
        let Qos0::Frames {
            bytes,
            count,
            payload_bytes,
        } = item
        else {
            return None;
        };
        self.direct.lent = true;
        Some(Loan {
            socket,
            bytes,
            count,
            payload_bytes,
        })
    }
}

#[cfg(test)]
mod tests;
