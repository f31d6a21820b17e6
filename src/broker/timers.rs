//! Everything that is due at a time, in one ordered map and one task: no timer per client.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::session::Outbox;
use crate::time::Millis;

/// What is due.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    /// The owner of the session wants to be woken: Keep Alive, write time-out.
    Alarm(Arc<Outbox>),
    /// An offline session may have expired, or its will may be due.
    Session(Arc<str>),
    /// Retained messages have expired.
    RetainedSweep,
}

/// Names a timer that has been set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(Millis, u64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    inner: Mutex<Inner>,
    /// Told when the earliest timer changes.
    pub(crate) earlier: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    due: BTreeMap<TimerKey, Due>,
    next: u64,
}

impl Timers {
    pub(crate) fn set(&self, at: Millis, due: Due) -> TimerKey {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let key = TimerKey(at, inner.next);
        inner.due.insert(key, due);
        let is_first = inner.due.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(inner);
        if is_first {
            self.earlier.notify_one();
        }
        key
    }

    pub(crate) fn cancel(&self, key: TimerKey) {
        self.inner.lock().due.remove(&key);
    }

    /// Takes one timer that is due.
    pub(crate) fn pop_due(&self, now: Millis) -> Option<Due> {
        let mut inner = self.inner.lock();
        let first = inner.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the earliest timer is due.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.inner.lock().due.first_key_value().map(|(key, _)| key.0)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().due.len()
    }
}

impl TimerKey {
    pub(crate) fn at(self) -> Millis {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_cancelled_ones_never() {
        let timers = Timers::default();
        let at = Millis::from_unix;
        let name = |name: &str| Due::Session(name.into());
        timers.set(at(30), name("c"));
        let b = timers.set(at(20), name("b"));
        timers.set(at(10), name("a"));
        timers.cancel(b);
        assert_eq!(timers.next_due(), Some(at(10)));
        let mut order = Vec::new();
        while let Some(Due::Session(name)) = timers.pop_due(at(30)) {
            order.push(name.to_string());
        }
        assert_eq!(order, ["a", "c"]);
        assert_eq!(timers.len(), 0);
        timers.set(at(31), name("d"));
        assert!(timers.pop_due(at(30)).is_none());
    }
}
