//! Passwords that were right a short while ago, as keyed hashes: a client that comes back costs no slow hash.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac, rand};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Passwords that are remembered.
const MOST: usize = 100_000;

/// Belongs to the rules by which the passwords were right, and goes with them.
#[derive(Debug)]
pub(super) struct Remembered {
    lifetime: Duration,
    /// Of this process alone: what is remembered is of no use elsewhere. None if the system has no randomness.
    key: Option<hmac::Key>,
    known: Mutex<HashMap<Box<str>, Known>>,
}

#[derive(Debug)]
struct Known {
    tag: Box<[u8]>,
    until: Instant,
}

impl Remembered {
    pub(super) fn new(lifetime: Duration) -> Remembered {
        let mut key = [0; 32];
        let filled = rand::fill(&mut key).ok().filter(|()| !lifetime.is_zero());
        Remembered {
            lifetime,
            key: filled.map(|()| hmac::Key::new(hmac::HMAC_SHA256, &key)),
            known: Mutex::default(),
        }
    }

    /// What is kept of a password; `None` if nothing is remembered.
    pub(super) fn tag(&self, password: &[u8]) -> Option<hmac::Tag> {
        self.key.as_ref().map(|key| hmac::sign(key, password))
    }

    pub(super) fn has(&self, username: &str, tag: &hmac::Tag) -> bool {
        let known = self.known.lock();
        known.get(username).is_some_and(|known| {
            known.until > Instant::now() && constant_time::verify_slices_are_equal(&known.tag, tag.as_ref()).is_ok()
        })
    }

    pub(super) fn add(&self, username: &str, tag: &hmac::Tag) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, known| known.until > now);
        }
        if known.len() < MOST {
            let until = now + self.lifetime;
            let tag = tag.as_ref().into();
            known.insert(username.into(), Known { tag, until });
        }
    }
}
