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
    /// Syncs of files whose names begin like this do nothing; `.` is the directory.
    lies: Option<&'static str>,
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
    name: String,
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
    fn lies_about(&self, name: &str) -> bool {
        self.lies.is_some_and(|lies| name.starts_with(lies))
    }

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
            name: name.to_owned(),
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
        if !self.fate.lock().lies_about(".") {
            state.synced = state.names.clone();
        }
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
        let lies = self.fate.lock().lies_about(&self.name);
        let mut state = self.state.lock();
        match struck {
            Ok(()) if lies => Ok(()),
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
            files.insert(name.clone(), Arc::new(SimulatedFile { name, fate, state }));
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

/// What a store should have.
#[derive(Default)]
struct Expected {
    /// Batches that were acknowledged, or were there when a store was opened.
    kept: Vec<Vec<u8>>,
    /// One behind them that was being committed: it is there or not.
    pending: Option<Vec<u8>>,
}

impl Expected {
    /// Compares what is there.
    fn look(&self, store: &DiskStore, context: &str) {
        let last = store.last_batch().expect("is known") as usize;
        let pending = self.pending.as_ref().filter(|_| last == self.kept.len() + 1);
        let batches: Vec<_> = self.kept.iter().chain(pending).collect();
        assert_eq!(last, batches.len(), "{context}");
        let model = MemoryStore::default();
        for batch in batches {
            commit(&model, batch).expect("commits");
        }
        assert_eq!(image(store), image(&model), "{context}");
    }

    /// A store was opened: what is there now stays.
    fn opened(&mut self, store: &DiskStore) {
        let last = store.last_batch().expect("is known") as usize;
        if let Some(pending) = self.pending.take().filter(|_| last > self.kept.len()) {
            self.kept.push(pending);
        }
    }
}

/// What is acknowledged is there after each cut, and nothing is that was not committed.
fn survive(seed: u64, lies: Option<&'static str>) {
    let mut random = Random::new(seed);
    let mut expected = Expected::default();
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
            fate.lies = lies;
        }
        live(&files, &mut expected, &mut workload, &mut random, &context);
        let loses_power = !random.one_in(4);
        files = files.restart(&mut random, loses_power);
        // The power may go again while the next life begins; this is a look at a copy.
        let copy = files.restart(&mut Random::new(1), false);
        let checked = check::check_files(&(files.restart(&mut Random::new(1), false) as Arc<dyn Files>));
        if let Some(report) = whole(checked, &context) {
            assert_eq!(report.faults, Vec::<String>::new(), "{context}");
        }
        let opened = DiskStore::open(copy, small(&mut Random::new(seed)));
        let store = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        expected.look(&store, &context);
    }
}

/// What a check has found, unless the store was not made to its end.
fn whole(checked: Result<check::CheckReport, StoreError>, context: &str) -> Option<check::CheckReport> {
    match checked {
        Ok(report) => Some(report),
        Err(StoreError::Refused(_)) => None,
        Err(error) => panic!("{context}: {error}"),
    }
}

/// Runs until the power goes.
fn live(files: &Arc<Simulated>, expected: &mut Expected, workload: &mut Workload, random: &mut Random, context: &str) {
    let is_off = || files.fate.lock().is_off;
    let store = loop {
        match DiskStore::open(Arc::clone(files) as Arc<dyn Files>, small(random)) {
            Ok(store) => break store,
            Err(_) if is_off() => return,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{context}: {error}"),
        }
    };
    expected.opened(&store);
    for _ in 0..200 {
        let batch = workload.batch();
        while let Err(error) = commit(&store, &batch) {
            if is_off() {
                expected.pending = Some(batch);
                return;
            }
            assert!(matches!(error, StoreError::Unavailable(_)), "{context}: {error}");
        }
        expected.kept.push(batch);
        if random.one_in(25) && store.shared.checkpoint().is_err() && is_off() {
            return;
        }
    }
    if random.one_in(2) {
        // It may fail, as the power may go.
        let _ = store.close();
    }
}

#[test]
fn what_is_acknowledged_survives_power_cuts() {
    let seeds = match std::env::var("POWER_CUT_SEEDS") {
        Ok(seeds) => seeds.parse().expect("is a number"),
        Err(_) => 40,
    };
    let first = std::env::var("POWER_CUT_FIRST").map_or(0, |first| first.parse().expect("is a number"));
    (first..first + seeds).for_each(|seed| survive(seed, None));
}

/// The test above is one: without a sync of any of the files it fails.
#[test]
fn a_sync_that_does_nothing_is_noticed() {
    for lies in ["journal-", "state.redb", "state.sums", "."] {
        let is_noticed = |seed| std::panic::catch_unwind(|| survive(seed, Some(lies))).is_err();
        assert!((0..40).any(is_noticed), "no seed notices that {lies} is not synced");
    }
}
