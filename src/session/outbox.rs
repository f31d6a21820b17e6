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
mod kept;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::delivery::{Delivery, OVERHEAD, Terms};
use super::inquiry::{Inquiry, MOST_INQUIRIES};
use super::outgoing::Outgoing;
use crate::identity::ClientInfo;
use crate::packet::{QoS, Version};
use crate::reason::ReasonCode;
use crate::stats::{Discard, Stats};
use crate::time::Clock;
use direct::Direct;
pub(crate) use direct::{DirectWrite, WakeUps};
use kept::Kept;
pub(crate) use kept::{TailPage, delivery_of};

/// What happens to a QoS 1 or 2 message for a session whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOverflow {
    /// The new message is discarded for that session.
    #[default]
    DropNew,
    /// The oldest messages that have not been sent make room.
    DropOldest,
}

/// Bounds of each outbox.
#[derive(Debug)]
pub(crate) struct OutboxLimits {
    /// QoS 1/2 messages that wait to be sent.
    messages: AtomicUsize,
    /// Bytes, QoS 0 included.
    bytes: AtomicUsize,
    drops_oldest: AtomicBool,
    /// Memory is short: QoS 0 does not wait, but for what a client takes next.
    is_short: AtomicBool,
    stats: Arc<Stats>,
}

/// Bytes of QoS 0 that wait for a client although memory is short.
const SPARED: usize = 64 * 1024;

impl OutboxLimits {
    /// Nothing fits before the limits are set.
    pub(crate) fn new(stats: Arc<Stats>) -> OutboxLimits {
        OutboxLimits {
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            drops_oldest: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            stats,
        }
    }

