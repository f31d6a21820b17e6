//! Redis loses writes that it had confirmed, as after a failover to a replica that did not have them: "When Redis loses writes" of
//! `tests/cluster/PROTOCOL.md`. Here the server is killed, its append-only file is cut, and it is started again.

mod common;
use common::*;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::persistence::redis_cli;
use tempfile::TempDir;

/// Within which all nodes serve again: a lease, what they have to put in order, and much for a machine that is busy.
const LONG: Duration = Duration::from_secs(40);

/// A server that keeps what it has answered, until the test takes some of that away.
struct Redis {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Redis {
    fn start() -> Redis {
        let started = (0..20).find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            let mut redis = Redis {
                dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"),
                port: port.expect("a port").port(),
                child: None,
            };
            redis.run().then_some(redis)
        });
        started.expect("redis-server starts; tests/run --setup installs it")
    }

    fn run(&mut self) -> bool {
        let mut child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .arg("--dir")
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let is_ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections")));
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        is_ready
    }

    /// The file to which changes are appended.
    fn file(&self) -> PathBuf {
        let files = std::fs::read_dir(self.dir.path().join("appendonlydir")).expect("a directory");
        let mut names = files.map(|file| file.expect("a file").path());
        let is_it = |path: &PathBuf| path.to_string_lossy().ends_with(".incr.aof");
        names.find(is_it).expect("an append-only file")
    }

    /// How much is kept now: whole commands, as what is answered together is written together.
    fn mark(&self) -> u64 {
        std::fs::metadata(self.file()).expect("it is there").len()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("is killed");
            child.wait().expect("has ended");
        }
    }

    /// Another server takes over, which has nothing of what came behind the mark.
    fn lose_what_is_behind(&mut self, mark: u64) {
        self.kill();
        let file = OpenOptions::new().write(true).open(self.file()).expect("opens");
        assert!(file.metadata().expect("is known").len() > mark, "nothing is lost");
        file.set_len(mark).expect("is cut");
        assert!(self.run(), "redis-server starts again");
    }

    fn options(&self) -> Vec<String> {
        let url = format!("redis://127.0.0.1:{}", self.port);
        let options = ["--redis", &url, "--cluster-lease", "1", "--will-grace", "1"];
        options.map(str::to_owned).to_vec()
    }

    fn node(&self) -> Broker {
        let options = self.options();
        Broker::start_as_told(&options.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The names of the fields of a hash.
    fn fields(&self, key: &str) -> Vec<String> {
        let names = redis_cli(([127, 0, 0, 1], self.port).into(), &["HKEYS", key]);
        let names = names.lines().filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }

    /// What the doctor says, who finds nothing wrong.
    fn doctor(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(["store", "doctor"])
            .args(&self.options()[..2])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until this is there, for as long as a node may take to begin again.
fn until<T>(node: &Broker, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < LONG, "a node does not serve again:\n{}", node.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where a node listens that has begun again so many times.
fn addr_after(node: &Broker, times: usize) -> SocketAddr {
    until(node, || {
        let announced = node.announcements();
        let mut addrs = announced
            .iter()
            .filter_map(|line| line.strip_prefix("listening on mqtt://"));
        addrs.nth(times).map(|addr| addr.parse().expect("an address"))
    })
}

/// Where a node listens when it has begun again as often as it must.
fn until_in_order(redis: &Redis, node: &Broker) -> SocketAddr {
    until(node, || {
        let log = node.log();
        let is_settled = log.rfind("in queues again") > log.rfind("starting again");
        let announced = node.announcements();
        let (_, addr) = announced.last()?.rsplit_once("//")?;
        let addr = addr.parse().ok()?;
        let is_in_order = is_settled
            && TcpStream::connect(addr).is_ok()
            && redis.fields("mqtt:{g}:nodes").len() == 3
            && redis.fields("mqtt:{g}:rec").is_empty();
        is_in_order.then_some(addr)
    })
}

fn connect(addr: SocketAddr, connect: Connect) -> Client {
    Client::open(addr, connect.version).accepted(connect)
}

fn persistent(client_id: &str) -> Connect {
    Connect::persistent(Version::V5, client_id)
}

/// A session whose client was never at one of the nodes that stay: nobody has sent it anything.
fn away(redis: &Redis, client_id: &str, filter: &str) {
    let node = redis.node();
    let mut client = node.connect(persistent(client_id));
    client.subscribe(filter, 1);
    client.disconnect();
    assert_eq!(node.terminate().code(), Some(0));
}

fn publish(client: &mut Client, topic: &str, payloads: impl IntoIterator<Item = String>) {
    payloads
        .into_iter()
        .for_each(|payload| client.publish(topic, payload, 1));
}

fn numbered(what: &str, count: usize) -> impl Iterator<Item = String> {
    let what = what.to_owned();
    (0..count).map(move |number| format!("{what} {number}"))
}

/// Receives until it has had all of these, in whatever order.
fn expect_all(client: &mut Client, payloads: impl IntoIterator<Item = String>) {
    let mut missing: BTreeSet<String> = payloads.into_iter().collect();
    while !missing.is_empty() {
        let message = client.message();
        missing.remove(&String::from_utf8_lossy(&message.payload).into_owned());
    }
}

#[test]
fn what_was_acknowledged_is_there_again() {
    let mut redis = Redis::start();
    away(&redis, "away", "t/#");
    let nodes: Vec<_> = (0..3).map(|_| redis.node()).collect();
    let mut online = nodes[2].connect(persistent("online"));
    online.subscribe("t/#", 1);
    let mut publisher = nodes[1].v5("publisher");
    publish(&mut publisher, "t/a", numbered("before", 10));
    expect_all(&mut online, numbered("before", 10));

    let mark = redis.mark();
    publish(&mut publisher, "t/a", numbered("lost", 50));
    nodes[0].v5("other").publish("t/a", "lost from another node", 1);
    redis.lose_what_is_behind(mark);

    let addrs: Vec<_> = nodes.iter().map(|node| addr_after(node, 1)).collect();
    let mut away = connect(addrs[0], persistent("away"));
    assert!(away.connack.session_present);
    let all = numbered("before", 10).chain(numbered("lost", 50));
    expect_all(&mut away, all.chain(["lost from another node".to_owned()]));
    // It may have been sent what is not in its queue now.
    let online = connect(addrs[2], persistent("online"));
    assert!(!online.connack.session_present);
    nodes[1].expect_log("has lost");
    nodes[1].expect_log("in queues again");

    let mut publisher = connect(addrs[1], Connect::v5("publisher"));
    publish(&mut publisher, "t/a", numbered("after", 10));
    expect_all(&mut away, numbered("after", 10));
    eventually("nothing is left of the generation before", || {
        let nodes = redis.fields("mqtt:{g}:rec");
        nodes.is_empty()
    });
    redis.doctor();
}

/// The server does not even know two of the nodes.
#[test]
fn nodes_whose_beginning_is_lost_begin_anew() {
    let mut redis = Redis::start();
    away(&redis, "away", "t/#");
    let first = redis.node();
    let mark = redis.mark();
    let others: Vec<_> = (0..2).map(|_| redis.node()).collect();
    let mut publisher = others[0].v5("publisher");
    publish(&mut publisher, "t/a", numbered("lost", 10));
    let mut online = others[1].connect(persistent("online"));
    online.subscribe("t/#", 1);
    redis.lose_what_is_behind(mark);

    let addrs: Vec<_> = [&first, &others[0], &others[1]]
        .into_iter()
        .map(|node| addr_after(node, 1))
        .collect();
    let mut away = connect(addrs[0], persistent("away"));
    assert!(away.connack.session_present);
    expect_all(&mut away, numbered("lost", 10));
    let mut publisher = connect(addrs[2], Connect::v5("publisher"));
    publish(&mut publisher, "t/a", numbered("after", 10));
    expect_all(&mut away, numbered("after", 10));
    redis.doctor();
}

/// What the dead node knew is lost; what the others know is not.
#[test]
fn a_node_may_die_meanwhile() {
    let mut redis = Redis::start();
    away(&redis, "away", "t/#");
    let mut nodes: Vec<_> = (0..3).map(|_| redis.node()).collect();
    let mut online = nodes[2].connect(persistent("online"));
    online.subscribe("t/#", 1);
    let mut publisher = nodes[0].v5("publisher");
    let mark = redis.mark();
    publish(&mut publisher, "t/a", numbered("lost", 20));
    redis.kill();
    drop(nodes.pop());
    redis.lose_what_is_behind(mark);
    let addrs: Vec<_> = nodes.iter().map(|node| addr_after(node, 1)).collect();
    let mut away = connect(addrs[1], persistent("away"));
    assert!(away.connack.session_present);
    expect_all(&mut away, numbered("lost", 20));
    let online = connect(addrs[0], persistent("online"));
    assert!(!online.connack.session_present);
    redis.doctor();
}

/// While nodes put in order what was lost, that is lost, too.
#[test]
fn it_may_happen_again_meanwhile() {
    let mut redis = Redis::start();
    away(&redis, "away", "t/#");
    let nodes: Vec<_> = (0..3).map(|_| redis.node()).collect();
    let mut publisher = nodes[0].v5("publisher");
    let mark = redis.mark();
    publish(&mut publisher, "t/a", numbered("lost", 20));
    redis.lose_what_is_behind(mark);
    nodes[0].expect_log("has lost writes");
    redis.lose_what_is_behind(mark);
    let addrs: Vec<_> = nodes.iter().map(|node| until_in_order(&redis, node)).collect();
    let mut away = connect(addrs[1], persistent("away"));
    assert!(away.connack.session_present);
    expect_all(&mut away, numbered("lost", 20));
    let mut publisher = connect(addrs[2], Connect::v5("publisher"));
    publish(&mut publisher, "t/a", numbered("after", 10));
    expect_all(&mut away, numbered("after", 10));
    redis.doctor();
}

/// A server that was started again, and has all of it, changes nothing.
#[test]
fn nothing_happens_if_nothing_is_lost() {
    let mut redis = Redis::start();
    let nodes: Vec<_> = (0..2).map(|_| redis.node()).collect();
    let mut subscriber = nodes[0].connect(persistent("subscriber"));
    subscriber.subscribe("t/#", 1);
    let mut publisher = nodes[1].v5("publisher");
    publish(&mut publisher, "t/a", numbered("before", 10));
    redis.kill();
    assert!(redis.run(), "redis-server starts again");
    publish(&mut publisher, "t/a", numbered("after", 10));
    expect_all(&mut subscriber, numbered("before", 10).chain(numbered("after", 10)));
    for node in &nodes {
        assert_eq!(node.announcements().len(), 1, "{}", node.log());
    }
    redis.doctor();
}

/// So it is if a node dies at the same time, as when both are on one machine: whose sessions were there go on with all that they had (C1).
#[test]
fn a_node_may_die_while_redis_starts_again() {
    let mut redis = Redis::start();
    let mut nodes: Vec<_> = (0..3).map(|_| redis.node()).collect();
    let mut clients: Vec<_> = (0..3)
        .map(|node| nodes[node].connect(persistent(&format!("client {node}"))))
        .collect();
    clients.iter_mut().for_each(|client| client.subscribe("t/#", 1));
    let mut publisher = nodes[2].v5("publisher");
    publish(&mut publisher, "t/a", numbered("before", 10));
    redis.kill();
    drop(nodes.pop());
    assert!(redis.run(), "redis-server starts again");
    let mut moved = nodes[0].connect(persistent("client 2"));
    assert!(moved.connack.session_present);
    for client in clients[..2].iter_mut().chain([&mut moved]) {
        expect_all(client, numbered("before", 10));
    }
    for node in &nodes {
        assert_eq!(node.announcements().len(), 1, "{}", node.log());
    }
    redis.doctor();
}

/// And if all have died.
#[test]
fn all_nodes_may_die_with_redis() {
    let mut redis = Redis::start();
    let nodes: Vec<_> = (0..2).map(|_| redis.node()).collect();
    let mut client = nodes[0].connect(persistent("client"));
    client.subscribe("t/#", 1);
    let mut publisher = nodes[1].v5("publisher");
    publish(&mut publisher, "t/a", numbered("before", 10));
    drop(nodes);
    redis.kill();
    assert!(redis.run(), "redis-server starts again");
    let node = redis.node();
    let mut client = node.connect(persistent("client"));
    assert!(client.connack.session_present);
    expect_all(&mut client, numbered("before", 10));
    redis.doctor();
}
