//! Who may connect, and who may publish and subscribe to what, as files say.
//!
//! Invariants:
//! * Nothing is opened up by an error: a file that can't be used keeps the broker from starting, or the old one in force.
//! * A check works with one [`Rules`] from its beginning to its end; a reload replaces all of them at once.
//! * Hashing passwords takes a bounded number of threads, none of which is one of the workers.

pub(crate) mod acl;
pub(crate) mod attempts;
mod authenticate;
mod background;
mod client_ids;
#[cfg(feature = "http-auth")]
mod http;
#[cfg(feature = "jwt")]
mod jwt;
pub(crate) mod passwords;
mod remembered;
#[cfg(any(feature = "jwt", feature = "http-auth"))]
mod rules;
pub(crate) mod scram;
#[cfg(feature = "cli")]
pub(crate) mod similar;
mod verifier;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::identity::ClientInfo;
use crate::topic::TopicFilter;
use acl::Acl;
pub use client_ids::ClientIdRule;
#[cfg(feature = "http-auth")]
use http::HttpAuth;
#[cfg(feature = "http-auth")]
pub use http::HttpAuthSettings;
#[cfg(feature = "jwt")]
use jwt::Jwt;
#[cfg(feature = "jwt")]
pub use jwt::{JwtAlgorithm, JwtFrom, JwtKeys, JwtSettings};
use passwords::PasswordFile;
use remembered::Remembered;
use verifier::{Passwords, Verifier};

/// What a client may do that subscribes to more than it may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WideSubscriptions {
    /// It gets the subscription, and of the messages those that it may read, as in Mosquitto.
    #[default]
    Filter,
    /// The subscription is refused (0x87).
    Deny,
}

/// What happens when an MQTT 3 client publishes what it may not: there is no way to tell it [MQTT3-3.3.5-2].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeniedPublish {
    /// The message is acknowledged and discarded.
    #[default]
    Acknowledge,
    /// The connection is closed.
    Close,
}

/// The files, and what else decides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessSettings {
    /// Users and their passwords, in the format of Mosquitto, with argon2id, or for SCRAM.
    pub password_file: Option<PathBuf>,
    /// Tokens in the place of passwords.
    #[cfg(feature = "jwt")]
    pub jwt: Option<JwtSettings>,
    /// An endpoint that is asked of users who are not in the password file.
    #[cfg(feature = "http-auth")]
    pub http: Option<HttpAuthSettings>,
    /// What users may publish and subscribe to, in the format of Mosquitto, or in TOML (with the feature `cli`).
    pub acl_file: Option<PathBuf>,
    /// Whether clients may connect without a User Name.
    pub anonymous: bool,
    /// Whether certificates name users. Then a User Name in a CONNECT counts only if it is proven: without a password file,
    /// tokens or an endpoint, who has no certificate is anonymous.
    pub certificate_names: bool,
    /// For subscriptions that are wider than what may be read. Without it, lists in the format of Mosquitto filter, and
    /// those in TOML deny.
    pub wide_subscriptions: Option<WideSubscriptions>,
    /// For publications of MQTT 3 clients.
    pub denied_publish: DeniedPublish,
    /// Which Client Identifiers a client may have.
    pub client_ids: ClientIdRule,
    /// For how long a password that was right is remembered, as a keyed hash, so that a client that comes back costs
    /// little.
    pub password_cache: Duration,
}

impl Default for AccessSettings {
    fn default() -> AccessSettings {
        AccessSettings {
            password_file: None,
            #[cfg(feature = "jwt")]
            jwt: None,
            #[cfg(feature = "http-auth")]
            http: None,
            acl_file: None,
            anonymous: true,
            certificate_names: false,
            wide_subscriptions: None,
            denied_publish: DeniedPublish::Acknowledge,
            client_ids: ClientIdRule::default(),
            password_cache: Duration::from_secs(60),
        }
    }
}

