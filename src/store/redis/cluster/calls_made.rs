//! How many calls of each home have been confirmed: the next one has the number behind.

use crate::store::redis::keys::{BUCKETS, Home};

/// See the module.
#[derive(Debug)]
pub(super) struct CallsMade(Box<[u64]>);

impl Default for CallsMade {
    fn default() -> CallsMade {
        CallsMade(vec![0; usize::from(BUCKETS) + 1].into())
    }
}

impl CallsMade {
    pub(super) fn of(&self, home: Home) -> u64 {
        self.0[home.index()]
    }

    /// Those of all homes, by [`Home::index`].
    pub(super) fn all(&self) -> &[u64] {
        &self.0
    }

    /// A call has been done, and so have all before it, whichever is answered first: the later one of two that were sent again is, if
    /// Redis has forgotten the script of the other, and another node loads the scripts between. A number that was used twice would
    /// let the second call pass for done.
    pub(super) fn confirm(&mut self, home: Home, number: u64) {
        let made = &mut self.0[home.index()];
        *made = number.max(*made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_answered_late_takes_nothing_back() {
        let mut made = CallsMade::default();
        let home = Home::Bucket(7);
        assert_eq!(made.of(home), 0);
        made.confirm(home, 27);
        made.confirm(home, 26);
        assert_eq!((made.of(home), made.of(Home::Global)), (27, 0));
        made.confirm(home, 28);
        assert_eq!(made.all().iter().sum::<u64>(), 28);
    }
}
