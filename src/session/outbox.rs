//! The outbox: all that others hold of a session.
//!
//! Publishers put messages in, under a short lock and within the session's limits; the session's owner takes them
//! out and writes them. QoS 0 and QoS 1/2 wait in separate queues, since QoS 1/2 wait for the client's Receive
//! Maximum; each queue keeps the order of arrival [MQTT-4.6.0-5]. The outbox lives as long as its session, so
//! subscriptions need not change when the client comes and goes.
//!
//! Invariants:
//! * `queue_bytes` and `queue_len` count the messages in `queue` **and** those that the owner has in flight, so that
//!   a client that never acknowledges is bounded too; the owner reports finished ones with [`Outbox::settle`]. The
//!   limit of messages is for `queue` alone: how many are in flight is for Receive Maximum to say.
//! * `qos0_bytes + queue_bytes` stays within the limit. QoS 0 makes room for QoS 1/2, never the reverse.
//! * A waker is there only while the owner sleeps and has asked for what is now there: one wake-up per batch.
//! * The owner writes to its socket only between [`Outbox::poll_awake`] and its next sleep; publishers do so only while
//!   it sleeps with nothing to write (see `direct`).

mod direct;
mod found;
mod kept;
mod limits;
mod member;
mod queues;
mod shared;
mod signals;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;

use super::delivery::{Delivery, Terms};
use super::inquiry::{Inquiry, MOST_INQUIRIES};
use super::outgoing::Outgoing;
use crate::identity::ClientInfo;
use crate::packet::{QoS, Version};
use crate::reason::ReasonCode;
use crate::stats::Discard;
use crate::store::Journal;
use crate::time::Clock;
pub(crate) use direct::{DirectWrite, WakeUps};
pub(crate) use kept::{TailPage, delivery_of};
pub(crate) use limits::OutboxLimits;
pub use limits::QueueOverflow;
use limits::SPARED;
pub(crate) use member::MEMBER_BATCH;
use queues::Inner;
pub(crate) use shared::write_down;
pub(crate) use signals::Kick;
use signals::Signals;

/// How the connected client wants its PUBLISH packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) version: Version,
    pub(crate) maximum_packet_size: usize,
    /// Whether ready-made QoS 0 frames will do: false if the owner must see each message (Topic Aliases, hooks).
    pub(crate) frames: bool,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Online(Wire),
    /// The session waits for its client: QoS 1/2 are queued, QoS 0 is not.
    Offline,
    /// The session has ended.
    Closed,
}

/// QoS 0 on its way to the client.
#[derive(Debug)]
pub(crate) enum Qos0 {
    /// Complete PUBLISH packets, one behind the other.
    Frames {
        bytes: Vec<u8>,
        count: u32,
        payload_bytes: u32,
    },
    Message(Delivery),
}

/// Which outbox may take a message that has a choice of receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// It is for this session: a full queue means a discard, which is counted.
    Here,
    /// Only if the client is connected and has room.
    IfOnline,
    /// Only if the session has room.
    IfRoom,
}

/// What the owner is able to take at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appetite {
    /// Bytes of QoS 0 and QoS 1/2 together; one message may exceed it.
    pub(crate) bytes: usize,
    /// QoS 1/2 messages.
    pub(crate) window: usize,
    /// Only messages with places below this one, if they have places.
    pub(crate) below: u64,
}

/// What the owner has taken out.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) qos0: Vec<Qos0>,
    pub(crate) deliveries: Vec<Delivery>,
    /// The place of the first of them, if they have places.
    pub(crate) from: Option<u64>,
    /// Buffers whose frames have been written.
    pub(crate) emptied: Vec<Vec<u8>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Distinguishes sessions, also those with the same Client Identifier one after the other.
    pub(crate) key: u64,
    pub(crate) client_id: Arc<str>,
    limits: Arc<OutboxLimits>,
    /// Subscriptions of the session, for those who look at it.
    subscriptions: AtomicUsize,
    /// Where messages are written down that others deliver as well: see `shared`.
    shared: Option<Arc<Journal>>,
    /// See [`Outbox::set_member`].
    is_member: AtomicBool,
    /// See [`Outbox::set_present`].
    is_present: AtomicBool,
    inner: Mutex<Inner>,
}

