//! How much there is in a store.

use std::path::Path;
use std::sync::Arc;

use redb::{ReadableTable, ReadableTableMetadata};

use super::check::open_directory;
use super::database::{STATE, SUMS};
use super::fault::Fault;
use super::files::Files;
use super::tables::{RETAINED, SESSIONS, SUBSCRIPTIONS, SessionRow, Snapshot, WILLS};
use super::worker::Shared;
use super::{StoreError, Tuning, format, segment};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreStats {
    pub(crate) last_batch: u64,
    pub(crate) sessions: u64,
    pub(crate) subscriptions: u64,
    /// Messages in queues: one in several queues counts in each.
    pub(crate) messages: u64,
    /// Bytes of their topics, properties and payloads.
    pub(crate) message_bytes: u64,
    pub(crate) retained: u64,
    pub(crate) wills: u64,
    /// Size of the files of the database.
    pub(crate) database_bytes: u64,
    /// Size of the files of the journal.
    pub(crate) journal_bytes: u64,
    /// Bytes of the journal that the database did not have.
    pub(crate) pending_bytes: u64,
}

/// Of the store in a directory, which no process has open. The database catches up with the journal.
///
/// # Errors
/// If it can't be used, or is damaged.
pub(super) fn stats(dir: &Path) -> Result<StoreStats, StoreError> {
    let files = open_directory(dir)?;
    // Opening makes one where there is none.
    if !format::is_store(&*files)? {
        return Err(StoreError::Refused(format!(
            "{} is not the data directory of a broker",
            dir.display()
        )));
    }
    let tuning = Tuning {
        has_thread: false,
        ..Tuning::default()
    };
    let mut stats = StoreStats {
        journal_bytes: size(&*files, |name| segment::sequence(name).is_some())?,
        ..StoreStats::default()
    };
    let shared = Shared::open(Arc::clone(&files), tuning)?;
    stats.pending_bytes = shared.replayed;
    stats.last_batch = shared.last_batch();
    shared.base.read(|snapshot| stats.read(&snapshot))?;
    shared.base.close()?;
    stats.database_bytes = size(&*files, |name| [STATE, SUMS].contains(&name))?;
    Ok(stats)
}

impl StoreStats {
    fn read(&mut self, snapshot: &Snapshot) -> Result<(), Fault> {
        for row in snapshot.open(SESSIONS)?.iter()? {
            let (_, row) = row?;
            self.sessions += 1;
            for lane in SessionRow::read(row.value())?.lanes {
                self.messages += lane.count;
                self.message_bytes += lane.bytes;
            }
        }
        self.subscriptions = snapshot.open(SUBSCRIPTIONS)?.len()?;
        self.retained = snapshot.open(RETAINED)?.len()?;
        self.wills = snapshot.open(WILLS)?.len()?;
        Ok(())
    }
}

fn size(files: &dyn Files, counts: impl Fn(&str) -> bool) -> Result<u64, StoreError> {
    let sum = || {
        let names = files.list()?.into_iter().filter(|name| counts(name));
        names.map(|name| files.open(&name)?.len()).sum::<std::io::Result<u64>>()
    };
    sum().map_err(|error| Fault::from(error).into())
}
