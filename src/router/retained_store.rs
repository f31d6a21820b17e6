//! Retained messages (section 3.3.1.3), within their limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;

use super::retained::RetainedTree;
use crate::message::Message;
use crate::session::Replay;
use crate::store::{Journal, Op, Pen};
use crate::time::Millis;

/// The last retained message of each topic.
#[derive(Debug)]
pub(crate) struct RetainedStore {
    inner: RwLock<Inner>,
    /// Where changes are written, in the order in which they are made.
    journal: Option<Arc<Journal>>,
}

/// Invariant: `bytes` is the [`charge`] of the messages in `tree`, and `expiring` is of them, too.
#[derive(Debug)]
struct Inner {
    max_messages: usize,
    max_bytes: usize,
    tree: RetainedTree<Retained>,
    bytes: usize,
    /// Counts the messages that were set.
    changes: u64,
    /// The last batch of the journal in which a topic was cleared.
    cleared: u64,
    /// The topics of the messages that expire, in the order in which they do.
    expiring: BTreeSet<(Millis, Arc<str>)>,
}

#[derive(Debug)]
struct Retained {
    message: Arc<Message>,
    /// The value of `changes` when it was set.
    change: u64,
}

/// So many expired messages are removed before others get at the store.
const SWEEP_BATCH: usize = 1000;

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
    pub(crate) fn new(max_messages: usize, max_bytes: usize, journal: Option<Arc<Journal>>) -> RetainedStore {
        RetainedStore {
            journal,
            inner: RwLock::new(Inner {
                max_messages,
                max_bytes,
                tree: RetainedTree::new(),
                bytes: 0,
                changes: 0,
                cleared: 0,
                expiring: BTreeSet::new(),
            }),
        }
    }

    /// Sets other limits. What is above a lower one stays.
    pub(crate) fn limit(&self, max_messages: usize, max_bytes: usize) {
        let mut inner = self.inner.write();
        (inner.max_messages, inner.max_bytes) = (max_messages, max_bytes);
    }

    /// Replaces the retained message of the topic [MQTT-3.3.1-5]; whether it is now the first of all to expire.
    ///
    /// # Errors
    /// If it would exceed a limit; the message retained before, which is out of date, is gone then.
    pub(crate) fn set(&self, message: Arc<Message>, pen: &mut Pen) -> Result<bool, Full> {
        self.set_if(message, pen, |_| true)
    }

    /// Does the same where there is no memory left: only in the place of a message that is as large, or if it is small.
    ///
    /// # Errors
    /// If it is neither, too; the message retained before is gone then.
    pub(crate) fn replace(&self, message: Arc<Message>, pen: &mut Pen) -> Result<bool, Full> {
        let size = charge(&message);
        self.set_if(message, pen, |old| {
            old.is_some_and(|old| size <= charge(old).max(SMALL))
        })
    }

    fn set_if(
        &self,
        message: Arc<Message>,
        pen: &mut Pen,
        may: impl FnOnce(Option<&Message>) -> bool,
    ) -> Result<bool, Full> {
        let mut inner = self.inner.write();
        let replaced = inner.remove(message.topic());
        let is_above = inner.tree.len() >= inner.max_messages || inner.bytes + charge(&message) > inner.max_bytes;
        if is_above || !may(replaced.as_deref()) {
            if replaced.is_some() || self.is_unsure(&inner) {
                self.note_cleared(&mut inner, message.topic(), pen);
            }
            return Err(Full);
        }
        self.note(message.topic(), pen, || Op::Retain {
            message: message.as_publication(),
        });
        let is_first = inner.insert(message);
        drop(inner);
        drop(replaced);
        Ok(is_first)
    }

    /// Removes the retained message of the topic [MQTT-3.3.1-6].
    pub(crate) fn clear(&self, topic: &str, pen: &mut Pen) {
        // Most topics that are cleared have nothing retained: no need to hold up readers for them.
        let is_nothing = {
            let inner = self.inner.read();
            inner.tree.get(topic).is_none() && !self.is_unsure(&inner)
        };
        if !is_nothing {
            let mut inner = self.inner.write();
            let removed = inner.remove(topic);
            self.note_cleared(&mut inner, topic, pen);
            drop(inner);
            drop(removed);
        }
    }

    /// Puts back what the store has; whether it is now the first of all to expire.
    pub(crate) fn restore(&self, message: Message) -> bool {
        self.inner.write().insert(Arc::new(message))
    }

    /// Whether a topic that has nothing retained may have something in the store still: whoever clears it then waits, too.
    fn is_unsure(&self, inner: &Inner) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| journal.durable() < inner.cleared)
    }

    fn note_cleared(&self, inner: &mut Inner, topic: &str, pen: &mut Pen) {
        if let Some(batch) = self.note(topic, pen, || Op::RetainClear { topic }) {
            inner.cleared = batch;
        }
    }

    /// To be called under the lock, so that the last change in the journal is the last one here. What the broker tells of
    /// itself is not kept. The batch of which it is part.
    fn note<'a>(&self, topic: &str, pen: &mut Pen, op: impl FnOnce() -> Op<'a>) -> Option<u64> {
        let journal = self.journal.as_ref().filter(|_| !topic.starts_with("$SYS/"))?;
        Some(pen.write_now(journal, &op()))
    }

    /// The message of this topic.
    pub(crate) fn get(&self, topic: &str, now: Millis) -> Option<Arc<Message>> {
        let inner = self.inner.read();
        let message = &inner.tree.get(topic)?.message;
        (!message.is_expired(now)).then(|| Arc::clone(message))
    }

    /// Adds messages that match this valid filter, from the topic `from` on; where to go on. Takes no more than `budget`
    /// steps while it holds the lock, and so adds no more messages.
    pub(crate) fn some_matching(
        &self,
        filter: &str,
        from: &str,
        budget: usize,
        now: Millis,
        into: &mut Vec<Arc<Message>>,
    ) -> Option<Arc<str>> {
        let inner = self.inner.read();
        inner.tree.for_some_matches(filter, from, budget, |_, retained| {
            if !retained.message.is_expired(now) {
                into.push(Arc::clone(&retained.message));
            }
        })
    }

    /// Removes messages that match this valid filter in the same way; how many.
    pub(crate) fn clear_matching(
        &self,
        filter: &str,
        from: &str,
        budget: usize,
        pen: &mut Pen,
    ) -> (usize, Option<Arc<str>>) {
        let mut inner = self.inner.write();
        let mut topics = Vec::new();
        let next = inner
            .tree
            .for_some_matches(filter, from, budget, |topic, _| topics.push(Arc::<str>::from(topic)));
        // Freed when nobody waits for the lock any more.
        let removed: Vec<_> = topics.iter().filter_map(|topic| inner.remove(topic)).collect();
        topics
            .iter()
            .for_each(|topic| self.note_cleared(&mut inner, topic, pen));
        drop(inner);
        (removed.len(), next)
    }

    /// The number of messages that were set so far.
    pub(crate) fn changes(&self) -> u64 {
        self.inner.read().changes
    }

    /// The next messages of a replay; looks at a bounded number of topics while it holds the lock.
    pub(crate) fn find(&self, replay: &Replay, now: Millis) -> Found {
        let mut messages = Vec::new();
        let inner = self.inner.read();
        let each = |topic: &str, Retained { message, change }: &Retained| {
            if *change <= replay.until && !message.is_expired(now) && replay.has(topic) {
                messages.push(Arc::clone(message));
            }
        };
        let filter = replay.filter.filter();
        let next = inner
            .tree
            .for_some_matches(filter, &replay.cursor, TOPICS_AT_A_TIME, each);
        Found { messages, next }
    }

    /// Removes some of what has expired. There is more if [`RetainedStore::first_expiry`] says so.
    pub(crate) fn sweep(&self, now: Millis, pen: &mut Pen) {
        // Freed when nobody waits for the lock any more.
        let mut removed = Vec::new();
        let mut inner = self.inner.write();
        while removed.len() < SWEEP_BATCH
            && let Some((at, topic)) = inner.expiring.first()
            && *at <= now
        {
            let topic = Arc::clone(topic);
            removed.push(inner.remove(&topic));
            self.note_cleared(&mut inner, &topic, pen);
        }
    }

    /// Some of those that have expired, which stay.
    pub(crate) fn expired(&self, now: Millis, most: usize) -> Vec<(Millis, Arc<str>)> {
        let inner = self.inner.read();
        let expired = inner.expiring.iter().take_while(|(at, _)| *at <= now);
        expired.take(most).cloned().collect()
    }

    /// When the first of the messages expires.
    pub(crate) fn first_expiry(&self) -> Option<Millis> {
        self.inner.read().expiring.first().map(|(at, _)| *at)
    }

    /// Whether this is the payload that is retained.
    pub(crate) fn holds(&self, topic: &str, payload: &[u8]) -> bool {
        self.inner
            .read()
            .tree
            .get(topic)
            .is_some_and(|retained| retained.message.payload() == payload)
    }

    /// Whether this message, or one like it, is retained.
    pub(crate) fn has(&self, message: &Message) -> bool {
        let inner = self.inner.read();
        let retained = inner.tree.get(message.topic());
        retained.is_some_and(|retained| retained.message.as_publication() == message.as_publication())
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.read().tree.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().bytes
    }
}

