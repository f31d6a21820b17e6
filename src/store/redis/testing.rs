//! A Redis server for a test, and batches to commit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::message::Publication;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::op::{
    Lane, Op, Recipient, SessionRecord, SubscriptionRecord, TermsRecord, Uid, write_message, write_recipient,
};
use crate::store::{Batch, Page, RedisSettings, Store, StoreError};
use crate::time::Millis;

/// A server of its own, in a directory of its own. It ends with the test.
pub(super) struct RedisServer {
    directory: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
    pub(super) port: Option<u16>,
    pub(super) tls_port: Option<u16>,
}

/// Keeps everything, at once.
pub(super) const ALWAYS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

impl RedisServer {
    /// A server that answers at a socket in its directory.
    pub(super) fn start(arguments: &[&str]) -> RedisServer {
        let mut server = RedisServer::new(arguments);
        assert!(server.try_run(), "redis-server does not start");
        server
    }

    /// A server that answers at a port of 127.0.0.1.
    pub(super) fn start_at_a_port(arguments: &[&str]) -> RedisServer {
        first_that_runs(|| {
            let mut server = RedisServer::new(arguments);
            server.port = Some(free_port());
            server
        })
    }

    /// A server that asks its clients for certificates, but for those who come by its socket.
    pub(super) fn start_with_tls(certificate: &str, key: &str, ca: &str) -> RedisServer {
        first_that_runs(|| {
            let port = free_port();
            let mut server = RedisServer::new(&[
                "--tls-port",
                &port.to_string(),
                "--tls-cert-file",
                certificate,
                "--tls-key-file",
                key,
                "--tls-ca-cert-file",
                ca,
                "--tls-auth-clients",
                "yes",
            ]);
            server.tls_port = Some(port);
            server
        })
    }

    /// A Sentinel that knows the server at this port as `main`.
    pub(super) fn start_sentinel(master: u16, password: &str) -> RedisServer {
        first_that_runs(|| {
            let mut server = RedisServer::new(&[]);
            server.port = Some(free_port());
            let file = server.directory.path().join("sentinel.conf");
            let monitor = format!("sentinel monitor main 127.0.0.1 {master} 1\nsentinel auth-pass main {password}\n");
            std::fs::write(&file, monitor).expect("written");
            server.arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
            server
        })
    }

    fn new(arguments: &[&str]) -> RedisServer {
        RedisServer {
            directory: tempfile::tempdir().expect("a directory"),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
            port: None,
            tls_port: None,
        }
    }

    fn try_run(&mut self) -> bool {
        let is_sentinel = self.arguments.iter().any(|argument| argument == "--sentinel");
        let mut command = Command::new("redis-server");
        // The file of a Sentinel comes first.
        command.args(&self.arguments).args(["--bind", "127.0.0.1"]);
        command.args(["--port", &self.port.unwrap_or(0).to_string()]);
        command.arg("--dir").arg(self.directory.path());
        if !is_sentinel {
            command.args(["--save", "", "--unixsocket"]).arg(self.socket());
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let output = child.stdout.take().expect("is piped");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let ready = if is_sentinel {
            "+monitor"
        } else {
            "eady to accept connections"
        };
        let is_ready = lines.any(|line| line.contains(ready));
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

    /// Sends it a signal, by its name.
    pub(super) fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("is running");
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(child.id().to_string())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
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

/// Between being chosen and being used, a port may go to somebody else.
fn first_that_runs(make: impl Fn() -> RedisServer) -> RedisServer {
    let servers = std::iter::repeat_with(|| {
        let mut server = make();
        server.try_run().then_some(server)
    });
    servers.take(10).flatten().next().expect("redis-server starts")
}

/// A cluster of servers that all write.
pub(super) struct Cluster {
    pub(super) servers: Vec<RedisServer>,
}

impl Cluster {
    pub(super) fn start(count: usize) -> Cluster {
        let servers = (0..count).map(|_| {
            first_that_runs(|| {
                let bus = free_port().to_string();
                let mut arguments = vec!["--cluster-enabled", "yes", "--cluster-port", &bus];
                arguments.extend(ALWAYS);
                let mut server = RedisServer::new(&arguments);
                server.port = Some(free_port());
                server
            })
        });
        let cluster = Cluster {
            servers: servers.collect(),
        };
        for (place, server) in cluster.servers.iter().enumerate() {
            let (first, last) = (place * 16_384 / count, (place + 1) * 16_384 / count - 1);
            server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            server.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]);
            let first = &cluster.servers[0];
            let port = first.port.expect("has one").to_string();
            server.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &first.arguments[3]]);
        }
        cluster.wait();
        cluster
    }

    /// Until all know all.
    pub(super) fn wait(&self) {
        let knows_all = |server: &RedisServer| {
            let slots: Vec<redis::Value> = server.command(&["CLUSTER", "SLOTS"]);
            let info: String = server.command(&["CLUSTER", "INFO"]);
            slots.len() == self.servers.len() && info.contains("cluster_state:ok")
        };
        while !self.servers.iter().all(knows_all) {
            std::thread::yield_now();
        }
    }

    pub(super) fn settings(&self) -> RedisSettings {
        let ports = self.servers.iter().map(|server| server.port.expect("has one"));
        let hosts: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        RedisSettings::new(format!("redis+cluster://{}", hosts.join(",")))
    }

    /// One that does not have this key.
    pub(super) fn server_without(&self, key: &str) -> usize {
        let slot: usize = self.servers[0].command(&["CLUSTER", "KEYSLOT", key]);
        (slot * self.servers.len() / 16_384 + 1) % self.servers.len()
    }
}

