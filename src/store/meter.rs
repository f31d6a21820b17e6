//! What the journal has done, for those who look on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds up to which the buckets of commits go; the last bucket has those that took longer.
pub(crate) const BOUNDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Counts commits.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// By their time; each in one bucket.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    last_micros: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
}

/// What a [`Meter`] has counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Commits {
    /// Commits that took at most as long as each of [`BOUNDS`], and all.
    pub(crate) within: [u64; BOUNDS.len() + 1],
    pub(crate) seconds: f64,
    pub(crate) last_seconds: f64,
    pub(crate) bytes: u64,
    /// Attempts that failed.
    pub(crate) failed: u64,
}

impl Meter {
    /// A batch of so many bytes has been kept.
    pub(super) fn kept(&self, took: Duration, bytes: usize) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.last_micros.store(micros, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Commits {
        let mut sum = 0;
        let seconds = |micros: &AtomicU64| micros.load(Ordering::Relaxed) as f64 / 1e6;
        Commits {
            within: std::array::from_fn(|bucket| {
                sum += self.buckets[bucket].load(Ordering::Relaxed);
                sum
            }),
            seconds: seconds(&self.micros),
            last_seconds: seconds(&self.last_micros),
            bytes: self.bytes.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_by_their_time() {
        let meter = Meter::default();
        for (micros, bytes) in [(100, 1), (101, 2), (3_000_000, 4)] {
            meter.kept(Duration::from_micros(micros), bytes);
        }
        meter.failed();
        let commits = meter.read();
        assert_eq!(commits.within[..2], [1, 2]);
        assert_eq!(commits.within[BOUNDS.len() - 1..], [2, 3]);
        assert_eq!((commits.bytes, commits.failed), (7, 1));
        assert_eq!((commits.seconds, commits.last_seconds), (3.000_201, 3.0));
    }
}
