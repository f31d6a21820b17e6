//! The keys that verify tokens, and what each may verify.

use aws_lc_rs::digest;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};

use super::{JwtKeys, JwtSettings};
use crate::identity::KeyPrint;

/// A key with all that a token must fulfil that it has signed.
#[derive(Debug)]
pub(super) struct Key {
    /// Its `kid` in a set.
    pub(super) id: Option<Box<str>>,
    pub(super) key: DecodingKey,
    pub(super) validation: Validation,
    pub(super) print: KeyPrint,
    pub(super) is_secret: bool,
}

/// A key as it is found.
struct Found {
    id: Option<Box<str>>,
    key: DecodingKey,
    /// All that it is good for.
    algorithms: Vec<Algorithm>,
    print: KeyPrint,
    is_secret: bool,
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
/// Of the modulus: shorter ones can be broken.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
const PUBLIC: &str = "the kinds of public keys are RSA (2048 to 8192 bits), P-256, P-384 and Ed25519";
/// Keys of a file that are read.
const MOST: usize = 1000;

/// Reads the file, and keeps the keys that fit the algorithms of the settings.
pub(super) fn parse(settings: &JwtSettings, text: &[u8]) -> Result<Vec<Key>, String> {
    let found = match settings.keys {
        JwtKeys::File(_) if text.windows(10).any(|part| part == b"-----BEGIN") => from_pem(text)?,
        JwtKeys::File(_) => vec![from_secret_file(text)?],
        JwtKeys::Set(_) => from_set(text)?,
    };
    let keys: Vec<Key> = found.into_iter().filter_map(|found| key(settings, found)).collect();
    match keys.len() {
        0 => Err("no key in it fits the algorithms that are allowed".to_owned()),
        1..=MOST => Ok(keys),
        _ => Err(format!("more than {MOST} keys")),
    }
}

fn key(settings: &JwtSettings, found: Found) -> Option<Key> {
    let is_allowed = |algorithm: &Algorithm| {
        settings.algorithms.is_empty() || settings.algorithms.iter().any(|allowed| allowed.0 == *algorithm)
    };
    let algorithms: Vec<_> = found.algorithms.into_iter().filter(is_allowed).collect();
    let mut validation = Validation::new(*algorithms.first()?);
    validation.algorithms = algorithms;
    validation.leeway = settings.leeway.as_secs();
    validation.validate_nbf = true;
    let mut required = vec!["exp"];
    if let Some(issuer) = &settings.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if let Some(audience) = &settings.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    Some(Key {
        id: found.id,
        key: found.key,
        validation,
        print: found.print,
        is_secret: found.is_secret,
    })
}

/// Editors and `echo` end a file with a line break.
fn without_line_break(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// A key in DER may end with what would be a line break.
fn from_secret_file(text: &[u8]) -> Result<Found, String> {
    if public_key(text, false).is_some() {
        return Err(IS_DER.to_owned());
    }
    from_secret(without_line_break(text), None)
}

const IS_DER: &str = "this is a public key in DER, and not a secret: write it in PEM";

/// A secret is as long as the hash at least (RFC 7518, section 3.2). What is a key of another kind by its looks is not
/// taken for a secret: a public key is no secret.
fn from_secret(secret: &[u8], id: Option<Box<str>>) -> Result<Found, String> {
    if serde_json::from_slice::<Value>(secret).is_ok_and(|value| value.is_object()) {
        return Err("this is JSON, and not a secret: a key set is for --jwt-jwks-file".to_owned());
    }
    if public_key(secret, false).is_some() {
        return Err(IS_DER.to_owned());
    }
    let lengths = [(32, Algorithm::HS256), (48, Algorithm::HS384), (64, Algorithm::HS512)];
    let long_enough = lengths.iter().filter(|(least, _)| secret.len() >= *least);
    let algorithms: Vec<_> = long_enough.map(|(_, algorithm)| *algorithm).collect();
    if algorithms.is_empty() {
        return Err("a secret has at least 32 bytes, as for HS256".to_owned());
    }
    Ok(Found {
        id,
        key: DecodingKey::from_secret(secret).map_err(|error| error.to_string())?,
        algorithms,
        print: print(b"secret", secret),
        is_secret: true,
    })
}

fn from_pem(text: &[u8]) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| format!("the PEM is damaged: {error:?}"))?;
        match kind {
            SectionKind::PublicKey => found.push(public_key(&der, false).ok_or(PUBLIC)?),
            SectionKind::Certificate => {
                return Err("a certificate: give its public key (openssl x509 -pubkey -noout)".to_owned());
            }
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err("a private key: the broker needs the public one (openssl pkey -pubout)".to_owned());
            }
            _ => {}
        }
    }
    match found.is_empty() {
        true => Err("there is no public key in it (-----BEGIN PUBLIC KEY-----)".to_owned()),
        false => Ok(found),
    }
}