/// A setting or a file that can't be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessError {
    /// The file; empty if it is not about one.
    pub path: PathBuf,
    /// What is wrong with it, with the line.
    pub reason: String,
}

impl std::fmt::Display for AccessError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.as_os_str().is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for AccessError {}

/// The hash of a password as it stands behind the colon in a password file: argon2id, with a salt of its own. Takes some
/// ten milliseconds.
///
/// # Errors
/// If the system has no randomness.
pub fn hash_password(password: &[u8]) -> Result<String, String> {
    passwords::Hash::new(password).map(|hash| hash.to_string())
}

/// A verifier for SCRAM-SHA-256 as it stands behind the colon in a password file. It also serves clients that send their
/// password. Takes some ten milliseconds.
///
/// # Errors
/// If the password can't be used with SCRAM, or the system has no randomness.
pub fn hash_password_scram(password: &[u8]) -> Result<String, String> {
    passwords::Hash::new_scram(password).map(|hash| hash.to_string())
}

/// What the settings and their files say.
#[derive(Clone, Debug, Default)]
struct Rules {
    settings: AccessSettings,
    /// None: no password is checked by a file.
    passwords: Option<Arc<Passwords>>,
    #[cfg(feature = "jwt")]
    jwt: Option<Arc<Jwt>>,
    #[cfg(feature = "http-auth")]
    http: Option<Arc<HttpAuth>>,
    /// None: everybody may do everything.
    acl: Option<Arc<Acl>>,
}

impl Rules {
    /// What is set, or else what suits the kind of the list.
    fn wide_subscriptions(&self) -> WideSubscriptions {
        let of_list = self.acl.as_ref().map(|acl| acl.wide_subscriptions());
        self.settings.wide_subscriptions.or(of_list).unwrap_or_default()
    }

    /// Keeps the passwords that are remembered, if the users are still the same, and the permissions of an endpoint that is
    /// the same: so clients that come back cost no more because an access list or a certificate has changed.
    fn remember(&mut self, before: &Rules) {
        if let (Some(now), Some(then)) = (&self.passwords, &before.passwords)
            && self.settings.password_cache == before.settings.password_cache
            && now.file.says_the_same(&then.file)
        {
            self.passwords = Some(Arc::clone(then));
        }
        #[cfg(feature = "http-auth")]
        if let (Some(now), Some(then)) = (&self.http, &before.http)
            && self.settings.http == before.settings.http
        {
            self.http = Some(Arc::new(now.remembering(then)));
        }
    }
}

/// Who may do what. Cheap to clone; all clones are reloaded together.
#[derive(Clone, Debug)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rules: RwLock<Arc<Rules>>,
    /// Changes with the rules.
    generation: AtomicU64,
    /// Whether the rules have an access list: so messages need no lock where there is none.
    has_acl: AtomicBool,
    verifier: Arc<Verifier>,
}

/// What a client may do with a Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It may read all that matches.
    All,
    /// Each message is to be checked.
    Some,
    /// The subscription is refused.
    Denied,
}

/// The publications of a client that were decided last. Most publish to the same topic again.
#[derive(Debug, Default)]
pub(crate) struct LastDecision {
    topic: String,
    generation: u64,
    allowed: bool,
}

impl Default for Access {
    /// Everybody may do everything.
    fn default() -> Access {
        Access::new(Rules::default(), Arc::default())
    }
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them can't be read, or makes no sense.
    pub fn load(settings: AccessSettings) -> Result<Access, AccessError> {
        Ok(Access::new(read(settings)?, Arc::default()))
    }

    /// Reads the files of another listener of the same broker: it has rules of its own, but the threads that check
    /// passwords, and the count of wrong ones, are those of this one.
    ///
    /// # Errors
    /// As [`Access::load`].
    pub fn load_beside(&self, settings: AccessSettings) -> Result<Access, AccessError> {
        Ok(Access::new(read(settings)?, Arc::clone(&self.0.verifier)))
    }

