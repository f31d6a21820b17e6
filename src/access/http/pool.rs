//! Connections to the endpoint, which are kept and used again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Bytes of an answer that are read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Connections that are kept.
const MOST_IDLE: usize = 16;
/// For how long: servers close what is idle for longer.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// What the server has said.
pub(super) enum Received {
    /// The body is empty where none matters.
    Whole(StatusCode, Bytes),
    /// More than what is read; the status, if that is in it.
    TooLong(Option<StatusCode>),
}

/// See the module.
pub(super) struct Pool {
    host: Box<str>,
    port: u16,
    /// What a request names: host and port as in the URL, and the path.
    authority: Box<str>,
    path: Uri,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(url: &str, ca: Option<&Path>) -> Result<Pool, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| format!("{url:?} is no URL: it names no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL with a user name is not supported".to_owned());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(format!("{url:?} begins neither with http:// nor with https://")),
        };
        let tls = match (is_secure, ca) {
            (false, None) => None,
            (false, Some(_)) => return Err("a CA is for https URLs only".to_owned()),
            (true, None) => return Err("an https URL needs a CA that its certificate leads to".to_owned()),
            (true, Some(ca)) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| format!("{host:?} is no name of a host"))?;
                Some((connector(ca)?, name))
            }
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Pool {
            port: authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            authority: authority.as_str().into(),
            path: path.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?,
            host: host.into(),
            tls,
            idle: Mutex::default(),
        })
    }

    /// Posts this JSON. Redirects are not followed.
    pub(super) async fn post(&self, body: &Bytes) -> Result<Received, Box<str>> {
        // The server may have closed what was kept, without having read anything: a question changes nothing, and is
        // asked again.
        if let Some(mut sender) = self.take().await
            && let Ok(response) = sender.send_request(self.request(body)?).await
        {
            return self.read(response, sender).await;
        }
        let mut sender = self.connect().await.map_err(|error| error.to_string())?;
        match sender.send_request(self.request(body)?).await {
            Ok(response) => self.read(response, sender).await,
            Err(error) if error.is_parse_too_large() => Ok(Received::TooLong(None)),
            Err(error) => Err(error.to_string().into()),
        }
    }

    /// A connection that is still open, as far as can be seen.
    async fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let Idle { mut sender, since } = self.idle.lock().pop()?;
            if since.elapsed() < IDLE_TIME && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn request(&self, body: &Bytes) -> Result<Request<Full<Bytes>>, Box<str>> {
        Request::builder()
            .method(Method::POST)
            .uri(self.path.clone())
            .header(HOST, &*self.authority)
            .header(USER_AGENT, concat!("mqtt-broker/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(Full::new(body.clone()))
            .map_err(|error| error.to_string().into())
    }

    /// Only a connection whose answer has been read to its end is used again.
    async fn read(
        &self,
        response: hyper::Response<hyper::body::Incoming>,
        sender: SendRequest<Full<Bytes>>,
    ) -> Result<Received, Box<str>> {
        let status = response.status();
        let body = match Limited::new(response.into_body(), LONGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Ok(Received::TooLong(Some(status))),
            Err(_) if status != StatusCode::OK => return Ok(Received::Whole(status, Bytes::new())),
            Err(error) => return Err(error.to_string().into()),
        };
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE && !sender.is_closed() {
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
        Ok(Received::Whole(status, body))
    }

    async fn connect(&self) -> std::io::Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect((&*self.host, self.port)).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => speak(socket).await,
            Some((connector, name)) => speak(connector.connect(name.clone(), socket).await?).await,
        }
    }
}

async fn speak<S>(io: S) -> std::io::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = Builder::new();
    http.max_buf_size(LONGEST_ANSWER).max_headers(64);
    let (sender, connection) = http.handshake(TokioIo::new(io)).await.map_err(std::io::Error::other)?;
    // It ends with the sender.
    tokio::spawn(connection);
    Ok(sender)
}

fn connector(ca: &Path) -> Result<TlsConnector, String> {
    let error = |reason: String| format!("{}: {reason}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|fault| error(fault.to_string()))? {
        let certificate = certificate.map_err(|fault| error(fault.to_string()))?;
        roots.add(certificate).map_err(|fault| error(fault.to_string()))?;
    }
    if roots.is_empty() {
        return Err(error("there is no certificate in it".to_owned()));
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|fault| error(fault.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
