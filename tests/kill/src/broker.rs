//! The process of the broker under test, and of the server that it may store in.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What keeps the state of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Memory,
    DiskFsync,
    DiskOs,
    Redis,
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
    starts: usize,
}

struct Redis {
    dir: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// Longest time for a start or an end.
const PATIENCE: Duration = Duration::from_secs(20);

impl Backend {
    pub const ALL: [(Backend, &'static str); 5] = [
        (Backend::Memory, "memory"),
        (Backend::DiskFsync, "disk-fsync"),
        (Backend::DiskOs, "disk-os"),
        (Backend::Redis, "redis"),
        (Backend::Mosquitto, "mosquitto"),
    ];

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
            starts: 0,
        })
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

    /// Kills the server that it stores in.
    pub fn kill_store(&mut self) {
        if let Some(redis) = &mut self.redis {
            signal_to(redis.process.as_ref().and_then(pid_of), Signal::KILL);
            if let Some(mut process) = redis.process.take() {
                let _ = process.wait();
            }
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
        command.args(["--host", "127.0.0.1", "--port", "0", "--sys-interval", "0"]);
        match (self.backend, &self.redis) {
            (Backend::DiskFsync, _) => command
                .args(["--persistence", "disk", "--durability", "fsync", "--data-dir"])
                .arg(data),
            (Backend::DiskOs, _) => command
                .args(["--persistence", "disk", "--durability", "os", "--data-dir"])
                .arg(data),
            (_, Some(redis)) => command.args(["--persistence", "redis", "--redis"]).arg(redis.url()),
            _ => &mut command,
        };
        Ok((command, None))
    }

    /// Where it listens, once it has said so.
    fn addr(&self) -> Option<SocketAddr> {
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

impl Redis {
    fn start(dir: &Path) -> Result<Redis, String> {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut redis = Redis {
            dir: dir.to_owned(),
            port: 0,
            process: None,
        };
        // Another process may take the port before it does.
        for _ in 0..5 {
            redis.port = free_port()?;
            if redis.launch().is_ok() {
                return Ok(redis);
            }
        }
        redis.launch().map(|()| redis)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn launch(&mut self) -> Result<(), String> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.dir.join("redis.log"));
        let log = log.map_err(|error| error.to_string())?;
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--save",
                "",
                "--dir",
            ])
            .arg(&self.dir)
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--maxmemory-policy",
                "noeviction",
            ])
            .stdin(Stdio::null())
            .stdout(log)
            .spawn();
        self.process = Some(child.map_err(|error| format!("redis-server: {error}"))?);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.answers() {
                return Ok(());
            }
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                return Err(format!("redis-server has ended with {status}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("redis-server does not answer".into())
    }

    /// Whether it has read what it has kept, and serves.
    fn answers(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG")
        };
        ping().unwrap_or(false)
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

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.map(|addr| addr.port()).map_err(|error| error.to_string())
}

fn pid_of(process: &Child) -> Option<Pid> {
    Pid::from_raw(process.id() as i32)
}

fn signal_to(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
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
