//! Retained messages (section 3.3.1.3), within their limits.

use std::sync::Arc;

use parking_lot::RwLock;

use super::retained::RetainedTree;
use crate::message::Message;
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
    tree: RetainedTree<Arc<Message>>,
    bytes: usize,
}

/// The retained messages have reached their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl RetainedStore {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> RetainedStore {
        RetainedStore {
            max_messages,
            max_bytes,
            inner: RwLock::new(Inner {
                tree: RetainedTree::new(),
                bytes: 0,
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
        let topic = Arc::clone(message.topic_arc());
        inner.tree.insert(&topic, message);
        Ok(())
    }

    /// Removes the retained message of the topic [MQTT-3.3.1-6].
    pub(crate) fn clear(&self, topic: &str) {
        // Most topics that are cleared have nothing retained: no need to hold up readers for them.
        if self.inner.read().tree.get(topic).is_some() {
            self.inner.write().remove(topic);
        }
    }

    /// Calls `found` with each retained message that the filter matches and that has not expired.
    pub(crate) fn for_each_match(&self, filter: &str, now: Millis, mut found: impl FnMut(&Arc<Message>)) {
        let inner = self.inner.read();
        inner.tree.for_each_match(filter, |_, message| {
            if !message.is_expired(now) {
                found(message);
            }
        });
    }

    /// Removes what has expired.
    pub(crate) fn sweep(&self, now: Millis) {
        let mut inner = self.inner.write();
        let mut freed = 0;
        inner.tree.retain(|message| {
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
            .is_some_and(|message| message.payload() == payload)
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
            self.bytes -= old.size();
        }
    }
}
