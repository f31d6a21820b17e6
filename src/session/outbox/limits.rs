//! The bounds of queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::stats::{Discard, Stats};

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
    pub(super) stats: Arc<Stats>,
}

/// Bytes of QoS 0 that wait for a client although memory is short.
pub(super) const SPARED: usize = 64 * 1024;

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

    pub(super) fn messages(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
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
    pub(super) fn refuse_qos0(&self, qos0_bytes: usize, queue_bytes: usize, more: usize) -> Option<Discard> {
        if qos0_bytes + queue_bytes + more > self.bytes() {
            return Some(Discard::SlowSubscriber);
        }
        let is_short = self.is_short.load(Ordering::Relaxed) && qos0_bytes + more > SPARED;
        is_short.then_some(Discard::MemoryShort)
    }

    pub(super) fn drops_oldest(&self) -> bool {
        self.drops_oldest.load(Ordering::Relaxed)
    }
}
