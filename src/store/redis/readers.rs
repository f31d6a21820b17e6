//! Connections for reading, beside the one that writes: a few, shared by all threads.

use parking_lot::{Condvar, Mutex};

use super::link::Link;
use crate::store::{RedisSettings, StoreError};

/// Connections at a time. Redis answers one command after the other, so more would not be faster.
const MOST: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    settings: RedisSettings,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Link>,
    lent: usize,
    is_closed: bool,
}

impl Readers {
    pub(super) fn new(settings: &RedisSettings) -> Readers {
        Readers {
            settings: settings.clone(),
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// Reads over a connection; over a new one, if one that was idle turns out to be closed.
    pub(super) fn read<T>(&self, mut read: impl FnMut(&mut Link) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut lent = self.lend();
        if let Some(mut link) = lent.link.take()
            && let Ok(result) = read(&mut link)
        {
            lent.link = Some(link);
            return Ok(result);
        }
        let mut link = Link::connect(&self.settings)?;
        let result = read(&mut link)?;
        lent.link = Some(link);
        Ok(result)
    }

    /// Reads over a new connection, as what is read can't be taken back if an old one turns out to be closed.
    pub(super) fn once<T>(&self, read: impl FnOnce(&mut Link) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut lent = self.lend();
        let mut link = Link::connect(&self.settings)?;
        let result = read(&mut link)?;
        lent.link = Some(link);
        Ok(result)
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.idle.clear();
    }

    fn lend(&self) -> Lent<'_> {
        let mut state = self.state.lock();
        while state.lent >= MOST {
            self.returned.wait(&mut state);
        }
        state.lent += 1;
        Lent {
            readers: self,
            link: state.idle.pop(),
        }
    }
}

/// The right to one connection, which goes back with it.
struct Lent<'a> {
    readers: &'a Readers,
    link: Option<Link>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        state.lent -= 1;
        if !state.is_closed {
            state.idle.extend(self.link.take());
        }
        self.readers.returned.notify_one();
    }
}
