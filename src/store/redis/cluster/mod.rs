//! How the brokers of a cluster, or one of them alone, write, and what they tell each other.
//!
//! The protocol is in `tests/cluster/PROTOCOL.md`. A batch is [planned](plan) into [calls](call) of two scripts, one for buckets and one for the
//! global home (`scripts/cluster/`), which the [`Writer`] makes. It is kept when all have been answered, the log has been applied as
//! far as it was then, and the batch's messages have gone to what others [have added](rematch) meanwhile.

mod about;
mod again;
mod answers;
mod asking;
mod call;
mod calls;
mod calls_made;
#[cfg(any(feature = "cli", test))]
mod clients;
#[cfg(any(feature = "cli", test))]
mod doctor;
#[cfg(any(feature = "cli", test))]
mod drafts;
mod follow;
mod following;
mod generation;
mod gifts;
mod glance;
mod inbox;
mod leaving;
mod legacy;
mod life;
#[cfg(any(feature = "cli", test))]
mod loader;
mod log;
mod members;
mod memory;
mod open;
mod owed;
mod plan;
mod planner;
mod publishing;
mod read;
#[cfg(any(feature = "cli", test))]
mod reader;
mod recent;
mod rematch;
mod runs;
mod scripts;
mod serving;
mod shared;
mod stream;
mod wake;
mod witness;
mod writer;

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

#[cfg(any(feature = "cli", test))]
pub(super) use self::doctor::doctor;
use self::following::Following;
use self::life::Life;
use self::memory::Memory;
use self::recent::Recent;
use self::scripts::ClusterScripts;
use self::witness::Told;
use self::writer::Writer;
use super::keys::{Home, Keys};
#[cfg(any(feature = "cli", test))]
use super::link::Link;
use super::read as read_any;
use super::readers::Readers;
#[cfg(any(feature = "cli", test))]
use super::schema::{expect_there, is_there};
use crate::message::Message;
use crate::store::cluster::{Incarnation, Limits, Serving, bucket_of_uid};
use crate::store::legacy::{Legacies, Legacy};
use crate::store::{
    Batch, Lane, Page, RedisSettings, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid,
};
use crate::time::Millis;

/// Joins the cluster with this prefix, as a node that was never there before.
///
/// # Errors
/// See [`ClusterStore::open`].
pub(crate) fn open(settings: &RedisSettings, limits: Limits) -> Result<ClusterStore, StoreError> {
    ClusterStore::open(settings, limits, settings.lease)
}

/// Opens the store with this prefix to look into it: nodes that have it go on, and nothing can be committed.
///
/// # Errors
/// If Redis can't be reached, nothing is there, or what is there is of another schema.
#[cfg(any(feature = "cli", test))]
pub(crate) fn open_to_read(settings: &RedisSettings) -> Result<Arc<dyn Store>, StoreError> {
    let keys = Keys::new(&settings.prefix)?;
    let mut link = Link::connect(settings)?;
    expect_there(&mut link, &keys)?;
    Ok(Arc::new(reader::Reader::open(settings, keys, &mut link)?))
}

/// Whether there is a store with this prefix.
///
/// # Errors
/// If Redis can't be reached, or what is there is of another schema.
#[cfg(any(feature = "cli", test))]
pub(crate) fn store_is_there(settings: &RedisSettings) -> Result<bool, StoreError> {
    let keys = Keys::new(&settings.prefix)?;
    is_there(&mut Link::connect(settings)?, &keys)
}

/// Fills the store of a cluster that is to be: what `fill` has come to.
///
/// # Errors
/// See [`loader`].
#[cfg(any(feature = "cli", test))]
pub(crate) fn load<T>(
    settings: &RedisSettings,
    fill: impl FnOnce(&dyn Store) -> Result<T, String>,
) -> Result<T, String> {
    loader::load(settings, fill)
}

/// Bytes of a batch that show that there is much to do.
const BUSY: usize = 4096;

/// See the module.
pub(crate) struct ClusterStore {
    keys: Keys,
    scripts: ClusterScripts,
    incarnation: Incarnation,
    /// Incarnations up to this one were over when it joined.
    generation: Incarnation,
    writer: Mutex<Writer>,
    readers: Readers,
    recent: Arc<Recent>,
    life: Arc<Life>,
    following: Following,
    /// Who is told what has become of messages, once there is somebody.
    follower: Told,
    /// The servers that have all that was confirmed.
    serving: Arc<Mutex<Serving>>,
    /// What was confirmed lately, until this incarnation is over.
    memory: Mutex<Option<Memory>>,
    /// What incarnations before have left, until that has been dealt with.
    inherited: Mutex<Vec<Legacy>>,
    /// Where what is left goes.
    legacies: Legacies,
    not_retained: AtomicU64,
    /// Something is to be done with the next batch.
    owes: AtomicBool,
    /// The time of Redis at some moment.
    now: (Millis, Instant),
}

impl ClusterStore {
    fn count_not_retained(&self, count: u64) {
        if count > 0 && self.not_retained.fetch_add(count, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "there are as many retained messages in the cluster as there may be: others are not retained"
            );
        }
    }
}

impl Store for ClusterStore {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.life.check()?;
        let follower = self.follower.lock().clone();
        let kept = {
            let mut writer = self.writer.lock();
            let kept = writer.keep(batch, &self.recent, follower.as_deref());
            self.owes.store(writer.owes(), Ordering::Relaxed);
            kept
        };
        if let Err(error @ StoreError::Refused(_)) = &kept {
            self.life.end(error.clone());
        }
        let Some(plan) = kept? else {
            return Ok(());
        };
        self.count_not_retained(answers::not_retained(&plan));
        if let Some(follower) = follower {
            answers::tell(&plan, &*follower);
        }
        if let Some(memory) = &mut *self.memory.lock() {
            memory.keep(plan, Instant::now());
        }
        Ok(())
    }

    fn pass(&self, batch: u64) -> Result<bool, StoreError> {
        self.life.check()?;
        let passed = self.writer.lock().pass(batch, &self.recent);
        if let Err(error @ StoreError::Refused(_)) = &passed {
            self.life.end(error.clone());
        }
        passed
    }

    /// Who waited has been told, and if there is much to do has more for the next batch in a moment, which costs the same with
    /// more in it.
    fn follow(&self, batch: &Batch<'_>) {
        if batch.bytes.len() > BUSY {
            std::thread::yield_now();
        }
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        Ok(self.writer.lock().last())
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        self.readers.once(|link| {
            let places = read_any::members(link, &self.keys, "sessions")?;
            let places: Vec<_> = places.into_iter().map(|(home, uid)| (uid, home)).collect();
            read_any::sessions(link, &self.keys, &places, each)
        })
    }

    /// They are part of their clients, and nobody has to read them at the start.
    fn wills(&self, _each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        Ok(())
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.readers.once(|link| read_any::retained(link, &self.keys, each))
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        let key = (&self.keys, Home::Bucket(bucket_of_uid(uid)), uid, lane);
        self.readers
            .read(|link| read_any::queue(link, key, &self.scripts.basic, from, most))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.following.close();
        *self.follower.lock() = None;
        self.readers.close();
        self.writer.lock().close();
        Ok(())
    }
}

impl fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterStore")
            .field("prefix", &self.keys.prefix())
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