    /// What is above a lower limit stays until it is taken.
    pub(crate) fn set(&self, messages: usize, bytes: usize, overflow: QueueOverflow) {
        self.messages.store(messages, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.drops_oldest
            .store(overflow == QueueOverflow::DropOldest, Ordering::Relaxed);
    }

    fn messages(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Holds QoS 0 short, or not any more.
    pub(crate) fn hold_short(&self, is_short: bool) {
        self.is_short.store(is_short, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Why so much QoS 0 more can't wait beside what does.
    fn refuse_qos0(&self, qos0_bytes: usize, queue_bytes: usize, more: usize) -> Option<Discard> {
        if qos0_bytes + queue_bytes + more > self.bytes() {
            return Some(Discard::SlowSubscriber);
        }
        let is_short = self.is_short.load(Ordering::Relaxed) && qos0_bytes + more > SPARED;
        is_short.then_some(Discard::MemoryShort)
    }

    fn drops_oldest(&self) -> bool {
        self.drops_oldest.load(Ordering::Relaxed)
    }
}

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

/// Requests to the owner of the session.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Another connection claims the session.
    pub(crate) takeover: bool,
    /// The alarm that the owner has set has gone off.
    pub(crate) alarm: bool,
    /// Close the connection with this Reason Code.
    pub(crate) close: Option<ReasonCode>,
    /// What the client may do has changed.
    pub(crate) recheck: bool,
    /// Which clients are traced has changed.
    pub(crate) retrace: bool,
    /// Questions about what only the owner sees.
    pub(crate) inquiries: Option<Box<Vec<Inquiry>>>,
    /// The broker shuts down: publish the will, then drop this.
    pub(crate) drain: Option<mpsc::Sender<()>>,
    /// More is durable: answers may wait for that.
    pub(crate) kept: bool,
}

impl Signals {
    fn is_empty(&self) -> bool {
        !self.takeover
            && !self.alarm
            && !self.recheck
            && !self.retrace
            && !self.kept
            && self.inquiries.is_none()
            && self.close.is_none()
            && self.drain.is_none()
    }
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

#[derive(Debug)]
struct Inner {
    link: Link,
    /// Who is connected.
    client: Option<Arc<ClientInfo>>,
    /// The session is to end with its connection, whatever its expiry interval.
    condemned: bool,
    direct: Direct,
    qos0: VecDeque<Qos0>,
    queue: VecDeque<Delivery>,
    qos0_bytes: usize,
    queue_bytes: usize,
    queue_len: usize,
    /// Bytes of `queue` alone, and of what of it is only in the store.
    waiting_bytes: usize,
    /// Of a session that is kept in a store.
    kept: Option<Box<Kept>>,
    waker: Option<Waker>,
    /// The owner, when it last slept, would have taken QoS 0; QoS 1/2.
    wants_qos0: bool,
    wants_queue: bool,
    signals: Signals,
    /// Publishers within the program that wait for room.
    waiting: Option<Box<Vec<Waker>>>,
    /// Messages that had to make room in the current call, QoS 0 and others.
    displaced_qos0: u32,
    displaced: u32,
    /// Causes of discards that were already logged for this client.
    logged: u16,
}

impl Outbox {
    pub(crate) fn new(key: u64, client_id: Arc<str>, limits: Arc<OutboxLimits>) -> Outbox {
        let inner = Inner {
            link: Link::Offline,
            client: None,
            condemned: false,
            direct: Direct::default(),
            qos0: VecDeque::new(),
            queue: VecDeque::new(),
            qos0_bytes: 0,
            queue_bytes: 0,
            queue_len: 0,
            waiting_bytes: 0,
            kept: None,
            waker: None,
            wants_qos0: false,
            wants_queue: false,
            signals: Signals::default(),
            waiting: None,
            displaced_qos0: 0,
            displaced: 0,
            logged: 0,
        };
        Outbox {
            key,
            client_id,
            limits,
            subscriptions: AtomicUsize::new(0),
            inner: Mutex::new(inner),
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
        let made_room = inner.make_room(&self.limits, delivery.charge as usize, placement, clock);
        if let Some(kept) = &mut inner.kept {
            kept.settle_dropped(self.key, &mut wake_ups.pen);
        }
        made_room?;
        let charge = delivery.charge as usize;
        let is_online = matches!(inner.link, Link::Online(_));
        if inner.append(self.key, delivery, is_online, &mut wake_ups.pen) {
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

impl Qos0 {
    fn charge(&self) -> usize {
        match self {
            Qos0::Frames { bytes, .. } => bytes.len() + FRAMES_OVERHEAD,
            Qos0::Message(delivery) => delivery.charge as usize,
        }
    }
}

const FRAMES_OVERHEAD: usize = size_of::<Qos0>();
/// Frames are collected into buffers of this size, so that a long queue never has to be moved.
const FRAMES_SIZE: usize = 64 * 1024;

impl Inner {
    fn push_qos0(
        &mut self,
        limits: &OutboxLimits,
        wire: Wire,
        outgoing: &mut Outgoing<'_>,
        terms: Terms,
    ) -> Result<(), Option<Discard>> {
        let plain = wire.frames && terms.is_plain() && outgoing.has_plain_frame();
        if !plain {
            let delivery = Delivery::new(Arc::clone(outgoing.message()), terms);
            return self.push_qos0_message(limits, delivery);
        }
        let size = outgoing.qos0_frame(wire.version).len();
        // Empty: larger than any packet can be.
        if size == 0 || size > wire.maximum_packet_size {
            return Err(Some(Discard::TooLarge));
        }
        if let Some(cause) = limits.refuse_qos0(self.qos0_bytes, self.queue_bytes, size + FRAMES_OVERHEAD) {
            return Err(Some(cause));
        }
        if !self.has_room_for_frame(size) {
            self.qos0_bytes += FRAMES_OVERHEAD;
            // A spare buffer is larger than what is charged: it is for owners that will empty it soon.
            let bytes = if self.wants_qos0 { outgoing.spare() } else { Vec::new() };
            self.qos0.push_back(Qos0::Frames {
                bytes,
                count: 0,
                payload_bytes: 0,
            });
        }
        let payload = outgoing.publication().payload.len() as u32;
        self.push_frame(outgoing.qos0_frame(wire.version), terms.retain, payload);
        Ok(())
    }

    /// Whether the last buffer of frames takes this one, too.
    fn has_room_for_frame(&self, size: usize) -> bool {
        matches!(self.qos0.back(), Some(Qos0::Frames { bytes, .. }) if bytes.len() + size <= FRAMES_SIZE)
    }

    /// The owner takes no QoS 0 for now: few frames do not stay in a large buffer.
    fn trim_frames(&mut self) {
        if let Some(Qos0::Frames { bytes, .. }) = self.qos0.back_mut()
            && bytes.capacity() / 2 > bytes.len()
        {
            bytes.shrink_to_fit();
        }
    }

    /// Appends a frame to the last buffer.
    fn push_frame(&mut self, frame: &[u8], retain: bool, payload: u32) {
        let Some(Qos0::Frames {
            bytes,
            count,
            payload_bytes,
        }) = self.qos0.back_mut()
        else {
            return;
        };
        let start = bytes.len();
        bytes.extend_from_slice(frame);
        bytes[start] |= u8::from(retain);
        *count += 1;
        *payload_bytes += payload;
        self.qos0_bytes += frame.len();
    }

    fn push_qos0_message(&mut self, limits: &OutboxLimits, delivery: Delivery) -> Result<(), Option<Discard>> {
        let charge = delivery.charge as usize;
        if let Some(cause) = limits.refuse_qos0(self.qos0_bytes, self.queue_bytes, charge) {
            return Err(Some(cause));
        }
        self.qos0_bytes += charge;
        self.qos0.push_back(Qos0::Message(delivery));
        Ok(())
    }

    /// Makes room for a message as far as its placement allows.
    fn make_room(
        &mut self,
        limits: &OutboxLimits,
        charge: usize,
        placement: Placement,
        clock: &Clock,
    ) -> Result<(), Option<Discard>> {
        if !self.fits(limits, charge) {
            self.drop_expired(limits, clock);
        }
        if !self.fits(limits, charge) && placement != Placement::IfOnline {
            self.shed_qos0(limits, charge);
        }
        let drop_oldest = placement == Placement::Here && limits.drops_oldest();
        if !self.fits(limits, charge) && drop_oldest {
            self.drop_oldest(limits, charge);
        }
        match self.fits(limits, charge) {
            true => Ok(()),
            false => Err(Some(Discard::QueueFull)),
        }
    }

    /// What has expired makes room before anything else does. Looks at the front only: the oldest expire first where
    /// it matters, which is when all have the same lifetime.
    fn drop_expired(&mut self, limits: &OutboxLimits, clock: &Clock) {
        while self
            .queue
            .front()
            .is_some_and(|oldest| oldest.message.has_expired(clock))
        {
            self.drop_front();
            limits.stats.discarded(Discard::Expired, 1);
        }
    }

    fn drop_front(&mut self) {
        let bytes = match self.queue.pop_front() {
            Some(oldest) => {
                if let Some(kept) = &mut self.kept {
                    kept.dropped(&oldest);
                }
                oldest.charge as usize
            }
            None => match self.kept.as_mut().and_then(|kept| kept.drop_from_tail()) {
                Some(bytes) => bytes,
                None => return,
            },
        };
        self.queue_len = self.queue_len.saturating_sub(1);
        self.queue_bytes = self.queue_bytes.saturating_sub(bytes);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
    }

    fn charge(&mut self, bytes: usize) {
        self.queue_len += 1;
        self.queue_bytes += bytes;
    }

    fn fits(&self, limits: &OutboxLimits, charge: usize) -> bool {
        self.waiting_messages() < limits.messages() && self.qos0_bytes + self.queue_bytes + charge <= limits.bytes()
    }

    /// QoS 0 makes room for QoS 1/2, if that is enough.
    fn shed_qos0(&mut self, limits: &OutboxLimits, charge: usize) {
        if self.waiting_messages() >= limits.messages() || self.queue_bytes + charge > limits.bytes() {
            return;
        }
        while !self.fits(limits, charge) {
            let Some(count) = self.drop_qos0() else { return };
            self.displaced_qos0 += count;
        }
    }

    /// Drops what is first in the queue of QoS 0; how many messages that were.
    fn drop_qos0(&mut self) -> Option<u32> {
        let item = self.qos0.pop_front()?;
        self.qos0_bytes -= item.charge();
        Some(match item {
            Qos0::Frames { count, .. } => count,
            Qos0::Message(_) => 1,
        })
    }

    /// Unsent messages make room, if that is enough: what is in flight can't.
    fn drop_oldest(&mut self, limits: &OutboxLimits, charge: usize) {
        if self.queue_bytes - self.waiting_bytes + charge > limits.bytes() || limits.messages() == 0 {
            return;
        }
        while !self.fits(limits, charge) && self.waiting_messages() > 0 {
            self.drop_front();
            self.displaced += 1;
        }
    }

    fn take_queue(&mut self, most: usize, appetite: Appetite, into: &mut Taken) -> usize {
        let mut bytes = 0;
        while bytes < most && into.deliveries.len() < appetite.window {
            if let (Some(kept), Some(first)) = (&mut self.kept, self.queue.front()) {
                if !kept.may_take(first, appetite.below) {
                    break;
                }
                kept.passed(first);
            }
            let Some(delivery) = self.queue.pop_front() else { break };
            self.waiting_bytes -= delivery.charge as usize;
            bytes += delivery.charge as usize;
            into.deliveries.push(delivery);
        }
        bytes
    }

    fn take_qos0(&mut self, most: usize, into: &mut Taken) -> usize {
        let mut bytes = 0;
        while bytes < most {
            let Some(item) = self.qos0.pop_front() else { break };
            bytes += item.charge();
            into.qos0.push(item);
        }
        self.qos0_bytes -= bytes;
        bytes
    }

    fn is_ready(&mut self) -> bool {
        !self.signals.is_empty()
            || self.direct.has_rest()
            || (self.wants_qos0 && !self.qos0.is_empty())
            || (self.wants_queue && self.has_queued())
    }

    /// Nobody is there to take QoS 0 or to be woken.
    fn rest(&mut self) {
        self.qos0 = VecDeque::new();
        self.qos0_bytes = 0;
        self.direct.close();
        self.client = None;
        self.waker = None;
        self.wake_waiting();
        self.signals.alarm = false;
        self.signals.recheck = false;
        self.signals.retrace = false;
        self.signals.inquiries = None;
        self.signals.close = None;
        self.signals.drain = None;
        self.signals.kept = false;
    }

    fn relieve(&mut self, limits: &OutboxLimits) {
        if self.waiting.is_some() && !self.is_congested(limits) {
            self.wake_waiting();
        }
    }

    fn wake_waiting(&mut self) {
        let waiting = self.waiting.take();
        waiting.into_iter().flat_map(|waiting| *waiting).for_each(Waker::wake);
    }

    fn is_congested(&self, limits: &OutboxLimits) -> bool {
        let online = matches!(self.link, Link::Online(_));
        let bytes = self.qos0_bytes + self.queue_bytes;
        online && (bytes > limits.bytes() / 2 || self.waiting_messages() > limits.messages() / 2)
    }

    fn shrink(&mut self) {
        if self.qos0.is_empty() && self.qos0.capacity() > SMALL_QUEUE {
            self.qos0 = VecDeque::new();
        }
        if self.queue.is_empty() && self.queue.capacity() > SMALL_QUEUE {
            self.queue = VecDeque::new();
        }
    }
}

/// Entries for which an idle session may keep room.
const SMALL_QUEUE: usize = 16;

/// The charge of an entry without its message; queues are bounded by at least this much a message.
const _: () = assert!(OVERHEAD >= 16);

#[cfg(test)]
mod tests;
