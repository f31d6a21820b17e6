//! A store that fails now and then, for tests: the broker and its journal must make up for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Batch, Lane, Page, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid};
use crate::message::Message;

/// Which faults there are: `SEED` or `SEED:RATE`, one of so many calls having one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(super) seed: u64,
    pub(super) rate: u64,
    /// In microseconds.
    pub(super) longest_delay: u64,
}

const DEFAULT_RATE: u64 = 10;
const LONGEST_DELAY: u64 = 20_000;

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let (seed, rate) = text
            .split_once(':')
            .map_or((text, None), |(seed, rate)| (seed, Some(rate)));
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        let rate = rate.map_or(Ok(DEFAULT_RATE), number)?;
        if rate < 2 {
            return Err("a rate below 2 would let nothing succeed".to_owned());
        }
        Ok(Faults {
            seed: number(seed)?,
            rate,
            longest_delay: LONGEST_DELAY,
        })
    }
}

/// Has changes and reads of queues fail before or after they are done, or take long. What is read at the start is only
/// slow: a broker does not start without it.
pub(crate) fn wrap(store: Arc<dyn Store>, faults: Faults) -> Arc<dyn Store> {
    Arc::new(FaultyStore {
        inner: store,
        faults,
        // At 0 the generator would stay for ever.
        random: Mutex::new(faults.seed.wrapping_add(0x9E37_79B9_7F4A_7C15).max(1)),
    })
}

struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
    random: Mutex<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Before,
    After,
    Delay(Duration),
}

impl FaultyStore {
    /// What goes wrong this time.
    fn next(&self) -> Option<Fault> {
        let random = &mut *self.random.lock();
        (random_below(random, self.faults.rate) == 0).then(|| match random_below(random, 3) {
            0 => Fault::Before,
            1 => Fault::After,
            _ => Fault::Delay(Duration::from_micros(random_below(random, self.faults.longest_delay))),
        })
    }

    fn attempt<T>(&self, what: &str, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let failed = |when| Err(StoreError::Unavailable(format!("a fault for tests {when} {what}")));
        match self.next() {
            None => call(),
            Some(Fault::Before) => failed("before"),
            Some(Fault::After) => call().and_then(|_| failed("after")),
            Some(Fault::Delay(time)) => {
                std::thread::sleep(time);
                call()
            }
        }
    }

    fn delay(&self) {
        if let Some(Fault::Delay(time)) = self.next() {
            std::thread::sleep(time);
        }
    }
}

/// Steps a xorshift generator.
fn random_below(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) % bound
}

impl Store for FaultyStore {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.attempt("a commit", || self.inner.commit(batch))
    }

    fn keep(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.attempt("a commit", || self.inner.keep(batch))
    }

    fn follow(&self, batch: &Batch<'_>) {
        self.delay();
        self.inner.follow(batch);
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        self.delay();
        self.inner.last_batch()
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.delay();
        self.inner.sessions(each)
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        self.delay();
        self.inner.wills(each)
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.delay();
        self.inner.retained(each)
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        self.attempt("reading a queue", || self.inner.queue(uid, lane, from, most))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.delay();
        self.inner.close()
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyStore").field(&self.inner).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use crate::store::suite::{Memory, Shaken, changes, store_suite};

    store_suite!(Shaken<Memory>);

    fn faults(seed: u64, rate: u64) -> Faults {
        Faults {
            seed,
            rate,
            longest_delay: LONGEST_DELAY,
        }
    }

    fn faulty(seed: u64, rate: u64) -> (Arc<MemoryStore>, Arc<dyn Store>) {
        let inner = Arc::<MemoryStore>::default();
        let store = wrap(Arc::clone(&inner) as Arc<dyn Store>, faults(seed, rate));
        (inner, store)
    }

    /// Some fail without effect, some with it, and most are done.
    #[test]
    fn calls_fail_before_and_after_they_are_done() {
        let (inner, store) = faulty(1, 4);
        let changes = changes().session(1);
        let [mut done, mut before, mut after] = [0; 3];
        let mut number = 1;
        while number <= 400 {
            let batch = Batch {
                number,
                bytes: changes.bytes(),
            };
            let committed = store.commit(&batch);
            match (committed.is_ok(), inner.last_batch() == Ok(number)) {
                (true, true) => done += 1,
                (false, false) => before += 1,
                (false, true) => after += 1,
                (true, false) => panic!("done, but without effect"),
            }
            number = inner.last_batch().expect("readable") + 1;
        }
        assert!(before > 10 && after > 10 && done > 250, "{done} {before} {after}");
    }

    /// The same seed makes the same faults, another one others.
    #[test]
    fn faults_follow_from_the_seed() {
        let made = |seed| {
            let store = FaultyStore {
                inner: Arc::<MemoryStore>::default(),
                faults: faults(seed, 3),
                random: Mutex::new(seed),
            };
            (0..100).map(|_| store.next()).collect::<Vec<_>>()
        };
        assert_eq!(made(5), made(5));
        assert_ne!(made(5), made(6));
    }

    #[test]
    fn what_faults_there_are_is_read() {
        assert_eq!("7".parse(), Ok(faults(7, DEFAULT_RATE)));
        assert_eq!("7:2".parse(), Ok(faults(7, 2)));
        for wrong in ["", "x", "1:", "1:1", "1:0", ":3", "1:2:3", "-1"] {
            assert!(wrong.parse::<Faults>().is_err(), "{wrong}");
        }
    }
}
