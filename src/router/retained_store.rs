//! Retained messages (section 3.3.1.3), within their limits.

use std::sync::Arc;

use parking_lot::RwLock;

use super::retained::RetainedTree;
use crate::message::Message;
use crate::session::Replay;
use crate::time::Millis;

/// The last retained message of each topic.
#[derive(Debug)]
pub(crate) struct RetainedStore {
    max_messages: usize,
    max_bytes: usize,
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    tree: RetainedTree<Retained>,
    bytes: usize,
    /// Counts the messages that were set.
    changes: u64,
}

#[derive(Debug)]
struct Retained {
    message: Arc<Message>,
    /// The value of `changes` when it was set.
    change: u64,
}

/// The retained messages have reached their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Topics that are looked at while the lock is held.
const TOPICS_AT_A_TIME: usize = 64;

/// What one step of a [`Replay`] has found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) messages: Vec<Arc<Message>>,
    /// Where the next step begins; `None` if there is nothing left.
    pub(crate) next: Option<Arc<str>>,
}

impl RetainedStore {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> RetainedStore {
        RetainedStore {
            max_messages,
            max_bytes,
            inner: RwLock::new(Inner {
                tree: RetainedTree::new(),
                bytes: 0,
                changes: 0,
            }),
        }
    }

    /// Replaces the retained message of the topic [MQTT-3.3.1-5].
    ///
    /// # Errors
    /// If it would exceed a limit; the message retained before, which is out of date, is gone then.
    pub(crate) fn set(&self, message: Arc<Message>) -> Result<(), Full> {
        let mut inner = self.inner.write();
        inner.remove(message.topic());
        if inner.tree.len() >= self.max_messages || inner.bytes + message.size() > self.max_bytes {
            return Err(Full);
        }
        inner.bytes += message.size();
        inner.changes += 1;
        let change = inner.changes;
        let topic = Arc::clone(message.topic_arc());
        inner.tree.insert(&topic, Retained { message, change });
        Ok(())
    }

    /// Removes the retained message of the topic [MQTT-3.3.1-6].
    pub(crate) fn clear(&self, topic: &str) {
        // Most topics that are cleared have nothing retained: no need to hold up readers for them.
        if self.inner.read().tree.get(topic).is_some() {
            self.inner.write().remove(topic);
        }
    }

    /// The number of messages that were set so far.
    pub(crate) fn changes(&self) -> u64 {
        self.inner.read().changes
    }

    /// The next messages of a replay; looks at a bounded number of topics while it holds the lock.
    pub(crate) fn find(&self, replay: &Replay, now: Millis) -> Found {
        let mut messages = Vec::new();
        let inner = self.inner.read();
        let each = |_: &str, Retained { message, change }: &Retained| {
            if *change <= replay.until && !message.is_expired(now) {
                messages.push(Arc::clone(message));
            }
        };
        let filter = replay.filter.filter();
        let next = inner
            .tree
            .for_some_matches(filter, &replay.cursor, TOPICS_AT_A_TIME, each);
        Found { messages, next }
    }

    /// Removes what has expired.
    pub(crate) fn sweep(&self, now: Millis) {
        let mut inner = self.inner.write();
        let mut freed = 0;
        inner.tree.retain(|Retained { message, .. }| {
            let expired = message.is_expired(now);
            freed += if expired { message.size() } else { 0 };
            !expired
        });
        inner.bytes -= freed;
    }

    /// Whether this is the payload that is retained.
    pub(crate) fn holds(&self, topic: &str, payload: &[u8]) -> bool {
        self.inner
            .read()
            .tree
            .get(topic)
            .is_some_and(|retained| retained.message.payload() == payload)
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.read().tree.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().bytes
    }
}

impl Inner {
    fn remove(&mut self, topic: &str) {
        if let Some(old) = self.tree.remove(topic) {
            self.bytes -= old.message.size();
        }
    }
}
