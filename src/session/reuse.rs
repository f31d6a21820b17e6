//! When a Packet Identifier of a session that is kept may be used again: the message that had it is finished, and that is
//! durable. Else the next process, which knows nothing of it, would take an acknowledgement of the old message for one of
//! the new.
//!
//! It is not known of each place when its end is durable, but of one at a time: the mark.

/// See the module. Batches are those of the journal.
#[derive(Debug, Default)]
pub(crate) struct Reuse {
    /// All places below this one that were sent are finished, and that is durable.
    first: u64,
    /// All below this place are as soon as this batch is durable.
    mark: Option<(u64, u64)>,
    /// The batch in which something was last finished.
    last: u64,
}

/// Places that are finished before there is a mark: so many identifiers are not used for a while.
const STRIDE: u64 = 8192;

impl Reuse {
    /// Of a session of which all is durable, and nothing below this place was sent and not finished.
    pub(crate) fn new(first: u64) -> Reuse {
        Reuse {
            first,
            ..Reuse::default()
        }
    }

    /// Something was finished in this batch: all below `first` is, where before it was all below `before`. Whether the session
    /// is to be told when the batch is durable.
    pub(crate) fn finished(&mut self, before: u64, first: u64, batch: u64, durable: u64) -> bool {
        self.first = self.settled(before, durable);
        self.last = self.last.max(batch);
        self.mark = self.mark.filter(|(_, batch)| *batch > durable);
        let is_due = self.mark.is_none() && first - self.first > STRIDE;
        if is_due {
            self.mark = Some((first, batch));
        }
        is_due
    }

    /// Whether all that was finished is durable.
    pub(crate) fn is_settled(&self, durable: u64) -> bool {
        self.last <= durable
    }

    /// The place below which all that was sent is finished, and that is durable; `first` is that below which all is
    /// finished.
    pub(crate) fn settled(&self, first: u64, durable: u64) -> u64 {
        match self.mark {
            _ if self.is_settled(durable) => first,
            Some((place, batch)) if batch <= durable => place,
            _ => self.first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is finished is settled a stride later at most, and never before it is durable.
    #[test]
    fn places_are_settled_when_that_is_durable() {
        let mut reuse = Reuse::new(100);
        assert_eq!(reuse.settled(100, 0), 100);
        assert!(!reuse.finished(100, 200, 1, 0));
        assert_eq!((reuse.settled(200, 0), reuse.settled(200, 1)), (100, 200));
        assert!(reuse.finished(200, 100 + STRIDE + 1, 2, 0));
        assert!(!reuse.finished(100 + STRIDE + 1, 50_000, 3, 0));
        assert_eq!(reuse.settled(50_000, 1), 100);
        assert_eq!(reuse.settled(50_000, 2), 100 + STRIDE + 1);
        assert_eq!(reuse.settled(50_000, 3), 50_000);
        // The mark has been reached: there is another one.
        assert!(reuse.finished(50_000, 50_001, 4, 2));
        assert_eq!(reuse.settled(50_001, 3), 100 + STRIDE + 1);
        assert_eq!(reuse.settled(50_001, 4), 50_001);
        assert!(reuse.is_settled(4) && !reuse.is_settled(3));
        assert!(!reuse.finished(50_001, 50_002, 5, 4));
        assert_eq!((reuse.settled(50_002, 4), reuse.settled(50_002, 5)), (50_001, 50_002));
    }
}
