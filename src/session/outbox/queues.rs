//! The queues of a session: what comes in, what makes room for it, what goes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::direct::Direct;
use super::kept::Kept;
use super::limits::OutboxLimits;
use super::signals::Signals;
use super::{Appetite, Link, Placement, Qos0, Taken, Wire};
use crate::identity::ClientInfo;
use crate::session::delivery::{Delivery, OVERHEAD, Terms};
use crate::session::inflight::IDENTIFIERS_AT_ONCE;
use crate::session::outgoing::Outgoing;
use crate::stats::Discard;
use crate::time::Clock;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) link: Link,
    /// Who is connected.
    pub(super) client: Option<Arc<ClientInfo>>,
    /// The session is to end with its connection, whatever its expiry interval.
    pub(super) condemned: bool,
    pub(super) direct: Direct,
    pub(super) qos0: VecDeque<Qos0>,
    pub(super) queue: VecDeque<Delivery>,
    pub(super) qos0_bytes: usize,
    pub(super) queue_bytes: usize,
    pub(super) queue_len: usize,
    /// Bytes of `queue` alone, and of what of it is only in the store.
    pub(super) waiting_bytes: usize,
    /// Of a session that is kept in a store.
    pub(super) kept: Option<Box<Kept>>,
    pub(super) waker: Option<Waker>,
    /// The owner, when it last slept, would have taken QoS 0; QoS 1/2.
    pub(super) wants_qos0: bool,
    pub(super) wants_queue: bool,
    pub(super) signals: Signals,
    /// Publishers within the program that wait for room.
    pub(super) waiting: Option<Box<Vec<Waker>>>,
    /// Messages that had to make room in the current call, QoS 0 and others.
    pub(super) displaced_qos0: u32,
    pub(super) displaced: u32,
    /// Causes of discards that were already logged for this client.
    pub(super) logged: u16,
}

