//! JSON Web Tokens (RFC 7519) in the place of passwords.
//!
//! Invariants:
//! * What a key may verify follows from the key and the settings, never from the token: no key, public ones in particular,
//!   is used with an algorithm of another family, and `none` is no algorithm.
//! * A token without an expiry is refused, and so is one whose claims are not understood.

mod keys;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, decode, decode_header};
use serde_json::{Map, Value};

use crate::identity::KeyPrint;
use keys::Key;

/// Where the keys are that verify tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKeys {
    /// A secret of at least 32 bytes, or public keys in PEM.
    File(PathBuf),
    /// A JSON Web Key Set (RFC 7517).
    Set(PathBuf),
}

/// Where in a CONNECT the token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JwtFrom {
    /// In the Password.
    #[default]
    Password,
    /// In the User Name.
    UserName,
}

/// An algorithm that tokens are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwtAlgorithm(Algorithm);

impl FromStr for JwtAlgorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<JwtAlgorithm, String> {
        let unknown = || {
            "the algorithms are HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA"
                .to_owned()
        };
        Algorithm::from_str(name).map(JwtAlgorithm).map_err(|_| unknown())
    }
}

/// Which tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwtSettings {
    /// What verifies them.
    pub keys: JwtKeys,
    /// Algorithms; empty for all that fit the keys.
    pub algorithms: Vec<JwtAlgorithm>,
    /// What their `iss` must be.
    pub issuer: Option<String>,
    /// What their `aud` must be, or contain. Without it, a token that has one is for somebody else.
    pub audience: Option<String>,
    /// Where they are.
    pub from: JwtFrom,
    /// The claim that is the User Name.
    pub username_claim: String,
    /// How far the clocks of this machine and of the issuer may be apart.
    pub leeway: Duration,
}

impl JwtSettings {
    /// What is usual with these keys: the token is the Password, and `sub` the User Name.
    #[must_use]
    pub fn new(keys: JwtKeys) -> JwtSettings {
        JwtSettings {
            keys,
            algorithms: Vec::new(),
            issuer: None,
            audience: None,
            from: JwtFrom::Password,
            username_claim: "sub".to_owned(),
            leeway: Duration::from_secs(30),
        }
    }
}

impl JwtKeys {
    pub(super) fn path(&self) -> &PathBuf {
        match self {
            JwtKeys::File(path) | JwtKeys::Set(path) => path,
        }
    }
}

/// The keys, and what else is needed to verify tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    pub(super) from: JwtFrom,
    keys: Vec<Key>,
    username_claim: Box<str>,
    leeway: u64,
}

/// A token that is valid.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) username: Box<str>,
    /// Until it is valid no more.
    pub(super) remaining: Duration,
    pub(super) key: KeyPrint,
    claims: Map<String, Value>,
}

impl Token {
    /// The rights that the token gives, if it says so.
    pub(super) fn rules(&self) -> Option<&Value> {
        self.claims.get("acl")
    }
}

/// Bytes of a token above which it is not read.
const LONGEST: usize = 8 * 1024;
/// Keys that a token without a `kid` is tried with.
const MOST_TRIES: usize = 16;

impl Jwt {
    /// From what is in the file of the keys.
    pub(super) fn parse(settings: &JwtSettings, text: &[u8]) -> Result<Jwt, String> {
        Ok(Jwt {
            from: settings.from,
            keys: keys::parse(settings, text)?,
            username_claim: settings.username_claim.as_str().into(),
            leeway: settings.leeway.as_secs(),
        })
    }

    /// Whether tokens that this key has signed are still accepted.
    pub(super) fn has_key(&self, print: KeyPrint) -> bool {
        self.keys.iter().any(|key| key.print == print)
    }

    /// Whether one of the keys is a secret.
    pub(super) fn is_secret(&self) -> bool {
        self.keys.iter().any(|key| key.is_secret)
    }

    /// Checks signature and claims; why not, for the log.
    pub(super) fn verify(&self, token: &[u8]) -> Result<Token, &'static str> {
        if token.len() > LONGEST {
            return Err("longer than 8 KiB");
        }
        let header = decode_header(token).map_err(|error| explain(error.kind()))?;
        let fits = |key: &&Key| {
            let is_named = header.kid.is_none() || key.id.as_deref() == header.kid.as_deref();
            // A key in a PEM file has no name.
            (is_named || key.id.is_none()) && key.validation.algorithms.contains(&header.alg)
        };
        let mut reason = "no key fits its kid and alg";
        for key in self.keys.iter().filter(fits).take(MOST_TRIES) {
            match decode::<Map<String, Value>>(token, &key.key, &key.validation) {
                Ok(data) => return self.accept(data.claims, key.print),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => reason = "its signature is wrong",
                Err(error) => return Err(explain(error.kind())),
            }
        }
        Err(reason)
    }

    fn accept(&self, claims: Map<String, Value>, key: KeyPrint) -> Result<Token, &'static str> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = |name| {
            claims
                .get(name)
                .map(|value| value.as_f64().ok_or("a time is not a number"))
        };
        let expires = time("exp").ok_or("it has no exp")??;
        if time("iat")
            .transpose()?
            .is_some_and(|issued| issued > now.as_secs_f64() + self.leeway as f64)
        {
            return Err("it was issued in the future");
        }
        let username = claims.get(&*self.username_claim).and_then(Value::as_str);
        let username =
            username.filter(|name| !name.is_empty() && name.len() <= usize::from(u16::MAX) && !name.contains('\0'));
        // On or after its expiry a token is not accepted (RFC 7519, section 4.1.4), and now may be within that second.
        let remaining = expires + self.leeway as f64 - now.as_secs_f64();
        if remaining <= 0.0 {
            return Err("it has expired");
        }
        Ok(Token {
            username: username.ok_or("it names no user")?.into(),
            remaining: Duration::from_secs_f64(remaining.min(FAR_AWAY)),
            key,
            claims,
        })
    }
}

/// A hundred years: an expiry behind that is none.
const FAR_AWAY: f64 = 100.0 * 365.0 * 86_400.0;

/// Whether this is meant as a token: three parts with dots between, the first of which is a JSON object.
pub(super) fn is_token(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // Of a giant the beginning must do: `{"`, also with a space between.
    if header.len() > LONGEST {
        return header.starts_with(b"ey");
    }
    let decoded = BASE64URL_NOPAD.decode(header).unwrap_or_default();
    serde_json::from_slice::<Map<String, Value>>(&decoded).is_ok()
}

fn explain(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidIssuer => "its iss is another",
        ErrorKind::InvalidAudience => "its aud is another",
        ErrorKind::MissingRequiredClaim(_) => "it lacks exp, or iss or aud where these are asked for",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "its alg fits no key",
        ErrorKind::InvalidSignature => "its signature is wrong",
        _ => "it is damaged",
    }
}

#[cfg(test)]
mod tests;
