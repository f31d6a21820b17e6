//! One publication on its way to many subscribers: each form that they need is made once.

use std::sync::Arc;

use crate::codec::encode::{self, PublishFrame};
use crate::message::{Message, Publication};
use crate::packet::{QoS, Version};
use crate::time::Clock;

/// Reusable memory for encoded frames.
#[derive(Debug, Default)]
pub(crate) struct FrameScratch {
    v3: Vec<u8>,
    v5: Vec<u8>,
    /// Empty buffers that have been in outboxes, for the next ones: growing new ones costs more than filling them.
    spare: Vec<Vec<u8>>,
    /// Capacity of all `spare`.
    spare_bytes: usize,
}

/// Spare buffers that are kept, the bytes that such a buffer has at the most, and those that all have together.
const SPARES: usize = 64;
const SPARE_SIZE: usize = 16 * 1024;
const SPARE_BYTES: usize = 256 * 1024;

/// A publication and the forms of it that were needed so far.
#[derive(Debug)]
pub(crate) struct Outgoing<'p> {
    publication: &'p Publication<'p>,
    message: Option<Arc<Message>>,
    frames: &'p mut FrameScratch,
    clock: &'p Clock,
}

impl<'p> Outgoing<'p> {
    pub(crate) fn new(
        publication: &'p Publication<'p>,
        frames: &'p mut FrameScratch,
        clock: &'p Clock,
    ) -> Outgoing<'p> {
        frames.v3.clear();
        frames.v5.clear();
        Outgoing {
            publication,
            message: None,
            frames,
            clock,
        }
    }

    /// With the shared form already made.
    pub(crate) fn of_message(
        message: Arc<Message>,
        publication: &'p Publication<'p>,
        frames: &'p mut FrameScratch,
        clock: &'p Clock,
    ) -> Outgoing<'p> {
        Outgoing {
            message: Some(message),
            ..Outgoing::new(publication, frames, clock)
        }
    }

    pub(super) fn clock(&self) -> &'p Clock {
        self.clock
    }

    pub(crate) fn publication(&self) -> &'p Publication<'p> {
        self.publication
    }

    /// The shared form, for queues.
    pub(crate) fn message(&mut self) -> &Arc<Message> {
        self.message
            .get_or_insert_with(|| Arc::new(Message::new(self.publication)))
    }

    /// The bytes of a QoS 0 PUBLISH without Subscription Identifiers and with RETAIN 0.
    ///
    /// Only for a publication without Message Expiry Interval, whose bytes depend on the time of sending.
    pub(crate) fn qos0_frame(&mut self, version: Version) -> &[u8] {
        debug_assert!(self.publication.expires_at.is_none());
        let buffer = if version.is_v5() {
            &mut self.frames.v5
        } else {
            &mut self.frames.v3
        };
        if buffer.is_empty() {
            let frame = PublishFrame {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: self.publication.topic,
                packet_id: 0,
                topic_alias: None,
                message_expiry_interval: None,
                subscription_identifiers: &[],
                properties: self.publication.properties,
                payload: self.publication.payload,
            };
            encode::publish(buffer, version, &frame);
        }
        buffer
    }

    /// An empty buffer.
    pub(super) fn spare(&mut self) -> Vec<u8> {
        self.frames.take_spare()
    }

    /// Whether [`qos0_frame`](Outgoing::qos0_frame) says all that there is to say.
    pub(crate) fn has_plain_frame(&self) -> bool {
        self.publication.expires_at.is_none()
    }
}

impl FrameScratch {
    /// Takes a buffer that is not needed any more.
    pub(crate) fn reuse(&mut self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        if self.spare.len() < SPARES && size <= SPARE_SIZE && self.spare_bytes + size <= SPARE_BYTES {
            buffer.clear();
            self.spare_bytes += size;
            self.spare.push(buffer);
        }
    }

    fn take_spare(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer
    }

    /// Gives back the memory of unusually large frames.
    pub(crate) fn trim(&mut self) {
        const KEEP: usize = 64 * 1024;
        for buffer in [&mut self.v3, &mut self.v5] {
            if buffer.capacity() > KEEP {
                *buffer = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_buffers_are_bounded_in_bytes() {
        let mut frames = FrameScratch::default();
        let capacity = |frames: &FrameScratch| frames.spare.iter().map(Vec::capacity).sum::<usize>();
        for size in [SPARE_SIZE, SPARE_SIZE + 1, 1000] {
            (0..2 * SPARES).for_each(|_| frames.reuse(Vec::with_capacity(size)));
            assert!(frames.spare.len() <= SPARES && capacity(&frames) <= SPARE_BYTES);
            assert_eq!(frames.spare_bytes, capacity(&frames));
        }
        while frames.take_spare().capacity() > 0 {
            assert_eq!(frames.spare_bytes, capacity(&frames));
        }
        assert_eq!((frames.spare.len(), frames.spare_bytes), (0, 0));
        (0..2 * SPARES).for_each(|_| frames.reuse(Vec::with_capacity(100)));
        assert_eq!(frames.spare.len(), SPARES);
    }
}
