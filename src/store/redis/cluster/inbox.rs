//! Reads the inbox of this node: messages for its sessions of which nothing is kept, and those of QoS 0 for all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use redis::{Cmd, Value};

use super::follow::{Contact, Source, wait_millis};
use super::life::Life;
use super::stream::{self, Item};
use crate::store::cluster::{Follower, InboxMessage, Incarnation, bucket_of_inbox};
use crate::store::op::publication;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, list};
use crate::store::{RedisSettings, StoreError, Uid};
use crate::wire::{Malformed, Reader, put_binary};

/// How far it has been read; to be waited for.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The first number that the follower has not been told of.
    next: u64,
    /// Nobody reads any more.
    is_over: bool,
}

/// See the module. What has been read is removed, and not told again over another connection.
#[derive(Debug)]
pub(super) struct InboxReader {
    /// That of messages which are kept until they have been read, and that of QoS 0.
    streams: [Stream; 2],
    wait_millis: u64,
    life: Arc<Life>,
    follower: Arc<dyn Follower>,
    progress: Arc<Progress>,
    contact: Arc<Contact>,
}

#[derive(Debug)]
struct Stream {
    key: String,
    /// The first number that has not been read.
    next: u64,
    /// What is below it has been removed.
    trimmed: u64,
}

/// Entries that are read at a time, each with all messages of a batch.
const AT_A_TIME: usize = 64;

/// What is before a message in an inbox: flags, and what they say that there is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head<'a> {
    /// The Shared Subscription of which one member gets it, if it is for that.
    pub(super) share: Option<&'a str>,
    /// See [`InboxMessage::origin`].
    pub(super) origin: Option<Uid>,
}

const HAS_SHARE: u8 = 1;
const HAS_ORIGIN: u8 = 2;

impl Progress {
    /// Waits until the follower has been told of this number.
    pub(super) fn wait_for(&self, number: u64, most: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + most;
        let mut state = self.state.lock();
        while state.next <= number {
            if state.is_over || self.moved.wait_until(&mut state, deadline).timed_out() {
                let why = "the inbox of this node in Redis has not been read in time".to_owned();
                return Err(StoreError::Unavailable(why));
            }
        }
        Ok(())
    }

    fn reached(&self, next: u64) {
        self.state.lock().next = next;
        self.moved.notify_all();
    }
}

/// The inbox of a node; for messages of QoS 0 it has another one.
pub(super) fn key(keys: &Keys, node: Incarnation) -> String {
    keys.of(Home::Bucket(bucket_of_inbox(node)), &format!("in:{node}"))
}

fn key_of_qos0(keys: &Keys, node: Incarnation) -> String {
    keys.of(Home::Bucket(bucket_of_inbox(node)), &format!("in0:{node}"))
}

/// The number of the entry of the inbox that was put there last, if it has not been removed, as everything is that was read.
pub(super) fn newest(link: &mut Link, keys: &Keys, node: Incarnation) -> Result<Option<u64>, StoreError> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(key(keys, node)).arg("+").arg("-").arg("COUNT").arg(1);
    let newest = stream::items(link.ask(command)?)?;
    Ok(newest.first().map(|(number, _)| *number))
}

impl InboxReader {
    pub(super) fn new(
        settings: &RedisSettings,
        (keys, incarnation): (&Keys, Incarnation),
        life: &Arc<Life>,
        follower: &Arc<dyn Follower>,
        progress: &Arc<Progress>,
        contact: &Arc<Contact>,
    ) -> InboxReader {
        let stream = |key| Stream {
            key,
            next: 0,
            trimmed: 0,
        };
        InboxReader {
            streams: [stream(key(keys, incarnation)), stream(key_of_qos0(keys, incarnation))],
            wait_millis: wait_millis(settings),
            life: Arc::clone(life),
            follower: Arc::clone(follower),
            progress: Arc::clone(progress),
            contact: Arc::clone(contact),
        }
    }

    fn read(&mut self, link: &mut Link) -> Result<(), StoreError> {
        let asked = Instant::now();
        let mut commands: Vec<_> = self.streams.iter().filter_map(Stream::trim).collect();
        let trims = commands.len();
        commands.push(self.behind());
        let mut replies = link.run(&commands)?.into_iter();
        for reply in replies.by_ref().take(trims) {
            link.checked(reply)?;
        }
        self.streams.iter_mut().for_each(|stream| stream.trimmed = stream.next);
        let found = stream::found(link.checked(replies.next().unwrap_or(Value::Nil))?)?;
        for (key, entries) in found {
            self.tell(&entries);
            let last = entries.last().map(|(number, _)| *number);
            if let (Some(last), Some(stream)) = (last, self.streams.iter_mut().find(|stream| stream.key == key)) {
                stream.next = last + 1;
            }
        }
        self.progress.reached(self.streams[0].next);
        self.contact.set(asked);
        Ok(())
    }

