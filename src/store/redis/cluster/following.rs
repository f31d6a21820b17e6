//! What a node of a cluster does beside reading and writing: it says that it lives, looks who else does, and is told what others do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::follow::{Contact, Threads};
use super::inbox::{InboxReader, Progress};
use super::life::Life;
use super::log::LogReader;
use super::members::{Beat, Membership};
use super::recent::Recent;
use super::wake::Wake;
use crate::store::cluster::{Follower, Incarnation, Members, Serving};
use crate::store::redis::keys::Keys;
use crate::store::{RedisSettings, StoreError};

/// See the module.
#[derive(Debug)]
pub(super) struct Following {
    settings: RedisSettings,
    keys: Keys,
    incarnation: Incarnation,
    recent: Arc<Recent>,
    life: Arc<Life>,
    membership: Membership,
    serving: Arc<Mutex<Serving>>,
    /// The servers because of which the writer has been told to ask: once.
    doubted: Mutex<Option<Serving>>,
    progress: Arc<Progress>,
    /// Of the log and of the inbox.
    contacts: [Arc<Contact>; 2],
    threads: Mutex<Option<Threads>>,
}

impl Following {
    /// `lease` is how long a node may be silent: Redis must answer it much sooner.
    pub(super) fn new(
        settings: &RedisSettings,
        (keys, incarnation): (&Keys, Incarnation),
        recent: &Arc<Recent>,
        life: &Arc<Life>,
        (lease, serving): (Duration, &Arc<Mutex<Serving>>),
    ) -> Following {
        Following {
            settings: settings.clone(),
            keys: keys.clone(),
            incarnation,
            recent: Arc::clone(recent),
            life: Arc::clone(life),
            membership: Membership::new(settings, keys, incarnation, lease / 2),
            serving: Arc::clone(serving),
            doubted: Mutex::default(),
            progress: Arc::default(),
            contacts: Default::default(),
            threads: Mutex::new(None),
        }
    }

    /// See [`Shared::follow_log`](crate::store::cluster::Shared::follow_log).
    pub(super) fn begin(&self, follower: &Arc<dyn Follower>) -> Result<(), StoreError> {
        let (settings, own) = (&self.settings, (&self.keys, self.incarnation));
        let (life, [log, inbox]) = (&self.life, &self.contacts);
        let mut running = self.threads.lock();
        let threads = running.get_or_insert_with(|| Threads::new(settings, life));
        threads.start(LogReader::new(settings, own, &self.recent, life, follower, log))?;
        threads.start(InboxReader::new(settings, own, life, follower, &self.progress, inbox))?;
        threads.start(Wake::new(settings, own, life, follower))
    }

    pub(super) fn members(&self) -> Result<Members, StoreError> {
        self.membership.members()
    }

    /// # Errors
    /// Also if this node has been declared dead.
    pub(super) fn beat(&self) -> Result<bool, StoreError> {
        self.life.check()?;
        let known = self.serving.lock().clone();
        let beat = self.membership.beat(self.recent.position(), &known.servers())?;
        let Beat { is_member, generation } = beat;
        let beating_on = self.membership.beating_on();
        if !beating_on.changed_since(&known).is_empty()
            && self.doubted.lock().replace(beating_on.clone()) != Some(beating_on)
        {
            self.life.doubt();
        }
        if generation >= self.incarnation {
            self.life.end_with_generation();
            self.life.check()?;
        }
        if !is_member {
            let why = "the other brokers of the cluster have declared this one dead, or what they keep in Redis is gone: it must \
                       begin anew";
            self.life.end(StoreError::Refused(why.to_owned()));
            if self.life.is_leaving() {
                self.life.check()?;
            }
        }
        Ok(is_member)
    }

    /// Waits until the follower has been told this number of the inbox.
    pub(super) fn wait_for_inbox(&self, number: u64) -> Result<(), StoreError> {
        let result = self.progress.wait_for(number, self.settings.timeout);
        result.or_else(|error| self.life.check().and(Err(error)))
    }

    pub(super) fn last_contact(&self) -> Option<Instant> {
        let [log, inbox] = self.contacts.each_ref().map(|contact| contact.get());
        log.min(inbox)
    }

    /// Ends all threads, and closes all connections.
    pub(super) fn close(&self) {
        self.life.end(closed());
        let threads = self.threads.lock().take();
        threads.into_iter().for_each(Threads::join);
        self.membership.close();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.life.end(closed());
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store has been closed".to_owned())
}
