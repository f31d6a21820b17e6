//! Absolute time in milliseconds, for everything that is due at some point: expiry, Will Delay, time-outs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch. Absolute, so that it means the same in another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(u64);

impl Millis {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix(millis: u64) -> Millis {
        Millis(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix(self) -> u64 {
        self.0
    }

    /// The moment `seconds` later.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u32) -> Millis {
        Millis(self.0.saturating_add(seconds as u64 * 1000))
    }

    /// The moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Millis {
        Millis(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// Time from `earlier` until this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The broker's clock: set by the system's at the start and monotonic from then on, so that a step of the system's
/// clock neither expires sessions nor keeps them. It is tokio's, as that of every time-out is: where tests pause or
/// advance that one, sessions and messages expire with it. Without tokio's `test-util` it reads the system's directly.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_unix: u64,
}

impl Clock {
    /// A clock that shows this time, which was right at that moment.
    pub(crate) fn set((time, at): (Millis, std::time::Instant)) -> Clock {
        Clock {
            started: Instant::now(),
            started_unix: time.plus(at.elapsed()).as_unix(),
        }
    }

    pub(crate) fn start() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock {
            started: Instant::now(),
            started_unix: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX / 2),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        Millis(self.started_unix).plus(self.started.elapsed())
    }

    /// The instant of tokio's clock at which `at` is reached.
    pub(crate) fn instant(&self, at: Millis) -> Instant {
        let offset = at.since(Millis(self.started_unix));
        self.started
            .checked_add(offset)
            .unwrap_or_else(|| self.started + FAR_AWAY)
    }

    pub(crate) fn started(&self) -> Millis {
        Millis(self.started_unix)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

const FAR_AWAY: Duration = Duration::from_secs(86_400 * 365 * 30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_and_moves_with_tokios() {
        let clock = Clock::start();
        let started = clock.now();
        assert_eq!(clock.instant(started), Instant::now());
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(clock.now(), started.plus_seconds(86_400));
        assert_eq!(clock.instant(clock.now()), Instant::now());
    }
}
