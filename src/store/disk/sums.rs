//! Where the database has its pages: a file, and beside it another one with a checksum of each block, so that no garbled
//! block is ever taken for what was written.
//!
//! The database checks a page against its own checksum only when it repairs, and so would serve a garbled one.
//!
//! ```text
//!   state.redb   | head | block 1 | block 2 | ...
//!   state.sums   | magic, sums that the head may have | sum of block 0 | sum of block 1 | ...
//! ```
//!
//! Why a power cut does no harm: the database never overwrites a block that it has committed, it syncs before it refers
//! to a new one, and what it does not refer to is not read. So a sum that does not fit its block is of no block that
//! matters. Only the head is overwritten: all sums that it may have after a power cut are written and synced before it.

use std::io::{self, Error, ErrorKind};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;

use super::files::Blob;

const BLOCK: usize = 4096;
/// The part of block 0 that the database uses; within a sector, so that it is written as a whole.
const HEAD: usize = 512;
const MAGIC: &[u8; 8] = b"MQBSUMS1";
/// Where the sums of blocks begin.
const SUMS: u64 = 512;
/// Sums of the head that may be remembered between two syncs.
const MOST_HEADS: usize = 100;
/// Blocks whose sums are written at once.
const GROUP: usize = 1024;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    own: Arc<Own>,
}

#[derive(Debug)]
struct Own {
    data: Arc<dyn Blob>,
    sums: Arc<dyn Blob>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of each block the checksum, differing from that of zeros: so a block that was never written has 0.
    sums: Vec<u32>,
    /// Groups of sums that are not in the file.
    changed: Vec<bool>,
    /// Sums of the head since the last sync.
    heads: Vec<u32>,
    damage: Option<String>,
    is_closed: bool,
}

impl Checked {
    /// Over two files, both empty or both written by this.
    pub(super) fn open(data: Arc<dyn Blob>, sums: Arc<dyn Blob>) -> io::Result<Checked> {
        let state = match (data.len()?, sums.len()?) {
            (0, _) => State::new(&*sums)?,
            (len, sums_len) => {
                let mut state = State::read(&*sums, blocks(len), sums_len)?;
                let mut head = [0; HEAD];
                data.read_at(0, &mut head[..HEAD.min(len as usize)])?;
                state.check_head(&head)?;
                state.heads = vec![crc32fast::hash(&head)];
                state
            }
        };
        let own = Arc::new(Own {
            data,
            sums,
            state: Mutex::new(state),
        });
        Ok(Checked { own })
    }

    /// What was found to be garbled.
    pub(super) fn damage(&self) -> Option<String> {
        self.own.state.lock().damage.clone()
    }
}

impl State {
    fn new(sums: &dyn Blob) -> io::Result<State> {
        sums.set_len(0)?;
        let state = State::default();
        state.write_heads(sums)?;
        Ok(state)
    }

    fn read(sums: &dyn Blob, count: usize, len: u64) -> io::Result<State> {
        let mut head = [0; SUMS as usize];
        sums.read_at(0, &mut head)
            .map_err(|_| garbled("state.sums is cut short"))?;
        let heads = read_heads(&head).ok_or_else(|| garbled("the head of state.sums"))?;
        // Sums that are not there are those of blocks that were not written.
        let there = usize::try_from((len - SUMS) / 4).unwrap_or(usize::MAX).min(count);
        let mut bytes = vec![0; there * 4];
        sums.read_at(SUMS, &mut bytes)?;
        let (values, _) = bytes.as_chunks::<4>();
        let mut values: Vec<_> = values.iter().map(|value| u32::from_le_bytes(*value)).collect();
        values.resize(count, 0);
        Ok(State {
            changed: vec![false; values.len().div_ceil(GROUP)],
            sums: values,
            heads,
            ..State::default()
        })
    }

    fn write_heads(&self, sums: &dyn Blob) -> io::Result<()> {
        let mut head = Vec::with_capacity(SUMS as usize);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&(self.heads.len() as u32).to_le_bytes());
        self.heads
            .iter()
            .for_each(|sum| head.extend_from_slice(&sum.to_le_bytes()));
        let check = crc32fast::hash(&head);
        head.extend_from_slice(&check.to_le_bytes());
        head.resize(SUMS as usize, 0);
        sums.write_at(0, &head)
    }

    fn write_changed(&mut self, sums: &dyn Blob) -> io::Result<()> {
        for (group, changed) in self.changed.iter_mut().enumerate().filter(|(_, changed)| **changed) {
            let values = &self.sums[group * GROUP..self.sums.len().min((group + 1) * GROUP)];
            let bytes: Vec<_> = values.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            sums.write_at(SUMS + (group * GROUP * 4) as u64, &bytes)?;
            *changed = false;
        }
        Ok(())
    }

    fn set(&mut self, block: usize, sum: u32) {
        if self.sums.len() <= block {
            self.resize(block + 1);
        }
        self.sums[block] = sum;
        self.changed[block / GROUP] = true;
    }

    fn resize(&mut self, count: usize) {
        self.sums.resize(count, 0);
        // What has been there before this length is not to be found in the file again.
        let first = self.changed.len().min(count / GROUP);
        self.changed.resize(count.div_ceil(GROUP), true);
        self.changed[first..].fill(true);
    }

    fn check_head(&mut self, head: &[u8]) -> io::Result<()> {
        let is_new = self.heads.is_empty() && head.iter().all(|byte| *byte == 0);
        match is_new || self.heads.contains(&crc32fast::hash(head)) {
            true => Ok(()),
            false => Err(self.fault("the head of state.redb".to_owned())),
        }
    }

    fn fault(&mut self, what: String) -> Error {
        let error = garbled(&what);
        self.damage.get_or_insert(what);
        error
    }
}