impl Qos0 {
    pub(super) fn charge(&self) -> usize {
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
    /// Of a session whose client is not there yet.
    pub(super) fn new() -> Inner {
        Inner {
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
        }
    }

    pub(super) fn push_qos0(
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
    pub(super) fn has_room_for_frame(&self, size: usize) -> bool {
        matches!(self.qos0.back(), Some(Qos0::Frames { bytes, .. }) if bytes.len() + size <= FRAMES_SIZE)
    }

    /// The owner takes no QoS 0 for now: few frames do not stay in a large buffer.
    pub(super) fn trim_frames(&mut self) {
        if let Some(Qos0::Frames { bytes, .. }) = self.qos0.back_mut()
            && bytes.capacity() / 2 > bytes.len()
        {
            bytes.shrink_to_fit();
        }
    }

    /// Appends a frame to the last buffer.
    pub(super) fn push_frame(&mut self, frame: &[u8], retain: bool, payload: u32) {
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

    pub(super) fn push_qos0_message(
        &mut self,
        limits: &OutboxLimits,
        delivery: Delivery,
    ) -> Result<(), Option<Discard>> {
        let charge = delivery.charge as usize;
        if let Some(cause) = limits.refuse_qos0(self.qos0_bytes, self.queue_bytes, charge) {
            return Err(Some(cause));
        }
        self.qos0_bytes += charge;
        self.qos0.push_back(Qos0::Message(delivery));
        Ok(())
    }

    /// Makes room for a message that does not fit, as far as its placement allows.
    #[cold]
    pub(super) fn make_room(
        &mut self,
        limits: &OutboxLimits,
        charge: usize,
        placement: Placement,
        clock: &Clock,
    ) -> Result<(), Option<Discard>> {
        self.drop_expired(limits, clock);
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
    pub(super) fn drop_expired(&mut self, limits: &OutboxLimits, clock: &Clock) {
        while self
            .queue
            .front()
            .is_some_and(|oldest| oldest.message.has_expired(clock))
        {
            self.drop_front();
            limits.stats.discarded(Discard::Expired, 1);
        }
    }

    pub(super) fn drop_front(&mut self) {
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

    pub(super) fn charge(&mut self, bytes: usize) {
        self.queue_len += 1;
        self.queue_bytes += bytes;
    }

    pub(super) fn fits(&self, limits: &OutboxLimits, charge: usize) -> bool {
        self.waiting_messages() < limits.messages() && self.qos0_bytes + self.queue_bytes + charge <= limits.bytes()
    }

    /// QoS 0 makes room for QoS 1/2, if that is enough.
    pub(super) fn shed_qos0(&mut self, limits: &OutboxLimits, charge: usize) {
        if self.waiting_messages() >= limits.messages() || self.queue_bytes + charge > limits.bytes() {
            return;
        }
        while !self.fits(limits, charge) {
            let Some(count) = self.drop_qos0() else { return };
            self.displaced_qos0 += count;
        }
    }

    /// Drops what is first in the queue of QoS 0; how many messages that were.
    pub(super) fn drop_qos0(&mut self) -> Option<u32> {
        let item = self.qos0.pop_front()?;
        self.qos0_bytes -= item.charge();
        Some(match item {
            Qos0::Frames { count, .. } => count,
            Qos0::Message(_) => 1,
        })
    }

    /// Unsent messages make room, if that is enough: what is in flight can't.
    pub(super) fn drop_oldest(&mut self, limits: &OutboxLimits, charge: usize) {
        if self.queue_bytes - self.waiting_bytes + charge > limits.bytes() || limits.messages() == 0 {
            return;
        }
        while !self.fits(limits, charge) && self.waiting_messages() > 0 {
            self.drop_front();
            self.displaced += 1;
        }
    }

    #[inline]
    pub(super) fn take_queue(&mut self, most: usize, appetite: Appetite, into: &mut Taken) -> usize {
        let mut bytes = 0;
        while bytes < most && into.deliveries.len() < appetite.window {
            if let (Some(kept), Some(first)) = (&mut self.kept, self.queue.front()) {
                let from = into.from.unwrap_or_else(|| kept.place(first));
                if !kept.may_take(first, appetite.below.min(from + IDENTIFIERS_AT_ONCE)) {
                    break;
                }
                into.from = Some(from);
                kept.passed(first);
            }
            let Some(delivery) = self.queue.pop_front() else { break };
            self.waiting_bytes -= delivery.charge as usize;
            bytes += delivery.charge as usize;
            into.deliveries.push(delivery);
        }
        bytes
    }

    pub(super) fn take_qos0(&mut self, most: usize, into: &mut Taken) -> usize {
        let mut bytes = 0;
        while bytes < most {
            let Some(item) = self.qos0.pop_front() else { break };
            bytes += item.charge();
            into.qos0.push(item);
        }
        self.qos0_bytes -= bytes;
        bytes
    }

    pub(super) fn is_ready(&mut self) -> bool {
        !self.signals.is_empty()
            || self.direct.has_rest()
            || (self.wants_qos0 && !self.qos0.is_empty())
            || (self.wants_queue && self.has_queued())
    }

    /// Nobody is there to take QoS 0 or to be woken.
    pub(super) fn rest(&mut self) {
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

    pub(super) fn relieve(&mut self, limits: &OutboxLimits) {
        if self.waiting.is_some() && !self.is_congested(limits) {
            self.wake_waiting();
        }
    }

    pub(super) fn wake_waiting(&mut self) {
        let waiting = self.waiting.take();
        waiting.into_iter().flat_map(|waiting| *waiting).for_each(Waker::wake);
    }

    pub(super) fn is_congested(&self, limits: &OutboxLimits) -> bool {
        let online = matches!(self.link, Link::Online(_));
        let bytes = self.qos0_bytes + self.queue_bytes;
        online && (bytes > limits.bytes() / 2 || self.waiting_messages() > limits.messages() / 2)
    }

    pub(super) fn shrink(&mut self) {
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
