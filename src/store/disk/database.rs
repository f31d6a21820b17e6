//! The database as a whole: opened, and opened again when it has failed.

use std::sync::Arc;

use parking_lot::RwLock;
use redb::Database;

use super::StoreError;
use super::checkpoint;
use super::fault::Fault;
use super::files::Files;
use super::overlay::Overlay;
use super::sums::Checked;
use super::tables::Snapshot;

pub(super) const STATE: &str = "state.redb";
pub(super) const SUMS: &str = "state.sums";
/// Memory that pages may take.
const CACHE: usize = 64 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Base {
    files: Arc<dyn Files>,
    /// `None`: it could not be opened again, or is closed.
    opened: RwLock<Option<Opened>>,
}

#[derive(Debug)]
struct Opened {
    database: Database,
    pages: Checked,
}

impl Base {
    /// Makes the files.
    pub(super) fn create(files: &dyn Files) -> Result<(), StoreError> {
        let opened = Opened::open(files)?;
        checkpoint::create(&opened.database)?;
        opened.close()
    }

    pub(super) fn open(files: Arc<dyn Files>) -> Result<Base, StoreError> {
        let opened = Opened::open(&*files)?;
        let opened = RwLock::new(Some(opened));
        Ok(Base { files, opened })
    }

    /// Reads what is in it at this moment.
    pub(super) fn read<T>(&self, read: impl FnOnce(Snapshot) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.with(|database| read(Snapshot::new(database)?))
    }

    /// Brings changes into it; whether something remains to be removed.
    pub(super) fn apply(&self, overlay: &Overlay) -> Result<bool, StoreError> {
        self.with(|database| checkpoint::apply(database, overlay))
    }

    /// Opens it again: after an error of a file it does nothing more.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut opened = self.opened.write();
        // Two must not be open at a time.
        *opened = None;
        *opened = Some(Opened::open(&*self.files)?);
        Ok(())
    }

    /// Reads and checks every page that is in use; `false` if the database had to repair itself.
    #[cfg(any(feature = "cli", test))]
    pub(super) fn check(&mut self) -> Result<bool, StoreError> {
        let Some(opened) = self.opened.get_mut() else {
            return Ok(true);
        };
        match opened.database.check_integrity() {
            Ok(is_well) => Ok(is_well),
            Err(error) => Err(error_of(&opened.pages, error.into())),
        }
    }

    pub(super) fn close(&self) -> Result<(), StoreError> {
        let opened = self.opened.write().take();
        opened.map_or(Ok(()), Opened::close)
    }

    /// Does something with it, unless it is not open.
    pub(super) fn with<T>(&self, run: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, StoreError> {
        let opened = self.opened.read();
        let Some(opened) = &*opened else {
            return Err(StoreError::Unavailable(format!("{STATE} is not open")));
        };
        run(&opened.database).map_err(|fault| opened.error(fault))
    }
}

impl Opened {
    fn open(files: &dyn Files) -> Result<Opened, StoreError> {
        let pages = Opened::pages(files).map_err(|error| StoreError::from(Fault::from(error)))?;
        let opened = Database::builder()
            .set_cache_size(CACHE)
            .create_with_backend(pages.clone());
        match opened {
            Ok(database) => Ok(Opened { database, pages }),
            Err(error) => Err(error_of(&pages, error.into())),
        }
    }

    fn pages(files: &dyn Files) -> std::io::Result<Checked> {
        let (data, sums) = (files.open(STATE)?, files.open(SUMS)?);
        // What is read now must not be lost later, though it may have been written by a process that ended before it
        // could sync.
        data.sync()?;
        sums.sync()?;
        files.sync()?;
        Checked::open(data, sums)
    }

    fn close(self) -> Result<(), StoreError> {
        let pages = self.pages;
        self.database.close().map_err(|error| error_of(&pages, error.into()))
    }

    fn error(&self, fault: Fault) -> StoreError {
        error_of(&self.pages, fault)
    }
}

/// Damage is the reason of whatever else has gone wrong.
fn error_of(pages: &Checked, fault: Fault) -> StoreError {
    match pages.damage() {
        Some(what) => StoreError::Damaged(what),
        None => fault.into(),
    }
}