impl Own {
    /// Reads and checks whole blocks, of which the file may have only a part. Nobody writes to a block that is read.
    fn read_blocks(&self, first: usize, into: &mut [u8]) -> io::Result<()> {
        let offset = (first * BLOCK) as u64;
        let there = usize::try_from(self.data.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let there = there.min(into.len());
        self.data.read_at(offset, &mut into[..there])?;
        into[there..].fill(0);
        let sums: Vec<_> = into.chunks(BLOCK).map(sum).collect();
        let mut state = self.state()?;
        for (block, found) in (first..).zip(sums) {
            match block {
                0 => state.check_head(&into[..HEAD])?,
                _ if state.sums.get(block).copied().unwrap_or(0) != found => {
                    return Err(state.fault(format!("block {block} of state.redb, at byte {}", block * BLOCK)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write_head(&self, data: &[u8]) -> io::Result<()> {
        let mut head = [0; HEAD];
        head[..data.len()].copy_from_slice(data);
        let sum = crc32fast::hash(&head);
        if self.state()?.heads.len() >= MOST_HEADS {
            self.sync()?;
        }
        {
            let mut state = self.state()?;
            let is_known = state.heads.contains(&sum);
            // The last one is what the file has now: see `sync`.
            state.heads.retain(|known| *known != sum);
            state.heads.push(sum);
            if !is_known {
                state.write_heads(&*self.sums)?;
                self.sums.sync()?;
            }
        }
        self.data.write_at(0, &head)
    }

    fn write_blocks(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let first = offset as usize / BLOCK;
        let before = offset as usize % BLOCK;
        let end = before + data.len();
        let mut whole = Vec::new();
        let mut bytes = data;
        if before != 0 || !end.is_multiple_of(BLOCK) {
            whole.resize(end.next_multiple_of(BLOCK), 0);
            self.read_blocks(first, &mut whole)?;
            whole[before..end].copy_from_slice(data);
            bytes = &whole;
        }
        let sums: Vec<_> = bytes.chunks(BLOCK).map(sum).collect();
        let mut state = self.state()?;
        for (block, sum) in (first..).zip(sums) {
            state.set(block, sum);
        }
        drop(state);
        self.data.write_at(offset, data)
    }

    /// Does not hold up those who read.
    fn sync(&self) -> io::Result<()> {
        self.state()?.write_changed(&*self.sums)?;
        self.sums.sync()?;
        self.data.sync()?;
        let mut state = self.state()?;
        let old = state.heads.len().saturating_sub(1);
        state.heads.drain(..old);
        Ok(())
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        match state.is_closed {
            true => Err(Error::other("the database is closed")),
            false => Ok(state),
        }
    }
}

impl StorageBackend for Checked {
    fn len(&self) -> io::Result<u64> {
        self.own.data.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let first = offset as usize / BLOCK;
        let before = offset as usize % BLOCK;
        if before == 0 && out.len().is_multiple_of(BLOCK) {
            return self.own.read_blocks(first, out);
        }
        let mut whole = vec![0; (before + out.len()).next_multiple_of(BLOCK)];
        self.own.read_blocks(first, &mut whole)?;
        out.copy_from_slice(&whole[before..before + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.own.state()?;
        self.own.data.set_len(len)?;
        state.resize(blocks(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.own.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match offset {
            0 if data.len() <= HEAD => self.own.write_head(data),
            _ => self.own.write_blocks(offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.own.state.lock();
        state.is_closed = true;
        state.write_changed(&*self.own.sums)
    }
}

fn blocks(len: u64) -> usize {
    usize::try_from(len.div_ceil(BLOCK as u64)).unwrap_or(usize::MAX)
}

/// 0 for zeros, however many.
fn sum(block: &[u8]) -> u32 {
    const ZEROS: u32 = 0xc71c_0011;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(block);
    if block.len() < BLOCK {
        hasher.update(&[0; BLOCK][block.len()..]);
    }
    hasher.finalize() ^ ZEROS
}

fn read_heads(bytes: &[u8]) -> Option<Vec<u32>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (values, _) = rest.get(..(count + 1) * 4)?.as_chunks::<4>();
    let (check, values) = values.split_last()?;
    let covered = MAGIC.len() + 4 + count * 4;
    (crc32fast::hash(&bytes[..covered]) == u32::from_le_bytes(*check))
        .then(|| values.iter().map(|value| u32::from_le_bytes(*value)).collect())
}

fn garbled(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}