/// Stands between a store and a server, and may lose replies to transactions.
pub(super) struct Proxy {
    port: u16,
    to_lose: Arc<AtomicUsize>,
}

impl Proxy {
    pub(super) fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&to_lose);
        // It ends with the tests: nothing connects to it any more.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", server)).expect("the server is there");
                pass_on(client, server, &own);
            }
        });
        Proxy { port, to_lose }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Loses the replies to the next transactions, each with its connection.
    pub(super) fn lose_replies(&self, count: usize) {
        self.to_lose.store(count, Ordering::SeqCst);
    }

    pub(super) fn replies_to_lose(&self) -> usize {
        self.to_lose.load(Ordering::SeqCst)
    }
}

fn pass_on(client: TcpStream, server: TcpStream, to_lose: &Arc<AtomicUsize>) {
    let has_transaction = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut to_server) = (client.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
    let seen = Arc::clone(&has_transaction);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1024 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer) {
            let is_end = buffer[..length].ends_with(b"EXEC\r\n");
            seen.fetch_or(is_end, Ordering::SeqCst);
            if to_server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut from_server, mut to_client) = (server, client);
    let to_lose = Arc::clone(to_lose);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1024 * 1024];
        while let Ok(length @ 1..) = from_server.read(&mut buffer) {
            let is_lost = has_transaction.load(Ordering::SeqCst)
                && to_lose
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1))
                    .is_ok();
            if is_lost || to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
}

pub(super) fn free_port() -> u16 {
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
            write_recipient(
                &mut bytes,
                &Recipient {
                    uid: *uid,
                    index: *index,
                    terms,
                },
            );
        }
        write_message(
            &mut self.bytes,
            recipients.len() as u32,
            &bytes,
            &publication("a/b", payload),
        );
        self
    }

    pub(super) fn done(self, uid: Uid, index: u64) -> Changes {
        self.op(&Op::Done {
            uid,
            lane: Lane::Live,
            index,
        })
    }

    pub(super) fn commit(&self, store: &dyn Store, number: u64) -> Result<(), StoreError> {
        store.commit(&Batch {
            number,
            bytes: &self.bytes,
        })
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
            lines.extend(
                queue(store, uid, lane)
                    .into_iter()
                    .map(|entry| format!("{uid} {lane:?} {entry}")),
            );
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
        let most = Page {
            messages: 3,
            bytes: 100,
        };
        let page = store.queue(uid, lane, from, most).expect("a queue");
        let Some(last) = page.last() else {
            return entries;
        };
        from = last.index + 1;
        entries.extend(page.iter().map(|entry| format!("{entry:?}")));
    }
}

pub(super) fn indexes(store: &dyn Store, uid: Uid) -> Vec<u64> {
    let most = Page {
        messages: 1_000_000,
        bytes: usize::MAX,
    };
    let page = store.queue(uid, Lane::Live, 0, most).expect("a queue");
    page.iter().map(|entry| entry.index).collect()
}