    /// Reads the files again. What clients have been granted is left to [`Broker::recheck`](crate::Broker::recheck).
    ///
    /// # Errors
    /// As [`Access::load`]; what was there stays in force.
    pub fn reload(&self) -> Result<(), AccessError> {
        let settings = self.rules().settings.clone();
        self.put_in_force(read(settings)?);
        Ok(())
    }

    /// Takes over the settings and rules of another: with a check of all new files before, none of them is in force
    /// before all can be. What clients have been granted is left to [`Broker::recheck`](crate::Broker::recheck).
    pub fn adopt(&self, other: &Access) {
        self.put_in_force(Rules::clone(&other.rules()));
    }

    fn new(rules: Rules, verifier: Arc<Verifier>) -> Access {
        Access(Arc::new(Shared {
            has_acl: AtomicBool::new(rules.acl.is_some()),
            rules: RwLock::new(Arc::new(rules)),
            generation: AtomicU64::new(1),
            verifier,
        }))
    }

    fn put_in_force(&self, mut rules: Rules) {
        let has_acl = rules.acl.is_some();
        rules.remember(&self.rules());
        *self.0.rules.write() = Arc::new(rules);
        // After the rules: who sees the new generation decides by them.
        self.0.generation.fetch_add(1, Ordering::Release);
        self.0.has_acl.store(has_acl, Ordering::Release);
    }

    /// Another one when the rules have changed.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Whether a User Name that a CONNECT claims means anything: anybody can claim the name in a certificate.
    pub(crate) fn heeds_claims(&self) -> bool {
        let rules = self.rules();
        !rules.settings.certificate_names || rules.check_names()
    }

    /// Whether there is anything to be checked after a client has connected.
    #[inline]
    pub(crate) fn has_acl(&self) -> bool {
        self.0.has_acl.load(Ordering::Acquire)
    }

    pub(crate) fn denied_publish(&self) -> DeniedPublish {
        self.rules().settings.denied_publish
    }

    /// Whether the client may publish to the topic.
    pub(crate) fn may_publish(&self, client: &ClientInfo, topic: &str) -> bool {
        if let Some(rights) = &client.rights {
            return rights.allow_write(topic);
        }
        let rules = self.rules();
        rules
            .acl
            .as_ref()
            .is_none_or(|acl| acl.allows_write(&who(client), topic))
    }

    /// The same, faster for the topic of the last time.
    pub(crate) fn may_publish_again(&self, client: &ClientInfo, topic: &str, last: &mut LastDecision) -> bool {
        let generation = self.0.generation.load(Ordering::Acquire);
        if last.generation == generation && last.topic == topic {
            return last.allowed;
        }
        last.allowed = self.may_publish(client, topic);
        last.generation = generation;
        last.topic.clear();
        last.topic.push_str(topic);
        last.allowed
    }

    /// Whether the client may be sent what was published to the topic.
    pub(crate) fn may_receive(&self, client: &ClientInfo, topic: &str) -> bool {
        if let Some(rights) = &client.rights {
            return rights.allow_read(topic);
        }
        let rules = self.rules();
        rules
            .acl
            .as_ref()
            .is_none_or(|acl| acl.allows_read(&who(client), topic))
    }

    /// What the client may do with the filter.
    pub(crate) fn reading(&self, client: &ClientInfo, filter: &TopicFilter) -> Reading {
        let rules = self.rules();
        let allows_all = match (&client.rights, &rules.acl) {
            (Some(rights), _) => rights.allow_all(filter.filter()),
            (None, Some(acl)) => acl.allows_all(&who(client), filter.filter()),
            (None, None) => true,
        };
        match (allows_all, rules.wide_subscriptions()) {
            (true, _) => Reading::All,
            (false, WideSubscriptions::Filter) => Reading::Some,
            (false, WideSubscriptions::Deny) => Reading::Denied,
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.rules.read())
    }
}

impl Rules {
    /// Whether a name has to be proven.
    fn check_names(&self) -> bool {
        self.passwords.is_some() || self.check_tokens() || self.ask_elsewhere()
    }

