//! The journal: batches one behind the other, in segments. A segment goes when the database has all that is in it.
//!
//! A segment in which anything has failed is not written to again: the batch goes to a new one, which says behind which
//! batch it begins. So a frame that is torn at the end of a segment is no gap, if another segment goes on there.

use std::io;
use std::sync::Arc;

use super::StoreError;
use super::files::{Blob, Files};
use super::segment::{self, Frame, HEAD, Head, Segment, Tail, frame_len};
use crate::store::Batch;

/// Appends to the journal.
#[derive(Debug)]
pub(super) struct Log {
    files: Arc<dyn Files>,
    segment_len: usize,
    /// The last batch.
    last: u64,
    next_sequence: u64,
    current: Option<Current>,
    spare: Option<Spare>,
    older: Vec<Older>,
    buffer: Vec<u8>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Current {
    head: Head,
    blob: Arc<dyn Blob>,
    offset: usize,
    len: usize,
}

/// A segment that nothing was written to.
#[derive(Debug)]
pub(super) struct Spare {
    sequence: u64,
    blob: Arc<dyn Blob>,
    len: usize,
}

/// A segment that is not written to any more, and the last batch that may be in it.
#[derive(Clone, Debug)]
struct Older {
    name: String,
    last: u64,
}

/// What an empty buffer may keep allocated.
const SMALL: usize = 1024 * 1024;

impl Log {
    /// Calls with each batch behind `last`, in order, and gives what will be written behind them.
    pub(super) fn recover(
        files: Arc<dyn Files>,
        segment_len: usize,
        last: u64,
        mut each: impl FnMut(&Batch<'_>) -> Result<(), StoreError>,
    ) -> Result<Log, StoreError> {
        let mut log = Log::new(files, segment_len, last);
        let segments = Segments::find(&*log.files)?;
        log.next_sequence = segments.next_sequence();
        segments.read(&*log.files, last, &mut |read| {
            if let Read::Batch(batch) = read {
                log.last = batch.number;
                return each(&batch);
            }
            Ok(())
        })?;
        let last = log.last;
        log.older = segments.names().map(|name| Older { name, last }).collect();
        Ok(log)
    }

    /// A journal without a segment.
    pub(super) fn new(files: Arc<dyn Files>, segment_len: usize, last: u64) -> Log {
        Log {
            files,
            segment_len,
            last,
            next_sequence: 1,
            current: None,
            spare: None,
            older: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Keeps a batch. If that fails, the same is to be tried again.
    pub(super) fn append(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let len = frame_len(batch.bytes.len());
        if u32::try_from(len).is_err() {
            return Err(StoreError::Refused(format!("a batch of {len} bytes is too long")));
        }
        let appended = self.segment_for(len).and_then(|()| self.write(batch));
        if let Err(error) = appended {
            self.leave(batch.number);
            return Err(unavailable(&error));
        }
        self.last = batch.number;
        Ok(())
    }

    /// Begins a segment, if there is none: so that there is one that says how far the journal has come.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        self.segment_for(0)
            .and_then(|()| self.write_head())
            .map_err(|error| unavailable(&error))
    }

    /// Makes a segment ahead of need; to be put into place with [`Log::put_spare`].
    pub(super) fn spare_maker(&mut self) -> Option<impl FnOnce() -> io::Result<Spare> + use<>> {
        if self.has_spare() {
            return None;
        }
        let (files, sequence, len) = (Arc::clone(&self.files), self.take_sequence(), self.segment_len);
        Some(move || segment::make(&*files, sequence, len).map(|blob| Spare { sequence, blob, len }))
    }

    /// Whether there is no need to make one.
    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_some() || !self.files.syncs()
    }

    pub(super) fn put_spare(&mut self, spare: Spare) {
        self.spare = Some(spare);
    }

    /// Files of which nothing is needed that is behind this batch. They are forgotten here.
    pub(super) fn take_covered(&mut self, last: u64) -> Vec<String> {
        let covered = self.older.extract_if(.., |older| older.last <= last);
        covered.map(|older| older.name).collect()
    }

    fn take_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// Has a current segment with so much room.
    fn segment_for(&mut self, len: usize) -> io::Result<()> {
        let current = self.current.as_ref();
        if current.is_some_and(|current| current.offset + len <= current.len) {
            return Ok(());
        }
        self.leave(self.last);
        let len = self.segment_len.max(HEAD + len);
        let spare = match self.spare.take_if(|spare| spare.len >= len) {
            Some(spare) => spare,
            None => {
                let sequence = self.take_sequence();
                let blob = segment::make(&*self.files, sequence, len)?;
                Spare { sequence, blob, len }
            }
        };
        self.current = Some(Current {
            head: Head::new(spare.sequence, self.last),
            blob: spare.blob,
            offset: 0,
            len: spare.len,
        });
        Ok(())
    }

    /// Goes on in another segment.
    fn leave(&mut self, last: u64) {
        if let Some(current) = self.current.take() {
            let name = segment::name(current.head.sequence);
            self.older.push(Older { name, last });
        }
    }

    fn write(&mut self, batch: &Batch<'_>) -> io::Result<()> {
        let frame = Frame {
            number: batch.number,
            previous: self.last,
            body: batch.bytes,
        };
        self.write_out(Some(&frame))
    }

    fn write_head(&mut self) -> io::Result<()> {
        self.write_out(None)
    }

    fn write_out(&mut self, frame: Option<&Frame<'_>>) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        self.buffer.clear();
        if current.offset == 0 {
            current.head.write(&mut self.buffer);
        }
        if let Some(frame) = frame {
            current.head.write_frame(frame, &mut self.buffer);
        }
        current.blob.write_at(current.offset as u64, &self.buffer)?;
        current.blob.sync()?;
        current.offset += self.buffer.len();
        self.buffer.clear();
        self.buffer.shrink_to(SMALL);
        Ok(())
    }
}

/// The segments of a directory, in their order.
#[derive(Debug)]
pub(super) struct Segments {
    written: Vec<(String, Head)>,
    /// Nothing was written to them.
    empty: Vec<String>,
}

/// What is found while segments are read.
#[derive(Debug)]
pub(super) enum Read<'a> {
    /// A batch that comes next.
    Batch(Batch<'a>),
    /// A batch that was known.
    Known,
}

impl Segments {
    pub(super) fn find(files: &dyn Files) -> Result<Segments, StoreError> {
        let names = files.list().map_err(|error| unavailable(&error))?;
        let mut found = Segments {
            written: Vec::new(),
            empty: Vec::new(),
        };
        for name in names.into_iter().filter(|name| segment::sequence(name).is_some()) {
            match segment::read_head(files, &name)? {
                Some(head) => found.written.push((name, head)),
                None => found.empty.push(name),
            }
        }
        found.written.sort_by_key(|(_, head)| (head.after, head.sequence));
        Ok(found)
    }

