//! What outlives the process: the changes of the session state, and who keeps them.
//!
//! The broker works on its own state in memory. What of it must survive is written to the [`Journal`] as [`Op`]s, in the
//! same step; a thread hands batches of them to the [`Store`], and whatever rests on a change waits until its batch is
//! kept. Sessions that end with their connection are not here at all.

mod client;
pub(crate) mod cluster;
mod disk;
#[cfg(any(test, feature = "faults"))]
mod faulty;
#[cfg(test)]
mod gated;
mod journal;
pub(crate) mod legacy;
#[cfg(any(test, feature = "faults"))]
mod memory;
mod meter;
mod op;
mod open;
#[cfg(feature = "redis")]
mod redis;
mod settings;
mod stored;
#[cfg(test)]
mod suite;

use std::fmt;

pub(crate) use client::{read_client, write_client};
#[cfg(feature = "cli")]
pub(crate) use disk::{DiskStore, StoreStats, is_there, remake};
#[cfg(test)]
pub(crate) use gated::Gated;
pub(crate) use journal::{Journal, Pen, Receipt, Waits};
#[cfg(any(test, feature = "faults"))]
pub(crate) use memory::MemoryStore;
pub(crate) use meter::BOUNDS;
pub(crate) use op::{Lane, Op, Recipient, SessionRecord, SubscriptionRecord, TermsRecord, Uid};
#[cfg(any(feature = "cli", test))]
pub(crate) use op::{write_message, write_recipient};
pub(crate) use open::open;
#[cfg(feature = "redis")]
pub(crate) use open::open_shared;
#[cfg(feature = "cli")]
pub(crate) use open::open_to_read;
#[cfg(all(feature = "redis", feature = "cli"))]
pub(crate) use redis::{doctor, load as load_shared, store_is_there as is_shared_there};
#[cfg(feature = "cli")]
pub(crate) use settings::without_secrets;
pub use settings::{DiskSettings, Durability, Persistence, RedisSettings};
pub(crate) use stored::{Extent, StoredDelivery, StoredMessage, StoredSession, StoredSubscription, StoredWill};

use crate::message::Message;
use crate::wire::Reader;

/// Keeps batches of changes, and gives back what they come to.
///
/// The contract, each sentence of which `store_suite!` tests:
///
/// * **Whole.** A batch is kept as a whole or not at all, also if the process is killed meanwhile.
/// * **Durable.** When [`commit`](Store::commit) has returned `Ok`, the batch survives what the store's guarantee names.
/// * **In order.** Batches are committed one after the other, and the changes of a batch have effect in their order.
/// * **Once.** A batch whose commit failed is committed again with the same number and the same bytes, and has effect
///   once, whether the failed attempt had any or not.
/// * **Nothing is invented.** Reading yields what the committed batches come to, and nothing of one that failed.
/// * **Strangers are ignored.** A change of a session that is not there has no effect, with two exceptions: a will is
///   kept without a session, and retained messages have none.
/// * **A session is one.** [`Op::SessionEnd`] removes all that belongs to the session but its will.
/// * **Queues keep their order.** A queue is read in the order of its places, each with the state that it has.
/// * **A place is used once.** A message at a place that is there already replaces nothing; one below the floor is left
///   out; a message that is finished is gone. A release without a message makes its place.
/// * **A replay goes on.** Putting a retained message into the lane moves the cursor of its subscription to its topic.
/// * **Retained messages are the last ones.** Each topic has the last message that was retained, or none.
/// * **Space is used again.** What is finished, ended or replaced takes no space for good.
/// * **One at a time.** What is open can't be opened by another process.
/// * **Nothing is trusted.** What was damaged is an error when it is read, never another value.
pub(crate) trait Store: Send + Sync + fmt::Debug {
    /// Keeps a batch. Blocks. Called by one thread, with numbers that count up from [`last_batch`](Store::last_batch).
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError>;

    /// Does of a commit what must be done before the batch is durable. [`follow`](Store::follow) does the rest.
    fn keep(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.commit(batch)
    }

    /// Keeps a batch that has nothing but messages which nobody is known to want, without reading it; `false` if it must be
    /// read, and so given to [`keep`](Store::keep).
    fn pass(&self, _batch: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Called after [`keep`](Store::keep) has returned `Ok`, by the same thread and before anything else is kept. Who reads
    /// waits for it, and so misses nothing that is durable.
    fn follow(&self, _batch: &Batch<'_>) {}

    /// The number of the last batch that is kept; 0 if there is none.
    fn last_batch(&self) -> Result<u64, StoreError>;

    /// Reads all sessions, in no order.
    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError>;

    /// Reads all wills.
    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError>;

    /// Reads all retained messages.
    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError>;

    /// Reads the messages of a queue from this place on, in order: at most `most.messages` of them, and no more after
    /// `most.bytes`. Those of the last batch that was committed are among them. Nothing if the session is not there.
    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError>;

    /// Whether all that has begun is finished, and nobody changes anything, as it must be to be moved.
    ///
    /// # Errors
    /// If it is not so, or that can't be known.
    #[cfg(any(feature = "cli", test))]
    fn look_whether_it_rests(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Gives up what is held. Nothing is called after it.
    fn close(&self) -> Result<(), StoreError>;
}

/// Changes that are kept together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) number: u64,
    /// [`Op`]s, one behind the other.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Its changes. An error, which only bytes from outside can be, is the last item.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Result<Op<'a>, StoreError>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed || reader.is_empty() {
                return None;
            }
            let op = Op::read(&mut reader);
            failed = op.is_err();
            Some(op.map_err(|error| StoreError::Damaged(format!("a batch of changes: {}", error.0))))
        })
    }
}

/// How much of a queue is read at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Why a store can't do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It can't be had now: no space, no connection. To be tried again.
    Unavailable(String),
    /// What it holds is not what was put there.
    Damaged(String),
    /// It can't be used as it is set up, or another process has it.
    Refused(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why) | StoreError::Refused(why) => f.write_str(why),
            StoreError::Damaged(what) => write!(f, "the store is damaged: {what}"),
        }
    }
}

impl std::error::Error for StoreError {}
