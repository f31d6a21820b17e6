//! A store in a directory: a journal, and a database that follows it.
//!
//! ```text
//!   batch --> journal, one write and one sync --> kept
//!         \-> overlay: net effect of what is in the journal --- checkpoint --> database
//! ```
//!
//! Most messages are finished soon after they came, and then leave no trace in the overlay: the database gets those that
//! wait. A checkpoint brings the overlay into the database in one transaction, on a thread of its own; meanwhile commits go
//! on into the journal and another overlay. Segments of the journal that the database has caught up with are removed.
//!
//! Invariants:
//! * What is read is the database below the frozen overlay below the active one.
//! * The database says up to which batch it goes, and the journal has all batches behind that one: a gap is damage.
//! * An overlay is bounded: when it is full before the checkpoint of the frozen one is done, commits wait.
//! * Locks are taken in this order: checkpoint, journal, database, state.

#[cfg(any(feature = "cli", test))]
mod check;
mod checkpoint;
mod database;
mod fault;
mod files;
mod format;
mod lane;
mod log;
mod overlay;
mod read;
#[cfg(feature = "cli")]
mod remake;
mod segment;
mod shared;
#[cfg(any(feature = "cli", test))]
mod stats;
mod sums;
mod tables;
mod worker;

use std::fmt;
#[cfg(any(feature = "cli", test))]
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

#[cfg(any(feature = "cli", test))]
pub(crate) use self::check::{CheckReport, is_there};
use self::files::{Directory, Files};
#[cfg(feature = "cli")]
pub(crate) use self::remake::remake;
#[cfg(any(feature = "cli", test))]
pub(crate) use self::stats::StoreStats;
use self::worker::Shared;
use super::{
    Batch, DiskSettings, Durability, Lane, Page, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid,
};
use crate::message::Message;

/// See the module.
pub(crate) struct DiskStore {
    shared: Arc<Shared>,
    /// The thread of checkpoints.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Sizes and times.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// Bytes of a segment of the journal.
    segment: usize,
    /// Bytes of the journal after which there is a checkpoint.
    journal: u64,
    /// Memory of an overlay after which there is one.
    memory: usize,
    /// Time after a change after which there is one.
    idle: Duration,
    /// Whether there is a thread for them.
    has_thread: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            segment: 16 * 1024 * 1024,
            journal: 64 * 1024 * 1024,
            memory: 64 * 1024 * 1024,
            idle: Duration::from_secs(10),
            has_thread: true,
        }
    }
}

/// Opens the store in a directory, and makes it if it is not there.
///
/// # Errors
/// If it can't be used, another process has it, it has another format, or it is damaged.
pub(crate) fn open(settings: &DiskSettings) -> Result<DiskStore, StoreError> {
    let directory = Directory::open(&settings.dir, settings.durability)?;
    DiskStore::open(Arc::new(directory), Tuning::default())
}

impl DiskStore {
    fn open(files: Arc<dyn Files>, tuning: Tuning) -> Result<DiskStore, StoreError> {
        let shared = Arc::new(Shared::open(files, tuning)?);
        let thread = match tuning.has_thread {
            true => Some(Shared::start(&shared)?),
            false => None,
        };
        let thread = Mutex::new(thread);
        Ok(DiskStore { shared, thread })
    }

    /// Checks the store in a directory, which no process has open: every checksum, and whether its parts fit each other.
    ///
    /// # Errors
    /// If it can't be used, or is so damaged that it can't be opened.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn check(dir: &Path) -> Result<CheckReport, StoreError> {
        check::check(dir)
    }

    /// How much there is in the store in a directory, which no process has open.
    ///
    /// # Errors
    /// If it can't be used, or is damaged.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn stats(dir: &Path) -> Result<StoreStats, StoreError> {
        stats::stats(dir)
    }

    fn end_thread(&self) {
        self.shared.stop();
        if let Some(thread) = self.thread.lock().take() {
            // If it has panicked, that was said.
            let _ = thread.join();
        }
    }
}

impl Store for DiskStore {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.keep(batch)?;
        self.follow(batch);
        Ok(())
    }

    fn keep(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.shared.keep(batch)
    }

    fn follow(&self, batch: &Batch<'_>) {
        self.shared.follow(batch);
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        Ok(self.shared.last_batch())
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.shared.checkpoint()?;
        self.shared.base.read(|snapshot| read::sessions(&snapshot, each))
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        self.shared.checkpoint()?;
        self.shared.base.read(|snapshot| read::wills(&snapshot, each))
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.shared.checkpoint()?;
        self.shared.base.read(|snapshot| read::retained(&snapshot, each))
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        self.shared.queue(uid, lane, from, most)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.end_thread();
        let caught_up = self.shared.checkpoint();
        let closed = self.shared.base.close();
        self.shared.files.unlock();
        caught_up.and(closed)
    }
}

impl Drop for DiskStore {
    /// Leaves what is in the journal there: the next one reads it.
    fn drop(&mut self) {
        self.end_thread();
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore")
            .field("files", &self.shared.files)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod measure_tests;

#[cfg(test)]
mod power_tests;

#[cfg(test)]
mod testing;

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
