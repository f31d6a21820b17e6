//! Commits, and the thread that has checkpoints when they are due.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::database::Base;
use super::files::Files;
use super::log::Log;
use super::overlay::{Overlay, Sessions};
use super::read::{self, Layers};
use super::segment::frame_len;
use super::tables::Snapshot;
use super::{StoreError, Tuning, format};
use crate::store::{Batch, Lane, Page, StoredDelivery, Uid};

/// What commits, readers and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) base: Base,
    /// Bytes of the journal that the database did not have when it was opened.
    #[cfg_attr(
        not(feature = "cli"),
        expect(dead_code, reason = "only `broker store stats` tells it")
    )]
    pub(super) replayed: u64,
    tuning: Tuning,
    /// One checkpoint at a time.
    turn: Mutex<()>,
    log: Mutex<Log>,
    state: Mutex<State>,
    /// For the thread: there is something to do.
    wanted: Condvar,
    /// For commits: a checkpoint has ended, well or not.
    ended: Condvar,
    /// For readers: what is in the journal is in the overlay, too.
    followed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    active: Overlay,
    /// What is on its way into the database.
    frozen: Option<Arc<Overlay>>,
    sessions: Sessions,
    /// The last batch that is in the journal.
    kept: u64,
    /// The last batch whose effect is in the overlay: for a moment one less.
    last: u64,
    /// When the active overlay began.
    since: Option<Instant>,
    /// Why the last checkpoint has failed, and when.
    failed: Option<(StoreError, Instant)>,
    /// Sessions that have ended have places in the database.
    remains: bool,
    is_wanted: bool,
    wants_spare: bool,
    is_stopping: bool,
    has_thread: bool,
}

/// Between two attempts at a checkpoint.
const PAUSE: Duration = Duration::from_secs(1);
/// Overlays that a journal may be of before commits wait.
const MOST: usize = 2;

impl Shared {
    pub(super) fn open(files: Arc<dyn Files>, tuning: Tuning) -> Result<Shared, StoreError> {
        format::prepare(&files, tuning.segment)?;
        let base = Base::open(Arc::clone(&files))?;
        let (last, sessions) = base.read(|snapshot| Ok((snapshot.last_batch()?, read::known(&snapshot)?)))?;
        let mut state = State {
            sessions,
            last,
            kept: last,
            wants_spare: true,
            ..State::default()
        };
        let mut replayed = 0;
        let mut log = Log::recover(Arc::clone(&files), tuning.segment, last, |batch| {
            replayed += frame_len(batch.bytes.len()) as u64;
            // A change that can't be read is damage.
            batch.ops().try_for_each(|op| op.map(drop))?;
            state.apply(batch);
            if state.active.memory > tuning.memory {
                base.apply(&std::mem::take(&mut state.active))?;
            }
            Ok(())
        })?;
        // What another process has written to the journal may be known to the system alone. So nothing rests on it: the
        // database gets it now, and commits again if there is nothing.
        let catches_up = std::mem::take(&mut state.active);
        state.remains = base.apply(&catches_up)?;
        log.begin()?;
        let shared = Shared {
            files,
            base,
            replayed,
            tuning,
            turn: Mutex::new(()),
            log: Mutex::new(log),
            state: Mutex::new(state),
            wanted: Condvar::new(),
            ended: Condvar::new(),
            followed: Condvar::new(),
        };
        let last = shared.last_batch();
        shared.remove_covered(last);
        Ok(shared)
    }

    /// Starts the thread of checkpoints.
    pub(super) fn start(own: &Arc<Shared>) -> Result<JoinHandle<()>, StoreError> {
        own.state.lock().has_thread = true;
        let shared = Arc::clone(own);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        thread
            .spawn(move || {
                let ending = Ending(&shared);
                while shared.next() {}
                drop(ending);
            })
            .map_err(|error| StoreError::Unavailable(format!("no thread for checkpoints: {error}")))
    }

    pub(super) fn stop(&self) {
        self.state.lock().is_stopping = true;
        self.wanted.notify_all();
        self.ended.notify_all();
        self.followed.notify_all();
    }

    pub(super) fn last_batch(&self) -> u64 {
        self.state.lock().kept
    }

    #[cfg(test)]
    pub(super) fn has_removed_all(&self) -> bool {
        !self.state.lock().remains
    }

    /// Puts a batch into the journal.
    pub(super) fn keep(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        if batch.number <= self.last_batch() {
            return Ok(());
        }
        // What can't be read back must not be in the journal.
        batch.ops().try_for_each(|op| op.map(drop))?;
        self.make_room()?;
        let has_spare = self.append(batch)?;
        let mut state = self.state.lock();
        state.kept = batch.number;
        if !has_spare {
            state.wants_spare = true;
            self.wanted.notify_one();
        }
        Ok(())
    }

    /// Brings a batch that is in the journal into the overlay.
    pub(super) fn follow(&self, batch: &Batch<'_>) {
        let mut state = self.state.lock();
        if batch.number > state.kept || batch.number <= state.last {
            return;
        }
        state.apply(batch);
        let is_first = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        if is_first || state.is_due(&self.tuning) {
            self.wanted.notify_one();
        }
        self.followed.notify_all();
    }

    /// The state, in which the effect of all is that is in the journal by now.
    fn settled(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let kept = state.kept;
        // At the end nobody follows any more, perhaps.
        while state.last < kept && !state.is_stopping {
            self.followed.wait(&mut state);
        }
        state
    }

