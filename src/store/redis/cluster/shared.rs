//! What the broker asks of a store that it shares.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{ClusterStore, inbox, read};
use crate::store::cluster::{ClientRecord, Follower, Incarnation, Job, Members, Mid, Shared, Snapshot, bucket_of_uid};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::{StoreError, StoredSession, Uid};
use crate::time::Millis;

impl Shared for ClusterStore {
    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn time(&self) -> (Millis, Instant) {
        self.now
    }

    fn follow_log(&self, follower: Arc<dyn Follower>) -> Result<(), StoreError> {
        *self.follower.lock() = Some(Arc::clone(&follower));
        self.following.begin(&follower)
    }

    /// What has been changed since the position at which this node joined is in it, and is applied again.
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.ask(read::snapshot)
    }

    fn client(&self, client_id: &str, job: Mid) -> Result<(ClientRecord, Option<Job>), StoreError> {
        self.ask(|link, keys| read::client(link, keys, client_id, job))
    }

    fn session(&self, uid: Uid) -> Result<Option<StoredSession>, StoreError> {
        let place = (uid, Home::Bucket(bucket_of_uid(uid)));
        self.ask(|link, keys| read::session(link, keys, place))
    }

    fn jobs(&self, mids: &[(u8, Mid)]) -> Result<Vec<Job>, StoreError> {
        self.ask(|link, keys| read::jobs(link, keys, mids))
    }

    fn jobs_of(&self, of: Incarnation) -> Result<Vec<Job>, StoreError> {
        self.ask(|link, keys| read::jobs_of(link, keys, of))
    }

    fn owned_by(&self, of: Incarnation) -> Result<Vec<Box<str>>, StoreError> {
        self.ask(|link, keys| read::owned_by(link, keys, of))
    }

    fn wanted_from(&self, of: Incarnation) -> Result<Vec<Box<str>>, StoreError> {
        self.ask(|link, keys| read::wanted_from(link, keys, of))
    }

    fn due(&self, buckets: &[u8], most: usize) -> Result<Vec<(u8, usize)>, StoreError> {
        self.ask(|link, keys| read::due(link, keys, buckets, most))
    }

    fn members(&self) -> Result<Members, StoreError> {
        self.following.members()
    }

    fn beat(&self) -> Result<bool, StoreError> {
        self.following.beat()
    }

    fn empty_inbox(&self) -> Result<(), StoreError> {
        match self.ask(|link, keys| inbox::newest(link, keys, self.incarnation))? {
            Some(newest) => self.following.wait_for_inbox(newest),
            None => Ok(()),
        }
    }

    fn owes(&self) -> bool {
        self.owes.load(Ordering::Relaxed) || self.recent.is_long()
    }

    fn last_contact(&self) -> Option<Instant> {
        self.following.last_contact()
    }
}

impl ClusterStore {
    /// Over one of the connections that all share.
    fn ask<T>(&self, read: impl Fn(&mut Link, &Keys) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.readers.read(|link| read(link, &self.keys))
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
