//! Where the broker listens, and over what.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use super::values::seconds;
use crate::{CertificateName, ClientAuth, Listener, Tls, TlsSettings, TrustedProxies, WebSocket};

const LISTENING: &str = "Listening";
const TLS: &str = "TLS";
const WEBSOCKET: &str = "WebSocket";
const PROXIES: &str = "Proxies and load balancers";

#[derive(Debug, Args)]
pub(super) struct Listening {
    /// TCP port, or several with commas; 0 lets the system choose a free one
    #[arg(
        short,
        long,
        env = "BROKER_PORT",
        value_delimiter = ',',
        default_value = "1883",
        help_heading = LISTENING
    )]
    port: Vec<u16>,
    /// Address or name to listen on [default: all interfaces, IPv4 and IPv6]
    #[arg(long, env = "BROKER_HOST", help_heading = LISTENING)]
    host: Option<String>,
    /// Do not listen for plain TCP
    #[arg(long, env = "BROKER_NO_TCP", help_heading = LISTENING)]
    no_tcp: bool,
    /// Listen on a Unix domain socket
    #[arg(long, env = "BROKER_UNIX_SOCKET", value_name = "PATH", help_heading = LISTENING)]
    unix_socket: Option<PathBuf>,
    /// Find out within this time that a TCP peer has vanished, although nothing is sent [default: by the keep alive of MQTT]
    #[arg(long, env = "BROKER_TCP_KEEPALIVE", value_name = "SECONDS", value_parser = seconds, help_heading = LISTENING)]
    pub(super) tcp_keepalive: Option<Duration>,

    /// Port for HTTP with /metrics, /healthz and /readyz; 9883 if the option has no value [default: none]
    #[arg(
        long,
        env = "BROKER_HTTP_PORT",
        value_name = "PORT",
        num_args = 0..=1,
        default_missing_value = "9883",
        help_heading = LISTENING
    )]
    http_port: Option<u16>,
    /// Address for HTTP: this machine alone, unless another is given
    #[arg(long, env = "BROKER_HTTP_HOST", value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = LISTENING)]
    http_host: IpAddr,

    /// The server's certificate with its chain, in PEM; opens the TLS port. Reloaded when it changes, and at SIGHUP
    #[arg(long, env = "BROKER_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = TLS)]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, env = "BROKER_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    tls_key: Option<PathBuf>,
    /// TLS port, or several with commas; off for none
    #[arg(
        long,
        env = "BROKER_TLS_PORT",
        value_delimiter = ',',
        value_parser = port_or_off,
        default_value = "8883",
        help_heading = TLS
    )]
    tls_port: Vec<Port>,
    /// Authorities whose client certificates are valid, in PEM
    #[arg(long, env = "BROKER_TLS_CA", value_name = "FILE", requires = "tls_cert", help_heading = TLS)]
    tls_ca: Option<PathBuf>,
    /// Whether clients need a certificate [default: required with --tls-ca, none without]
    #[arg(long, env = "BROKER_TLS_CLIENT_AUTH", value_name = "WHEN", requires = "tls_ca", help_heading = TLS)]
    tls_client_auth: Option<WhenAsked>,
    /// Client certificates that were revoked, in PEM
    #[arg(long, env = "BROKER_TLS_CRL", value_name = "FILE", requires = "tls_ca", help_heading = TLS)]
    tls_crl: Option<PathBuf>,
    /// The name in a client's certificate that is its user name: the common name, or the first alternative name
    #[arg(long, env = "BROKER_TLS_USERNAME", value_name = "NAME", help_heading = TLS)]
    tls_username: Option<UserName>,

    /// WebSocket port, or several with commas; 8888 if the option has no value
    #[arg(
        long,
        env = "BROKER_WS_PORT",
        value_name = "PORT",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_value = "8888",
        help_heading = WEBSOCKET
    )]
    ws_port: Vec<u16>,
    /// Port for WebSocket over TLS, or several with commas; 8889 if the option has no value
    #[arg(
        long,
        env = "BROKER_WSS_PORT",
        value_name = "PORT",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_value = "8889",
        requires = "tls_cert",
        help_heading = WEBSOCKET
    )]
    wss_port: Vec<u16>,
    /// Path that WebSocket clients ask for; / answers besides
    #[arg(
        long,
        env = "BROKER_WS_PATH",
        value_name = "PATH",
        default_value = "/mqtt",
        value_parser = path,
        help_heading = WEBSOCKET
    )]
    ws_path: Box<str>,
    /// Origins whose web pages may connect, such as https://example.com [default: all]
    #[arg(
        long,
        env = "BROKER_WS_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        help_heading = WEBSOCKET
    )]
    ws_origin: Vec<Box<str>>,

    /// Listeners whose connections begin with a PROXY header, version 1 or 2: tcp, tls, ws, wss
    #[arg(
        long,
        env = "BROKER_PROXY_PROTOCOL",
        value_name = "KINDS",
        value_delimiter = ',',
        requires = "trusted_proxies",
        help_heading = PROXIES
    )]
    proxy_protocol: Vec<Kind>,
    /// Proxies whose PROXY headers and X-Forwarded-For are believed, such as 10.0.0.0/8,::1
    #[arg(long, env = "BROKER_TRUSTED_PROXIES", value_name = "ADDRESSES", help_heading = PROXIES)]
    trusted_proxies: Option<TrustedProxies>,
}

