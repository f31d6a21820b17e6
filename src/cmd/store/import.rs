//! `broker store import`: what an export has written, into a store that is empty.
//!
//! The file is read twice: once to see whether all of it is right, and once to put it into the store.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::line::Line;
use super::ops;
use super::totals::Totals;
use crate::store::{Batch, Lane, Store, StoreError, Uid};

/// Puts a file that [has been checked](check) into a store that is empty; how much there is then.
pub(super) fn fill(path: &Path, announced: &Totals, store: &dyn Store) -> Result<Totals, String> {
    let text = |error: StoreError| error.to_string();
    let mut filler = Filler::new(store).map_err(text)?;
    each_line(path, |line| filler.add(|to| ops::write(to, &line)).map_err(text))?;
    filler.commit().map_err(text)?;
    let totals = Totals::of(store).map_err(text)?;
    match totals == *announced {
        true => Ok(totals),
        false => Err(format!("the store has {totals} afterwards, and not {announced}")),
    }
}

/// Reads all lines, in order, with their numbers for what goes wrong.
fn each_line(path: &Path, mut each: impl FnMut(Line) -> Result<(), String>) -> Result<(), String> {
    let error = |reason: String| format!("{}: {reason}", path.display());
    let file = File::open(path).map_err(|fault| error(fault.to_string()))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(error("it is no file: it is read twice".to_owned()));
    }
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut text = String::new();
    for number in 1u64.. {
        text.clear();
        let read = reader.by_ref().take(LONGEST_LINE).read_line(&mut text);
        match read.map_err(|fault| error(format!("line {number}: {fault}")))? {
            0 => break,
            _ if !text.ends_with('\n') => {
                return Err(error(format!("line {number} does not end: the file is cut short")));
            }
            _ => {}
        }
        let done = Line::parse(&text).and_then(&mut each);
        done.map_err(|reason| error(format!("line {number}: {reason}")))?;
    }
    Ok(())
}

/// Bytes of the longest line: a packet of 256 MiB in base64, or a session with as many subscriptions, and more.
const LONGEST_LINE: u64 = 1 << 30;

/// Sees whether the file is whole and makes sense; how much there is in it.
pub(super) fn check(path: &Path) -> Result<Totals, String> {
    let mut checker = Checker::default();
    each_line(path, |line| checker.take(&line))?;
    match checker.announced {
        Some(totals) => Ok(totals),
        None => Err(format!(
            "{}: the last line is missing: the file is cut short",
            path.display()
        )),
    }
}

#[derive(Default)]
struct Checker {
    has_begun: bool,
    totals: Totals,
    /// Of the last line.
    announced: Option<Totals>,
    clients: HashSet<Box<str>>,
    /// What each session's queue is to have still, and the last place that it has had.
    queues: HashMap<(Uid, Lane), Queue>,
    wills: BTreeSet<Uid>,
    topics: HashSet<Box<str>>,
}

struct Queue {
    missing: u64,
    last: Option<u64>,
    next: u64,
}

impl Checker {
    fn take(&mut self, line: &Line) -> Result<(), String> {
        if self.announced.is_some() {
            return Err("nothing stands behind the end".to_owned());
        }
        if !self.has_begun && !matches!(line, Line::Begin) {
            return Err("this is no export of a store".to_owned());
        }
        self.totals.add(line);
        match line {
            Line::Begin if self.has_begun => Err("a second beginning".to_owned()),
            Line::Begin => {
                self.has_begun = true;
                Ok(())
            }
            Line::Session(session) => {
                if !self.clients.insert(session.client_id.clone()) {
                    return Err(format!("a second session of {:?}", session.client_id));
                }
                for (lane, extent) in [(Lane::Live, session.live), (Lane::Replayed, session.replayed)] {
                    let queue = Queue {
                        missing: extent.count,
                        last: None,
                        next: extent.next,
                    };
                    if self.queues.insert((session.uid, lane), queue).is_some() {
                        return Err(format!("a second session has the uid {}", session.uid));
                    }
                }
                Ok(())
            }
            Line::Delivery(uid, lane, delivery) => self.delivery(*uid, *lane, delivery.index),
            Line::Will(will) if !self.wills.insert(will.uid) => Err(format!("a second will has the uid {}", will.uid)),
            Line::Retained(message) if !self.topics.insert(message.topic().into()) => {
                Err(format!("a second retained message of {:?}", message.topic()))
            }
            Line::Will(_) | Line::Retained(_) => Ok(()),
            Line::End(totals) => self.end(totals),
        }
    }

    fn delivery(&mut self, uid: Uid, lane: Lane, index: u64) -> Result<(), String> {
        let queue = self.queues.get_mut(&(uid, lane));
        let queue = queue.ok_or_else(|| format!("no session with the uid {uid} stands before it"))?;
        if queue.last.is_some_and(|last| last >= index) || index >= queue.next {
            return Err(format!("the place {index} is not in order"));
        }
        queue.last = Some(index);
        queue.missing = queue
            .missing
            .checked_sub(1)
            .ok_or("the queue has more places than its session says")?;
        Ok(())
    }

    fn end(&mut self, totals: &Totals) -> Result<(), String> {
        if *totals != self.totals || self.queues.values().any(|queue| queue.missing > 0) {
            return Err(format!(
                "lines are missing: there are {}, and not {totals}",
                self.totals
            ));
        }
        self.announced = Some(*totals);
        Ok(())
    }
}

/// Changes that are put into a store batch by batch.
struct Filler<'a> {
    store: &'a dyn Store,
    number: u64,
    bytes: Vec<u8>,
}

/// Bytes from which a batch is committed.
const FULL: usize = 1024 * 1024;

impl<'a> Filler<'a> {
    fn new(store: &'a dyn Store) -> Result<Filler<'a>, StoreError> {
        Ok(Filler {
            store,
            number: store.last_batch()? + 1,
            bytes: Vec::new(),
        })
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), StoreError> {
        write(&mut self.bytes);
        match self.bytes.len() {
            0..FULL => Ok(()),
            _ => self.commit(),
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.store.commit(&Batch {
            number: self.number,
            bytes: &self.bytes,
        })?;
        self.number += 1;
        self.bytes.clear();
        Ok(())
    }
}
