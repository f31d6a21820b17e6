//! The process of the broker under test, and of the server that it may store in.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::redis::{Redis, free_port, pid_of, signal_to};

/// What keeps the state of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Memory,
    DiskFsync,
    DiskOs,
    Redis,
    /// Nodes of a cluster, each with its own way to a Redis.
    Cluster,
    /// Another broker, to see what the checker says of it.
    Mosquitto,
}

/// A broker with its data, that can be started again and again.
pub struct Broker {
    backend: Backend,
    program: PathBuf,
    dir: PathBuf,
    process: Option<Child>,
    redis: Option<Redis>,
    /// Options of a node.
    options: Vec<String>,
    starts: usize,
}

/// Longest time for a start or an end.
const PATIENCE: Duration = Duration::from_secs(20);

impl Backend {
    pub const ALL: [(Backend, &'static str); 6] = [
        (Backend::Memory, "memory"),
        (Backend::DiskFsync, "disk-fsync"),
        (Backend::DiskOs, "disk-os"),
        (Backend::Redis, "redis"),
        (Backend::Cluster, "cluster"),
        (Backend::Mosquitto, "mosquitto"),
    ];

    /// Whether rounds are those of `cluster/`.
    pub fn is_cluster(self) -> bool {
        self == Backend::Cluster
    }

    pub fn name(self) -> &'static str {
        let found = Backend::ALL.iter().find(|(backend, _)| *backend == self);
        found.expect("all are listed").1
    }
}

impl Broker {
    /// One whose data are kept below this directory. It does not run yet.
    pub fn new(backend: Backend, program: &Path, dir: &Path) -> Result<Broker, String> {
        std::fs::create_dir_all(dir.join("data")).map_err(|error| format!("{}: {error}", dir.display()))?;
        let redis = match backend {
            Backend::Redis => Some(Redis::start(&dir.join("redis"))?),
            _ => None,
        };
        Ok(Broker {
            backend,
            program: program.to_owned(),
            dir: dir.to_owned(),
            process: None,
            redis,
            options: Vec::new(),
            starts: 0,
        })
    }

    /// A node that is run with these options. Its Redis belongs to somebody else.
    pub fn node(program: &Path, dir: &Path, options: Vec<String>) -> Result<Broker, String> {
        let mut node = Broker::new(Backend::Cluster, program, dir)?;
        node.options = options;
        Ok(node)
    }

