//! `broker store stats`: how much there is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Map, Value};

use super::totals::Totals;
use crate::store::{Persistence, Store, StoreError};

/// See the module.
pub(super) struct Stats {
    totals: Totals,
    /// Bytes that the largest queue has, and whose it is.
    largest: Option<(u64, Box<str>)>,
    /// Bytes that the files take on disk.
    on_disk: Option<u64>,
}

impl Stats {
    pub(super) fn of(at: &Persistence, store: &dyn Store) -> Result<Stats, StoreError> {
        let mut largest = None;
        store.sessions(&mut |session| {
            let bytes = session.live.bytes + session.replayed.bytes;
            if bytes > largest.as_ref().map_or(0, |(most, _)| *most) {
                largest = Some((bytes, session.client_id));
            }
        })?;
        Ok(Stats {
            totals: Totals::of(store)?,
            largest,
            on_disk: match at {
                Persistence::Disk(settings) => Some(size(&settings.dir)),
                _ => None,
            },
        })
    }

    pub(super) fn to_json(&self) -> String {
        let mut object = Map::new();
        object.extend(
            self.numbers()
                .map(|(name, number)| (name.to_owned(), Value::from(number))),
        );
        let client = self.largest.as_ref().map(|(_, client)| Value::from(&**client));
        object.insert("largest_queue_client".to_owned(), client.unwrap_or_default());
        format!("{}\n", Value::Object(object))
    }

    pub(super) fn to_table(&self) -> String {
        let client = self
            .largest
            .as_ref()
            .map(|(_, client)| format!(" {client:?}"))
            .unwrap_or_default();
        let rows = self.numbers().map(|(name, number)| {
            let whose = if name == "largest_queue_bytes" { &*client } else { "" };
            format!("{:<22}{number:>14}{whose}\n", name.replace('_', " "))
        });
        rows.collect()
    }

    fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let largest = self.largest.as_ref().map_or(0, |(bytes, _)| *bytes);
        let others = [("largest_queue_bytes", Some(largest)), ("disk_bytes", self.on_disk)];
        let others = others.into_iter().filter_map(|(name, number)| Some((name, number?)));
        self.totals.named().into_iter().chain(others)
    }
}

/// What the files of the directory take.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let metadata = entries.filter_map(|entry| entry.metadata().ok());
    metadata
        .filter(fs::Metadata::is_file)
        .map(|file| file.blocks() * 512)
        .sum()
}
