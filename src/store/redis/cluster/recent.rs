//! How far the log has been applied here, and what of it the batches must look at that are not kept yet.
//!
//! A message is matched against what was applied when it was matched. What is applied later, and before the message is kept, must be
//! matched with it as well: it may be a subscription whose SUBACK was sent before the message came. So each entry is kept
//! with the batch that was open when it had been applied: the messages of later batches have been matched with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug)]
struct State {
    position: u64,
    /// The entry there, if it was applied here.
    last: Option<Arc<[u8]>>,
    /// In the order of their positions, and so of their batches.
    entries: VecDeque<RecentEntry>,
    is_stopped: bool,
    is_doubted: bool,
}

/// An entry of the log that a batch may have to look at.
#[derive(Clone, Debug)]
pub(super) struct RecentEntry {
    pub(super) position: u64,
    /// The batch that was open when it had been applied.
    pub(super) open: u64,
    /// See [`Entry`](crate::store::cluster::Entry).
    pub(super) bytes: std::sync::Arc<[u8]>,
}

const LONG: usize = 1000;

impl Recent {
    /// The log has been applied up to this position.
    pub(super) fn new(position: u64) -> Recent {
        Recent {
            state: Mutex::new(State {
                position,
                last: None,
                entries: VecDeque::new(),
                is_stopped: false,
                is_doubted: false,
            }),
            moved: Condvar::new(),
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.state.lock().position
    }

    /// The position, and the entry there.
    pub(super) fn last(&self) -> (u64, Option<Arc<[u8]>>) {
        let state = self.state.lock();
        (state.position, state.last.clone())
    }

    /// Notes what the entry is that was applied last.
    pub(super) fn note_last(&self, bytes: Arc<[u8]>) {
        self.state.lock().last = Some(bytes);
    }

    /// The next entry has been applied. Only those that may concern messages need be kept.
    pub(super) fn applied(&self, entry: Option<RecentEntry>, position: u64) {
        let mut state = self.state.lock();
        state.entries.extend(entry);
        state.position = position;
        state.last = None;
        self.moved.notify_all();
    }

    /// Waits until the log has been applied up to this position; whether it has.
    pub(super) fn wait_for(&self, position: u64, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        let mut state = self.state.lock();
        while state.position < position && !state.is_stopped {
            if self.moved.wait_until(&mut state, deadline).timed_out() {
                state.is_doubted = true;
                break;
            }
        }
        state.position >= position
    }

    /// Whether somebody has waited in vain since this was asked: what is read may come from a server that others have left.
    pub(super) fn take_doubt(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_doubted)
    }

    /// What this batch, and those behind it, must look at; the rest is forgotten.
    pub(super) fn of_batch(&self, batch: u64) -> Vec<RecentEntry> {
        let mut state = self.state.lock();
        while state.entries.front().is_some_and(|entry| entry.open < batch) {
            state.entries.pop_front();
        }
        state.entries.iter().cloned().collect()
    }

    /// Whether so many entries are kept that there should be batches, which let them go, although nothing is to be written.
    pub(super) fn is_long(&self) -> bool {
        self.state.lock().entries.len() > LONG
    }

    /// Nobody waits any more.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.moved.notify_all();
    }
}