/// Bytes of a message that may take the place of a smaller one although there is no memory left.
const SMALL: usize = 1024;

/// Bytes that a retained message takes: the store keeps the topic beside it, to find it.
fn charge(message: &Message) -> usize {
    message.size() + message.topic().len()
}

impl Inner {
    /// Whether the message, whose topic has none, is the first to expire.
    fn insert(&mut self, message: Arc<Message>) -> bool {
        self.bytes += charge(&message);
        let topic: Arc<str> = message.topic().into();
        let expires_at = message.expires_at();
        self.changes += 1;
        let change = self.changes;
        self.tree.insert_shared(&topic, Retained { message, change });
        let Some(at) = expires_at else { return false };
        self.expiring.insert((at, Arc::clone(&topic)));
        self.expiring
            .first()
            .is_some_and(|(_, first)| Arc::ptr_eq(first, &topic))
    }

    fn remove(&mut self, topic: &str) -> Option<Arc<Message>> {
        let old = self.tree.remove(topic)?.message;
        self.bytes -= charge(&old);
        if let Some(at) = old.expires_at() {
            self.expiring.remove(&(at, topic.into()));
        }
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Publication;
    use crate::packet::QoS;

    const AT: fn(u64) -> Millis = Millis::from_unix;

    fn message(topic: &str, expires_at: Option<u64>) -> Arc<Message> {
        Arc::new(Message::new(&Publication {
            topic,
            payload: b"x",
            properties: &[],
            expires_at: expires_at.map(Millis::from_unix),
            qos: QoS::AtMostOnce,
            retain: true,
        }))
    }

    fn store() -> RetainedStore {
        RetainedStore::new(10_000, usize::MAX, None)
    }

    fn topics(store: &RetainedStore) -> Vec<String> {
        let mut topics = Vec::new();
        let inner = store.inner.read();
        inner.tree.for_each_match("#", |topic, _| topics.push(topic.to_owned()));
        topics
    }

    #[test]
    fn a_sweep_removes_what_has_expired_and_nothing_else() {
        let store = store();
        for (topic, expires_at, is_first) in [
            ("a", Some(30), true),
            ("b", None, false),
            ("c", Some(10), true),
            ("d", Some(20), false),
        ] {
            assert_eq!(
                store.set(message(topic, expires_at), &mut Pen::default()),
                Ok(is_first),
                "{topic}"
            );
        }
        store.sweep(AT(9), &mut Pen::default());
        assert_eq!(store.len(), 4);
        store.sweep(AT(20), &mut Pen::default());
        assert_eq!(topics(&store), ["a", "b"]);
        assert_eq!(store.first_expiry(), Some(AT(30)));
        store.sweep(AT(u64::MAX), &mut Pen::default());
        assert_eq!((topics(&store), store.first_expiry()), (vec!["b".to_owned()], None));
        assert_eq!(store.bytes(), message("b", None).size() + 1);
    }

    #[test]
    fn the_expiry_of_a_message_goes_with_it() {
        let store = RetainedStore::new(3, usize::MAX, None);
        let set = |topic, expires_at| store.set(message(topic, expires_at), &mut Pen::default());
        assert_eq!(
            (set("a", Some(10)), set("b", Some(20)), set("c", Some(30))),
            (Ok(true), Ok(false), Ok(false))
        );
        assert_eq!(set("a", Some(40)), Ok(false));
        assert_eq!(store.first_expiry(), Some(AT(20)));
        assert_eq!(set("b", None), Ok(false));
        assert_eq!(store.first_expiry(), Some(AT(30)));
        store.clear("c", &mut Pen::default());
        assert_eq!(store.first_expiry(), Some(AT(40)));
        assert_eq!((set("c", Some(5)), set("d", Some(1))), (Ok(true), Err(Full)));
        assert_eq!(store.first_expiry(), Some(AT(5)));
        ["a", "b", "c"]
            .iter()
            .for_each(|topic| store.clear(topic, &mut Pen::default()));
        assert_eq!((store.len(), store.bytes(), store.first_expiry()), (0, 0, None));
    }

    /// The topic is charged twice: it is in the message, and in the order of topics.
    #[test]
    fn the_topic_counts_beside_the_message() {
        let long = "t".repeat(1000);
        let size = message(&long, None).size() + 1000;
        let store = RetainedStore::new(3, 2 * size - 1, None);
        assert_eq!(store.set(message(&long, None), &mut Pen::default()), Ok(false));
        assert_eq!(store.bytes(), size);
        let other = "u".repeat(1000);
        assert_eq!(store.set(message(&other, None), &mut Pen::default()), Err(Full));
        assert_eq!(store.set(message(&long, Some(10)), &mut Pen::default()), Ok(true));
        assert_eq!(store.bytes(), size);
        store.clear(&long, &mut Pen::default());
        assert_eq!(
            (store.set(message(&other, None), &mut Pen::default()), store.bytes()),
            (Ok(false), size)
        );
        store.clear(&other, &mut Pen::default());
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn a_sweep_holds_the_lock_for_a_batch() {
        let store = store();
        for n in 0..2 * SWEEP_BATCH + 1 {
            assert!(
                store
                    .set(message(&n.to_string(), Some(10)), &mut Pen::default())
                    .is_ok()
            );
        }
        let left = std::iter::from_fn(|| {
            store.first_expiry()?;
            store.sweep(AT(10), &mut Pen::default());
            Some(store.len())
        });
        assert!(left.eq([SWEEP_BATCH + 1, 1, 0]));
    }
}
