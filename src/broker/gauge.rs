//! How much of what the process takes is in use.
//!
//! The allocator keeps most of what is freed, and uses it again: the process stays as large as it was once. What can be
//! counted — queues, sessions, connections and the like — says how much of it is used. When the process grows, all of it is
//! in use; so what it takes then beyond its beginning is what the counted things cost, with all that belongs to them.
//! Later the same share of that is in use as there is of the counted things.

/// See the module.
#[derive(Debug)]
pub(super) struct Gauge {
    /// The process when there was nothing yet.
    base: usize,
    /// The process at its largest, 0 before the first look.
    largest: usize,
    /// What was counted when all of that was in use.
    most: usize,
}

/// The growth of a process that was thought to have enough: so many times as much is not free as was thought.
const DOUBT: usize = 4;
/// Looks until it is believed that more fits into the process than there was when it grew.
const HESITATION: usize = 128;
/// What is there is never nothing.
const LEAST: usize = 64 * 1024;

impl Gauge {
    pub(super) fn new(base: usize) -> Gauge {
        Gauge {
            base,
            largest: 0,
            most: LEAST,
        }
    }

    /// The process is small: what it becomes is used.
    pub(super) fn forget(&mut self) {
        self.largest = 0;
    }

    /// What is used, if so many bytes are resident and so many are known to be used.
    pub(super) fn used(&mut self, resident: usize, counted: usize) -> usize {
        let counted = counted + LEAST;
        if self.largest == 0 {
            self.set(resident, resident, counted);
            return resident;
        }
        let used = self.estimate(counted).min(resident);
        let grown = resident.saturating_sub(self.largest);
        // A part that was given back to the system makes it another process, too.
        if grown > 0 || resident < self.largest / 20 * 19 {
            let used = used.saturating_add(grown * (1 + DOUBT)).min(resident);
            self.set(resident, used, counted);
            return used;
        }
        self.most += counted.saturating_sub(self.most) / HESITATION;
        used
    }

    fn estimate(&self, counted: usize) -> usize {
        let above = part(self.largest.saturating_sub(self.base), counted, self.most);
        self.base.saturating_add(above).min(self.largest)
    }

    /// From now on, so much that is counted means that so much is used.
    fn set(&mut self, resident: usize, used: usize, counted: usize) {
        let above = |bytes: usize| bytes.saturating_sub(self.base).max(1);
        self.most = part(counted, above(resident), above(used)).max(LEAST);
        self.largest = resident;
    }
}

fn part(whole: usize, numerator: usize, denominator: usize) -> usize {
    let bytes = whole as u128 * numerator as u128 / denominator.max(1) as u128;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    /// In whole mebibytes.
    fn used(gauge: &mut Gauge, resident: usize, counted: usize) -> usize {
        gauge.used(resident * MIB, counted * MIB - LEAST).div_ceil(MIB)
    }

    #[test]
    fn what_was_freed_is_free_although_the_process_keeps_it() {
        let mut gauge = Gauge::new(10 * MIB);
        assert_eq!(used(&mut gauge, 30, 10), 30);
        // What is counted costs twice as much as it is counted for.
        assert_eq!(used(&mut gauge, 50, 20), 50);
        assert_eq!(used(&mut gauge, 50, 10), 30);
        assert_eq!(used(&mut gauge, 50, 5), 20);
        assert_eq!(used(&mut gauge, 50, 15), 40);
        // The system has got a part of it back: of what is free.
        assert_eq!(used(&mut gauge, 40, 5), 20);
        assert_eq!(used(&mut gauge, 18, 5), 18);
    }

    #[test]
    fn a_process_that_grows_has_less_than_was_thought() {
        let mut gauge = Gauge::new(10 * MIB);
        used(&mut gauge, 50, 20);
        assert_eq!(used(&mut gauge, 50, 5), 20);
        assert_eq!(used(&mut gauge, 52, 5), 30);
        assert_eq!(used(&mut gauge, 52, 5), 30);
        assert_eq!(used(&mut gauge, 57, 5), 55);
        assert_eq!(used(&mut gauge, 60, 5), 60);
        // And however that came, there is nothing left of it when everything has gone.
        assert!(gauge.used(60 * MIB, 0) < 12 * MIB);
    }

    /// Sessions that come after the time in which a process was largest for a moment.
    #[test]
    fn a_moment_does_not_count_for_ever() {
        let mut gauge = Gauge::new(10 * MIB);
        used(&mut gauge, 50, 5);
        assert_eq!(used(&mut gauge, 50, 20), 50);
        assert_eq!(used(&mut gauge, 50, 5), 50);
        (0..10 * HESITATION).for_each(|_| _ = used(&mut gauge, 50, 20));
        assert_eq!(used(&mut gauge, 50, 10), 31);
    }

    #[test]
    fn a_small_process_is_looked_at_afresh() {
        let mut gauge = Gauge::new(10 * MIB);
        used(&mut gauge, 50, 20);
        gauge.forget();
        assert_eq!(used(&mut gauge, 40, 5), 40);
        assert_eq!(used(&mut gauge, 40, 10), 40);
    }
}
