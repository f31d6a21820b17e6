//! HAProxy in front of the nodes.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::redis::{free_port, pid_of, signal_to};

pub struct Haproxy {
    pub addr: SocketAddr,
    process: Child,
}

/// Longest time for its start.
const PATIENCE: Duration = Duration::from_secs(10);

impl Haproxy {
    /// Starts one that leads to these nodes: where each serves MQTT, and HTTP.
    pub fn start(dir: &Path, nodes: &[(SocketAddr, SocketAddr)]) -> Result<Haproxy, String> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let config = dir.join("haproxy.cfg");
        std::fs::write(&config, config_for(addr, nodes)).map_err(|error| error.to_string())?;
        let log = File::create(dir.join("haproxy.log")).map_err(|error| error.to_string())?;
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = child.map_err(|error| format!("haproxy: {error}"))?;
        let haproxy = Haproxy { addr, process };
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if start.elapsed() > PATIENCE {
                return Err("haproxy does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        signal_to(pid_of(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

fn config_for(addr: SocketAddr, nodes: &[(SocketAddr, SocketAddr)]) -> String {
    let mut text = format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 300ms\n  timeout client 1h\n  timeout server 1h\n  \
         timeout check 300ms\n  retries 2\n  option redispatch 1\nlisten mqtt\n  bind {addr}\n  balance random\n  \
         option httpchk GET /readyz\n  default-server inter 100ms fall 2 rise 1 on-marked-down shutdown-sessions\n"
    );
    for (number, (mqtt, http)) in nodes.iter().enumerate() {
        text += &format!("  server node{} {mqtt} check port {}\n", number + 1, http.port());
    }
    text
}
