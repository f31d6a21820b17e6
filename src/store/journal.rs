//! Collects changes into batches, has them kept, and tells who waits for that.
//!
//! ```text
//!   pens ----> open batch n+1        closed batch n ----> Store::commit ----> durable = n, who waits is told
//!   enter, leave        \__ closed when n is done __/
//! ```
//!
//! While a batch is being kept, the next one grows: so a lone publisher waits for one commit, and thousands share one.
//!
//! Invariants:
//! * What a pen has written between [`Journal::enter`] and leaving is in one batch, and so is kept as a whole.
//! * A batch is committed only when all pens that entered it have left it. So a pen is not held across an await.
//! * The changes of one session are written by its owner, one batch of input after the other, and each pen leaves before the
//!   session changes hands: they are in order. What publishers put into its queues carries its place.
//! * [`Pen::write_now`] keeps the order in which it is called, also between pens.
//! * What [`Journal::write_last`] writes is behind all that pens have written which had entered before.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, watch};

use super::cluster::{Publishing, write_publish};
use super::meter::{Commits, Meter};
use super::op::{CLUSTER, Recipient, write_message, write_recipient};
use super::{Batch, Lane, Op, Page, Store, StoreError, StoredDelivery, Uid};
use crate::message::Publication;
use crate::packet::QoS;

/// Somebody who waits for batches to be kept.
pub(crate) trait Waits: Send + Sync {
    /// A batch that it waited for has been kept.
    fn kept(&self);
}

/// See the module.
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    open: Mutex<Open>,
    /// Told when there is something to commit, or when the last pen has left.
    written: Condvar,
    /// The last batch that is kept.
    durable: AtomicU64,
    /// Bytes that are not kept yet, those that are being kept included.
    pending: AtomicUsize,
    is_failing: AtomicBool,
    /// When the attempt began that is under way, in ms since `started`, plus one; 0 if there is none.
    attempt: AtomicU64,
    started: Instant,
    /// Why the store will never take changes again, once that is so.
    lost: watch::Sender<Option<StoreError>>,
    meter: Meter,
    /// Those who read queues: each takes a thread.
    reads: Semaphore,
}

/// Queues that are read at a time.
const MOST_READS: usize = 32;

#[derive(Default)]
struct Open {
    /// The batch that pens enter.
    number: u64,
    /// The open batch, and the one before: see [`Open::part`].
    parts: [Part; 2],
    /// The thread that commits waits.
    is_idle: bool,
    is_closing: bool,
    has_ended: bool,
}

#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    /// There is something in it beside messages that nobody is known to want.
    has_changes: bool,
    /// Goes behind what the pens write.
    last: Vec<u8>,
    writers: usize,
    waits: Vec<Arc<dyn Waits>>,
}

/// A batch that all pens have left.
struct Closed {
    number: u64,
    bytes: Vec<u8>,
    has_changes: bool,
    waits: Vec<Arc<dyn Waits>>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.last.is_empty() && self.waits.is_empty()
    }
}

impl Open {
    fn part(&mut self, number: u64) -> &mut Part {
        &mut self.parts[(number & 1) as usize]
    }
}

/// Bytes that may wait to be kept before clients that write more have to wait.
const FULL: usize = 32 * 1024 * 1024;
/// What an empty buffer may keep allocated.
const SMALL: usize = 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long attempts fail before the store counts as failing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a commit may take before the store counts as failing.
const HANGING: Duration = Duration::from_secs(5);
/// Between two complaints about the same trouble.
const COMPLAINTS: Duration = Duration::from_secs(60);

