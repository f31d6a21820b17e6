//! `broker store export`: all of a store as lines of JSON.

use std::io::{self, Write};

use super::each_delivery;
use super::line::Line;
use super::totals::Totals;
use crate::store::{Lane, Store, StoreError};

/// Writes everything, and says how much that was.
pub(super) fn write(store: &dyn Store, out: &mut dyn Write) -> Result<Totals, String> {
    let mut writer = Writer {
        out,
        totals: Totals::default(),
        failed: None,
    };
    writer.all(store).map_err(|error| error.to_string())?;
    match writer.failed {
        None => Ok(writer.totals),
        Some(error) => Err(format!("can't write: {error}")),
    }
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    totals: Totals,
    /// The first error, after which nothing is written.
    failed: Option<io::Error>,
}

impl Writer<'_> {
    fn all(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        self.put(&Line::Begin);
        let mut queues = Vec::new();
        // No queue is read meanwhile: the store may be in the middle of its own reading.
        store.sessions(&mut |session| {
            let lanes = [(Lane::Live, session.live), (Lane::Replayed, session.replayed)];
            let uid = session.uid;
            queues.extend(
                lanes
                    .into_iter()
                    .filter(|(_, extent)| extent.count > 0)
                    .map(|(lane, _)| (uid, lane)),
            );
            self.put(&Line::Session(session));
        })?;
        for (uid, lane) in queues {
            each_delivery(store, uid, lane, &mut |delivery| {
                self.put(&Line::Delivery(uid, lane, delivery))
            })?;
            if self.failed.is_some() {
                return Ok(());
            }
        }
        store.wills(&mut |will| self.put(&Line::Will(will)))?;
        store.retained(&mut |message| self.put(&Line::Retained(message)))?;
        self.put(&Line::End(self.totals));
        Ok(())
    }

    fn put(&mut self, line: &Line) {
        if self.failed.is_none() {
            self.totals.add(line);
            self.failed = self.out.write_all(line.to_text().as_bytes()).err();
        }
    }
}
