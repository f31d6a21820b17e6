//! Latencies, within two per cent.

/// Counts values by their size: 64 classes for each power of two.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

const CLASSES: u64 = 64;

impl Histogram {
    pub(super) fn new() -> Histogram {
        Histogram {
            counts: vec![0; class_of(u64::MAX) + 1],
            total: 0,
            largest: 0,
        }
    }

    #[inline]
    pub(super) fn add(&mut self, value: u64) {
        self.counts[class_of(value)] += 1;
        self.total += 1;
        self.largest = self.largest.max(value);
    }

    pub(super) fn largest(&self) -> u64 {
        self.largest
    }

    /// The value that this part of all values, from 0 to 1, does not exceed.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return upper_end(class).min(self.largest);
            }
        }
        0
    }
}

#[inline]
fn class_of(value: u64) -> usize {
    if value < CLASSES {
        return value as usize;
    }
    let shift = value.ilog2() - CLASSES.ilog2();
    (u64::from(shift) * CLASSES + (value >> shift)) as usize
}

/// The largest value of a class.
fn upper_end(class: usize) -> u64 {
    let class = class as u64;
    if class < CLASSES {
        return class;
    }
    let shift = class / CLASSES - 1;
    let start = u128::from(class % CLASSES + CLASSES) << shift;
    u64::try_from(start + (1 << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_per_cent() {
        let mut histogram = Histogram::new();
        (1..=100_000).for_each(|value| histogram.add(value * 1000));
        for part in [0.5, 0.9, 0.99, 0.999] {
            let (found, exact) = (histogram.quantile(part) as f64, part * 1e8);
            assert!((found / exact - 1.0).abs() < 0.02, "{part}: {found} for {exact}");
        }
        assert_eq!(histogram.quantile(1.0), 100_000_000);
        assert_eq!(histogram.largest(), 100_000_000);
        assert_eq!(Histogram::new().quantile(0.5), 0);
    }

    #[test]
    fn classes_follow_each_other() {
        for value in [0, 1, 63, 64, 65, 127, 128, 129, 1 << 20, u64::MAX - 1, u64::MAX] {
            assert!(upper_end(class_of(value)) >= value);
            assert!(class_of(value) == 0 || upper_end(class_of(value) - 1) < value);
        }
    }
}
