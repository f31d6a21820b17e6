//! The model itself as a subject.

use std::sync::Arc;

use super::Subject;
use crate::store::{MemoryStore, Store, StoreError};

/// What is in it is there for as long as somebody holds it.
pub(crate) struct Memory(Arc<MemoryStore>);

impl Subject for Memory {
    const IS_EXCLUSIVE: bool = false;

    fn new() -> Memory {
        Memory(Arc::default())
    }

    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Store>)
    }

    /// As much as it takes to write it down.
    fn size(&self) -> u64 {
        format!("{:?}", self.0).len() as u64
    }

    fn damage(&self, _seed: u64) -> bool {
        false
    }
}
