//! For tests of what waits for the store.

use parking_lot::Mutex;

use super::{Batch, Lane, MemoryStore, Page, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid};
use crate::message::Message;

/// A store that takes nothing until it is let.
#[derive(Debug, Default)]
pub(crate) struct Gated {
    memory: MemoryStore,
    /// Locked: it takes nothing.
    pub(crate) gate: Mutex<()>,
}

impl Store for Gated {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let _open = self.gate.lock();
        self.memory.commit(batch)
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        self.memory.last_batch()
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.memory.sessions(each)
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        self.memory.wills(each)
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.memory.retained(each)
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        self.memory.queue(uid, lane, from, most)
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