impl Journal {
    /// Starts the thread that commits. It ends when the journal is [closed](Journal::close).
    ///
    /// # Errors
    /// If the store does not say how far it is, or the system gives no thread.
    pub(crate) fn start(store: Arc<dyn Store>) -> Result<Arc<Journal>, StoreError> {
        let last = store.last_batch()?;
        let journal = Arc::new(Journal {
            store,
            open: Mutex::new(Open {
                number: last + 1,
                ..Open::default()
            }),
            written: Condvar::new(),
            durable: AtomicU64::new(last),
            pending: AtomicUsize::new(0),
            is_failing: AtomicBool::new(false),
            attempt: AtomicU64::new(0),
            started: Instant::now(),
            lost: watch::Sender::new(None),
            meter: Meter::default(),
            reads: Semaphore::new(MOST_READS),
        });
        let own = Arc::clone(&journal);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || own.run())
            .map_err(|error| StoreError::Unavailable(format!("no thread for the store: {error}")))?;
        Ok(journal)
    }

    /// The last batch that is kept.
    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Whether so much waits to be kept that clients must wait.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.pending() > FULL
    }

    /// The batch that pens enter now.
    pub(crate) fn open_batch(&self) -> u64 {
        self.open.lock().number
    }

    /// Bytes that are not kept yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether nothing could be committed for a while. A failure that is over soon is nothing but a slow commit; a commit
    /// that does not end is a failure.
    pub(crate) fn is_failing(&self) -> bool {
        let attempt = self.attempt.load(Ordering::Relaxed);
        let hangs = || attempt != 0 && self.now() > attempt + HANGING.as_millis() as u64;
        self.is_failing.load(Ordering::Relaxed) || hangs()
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    /// The commits until now.
    pub(crate) fn commits(&self) -> Commits {
        self.meter.read()
    }

    /// Waits until the store will never take changes again, because another broker has it now: why.
    pub(crate) async fn lost(&self) -> StoreError {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            // The sender is here.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Reads a queue where waiting for a disk or another server holds nobody up.
    pub(crate) async fn read_queue(
        &self,
        uid: Uid,
        lane: Lane,
        from: u64,
        most: Page,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let _turn = self.reads.acquire().await;
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || store.queue(uid, lane, from, most));
        read.await
            .map_err(|error| StoreError::Unavailable(format!("the queue was not read: {error}")))?
    }

    /// Writes a change behind all that was written, or will be by a pen that has entered already. Nothing waits for it.
    pub(crate) fn write_last(&self, op: &Op<'_>) {
        let mut open = self.open.lock();
        let number = open.number;
        let part = open.part(number);
        let before = part.last.len();
        op.write(&mut part.last);
        self.pending.fetch_add(part.last.len() - before, Ordering::Relaxed);
        if open.is_idle {
            self.written.notify_all();
        }
    }

    /// Has all that was written kept, then closes the store. Blocks. Gives up, if the store fails.
    pub(crate) fn close(&self) {
        let mut open = self.open.lock();
        open.is_closing = true;
        self.written.notify_all();
        while !open.has_ended {
            self.written.wait(&mut open);
        }
    }

    /// Lets the thread end by itself.
    pub(crate) fn let_go(&self) {
        self.open.lock().is_closing = true;
        self.written.notify_all();
    }

    fn run(&self) {
        let _end = End(self);
        let mut complaints = Complaints::default();
        while self.commit_next(&mut complaints) {}
        if let Err(error) = self.store.close() {
            tracing::error!(%error, "the store was not closed well");
        }
    }

    /// Commits a batch; `false` if there is none and will be none.
    fn commit_next(&self, complaints: &mut Complaints) -> bool {
        let Some(closed) = self.take_batch() else {
            return false;
        };
        let (number, mut bytes) = (closed.number, closed.bytes);
        let batch = Batch { number, bytes: &bytes };
        let has_changes = closed.has_changes || bytes.is_empty();
        if !self.keep(&batch, has_changes, complaints) {
            return false;
        }
        self.pending.fetch_sub(batch.bytes.len(), Ordering::Relaxed);
        self.durable.store(number, Ordering::Release);
        closed.waits.iter().for_each(|waits| waits.kept());
        self.store.follow(&batch);
        bytes.clear();
        bytes.shrink_to(SMALL);
        let part = &mut *self.open.lock();
        let part = part.part(number);
        if part.bytes.capacity() < bytes.capacity() {
            // It is the part of the next batch but one, and empty.
            part.bytes = bytes;
        }
        true
    }

    fn take_batch(&self) -> Option<Closed> {
        let mut open = self.open.lock();
        let number = open.number;
        while open.part(number).is_empty() {
            if open.is_closing && open.part(number).writers == 0 {
                return None;
            }
            self.wait(&mut open);
        }
        open.number += 1;
        while open.part(number).writers > 0 {
            self.wait(&mut open);
        }
        let part = open.part(number);
        let last = std::mem::take(&mut part.last);
        part.bytes.extend_from_slice(&last);
        Some(Closed {
            number,
            bytes: std::mem::take(&mut part.bytes),
            has_changes: std::mem::take(&mut part.has_changes) || !last.is_empty(),
            waits: std::mem::take(&mut part.waits),
        })
    }

    fn wait(&self, open: &mut MutexGuard<'_, Open>) {
        open.is_idle = true;
        self.written.wait(open);
        open.is_idle = false;
    }

    /// Tries until it succeeds; `false` if the broker ends before.
    fn keep(&self, batch: &Batch<'_>, has_changes: bool, complaints: &mut Complaints) -> bool {
        let mut pause = FIRST_PAUSE;
        let mut failing_since: Option<Instant> = None;
        while let Err(error) = self.try_to_keep(batch, has_changes) {
            let since = failing_since.get_or_insert_with(Instant::now);
            self.is_failing.store(since.elapsed() >= PATIENCE, Ordering::Relaxed);
            if matches!(error, StoreError::Refused(_)) {
                tracing::error!(%error, "the store is lost: nothing that rests on it is acknowledged any more");
                self.is_failing.store(true, Ordering::Relaxed);
                self.lost.send_replace(Some(error));
                return false;
            }
            complaints.failed(&error);
            let mut open = self.open.lock();
            if open.is_closing {
                tracing::error!(%error, "the broker ends, and what was not acknowledged is not kept");
                return false;
            }
            self.written.wait_for(&mut open, pause);
            drop(open);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.is_failing.store(false, Ordering::Relaxed);
        complaints.succeeded();
        true
    }

    fn try_to_keep(&self, batch: &Batch<'_>, has_changes: bool) -> Result<(), StoreError> {
        let started = Instant::now();
        self.attempt.store(self.now(), Ordering::Relaxed);
        let passed = if has_changes {
            Ok(false)
        } else {
            self.store.pass(batch.number)
        };
        let result = passed.and_then(|passed| if passed { Ok(()) } else { self.store.keep(batch) });
        self.attempt.store(0, Ordering::Relaxed);
        match &result {
            Ok(()) => self.meter.kept(started.elapsed(), batch.bytes.len()),
            Err(_) => self.meter.failed(),
        }
        result
    }

    fn enter(&self) -> u64 {
        let mut open = self.open.lock();
        let number = open.number;
        open.part(number).writers += 1;
        number
    }

    fn leave(&self, open: &mut Open, number: u64, pen: &mut Pen) {
        self.pending.fetch_add(pen.bytes.len(), Ordering::Relaxed);
        let part = open.part(number);
        part.bytes.extend_from_slice(&pen.bytes);
        part.has_changes |= std::mem::take(&mut pen.has_changes);
        part.waits.append(&mut pen.waits);
        part.writers -= 1;
        pen.bytes.clear();
        pen.bytes.shrink_to(SMALL);
        if open.is_idle {
            self.written.notify_all();
        }
    }
}

/// The thread that commits ends: nobody waits for it for ever, also if the store has panicked.
struct End<'a>(&'a Journal);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the store has failed for good: nothing that rests on it is acknowledged any more");
            self.0.is_failing.store(true, Ordering::Relaxed);
        }
        self.0.open.lock().has_ended = true;
        self.0.written.notify_all();
    }
}

