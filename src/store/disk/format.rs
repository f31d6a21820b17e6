//! Whether a directory is a store, of which format, and making one.
//!
//! `format` is written when all else is there. `creating` is there before anything else: so files without a format are
//! either those of a store that was not finished, or somebody else's.

use std::io;
use std::sync::Arc;

use super::StoreError;
use super::database::{Base, STATE, SUMS};
use super::files::Files;
use super::log::Log;
use super::segment;

pub(super) const FORMAT: &str = "format";
const CREATING: &str = "creating";
const NAME: &str = "mqtt-broker store ";
/// Goes up when a version before would misunderstand the files.
const VERSION: u32 = 1;

/// Makes a store where there is none; refuses what is something else.
pub(super) fn prepare(files: &Arc<dyn Files>, segment_len: usize) -> Result<(), StoreError> {
    if is_store(&**files)? {
        return Ok(());
    }
    let names = files.list().map_err(|error| unmade(&error))?;
    let ours: Vec<_> = names.into_iter().filter(|name| is_ours(name)).collect();
    if !ours.is_empty() && !ours.iter().any(|name| name == CREATING) {
        return Err(StoreError::Refused(format!(
            "the data directory has the file {} and no file {FORMAT}: it is not a store of this broker, or not a whole one",
            ours[0]
        )));
    }
    create(files, segment_len, &ours)
}

/// Whether the directory has a store of this format.
pub(super) fn is_store(files: &dyn Files) -> Result<bool, StoreError> {
    let text = read(files).map_err(|error| unmade(&error))?;
    if text.is_empty() {
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&text);
    let version = text
        .strip_prefix(NAME)
        .and_then(|rest| rest.trim_end().parse::<u32>().ok());
    match version {
        Some(VERSION) => Ok(true),
        Some(version) if version > VERSION => Err(StoreError::Refused(format!(
            "the data directory has the format {version}, of a newer version of the broker; this one reads {VERSION}. \
             Use that version, or export and import with it"
        ))),
        Some(version) => Err(StoreError::Refused(format!(
            "the data directory has the format {version}, of an older version of the broker; this one reads {VERSION}. \
             Export it with that version, and import it with this one"
        ))),
        None => Err(StoreError::Damaged(format!("the file {FORMAT} does not name a format"))),
    }
}

/// Has a store taken for one that was not finished.
#[cfg(feature = "cli")]
pub(super) fn unfinish(files: &dyn Files) -> Result<(), StoreError> {
    let marked = write(files, CREATING, "").and_then(|()| files.remove(FORMAT));
    marked.and_then(|()| files.sync()).map_err(|error| unmade(&error))
}

/// All is there.
pub(super) fn finish(files: &dyn Files) -> Result<(), StoreError> {
    let marked = write(files, FORMAT, &format!("{NAME}{VERSION}\n"));
    marked
        .and_then(|()| files.remove(CREATING))
        .map_err(|error| unmade(&error))
}

fn create(files: &Arc<dyn Files>, segment_len: usize, remains: &[String]) -> Result<(), StoreError> {
    let io = |result: io::Result<()>| result.map_err(|error| unmade(&error));
    io(write(&**files, CREATING, ""))?;
    for name in remains.iter().filter(|name| *name != CREATING) {
        io(files.remove(name))?;
    }
    io(files.sync())?;
    Base::create(&**files)?;
    Log::new(Arc::clone(files), segment_len, 0).begin()?;
    io(files.sync())?;
    finish(&**files)
}

fn write(files: &dyn Files, name: &str, text: &str) -> io::Result<()> {
    let blob = files.open(name)?;
    blob.write_at(0, text.as_bytes())?;
    blob.sync()?;
    files.sync()
}

/// Without what was not written: zeros.
fn read(files: &dyn Files) -> io::Result<Vec<u8>> {
    if !files.list()?.iter().any(|name| name == FORMAT) {
        return Ok(Vec::new());
    }
    let blob = files.open(FORMAT)?;
    let mut text = vec![0; usize::try_from(blob.len()?.min(64)).unwrap_or(64)];
    blob.read_at(0, &mut text)?;
    text.retain(|byte| *byte != 0);
    Ok(text)
}

fn is_ours(name: &str) -> bool {
    [STATE, SUMS, CREATING].contains(&name) || segment::sequence(name).is_some()
}

fn unmade(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the data directory can't be used: {error}"))
}
