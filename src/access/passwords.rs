//! Password files: a line for each user, `name:hash`.
//!
//! Hashes are those of Mosquitto, `$7$iterations$salt$hash` (PBKDF2 with SHA-512) and `$6$salt$hash` (SHA-512), argon2id
//! in the PHC format, which `broker passwd` writes, and `$pbkdf2-sha256$i=iterations$salt$hash` (PBKDF2 with SHA-256),
//! which stands for the hashes of aedes-cli. With `--scram` it writes `$scram-sha-256$…`, which also serves clients that log
//! in with SCRAM.

use std::collections::HashMap;
use std::num::NonZeroU32;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, pbkdf2, rand};
use data_encoding::{BASE64, BASE64_NOPAD};

use super::scram::ScramVerifier;

/// Users and their hashes.
#[derive(Debug, Default)]
pub(crate) struct PasswordFile {
    users: HashMap<Box<str>, Hash>,
    /// Checked for users that do not exist, so that the time of the answer does not tell which do.
    decoy: Option<Hash>,
    /// The first user who may use SCRAM.
    scram_decoy: Option<ScramVerifier>,
}

/// A password, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// In the PHC format.
    Argon2(Box<str>),
    Pbkdf2 {
        iterations: NonZeroU32,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    Sha512 {
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
    Scram(ScramVerifier),
    Pbkdf2Sha256 {
        iterations: NonZeroU32,
        salt: Box<[u8]>,
        hash: Box<[u8]>,
    },
}

/// Iterations above which a check would take minutes.
const MOST_ITERATIONS: u32 = 10_000_000;
/// Parameters of argon2 above which a check would take the memory of the machine, or minutes.
const MOST_MEMORY_KIB: u32 = 1024 * 1024;
const MOST_PASSES: u32 = 100;

impl PasswordFile {
    /// Whether the users and their hashes are the same.
    pub(crate) fn says_the_same(&self, other: &PasswordFile) -> bool {
        self.users == other.users
    }

    pub(crate) fn parse(text: &str) -> Result<PasswordFile, String> {
        let mut file = PasswordFile::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = |reason: &str| format!("line {}: {reason}", number + 1);
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| error("there is no colon behind a user name"))?;
            if name.is_empty() {
                return Err(error("there is no user name"));
            }
            let hash = Hash::parse(hash).map_err(|reason| error(&reason))?;
            if file.decoy.is_none() {
                file.decoy = Some(hash.clone());
            }
            if let (Hash::Scram(verifier), None) = (&hash, &file.scram_decoy) {
                file.scram_decoy = Some(verifier.clone());
            }
            if file.users.insert(name.into(), hash).is_some() {
                return Err(error("the user has a line already"));
            }
        }
        Ok(file)
    }

    pub(crate) fn contains(&self, username: &str) -> bool {
        self.users.contains_key(username)
    }

    /// What the user can prove itself with by SCRAM, if it can, and the verifier that others are made up from. None if
    /// nobody can.
    pub(super) fn scram(&self, username: &str) -> Option<(Option<&ScramVerifier>, &ScramVerifier)> {
        let decoy = self.scram_decoy.as_ref()?;
        match self.users.get(username) {
            Some(Hash::Scram(verifier)) => Some((Some(verifier), decoy)),
            _ => Some((None, decoy)),
        }
    }

    /// Whether this is the password of the user. Takes long.
    pub(crate) fn verify(&self, username: &str, password: &[u8]) -> bool {
        match (self.users.get(username), &self.decoy) {
            (Some(hash), _) => hash.verify(password),
            (None, Some(decoy)) => {
                decoy.verify(password);
                false
            }
            (None, None) => false,
        }
    }
}

