//! A store with faults, behind one who tries again: the contract must hold as it does without them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Subject;
use crate::message::Message;
use crate::store::faulty::{self, Faults};
use crate::store::{Batch, Lane, Page, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid};

/// A subject whose stores fail now and then.
pub(crate) struct Shaken<S: Subject> {
    subject: S,
    seed: AtomicU64,
}

impl<S: Subject> Subject for Shaken<S> {
    const IS_EXCLUSIVE: bool = S::IS_EXCLUSIVE;

    fn new() -> Shaken<S> {
        Shaken {
            subject: S::new(),
            seed: AtomicU64::default(),
        }
    }

    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        let faults = Faults {
            seed: self.seed.fetch_add(1, Ordering::Relaxed),
            rate: 5,
            longest_delay: 100,
        };
        let store = faulty::wrap(self.subject.open()?, faults);
        Ok(Arc::new(Patient(store)))
    }

    fn kill(&self, store: Arc<dyn Store>) {
        self.subject.kill(store);
    }

    fn size(&self) -> u64 {
        self.subject.size()
    }

    fn damage(&self, seed: u64) -> bool {
        self.subject.damage(seed)
    }
}

/// Tries again until what it does is not unavailable.
#[derive(Debug)]
struct Patient(Arc<dyn Store>);

fn until_available<T>(call: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    loop {
        match call() {
            Err(StoreError::Unavailable(_)) => {}
            done => return done,
        }
    }
}

impl Store for Patient {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        until_available(|| self.0.commit(batch))
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        self.0.last_batch()
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.0.sessions(each)
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        self.0.wills(each)
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.0.retained(each)
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        until_available(|| self.0.queue(uid, lane, from, most))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }
}
