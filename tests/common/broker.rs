//! A broker process.

use super::client::Client;
use super::packet::{Connack, Connect, Packet, Version};
use super::persistence::{self, Place};
use super::{Stream, Transport};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// A broker on a free port of the loopback interface; it is killed when this is dropped.
pub struct Broker {
    addr: SocketAddr,
    transport: Transport,
    child: Option<Child>,
    /// Where its state is, if the tests run over another store.
    place: Option<Place>,
    /// The other nodes, if it is a cluster; connections go to one after the other.
    others: Vec<Broker>,
    opened: AtomicUsize,
    announced: Arc<Announced>,
    log: Arc<Mutex<String>>,
    /// How far [`Broker::expect_log`] has read.
    log_read: Mutex<usize>,
}

/// The lines that the broker has printed.
#[derive(Default)]
struct Announced {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Broker {
    /// Starts a broker with these options; host, port and `--sys-interval 0` are given unless they are among them. It
    /// listens on TCP, and for the transport that was chosen for the tests.
    pub fn start(args: &[&str]) -> Broker {
        Broker::launch(
            Command::new(program()),
            args,
            Transport::chosen(),
            persistence::place(args),
        )
    }

    /// Starts a broker that listens on what these options say, and only there, for tests of transports themselves.
    pub fn start_on(args: &[&str]) -> Broker {
        Broker::launch(Command::new(program()), args, Transport::Tcp, persistence::place(args))
    }

    /// Starts a broker with these options as [`Broker::start_on`] does, whatever store the tests run over.
    pub fn start_as_told(args: &[&str]) -> Broker {
        Broker::launch(Command::new(program()), args, Transport::Tcp, None)
    }