/// What was said about the store. One that fails every now and then is complained of as seldom as one that fails always.
#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    /// It was not said yet that the store takes changes again.
    is_open: bool,
}

impl Complaints {
    fn failed(&mut self, error: &StoreError) {
        if self.last.is_none_or(|at| at.elapsed() >= COMPLAINTS) {
            tracing::error!(%error, "the store does not take changes: what rests on them is not acknowledged until it does");
            self.last = Some(Instant::now());
            self.is_open = true;
        }
    }

    fn succeeded(&mut self) {
        if std::mem::take(&mut self.is_open) {
            tracing::info!("the store takes changes again");
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("store", &self.store)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// Says when a batch is kept.
#[derive(Debug)]
pub(crate) struct Receipt {
    journal: Arc<Journal>,
    batch: u64,
    told: Arc<Notify>,
}

impl Receipt {
    /// Waits until it is. The pen must have left.
    pub(crate) async fn kept(self) {
        while self.journal.durable() < self.batch {
            self.told.notified().await;
        }
    }
}

impl Waits for Notify {
    fn kept(&self) {
        self.notify_one();
    }
}

/// Writes changes, between two waits of its connection. Leaves when it is dropped.
#[derive(Default)]
pub(crate) struct Pen {
    entered: Option<(Arc<Journal>, u64)>,
    bytes: Vec<u8>,
    /// See [`Part`].
    has_changes: bool,
    /// The recipients of the message that is being routed.
    recipients: Vec<u8>,
    count: u32,
    waits: Vec<Arc<dyn Waits>>,
}

impl Pen {
    /// The batch that it writes to, if it has written.
    pub(crate) fn batch(&self) -> Option<u64> {
        self.entered.as_ref().map(|(_, number)| *number)
    }

    /// Writes a change; the batch of which it is part.
    pub(crate) fn write(&mut self, journal: &Arc<Journal>, op: &Op<'_>) -> u64 {
        let batch = self.enter(journal);
        op.write(&mut self.bytes);
        self.has_changes = true;
        batch
    }

    /// Writes a change behind all that others have written in this way, and before what they will.
    pub(crate) fn write_now(&mut self, journal: &Arc<Journal>, op: &Op<'_>) -> u64 {
        debug_assert!(self.count == 0, "a message that has recipients is written as a whole");
        let entered = self.entered.take();
        let mut open = journal.open.lock();
        if let Some((_, number)) = entered {
            journal.leave(&mut open, number, self);
        }
        let number = open.number;
        let part = open.part(number);
        part.writers += 1;
        let before = part.bytes.len();
        op.write(&mut part.bytes);
        part.has_changes = true;
        let size = part.bytes.len() - before;
        drop(open);
        journal.pending.fetch_add(size, Ordering::Relaxed);
        self.entered = Some((Arc::clone(journal), number));
        number
    }

    /// Goes on in this batch, or in a later one, if it has entered an earlier one.
    pub(crate) fn move_to(&mut self, journal: &Arc<Journal>, batch: u64) {
        if self.entered.as_ref().is_some_and(|(_, number)| *number < batch) {
            debug_assert!(self.count == 0, "a message that has recipients is written as a whole");
            self.leave();
            self.enter(journal);
        }
    }

    /// Notes a queue that the message which is being routed was put into; the batch of which that is part.
    pub(crate) fn add_recipient(&mut self, journal: &Arc<Journal>, recipient: &Recipient<'_>) -> u64 {
        let batch = self.enter(journal);
        write_recipient(&mut self.recipients, recipient);
        self.has_changes = true;
        self.count += 1;
        batch
    }

    /// Enters the open batch: what is matched from now on is matched in it, or in a later one.
    pub(crate) fn begin(&mut self, journal: &Arc<Journal>) {
        self.enter(journal);
    }

    /// The message has been routed, in a cluster. Of QoS 1 and 2 it is written down even if it is for nobody: somebody may have
    /// subscribed whom this node does not know of yet. And what has begun must be finished.
    pub(crate) fn end_publish(&mut self, message: &Publication<'_>, publishing: &Publishing<'_>) {
        if self.count > 0 || message.qos > QoS::AtMostOnce || publishing.once.is_some() {
            self.has_changes |= publishing.once.is_some();
            self.bytes.push(CLUSTER);
            write_publish(&mut self.bytes, message, publishing, (self.count, &self.recipients));
            self.recipients.clear();
            self.recipients.shrink_to(SMALL);
            self.count = 0;
        }
    }

    /// The message has been routed.
    pub(crate) fn end_message(&mut self, message: &Publication<'_>) {
        if self.count > 0 {
            write_message(&mut self.bytes, self.count, &self.recipients, message);
            self.recipients.clear();
            self.recipients.shrink_to(SMALL);
            self.count = 0;
        }
    }

    /// Has somebody told when the batch is kept. To be called only between a change and leaving.
    pub(crate) fn tell(&mut self, waits: Arc<dyn Waits>) {
        debug_assert!(self.entered.is_some(), "nothing was written that can be waited for");
        self.waits.push(waits);
    }

    /// What is to be waited for until all that was written is kept; `None` if nothing was.
    pub(crate) fn receipt(&mut self) -> Option<Receipt> {
        let (journal, batch) = self.entered.clone()?;
        let told = Arc::new(Notify::new());
        self.tell(Arc::clone(&told) as _);
        Some(Receipt { journal, batch, told })
    }

    /// All has been written. To be called before its connection waits for anything.
    pub(crate) fn leave(&mut self) {
        debug_assert!(self.count == 0, "the message was not ended");
        if let Some((journal, number)) = self.entered.take() {
            let mut open = journal.open.lock();
            journal.leave(&mut open, number, self);
        }
    }

    fn enter(&mut self, journal: &Arc<Journal>) -> u64 {
        if let Some((_, number)) = &self.entered {
            return *number;
        }
        let number = journal.enter();
        self.entered = Some((Arc::clone(journal), number));
        number
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        // A panic may have come between a recipient and the end of its message, which nobody is told of then.
        self.count = 0;
        self.leave();
    }
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen")
            .field("batch", &self.batch())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
