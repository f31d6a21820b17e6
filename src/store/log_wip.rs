//! Scaffolding until the store on disk is there: a log of all batches, replayed into memory.
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use parking_lot::Mutex;

use super::*;

#[derive(Debug)]
pub(crate) struct LogStore {
    file: Mutex<File>,
    memory: MemoryStore,
    fsync: bool,
}

impl LogStore {
    pub(crate) fn open(settings: &DiskSettings) -> Result<LogStore, StoreError> {
        let fail = |error: std::io::Error| StoreError::Unavailable(error.to_string());
        std::fs::create_dir_all(&settings.dir).map_err(fail)?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(settings.dir.join("log"))
            .map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        let memory = MemoryStore::default();
        let mut rest = &bytes[..];
        while rest.len() >= 16 {
            let number = u64::from_be_bytes(rest[..8].try_into().unwrap_or_default());
            let len = u64::from_be_bytes(rest[8..16].try_into().unwrap_or_default()) as usize;
            let Some(body) = rest.get(16..16 + len) else { break };
            memory.commit(&Batch { number, bytes: body })?;
            rest = &rest[16 + len..];
        }
        file.set_len((bytes.len() - rest.len()) as u64).map_err(fail)?;
        Ok(LogStore {
            file: Mutex::new(file),
            memory,
            fsync: settings.durability == Durability::Fsync,
        })
    }
}

impl Store for LogStore {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let fail = |error: std::io::Error| StoreError::Unavailable(error.to_string());
        let mut frame = Vec::with_capacity(batch.bytes.len() + 16);
        frame.extend_from_slice(&batch.number.to_be_bytes());
        frame.extend_from_slice(&(batch.bytes.len() as u64).to_be_bytes());
        frame.extend_from_slice(batch.bytes);
        let mut file = self.file.lock();
        file.write_all(&frame).map_err(fail)?;
        if self.fsync {
            file.sync_data().map_err(fail)?;
        }
        self.memory.commit(batch)
    }
    fn last_batch(&self) -> Result<u64, StoreError> {
        self.memory.last_batch()
    }
    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.memory.sessions(each)
    }
    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        self.memory.wills(each)
    }
    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.memory.retained(each)
    }
    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        self.memory.queue(uid, lane, from, most)
    }
    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
