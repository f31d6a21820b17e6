//! SCRAM-SHA-256 (RFC 5802, RFC 7677): neither side tells the other the password, and both prove that they know it.
//!
//! ```text
//! client                                             server
//!   n,,n=user,r=nonce                         ->
//!                                             <-      r=nonce+more,s=salt,i=iterations
//!   c=biws,r=nonce+more,p=proof               ->
//!                                             <-      v=signature
//! ```
//!
//! There is no channel binding. Users that do not exist get a salt that stays the same, as that of others does.

use std::borrow::Cow;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use data_encoding::{BASE64, BASE64_NOPAD};

/// The name of the method.
pub(crate) const METHOD: &str = "SCRAM-SHA-256";
/// Iterations of verifiers that are made here.
pub(super) const ITERATIONS: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");
/// RFC 7677 asks for as many at least.
const LEAST_ITERATIONS: u32 = 4096;
/// Iterations above which a client would be busy for minutes.
const MOST_ITERATIONS: u32 = 10_000_000;
/// Bytes of a hash.
const SIZE: usize = digest::SHA256_OUTPUT_LEN;
/// Bytes of a message that is read: names and nonces are as long as their owner likes.
const LONGEST_MESSAGE: usize = 4096;

/// What a server knows of a password: enough to check a proof, and not to make one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ScramVerifier {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: [u8; SIZE],
    server_key: [u8; SIZE],
}

/// A client that has begun, and is to prove that it knows the password.
#[derive(Debug)]
pub(crate) struct Exchange {
    username: Box<str>,
    /// Whether there is such a user: the proof is checked in any case.
    is_known: bool,
    verifier: ScramVerifier,
    nonce: Box<str>,
    /// The messages so far, as the signatures cover them.
    transcript: String,
    /// What the client has to repeat, so that nobody has changed it.
    header: Box<[u8]>,
}

/// The first message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    /// The user, prepared as all names are.
    pub(super) username: Box<str>,
    header: &'a str,
    bare: &'a str,
    nonce: &'a str,
}

/// A message that is against the rules, or a proof that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScramError(pub(crate) &'static str);

impl ScramVerifier {
    /// For this password, with a salt of its own.
    pub(super) fn new(password: &[u8]) -> Result<ScramVerifier, String> {
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| "the system has no randomness".to_owned())?;
        let text = std::str::from_utf8(password).map_err(|_| "SCRAM needs a password in UTF-8".to_owned())?;
        stringprep::saslprep(text).map_err(|_| "SCRAM allows no control characters in a password".to_owned())?;
        Ok(ScramVerifier::derive(password, &salt, ITERATIONS))
    }

    fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> ScramVerifier {
        let mut salted = [0; SIZE];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            &prepared(password),
            &mut salted,
        );
        ScramVerifier {
            iterations,
            salt: salt.into(),
            stored_key: hash(&mac(&salted, b"Client Key")),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    /// Reads what [`Display`](std::fmt::Display) writes: `$scram-sha-256$i=20000$salt$stored key$server key`.
    pub(super) fn parse(text: &str) -> Result<ScramVerifier, String> {
        let damaged = || "the SCRAM verifier is damaged".to_owned();
        let parts: Vec<&str> = text.split('$').collect();
        let ["", "scram-sha-256", iterations, salt, stored_key, server_key] = parts[..] else {
            return Err(damaged());
        };
        let iterations = iterations.strip_prefix("i=").ok_or_else(damaged)?;
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| damaged())?;
        if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations.get()) {
            return Err(format!("SCRAM has {LEAST_ITERATIONS} to {MOST_ITERATIONS} iterations"));
        }
        let bytes = |text: &str| BASE64_NOPAD.decode(text.as_bytes()).map_err(|_| damaged());
        let key = |text: &str| <[u8; SIZE]>::try_from(bytes(text)?).map_err(|_| damaged());
        let salt = bytes(salt)?.into_boxed_slice();
        if !(8..=64).contains(&salt.len()) {
            return Err(damaged());
        }
        let (stored_key, server_key) = (key(stored_key)?, key(server_key)?);
        Ok(ScramVerifier {
            iterations,
            salt,
            stored_key,
            server_key,
        })
    }

    /// Whether this is the password. Takes long.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let other = ScramVerifier::derive(password, &self.salt, self.iterations);
        constant_time::verify_slices_are_equal(&self.stored_key, &other.stored_key).is_ok()
    }

    /// The verifier of a user who does not exist: the same each time, also in another process with the same file.
    fn decoy(&self, username: &str) -> ScramVerifier {
        let secret = mac(&self.stored_key, &self.server_key);
        let part = |what: &[u8]| mac(&secret, &[what, username.as_bytes()].concat());
        ScramVerifier {
            iterations: self.iterations,
            salt: part(b"salt ")[..self.salt.len().min(SIZE)].into(),
            stored_key: part(b"stored "),
            server_key: part(b"server "),
        }
    }
}

impl std::fmt::Display for ScramVerifier {
    /// As it stands in a password file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| BASE64_NOPAD.encode(bytes);
        let (salt, stored, server) = (text(&self.salt), text(&self.stored_key), text(&self.server_key));
        write!(f, "$scram-sha-256$i={}${salt}${stored}${server}", self.iterations)
    }
}

impl std::fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramVerifier").finish_non_exhaustive()
    }
}