    /// Whether there is a segment for later.
    fn append(&self, batch: &Batch<'_>) -> Result<bool, StoreError> {
        let mut log = self.log.lock();
        log.append(batch)?;
        Ok(log.has_spare())
    }

    /// Waits while the journal is longer than may be.
    fn make_room(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        while state.is_full(&self.tuning) {
            if state.is_stopping || !state.has_thread {
                drop(state);
                self.checkpoint()?;
                state = self.state.lock();
                continue;
            }
            if let Some((error, _)) = &state.failed {
                return Err(error.clone());
            }
            state.is_wanted = true;
            self.wanted.notify_one();
            self.ended.wait(&mut state);
        }
        Ok(())
    }

    pub(super) fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        let place = (uid, lane);
        self.base.with(|database| {
            let state = self.settled();
            let Some(known) = state.sessions.get(&uid) else {
                return Ok(Vec::new());
            };
            let frozen = state.frozen.as_ref();
            let layers = Layers::take(&state.active, frozen, known.floor, place, from, most.messages);
            // What is below the layers must be of the same moment.
            let snapshot = Snapshot::new(database)?;
            drop(state);
            read::queue(&snapshot, &layers, place, most)
        })
    }

    /// Has the database catch up with all that was committed before.
    pub(super) fn checkpoint(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock();
        // What was frozen before, and not brought into the database, goes first.
        let retried = self.state.lock().frozen.clone();
        if let Some(frozen) = retried {
            self.bring(&frozen)?;
        }
        let frozen = self.settled().freeze();
        frozen.map_or(Ok(()), |frozen| self.bring(&frozen))
    }

    /// Brings an overlay into the database.
    fn bring(&self, frozen: &Overlay) -> Result<(), StoreError> {
        let result = self.base.apply(frozen);
        let mut state = self.state.lock();
        state.is_wanted = false;
        match result {
            Ok(remains) => {
                if state.failed.take().is_some() {
                    tracing::info!("the database takes changes again");
                }
                state.remains = remains;
                state.frozen = None;
                self.ended.notify_all();
                drop(state);
                self.remove_covered(frozen.last);
                Ok(())
            }
            Err(error) => {
                if state.failed.is_none() {
                    tracing::error!(%error, "the database does not take changes: they stay in the journal, which grows");
                }
                state.failed = Some((error.clone(), Instant::now()));
                self.ended.notify_all();
                drop(state);
                if let Err(error) = self.base.reopen() {
                    tracing::debug!(%error, "the database was not opened again");
                }
                Err(error)
            }
        }
    }

    /// Removes segments that the database has caught up with.
    fn remove_covered(&self, last: u64) {
        let covered = self.log.lock().take_covered(last);
        for name in covered {
            // The next process removes what is left.
            if let Err(error) = self.files.remove(&name) {
                tracing::warn!(%error, name, "a part of the journal that is not needed was not removed");
            }
        }
        self.state.lock().wants_spare = true;
    }

    /// Waits for something to do, and does it; `false` at the end.
    fn next(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.is_stopping {
                return false;
            }
            if std::mem::take(&mut state.wants_spare) {
                drop(state);
                self.make_spare();
                return true;
            }
            match state.due_at(&self.tuning) {
                Some(at) if at <= Instant::now() => break,
                Some(at) => drop(self.wanted.wait_until(&mut state, at)),
                None => self.wanted.wait(&mut state),
            }
        }
        drop(state);
        // Its error is in the state.
        let _ = self.checkpoint();
        true
    }

    fn make_spare(&self) {
        let make = self.log.lock().spare_maker();
        match make.map(|make| make()) {
            Some(Ok(spare)) => self.log.lock().put_spare(spare),
            // A commit makes one itself, and has the error if there is one.
            Some(Err(error)) => tracing::debug!(%error, "no segment was made ahead"),
            None => {}
        }
    }
}

impl State {
    /// Brings a batch into the overlay, which can be read: see [`Shared::keep`].
    fn apply(&mut self, batch: &Batch<'_>) {
        for op in batch.ops().flatten() {
            self.active.apply(op, &mut self.sessions);
        }
        self.active.last = batch.number;
        self.active.journal += frame_len(batch.bytes.len()) as u64;
        self.last = batch.number;
        self.kept = self.kept.max(batch.number);
    }

    /// What is to be brought into the database, if there is anything. Nothing is on its way there.
    fn freeze(&mut self) -> Option<Arc<Overlay>> {
        if self.active.last != 0 || self.remains {
            self.frozen = Some(Arc::new(std::mem::take(&mut self.active)));
            self.since = None;
            return self.frozen.clone();
        }
        None
    }

    /// When there should be a checkpoint.
    fn due_at(&self, tuning: &Tuning) -> Option<Instant> {
        let now = Instant::now();
        if let Some((_, at)) = &self.failed {
            return Some(*at + PAUSE);
        }
        match self.is_due(tuning) {
            true => Some(now),
            false => self.since.map(|since| since + tuning.idle),
        }
    }

    fn is_due(&self, tuning: &Tuning) -> bool {
        let is_large = self.active.journal >= tuning.journal || self.active.memory >= tuning.memory;
        is_large || self.is_wanted || self.remains
    }

    fn is_full(&self, tuning: &Tuning) -> bool {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.journal);
        let has_room =
            self.active.memory < tuning.memory * MOST && self.active.journal + frozen < tuning.journal * MOST as u64;
        !has_room && self.active.last != 0
    }
}

/// Says that the thread has ended, also if it has panicked.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.state.lock().has_thread = false;
        self.0.ended.notify_all();
    }
}
