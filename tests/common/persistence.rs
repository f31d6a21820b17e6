//! What the brokers of the tests keep their state in: everything in MQTT holds for every store.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// Where the state of one broker is; it is removed when this is dropped.
pub struct Place {
    pub options: Vec<String>,
    /// How many brokers share it.
    pub nodes: usize,
    _dir: Option<TempDir>,
}

/// A place for another broker, as `CONF_PERSISTENCE` says: none, if that says nothing or these options choose one.
pub fn place(options: &[&str]) -> Option<Place> {
    const CHOOSE: [&str; 3] = ["--persistence", "--data-dir", "--redis"];
    if options.iter().any(|option| CHOOSE.contains(option)) {
        return None;
    }
    match std::env::var("CONF_PERSISTENCE").as_deref() {
        Err(_) | Ok("memory") => None,
        Ok("disk") => Some(on_disk(&[])),
        Ok("disk-os") => Some(on_disk(&["--durability", "os"])),
        Ok("faulty") => Some(on_disk(&["--durability", "os", "--store-faults", &next().to_string()])),
        Ok("redis") => Some(in_redis()),
        Ok("cluster") => Some(in_cluster(3)),
        Ok(other) => panic!("CONF_PERSISTENCE={other} is not memory, disk, disk-os, redis, cluster or faulty"),
    }
}

/// Whether the brokers keep their state where others may take it up: QoS 2 messages of sessions that are kept are published at their
/// PUBREL, and wills wait for a while when a broker ends.
pub fn is_shared() -> bool {
    matches!(std::env::var("CONF_PERSISTENCE").as_deref(), Ok("redis" | "cluster"))
}

fn on_disk(options: &[&str]) -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let data = data.to_str().expect("a path in UTF-8");
    let options = [&["--persistence", "disk", "--data-dir", data], options].concat();
    Place {
        options: options.into_iter().map(str::to_owned).collect(),
        nodes: 1,
        _dir: Some(dir),
    }
}

/// A place of its own in the Redis server of this process.
pub fn in_redis() -> Place {
    let prefix = format!("t{}-{}", std::process::id(), next());
    let url = format!("redis://{}", redis());
    let options = ["--redis", &url, "--redis-prefix", &prefix];
    Place {
        options: options.map(str::to_owned).to_vec(),
        nodes: 1,
        _dir: None,
    }
}

/// The same, for so many nodes of a cluster.
pub fn in_cluster(nodes: usize) -> Place {
    Place { nodes, ..in_redis() }
}

impl Place {
    /// The names of the keys that are there in Redis, without their prefix.
    pub fn keys(&self) -> Vec<String> {
        let place = self.options.iter().position(|option| option == "--redis-prefix");
        let prefix = format!("{}:", self.options[place.expect("a place in Redis") + 1]);
        redis_cli(redis(), &["--scan", "--pattern", &format!("{prefix}*")])
            .lines()
            .map(|key| key.trim_start_matches(&prefix).to_owned())
            .collect()
    }
}

/// What `redis-cli` says of the server there.
pub fn redis_cli(server: SocketAddr, words: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &server.port().to_string()])
        .args(words)
        .output()
        .expect("redis-cli");
    assert!(output.status.success(), "redis-cli: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Numbers that differ within this process, and mostly from those of other test programs.
fn next() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    u64::from(std::process::id()) * 1000 + COUNT.fetch_add(1, Ordering::Relaxed)
}

/// The address of the Redis server of this process, which ends with it.
pub fn redis() -> SocketAddr {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    SERVER.get_or_init(Redis::start).addr
}

/// A Redis server, which is killed when this is dropped.
pub struct Redis {
    pub addr: SocketAddr,
    /// The server ends when this is closed, as it is when this process ends, whatever the reason.
    _lives: ChildStdin,
}

/// Runs the server until standard input ends, and removes what it leaves. Signals to the group end the tests, and so
/// standard input.
const GUARD: &str = r#"
    trap "" INT TERM HUP
    redis-server --bind 127.0.0.1 --port "$0" --dir "$1" --save "" --appendonly yes </dev/null &
    exec >/dev/null
    read -r _
    kill -KILL $! 2>/dev/null
    wait
    rm -rf "$1"
"#;

impl Redis {
    pub fn start() -> Redis {
        // A port that is free now may be taken before the server has it.
        let started = (0..20).find_map(|_| Redis::try_start());
        started.expect("redis-server starts; tests/run --setup installs it")
    }

    fn try_start() -> Option<Redis> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let addr = port.expect("a port");
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a directory")
            .keep();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, &addr.port().to_string()])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut lines = BufReader::new(guard.stdout.take().expect("piped")).lines();
        let redis = Redis {
            addr,
            _lives: guard.stdin.take().expect("piped"),
        };
        let is_ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections")));
        // What it says later must not fill the pipe.
        std::thread::spawn(move || {
            lines.for_each(drop);
            let _ = guard.wait();
        });
        is_ready.then_some(redis)
    }
}
