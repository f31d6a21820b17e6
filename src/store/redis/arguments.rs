//! Arguments of a command.

use std::io::Write;

/// Arguments of a command, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

const COUNT_DIGITS: usize = 9;

impl Arguments {
    pub(super) fn push(&mut self, argument: &[u8]) {
        self.bytes.extend_from_slice(argument);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn push_number(&mut self, number: u64) {
        // Writing to a vector can't fail.
        let _ = write!(self.bytes, "{number}");
        self.ends.push(self.bytes.len());
    }

    /// Puts more behind the last argument.
    pub(super) fn extend(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        if let Some(end) = self.ends.last_mut() {
            *end = self.bytes.len();
        }
    }

    /// Bytes that they take.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    /// Puts another number in the place of one that had as many digits: see [`push_count`](Arguments::push_count).
    pub(super) fn set_count(&mut self, index: usize, count: usize) {
        let end = self.ends[index];
        self.bytes[end - COUNT_DIGITS..end].copy_from_slice(format!("{count:0COUNT_DIGITS$}").as_bytes());
    }

    /// A number that can be [set](Arguments::set_count) when what it counts has been pushed behind it.
    pub(super) fn push_count(&mut self) {
        self.push(&[b'0'; COUNT_DIGITS]);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}