impl<'a> ClientFirst<'a> {
    /// `n,,n=user,r=nonce`
    pub(super) fn parse(message: &'a [u8]) -> Result<ClientFirst<'a>, ScramError> {
        let message = text(message)?;
        let mut fields = message.splitn(3, ',');
        let (Some(binding), Some(identity), Some(bare)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(ScramError("not the first message of SCRAM"));
        };
        match binding {
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(ScramError("there is no channel binding")),
            _ => return Err(ScramError("not the first message of SCRAM")),
        }
        let mut attributes = bare.split(',');
        // An extension that must be understood (m=) is none of these, either.
        let (Some(name), Some(nonce)) = (value(attributes.next(), "n="), value(attributes.next(), "r=")) else {
            return Err(ScramError("a first message of SCRAM without name and nonce"));
        };
        let username = user_name(name)?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError("the nonce is empty or not printable"));
        }
        let acts_as = match identity {
            "" => None,
            _ => Some(user_name(
                value(Some(identity), "a=").ok_or(ScramError("not the first message of SCRAM"))?,
            )?),
        };
        if acts_as.is_some_and(|other| other != username) {
            return Err(ScramError("a user may act as itself only"));
        }
        Ok(ClientFirst {
            username,
            header: &message[..message.len() - bare.len()],
            bare,
            nonce,
        })
    }
}

impl Exchange {
    /// Begins with a user's verifier; for one without, `decoy` is the verifier of another. Returns what to answer.
    pub(super) fn begin(
        first: &ClientFirst<'_>,
        verifier: Option<&ScramVerifier>,
        decoy: &ScramVerifier,
    ) -> Result<(Exchange, String), ScramError> {
        let mut random = [0; 18];
        rand::fill(&mut random).map_err(|_| ScramError("the system has no randomness"))?;
        Ok(Exchange::begin_with(first, verifier, decoy, &BASE64.encode(&random)))
    }

    fn begin_with(
        first: &ClientFirst<'_>,
        verifier: Option<&ScramVerifier>,
        decoy: &ScramVerifier,
        random: &str,
    ) -> (Exchange, String) {
        // Computed in any case, so that the time of the answer does not tell who exists.
        let decoy = decoy.decoy(&first.username);
        let is_known = verifier.is_some();
        let verifier = verifier.cloned().unwrap_or(decoy);
        let nonce = format!("{}{random}", first.nonce);
        let answer = format!(
            "r={nonce},s={},i={}",
            BASE64.encode(&verifier.salt),
            verifier.iterations
        );
        let exchange = Exchange {
            username: first.username.clone(),
            is_known,
            verifier,
            nonce: nonce.into(),
            transcript: format!("{},{answer}", first.bare),
            header: first.header.as_bytes().into(),
        };
        (exchange, answer)
    }

    /// The user, who is not proven before [`Exchange::finish`].
    pub(crate) fn username(&self) -> &str {
        &self.username
    }

    /// Checks `c=…,r=…,p=…`. Returns what proves the server to the client.
    pub(crate) fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError("there is no proof"))?;
        let mut attributes = without_proof.split(',');
        let (binding, nonce) = (value(attributes.next(), "c="), value(attributes.next(), "r="));
        let repeated = binding.and_then(|binding| BASE64.decode(binding.as_bytes()).ok());
        if repeated.as_deref() != Some(&*self.header) {
            return Err(ScramError("the header of the first message is not repeated"));
        }
        if nonce != Some(&*self.nonce) {
            return Err(ScramError("the nonce is another"));
        }
        let proof = BASE64.decode(proof.as_bytes()).ok();
        let proof = proof.and_then(|proof| <[u8; SIZE]>::try_from(proof).ok());
        let mut client_key = proof.ok_or(ScramError("the proof is damaged"))?;
        let transcript = format!("{},{without_proof}", self.transcript);
        let signature = mac(&self.verifier.stored_key, transcript.as_bytes());
        client_key
            .iter_mut()
            .zip(signature)
            .for_each(|(byte, mask)| *byte ^= mask);
        let is_right = constant_time::verify_slices_are_equal(&hash(&client_key), &self.verifier.stored_key).is_ok();
        if !(is_right && self.is_known) {
            return Err(ScramError("the proof is wrong"));
        }
        let signature = mac(&self.verifier.server_key, transcript.as_bytes());
        Ok(format!("v={}", BASE64.encode(&signature)))
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > LONGEST_MESSAGE {
        return Err(ScramError("the message is too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError("the message is not UTF-8"))
}

fn value<'a>(attribute: Option<&'a str>, name: &str) -> Option<&'a str> {
    attribute?.strip_prefix(name)
}

/// A name as it is meant: `,` is written as `=2C`, and `=` as `=3D`.
fn user_name(written: &str) -> Result<Box<str>, ScramError> {
    let mut parts = written.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match part.as_bytes() {
            [b'2', b'C', ..] => (',', &part[2..]),
            [b'3', b'D', ..] => ('=', &part[2..]),
            _ => return Err(ScramError("the user name has a lone =")),
        };
        name.push(character);
        name.push_str(rest);
    }
    let name = stringprep::saslprep(&name).map_err(|_| ScramError("the user name has control characters"))?;
    match name.is_empty() {
        true => Err(ScramError("the user name is empty")),
        false => Ok(name.into()),
    }
}

/// A password as both sides hash it. What can't be prepared is taken as it is: so it matches nothing.
fn prepared(password: &[u8]) -> Cow<'_, [u8]> {
    let text = std::str::from_utf8(password).ok();
    match text.and_then(|text| stringprep::saslprep(text).ok()) {
        Some(Cow::Owned(prepared)) => Cow::Owned(prepared.into_bytes()),
        _ => Cow::Borrowed(password),
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; SIZE] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    sized(tag.as_ref())
}

fn hash(bytes: &[u8]) -> [u8; SIZE] {
    sized(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn sized(bytes: &[u8]) -> [u8; SIZE] {
    bytes.try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests;
