//! What the broker asks of a store that it shares.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::life::left;
use super::{ClusterStore, about, generation, glance, inbox, read, wake};
use crate::store::cluster::{
    About, Again, AwaySession, ClientRecord, Follower, Homes, Incarnation, Inherited, Job, Members, Mid, Overview,
    Rest, Servers, Shared, Snapshot, Token,
};
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

    fn clients(&self, client_ids: &[Arc<str>]) -> Result<Vec<ClientRecord>, StoreError> {
        self.ask(|link, keys| read::clients(link, keys, client_ids))
    }

    fn next_places(&self, uids: &[Uid]) -> Result<Vec<u64>, StoreError> {
        self.ask(|link, keys| read::next_places(link, keys, uids))
    }

    fn these(&self, uids: &[Uid]) -> Result<Vec<Option<StoredSession>>, StoreError> {
        self.ask(|link, keys| read::sessions(link, keys, uids))
    }

    fn jobs(&self, mids: &[(u8, Mid)]) -> Result<Vec<Job>, StoreError> {
        self.ask(|link, keys| read::jobs(link, keys, mids))
    }

    fn jobs_of(&self, of: Incarnation) -> Result<Vec<Job>, StoreError> {
        self.ask(|link, keys| read::jobs_of(link, keys, of))
    }

    fn rests_of(&self, of: Incarnation) -> Result<Vec<Rest>, StoreError> {
        self.ask(|link, keys| read::rests_of(link, keys, of))
    }

    fn owned_by(&self, of: Incarnation) -> Result<Vec<Box<str>>, StoreError> {
        self.ask(|link, keys| read::owned_by(link, keys, of))
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

    fn depart(&self) -> Result<Vec<u8>, StoreError> {
        self.life.check()?;
        self.writer.lock().depart()
    }

    /// The threads that follow others find nothing any more of what they follow: they end with the node.
    fn bye(&self) -> Result<(), StoreError> {
        if self.life.is_over() {
            return Ok(());
        }
        self.life.leave();
        self.writer.lock().bye()?;
        self.life.end(left());
        Ok(())
    }

    fn announce(&self, about: &About) -> Result<u64, StoreError> {
        let applied = self.recent.position();
        let position = self.ask(|link, keys| about::announce(link, keys, self.incarnation, about))?;
        Ok(position.saturating_sub(applied))
    }

    fn overview(&self) -> Result<Overview, StoreError> {
        self.ask(about::overview)
    }

    fn count_sessions(&self) -> Result<u64, StoreError> {
        self.ask(glance::count)
    }

    fn some_sessions(&self, bucket: u8, cursor: u64) -> Result<(Vec<AwaySession>, u64), StoreError> {
        self.ask(|link, keys| glance::some(link, keys, bucket, cursor))
    }

    fn glance(&self, uid: Uid) -> Result<Option<AwaySession>, StoreError> {
        self.ask(|link, keys| glance::each(link, keys, &[uid]).map(|mut sessions| sessions.pop()))
    }

    fn want(&self, wanted: &[(Token, Arc<str>)]) -> Result<(), StoreError> {
        self.ask(|link, keys| wake::want(link, keys, wanted))
    }

    fn say(&self, to: Incarnation, words: &[u8]) -> Result<(), StoreError> {
        self.ask(|link, keys| link.ask(wake::say(keys, to, words)).map(drop))
    }

    fn empty_inbox(&self) -> Result<(), StoreError> {
        match self.ask(|link, keys| inbox::newest(link, keys, self.incarnation))? {
            Some(newest) => self.following.wait_for_inbox(newest),
            None => Ok(()),
        }
    }

    fn generation(&self) -> Incarnation {
        self.generation
    }

    fn writers(&self) -> Result<Vec<Incarnation>, StoreError> {
        self.ask(|link, keys| {
            generation::writers(link, keys, Home::buckets()).map(|writers| writers.into_iter().collect())
        })
    }

    fn homes_without(&self, servers: &Servers) -> Homes {
        match servers.is_empty() {
            true => Homes::default(),
            false => self.serving.lock().without(servers),
        }
    }

    fn inherited(&self) -> Inherited {
        let inherited = self.inherited.lock();
        Inherited {
            nodes: inherited.iter().map(|legacy| legacy.incarnation).collect(),
            clients: inherited.iter().flat_map(|legacy| legacy.clients.clone()).collect(),
        }
    }

    fn append_again(&self) -> Result<Again, StoreError> {
        self.life.check()?;
        let inherited = self.inherited.lock();
        let again = self.writer.lock().append_again(&self.life, &inherited);
        if let Err(error @ StoreError::Refused(_)) = &again {
            self.life.end(error.clone());
        }
        again
    }

    fn has_settled(&self) {
        self.inherited.lock().clear();
    }

    fn hand_over(&self, clients: Vec<Box<str>>) {
        self.leave(clients);
    }

    fn is_over(&self) -> bool {
        self.life.is_over()
    }

    fn end(&self, why: &str) {
        self.life.end(StoreError::Refused(format!("this node ends: {why}")));
    }

    fn owes(&self) -> bool {
        self.owes.load(Ordering::Relaxed) || self.recent.is_long() || self.life.is_doubted()
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
