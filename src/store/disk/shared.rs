//! Messages that several places share: the database has each once, and how many places it has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{ReadableTable, Table};

use super::fault::Fault;
use super::lane::Body;
use super::tables::Bytes;

/// What a checkpoint notes of a message, with the message: so that a place is put with one look at it.
#[derive(Debug, Default)]
pub(super) struct Note {
    /// Its number in the database; 0 if it is not there, or no checkpoint is at work.
    number: AtomicU64,
    /// How many of its places this checkpoint has put into the database.
    places: AtomicU64,
}

/// How the counts of places change in a checkpoint, which is the only one at work.
pub(super) struct Shares<'a> {
    next_number: u64,
    /// Messages that this checkpoint has put into the database, in the order of their numbers.
    put: Vec<&'a Body>,
    /// How many places went of each that was there before.
    gone: HashMap<u64, u64, foldhash::fast::RandomState>,
}

/// Bytes that are stored once for all their queues rather than in each, if that saves so much.
const WORTH_SHARING: usize = 64;

impl<'a> Shares<'a> {
    pub(super) fn new(next_number: u64) -> Shares<'a> {
        Shares {
            next_number,
            put: Vec::new(),
            gone: HashMap::default(),
        }
    }

    /// The number that the next message gets.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// A place that has this message comes; the number of the message if its places share it. `places` has the message
    /// about so often.
    pub(super) fn share(
        &mut self,
        body: &'a Body,
        places: usize,
        bodies: &mut Table<'_, u64, Bytes>,
    ) -> Result<Option<u64>, Fault> {
        let note = &body.note;
        let number = note.number.load(Ordering::Relaxed);
        if number != 0 {
            note.places.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(number));
        }
        if places.saturating_sub(1) * body.bytes.len() < WORTH_SHARING {
            return Ok(None);
        }
        let number = self.next_number;
        self.next_number += 1;
        bodies.insert(number, &*body.bytes)?;
        note.number.store(number, Ordering::Relaxed);
        note.places.store(1, Ordering::Relaxed);
        self.put.push(body);
        Ok(Some(number))
    }

    /// A place went that had this message.
    pub(super) fn count_off(&mut self, number: u64) {
        *self.gone.entry(number).or_default() += 1;
    }

    /// Brings the counts into the database, and removes messages that no place has any more.
    pub(super) fn finish(
        mut self,
        bodies: &mut Table<'_, u64, Bytes>,
        references: &mut Table<'_, u64, u64>,
    ) -> Result<(), Fault> {
        for body in &self.put {
            let number = body.note.number.load(Ordering::Relaxed);
            references.insert(number, body.note.places.load(Ordering::Relaxed))?;
        }
        let mut gone: Vec<_> = self.gone.drain().collect();
        gone.sort_unstable();
        for (number, less) in gone {
            let count = references.get(number)?.map_or(0, |count| count.value());
            match count.checked_sub(less) {
                Some(0) => {
                    references.remove(number)?;
                    bodies.remove(number)?;
                }
                Some(count) => drop(references.insert(number, count)?),
                None => {
                    return Err(Fault::damaged(format!(
                        "message {number} is in more queues than was counted"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Shares<'_> {
    /// If the checkpoint has failed, the next one gives other numbers.
    fn drop(&mut self) {
        for body in &self.put {
            body.note.number.store(0, Ordering::Relaxed);
        }
    }
}
