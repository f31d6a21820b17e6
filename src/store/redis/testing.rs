//! A Redis server for a test, and batches to commit.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::message::Publication;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::op::{Lane, Op, Recipient, SessionRecord, SubscriptionRecord, TermsRecord, Uid};
use crate::store::{Batch, Page, RedisSettings, Store, StoreError, write_message, write_recipient};
use crate::time::Millis;

/// A server of its own, in a directory of its own. It ends with the test.
pub(super) struct RedisServer {
    directory: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
    pub(super) port: Option<u16>,
}

/// Keeps everything, at once.
pub(super) const ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

impl RedisServer {
    /// A server that answers at a socket in its directory.
    pub(super) fn start(arguments: &[&str]) -> RedisServer {
        let mut server = RedisServer::new(arguments, None);
        assert!(server.try_run(), "redis-server does not start");
        server
    }

    /// A server that answers at a port of 127.0.0.1.
    pub(super) fn start_at_a_port(arguments: &[&str]) -> RedisServer {
        // Between being chosen and being used, a port may go to somebody else.
        for _ in 0..10 {
            let mut server = RedisServer::new(arguments, Some(free_port()));
            if server.try_run() {
                return server;
            }
        }
        panic!("redis-server does not start");
    }

    fn new(arguments: &[&str], port: Option<u16>) -> RedisServer {
        RedisServer {
            directory: tempfile::tempdir().expect("a directory"),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
            port,
        }
    }

    fn try_run(&mut self) -> bool {
        let mut child = Command::new("redis-server")
            .args(["--save", "", "--bind", "127.0.0.1", "--unixsocket"])
            .arg(self.socket())
            .args(["--port", &self.port.unwrap_or(0).to_string()])
            .arg("--dir")
            .arg(self.directory.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let output = child.stdout.take().expect("is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let is_ready = lines.any(|line| line.contains("eady to accept connections"));
        // What it writes later is read, so that it never waits.
        std::thread::spawn(move || lines.for_each(drop));
        if is_ready {
            self.child = Some(child);
        } else {
            let _ = child.wait();
        }
        is_ready
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub(super) fn url(&self) -> String {
        match self.port {
            Some(port) => format!("redis://127.0.0.1:{port}"),
            None => format!("unix://{}", self.socket().display()),
        }
    }

    pub(super) fn settings(&self) -> RedisSettings {
        RedisSettings::new(self.url())
    }

    pub(super) fn open(&self) -> super::RedisStore {
        super::open(&self.settings()).expect("opens")
    }

    /// Ends it as if the power failed, but for what the operating system has.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn restart(&mut self) {
        self.kill();
        assert!(self.try_run(), "redis-server does not start again");
    }

    pub(super) fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    /// Has the server do something, beside the store.
    pub(super) fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query(&mut self.connection())
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Writes a batch, and has it committed.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) bytes: Vec<u8>,
}

impl Changes {
    pub(super) fn op(mut self, op: &Op<'_>) -> Changes {
        op.write(&mut self.bytes);
        self
    }

    pub(super) fn session(self, uid: Uid, client_id: &str, away_since: Option<u64>) -> Changes {
        self.op(&Op::Session(SessionRecord {
            uid,
            client_id,
            expiry_interval: 60,
            window: 20,
            away_since: away_since.map(Millis::from_unix),
            unsent: 0,
        }))
    }

    pub(super) fn subscribe(self, uid: Uid, filter: &str, replays: bool) -> Changes {
        self.op(&Op::Subscribe {
            uid,
            subscription: SubscriptionRecord {
                filter,
                options: SubscriptionOptions {
                    qos: QoS::AtLeastOnce,
                    no_local: false,
                    retain_as_published: true,
                    retain_handling: RetainHandling::SendIfNew,
                },
                identifier: 7,
                replays,
            },
        })
    }

    pub(super) fn message(mut self, payload: &[u8], recipients: &[(Uid, u64)]) -> Changes {
        let mut bytes = Vec::new();
        for (uid, index) in recipients {
            let terms = terms();
            write_recipient(&mut bytes, &Recipient { uid: *uid, index: *index, terms });
        }
        write_message(&mut self.bytes, recipients.len() as u32, &bytes, &publication("a/b", payload));
        self
    }

    pub(super) fn done(self, uid: Uid, index: u64) -> Changes {
        self.op(&Op::Done { uid, lane: Lane::Live, index })
    }

    pub(super) fn commit(&self, store: &dyn Store, number: u64) -> Result<(), StoreError> {
        store.commit(&Batch { number, bytes: &self.bytes })
    }
}

pub(super) fn terms<'a>() -> TermsRecord<'a> {
    TermsRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: &[],
        share: None,
    }
}

pub(super) fn publication<'a>(topic: &'a str, payload: &'a [u8]) -> Publication<'a> {
    Publication {
        topic,
        payload,
        properties: &[],
        expires_at: None,
        qos: QoS::AtLeastOnce,
        retain: false,
    }
}

/// All that a store has, in words.
pub(super) fn dump(store: &dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    let mut uids = Vec::new();
    let sessions = store.sessions(&mut |session| {
        uids.push(session.uid);
        lines.push(format!("{session:?}"));
    });
    sessions.expect("sessions");
    for uid in uids {
        for lane in [Lane::Live, Lane::Replayed] {
            lines.extend(queue(store, uid, lane).into_iter().map(|entry| format!("{uid} {lane:?} {entry}")));
        }
    }
    let wills = store.wills(&mut |will| lines.push(format!("{will:?}")));
    wills.expect("wills");
    let retained = store.retained(&mut |message| lines.push(format!("{message:?}")));
    retained.expect("retained messages");
    lines.sort();
    lines
}

/// Reads a queue in small pages.
pub(super) fn queue(store: &dyn Store, uid: Uid, lane: Lane) -> Vec<String> {
    let mut entries = Vec::new();
    let mut from = 0;
    loop {
        let most = Page { messages: 3, bytes: 100 };
        let page = store.queue(uid, lane, from, most).expect("a queue");
        let Some(last) = page.last() else {
            return entries;
        };
        from = last.index + 1;
        entries.extend(page.iter().map(|entry| format!("{entry:?}")));
    }
}

pub(super) fn indexes(store: &dyn Store, uid: Uid) -> Vec<u64> {
    let most = Page { messages: 1_000_000, bytes: usize::MAX };
    let page = store.queue(uid, Lane::Live, 0, most).expect("a queue");
    page.iter().map(|entry| entry.index).collect()
}
