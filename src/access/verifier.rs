//! Checking passwords: on few threads, for few clients at a time, and once for a client that comes back soon.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac, rand};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Origin;
use super::attempts::Attempts;
use super::passwords::PasswordFile;
use crate::reason::ReasonCode;

/// Clients that may wait for a check; further ones are told to come back.
const MOST_WAITING: usize = 64;
/// Passwords that are remembered.
const MOST_REMEMBERED: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Threads that may hash at a time.
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
    attempts: Mutex<Attempts>,
    remembered: Mutex<HashMap<Box<str>, Remembered>>,
    lifetime: Duration,
    /// Of this process alone: what is remembered is of no use elsewhere.
    key: Option<hmac::Key>,
}

#[derive(Debug)]
struct Remembered {
    tag: Box<[u8]>,
    until: Instant,
}

impl Verifier {
    pub(super) fn new(lifetime: Duration) -> Verifier {
        let mut key = [0; 32];
        let key = rand::fill(&mut key)
            .ok()
            .map(|()| hmac::Key::new(hmac::HMAC_SHA256, &key));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Verifier {
            threads: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: AtomicUsize::new(0),
            attempts: Mutex::default(),
            remembered: Mutex::default(),
            lifetime,
            key,
        }
    }

    /// Forgets which passwords were right.
    pub(super) fn forget(&self) {
        self.remembered.lock().clear();
    }

    pub(super) async fn verify(
        &self,
        passwords: Arc<PasswordFile>,
        username: &str,
        password: &[u8],
        origin: Origin,
    ) -> Result<(), ReasonCode> {
        let tag = self.key.as_ref().map(|key| hmac::sign(key, password));
        if tag.is_some_and(|tag| passwords.contains(username) && self.remembers(username, tag.as_ref())) {
            return Ok(());
        }
        if !self.attempts.lock().may_try(origin, Instant::now()) {
            return Err(ReasonCode::ConnectionRateExceeded);
        }
        let is_right = self.hash(Arc::clone(&passwords), username, password).await?;
        let now = Instant::now();
        if !is_right {
            self.attempts.lock().failed(origin, now);
            return Err(ReasonCode::BadUserNameOrPassword);
        }
        self.remember(username, tag.as_ref().map(AsRef::as_ref), now);
        Ok(())
    }

    async fn hash(&self, passwords: Arc<PasswordFile>, username: &str, password: &[u8]) -> Result<bool, ReasonCode> {
        let Some(_place) = Place::take(&self.waiting) else {
            return Err(ReasonCode::ServerBusy);
        };
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        let permit = permit.map_err(|_| ReasonCode::ServerUnavailable)?;
        let (username, password) = (username.to_owned(), password.to_vec());
        let check = move || {
            // Given back when the work is done, also if the client has gone meanwhile.
            let _permit = permit;
            passwords.verify(&username, &password)
        };
        let checked = tokio::task::spawn_blocking(check).await;
        checked.map_err(|_| ReasonCode::ServerUnavailable)
    }

    fn remembers(&self, username: &str, tag: &[u8]) -> bool {
        let remembered = self.remembered.lock();
        remembered.get(username).is_some_and(|known| {
            known.until > Instant::now() && constant_time::verify_slices_are_equal(&known.tag, tag).is_ok()
        })
    }

    fn remember(&self, username: &str, tag: Option<&[u8]>, now: Instant) {
        let Some(tag) = tag.filter(|_| !self.lifetime.is_zero()) else {
            return;
        };
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MOST_REMEMBERED {
            remembered.retain(|_, known| known.until > now);
        }
        if remembered.len() < MOST_REMEMBERED {
            let known = Remembered {
                tag: tag.into(),
                until: now + self.lifetime,
            };
            remembered.insert(username.into(), known);
        }
    }
}

/// One of the clients that wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Place<'a>> {
        let place = Place(waiting);
        // Too many: the drop of the place takes this back.
        (waiting.fetch_add(1, Ordering::AcqRel) < MOST_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
