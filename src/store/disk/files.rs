//! The files of a store, and nothing else of the system: so that a test can put another directory in their place, one
//! that loses power.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Durability, StoreError};

/// A directory of files.
pub(super) trait Files: Send + Sync + fmt::Debug {
    /// Opens a file to read and write, and makes it if it is not there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>>;

    fn list(&self) -> io::Result<Vec<String>>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Has made and removed files survive a power cut.
    fn sync(&self) -> io::Result<()>;

    /// Whether [`Blob::sync`] does anything.
    fn syncs(&self) -> bool;

    /// Lets other processes have the directory.
    fn unlock(&self);
}

/// The bytes of a file.
pub(super) trait Blob: Send + Sync + fmt::Debug {
    fn len(&self) -> io::Result<u64>;

    /// Fills the buffer. An error, if the file ends before that.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Has what was written survive a power cut. After an error nobody knows what of it does.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the system, that this process alone has open.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    syncs: bool,
    lock: Mutex<Option<File>>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    syncs: bool,
}

const LOCK: &str = "lock";

impl Directory {
    /// Makes it, if it is not there, and locks it.
    pub(super) fn open(path: &Path, durability: Durability) -> Result<Directory, StoreError> {
        make(path).map_err(|error| refused(path, "can't be made", &error))?;
        Directory::lock(path, durability)
    }

    /// Locks it, if it is there.
    pub(super) fn lock(path: &Path, durability: Durability) -> Result<Directory, StoreError> {
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(refuse(path, "is not a directory")),
            Ok(_) => {}
            Err(error) => return Err(refused(path, "can't be used", &error)),
        }
        let lock = options()
            .open(path.join(LOCK))
            .map_err(|error| refused(path, "can't be written to", &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refuse(
                    path,
                    "is in use by another process: a data directory belongs to one broker",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(refused(path, "can't be locked", &error)),
        }
        Ok(Directory {
            path: path.to_owned(),
            syncs: durability == Durability::Fsync,
            lock: Mutex::new(Some(lock)),
        })
    }
}

/// Makes the directory, and has that survive a power cut.
fn make(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn refuse(path: &Path, why: &str) -> StoreError {
    StoreError::Refused(format!("{} {why}", path.display()))
}

fn refused(path: &Path, why: &str, error: &io::Error) -> StoreError {
    StoreError::Refused(format!("{} {why}: {error}", path.display()))
}

impl Files for Directory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        let file = options().open(self.path.join(name))?;
        Ok(Arc::new(OpenFile {
            file,
            syncs: self.syncs,
        }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // What is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.syncs {
            true => File::open(&self.path)?.sync_all(),
            false => Ok(()),
        }
    }

    fn syncs(&self) -> bool {
        self.syncs
    }

    fn unlock(&self) {
        *self.lock.lock() = None;
    }
}

impl Blob for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        match self.syncs {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }
}