    #[cfg(feature = "jwt")]
    fn check_tokens(&self) -> bool {
        self.jwt.is_some()
    }

    #[cfg(not(feature = "jwt"))]
    fn check_tokens(&self) -> bool {
        false
    }

    #[cfg(feature = "http-auth")]
    fn ask_elsewhere(&self) -> bool {
        self.http.is_some()
    }

    #[cfg(not(feature = "http-auth"))]
    fn ask_elsewhere(&self) -> bool {
        false
    }
}

fn who(client: &ClientInfo) -> acl::Who<'_> {
    acl::Who {
        username: client.username.as_deref(),
        client_id: &client.client_id,
    }
}

fn read(settings: AccessSettings) -> Result<Rules, AccessError> {
    let passwords = match &settings.password_file {
        Some(path) => {
            warn_if_open(path, "the password file");
            Some(Arc::new(Passwords {
                file: read_file(path, PasswordFile::parse)?,
                remembered: Remembered::new(settings.password_cache),
            }))
        }
        None => None,
    };
    let acl = match &settings.acl_file {
        Some(path) => Some(Arc::new(read_acl(path)?)),
        None => None,
    };
    Ok(Rules {
        #[cfg(feature = "jwt")]
        jwt: settings.jwt.as_ref().map(read_keys).transpose()?.map(Arc::new),
        #[cfg(feature = "http-auth")]
        http: settings.http.as_ref().map(read_endpoint).transpose()?.map(Arc::new),
        settings,
        passwords,
        acl,
    })
}

#[cfg(feature = "jwt")]
fn read_keys(settings: &JwtSettings) -> Result<Jwt, AccessError> {
    let path = settings.keys.path();
    let jwt = Jwt::parse(settings, &read_bytes(path)?).map_err(|reason| AccessError {
        path: path.clone(),
        reason,
    })?;
    if jwt.is_secret() {
        warn_if_open(path, "the secret that signs tokens");
    }
    Ok(jwt)
}

#[cfg(feature = "http-auth")]
fn read_endpoint(settings: &HttpAuthSettings) -> Result<HttpAuth, AccessError> {
    HttpAuth::load(settings).map_err(|reason| AccessError {
        path: settings.ca.clone().unwrap_or_default(),
        reason,
    })
}

/// The access list in a file.
///
/// # Errors
/// If it can't be read, or makes no sense.
pub(crate) fn read_acl(path: &PathBuf) -> Result<Acl, AccessError> {
    read_file(path, |text| Acl::parse_file(path, text))
}

/// Hashes can be guessed by who can read them, and secrets are known.
#[cfg(unix)]
fn warn_if_open(path: &std::path::Path, what: &str) {
    use std::os::unix::fs::PermissionsExt;
    let is_open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0);
    if is_open {
        tracing::warn!(file = %path.display(), "every user of this machine may read {what} (chmod o-rwx)");
    }
}

#[cfg(not(unix))]
fn warn_if_open(_: &std::path::Path, _: &str) {}

/// Bytes of the largest file that is read.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

fn read_file<T>(path: &PathBuf, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, AccessError> {
    let error = |reason: String| AccessError {
        path: path.clone(),
        reason,
    };
    let text = String::from_utf8(read_bytes(path)?).map_err(|_| error("it is not UTF-8".to_owned()))?;
    parse(&text).map_err(error)
}

fn read_bytes(path: &PathBuf) -> Result<Vec<u8>, AccessError> {
    let error = |reason: String| AccessError {
        path: path.clone(),
        reason,
    };
    let metadata = std::fs::metadata(path).map_err(|fault| error(fault.to_string()))?;
    if !metadata.is_file() {
        return Err(error("it is no file".to_owned()));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(error(format!("larger than {LARGEST_FILE} bytes")));
    }
    std::fs::read(path).map_err(|fault| error(fault.to_string()))
}

/// Addresses are told apart; clients without one share.
type Origin = Option<IpAddr>;