    /// Starts a broker that may have this many files open.
    pub fn start_with_files(files: u32, args: &[&str]) -> Broker {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string(), &program()]);
        Broker::launch(command, args, Transport::chosen(), persistence::place(args))
    }

    /// Starts a broker whose writes to files can be made fail, see [`Broker::limit_files`].
    pub fn start_to_be_limited(args: &[&str]) -> Broker {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", &program()]);
        Broker::launch(command, args, Transport::chosen(), persistence::place(args))
    }

    /// From now on files may be so long; what is written behind that fails, as on a full disk. `None` lifts the bound.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let child = self.child.as_ref().expect("the broker is ours");
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let mut command = Command::new("prlimit");
        command.args([format!("--pid={}", child.id()), format!("--fsize={limit}:")]);
        assert!(command.status().expect("prlimit of util-linux runs").success());
    }

    fn launch(mut command: Command, args: &[&str], transport: Transport, place: Option<Place>) -> Broker {
        if let Ok(addr) = std::env::var("CONF_BROKER_ADDR") {
            let addr = addr
                .parse()
                .expect("CONF_BROKER_ADDR is an address such as 127.0.0.1:1883");
            return Broker {
                addr,
                transport,
                child: None,
                place: None,
                others: Vec::new(),
                opened: AtomicUsize::new(0),
                announced: Arc::default(),
                log: Arc::default(),
                log_read: Mutex::default(),
            };
        }
        let others = Broker::start_others(args, transport, place.as_ref());
        add_options(&mut command, args);
        command.args(place.iter().flat_map(|place| &place.options));
        let mut child = command.args(transport.options()).spawn().expect("the broker starts");
        let mut broker = Broker {
            addr: ([127, 0, 0, 1], 0).into(),
            transport,
            announced: Announced::read(child.stdout.take().expect("piped")),
            log: collect(child.stderr.take().expect("piped")),
            log_read: Mutex::default(),
            child: Some(child),
            place,
            others,
            opened: AtomicUsize::new(0),
        };
        // Without TCP there is no address to be used unless a test says which.
        if !args.contains(&"--no-tcp") {
            broker.addr = broker.addr_of(transport.scheme());
        }
        broker
    }

    /// The nodes of a cluster but one. Their ports are their own, whatever the options say.
    fn start_others(args: &[&str], transport: Transport, place: Option<&Place>) -> Vec<Broker> {
        let start = |place: &Place| {
            let mut command = Command::new(program());
            command.args(&place.options);
            Broker::launch(command, args, transport, None)
        };
        let others = place
            .into_iter()
            .flat_map(|place| (1..place.nodes).map(move |_| start(place)));
        others.collect()
    }

    /// Starts a broker with these options, which must not be able to start: its exit code and what it says.
    pub fn cannot_start(args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(program());
        add_options(&mut command, args);
        let mut child = command.spawn().expect("the program starts");
        let log = collect(child.stderr.take().expect("piped"));
        let broker = Broker {
            addr: ([127, 0, 0, 1], 0).into(),
            transport: Transport::Tcp,
            announced: Arc::default(),
            log: Arc::clone(&log),
            log_read: Mutex::default(),
            child: Some(child),
            place: None,
            others: Vec::new(),
            opened: AtomicUsize::new(0),
        };
        let code = broker.wait().code();
        // The thread that reads it ends with the pipe, and then nobody else has it.
        super::eventually("all is read", || Arc::strong_count(&log) == 1);
        let said = log.lock().expect("not poisoned").clone();
        (code, said)
    }

    /// Where it listens for the transport of the tests.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The first address that it announces with this scheme: `mqtt`, `mqtts`, `ws`, `wss`.
    pub fn addr_of(&self, scheme: &str) -> SocketAddr {
        self.addrs_of(scheme, 1)[0]
    }

    /// The addresses that it announces with this scheme; waits until there are at least so many.
    pub fn addrs_of(&self, scheme: &str, count: usize) -> Vec<SocketAddr> {
        let prefix = format!("listening on {scheme}://");
        let found = self.announced.wait(|lines| {
            let urls = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
            let addrs = urls.map(|url| url.split('/').next().expect("an address").parse().expect("an address"));
            Some(addrs.collect()).filter(|addrs: &Vec<SocketAddr>| addrs.len() >= count)
        });
        found.unwrap_or_else(|| panic!("the broker does not listen for {scheme}:\n{}", self.log()))
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Waits until it logs this, behind what was expected before.
    pub fn expect_log(&self, text: &str) {
        let mut read = self.log_read.lock().expect("not poisoned");
        super::eventually(&format!("the broker logs {text:?}"), || {
            let found = self.log()[*read..].find(text);
            found.is_some_and(|at| {
                *read += at + text.len();
                true
            })
        });
    }

    /// All that it has announced so far.
    pub fn announcements(&self) -> Vec<String> {
        self.announced.lines.lock().expect("not poisoned").clone()
    }

    /// Waits until it announces this.
    pub fn expect_announced(&self, url: &str) {
        let line = format!("listening on {url}");
        let found = self.announced.wait(|lines| lines.contains(&line).then_some(()));
        found.unwrap_or_else(|| panic!("the broker does not say {line:?}:\n{}", self.log()));
    }

    /// A connection on which nothing has been sent; `version` says how answers are read.
    pub fn open(&self, version: Version) -> Client {
        let number = self.opened.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        let addr = self.others.get(number).map_or(self.addr, |node| node.addr);
        Client::on(self.transport.connect(addr), version)
    }

    /// Connects on this stream, and expects to be accepted.
    pub fn connect_on(&self, stream: Stream, connect: Connect) -> Client {
        Client::on(stream, connect.version).accepted(connect)
    }

    /// Connects and expects to be accepted. The answer is kept in [`Client::connack`].
    pub fn connect(&self, connect: Connect) -> Client {
        let id = connect.client_id.clone();
        let client = self.try_connect(connect);
        assert_eq!(client.connack.code, 0, "{id} is not accepted: {:?}", client.connack);
        client
    }

    /// Connects and returns whatever CONNACK comes, in [`Client::connack`].
    pub fn try_connect(&self, connect: Connect) -> Client {
        let mut client = self.open(connect.version);
        client.name = connect.client_id.clone();
        client.send(connect);
        client.connack = client.recv_connack();
        client
    }

    /// Connects, expects to be refused with `code` (a Reason Code, or a Connect Return code of MQTT 3) and cut.
    pub fn expect_refused(&self, connect: Connect, code: u8) -> Connack {
        let mut client = self.try_connect(connect);
        assert_eq!(
            client.connack.code, code,
            "refused, but not as expected: {:?}",
            client.connack
        );
        client.expect_closed();
        client.connack.clone()
    }

    /// A connected client of MQTT 5.0 with a clean start.
    pub fn v5(&self, client_id: &str) -> Client {
        self.connect(Connect::v5(client_id))
    }

    /// A connected client of MQTT 3.1.1 with a clean session.
    pub fn v311(&self, client_id: &str) -> Client {
        self.connect(Connect::v311(client_id))
    }

    /// Asserts that a new client can connect, publish to itself and leave: the broker lives and serves.
    pub fn assert_serves(&self) {
        let mut client = self.connect(Connect::v5(""));
        client.subscribe("assert/serves", 1);
        client.send(super::Publish::new("assert/serves", "x").qos(1, 1));
        let mut seen = [client.recv(), client.recv()];
        seen.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        assert!(
            matches!(&seen, [Packet::Puback(_), Packet::Publish(p)] if p.payload == b"x"),
            "{seen:?}"
        );
        client.disconnect();
    }

    /// Lets one and a half seconds pass by the broker's own clock: until it cuts a silent client with Keep Alive 1. What
    /// was due within a second before has then happened.
    pub fn let_time_pass(&self) {
        let mut clock = self.connect(Connect::v311("").keep_alive(1));
        clock.expect_closed();
    }

    /// Resident memory of the broker in KiB; `None` where it cannot be read (a foreign broker, no procfs).
    pub fn rss_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.as_ref()?.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// CPU time that the broker has used, in clock ticks (hundredths of a second); `None` as in [`Broker::rss_kib`].
    pub fn cpu_ticks(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.as_ref()?.id())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    }

    /// Whether the tests started the broker themselves, so that options, signals and memory can be relied on.
    pub fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// Sends it a signal by name (`TERM`, `INT`, `STOP`, `CONT`).
    pub fn signal(&self, name: &str) {
        let pid = self
            .child
            .as_ref()
            .expect("signals need a broker of our own")
            .id()
            .to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
            .status();
        assert!(status.expect("sh runs").success(), "kill -s {name} {pid}");
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the broker to end on its own account, for at most three times [`DEADLINE`](super::DEADLINE).
    pub fn wait(mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            let child = self.child.as_mut().expect("a broker of our own");
            if let Some(status) = child.try_wait().expect("wait works") {
                self.child = None;
                return status;
            }
            assert!(
                start.elapsed() < 3 * super::DEADLINE,
                "the broker does not end:\n{}",
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(4096);
            if let Some(place) = &self.place {
                eprintln!("--- the broker's store: {} ---", place.options.join(" "));
            }
            eprintln!(
                "--- end of the broker's log ---\n{}",
                String::from_utf8_lossy(&log.as_bytes()[start..])
            );
        }
    }
}

fn program() -> String {
    std::env::var("CONF_BROKER_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_broker").into())
}

fn add_options(command: &mut Command, args: &[&str]) {
    for (option, value) in [("--host", "127.0.0.1"), ("--port", "0"), ("--sys-interval", "0")] {
        if !args.contains(&option) {
            command.args([option, value]);
        }
    }
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

impl Announced {
    /// A thread goes on reading, so that the broker never blocks there.
    fn read(stdout: impl Read + Send + 'static) -> Arc<Announced> {
        let announced = Arc::<Announced>::default();
        let shared = Arc::clone(&announced);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                shared.lines.lock().expect("not poisoned").push(line);
                shared.more.notify_all();
            }
        });
        announced
    }

    /// What `find` finds in the lines, as soon as it does; none if it does not within the deadline.
    fn wait<T>(&self, find: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let mut found = None;
        let lines = self.lines.lock().expect("not poisoned");
        let _ = self.more.wait_timeout_while(lines, super::DEADLINE, |lines| {
            found = find(lines);
            found.is_none()
        });
        found
    }
}

/// Collects what a pipe delivers, in a thread of its own.
fn collect(mut pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            shared
                .lock()
                .expect("not poisoned")
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    log
}
