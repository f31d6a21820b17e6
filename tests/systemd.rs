//! What the broker tells systemd, at a real socket.

mod common;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};

use common::DEADLINE;

/// A broker, and the socket where it tells what it does.
struct Service {
    child: Child,
    socket: UnixDatagram,
}

impl Service {
    fn start(socket: UnixDatagram, name: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Service {
        socket.set_read_timeout(Some(DEADLINE)).expect("possible");
        let child = Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(arguments)
            .env("NOTIFY_SOCKET", name)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        Service { child, socket }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let size = self.socket.recv(&mut buffer).expect("it tells something");
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    }

    /// The next that is not of the watchdog.
    fn state(&self) -> String {
        loop {
            let state = self.next();
            if state != "WATCHDOG=1" {
                return state;
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.child.id().to_string()])
            .status();
        assert!(status.expect("sh runs").success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn assert_has(state: &str, line: &str) {
    assert!(state.lines().any(|found| found == line), "{line} in {state:?}");
}

fn monotonic(state: &str) -> u64 {
    let line = state.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    line.expect("a time").parse().expect("a number")
}

/// Seconds since the system has started, which is the clock that is meant.
fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("readable");
    text.split(' ').next().expect("a number").parse().expect("a number")
}

#[test]
fn from_start_to_end_at_a_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    let mut service = Service::start(socket, &path.display().to_string(), &[], &["--drain-timeout", "3"]);
    assert_has(&service.state(), "READY=1");
    for _ in 0..2 {
        let before = uptime();
        service.signal("HUP");
        let reloading = service.state();
        assert_has(&reloading, "RELOADING=1");
        // /proc/uptime has hundredths of a second.
        let told = monotonic(&reloading) as f64 / 1e6;
        assert!(
            (before - 0.02..=uptime() + 0.02).contains(&told),
            "{told} after {before}"
        );
        assert_has(&service.state(), "READY=1");
    }
    service.signal("TERM");
    let stopping = service.state();
    assert_has(&stopping, "STOPPING=1");
    assert_has(&stopping, "EXTEND_TIMEOUT_USEC=6000000");
    assert!(service.child.wait().expect("it ends").success());
}

/// A reload that fails ends, too: systemd waits for that.
#[test]
fn a_reload_that_fails_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, acl) = (directory.path().join("notify"), directory.path().join("acl"));
    std::fs::write(&acl, "topic read #\n").expect("written");
    let socket = UnixDatagram::bind(&path).expect("bound");
    let arguments = ["--acl-file", &acl.display().to_string()];
    let service = Service::start(socket, &path.display().to_string(), &[], &arguments);
    assert_has(&service.state(), "READY=1");
    std::fs::write(&acl, "nonsense\n").expect("written");
    service.signal("HUP");
    assert_has(&service.state(), "RELOADING=1");
    assert_has(&service.state(), "READY=1");
}

#[test]
fn the_watchdog_is_fed_at_an_abstract_socket() {
    let name = format!("broker-systemd-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("bound");
    let mut service = Service::start(socket, &format!("@{name}"), &[("WATCHDOG_USEC", "100000")], &[]);
    let mut states = [service.next(), service.next()];
    states.sort();
    assert_has(&states[0], "READY=1");
    assert_eq!(states[1], "WATCHDOG=1");
    for _ in 0..3 {
        assert_eq!(service.next(), "WATCHDOG=1");
    }
    service.signal("TERM");
    assert_has(&service.state(), "STOPPING=1");
    assert!(service.child.wait().expect("it ends").success());
}

/// A manager that does not read is no reason to stop, nor is one that is not there.
#[test]
fn nobody_listens() {
    for name in ["/no/such/socket", "relative", "@broker-systemd-nobody"] {
        let (socket, _other) = UnixDatagram::pair().expect("a pair");
        let mut service = Service::start(socket, name, &[("WATCHDOG_USEC", "20000")], &[]);
        assert!(service.child.try_wait().expect("it runs").is_none());
        let broker = service.child.id();
        common::eventually("SIGTERM is caught", || {
            let status = std::fs::read_to_string(format!("/proc/{broker}/status")).expect("readable");
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:\t"))
                .expect("a mask");
            u64::from_str_radix(caught, 16).expect("a mask") & (1 << 14) != 0
        });
        service.signal("TERM");
        assert!(service.child.wait().expect("it ends").success(), "{name}");
    }
}