/// A port, or none.
#[derive(Clone, Copy, Debug)]
struct Port(Option<u16>);

fn port_or_off(text: &str) -> Result<Port, String> {
    match text {
        "off" => Ok(Port(None)),
        text => {
            let port = text.parse().map_err(|_| "must be a port, or off".to_owned())?;
            Ok(Port(Some(port)))
        }
    }
}

fn path(text: &str) -> Result<Box<str>, String> {
    if text.starts_with('/') && !text.contains(['?', '#', ' ']) {
        Ok(text.into())
    } else {
        Err("must be a path, such as /mqtt".to_owned())
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhenAsked {
    /// Clients are not asked
    None,
    /// A client may have one
    Optional,
    /// A client must have one
    Required,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum UserName {
    /// The common name
    Cn,
    /// The first subject alternative name
    San,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Kind {
    /// The option that sets the port.
    fn option(self) -> &'static str {
        match self {
            Kind::Tcp => "--port",
            Kind::Tls => "--tls-port",
            Kind::Ws => "--ws-port",
            Kind::Wss => "--wss-port",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Kind::Tcp => "mqtt",
            Kind::Tls => "mqtts",
            Kind::Ws => "ws",
            Kind::Wss => "wss",
        }
    }
}

/// What the broker listens on.
pub(super) struct Listeners {
    pub(super) listeners: Vec<Listener>,
    /// The certificates of those with TLS.
    pub(super) tls: Option<Tls>,
    /// To be removed at the end.
    pub(super) unix_socket: Option<SocketFile>,
    /// Where clients connect, as they would write it.
    urls: Vec<String>,
    /// Whether other machines may connect.
    is_open: bool,
}

/// The file of a Unix domain socket; it is removed when this is dropped, unless another broker has put its own there.
pub(super) struct SocketFile {
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

impl Listeners {
    /// Prints where clients may connect; warns if that is everybody.
    pub(super) fn announce(&self, anonymous: bool, http: Option<&TcpListener>) -> Result<(), String> {
        let http = http.and_then(|listener| listener.local_addr().ok());
        let http = http.map(|address| format!("http://{address}/metrics"));
        for url in self.urls.iter().chain(&http) {
            writeln!(io::stdout(), "listening on {url}")
                .map_err(|error| format!("can't write to standard output: {error}"))?;
        }
        if self.is_open && anonymous {
            tracing::warn!(
                "anonymous access is open to every host that can reach this address (--host 127.0.0.1 keeps it to this machine)"
            );
        }
        Ok(())
    }

    fn add(&mut self, address: SocketAddr, kind: Kind, options: &Listening) -> Result<(), String> {
        let socket = bind(address).map_err(|error| explain_bind(address, kind.option(), &error))?;
        let bound = socket.local_addr().map_err(|error| error.to_string())?;
        let mut listener = Listener::from(socket);
        if let (Kind::Tls | Kind::Wss, Some(tls)) = (kind, &self.tls) {
            listener = listener.tls(tls.clone());
        }
        let mut path = "";
        if let Kind::Ws | Kind::Wss = kind {
            listener = listener.websocket(options.websocket());
            path = &options.ws_path;
        }
        if let Some(trusted) = &options.trusted_proxies {
            listener = listener.trusted_proxies(trusted.clone());
        }
        if options.proxy_protocol.contains(&kind) {
            listener = listener.proxy_protocol(options.certificate_name());
        }
        self.urls.push(format!("{}://{bound}{path}", kind.scheme()));
        // A certificate is a way of knowing who connects.
        let is_anonymous = self.tls.is_none() || matches!(kind, Kind::Tcp | Kind::Ws) || !options.needs_certificate();
        self.is_open |= is_anonymous && !bound.ip().is_loopback();
        self.listeners.push(listener);
        Ok(())
    }
}

impl Listening {
    /// What would be silently without effect.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.tls_username.is_some() && self.tls_ca.is_none() && self.proxy_protocol.is_empty() {
            return Err(
                "--tls-username needs client certificates: --tls-ca, or a proxy with --proxy-protocol".to_owned(),
            );
        }
        if matches!(self.tls_username, Some(UserName::San)) && self.tls_ca.is_none() {
            return Err("--tls-username san needs --tls-ca: a proxy tells the common name alone".to_owned());
        }
        let ports = self.ports();
        for kind in &self.proxy_protocol {
            if !ports.iter().any(|(open, _)| open == kind) {
                let option = kind.option();
                return Err(format!(
                    "--proxy-protocol is for a listener that is not there ({option})"
                ));
            }
        }
        for (index, (kind, port)) in ports.iter().enumerate() {
            let twice = ports[..index].iter().find(|(_, other)| other == port && *port != 0);
            if let Some((other, _)) = twice {
                let (one, other) = (other.option(), kind.option());
                return Err(format!("port {port} is given twice: {one}, {other}"));
            }
        }
        Ok(())
    }

    /// Binds everything, and reads the certificates.
    pub(super) fn open(&self) -> Result<Listeners, String> {
        self.check()?;
        let mut opened = Listeners {
            listeners: Vec::new(),
            tls: self.load_tls()?,
            unix_socket: None,
            urls: Vec::new(),
            is_open: false,
        };
        for (kind, port) in self.ports() {
            for address in self.addresses(port)? {
                opened.add(address, kind, self)?;
            }
        }
        if let Some(path) = &self.unix_socket {
            let listener = bind_unix(path).map_err(|error| format!("can't listen on {}: {error}", path.display()))?;
            opened.unix_socket = Some(SocketFile::new(path));
            opened.listeners.push(listener.into());
            opened.urls.push(format!("mqtt+unix://{}", path.display()));
        }
        if opened.listeners.is_empty() {
            return Err("nothing to listen on: with --no-tcp give --tls-cert, --ws-port or --unix-socket".to_owned());
        }
        Ok(opened)
    }

    /// Where HTTP is to be served.
    pub(super) fn http_address(&self) -> Option<SocketAddr> {
        self.http_port.map(|port| SocketAddr::new(self.http_host, port))
    }

    fn ports(&self) -> Vec<(Kind, u16)> {
        let tcp = self.port.iter().filter(|_| !self.no_tcp).map(|port| (Kind::Tcp, *port));
        let tls = self.tls_port.iter().filter(|_| self.tls_cert.is_some());
        let tls = tls.filter_map(|Port(port)| port.map(|port| (Kind::Tls, port)));
        let ws = self.ws_port.iter().map(|port| (Kind::Ws, *port));
        let wss = self.wss_port.iter().map(|port| (Kind::Wss, *port));
        tcp.chain(tls).chain(ws).chain(wss).collect()
    }

    pub(super) fn load_tls(&self) -> Result<Option<Tls>, String> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let mut settings = TlsSettings::new(certificate, key);
        settings.client_ca.clone_from(&self.tls_ca);
        settings.crl.clone_from(&self.tls_crl);
        settings.client_auth = self.client_auth();
        settings.username = self.certificate_name();
        Tls::load(settings).map(Some).map_err(|error| error.to_string())
    }

    fn client_auth(&self) -> ClientAuth {
        match self.tls_client_auth {
            Some(WhenAsked::None) => ClientAuth::None,
            Some(WhenAsked::Optional) => ClientAuth::Optional,
            Some(WhenAsked::Required) => ClientAuth::Required,
            None if self.tls_ca.is_some() => ClientAuth::Required,
            None => ClientAuth::None,
        }
    }

    /// Whether certificates name users.
    pub(super) fn has_certificate_names(&self) -> bool {
        self.tls_username.is_some()
    }

    fn needs_certificate(&self) -> bool {
        self.client_auth() == ClientAuth::Required
    }

    fn certificate_name(&self) -> Option<CertificateName> {
        self.tls_username.map(|name| match name {
            UserName::Cn => CertificateName::CommonName,
            UserName::San => CertificateName::SubjectAlternativeName,
        })
    }

    fn websocket(&self) -> WebSocket {
        let mut websocket = WebSocket::default();
        websocket.path.clone_from(&self.ws_path);
        websocket.origins.clone_from(&self.ws_origin);
        // Nobody asks for the headers.
        websocket.keeps_request = false;
        websocket
    }

    /// The addresses to listen on: all that the host's name stands for.
    fn addresses(&self, port: u16) -> Result<Vec<SocketAddr>, String> {
        let Some(host) = &self.host else {
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
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
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

fn explain_bind(address: SocketAddr, option: &str, error: &io::Error) -> String {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another program".to_owned(),
        io::ErrorKind::PermissionDenied => format!("ports below 1024 need more rights; choose another with {option}"),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    };
    format!("can't listen on {address}: {reason}")
}