impl Hash {
    /// Hashes a password with argon2id, 19 MiB and two passes, with a salt of its own.
    pub(crate) fn new(password: &[u8]) -> Result<Hash, String> {
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| "the system has no randomness".to_owned())?;
        let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
        let hash = argon2
            .hash_password(password, &salt)
            .map_err(|error| error.to_string())?;
        Ok(Hash::Argon2(hash.to_string().into()))
    }

    /// A verifier for SCRAM-SHA-256, which tells passwords apart, too.
    pub(crate) fn new_scram(password: &[u8]) -> Result<Hash, String> {
        ScramVerifier::new(password).map(Hash::Scram)
    }

    pub(crate) fn parse(text: &str) -> Result<Hash, String> {
        let unknown =
            || "unknown kind of hash: there are $argon2id$, $scram-sha-256$, $7$, $6$ and $pbkdf2-sha256$".to_owned();
        let decode = |text: &str| {
            let bytes = BASE64.decode(text.as_bytes());
            bytes
                .map(Vec::into_boxed_slice)
                .map_err(|_| "the hash is damaged".to_owned())
        };
        if text.starts_with("$argon2") {
            check_argon2(text)?;
            return Ok(Hash::Argon2(text.into()));
        }
        if text.starts_with("$scram-sha-256$") {
            return ScramVerifier::parse(text).map(Hash::Scram);
        }
        let parts: Vec<&str> = text.split('$').collect();
        match parts[..] {
            ["", "7", iterations, salt, hash] => {
                let iterations = parse_iterations(iterations)?;
                let (salt, hash) = (decode(salt)?, decode_512(hash, decode)?);
                Ok(Hash::Pbkdf2 { iterations, salt, hash })
            }
            ["", "6", salt, hash] => {
                let (salt, hash) = (decode(salt)?, decode_512(hash, decode)?);
                Ok(Hash::Sha512 { salt, hash })
            }
            ["", "pbkdf2-sha256", iterations, salt, hash] => {
                let iterations = parse_iterations(iterations.strip_prefix("i=").unwrap_or_default())?;
                let decode = |text: &str| {
                    BASE64_NOPAD
                        .decode(text.as_bytes())
                        .map_err(|_| "the hash is damaged".to_owned())
                };
                let (salt, hash) = (decode(salt)?.into(), decode(hash)?);
                match hash.len() {
                    32 => Ok(Hash::Pbkdf2Sha256 {
                        iterations,
                        salt,
                        hash: hash.into(),
                    }),
                    _ => Err("the hash is damaged".to_owned()),
                }
            }
            _ => Err(unknown()),
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Hash::Argon2(text) => {
                let parsed = PasswordHash::new(text);
                parsed.is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
            }
            Hash::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
            Hash::Pbkdf2Sha256 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, *iterations, salt, password, hash).is_ok()
            }
            Hash::Sha512 { salt, hash } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                constant_time::verify_slices_are_equal(context.finish().as_ref(), hash).is_ok()
            }
            Hash::Scram(verifier) => verifier.verify(password),
        }
    }
}

fn parse_iterations(text: &str) -> Result<NonZeroU32, String> {
    let iterations: NonZeroU32 = text.parse().map_err(|_| "the hash is damaged".to_owned())?;
    if iterations.get() > MOST_ITERATIONS {
        return Err(format!("more than {MOST_ITERATIONS} iterations"));
    }
    Ok(iterations)
}

/// Both kinds of Mosquitto's have 64 bytes: a shorter one would be easier to hit.
fn decode_512(text: &str, decode: impl Fn(&str) -> Result<Box<[u8]>, String>) -> Result<Box<[u8]>, String> {
    let hash = decode(text)?;
    if hash.len() == 64 {
        Ok(hash)
    } else {
        Err("the hash is damaged".to_owned())
    }
}

fn check_argon2(text: &str) -> Result<(), String> {
    let damaged = || "the hash is damaged".to_owned();
    let hash = PasswordHash::new(text).map_err(|_| damaged())?;
    let params = Params::try_from(&hash).map_err(|_| damaged())?;
    if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
        return Err("only argon2id, with salt and hash".to_owned());
    }
    if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES {
        return Err("its parameters ask for more memory or time than a broker can spend".to_owned());
    }
    Ok(())
}

impl std::fmt::Display for Hash {
    /// As it stands in the file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hash::Argon2(text) => f.write_str(text),
            Hash::Scram(verifier) => verifier.fmt(f),
            Hash::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", BASE64.encode(salt), BASE64.encode(hash))
            }
            Hash::Pbkdf2Sha256 { iterations, salt, hash } => {
                let (salt, hash) = (BASE64_NOPAD.encode(salt), BASE64_NOPAD.encode(hash));
                write!(f, "$pbkdf2-sha256$i={iterations}${salt}${hash}")
            }
            Hash::Sha512 { salt, hash } => write!(f, "$6${}${}", BASE64.encode(salt), BASE64.encode(hash)),
        }
    }
}

#[cfg(test)]
mod tests;