    fn behind(&self) -> Cmd {
        let streams = self.streams.each_ref().map(|stream| (&*stream.key, stream.last()));
        stream::read(&streams, AT_A_TIME, self.wait_millis)
    }

    fn tell(&self, entries: &[Item]) {
        let mut messages = Vec::new();
        for (number, bytes) in entries {
            if let Err(error) = decode(bytes, &mut messages) {
                tracing::error!("entry {number} of the inbox in Redis is damaged: {}", error.0);
            }
        }
        self.follower.inbox(&mut messages.into_iter());
    }
}

impl Source for InboxReader {
    const NAME: &'static str = "inbox";

    fn serve(&mut self, mut link: Link) -> Result<(), StoreError> {
        for stream in &mut self.streams {
            stream.find(&mut link)?;
        }
        while !self.life.is_over() {
            self.read(&mut link)?;
        }
        Ok(())
    }
}

impl Drop for InboxReader {
    fn drop(&mut self) {
        self.progress.state.lock().is_over = true;
        self.progress.moved.notify_all();
    }
}

impl Stream {
    /// The identifier of the last entry that has been read.
    fn last(&self) -> String {
        match self.next {
            0 => "0-0".to_owned(),
            next => stream::identifier(next - 1),
        }
    }

    /// Removes what has been read.
    fn trim(&self) -> Option<Cmd> {
        let mut command = redis::cmd("XTRIM");
        command.arg(&self.key).arg("MINID").arg(stream::identifier(self.next));
        (self.next > self.trimmed).then_some(command)
    }

    /// A server that has taken the place of another may not have all that was read, and gives the same numbers again. Then all
    /// that it has is read: something twice, rather than something not at all.
    fn find(&mut self, link: &mut Link) -> Result<(), StoreError> {
        if self.next == 0 {
            return Ok(());
        }
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&self.key);
        let reply = link.run(&[command])?.pop().unwrap_or(Value::Nil);
        let end = match reply {
            Value::ServerError(error) if error.details().is_some_and(|said| said.contains("no such key")) => 0,
            reply => end_of(link.checked(reply)?)?,
        };
        if end < self.next {
            (self.next, self.trimmed) = (0, 0);
        }
        Ok(())
    }
}

/// The first number that was never given, of what is known of a stream.
fn end_of(information: Value) -> Result<u64, StoreError> {
    let mut information = list(information)?.into_iter();
    while let (Some(name), Some(value)) = (information.next(), information.next()) {
        if bytes(name)? == b"last-generated-id" {
            let last = bytes(value)?;
            return if last == b"0-0" {
                Ok(0)
            } else {
                stream::number(&last).map(|number| number + 1)
            };
        }
    }
    Err(StoreError::Damaged("Redis does not say where a stream ends".to_owned()))
}

impl<'a> Head<'a> {
    pub(super) fn put(self, to: &mut Vec<u8>) {
        let flags = [(self.share.is_some(), HAS_SHARE), (self.origin.is_some(), HAS_ORIGIN)];
        to.push(
            flags
                .iter()
                .filter(|(is_there, _)| *is_there)
                .map(|(_, flag)| flag)
                .sum(),
        );
        if let Some(share) = self.share {
            put_binary(to, share.as_bytes());
        }
        if let Some(origin) = self.origin {
            to.extend_from_slice(&origin.to_be_bytes());
        }
    }

    fn read(from: &mut Reader<'a>) -> Result<Head<'a>, Malformed> {
        let flags = from.u8()?;
        if flags & !(HAS_SHARE | HAS_ORIGIN) != 0 {
            return Err(Malformed("unknown flags of a message"));
        }
        let has = |flag| flags & flag != 0;
        Ok(Head {
            share: has(HAS_SHARE).then(|| from.string()).transpose()?,
            origin: has(HAS_ORIGIN).then(|| from.u64()).transpose()?,
        })
    }
}

/// The messages of one entry, up to one that can't be read.
pub(super) fn decode<'a>(bytes: &'a [u8], messages: &mut Vec<InboxMessage<'a>>) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let Head { share, origin } = Head::read(&mut reader)?;
        let message = publication(&mut reader)?;
        messages.push(InboxMessage { message, share, origin });
    }
    Ok(())
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
