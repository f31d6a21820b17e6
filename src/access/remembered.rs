//! What was right a short while ago, as keyed hashes: a client that comes back costs no slow hash, and no question.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac, rand};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Names that something is remembered of.
const MOST: usize = 100_000;

/// Belongs to the rules by which it was right, and goes with them. `T` is what was answered.
#[derive(Debug)]
pub(super) struct Remembered<T = ()> {
    lifetime: Duration,
    /// Of this process alone: what is remembered is of no use elsewhere. None if the system has no randomness.
    key: Option<hmac::Key>,
    known: Mutex<HashMap<Box<str>, Known<T>>>,
}

#[derive(Debug)]
struct Known<T> {
    tag: Box<[u8]>,
    answer: T,
    until: Instant,
}

impl<T: Clone> Remembered<T> {
    pub(super) fn new(lifetime: Duration) -> Remembered<T> {
        let mut key = [0; 32];
        let filled = rand::fill(&mut key).ok().filter(|()| !lifetime.is_zero());
        Remembered {
            lifetime,
            key: filled.map(|()| hmac::Key::new(hmac::HMAC_SHA256, &key)),
            known: Mutex::default(),
        }
    }

    /// What is kept of a secret; `None` if nothing is remembered.
    pub(super) fn tag(&self, secret: &[u8]) -> Option<hmac::Tag> {
        self.key.as_ref().map(|key| hmac::sign(key, secret))
    }

    pub(super) fn get(&self, name: &str, tag: &hmac::Tag) -> Option<T> {
        let known = self.known.lock();
        let known = known.get(name).filter(|known| {
            known.until > Instant::now() && constant_time::verify_slices_are_equal(&known.tag, tag.as_ref()).is_ok()
        })?;
        Some(known.answer.clone())
    }

    /// Remembers the answer, if it ends before, until `end`.
    pub(super) fn add(&self, name: &str, tag: &hmac::Tag, answer: T, end: Option<Instant>) {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, known| known.until > now);
        }
        if known.len() < MOST {
            let until = now + self.lifetime;
            let until = end.map_or(until, |end| end.min(until));
            let tag = tag.as_ref().into();
            known.insert(name.into(), Known { tag, answer, until });
        }
    }
}
