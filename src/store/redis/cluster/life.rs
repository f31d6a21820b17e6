//! Whether this incarnation may go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::recent::Recent;
use crate::store::StoreError;

/// Ends once: when the store is closed, when the node has left, or when others have declared it dead.
#[derive(Debug)]
pub(super) struct Life {
    /// The node says that it leaves: whatever is found of that from now on is no failure.
    is_leaving: AtomicBool,
    over: Mutex<Option<StoreError>>,
    changed: Condvar,
    recent: Arc<Recent>,
}

impl Life {
    pub(super) fn new(recent: &Arc<Recent>) -> Life {
        Life {
            is_leaving: AtomicBool::new(false),
            over: Mutex::new(None),
            changed: Condvar::new(),
            recent: Arc::clone(recent),
        }
    }

    /// Nothing is written or followed any more. The first reason stays.
    pub(super) fn end(&self, why: StoreError) {
        let why = if self.is_leaving() { left() } else { why };
        self.over.lock().get_or_insert(why);
        self.changed.notify_all();
        self.recent.stop();
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
        self.over.lock().is_some()
    }

    /// Waits so long, or until it has ended.
    pub(super) fn pause(&self, most: Duration) {
        let deadline = Instant::now() + most;
        let mut over = self.over.lock();
        while over.is_none() && !self.changed.wait_until(&mut over, deadline).timed_out() {}
    }
}

pub(super) fn left() -> StoreError {
    StoreError::Unavailable("this node has left the cluster".to_owned())
}
