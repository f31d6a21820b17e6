//! TLS 1.2 and 1.3, with certificates that can be replaced while the broker runs.

mod certificate;
mod files;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use super::Refused;
use crate::identity::{ClientCertificate, Peer};
use files::Stamps;

/// Which of a client's certificates are asked for, and believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    #[default]
    None,
    /// A client may have a certificate; one that is not valid is refused.
    Optional,
    /// A client must have a valid certificate.
    Required,
}

/// The name in a client's certificate that takes the place of the User Name in its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The Common Name of its subject.
    CommonName,
    /// Its first Subject Alternative Name: of a host, a mail address, a URI.
    SubjectAlternativeName,
}

/// Where certificates and keys are, in PEM, and what is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSettings {
    /// The server's certificate, followed by those between it and a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The roots that client certificates lead to.
    pub client_ca: Option<PathBuf>,
    /// Lists of client certificates that were revoked.
    pub crl: Option<PathBuf>,
    /// What is asked of clients; needs `client_ca`.
    pub client_auth: ClientAuth,
    /// Whether a client's certificate names its user.
    pub username: Option<CertificateName>,
}

impl TlsSettings {
    /// Nothing is asked of clients.
    #[must_use]
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> TlsSettings {
        TlsSettings {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
            crl: None,
            client_auth: ClientAuth::None,
            username: None,
        }
    }
}

/// A file that can't be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for TlsError {}

/// Certificates in service. Cheap to clone; all clones are replaced together.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: TlsSettings,
    /// Replaced as a whole: a handshake works with one of them from its beginning to its end.
    current: Mutex<Arc<ServerConfig>>,
    /// Of the files when they were last read.
    stamps: Mutex<Stamps>,
}

/// Time between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Tls {
    /// Reads all files.
    ///
    /// # Errors
    /// If one of them can't be read, or not be used.
    pub fn load(settings: TlsSettings) -> Result<Tls, TlsError> {
        let stamps = Stamps::of(&settings);
        let config = files::server_config(&settings)?;
        Ok(Tls(Arc::new(Shared {
            current: Mutex::new(Arc::new(config)),
            stamps: Mutex::new(stamps),
            settings,
        })))
    }

    /// Reads all files again. New handshakes use what was read; connections go on as they are. Sessions that began
    /// before can't be resumed: what was revoked since is found out.
    ///
    /// # Errors
    /// As [`Tls::load`]; what was there stays in service.
    pub fn reload(&self) -> Result<(), TlsError> {
        let shared = &*self.0;
        *shared.stamps.lock() = Stamps::of(&shared.settings);
        let config = files::server_config(&shared.settings)?;
        *shared.current.lock() = Arc::new(config);
        Ok(())
    }

    /// Reloads whenever one of the files has changed, and logs it. Never returns.
    pub async fn watch(self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let settings = self.0.settings.clone();
            // File systems may hang.
            let now = tokio::task::spawn_blocking(move || Stamps::of(&settings)).await;
            if now.is_ok_and(|now| now != *self.0.stamps.lock()) {
                self.reload_and_log().await;
            }
        }
    }

    /// Reloads off the worker threads, and logs how that went.
    pub async fn reload_and_log(&self) {
        let tls = self.clone();
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(Ok(())) => tracing::info!(certificate = %self.0.settings.certificate.display(), "certificates reloaded"),
            Ok(Err(error)) => tracing::error!(%error, "certificates not reloaded: the old ones stay in service"),
            Err(error) => tracing::error!(%error, "certificates not reloaded: this is a fault of the broker"),
        }
    }

    /// Shakes hands with a client. What its certificate says of it goes into `peer`.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: S,
        protocol: &'static [u8],
        peer: &mut Peer,
    ) -> Result<TlsStream<S>, Refused> {
        let refused = |error: std::io::Error| Refused(format!("TLS: {}", explain(&error)).into());
        let start = LazyConfigAcceptor::new(Acceptor::default(), io)
            .await
            .map_err(refused)?;
        let config = Arc::clone(&self.0.current.lock());
        // A client that offers something else is served as one that offers nothing: an older client may mean the same.
        let is_offered = start
            .client_hello()
            .alpn()
            .is_some_and(|mut offered| offered.any(|name| name == protocol));
        let config = if is_offered {
            let mut config = ServerConfig::clone(&config);
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        } else {
            config
        };
        let stream = start.into_stream(config).await.map_err(refused)?;
        let chain = stream.get_ref().1.peer_certificates();
        if let Some(certificate) = chain.and_then(|chain| chain.first()) {
            let certificate = certificate::parse(certificate)?;
            peer.username = self.username(&certificate)?;
            peer.certificate = Some(Arc::new(certificate));
        }
        Ok(stream)
    }

    fn username(&self, certificate: &ClientCertificate) -> Result<Option<Box<str>>, Refused> {
        let name = match self.0.settings.username {
            None => return Ok(None),
            Some(CertificateName::CommonName) => certificate.common_name.clone(),
            Some(CertificateName::SubjectAlternativeName) => certificate.alternative_names.first().cloned(),
        };
        match name {
            Some(name) => Ok(Some(name)),
            None => Err(Refused("TLS: the client's certificate has no name for its user".into())),
        }
    }
}

/// rustls says what it has found, and not what was probably meant.
fn explain(error: &std::io::Error) -> String {
    use tokio_rustls::rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Error::InvalidMessage(_)) => "the client does not speak TLS, but perhaps plain MQTT".to_owned(),
        Some(Error::NoCertificatesPresented) => "the client has no certificate".to_owned(),
        Some(Error::InvalidCertificate(error)) => format!("the client's certificate is refused: {error}"),
        _ => error.to_string(),
    }
}
