//! The certificates that `certs/make` makes, and clients that use them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

/// The path of one of the files, such as `server.pem`.
pub fn path(name: &str) -> String {
    directory().join(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Where they are. Each day gets certificates of its own, which all tests of that day share: they are valid for a week.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        let today = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock that is set");
        (include_str!("../../certs/make"), today.as_secs() / 86_400).hash(&mut hasher);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let shared = target.join(format!("certificates-{:016x}", hasher.finish()));
        if !shared.exists() {
            let new = tempfile::tempdir_in(target).expect("a directory");
            make(new.path());
            // Another process may have been faster; one set is as good as the other.
            if std::fs::rename(new.path(), &shared).is_ok() {
                let _ = new.keep();
            }
        }
        shared
    })
}

fn make(directory: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/make");
    let status = Command::new(script).arg(directory).status().expect("certs/make runs");
    assert!(status.success(), "certs/make: {status}");
}

/// A client without a certificate, which trusts the authority of `server.pem`; all of them share what is needed to
/// resume a session.
pub fn any_client() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    Arc::clone(CONFIG.get_or_init(|| client(None, &[&version::TLS12, &version::TLS13])))
}

/// A client that has the certificate of this name, `client` for instance, and has no session to resume.
pub fn client(certificate: Option<&str>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in read("ca.pem") {
        roots.add(root).expect("an authority");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions that there are")
        .with_root_certificates(roots);
    Arc::new(match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(path(&format!("{name}.key"))).expect("a key");
            let chain = read(&format!("{name}.pem"));
            builder
                .with_client_auth_cert(chain, key)
                .expect("a key of the certificate")
        }
    })
}

/// The certificates in one of the files.
pub fn read(name: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(path(name)).expect("a file");
    certificates.collect::<Result<_, _>>().expect("certificates")
}
