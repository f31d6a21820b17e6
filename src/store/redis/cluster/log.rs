//! Reads the log: what each node applies, in the same order.

use std::sync::Arc;
use std::time::Instant;

use redis::{Cmd, Value};

use super::follow::{Contact, Source, wait_millis};
use super::life::Life;
use super::recent::{Recent, RecentEntry};
use super::stream;
use crate::store::cluster::{Entry, Follower, Homes, Incarnation};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply;
use crate::store::{RedisSettings, StoreError};
use crate::wire::{Malformed, Reader};

/// Entries that are read at a time.
const AT_A_TIME: usize = 256;

/// See the module. It begins behind the position that has been applied.
#[derive(Debug)]
pub(super) struct LogReader {
    log: String,
    meta: String,
    incarnation: Incarnation,
    wait_millis: u64,
    recent: Arc<Recent>,
    life: Arc<Life>,
    follower: Arc<dyn Follower>,
    contact: Arc<Contact>,
}

impl LogReader {
    pub(super) fn new(
        settings: &RedisSettings,
        (keys, incarnation): (&Keys, Incarnation),
        recent: &Arc<Recent>,
        life: &Arc<Life>,
        follower: &Arc<dyn Follower>,
        contact: &Arc<Contact>,
    ) -> LogReader {
        LogReader {
            log: keys.of(Home::Global, "log"),
            meta: keys.of(Home::Global, "meta"),
            incarnation,
            wait_millis: wait_millis(settings),
            recent: Arc::clone(recent),
            life: Arc::clone(life),
            follower: Arc::clone(follower),
            contact: Arc::clone(contact),
        }
    }

    /// A server that has taken the place of another may not have what was applied.
    fn compare(&self, link: &mut Link) -> Result<(), StoreError> {
        let (position, Some(last)) = self.recent.last() else {
            return Ok(());
        };
        let id = stream::identifier(position);
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.log).arg(&id).arg(&id);
        match &stream::items(link.ask(command)?)?[..] {
            [(_, bytes)] if bytes[..] != last[..] => self.miss(link),
            // It may be trimmed by now.
            _ => {}
        }
        Ok(())
    }

    fn read(&mut self, link: &mut Link) -> Result<(), StoreError> {
        let (asked, applied) = (Instant::now(), self.recent.position());
        let commands = [self.position(), self.behind(applied)];
        let mut replies = link.run(&commands)?.into_iter();
        let mut next = || link.checked(replies.next().unwrap_or(Value::Nil));
        let position = match next()? {
            Value::Nil => 0,
            position => reply::number(position)?,
        };
        let found = stream::found(next()?)?;
        let entries = found.into_iter().flat_map(|(_, entries)| entries);
        let mut entries = entries.peekable();
        if position < applied {
            self.miss(link);
        } else if position > applied && entries.peek().is_none() {
            self.life.end(dropped(link));
        }
        for (position, bytes) in entries {
            if self.life.is_over() {
                return Ok(());
            }
            self.apply(link, position, bytes.into());
        }
        self.contact.set(asked);
        Ok(())
    }

    fn miss(&self, link: &Link) {
        let mut log = Homes::default();
        log.insert_global();
        self.life.miss(log, lost(link));
    }

    /// How far the log goes: what is not found of that has been dropped.
    fn position(&self) -> Cmd {
        let mut command = redis::cmd("HGET");
        command.arg(&self.meta).arg("pos");
        command
    }

    fn behind(&self, applied: u64) -> Cmd {
        let streams = [(&*self.log, stream::identifier(applied))];
        stream::read(&streams, AT_A_TIME, self.wait_millis)
    }

    fn apply(&mut self, link: &Link, position: u64, bytes: Arc<[u8]>) {
        if position != self.recent.position() + 1 {
            return self.life.end(dropped(link));
        }
        let entry = match one(&bytes) {
            Ok(Entry::Dead(node)) if node == self.incarnation => return self.life.end(dead(link)),
            Ok(entry) => entry,
            Err(error) => return self.life.end(unknown(position, &error)),
        };
        let open = self.follower.apply(&entry);
        let concerns_messages = matches!(entry, Entry::Subscribe { .. } | Entry::Route { .. });
        let recent = concerns_messages.then(|| RecentEntry {
            position,
            open,
            bytes: Arc::clone(&bytes),
        });
        self.recent.applied(recent, position);
        self.recent.note_last(bytes);
    }
}

impl Source for LogReader {
    const NAME: &'static str = "log of the cluster";

    fn serve(&mut self, mut link: Link) -> Result<(), StoreError> {
        self.compare(&mut link)?;
        while !self.life.is_over() {
            if self.recent.take_doubt() {
                let why = format!("Redis at {}: what is in the log does not come", link.address());
                return Err(StoreError::Unavailable(why));
            }
            self.read(&mut link)?;
        }
        Ok(())
    }
}

fn one(bytes: &[u8]) -> Result<Entry<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let entry = Entry::read(&mut reader)?;
    match reader.is_empty() {
        true => Ok(entry),
        false => Err(Malformed("bytes behind the end")),
    }
}

fn dead(link: &Link) -> StoreError {
    StoreError::Refused(format!(
        "the other brokers of the cluster have declared this one dead, as it was silent in Redis at {} for too long: it \
         must begin anew",
        link.address()
    ))
}

fn dropped(link: &Link) -> StoreError {
    StoreError::Refused(format!(
        "Redis at {} does not have the part of the log any more that this broker has not applied, as the others have declared it \
         dead: it must begin anew",
        link.address()
    ))
}

fn lost(link: &Link) -> StoreError {
    StoreError::Refused(format!(
        "Redis at {} has lost a part of the log that this broker has applied (it, or a replica that took its place, did not \
         have it on disk): this broker can't go on from there, and must be started again",
        link.address()
    ))
}

fn unknown(position: u64, error: &Malformed) -> StoreError {
    StoreError::Refused(format!(
        "entry {position} of the log of the cluster, of another version perhaps: {}",
        error.0
    ))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
