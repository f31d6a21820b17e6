//! What is read in a certificate besides what rustls needs.

use std::net::IpAddr;

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::identity::ClientCertificate;
use crate::transport::Refused;

/// The names in a client's certificate, which has been verified.
pub(super) fn parse(certificate: &CertificateDer<'_>) -> Result<ClientCertificate, Refused> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|_| Refused("TLS: the client's certificate can't be read".into()))?;
    // rustls looks at this in a full handshake only, not when a session is resumed.
    if !certificate.validity().is_valid() {
        return Err(Refused("TLS: the client's certificate is not valid any more".into()));
    }
    let common_name = certificate.subject().iter_common_name().next();
    let common_name = common_name.and_then(|name| name.as_str().ok()).map(Into::into);
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Ok(ClientCertificate {
        common_name,
        alternative_names: names.filter_map(text).collect(),
    })
}

fn text(name: &GeneralName<'_>) -> Option<Box<str>> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).into()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()?;
            Some(ip.to_string().into())
        }
        _ => None,
    }
}

/// Whether the server's certificate can be read; warns if clients will not accept it.
pub(super) fn check(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|error| format!("no valid certificate: {error}"))?;
    let validity = certificate.validity();
    if !validity.is_valid() {
        tracing::warn!(from = %validity.not_before, to = %validity.not_after, "the certificate is not valid now");
    }
    Ok(())
}
