//! A follower that notes what it is told, and keys as other nodes write them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::life::Life;
use super::recent::Recent;
use crate::message::Publication;
use crate::store::cluster::{Entry, Follower, InboxMessage, Member, Mid, Rest, Token, Witness};
use crate::store::op::put_publication;
use crate::store::redis::testing::{RedisServer, publication};
use crate::store::{StoredMessage, Uid};
use crate::wire::put_binary;

/// What it was told, in words.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    told: Mutex<Vec<String>>,
    more: Condvar,
}

/// More than anything takes here that comes at all.
const LONG: Duration = Duration::from_secs(20);

impl Recorder {
    fn note(&self, what: String) {
        self.told.lock().push(what);
        self.more.notify_all();
    }

    /// Waits until it has been told this; all that it was told up to then.
    pub(super) fn until(&self, last: &str) -> Vec<String> {
        let deadline = Instant::now() + LONG;
        let mut told = self.told.lock();
        loop {
            if let Some(end) = told.iter().position(|what| what == last) {
                return told.drain(..=end).collect();
            }
            assert!(
                !self.more.wait_until(&mut told, deadline).timed_out(),
                "{last:?} is not told, but {told:?}"
            );
        }
    }

    /// Waits until it has been told this, whatever else it is told.
    pub(super) fn has(&self, what: &str) -> bool {
        let deadline = Instant::now() + LONG;
        let mut told = self.told.lock();
        while !told.iter().any(|line| line == what) {
            if self.more.wait_until(&mut told, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    pub(super) fn rest(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock())
    }
}

impl Follower for Recorder {
    fn apply(&self, entry: &Entry<'_>) -> u64 {
        self.note(format!("{entry:?}"));
        7
    }

    fn inbox(&self, messages: &mut dyn Iterator<Item = InboxMessage<'_>>) {
        for InboxMessage { message, share, .. } in messages {
            let payload = String::from_utf8_lossy(message.payload);
            self.note(match share {
                Some(share) => format!("{payload} of {share}"),
                None => payload.into_owned(),
            });
        }
    }

    fn arrived(&self, uid: Uid, place: u64, messages: &mut dyn Iterator<Item = Option<StoredMessage>>) {
        for (place, message) in (place..).zip(messages) {
            let payload = message.map(|stored| String::from_utf8_lossy(stored.message.payload()).into_owned());
            self.note(format!("{uid} has {payload:?} at {place}"));
        }
    }

    fn look(&self) {
        self.note("look".to_owned());
    }

    fn look_into(&self, uid: Uid) {
        self.note(format!("look into {uid}"));
    }

    fn wanted(&self, client_id: &str, from: Token) {
        self.note(format!("{client_id} is wanted from {from}"));
    }

    fn granted(&self, client_id: &str) {
        self.note(format!("{client_id} is granted"));
    }

    fn gone(&self, uid: Uid) {
        self.note(format!("{uid} is gone"));
    }

    fn full(&self, uid: Uid) {
        self.note(format!("{uid} is full"));
    }

    fn choose(&self, _: &str, _: &Publication<'_>, _: &[Uid]) -> Option<Member> {
        None
    }

    fn to_do(&self, jobs: &[(u8, Mid)], rests: &[Rest]) {
        self.note(format!("{jobs:?} and {rests:?} are to be done"));
    }

    fn witnesses(&self) -> Vec<Witness> {
        Vec::new()
    }

    fn said(&self, words: &[u8]) {
        self.note(format!("{} was said", String::from_utf8_lossy(words)));
    }
}

/// How far the log was applied at the start, and a life.
pub(super) fn born_at(position: u64) -> (Arc<Recent>, Arc<Life>) {
    let recent = Arc::new(Recent::new(position));
    let life = Arc::new(Life::new(&recent));
    (recent, life)
}

/// Ends all that follows, and with it its connections, when the test ends.
pub(super) struct Ending(pub(super) Arc<Life>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0
            .end(crate::store::StoreError::Unavailable("the test is over".to_owned()));
    }
}

/// Puts an entry at the end of the log.
pub(super) fn log(server: &RedisServer, entry: &Entry<'_>) {
    let mut bytes = Vec::new();
    entry.write(&mut bytes);
    let position: u64 = server.command(&["HINCRBY", "mqtt:{g}:meta", "pos", "1"]);
    add(server, "mqtt:{g}:log", &format!("1-{position}"), &bytes);
}

/// Adds an entry to a stream.
pub(super) fn add(server: &RedisServer, key: &str, id: &str, bytes: &[u8]) {
    let mut command = redis::cmd("XADD");
    command.arg(key).arg(id).arg("e").arg(bytes);
    command.exec(&mut server.connection()).expect("is added");
}

/// Messages as they are in one entry of an inbox.
pub(super) fn messages(payloads: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (payload, share) in payloads {
        bytes.push(u8::from(share.is_some()));
        share.iter().for_each(|share| put_binary(&mut bytes, share.as_bytes()));
        put_publication(&mut bytes, &publication("t", payload.as_bytes()));
    }
    bytes
}

/// Cuts all connections.
pub(super) fn cut(server: &RedisServer) {
    for kind in ["normal", "pubsub"] {
        server.command::<u32>(&["CLIENT", "KILL", "TYPE", kind]);
    }
}

/// Waits until this holds in the server.
pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}
