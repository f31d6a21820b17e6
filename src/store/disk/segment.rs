//! A segment of the journal: a file of frames, each with a batch.
//!
//! ```text
//!   head:  magic 8 | version 4 | sequence 8 | salt 8 | after 8 | checksum 4 | end 1
//!   frame: magic 4 | length 4 | number 8 | previous 8 | checksum of the body 4 | checksum of this 4 | body | end 1
//! ```
//!
//! Behind the last frame there is nothing, or zeros. The salt is part of each checksum: what a client sends can't look
//! like a frame. A power cut leaves sectors of the last frame as they were, zeros; `kill -9` leaves a first part of it.
//! A frame all parts of which are there, and that is not what its checksum says, was damaged.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use super::StoreError;
use super::files::{Blob, Files};
use crate::wire::{Malformed, Reader};

const MAGIC: &[u8; 8] = b"MQBJRNL1";
pub(super) const VERSION: u32 = 1;
pub(super) const HEAD: usize = 41;
const FRAME: u32 = 0xf7a3_e1b5;
pub(super) const FRAME_HEAD: usize = 32;
const END: u8 = 0xe5;
/// What a power cut leaves whole.
const SECTOR: usize = 512;

/// What is at the front of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: u64,
    salt: u64,
    /// The last batch before it.
    pub(super) after: u64,
}

/// A segment that was read.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) head: Head,
    bytes: Vec<u8>,
}

/// A batch in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    pub(super) previous: u64,
    pub(super) body: &'a [u8],
}

/// What is behind the last frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    Clean,
    /// A frame that was not written to its end.
    Torn,
    /// Bytes that were written to their end, and are something else now.
    Damaged(String),
}

impl Head {
    pub(super) fn new(sequence: u64, after: u64) -> Head {
        let salt = RandomState::new().hash_one((sequence, after));
        Head { sequence, salt, after }
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(MAGIC);
        to.extend_from_slice(&VERSION.to_be_bytes());
        to.extend_from_slice(&self.sequence.to_be_bytes());
        to.extend_from_slice(&self.salt.to_be_bytes());
        to.extend_from_slice(&self.after.to_be_bytes());
        let sum = crc32fast::hash(&to[start..]);
        to.extend_from_slice(&sum.to_be_bytes());
        to.push(END);
    }

    /// Appends a frame.
    pub(super) fn write_frame(&self, frame: &Frame<'_>, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend_from_slice(&FRAME.to_be_bytes());
        to.extend_from_slice(&(frame.body.len() as u32).to_be_bytes());
        to.extend_from_slice(&frame.number.to_be_bytes());
        to.extend_from_slice(&frame.previous.to_be_bytes());
        to.extend_from_slice(&self.sum(frame.body).to_be_bytes());
        let sum = self.sum(&to[start..]);
        to.extend_from_slice(&sum.to_be_bytes());
        to.extend_from_slice(frame.body);
        to.push(END);
    }

    fn sum(&self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.salt.to_be_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }

    fn read(from: &mut Reader<'_>) -> Result<Option<Head>, Malformed> {
        let all = from.rest();
        let magic = from.bytes(MAGIC.len())?;
        let version = from.u32()?;
        let head = Head {
            sequence: from.u64()?,
            salt: from.u64()?,
            after: from.u64()?,
        };
        let covered = all.len() - from.rest().len();
        let is_right = from.u32()? == crc32fast::hash(&all[..covered]) && from.u8()? == END;
        Ok((is_right && magic == MAGIC && version == VERSION).then_some(head))
    }
}

/// The file of a segment.
pub(super) fn name(sequence: u64) -> String {
    format!("journal-{sequence:016x}")
}

/// The segment that a file is.
pub(super) fn sequence(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("journal-")?;
    u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
}

/// The bytes that a frame with this body takes.
pub(super) const fn frame_len(body: usize) -> usize {
    FRAME_HEAD + body + 1
}

/// Makes a file for a segment, of zeros: so that writing to it changes nothing but its bytes, which is faster to sync.
pub(super) fn make(files: &dyn Files, sequence: u64, len: usize) -> io::Result<Arc<dyn Blob>> {
    let name = name(sequence);
    let made = fill(files, &name, len);
    if made.is_err() {
        // It takes room that is scarce.
        let _ = files.remove(&name);
    }
    made
}

fn fill(files: &dyn Files, name: &str, len: usize) -> io::Result<Arc<dyn Blob>> {
    let blob = files.open(name)?;
    blob.set_len(0)?;
    if files.syncs() {
        let zeros = vec![0; len.min(1024 * 1024)];
        let mut offset = 0;
        while offset < len {
            let part = zeros.len().min(len - offset);
            blob.write_at(offset as u64, &zeros[..part])?;
            offset += part;
        }
        blob.sync()?;
    }
    files.sync()?;
    Ok(blob)
}

