//! Listens to what other nodes say when they have put something into a queue of a session here, want a client from here, or
//! have given one up for which somebody waits here; and to questions of theirs.
//!
//! All of it may be lost. What hints say can be found in Redis as well; a question is asked again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, PubSub, RedisError, Value};

use super::follow::Source;
use super::life::Life;
use crate::store::cluster::{Follower, Incarnation};
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
}

/// What is said.
#[derive(Debug)]
enum Event<'a> {
    /// A message was put into the queue of a session, perhaps with the message.
    Arrived {
        uid: Uid,
        place: u64,
        message: Option<StoredMessage>,
    },
    /// Another node wants this client.
    Wanted(&'a str),
    /// This node has this client now.
    Granted(&'a str),
    /// Another node has a question, or the answer to one.
    Said(&'a [u8]),
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
pub(super) fn want(keys: &Keys, from: Incarnation, client_id: &str) -> Cmd {
    let mut command = redis::cmd("PUBLISH");
    command
        .arg(channel(keys, from))
        .arg([b"n", client_id.as_bytes()].concat());
    command
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
        match read(event) {
            Ok(Event::Arrived { uid, place, message }) => self.follower.arrived(uid, place, message),
            Ok(Event::Wanted(client_id)) => self.follower.wanted(client_id),
            Ok(Event::Granted(client_id)) => self.follower.granted(client_id),
            Ok(Event::Said(words)) => self.follower.said(words),
            Err(error) if !self.has_complained => {
                self.has_complained = true;
                tracing::warn!(
                    "what is said at {} in Redis is not understood, and left out: {}",
                    self.channel,
                    error.0
                );
            }
            Err(_) => {}
        }
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
        self.follower.look();
        self.listen(&mut connection.as_pubsub()).map_err(failed)
    }
}

fn read(event: &[u8]) -> Result<Event<'_>, Malformed> {
    let mut reader = Reader::new(event);
    match reader.u8()? {
        b'm' => Ok(Event::Arrived {
            uid: reader.u64()?,
            place: reader.u64()?,
            message: message(&mut reader)?,
        }),
        b'n' => text(reader.rest()).map(Event::Wanted),
        b'g' => text(reader.rest()).map(Event::Granted),
        SAID => Ok(Event::Said(reader.rest())),
        _ => Err(Malformed("an event of an unknown kind")),
    }
}

/// As it is in the queue: the length of its terms, these, and the message. One that is long is not there.
fn message(reader: &mut Reader<'_>) -> Result<Option<StoredMessage>, Malformed> {
    let length = reader.u32()? as usize;
    let (terms, message) = (reader.bytes(length)?, reader.rest());
    if terms.is_empty() && message.is_empty() {
        return Ok(None);
    }
    let message = Arc::new(read_message(message)?);
    Ok(Some(StoredMessage::new(message, &read_live_terms(terms)?)))
}

#[cfg(test)]
#[path = "wake_tests.rs"]
mod tests;
