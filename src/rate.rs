//! How much of something there may be in a second.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::time::Millis;

/// Counts against a rate. What a second allows may come at once; what is beyond waits until time has made room for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    /// When all that was counted would have been allowed at an even pace, in nanoseconds since the Unix epoch.
    even: u128,
}

impl Meter {
    /// Counts `amount`, whatever was counted before; how long is to be waited before more is.
    pub(crate) fn count(&mut self, amount: u64, rate: NonZeroU32, now: Millis) -> Duration {
        let now = nanos(now);
        let period = NANOS / u128::from(rate.get());
        self.even = self.even.max(now) + u128::from(amount) * period;
        let ahead = (self.even - now).saturating_sub(NANOS);
        Duration::from_nanos(u64::try_from(ahead).unwrap_or(u64::MAX))
    }

    /// Whether less than the rate was counted of late: nothing waits any more.
    pub(crate) fn is_idle(&self, now: Millis) -> bool {
        self.even <= nanos(now)
    }
}

const NANOS: u128 = 1_000_000_000;

fn nanos(at: Millis) -> u128 {
    u128::from(at.as_unix()) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Millis {
        Millis::from_unix(1_000_000 + millis)
    }

    #[test]
    fn a_second_may_come_at_once_and_no_more() {
        let (mut meter, rate) = (Meter::default(), NonZeroU32::new(10).expect("not 0"));
        for _ in 0..10 {
            assert_eq!(meter.count(1, rate, at(0)), Duration::ZERO);
        }
        assert_eq!(meter.count(1, rate, at(0)), Duration::from_millis(100));
        assert!(!meter.is_idle(at(1000)) && meter.is_idle(at(1100)));
        assert_eq!(meter.count(1, rate, at(100)), Duration::from_millis(100));
        // After a rest the allowance is what it was, and not more.
        assert_eq!(meter.count(10, rate, at(60_000)), Duration::ZERO);
        assert_eq!(meter.count(5, rate, at(60_000)), Duration::from_millis(500));
    }

    #[test]
    fn over_a_long_time_the_rate_is_held() {
        let (mut meter, rate) = (Meter::default(), NonZeroU32::new(1000).expect("not 0"));
        let (mut now, mut count) = (0, 0);
        while now < 60_000 {
            now += meter.count(7, rate, at(now)).as_millis() as u64 + 1;
            count += 7;
        }
        assert!((60_000..62_000).contains(&count), "{count}");
    }

    #[test]
    fn a_giant_amount_does_not_overflow() {
        let (mut meter, rate) = (Meter::default(), NonZeroU32::MIN);
        assert!(meter.count(u64::MAX, rate, at(0)) > Duration::from_secs(1 << 33));
        meter.count(u64::MAX, rate, at(0));
    }
}
