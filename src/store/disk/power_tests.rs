//! Cuts the power: a directory in memory that, when the power goes, keeps what was synced, and of the rest a random part.
//!
//! What was not synced may be kept or not, each sector of each write by itself, in any order; and so may each file that
//! was made or removed since the directory was synced.

use std::collections::BTreeMap;
use std::io::{self, Error, ErrorKind};

use super::files::{Blob, Files};
use super::testing::{Random, Workload, commit, image};
use super::*;
use crate::store::MemoryStore;

const SECTOR: u64 = 512;

/// What may go wrong, and when.
#[derive(Debug, Default)]
struct Fate {
    /// Operations until the power goes.
    left: Option<u64>,
    /// Operations until one fails, and the disk is full or the sync fails.
    fails_in: Option<u64>,
    /// So many fail then.
    failures: u64,
    is_off: bool,
}

/// A directory that may lose power.
#[derive(Debug, Default)]
struct Simulated {
    fate: Arc<Mutex<Fate>>,
    state: Mutex<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    /// As the process sees it.
    names: BTreeMap<String, Arc<SimulatedFile>>,
    /// As it is after a power cut.
    synced: BTreeMap<String, Arc<SimulatedFile>>,
}

#[derive(Debug)]
struct SimulatedFile {
    fate: Arc<Mutex<Fate>>,
    state: Mutex<Content>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync, in order.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Fate {
    /// An operation that changes something; whether the caller may go on.
    fn strike(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            self.is_off |= *left == 0;
        }
        if self.is_off {
            return Err(Error::other("the power is off"));
        }
        if let Some(fails_in) = &mut self.fails_in {
            *fails_in = fails_in.saturating_sub(1);
            if *fails_in == 0 && self.failures > 0 {
                self.failures -= 1;
                *fails_in = 1;
                return Err(Error::new(ErrorKind::StorageFull, "no space"));
            }
        }
        Ok(())
    }
}

impl Files for Simulated {
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        if let Some(file) = self.state.lock().names.get(name) {
            return Ok(Arc::clone(file) as Arc<dyn Blob>);
        }
        self.fate.lock().strike()?;
        let file = Arc::new(SimulatedFile {
            fate: Arc::clone(&self.fate),
            state: Mutex::default(),
        });
        self.state.lock().names.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fate.lock().strike()?;
        self.state.lock().names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.fate.lock().strike()?;
        let mut state = self.state.lock();
        state.synced = state.names.clone();
        Ok(())
    }

    fn syncs(&self) -> bool {
        true
    }

    fn unlock(&self) {}
}

