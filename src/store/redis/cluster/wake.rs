//! Listens to what other nodes say when they have put something into a queue of a session here, want a client from here, or
//! have given one up for which somebody waits here; and to questions of theirs.
//!
//! All of it may be lost. What hints say can be found in Redis as well; a question is asked again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, PubSub, RedisError, Value};

use super::calls::MOST_CHANGES;
use super::follow::Source;
use super::life::Life;
use super::runs;
use crate::store::cluster::{Follower, Incarnation, Token};
use crate::store::redis::connect::told;
use crate::store::redis::entry::{read_live_terms, read_message};
use crate::store::redis::keys::Keys;
use crate::store::redis::link::Link;
use crate::store::{RedisSettings, StoreError, StoredMessage, Uid};
use crate::wire::{Malformed, Reader, text};

/// See the module.
#[derive(Debug)]
pub(super) struct Wake {
    channel: String,
    timeout: Duration,
    life: Arc<Life>,
    follower: Arc<dyn Follower>,
    has_complained: bool,
    /// What the next entries are of.
    put: Option<Put>,
}

/// What is said.
#[derive(Debug)]
enum Event<'a> {
    /// Messages were put into queues of sessions: [`Put`]s, each with its entries.
    Arrived(&'a [u8]),
    /// The same for one session, of which the entries are the next event.
    Put(Put),
    Entries(&'a [u8]),
    /// Another node wants this client.
    Wanted(&'a str, Token),
    /// This node has this client now.
    Granted(&'a str),
    /// Another node has a question, or the answer to one.
    Said(&'a [u8]),
}

/// Where messages were put into the queue of one session: at consecutive places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Put {
    uid: Uid,
    place: u64,
    count: usize,
}

/// How long nothing need be said before the connection is tried.
const SILENCE: Duration = Duration::from_secs(2);
/// How long is listened without looking whether life is over.
const LISTENS: Duration = Duration::from_millis(400);

/// Where a node is told.
pub(super) fn channel(keys: &Keys, node: Incarnation) -> String {
    format!("{}:wake:{node}", keys.prefix())
}

/// Says what the script says that makes somebody wait.
pub(super) fn want(link: &mut Link, keys: &Keys, wanted: &[(Token, Arc<str>)]) -> Result<(), StoreError> {
    let commands = wanted.iter().map(|(from, client_id)| {
        let mut command = redis::cmd("PUBLISH");
        command
            .arg(channel(keys, from.incarnation))
            .arg(format!("n{from} {client_id}"));
        command
    });
    for reply in link.run(commands)? {
        link.checked(reply)?;
    }
    Ok(())
}

/// Says something to a node.
pub(super) fn say(keys: &Keys, to: Incarnation, words: &[u8]) -> Cmd {
    let mut command = redis::cmd("PUBLISH");
    command.arg(channel(keys, to)).arg([&[SAID], words].concat());
    command
}

const SAID: u8 = b's';

impl Wake {
    pub(super) fn new(
        settings: &RedisSettings,
        (keys, incarnation): (&Keys, Incarnation),
        life: &Arc<Life>,
        follower: &Arc<dyn Follower>,
    ) -> Wake {
        Wake {
            channel: channel(keys, incarnation),
            timeout: settings.timeout,
            life: Arc::clone(life),
            follower: Arc::clone(follower),
            has_complained: false,
            put: None,
        }
    }

    /// The crate takes every reply for one that there is, an error as well.
    fn subscribe(&self, connection: &mut Connection) -> Result<Value, RedisError> {
        let mut command = redis::cmd("SUBSCRIBE");
        command.arg(&self.channel);
        connection.send_packed_command(&command.get_packed_command())?;
        connection.recv_response()
    }

    fn listen(&mut self, events: &mut PubSub<'_>) -> Result<(), RedisError> {
        events.set_read_timeout(Some(LISTENS))?;
        let mut heard = Instant::now();
        while !self.life.is_over() {
            match events.get_message() {
                Ok(message) => {
                    self.tell(message.get_payload_bytes());
                    heard = Instant::now();
                }
                Err(error) if !error.is_timeout() => return Err(error),
                Err(_) if heard.elapsed() < SILENCE => {}
                Err(_) => {
                    self.ping(events)?;
                    heard = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// A connection may be cut without a word.
    fn ping(&self, events: &mut PubSub<'_>) -> Result<(), RedisError> {
        events.set_read_timeout(Some(self.timeout))?;
        let answered = events.ping::<Value>();
        events.set_read_timeout(Some(LISTENS))?;
        answered.map(drop)
    }

    fn tell(&mut self, event: &[u8]) {
        match read(event).and_then(|event| self.heard(event)) {
            Err(error) if !self.has_complained => {
                self.has_complained = true;
                tracing::warn!(
                    "what is said at {} in Redis is not understood, and left out: {}",
                    self.channel,
                    error.0
                );
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn heard(&mut self, event: Event<'_>) -> Result<(), Malformed> {
        match event {
            Event::Arrived(news) => self.arrived(news)?,
            Event::Put(put) => self.put = Some(put),
            Event::Entries(entries) => self.entries(entries)?,
            Event::Wanted(client_id, from) => self.follower.wanted(client_id, from),
            Event::Granted(client_id) => self.follower.granted(client_id),
            Event::Said(words) => self.follower.said(words),
        }
        Ok(())
    }

    fn arrived(&self, news: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(news);
        while !reader.is_empty() {
            let put = put(&mut reader)?;
            let length = reader.u32()? as usize;
            self.tell_of(put, reader.bytes(length)?)?;
        }
        Ok(())
    }

    /// Without what comes before them, which may have been lost, they say nothing.
    fn entries(&mut self, entries: &[u8]) -> Result<(), Malformed> {
        match self.put.take() {
            Some(put) => self.tell_of(put, entries),
            None => Ok(()),
        }
    }

    fn tell_of(&self, put: Put, entries: &[u8]) -> Result<(), Malformed> {
        let messages = messages(put.count, entries)?;
        self.follower.arrived(put.uid, put.place, &mut messages.into_iter());
        Ok(())
    }
}

impl Source for Wake {
    const NAME: &'static str = "events of the cluster";

    fn serve(&mut self, mut link: Link) -> Result<(), StoreError> {
        let address = link.address().to_owned();
        let failed = |error: RedisError| StoreError::Unavailable(format!("Redis at {address}: {}", told(&error)));
        // In a Redis Cluster, what is said to one server is heard at all.
        let mut connection = link.servers.swap_remove(0);
        let reply = self.subscribe(&mut connection).map_err(failed)?;
        link.checked(reply)?;
        self.put = None;
        self.follower.look();
        self.listen(&mut connection.as_pubsub()).map_err(failed)
    }
}

fn read(event: &[u8]) -> Result<Event<'_>, Malformed> {
    let mut reader = Reader::new(event);
    match reader.u8()? {
        b'm' => Ok(Event::Arrived(reader.rest())),
        b'M' => put(&mut reader).map(Event::Put),
        runs::ENTRIES => Ok(Event::Entries(event)),
        b'n' => wanted(text(reader.rest())?),
        b'g' => text(reader.rest()).map(Event::Granted),
        SAID => Ok(Event::Said(reader.rest())),
        _ => Err(Malformed("an event of an unknown kind")),
    }
}

/// The token of the owner, and the client.
fn wanted(words: &str) -> Result<Event<'_>, Malformed> {
    let words = words.split_once(' ');
    let read = words.and_then(|(from, client_id)| Some(Event::Wanted(client_id, Token::parse(from)?)));
    read.ok_or(Malformed("a client is wanted from nobody"))
}

fn put(reader: &mut Reader<'_>) -> Result<Put, Malformed> {
    Ok(Put {
        uid: reader.u64()?,
        place: reader.u64()?,
        count: (reader.u32()? as usize).min(MOST_CHANGES),
    })
}

/// Those that are long, or that must not be told, have no entries.
fn messages(count: usize, entries: &[u8]) -> Result<Vec<Option<StoredMessage>>, Malformed> {
    if entries.is_empty() {
        return Ok(vec![None; count]);
    }
    let mut entries = Reader::new(entries);
    entries.u8()?;
    let messages = (0..count).map(|_| message(&mut entries).map(Some));
    let messages = messages.collect::<Result<_, _>>()?;
    match entries.is_empty() {
        true => Ok(messages),
        false => Err(Malformed("bytes behind the messages of a queue")),
    }
}

fn message(entries: &mut Reader<'_>) -> Result<StoredMessage, Malformed> {
    let (terms, message) = runs::entry(entries)?;
    Ok(StoredMessage::new(
        Arc::new(read_message(message)?),
        &read_live_terms(terms)?,
    ))
}

#[cfg(test)]
#[path = "wake_tests.rs"]
mod tests;
