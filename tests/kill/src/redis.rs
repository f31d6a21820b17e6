//! A redis-server of the test's own, which synchronises before it answers.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::aof::{self, Cut};
use crate::random::Random;

pub struct Redis {
    dir: PathBuf,
    port: u16,
    process: Option<Child>,
}

/// Longest time for a start.
const PATIENCE: Duration = Duration::from_secs(20);

impl Redis {
    /// Starts one whose files are in this directory.
    pub fn start(dir: &Path) -> Result<Redis, String> {
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

    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn kill(&mut self) {
        signal_to(self.process.as_ref().and_then(pid_of), Signal::KILL);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// How much it has written so far: what it has answered is in that.
    pub fn written(&self) -> u64 {
        let size = aof::newest(&self.dir)
            .ok()
            .and_then(|path| std::fs::metadata(path).ok());
        size.map_or(0, |size| size.len())
    }

    /// Kills it, and has it lose the last part of what it has written since it had the first of these sizes.
    pub fn kill_and_lose(&mut self, sizes: &[u64], random: &mut Random) -> Result<Option<Cut>, String> {
        self.kill();
        let path = aof::newest(&self.dir)?;
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let steps = aof::steps(&std::fs::read(&path).map_err(failed)?);
        let cut = aof::choose(&steps, sizes, random);
        if let Some(cut) = &cut {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            file.set_len(cut.end).map_err(failed)?;
        }
        Ok(cut)
    }

    /// Starts it again with what it has, if it does not run, and waits until it serves.
    pub fn launch(&mut self) -> Result<(), String> {
        if self
            .process
            .as_mut()
            .is_some_and(|process| matches!(process.try_wait(), Ok(None)))
        {
            return Ok(());
        }
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
                "--auto-aof-rewrite-percentage",
                "0",
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
            let mut stream = TcpStream::connect(self.addr())?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            Ok(&answer == b"+PONG")
        };
        ping().unwrap_or(false)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> Result<u16, String> {
    free_port_of(Ipv4Addr::LOCALHOST.into())
}

/// A port of this address that was free a moment ago.
pub fn free_port_of(address: IpAddr) -> Result<u16, String> {
    let listener = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr());
    listener.map(|addr| addr.port()).map_err(|error| error.to_string())
}

pub fn pid_of(process: &Child) -> Option<Pid> {
    Pid::from_raw(process.id() as i32)
}

pub fn signal_to(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}
