//! Sessions whose end is not kept yet: a client is not told that its session is no more before that is sure.
//!
//! Bounded: each was a session that was kept, and while the store takes no changes there are no new ones of those.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Endings(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    /// The batch that has the last end of each client's sessions.
    batches: HashMap<Arc<str>, u64>,
    /// In the order in which they were noted, which is about that of their batches.
    order: VecDeque<(u64, Arc<str>)>,
}

impl Endings {
    /// A session of this client ends with this batch.
    pub(super) fn note(&self, client_id: &Arc<str>, batch: u64, durable: u64) {
        let mut pending = self.0.lock();
        pending.forget(durable);
        pending.batches.insert(Arc::clone(client_id), batch);
        pending.order.push_back((batch, Arc::clone(client_id)));
    }

    /// Whether the end of a session of this client is not kept yet.
    pub(super) fn has(&self, client_id: &str, durable: u64) -> bool {
        let mut pending = self.0.lock();
        pending.forget(durable);
        pending.batches.get(client_id).is_some_and(|batch| *batch > durable)
    }
}

impl Pending {
    /// Forgets what is kept.
    fn forget(&mut self, durable: u64) {
        while let Some((batch, _)) = self.order.front()
            && *batch <= durable
            && let Some((batch, client_id)) = self.order.pop_front()
        {
            if self.batches.get(&client_id) == Some(&batch) {
                self.batches.remove(&client_id);
            }
        }
        if self.order.is_empty() && self.order.capacity() > SMALL {
            *self = Pending::default();
        }
    }
}

/// Entries for which room may be kept.
const SMALL: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_forgotten() {
        let endings = Endings::default();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        endings.note(&one, 2, 0);
        endings.note(&other, 1, 0);
        endings.note(&one, 3, 0);
        assert!(endings.has("one", 2) && !endings.has("other", 2));
        assert!(!endings.has("one", 3));
        let pending = endings.0.lock();
        assert!(pending.batches.is_empty() && pending.order.is_empty());
    }
}
