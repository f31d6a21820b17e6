//! Checking passwords: on few threads, for few clients at a time, and once for a client that comes back soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::attempts::Attempts;
use super::passwords::PasswordFile;
use super::remembered::Remembered;
use super::{Origin, background};
use crate::reason::ReasonCode;

/// Clients that may wait for a check; further ones are told to come back.
const MOST_WAITING: usize = 64;
/// Users, and which of their passwords need no hashing.
#[derive(Debug)]
pub(super) struct Passwords {
    pub(super) file: PasswordFile,
    pub(super) remembered: Remembered,
}

/// See the module. All listeners of a broker have the same.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Threads that may hash at a time.
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
    attempts: Mutex<Attempts>,
}

impl Default for Verifier {
    fn default() -> Verifier {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Verifier {
            threads: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: AtomicUsize::new(0),
            attempts: Mutex::default(),
        }
    }
}

impl Verifier {
    pub(super) async fn verify(
        &self,
        passwords: Arc<Passwords>,
        username: &str,
        password: &[u8],
        origin: Origin,
    ) -> Result<(), ReasonCode> {
        let tag = passwords.remembered.tag(password);
        if tag.is_some_and(|tag| passwords.remembered.get(username, &tag).is_some()) {
            return Ok(());
        }
        self.may_try(origin)?;
        let is_right = self.hash(Arc::clone(&passwords), username, password).await?;
        if !is_right {
            return Err(self.failed(origin));
        }
        if let Some(tag) = &tag {
            passwords.remembered.add(username, tag, (), None);
        }
        Ok(())
    }

    /// Whether the address may try something now, be it a password or what stands in its place.
    pub(super) fn may_try(&self, origin: Origin) -> Result<(), ReasonCode> {
        match self.attempts.lock().may_try(origin, Instant::now()) {
            true => Ok(()),
            false => Err(ReasonCode::ConnectionRateExceeded),
        }
    }

    /// What was tried was wrong; the reason to tell.
    pub(super) fn failed(&self, origin: Origin) -> ReasonCode {
        self.attempts.lock().failed(origin, Instant::now());
        ReasonCode::BadUserNameOrPassword
    }

    async fn hash(&self, passwords: Arc<Passwords>, username: &str, password: &[u8]) -> Result<bool, ReasonCode> {
        let Some(_place) = Place::take(&self.waiting, MOST_WAITING) else {
            return Err(ReasonCode::ServerBusy);
        };
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        let permit = permit.map_err(|_| ReasonCode::ServerUnavailable)?;
        let (username, password) = (username.to_owned(), password.to_vec());
        let check = move || {
            // Given back when the work is done, also if the client has gone meanwhile.
            let _permit = permit;
            passwords.file.verify(&username, &password)
        };
        background::run(check).await.ok_or(ReasonCode::ServerUnavailable)
    }
}

/// One of the clients that wait.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    pub(super) fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Place<'a>> {
        let place = Place(waiting);
        // Too many: the drop of the place takes this back.
        (waiting.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
