//! Which messages have arrived: each of them is accounted for.

use std::collections::HashSet;

use crate::wire::Reader;

/// What stands at the beginning of each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) publisher: u32,
    /// Counts the messages of the publisher, from 0.
    pub(super) sequence: u64,
    /// Nanoseconds since the run began, when the message was, or should have been, sent.
    pub(super) sent: u64,
}

/// Bytes of a [`Stamp`], the least that a payload has.
pub(super) const STAMP_SIZE: usize = 20;

impl Stamp {
    pub(super) fn put(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.publisher.to_be_bytes());
        payload[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        payload[12..20].copy_from_slice(&self.sent.to_be_bytes());
    }

    pub(super) fn read(payload: &[u8]) -> Option<Stamp> {
        let mut reader = Reader::new(payload);
        let mut u64 = || Some(u64::from(reader.u32().ok()?) << 32 | u64::from(reader.u32().ok()?));
        let high = u64()?;
        let low = u64()?;
        let last = reader.u32().ok()?;
        Some(Stamp {
            publisher: (high >> 32) as u32,
            sequence: high << 32 | low >> 32,
            sent: low << 32 | u64::from(last),
        })
    }
}

/// What became of the messages of one publisher for one group of receivers, of which one gets each message.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// All before it have been seen, but for those in `missing`.
    next: u64,
    missing: HashSet<u64>,
}

/// What a message is to those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// None was left out before it.
    InOrder,
    /// One behind it has come already.
    Late,
    /// It has come already.
    Duplicate,
}

impl Tracker {
    pub(super) fn see(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            self.missing.extend(self.next..sequence);
            self.next = sequence + 1;
            return Arrival::InOrder;
        }
        if self.missing.remove(&sequence) {
            Arrival::Late
        } else {
            Arrival::Duplicate
        }
    }

    /// How many of `sent` messages have not been seen.
    pub(super) fn lost(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + sent.saturating_sub(self.next)
    }
}

/// The account of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_accounted_for() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.see(0), Arrival::InOrder);
        assert_eq!(tracker.see(3), Arrival::InOrder);
        assert_eq!(tracker.lost(4), 2);
        assert_eq!(tracker.see(1), Arrival::Late);
        assert_eq!(tracker.see(1), Arrival::Duplicate);
        assert_eq!(tracker.see(3), Arrival::Duplicate);
        assert_eq!((tracker.lost(4), tracker.lost(6)), (1, 3));
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp {
            publisher: 0x0102_0304,
            sequence: 0x0506_0708_090A_0B0C,
            sent: 0x0D0E_0F10_1112_1314,
        };
        let mut payload = [0; 30];
        stamp.put(&mut payload);
        assert_eq!(payload[..STAMP_SIZE], (1..=20).collect::<Vec<u8>>());
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..19]), None);
    }
}
