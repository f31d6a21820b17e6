//! Reading certificates, keys and lists of revoked certificates.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig};

use super::{ClientAuth, TlsError, TlsSettings, certificate};

/// What tells whether a file has changed, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<(SystemTime, u64, u64)>>);

impl Stamps {
    pub(super) fn of(settings: &TlsSettings) -> Stamps {
        let stamp = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            // A file that was put in the place of another may have its time and its size.
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        let TlsSettings {
            certificate,
            key,
            client_ca,
            crl,
            ..
        } = settings;
        let paths = [Some(certificate), Some(key), client_ca.as_ref(), crl.as_ref()];
        Stamps(paths.into_iter().flatten().map(stamp).collect())
    }
}

/// What handshakes need, from the files as they are now.
pub(super) fn server_config(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificate_error = |reason: String| TlsError {
        path: settings.certificate.clone(),
        reason,
    };
    let chain: Vec<CertificateDer<'static>> = read_all(&settings.certificate, "certificate")?;
    certificate::check(&chain[0]).map_err(certificate_error)?;
    let key = read_key(&settings.key)?;
    let verifier = client_verifier(settings, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| certificate_error(error.to_string()))?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| explain_pair(settings, &error))?;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| certificate_error(error.to_string()))?;
    // One is enough for the next connection, and each costs the handshake.
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn explain_pair(settings: &TlsSettings, error: &Error) -> TlsError {
    let reason = match error {
        Error::InconsistentKeys(_) => {
            format!(
                "the key does not belong to the certificate in {}",
                settings.certificate.display()
            )
        }
        error => error.to_string(),
    };
    TlsError {
        path: settings.key.clone(),
        reason,
    }
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let path = match (&settings.client_ca, settings.client_auth) {
        (_, ClientAuth::None) => return Ok(WebPkiClientVerifier::no_client_auth()),
        (Some(path), _) => path,
        (None, _) => {
            return Err(TlsError {
                path: settings.certificate.clone(),
                reason: "client certificates can't be checked without the certificate of their authority".to_owned(),
            });
        }
    };
    let error = |reason: String| TlsError {
        path: path.clone(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for root in read_all(path, "certificate")? {
        roots
            .add(root)
            .map_err(|fault| error(format!("not the certificate of an authority: {fault}")))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(path) = &settings.crl {
        let lists: Vec<CertificateRevocationListDer<'static>> = read_all(path, "revocation list")?;
        // Authorities that have no list have revoked nothing.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if settings.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|fault| match &settings.crl {
        Some(crl) => TlsError {
            path: crl.clone(),
            reason: fault.to_string(),
        },
        None => error(fault.to_string()),
    })
}

/// All items of a kind in a file: at least one.
fn read_all<T: PemObject>(path: &Path, kind: &str) -> Result<Vec<T>, TlsError> {
    let error = |reason: String| TlsError {
        path: path.to_owned(),
        reason,
    };
    let items = T::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let items = items.map_err(|fault| error(explain(&fault, kind)))?;
    if items.is_empty() {
        return Err(error(explain(&pem::Error::NoItemsFound, kind)));
    }
    Ok(items)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|fault| {
        let is_encrypted = std::fs::read(path).is_ok_and(|text| contains(&text, b"ENCRYPTED"));
        let reason = if is_encrypted {
            "the key is encrypted; write it without its password (openssl pkey -in … -out …)".to_owned()
        } else {
            explain(&fault, "private key")
        };
        TlsError {
            path: path.to_owned(),
            reason,
        }
    })
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|part| part == wanted)
}

fn explain(fault: &pem::Error, kind: &str) -> String {
    match fault {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("there is no {kind} in it (it must be PEM)"),
        fault => format!("no valid PEM: {fault}"),
    }
}