impl Blob for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        let from = state.bytes.get(offset as usize..).unwrap_or_default();
        let from = from.get(..into.len()).ok_or(ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let struck = self.fate.lock().strike();
        let mut state = self.state.lock();
        // What fails may have been done in part: some sectors.
        let done = match struck {
            Ok(()) => bytes,
            Err(_) => {
                let end = (offset + bytes.len() as u64 / 2) / SECTOR * SECTOR;
                &bytes[..end.saturating_sub(offset) as usize]
            }
        };
        write(&mut state.bytes, offset, done);
        state.changes.push(Change::Write(offset, done.to_vec()));
        struck
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fate.lock().strike()?;
        let mut state = self.state.lock();
        state.bytes.resize(len as usize, 0);
        state.changes.push(Change::Length(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let struck = self.fate.lock().strike();
        let mut state = self.state.lock();
        match struck {
            Ok(()) => {
                state.synced = state.bytes.clone();
                state.changes.clear();
                Ok(())
            }
            // What was to be synced is kept in memory, and will never be synced unless it is written again.
            Err(error) => {
                state.changes.clear();
                Err(error)
            }
        }
    }
}

fn write(to: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = offset as usize;
    if to.len() < offset + bytes.len() {
        to.resize(offset + bytes.len(), 0);
    }
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Content {
    /// What is there after the power was gone.
    fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.changes {
            let is_lost = random.one_in(2);
            match change {
                Change::Length(len) if !is_lost => bytes.resize(*len as usize, 0),
                Change::Write(offset, written) if !is_lost || random.one_in(2) => {
                    keep_sectors(&mut bytes, *offset, written, random);
                }
                _ => {}
            }
        }
        bytes
    }
}

/// Writes some of the sectors, or all.
fn keep_sectors(to: &mut Vec<u8>, offset: u64, written: &[u8], random: &mut Random) {
    let all = random.one_in(2);
    let mut at = 0;
    while at < written.len() {
        let place = offset + at as u64;
        let next = (at + (SECTOR - place % SECTOR) as usize).min(written.len());
        if all || random.one_in(2) {
            write(to, place, &written[at..next]);
        }
        at = next;
    }
}

impl Simulated {
    /// The directory as the next process finds it: after `kill -9`, or without power.
    fn restart(&self, random: &mut Random, loses_power: bool) -> Arc<Simulated> {
        let old = self.state.lock();
        let mut names = match loses_power {
            true => old.synced.clone(),
            false => old.names.clone(),
        };
        if loses_power {
            for (name, file) in &old.names {
                if random.one_in(2) {
                    names.entry(name.clone()).or_insert_with(|| Arc::clone(file));
                }
            }
            names.retain(|name, _| old.names.contains_key(name) || random.one_in(2));
        }
        let next = Simulated::default();
        let mut files = BTreeMap::new();
        for (name, file) in names {
            let mut state = file.state.lock().clone();
            if loses_power {
                state.bytes = state.after_power_cut(random);
                state.synced = state.bytes.clone();
                state.changes.clear();
            }
            let state = Mutex::new(state);
            let fate = Arc::clone(&next.fate);
            files.insert(name, Arc::new(SimulatedFile { fate, state }));
        }
        let mut state = next.state.lock();
        state.synced = match loses_power {
            true => files.clone(),
            // Which of them have been synced is as before.
            false => files
                .iter()
                .filter(|(name, _)| old.synced.contains_key(*name))
                .map(|(name, file)| (name.clone(), Arc::clone(file)))
                .collect(),
        };
        state.names = files;
        drop(state);
        Arc::new(next)
    }
}

fn small(random: &mut Random) -> Tuning {
    Tuning {
        segment: 2_000 + random.below(8_000) as usize,
        journal: 3_000 + random.below(20_000),
        memory: 30_000,
        idle: Duration::from_secs(1000),
        has_thread: false,
    }
}

/// What is acknowledged is there after each cut, and nothing is that was not committed.
fn survive(seed: u64) {
    let mut random = Random::new(seed);
    let model = MemoryStore::default();
    let mut workload = Workload::new(seed, 5);
    let mut files = Arc::new(Simulated::default());
    for life in 0..6 {
        let context = format!("seed {seed}, life {life}");
        {
            let mut fate = files.fate.lock();
            let most = if random.one_in(3) { 40 } else { 700 };
            fate.left = Some(1 + random.below(most));
            fate.fails_in = random.one_in(2).then(|| random.below(400));
            fate.failures = 1 + random.below(4);
        }
        let pending = live(&files, &model, &mut workload, &mut random, &context);
        let loses_power = !random.one_in(4);
        files = files.restart(&mut random, loses_power);
        // A cut while it recovers is the next life's; now it is looked at in peace.
        let look = files.restart(&mut Random::new(1), false);
        let store =
            DiskStore::open(look, small(&mut Random::new(seed))).unwrap_or_else(|error| panic!("{context}: {error}"));
        let (last, acked) = (
            store.last_batch().expect("is known"),
            model.last_batch().expect("is known"),
        );
        match pending {
            Some(batch) if last == acked + 1 => commit(&model, &batch).expect("commits"),
            _ => assert_eq!(last, acked, "{context}"),
        }
        assert_eq!(image(&store), image(&model), "{context}");
    }
}

/// Runs until the power goes; the batch that was being committed.
fn live(
    files: &Arc<Simulated>,
    model: &MemoryStore,
    workload: &mut Workload,
    random: &mut Random,
    context: &str,
) -> Option<Vec<u8>> {
    let is_off = || files.fate.lock().is_off;
    let store = loop {
        match DiskStore::open(Arc::clone(files) as Arc<dyn Files>, small(random)) {
            Ok(store) => break store,
            Err(_) if is_off() => return None,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{context}: {error}"),
        }
    };
    assert_eq!(store.last_batch(), model.last_batch(), "{context}");
    for _ in 0..200 {
        let batch = workload.batch();
        while let Err(error) = commit(&store, &batch) {
            if is_off() {
                return Some(batch);
            }
            assert!(matches!(error, StoreError::Unavailable(_)), "{context}: {error}");
        }
        commit(model, &batch).expect("commits");
        if random.one_in(25) && store.shared.checkpoint().is_err() && is_off() {
            return None;
        }
    }
    if random.one_in(2) {
        // It may fail, as the power may go.
        let _ = store.close();
    }
    None
}

#[test]
fn what_is_acknowledged_survives_power_cuts() {
    let seeds = match std::env::var("POWER_CUT_SEEDS") {
        Ok(seeds) => seeds.parse().expect("is a number"),
        Err(_) => 60,
    };
    let first = std::env::var("POWER_CUT_FIRST").map_or(0, |first| first.parse().expect("is a number"));
    (first..first + seeds).for_each(survive);
}
