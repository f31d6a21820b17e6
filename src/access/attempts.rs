//! Wrong passwords, by address: an address that has sent too many waits.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Origin;

/// Wrong passwords that an address may send at once.
const BURST: u32 = 20;
/// Time after which one is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);
/// Addresses that are remembered; beyond, those that nothing is left to remember of make room.
const MOST: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Attempts(HashMap<Origin, Failures>);

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Failures {
    /// How many of them have not been forgotten.
    fn remembered(&self, now: Instant) -> u32 {
        let forgotten = now.duration_since(self.since).as_secs() / FORGOTTEN_AFTER.as_secs();
        self.count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

impl Attempts {
    /// Whether the address may send a password now.
    pub(crate) fn may_try(&self, origin: Origin, now: Instant) -> bool {
        self.0
            .get(&origin)
            .is_none_or(|failures| failures.remembered(now) < BURST)
    }

    pub(crate) fn failed(&mut self, origin: Origin, now: Instant) {
        if self.0.len() >= MOST {
            self.0.retain(|_, failures| failures.remembered(now) > 0);
        }
        if self.0.len() >= MOST && !self.0.contains_key(&origin) {
            return;
        }
        let failures = self.0.entry(origin).or_insert(Failures { count: 0, since: now });
        *failures = Failures {
            count: failures.remembered(now) + 1,
            since: now,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_and_others_do_not() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let (bad, other) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        for _ in 0..BURST {
            assert!(attempts.may_try(bad, now));
            attempts.failed(bad, now);
        }
        assert!(!attempts.may_try(bad, now) && attempts.may_try(other, now) && attempts.may_try(None, now));
        let later = now + FORGOTTEN_AFTER;
        assert!(attempts.may_try(bad, later));
        attempts.failed(bad, later);
        assert!(!attempts.may_try(bad, later));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..2 * MOST as u32 {
            attempts.failed(Some(std::net::Ipv4Addr::from(number).into()), now);
        }
        assert_eq!(attempts.0.len(), MOST);
        let later = now + FORGOTTEN_AFTER * (BURST + 1);
        attempts.failed(Some([255, 0, 0, 1].into()), later);
        assert_eq!(attempts.0.len(), 1);
    }
}