    /// Reads them from behind this batch on.
    pub(super) fn read(
        &self,
        files: &dyn Files,
        mut last: u64,
        each: &mut dyn FnMut(Read<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.written.is_empty() {
            return Err(StoreError::Damaged("there is no journal".to_owned()));
        }
        for (name, head) in &self.written {
            let gap = |next| StoreError::Damaged(format!("batches {} to {next} are not in the journal", last + 1));
            if head.after > last {
                return Err(gap(head.after));
            }
            let segment = Segment::read(files, name.clone(), *head)?;
            let (_, tail) = segment.frames(|frame| {
                if frame.number <= last {
                    return each(Read::Known);
                }
                if frame.previous > last {
                    return Err(StoreError::Damaged(format!(
                        "batches {} to {} are not in the journal",
                        last + 1,
                        frame.previous
                    )));
                }
                last = frame.number;
                each(Read::Batch(Batch {
                    number: frame.number,
                    bytes: frame.body,
                }))
            })?;
            if let Tail::Damaged(what) = tail {
                return Err(StoreError::Damaged(what));
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let written = self.written.iter().map(|(name, _)| name);
        written.chain(&self.empty).cloned()
    }

    fn next_sequence(&self) -> u64 {
        let last = self.names().filter_map(|name| segment::sequence(&name)).max();
        last.unwrap_or(0) + 1
    }
}

fn unavailable(error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("the journal: {error}"))
}
