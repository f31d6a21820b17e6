//! Sockets to listen on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::spec::{At, Spec};
use crate::Listener;

/// A socket that is bound.
pub(crate) struct Bound {
    pub(crate) listener: Listener,
    /// None for a Unix domain socket.
    pub(crate) address: Option<SocketAddr>,
    /// Of a Unix domain socket.
    pub(crate) file: Option<SocketFile>,
}

/// The file of a Unix domain socket; it is removed when this is dropped, unless another broker has put its own there.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> SocketFile {
        SocketFile {
            path: path.to_owned(),
            identity: identity(path),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Binds the listener's socket; `None` if this machine lacks the address, and the host has others.
pub(crate) fn bind(spec: &Spec) -> Result<Option<Bound>, String> {
    match &spec.at {
        At::Tcp {
            address,
            is_one_of_many,
        } => match bind_tcp(*address) {
            Ok(socket) => Ok(Some(Bound {
                address: socket.local_addr().ok(),
                listener: socket.into(),
                file: None,
            })),
            Err(error) if *is_one_of_many && is_missing(&error) => Ok(None),
            Err(error) => Err(explain(*address, spec.kind.option(), &error)),
        },
        At::Unix(path) => {
            let socket = bind_unix(path).map_err(|error| format!("can't listen on {}: {error}", path.display()))?;
            Ok(Some(Bound {
                listener: socket.into(),
                address: None,
                file: Some(SocketFile::new(path)),
            }))
        }
    }
}

/// The addresses of the host, or of all interfaces.
pub(super) fn addresses(host: Option<&str>, port: u16) -> Result<Vec<SocketAddr>, String> {
    let Some(host) = host else {
        return Ok(vec![all_interfaces(port)]);
    };
    let found = (host.trim_matches(['[', ']']), port).to_socket_addrs();
    let mut addresses: Vec<_> = found.map_err(|error| format!("--host {host}: {error}"))?.collect();
    addresses.sort();
    addresses.dedup();
    if port == 0 {
        // Each would get a port of its own.
        addresses.truncate(1);
    }
    if addresses.is_empty() {
        Err(format!("--host {host}: has no address"))
    } else {
        Ok(addresses)
    }
}

fn all_interfaces(port: u16) -> SocketAddr {
    let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    let ip: IpAddr = if has_ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    SocketAddr::new(ip, port)
}

/// Connections that the kernel may hold for us until they are accepted.
const BACKLOG: i32 = 4096;

/// Binds with address reuse, so that a restart does not wait for old connections to be forgotten. The IPv6 wildcard
/// address also takes IPv4.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The file of a broker that was killed is replaced; that of one that runs is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let is_dead = |path| {
        let connected = std::os::unix::net::UnixStream::connect(path);
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if is_socket && is_dead(path) {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// `localhost` may name an address of a protocol that this machine does not have.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn explain(address: SocketAddr, option: &str, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another program".to_owned(),
        io::ErrorKind::PermissionDenied => format!("ports below 1024 need more rights; choose another with {option}"),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    };
    format!("can't listen on {address}: {reason}")
}
