//! TLS, from the side of a client.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Which servers are believed.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Those whose certificate leads to an authority: of this file, or of the system.
    Authorities {
        file: Option<PathBuf>,
        /// Whether the certificate must be for the name of the host.
        check_name: bool,
    },
    /// All of them: for a client that sends nothing secret and believes nothing.
    Everybody,
}

/// Where systems keep the authorities that they trust: Debian, Fedora, Alpine.
const OF_THE_SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What handshakes need. `identity` is the client's certificate with its chain, and its key.
pub(crate) fn config(trust: &Trust, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Authorities { file, check_name } => {
            let roots = Arc::new(match file {
                Some(file) => read_roots(file)?,
                None => system_roots()?,
            });
            let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| error.to_string())?;
            if *check_name { inner } else { Arc::new(AnyName(inner)) }
        }
        Trust::Everybody => Arc::new(Anybody(provider.signature_verification_algorithms.supported_schemes())),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = read_certificates(certificate)?;
            let read = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
            let pair = builder.with_client_auth_cert(chain, read);
            pair.map_err(|error| format!("{}: {error}", key.display()))?
        }
    };
    Ok(Arc::new(config))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let error = |fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(|fault| error(&fault))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|fault| error(&fault))?;
    if certificates.is_empty() {
        return Err(error(&"there is no certificate in it"));
    }
    Ok(certificates)
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// One odd certificate among those of the system does not spoil the others.
fn system_roots() -> Result<RootCertStore, String> {
    let of_environment = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let mut paths = of_environment.into_iter().chain(OF_THE_SYSTEM.map(PathBuf::from));
    let path = paths.find(|path| path.exists()).ok_or(
        "this system has no file of certificate authorities: name one with --cafile, or in the variable SSL_CERT_FILE",
    )?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read_certificates(&path)?);
    if roots.is_empty() {
        return Err(format!("{}: there is no usable certificate in it", path.display()));
    }
    Ok(roots)
}

/// Checks all but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at after everything else.
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Checks nothing.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
