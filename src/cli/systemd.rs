//! What systemd is told of the state of the service (sd_notify): it does nothing where `NOTIFY_SOCKET` is not set.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Once;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The broker serves; also after a reload.
pub(super) fn ready() {
    notify("READY=1\nSTATUS=Serving");
}

/// A reload begins. [`ready`] must follow, whatever becomes of it.
pub(super) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=Reloading"));
}

/// The broker is about to end, which takes at most this time.
pub(super) fn stopping(most: Duration) {
    let microseconds = most.as_micros();
    notify(&format!(
        "STOPPING=1\nEXTEND_TIMEOUT_USEC={microseconds}\nSTATUS=Shutting down"
    ));
}

/// Tells again and again that the broker's threads work, if systemd wants to know: it ends a service that does not.
pub(super) async fn watchdog() {
    let Some(period) = watchdog_period(|name| std::env::var(name).ok(), std::process::id()) else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        notify("WATCHDOG=1");
    }
}

/// Half of what systemd allows, so that one that is late is early enough.
fn watchdog_period(variable: impl Fn(&str) -> Option<String>, process: u32) -> Option<Duration> {
    let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == process.to_string());
    let microseconds: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (is_ours && microseconds > 1).then(|| Duration::from_micros(microseconds / 2))
}

fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
        return;
    };
    static WARNED: Once = Once::new();
    if let Err(error) = send(&socket, state) {
        WARNED.call_once(|| tracing::warn!(%error, "systemd is not told what the broker does (NOTIFY_SOCKET)"));
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(socket)?,
        _ => {
            return Err(io::Error::other(
                "it is neither a path nor the name of an abstract socket",
            ));
        }
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not stop the broker.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
        let variable = |name: &str| match name {
            "WATCHDOG_USEC" => usec.map(str::to_owned),
            _ => pid.map(str::to_owned),
        };
        watchdog_period(variable, 7)
    }

    #[test]
    fn the_watchdog_is_for_this_process() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(period(Some("2000000"), None), second);
        assert_eq!(period(Some("2000000"), Some("7")), second);
        assert_eq!(period(Some("2000000"), Some("8")), None);
        for usec in [None, Some("0"), Some("1"), Some("x"), Some("-5")] {
            assert_eq!(period(usec, None), None);
        }
    }

    #[test]
    fn paths_and_abstract_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("broker-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");
        for (receiver, socket) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            send(&socket, "READY=1").expect("sent");
            let mut buffer = [0; 64];
            let size = receiver.recv(&mut buffer).expect("received");
            assert_eq!(&buffer[..size], b"READY=1");
        }
        assert!(send(OsStr::new("relative"), "READY=1").is_err());
        assert!(send(OsStr::new("/nowhere/notify"), "READY=1").is_err());
    }
}
