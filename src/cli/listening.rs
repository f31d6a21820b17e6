//! Where the broker listens, and over what.

pub(super) mod bind;
pub(super) mod spec;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::http::Token;
use super::values::seconds;
use crate::{CertificateName, ClientAuth, TlsSettings, TrustedProxies, WebSocket};
use spec::{At, Kind, Spec};

const LISTENING: &str = "Listening";
const TLS: &str = "TLS";
const WEBSOCKET: &str = "WebSocket";
const PROXIES: &str = "Proxies and load balancers";

#[derive(Clone, Debug, Args)]
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
    /// The token that opens the HTTP API below /api/, in a file; without it the API is off. Reloaded at SIGHUP
    #[arg(
        long,
        env = "BROKER_HTTP_TOKEN_FILE",
        value_name = "FILE",
        requires = "http_port",
        help_heading = LISTENING
    )]
    http_token_file: Option<PathBuf>,

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

impl Listening {
    /// What would be silently without effect.
    fn check(&self) -> Result<(), String> {
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

    /// Whether there are certificates for the names that are asked for.
    pub(super) fn check_names(&self) -> Result<(), String> {
        if self.tls_username.is_some() && self.tls_ca.is_none() && self.proxy_protocol.is_empty() {
            return Err(
                "--tls-username needs client certificates: --tls-ca, or a proxy with --proxy-protocol".to_owned(),
            );
        }
        if matches!(self.tls_username, Some(UserName::San)) && self.tls_ca.is_none() {
            return Err("--tls-username san needs --tls-ca: a proxy tells the common name alone".to_owned());
        }
        Ok(())
    }

    /// Leaves the one listener of a table of the configuration file, over TCP.
    pub(super) fn only_port(&mut self, kind: Kind, port: u16) {
        self.close_all();
        match kind {
            Kind::Tcp => (self.no_tcp, self.port) = (false, vec![port]),
            Kind::Tls => self.tls_port = vec![Port(Some(port))],
            Kind::Ws => self.ws_port = vec![port],
            Kind::Wss => self.wss_port = vec![port],
        }
    }

    /// Leaves the one listener of a table of the configuration file, on a Unix domain socket.
    pub(super) fn only_unix(&mut self, path: PathBuf) {
        self.close_all();
        self.unix_socket = Some(path);
    }

    fn close_all(&mut self) {
        self.no_tcp = true;
        self.tls_port.clear();
        self.ws_port.clear();
        self.wss_port.clear();
        self.unix_socket = None;
        self.http_port = None;
    }

    pub(super) fn close_tcp(&mut self) {
        self.no_tcp = true;
    }

    pub(super) fn close_tls(&mut self) {
        self.tls_port.clear();
    }

    /// Whether the listener expects a PROXY header, if its table says so.
    pub(super) fn expect_proxies(&mut self, kind: Kind, expects: bool) {
        self.proxy_protocol = if expects { vec![kind] } else { Vec::new() };
    }

    /// Leaves what is said of listeners of this kind.
    pub(super) fn keep_proxies(&mut self, kind: Option<Kind>) {
        self.proxy_protocol.retain(|proxied| Some(*proxied) == kind);
    }

    pub(super) fn take_origins(&mut self, other: Listening) {
        self.ws_origin = other.ws_origin;
    }

    pub(super) fn has_certificate(&self) -> bool {
        self.tls_cert.is_some()
    }

    pub(super) fn trusts_proxies(&self) -> bool {
        self.trusted_proxies.is_some()
    }

    /// All that is to be listened on. Names of hosts are looked up.
    pub(super) fn specs(&self, name: Option<&Arc<str>>, anonymous: bool) -> Result<Vec<Spec>, String> {
        self.check()?;
        let mut specs = Vec::new();
        for (kind, port) in self.ports() {
            let addresses = bind::addresses(self.host.as_deref(), port)?;
            let is_one_of_many = addresses.len() > 1;
            specs.extend(addresses.into_iter().map(|address| {
                let at = At::Tcp {
                    address,
                    is_one_of_many,
                };
                self.spec(name, at, kind, anonymous)
            }));
        }
        if let Some(path) = &self.unix_socket {
            specs.push(self.spec(name, At::Unix(path.clone()), Kind::Tcp, anonymous));
        }
        Ok(specs)
    }

    fn spec(&self, name: Option<&Arc<str>>, at: At, kind: Kind, anonymous: bool) -> Spec {
        let is_tcp = matches!(at, At::Tcp { .. });
        Spec {
            name: name.cloned().unwrap_or_else(|| spec::place_name(&at, kind)),
            tls: self.tls_settings().filter(|_| kind.has_tls()),
            websocket: kind.has_websocket().then(|| self.websocket()),
            is_proxied: is_tcp && self.proxy_protocol.contains(&kind),
            certificate_name: self.certificate_name(),
            trusted: self.trusted_proxies.clone().filter(|_| is_tcp),
            // A certificate is a way of knowing who connects.
            is_anonymous: anonymous && !(kind.has_tls() && self.needs_certificate()),
            at,
            kind,
        }
    }

    /// Where HTTP is to be served.
    pub(super) fn http_address(&self) -> Option<SocketAddr> {
        self.http_port.map(|port| SocketAddr::new(self.http_host, port))
    }

    /// The token for the HTTP API. Warns if it would be sent in the clear.
    pub(super) fn load_http_token(&self) -> Result<Option<Token>, String> {
        let Some(path) = &self.http_token_file else {
            return Ok(None);
        };
        let token = Token::read(path)?;
        if !self.http_host.is_loopback() {
            tracing::warn!("the HTTP API is open to other machines, and its token goes over the network unencrypted");
        }
        Ok(Some(token))
    }

    fn ports(&self) -> Vec<(Kind, u16)> {
        let tcp = self.port.iter().filter(|_| !self.no_tcp).map(|port| (Kind::Tcp, *port));
        let tls = self.tls_port.iter().filter(|_| self.tls_cert.is_some());
        let tls = tls.filter_map(|Port(port)| port.map(|port| (Kind::Tls, port)));
        let ws = self.ws_port.iter().map(|port| (Kind::Ws, *port));
        let wss = self.wss_port.iter().map(|port| (Kind::Wss, *port));
        tcp.chain(tls).chain(ws).chain(wss).collect()
    }

    fn tls_settings(&self) -> Option<TlsSettings> {
        let (certificate, key) = (self.tls_cert.as_ref()?, self.tls_key.as_ref()?);
        let mut settings = TlsSettings::new(certificate, key);
        settings.client_ca.clone_from(&self.tls_ca);
        settings.crl.clone_from(&self.tls_crl);
        settings.client_auth = self.client_auth();
        settings.username = self.certificate_name();
        Some(settings)
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
}