/// What others may know of a session without asking its owner.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    /// The client, while it is connected.
    pub(crate) client: Option<Arc<ClientInfo>>,
    pub(crate) subscriptions: usize,
    /// QoS 1 and 2 messages that have not been sent.
    pub(crate) queued_messages: usize,
    /// Bytes that wait or are in flight, QoS 0 included.
    pub(crate) queued_bytes: usize,
    /// QoS 1 and 2 messages that were sent and are not acknowledged.
    pub(crate) inflight_messages: usize,
}

impl Outbox {
    pub(crate) fn new(key: u64, client_id: Arc<str>, limits: Arc<OutboxLimits>) -> Outbox {
        Outbox {
            key,
            client_id,
            limits,
            subscriptions: AtomicUsize::new(0),
            shared: None,
            is_member: AtomicBool::new(false),
            is_present: AtomicBool::new(false),
            inner: Mutex::new(Inner::new()),
        }
    }

    // ---- for publishers ----

    /// Offers a message; whether the session took it. What is to be done about it at the end of the batch goes into
    /// `wake_ups`.
    pub(crate) fn offer(
        self: &Arc<Outbox>,
        outgoing: &mut Outgoing<'_>,
        terms: Terms,
        placement: Placement,
        wake_ups: &mut WakeUps,
    ) -> bool {
        if let Some(taken) = self.offer_shared(outgoing, &terms, placement, wake_ups) {
            return taken;
        }
        let mut inner = self.inner.lock();
        let offered = match (inner.link, terms.qos) {
            (Link::Closed, _) => Err(None),
            (Link::Offline, _) if placement == Placement::IfOnline => Err(None),
            (Link::Offline, QoS::AtMostOnce) => Err(None),
            (Link::Online(wire), QoS::AtMostOnce) => inner.push_qos0(&self.limits, wire, outgoing, terms),
            (Link::Online(_) | Link::Offline, _) => {
                let delivery = Delivery::new(Arc::clone(outgoing.message()), terms);
                self.push_queue(&mut inner, delivery, placement, outgoing.clock(), wake_ups)
            }
        };
        let refused = match offered {
            Err(Some(cause)) if placement == Placement::Here => self.discarded(&mut inner, cause, 1),
            _ => None,
        };
        let displaced = self.count_displaced(&mut inner);
        if inner.waker.is_some() && inner.is_ready() {
            self.call_owner(&mut inner, wake_ups);
        }
        drop(inner);
        self.log(refused);
        displaced.into_iter().for_each(|cause| self.log(cause));
        offered.is_ok()
    }

    fn push_queue(
        self: &Arc<Outbox>,
        inner: &mut Inner,
        delivery: Delivery,
        placement: Placement,
        clock: &Clock,
        wake_ups: &mut WakeUps,
    ) -> Result<(), Option<Discard>> {
        let charge = delivery.charge as usize;
        if !inner.fits(&self.limits, charge) {
            let made_room = inner.make_room(&self.limits, charge, placement, clock);
            if let Some(kept) = &mut inner.kept {
                kept.settle_dropped(self.key, &mut wake_ups.pen);
                self.begin_to_trim(kept);
            }
            made_room?;
        }
        if inner.kept.is_none() {
            inner.queue.push_back(delivery);
        } else if inner.append_kept(self.key, delivery, &mut wake_ups.pen) {
            wake_ups.pen.tell(Arc::clone(self) as _);
        }
        inner.charge(charge);
        inner.waiting_bytes += charge;
        Ok(())
    }

    /// Counts a QoS 1/2 message that goes into flight without having waited in the queue, if it fits.
    pub(crate) fn try_charge(&self, bytes: usize) -> bool {
        let mut inner = self.inner.lock();
        let fits = inner.qos0_bytes + inner.queue_bytes + bytes <= self.limits.bytes();
        if fits {
            inner.charge(bytes);
        }
        fits
    }

    /// Counts it in any case.
    pub(crate) fn charge(&self, bytes: usize) {
        self.inner.lock().charge(bytes);
    }