    /// Starts it without waiting for it.
    pub fn spawn(&mut self) -> Result<(), String> {
        self.starts += 1;
        let (mut command, port) = self.command()?;
        let output = self.file("out")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(self.file("log")?)
            .spawn();
        self.process = Some(child.map_err(|error| format!("{}: {error}", self.program.display()))?);
        if let Some(port) = port {
            std::fs::write(self.path("port"), port.to_string()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Waits until it listens.
    pub fn listening(&mut self) -> Result<SocketAddr, String> {
        let start = Instant::now();
        loop {
            if let Some(addr) = self.addr() {
                return Ok(addr);
            }
            if let Some(status) = self.status() {
                return Err(format!("the broker has ended with {status}:\n{}", self.last_lines()));
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("the broker does not listen:\n{}", self.last_lines()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn signal(&self, signal: Signal) {
        signal_to(self.pid(), signal);
    }

    fn pid(&self) -> Option<Pid> {
        pid_of(self.process.as_ref()?)
    }

    /// Kills it in so long, from a thread; what it sets just before.
    pub fn kill_in(&self, time: Duration) -> Arc<AtomicBool> {
        let strikes = Arc::new(AtomicBool::new(false));
        let (flag, pid) = (Arc::clone(&strikes), self.pid());
        std::thread::spawn(move || {
            std::thread::sleep(time);
            flag.store(true, Ordering::SeqCst);
            signal_to(pid, Signal::KILL);
        });
        strikes
    }

    /// Waits for its end.
    pub fn wait(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// How it has ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().ok().flatten()
    }

    /// Whether it was started, and its end not waited for.
    pub fn is_there(&self) -> bool {
        self.process.is_some()
    }

    /// The first line of its logs, of all its starts, that tells of a panic.
    pub fn panic(&self) -> Option<String> {
        self.says("panicked at")
    }

    /// The first line of its logs, of all its starts, that has these words.
    pub fn says(&self, words: &str) -> Option<String> {
        self.lines_with(words).into_iter().next()
    }

    /// All of them.
    pub fn lines_with(&self, words: &str) -> Vec<String> {
        let logs = (1..=self.starts).map(|start| self.dir.join(format!("broker-{start}.log")));
        let texts = logs.filter_map(|path| std::fs::read_to_string(path).ok());
        let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains(words)).collect()
    }

    /// Kills the server that it stores in.
    pub fn kill_store(&mut self) {
        if let Some(redis) = &mut self.redis {
            redis.kill();
        }
    }

    pub fn start_store(&mut self) -> Result<(), String> {
        match &mut self.redis {
            Some(redis) => redis.launch(),
            None => Ok(()),
        }
    }

    /// Copies what has been kept so far.
    pub fn copy_data(&self, name: &str) {
        for kind in ["data", "redis"] {
            let _ = copy_directory(&self.dir.join(kind), &self.dir.join(name).join(kind));
        }
    }

    fn command(&self) -> Result<(Command, Option<u16>), String> {
        let data = self.dir.join("data");
        let mut command = Command::new(&self.program);
        if self.backend == Backend::Mosquitto {
            let (config, port) = mosquitto_config(&self.dir)?;
            command.args(["-v", "-c"]).arg(config);
            return Ok((command, Some(port)));
        }
        if self.backend == Backend::Cluster {
            command.args(&self.options);
            return Ok((command, None));
        }
        command.args(["--host", "127.0.0.1", "--port", "0", "--sys-interval", "0"]);
        match (self.backend, &self.redis) {
            (Backend::DiskFsync, _) => command
                .args(["--persistence", "disk", "--durability", "fsync", "--data-dir"])
                .arg(data),
            (Backend::DiskOs, _) => command
                .args(["--persistence", "disk", "--durability", "os", "--data-dir"])
                .arg(data),
            // The one that is started finds the one before dead.
            (_, Some(redis)) => command
                .args([
                    "--persistence",
                    "redis",
                    "--cluster-lease",
                    "0.5",
                    "--will-grace",
                    "1",
                    "--redis",
                ])
                .arg(redis.url()),
            _ => &mut command,
        };
        Ok((command, None))
    }

    /// Where it listens, once it has said so.
    pub fn addr(&self) -> Option<SocketAddr> {
        if self.backend == Backend::Mosquitto {
            let port = std::fs::read_to_string(self.path("port")).ok()?.parse().ok()?;
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            return TcpStream::connect(addr).ok().map(|_| addr);
        }
        let output = std::fs::read_to_string(self.path("out")).ok()?;
        // A line that is not complete yet has not all of the port.
        let complete = output.rsplit_once('\n')?.0;
        let line = complete
            .lines()
            .find_map(|line| line.strip_prefix("listening on mqtt://"));
        line?.trim().parse().ok()
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("broker-{}.{kind}", self.starts))
    }

    fn file(&self, kind: &str) -> Result<File, String> {
        File::create(self.path(kind)).map_err(|error| error.to_string())
    }

    fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
        self.kill_store();
    }
}

fn mosquitto_config(dir: &Path) -> Result<(PathBuf, u16), String> {
    let port = free_port()?;
    let data = dir.join("data");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
         autosave_interval 1\nmax_queued_messages 0\nmax_inflight_messages 0\nuser root\n",
        data.display()
    );
    let path = dir.join("mosquitto.conf");
    std::fs::write(&path, text).map_err(|error| error.to_string())?;
    Ok((path, port))
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