/// A public key by its bytes, and what it is good for: SubjectPublicKeyInfo, or a point of a curve if `bare`.
fn public_key(bytes: &[u8], bare: bool) -> Option<Found> {
    let is = |algorithm: &'static dyn VerificationAlgorithm| ParsedPublicKey::new(algorithm, bytes).is_ok();
    // A bare key of Ed25519 is any 32 bytes: a secret may have as many.
    if !bare && bytes.len() <= 32 {
        return None;
    }
    let (key, algorithms): (_, &[_]) = if !bare && is(&RSA_PKCS1_2048_8192_SHA256) {
        let key = rsa::PublicKey::from_der(bytes).ok()?;
        let RsaPublicKeyComponents { n, .. } = RsaPublicKeyComponents::<Vec<u8>>::from(&key);
        RSA_BYTES
            .contains(&n.len())
            .then_some((DecodingKey::from_rsa_der(bytes), RSA))?
    } else if is(&ECDSA_P256_SHA256_FIXED) {
        (DecodingKey::from_ec_der(bytes), &[Algorithm::ES256])
    } else if is(&ECDSA_P384_SHA384_FIXED) {
        (DecodingKey::from_ec_der(bytes), &[Algorithm::ES384])
    } else if is(&ED25519) {
        (DecodingKey::from_ed_der(bytes), &[Algorithm::EdDSA])
    } else {
        return None;
    };
    Some(Found {
        id: None,
        key,
        algorithms: algorithms.to_vec(),
        print: print(b"public", bytes),
        is_secret: false,
    })
}

/// Keys that are for something else, or of a kind that is not known, are left out: others of the set may do.
fn from_set(text: &[u8]) -> Result<Vec<Found>, String> {
    let set: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or("not a JSON Web Key Set: there is no list of keys")?;
    let mut found = Vec::new();
    for (number, value) in keys.iter().enumerate() {
        let error = |reason: &str| format!("key {}: {reason}", number + 1);
        let Ok(jwk) = serde_json::from_value::<Jwk>(value.clone()) else {
            return Err(error("damaged"));
        };
        if !is_for_signatures(&jwk) {
            continue;
        }
        let Some(mut key) = from_jwk(&jwk).map_err(|reason| error(&reason))? else {
            tracing::warn!(key = number + 1, "a key of the set is left out: its kind is not known");
            continue;
        };
        if let Some(algorithm) = jwk.common.key_algorithm {
            key.algorithms.retain(|own| KeyAlgorithm::from(*own) == algorithm);
        }
        found.push(key);
    }
    Ok(found)
}

fn is_for_signatures(jwk: &Jwk) -> bool {
    let common = &jwk.common;
    let operations = common.key_operations.as_ref();
    common
        .public_key_use
        .as_ref()
        .is_none_or(|used| *used == PublicKeyUse::Signature)
        && operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

fn from_jwk(jwk: &Jwk) -> Result<Option<Found>, String> {
    let bytes = |text: &str| {
        let decoded = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes());
        decoded.map_err(|_| "damaged".to_owned())
    };
    let id: Option<Box<str>> = jwk.common.key_id.as_deref().map(Box::from);
    let found = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) => {
            let (n, e) = (bytes(&key.n)?, bytes(&key.e)?);
            if !RSA_BYTES.contains(&n.len()) {
                return Err(PUBLIC.to_owned());
            }
            Found {
                id,
                key: DecodingKey::from_rsa_raw_components(&n, &e),
                algorithms: RSA.to_vec(),
                print: print(b"public", &n),
                is_secret: false,
            }
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let point = [&[4], &*bytes(&key.x)?, &*bytes(&key.y)?].concat();
            let length = match key.curve {
                EllipticCurve::P256 => 65,
                EllipticCurve::P384 => 97,
                _ => return Ok(None),
            };
            bare_key(&point, length, id)?
        }
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => bare_key(&bytes(&key.x)?, 32, id)?,
            _ => return Ok(None),
        },
        AlgorithmParameters::OctetKey(key) => from_secret(&bytes(&key.value)?, id)?,
        _ => return Ok(None),
    };
    Ok(Some(found))
}

fn bare_key(bytes: &[u8], length: usize, id: Option<Box<str>>) -> Result<Found, String> {
    let found = public_key(bytes, true).filter(|_| bytes.len() == length);
    found
        .map(|found| Found { id, ..found })
        .ok_or_else(|| "damaged".to_owned())
}

fn print(kind: &[u8], key: &[u8]) -> KeyPrint {
    let hash = digest::digest(&digest::SHA256, &[kind, key].concat());
    let first = hash.as_ref().first_chunk().expect("a hash is longer");
    KeyPrint::from_be_bytes(*first)
}
