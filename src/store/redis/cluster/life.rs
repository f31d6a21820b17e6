//! Whether this incarnation may go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::recent::Recent;
use crate::store::StoreError;
use crate::store::cluster::Homes;

/// Ends once: when the store is closed, when the node has left, or when others have declared it dead.
#[derive(Debug)]
pub(super) struct Life {
    /// The node says that it leaves: whatever is found of that from now on is no failure.
    is_leaving: AtomicBool,
    is_over: AtomicBool,
    /// Its generation has ended: Redis has lost writes of somebody.
    is_raised: AtomicBool,
    /// Another server answers than the one that is known to have all that was confirmed, and the writer may have nothing to ask it for.
    is_doubted: AtomicBool,
    /// Homes that lack what was read there.
    missing: Mutex<Homes>,
    over: Mutex<Option<StoreError>>,
    changed: Condvar,
    recent: Arc<Recent>,
}

impl Life {
    pub(super) fn new(recent: &Arc<Recent>) -> Life {
        Life {
            is_leaving: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_raised: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            missing: Mutex::default(),
            over: Mutex::new(None),
            changed: Condvar::new(),
            recent: Arc::clone(recent),
        }
    }

    /// Nothing is written or followed any more. The first reason stays.
    pub(super) fn end(&self, why: StoreError) {
        let why = if self.is_leaving() { left() } else { why };
        self.over.lock().get_or_insert(why);
        self.is_over.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        self.recent.stop();
    }

    /// Another server answers: it must be asked what it has.
    pub(super) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::SeqCst)
    }

    /// It was asked.
    pub(super) fn trust(&self) {
        self.is_doubted.store(false, Ordering::SeqCst);
    }

    /// A server has taken the place of another, and lacks what was read there.
    pub(super) fn miss(&self, homes: Homes, why: StoreError) {
        let mut missing = self.missing.lock();
        *missing = missing.union(homes);
        drop(missing);
        self.end(why);
    }

    /// All nodes of its generation are over.
    pub(super) fn end_with_generation(&self) {
        self.is_raised.store(true, Ordering::SeqCst);
        self.end(raised());
    }

    pub(super) fn missing(&self) -> Homes {
        *self.missing.lock()
    }

    pub(super) fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::SeqCst)
    }

    /// It has ended, but not because somebody wanted it.
    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.over.lock(), Some(StoreError::Refused(_)))
    }

    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::SeqCst)
    }

    /// # Errors
    /// Why it has ended.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.over.lock().clone().map_or(Ok(()), Err)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Waits so long, or until it has ended.
    pub(super) fn pause(&self, most: Duration) {
        let deadline = Instant::now() + most;
        let mut over = self.over.lock();
        while over.is_none() && !self.changed.wait_until(&mut over, deadline).timed_out() {}
    }
}

pub(super) fn raised() -> StoreError {
    StoreError::Refused(
        "Redis has lost writes of a node of the cluster (a server, or a replica that took its place, did not have them on disk): \
         all nodes must begin anew"
            .to_owned(),
    )
}

pub(super) fn left() -> StoreError {
    StoreError::Unavailable("this node has left the cluster".to_owned())
}