/// Where a segment is in the journal, without reading it; `None` if nothing was written to it.
pub(super) fn read_head(files: &dyn Files, name: &str) -> Result<Option<Head>, StoreError> {
    let blob = files.open(name).map_err(|error| unreadable(name, &error))?;
    let len = blob.len().map_err(|error| unreadable(name, &error))?;
    let mut bytes = vec![0; HEAD.min(usize::try_from(len).unwrap_or(HEAD))];
    blob.read_at(0, &mut bytes).map_err(|error| unreadable(name, &error))?;
    // It is one write with the first frame, which may not have come to its end.
    let is_whole = bytes.get(HEAD - 1).is_some_and(|end| *end != 0);
    if !is_whole && !is_longer(&*blob, HEAD).map_err(|error| unreadable(name, &error))? || is_zero(&bytes) {
        return Ok(None);
    }
    match Head::read(&mut Reader::new(&bytes)) {
        Ok(Some(head)) if sequence(name) == Some(head.sequence) => Ok(Some(head)),
        Ok(Some(_)) => Err(StoreError::Damaged(format!("{name} was a file of another name"))),
        _ => Err(StoreError::Damaged(format!("the head of {name}"))),
    }
}

impl Segment {
    pub(super) fn read(files: &dyn Files, name: String, head: Head) -> Result<Segment, StoreError> {
        let bytes = read_all(files, &name).map_err(|error| unreadable(&name, &error))?;
        Ok(Segment { name, head, bytes })
    }

    /// Calls with each frame, in order; where they end, and how.
    pub(super) fn frames(
        &self,
        mut each: impl FnMut(Frame<'_>) -> Result<(), StoreError>,
    ) -> Result<(usize, Tail), StoreError> {
        let mut offset = HEAD;
        while let Some((frame, len)) = self.head.frame(&self.bytes[offset..]) {
            each(frame)?;
            offset += len;
        }
        Ok((offset, self.tail(offset)))
    }

    fn tail(&self, offset: usize) -> Tail {
        let rest = &self.bytes[offset..];
        if is_zero(rest) {
            return Tail::Clean;
        }
        let at = |what: &str| Tail::Damaged(format!("{what} of {}, at byte {offset}", self.name));
        if self.head.is_behind(rest) {
            return at("a frame before others");
        }
        match self.was_written_to_its_end(offset) {
            true => at("the last frame"),
            false => Tail::Torn,
        }
    }

    /// Whether no sector that the frame has a part of is missing, nor its end.
    fn was_written_to_its_end(&self, offset: usize) -> bool {
        let rest = &self.bytes[offset..];
        let Some(front) = rest.get(..FRAME_HEAD).filter(|_| !is_zero(&rest[FRAME_HEAD..])) else {
            return false;
        };
        let Some((len, ..)) = self.head.frame_head(front) else {
            return self.sectors(offset, FRAME_HEAD);
        };
        let len = frame_len(len);
        rest.get(len - 1).is_some_and(|end| *end != 0) && self.sectors(offset, len)
    }

    /// Whether each sector's part of these bytes is something else than zeros.
    fn sectors(&self, offset: usize, len: usize) -> bool {
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let next = (at + 1).next_multiple_of(SECTOR).min(end);
            if is_zero(&self.bytes[at..next]) {
                return false;
            }
            at = next;
        }
        true
    }
}

impl Head {
    /// The frame at the front, and its length.
    fn frame<'a>(&self, bytes: &'a [u8]) -> Option<(Frame<'a>, usize)> {
        let (len, number, previous, sum) = self.frame_head(bytes)?;
        let body = bytes.get(FRAME_HEAD..FRAME_HEAD + len)?;
        let is_right = self.sum(body) == sum && bytes.get(FRAME_HEAD + len) == Some(&END);
        let frame = Frame { number, previous, body };
        is_right.then_some((frame, frame_len(len)))
    }

    /// Length, number, number before it, checksum of the body.
    fn frame_head(&self, bytes: &[u8]) -> Option<(usize, u64, u64, u32)> {
        let bytes = bytes.get(..FRAME_HEAD)?;
        let (covered, sum) = bytes.split_at(FRAME_HEAD - 4);
        let mut from = Reader::new(covered);
        if from.u32().ok()? != FRAME || self.sum(covered).to_be_bytes() != sum {
            return None;
        }
        let len = from.u32().ok()? as usize;
        Some((len, from.u64().ok()?, from.u64().ok()?, from.u32().ok()?))
    }

    /// Whether there is a frame anywhere behind the front.
    fn is_behind(&self, bytes: &[u8]) -> bool {
        let first = FRAME.to_be_bytes()[0];
        let places = bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == first);
        places
            .into_iter()
            .any(|(place, _)| self.frame(&bytes[place..]).is_some())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether there is anything but zeros behind.
fn is_longer(blob: &dyn Blob, from: usize) -> io::Result<bool> {
    let len = usize::try_from(blob.len()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len.saturating_sub(from)];
    blob.read_at(from as u64, &mut bytes)?;
    Ok(!is_zero(&bytes))
}

fn unreadable(name: &str, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{name} can't be read: {error}"))
}

fn read_all(files: &dyn Files, name: &str) -> io::Result<Vec<u8>> {
    let blob = files.open(name)?;
    let mut bytes = vec![0; usize::try_from(blob.len()?).map_err(io::Error::other)?];
    blob.read_at(0, &mut bytes)?;
    Ok(bytes)
}
