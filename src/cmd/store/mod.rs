//! `broker store`: looking into a store that no broker has open, and moving what is in it to another one.

mod check;
mod export;
mod fields;
mod import;
mod line;
mod ops;
mod stats;
mod totals;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use self::totals::Totals;
use crate::store::{self, DiskStore, Lane, Page, Persistence, Store, StoreError, StoredDelivery, Uid};

/// What a look into a store has come to.
pub(crate) enum Checked {
    /// With what is in it.
    Clean(String),
    /// With each fault.
    Damaged(Vec<String>),
}

/// Reads everything in the store. The error says why that can't be done.
pub(crate) fn check(at: &Persistence) -> Result<Checked, String> {
    if matches!(at, Persistence::Redis(_)) {
        return doctor(at).map(|(checked, _)| checked);
    }
    let checked = match at {
        Persistence::Disk(settings) => DiskStore::check(&settings.dir).map(|report| report.faults),
        _ => Ok(Vec::new()),
    };
    let checked = checked.and_then(|faults| match faults.is_empty() {
        true => open(at).map(|store| (check::check(&*store), store.close())),
        false => Ok((Checked::Damaged(faults), Ok(()))),
    });
    match checked {
        Ok((checked, closed)) => closed.map_err(text).map(|()| checked),
        Err(StoreError::Damaged(fault)) => Ok(Checked::Damaged(vec![fault])),
        Err(error) => Err(error.to_string()),
    }
}

/// Looks whether all that is in Redis belongs together, and what there is; also while a broker runs.
pub(crate) fn doctor(at: &Persistence) -> Result<(Checked, String), String> {
    let Persistence::Redis(settings) = at else {
        return Err("the doctor is for a store in Redis: --redis URL; for one on disk there is check".to_owned());
    };
    let report = match store::doctor(settings) {
        Err(StoreError::Damaged(fault)) => return Ok((Checked::Damaged(vec![fault.clone()]), fault)),
        report => report.map_err(text)?,
    };
    let text = report.to_string();
    let (sessions, messages, retained) = (report.sessions, report.messages, report.retained);
    let found = format!("{sessions} sessions, {messages} messages, {retained} retained messages");
    let checked = match report.faults.is_empty() {
        true => Checked::Clean(found),
        false => Checked::Damaged(report.faults.into_iter().collect()),
    };
    Ok((checked, text))
}

/// Says how much there is in the store.
pub(crate) fn stats(at: &Persistence, json: bool) -> Result<(), String> {
    // It takes the store for itself.
    let files = match at {
        Persistence::Disk(settings) => Some(DiskStore::stats(&settings.dir).map_err(text)?),
        _ => None,
    };
    let store = open(at).map_err(text)?;
    let stats = stats::Stats::of(&*store, files).map_err(text)?;
    close(&*store)?;
    let printed = match json {
        true => stats.to_json(),
        false => stats.to_table(),
    };
    print(printed.as_bytes())
}

/// Writes everything in the store to a new file, or to standard output.
pub(crate) fn export(at: &Persistence, to: Option<&Path>) -> Result<(), String> {
    let store = open(at).map_err(text)?;
    store.look_whether_it_rests().map_err(text)?;
    let totals = match to {
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let written = export::write(&*store, &mut out);
            written.and_then(|totals| {
                out.flush()
                    .map(|()| totals)
                    .map_err(|error| format!("can't write: {error}"))
            })
        }
        Some(path) => export_to(&*store, path),
    };
    close(&*store)?;
    eprintln!("exported {}", totals?);
    Ok(())
}

/// Puts what has been exported into the store.
pub(crate) fn import(file: &Path, at: &Persistence, replace: bool) -> Result<(), String> {
    let announced = import::check(file)?;
    if !replace {
        refuse_to_mix(at)?;
    }
    let totals = match at {
        Persistence::Disk(settings) => store::remake(settings, |store| import::fill(file, &announced, store)),
        #[cfg(feature = "redis")]
        Persistence::Redis(settings) => store::load_shared(settings, |store| import::fill(file, &announced, store)),
        _ => Err(text(in_memory())),
    };
    eprintln!("imported {}", totals?);
    Ok(())
}

/// What is in a store is not mixed with anything.
fn refuse_to_mix(at: &Persistence) -> Result<(), String> {
    if !is_there(at).map_err(text)? {
        return Ok(());
    }
    let store = open(at).map_err(text)?;
    let totals = store.look_whether_it_rests().and_then(|()| Totals::of(&*store));
    close(&*store)?;
    match totals.map_err(text)? {
        totals if totals.is_empty() => Ok(()),
        totals => Err(format!(
            "the store is not empty: it has {totals}. --replace removes that first"
        )),
    }
}

/// Whether there is a store, empty or not.
fn is_there(at: &Persistence) -> Result<bool, StoreError> {
    match at {
        Persistence::Disk(settings) => Ok(store::is_there(&settings.dir)),
        #[cfg(feature = "redis")]
        Persistence::Redis(settings) => store::is_shared_there(settings),
        _ => Ok(true),
    }
}

/// A new file, for its owner alone: it has the messages of all. What can't be finished is not left behind.
fn export_to(store: &dyn Store, path: &Path) -> Result<Totals, String> {
    let error = |fault: io::Error| format!("{}: {fault}", path.display());
    let mut file = OpenOptions::new();
    let file = file
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(error)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = export::write(store, &mut out)
        .and_then(|totals| finish(out).map(|()| totals).map_err(error))
        .map_err(|reason| format!("{}: {reason}", path.display()));
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn finish(out: BufWriter<File>) -> io::Result<()> {
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// A store that is there already: looking for one makes none, and a broker that has one open in Redis goes on.
fn open(at: &Persistence) -> Result<Arc<dyn Store>, StoreError> {
    if let Persistence::Disk(settings) = at
        && !store::is_there(&settings.dir)
    {
        let dir = settings.dir.display();
        return Err(StoreError::Refused(format!(
            "{dir} is not the data directory of a broker"
        )));
    }
    store::open_to_read(at)?.ok_or_else(in_memory)
}

fn in_memory() -> StoreError {
    StoreError::Refused("the store is in memory: name a directory, or --redis URL".to_owned())
}

fn close(store: &dyn Store) -> Result<(), String> {
    store.close().map_err(text)
}

fn text(error: StoreError) -> String {
    error.to_string()
}

fn print(text: &[u8]) -> Result<(), String> {
    let written = io::stdout().write_all(text);
    written.map_err(|error| format!("can't write to standard output: {error}"))
}

/// How much of a queue is read at a time.
const PAGE: Page = Page {
    messages: 1024,
    bytes: 1024 * 1024,
};

/// Reads a queue page by page.
fn each_delivery(
    store: &dyn Store,
    uid: Uid,
    lane: Lane,
    each: &mut dyn FnMut(StoredDelivery),
) -> Result<(), StoreError> {
    let mut from = 0;
    loop {
        let page = store.queue(uid, lane, from, PAGE)?;
        if page.is_empty() {
            return Ok(());
        }
        for delivery in page {
            let index = delivery.index;
            if index < from || index == u64::MAX {
                return Err(StoreError::Damaged(format!(
                    "the queue of session {uid} has the place {index} in disorder"
                )));
            }
            from = index + 1;
            each(delivery);
        }
    }
}

#[cfg(test)]
mod tests;
