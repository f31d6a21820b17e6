//! `broker store stats`: how much there is.

use serde_json::{Map, Value};

use super::totals::Totals;
use crate::store::{Store, StoreError, StoreStats};

/// See the module.
pub(super) struct Stats {
    totals: Totals,
    /// Bytes that the largest queue has, and whose it is.
    largest: Option<(u64, Box<str>)>,
    /// Of one on disk.
    files: Option<StoreStats>,
}

impl Stats {
    /// With what is known of its files.
    pub(super) fn of(store: &dyn Store, files: Option<StoreStats>) -> Result<Stats, StoreError> {
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
            files,
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
        let of_files = self.files.iter().flat_map(|files| {
            [
                ("database_bytes", files.database_bytes),
                ("journal_bytes", files.journal_bytes),
                ("journal_pending_bytes", files.pending_bytes),
            ]
        });
        let largest = [("largest_queue_bytes", largest)];
        self.totals.named().into_iter().chain(largest).chain(of_files)
    }
}
