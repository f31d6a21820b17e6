//! What this node has begun and must not leave behind: it waits for that before it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Cluster;

/// How much is being done.
#[derive(Debug, Default)]
pub(super) struct Works {
    count: AtomicUsize,
    done: Notify,
}

/// Something that is being done, until this is dropped.
pub(super) struct Work(Arc<Cluster>);

impl Drop for Work {
    fn drop(&mut self) {
        let Works { count, done } = &self.0.works;
        if count.fetch_sub(1, Ordering::AcqRel) == 1 {
            done.notify_waiters();
        }
    }
}

impl Cluster {
    /// Something is being done from now on.
    pub(super) fn begin_work(self: &Arc<Cluster>) -> Work {
        self.works.count.fetch_add(1, Ordering::AcqRel);
        Work(Arc::clone(self))
    }

    /// Waits until nothing is being done.
    pub(super) async fn all_done(&self) {
        loop {
            let done = self.works.done.notified();
            if self.works.count.load(Ordering::Acquire) == 0 {
                return;
            }
            done.await;
        }
    }
}
