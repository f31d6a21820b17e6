//! A store in Redis or Valkey.
//!
//! What is kept is divided into homes (`keys.rs`), each of which is changed by one script (`scripts/write.lua`). A batch is
//! [planned](plan) into calls of it, which the [`Writer`] sends; [reading](read) goes over connections of its own.
//! The keys and their fields are described in `docs/redis.md`.

mod attempt;
mod check;
mod cluster;
mod connect;
#[cfg(any(feature = "cli", test))]
mod doctor;
mod entry;
mod keys;
mod link;
mod note;
mod open;
mod plan;
mod read;
mod readers;
mod reply;
mod script;
mod slots;
mod target;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

#[cfg(any(feature = "cli", test))]
pub(crate) use cluster::load as load_shared;
pub(crate) use cluster::open as open_shared;
#[cfg(any(feature = "cli", test))]
pub(crate) use doctor::doctor;
pub(crate) use open::open;
#[cfg(any(feature = "cli", test))]
pub(crate) use open::open_to_read;

use self::keys::{Home, Keys};
use self::plan::{Place, Places};
use self::readers::Readers;
use self::script::Scripts;
use self::writer::Writer;
use super::{Batch, Lane, Page, Store, StoreError, StoredDelivery, StoredSession, StoredWill, Uid};
use crate::message::Message;

/// See the module.
pub(crate) struct RedisStore {
    writer: Mutex<Writer>,
    readers: Readers,
    keys: Keys,
    scripts: Scripts,
    places: Arc<RwLock<Places>>,
}

impl RedisStore {
    fn all(&self, which: impl Fn(&Place) -> bool) -> Vec<(Uid, Home)> {
        let places = self.places.read();
        let places = places.iter().filter(|(_, place)| which(place));
        places.map(|(uid, place)| (*uid, place.home)).collect()
    }
}

impl Store for RedisStore {
    fn commit(&self, batch: &Batch<'_>) -> Result<(), StoreError> {
        self.writer.lock().commit(batch)
    }

    fn last_batch(&self) -> Result<u64, StoreError> {
        Ok(self.writer.lock().last())
    }

    fn sessions(&self, each: &mut dyn FnMut(StoredSession)) -> Result<(), StoreError> {
        let places = self.all(|place| place.has_session);
        self.readers
            .once(|link| read::sessions(link, &self.keys, &places, each))
    }

    fn wills(&self, each: &mut dyn FnMut(StoredWill)) -> Result<(), StoreError> {
        let places = self.all(|place| place.has_will);
        self.readers.once(|link| read::wills(link, &self.keys, &places, each))
    }

    fn retained(&self, each: &mut dyn FnMut(Message)) -> Result<(), StoreError> {
        self.readers.once(|link| read::retained(link, &self.keys, each))
    }

    fn queue(&self, uid: Uid, lane: Lane, from: u64, most: Page) -> Result<Vec<StoredDelivery>, StoreError> {
        let place = self.places.read().get(&uid).copied();
        match place.filter(|place| place.has_session) {
            Some(place) => self.readers.read(|link| {
                let key = (&self.keys, place.home, uid, lane);
                read::queue(link, key, &self.scripts, from, most)
            }),
            None => Ok(Vec::new()),
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.readers.close();
        self.writer.lock().close()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.keys.prefix())
            .finish_non_exhaustive()
    }
}