    /// Asks something of the owner and wakes it.
    pub(crate) fn signal(&self, set: impl FnOnce(&mut Signals)) {
        let mut inner = self.inner.lock();
        set(&mut inner.signals);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Tells the connection, if there is one, that more is durable.
    fn signal_if_online(&self) {
        let mut inner = self.inner.lock();
        if !matches!(inner.link, Link::Online(_)) {
            return;
        }
        inner.signals.kept = true;
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks the connection that has the session; `false` if too many ask already. If none has it, the question is dropped: who
    /// comes next may take long.
    pub(crate) fn inquire(&self, inquiry: Inquiry) -> bool {
        let mut inner = self.inner.lock();
        if !matches!(inner.link, Link::Online(_)) {
            return true;
        }
        let inquiries = inner.signals.inquiries.get_or_insert_default();
        if inquiries.len() >= MOST_INQUIRIES {
            return false;
        }
        inquiries.push(inquiry);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    // ---- for the owner ----

    /// The client is connected: QoS 0 is accepted from now on.
    pub(crate) fn attach(&self, wire: Wire) {
        let mut inner = self.inner.lock();
        inner.link = Link::Online(wire);
        if let Some(kept) = &mut inner.kept {
            kept.attached();
        }
    }

    /// Lets others see who is connected.
    pub(crate) fn introduce(&self, client: &Arc<ClientInfo>) {
        self.inner.lock().client = Some(Arc::clone(client));
    }

    /// Whether ready-made frames will do from now on, or the owner wants to see each message.
    pub(crate) fn accept_frames(&self, accept: bool) {
        if let Link::Online(wire) = &mut self.inner.lock().link {
            wire.frames = accept;
        }
    }

    /// The session has this many subscriptions now.
    pub(crate) fn note_subscriptions(&self, count: usize) {
        self.subscriptions.store(count, Ordering::Relaxed);
    }

    /// Whether the session was [condemned](Outbox::condemn). To be asked under the registry's lock, where that is done.
    pub(crate) fn is_condemned(&self) -> bool {
        self.inner.lock().condemned
    }

    /// The client is gone, the session stays: QoS 0 is discarded.
    pub(crate) fn detach(&self) {
        let mut inner = self.inner.lock();
        inner.link = Link::Offline;
        inner.rest();
    }

    /// Nobody asks anything of the owner any more. To be called under the registry's lock, where requests are made.
    pub(crate) fn clear_takeover(&self) {
        self.inner.lock().signals.takeover = false;
    }

    /// The session has ended: nothing is accepted any more. Returns what was queued.
    pub(crate) fn close(&self) -> VecDeque<Delivery> {
        let mut inner = self.inner.lock();
        inner.link = Link::Closed;
        inner.rest();
        inner.queue_bytes = 0;
        inner.queue_len = 0;
        inner.waiting_bytes = 0;
        std::mem::take(&mut inner.queue)
    }

    /// Whether there is something that the owner can take; if not, it will be woken when there is.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>, appetite: Option<Appetite>) -> bool {
        let mut inner = self.inner.lock();
        let wants_qos0 = appetite.is_some();
        let wants_queue = appetite.is_some_and(|appetite| appetite.window > 0);
        inner.wants_qos0 = wants_qos0;
        inner.wants_queue = wants_queue;
        if let (Some(kept), Some(appetite)) = (&mut inner.kept, appetite) {
            kept.set_below(appetite.below);
        }
        if inner.is_ready() {
            inner.waker = None;
            return true;
        }
        if !wants_qos0 {
            inner.trim_frames();
        }
        match &inner.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => inner.waker = Some(cx.waker().clone()),
        }
        false
    }

    /// The requests made since the last call.
    pub(crate) fn take_signals(&self) -> Signals {
        let mut inner = self.inner.lock();
        if inner.signals.is_empty() {
            Signals::default()
        } else {
            std::mem::take(&mut inner.signals)
        }
    }

    /// Takes out as much as the owner has an appetite for. Each QoS keeps its order; neither starves the other: QoS 1/2
    /// may have half of the bytes before QoS 0 has its turn.
    pub(crate) fn take(&self, appetite: Appetite, into: &mut Taken) {
        let mut inner = self.inner.lock();
        let mut bytes = inner.take_queue(appetite.bytes / 2, appetite, into);
        bytes += inner.take_qos0(appetite.bytes.saturating_sub(bytes), into);
        inner.take_queue(appetite.bytes.saturating_sub(bytes), appetite, into);
        inner.shrink();
        inner.relieve(&self.limits);
    }

    /// Whether there is something for this appetite.
    pub(crate) fn has_for(&self, appetite: Appetite) -> bool {
        let mut inner = self.inner.lock();
        let Inner { kept, queue, qos0, .. } = &mut *inner;
        let mut has_queued = || match kept {
            None => !queue.is_empty(),
            Some(kept) => kept.has_some(queue.front(), appetite.below),
        };
        appetite.bytes > 0 && (!qos0.is_empty() || (appetite.window > 0 && has_queued()))
    }

    /// Messages in flight have been finished: they no longer count.
    pub(crate) fn settle(&self, messages: usize, bytes: usize) {
        let mut inner = self.inner.lock();
        inner.queue_len = inner.queue_len.saturating_sub(messages);
        inner.queue_bytes = inner.queue_bytes.saturating_sub(bytes);
        inner.relieve(&self.limits);
    }

    /// Counts discards that the owner decided.
    pub(crate) fn count_discard(&self, cause: Discard) {
        let mut inner = self.inner.lock();
        let log = self.discarded(&mut inner, cause, 1);
        drop(inner);
        self.log(log);
    }

    /// Whether the client is connected and has more than half of what may wait to catch up on.
    pub(crate) fn is_congested(&self) -> bool {
        self.inner.lock().is_congested(&self.limits)
    }

    /// Ready when it is not congested any more. For publishers that can wait.
    pub(crate) fn poll_relieved(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.is_congested(&self.limits) {
            return Poll::Ready(());
        }
        let waiting = inner.waiting.get_or_insert_default();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ends the connection with this Reason Code, and the session with it. To be called under the registry's lock, so
    /// that the connection is there or has been given up.
    pub(crate) fn condemn(&self, reason: ReasonCode) {
        self.inner.lock().condemned = true;
        self.signal(|signals| signals.close = Some(reason));
    }

    /// What there is to be seen.
    pub(crate) fn glance(&self) -> Glance {
        let inner = self.inner.lock();
        Glance {
            client: inner.client.clone(),
            subscriptions: self.subscriptions.load(Ordering::Relaxed),
            queued_messages: inner.waiting_messages(),
            queued_bytes: inner.qos0_bytes + inner.queue_bytes,
            inflight_messages: inner.queue_len.saturating_sub(inner.waiting_messages()),
        }
    }

    /// Bytes that wait, in flight included.
    pub(crate) fn backlog(&self) -> usize {
        let inner = self.inner.lock();
        inner.qos0_bytes + inner.queue_bytes
    }

    /// Bytes of them that are in memory.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        let inner = self.inner.lock();
        let stored = inner.kept.as_ref().map_or(0, |kept| kept.tail_bytes());
        (inner.qos0_bytes + inner.queue_bytes).saturating_sub(stored)
    }

    /// QoS 1/2 messages that wait, in flight included.
    pub(crate) fn queue_len(&self) -> usize {
        self.inner.lock().queue_len
    }

    /// Discards QoS 0 that waits, but for what the client takes next: memory is short.
    pub(crate) fn shed_qos0(&self) {
        let mut inner = self.inner.lock();
        let mut count = 0;
        while inner.qos0_bytes > SPARED {
            let Some(dropped) = inner.drop_qos0() else { break };
            count += u64::from(dropped);
        }
        if count == 0 {
            return;
        }
        let cause = self.discarded(&mut inner, Discard::MemoryShort, count);
        inner.relieve(&self.limits);
        drop(inner);
        self.log(cause);
    }

    fn count_displaced(&self, inner: &mut Inner) -> [Option<Discard>; 2] {
        let (qos0, others) = (
            u64::from(std::mem::take(&mut inner.displaced_qos0)),
            u64::from(std::mem::take(&mut inner.displaced)),
        );
        let mut count = |cause, count| {
            if count > 0 {
                self.discarded(inner, cause, count)
            } else {
                None
            }
        };
        [count(Discard::SlowSubscriber, qos0), count(Discard::QueueFull, others)]
    }

    fn discarded(&self, inner: &mut Inner, cause: Discard, count: u64) -> Option<Discard> {
        self.limits.stats.discarded(cause, count);
        let bit = 1 << cause as u8;
        let first = inner.logged & bit == 0;
        inner.logged |= bit;
        first.then_some(cause)
    }

    fn log(&self, cause: Option<Discard>) {
        if let Some(cause) = cause {
            // A subscription that is wider than the client's rights works as it was meant to.
            let is_expected = cause == Discard::NotAuthorized;
            let client = &*self.client_id;
            let cause = cause.text();
            if is_expected {
                tracing::debug!(
                    client,
                    cause,
                    "discarding messages for this client; further ones are counted only"
                );
            } else {
                tracing::warn!(
                    client,
                    cause,
                    "discarding messages for this client; further ones are counted only"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
