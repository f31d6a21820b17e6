//! Redis servers for tests.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::message::Publication;
use crate::packet::QoS;
use crate::store::op::{Lane, TermsRecord, Uid};
use crate::store::{Page, RedisSettings, Store};

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

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
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
