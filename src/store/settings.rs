//! Where what must outlive the process is to be kept.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "redis")]
use super::StoreError;
use super::legacy::Legacies;

/// Where sessions, their messages, wills and retained messages are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persistence {
    /// In memory alone: they end with the process.
    #[default]
    Memory,
    /// In a directory.
    Disk(DiskSettings),
    /// In a Redis or Valkey server: brokers that share it are one cluster.
    Redis(RedisSettings),
    /// As the first says, with faults for tests: `SEED` or `SEED:RATE`, one of so many calls having one.
    #[cfg(feature = "faults")]
    #[doc(hidden)]
    Faulty(Box<Persistence>, String),
}

/// A store in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskSettings {
    /// The directory, which is made if it is not there. One broker at a time has it.
    pub dir: PathBuf,
    /// What survives.
    pub durability: Durability,
}

/// What is acknowledged survives this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the machine's power: the disk has it.
    #[default]
    Fsync,
    /// The end of the process: the operating system has it.
    Os,
}

/// A store in Redis, and the cluster of all brokers that have it. Its `Debug` has no password.
///
/// A program that starts another broker when the store [is lost](crate::Broker::store_lost) should do so with a clone of the same
/// settings: if Redis has lost what it had confirmed, they have what the broker before remembers of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisSettings {
    /// Where the server is, such as `redis://host:6379` or `rediss://user:password@host`.
    pub url: String,
    /// A file whose first line is the password, in place of the one in the URL.
    pub password_file: Option<PathBuf>,
    /// Roots that the certificate of a `rediss` server leads to, in PEM, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key, in PEM, for a `rediss` server that asks for them.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// What the names of all keys begin with. Brokers with the same one form a cluster.
    pub prefix: String,
    /// Replicas that must have a change before it is acknowledged.
    pub wait: u32,
    /// Whether the server, and the replicas that are waited for, must have synced a change to its append-only file.
    pub fsync: bool,
    /// How long the server may take to connect, and to answer.
    pub timeout: Duration,
    /// How long a node may be silent before the others declare it dead. The same on all nodes.
    pub lease: Duration,
    /// What this node is called, for people: nothing rests on it.
    pub node_name: String,
    /// How long connections stay open while the node hears nothing of Redis.
    pub isolation_limit: Duration,
    /// What brokers have left that were started with these settings, or with a clone of them.
    pub(crate) legacies: Legacies,
}

impl Persistence {
    /// What is left goes there, and what has been left is there.
    #[cfg(feature = "cli")]
    pub(crate) fn inherit(&mut self, legacies: &Legacies) {
        if let Persistence::Redis(settings) = self {
            settings.legacies = legacies.clone();
        }
    }
}

impl DiskSettings {
    /// A store that survives the end of the power.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> DiskSettings {
        DiskSettings {
            dir: dir.into(),
            durability: Durability::default(),
        }
    }
}

impl RedisSettings {
    /// What the names of keys begin with, unless something else is set.
    pub const PREFIX: &str = "mqtt";
    /// How long the server may take, unless something else is set.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
    /// A node is dead after so long a silence, unless something else is set.
    pub const LEASE: Duration = Duration::from_secs(3);
    /// Connections are closed after so long without Redis, unless something else is set.
    pub const ISOLATION_LIMIT: Duration = Duration::from_secs(60);

    /// A store in the server at this URL, with keys that begin with [`PREFIX`](RedisSettings::PREFIX), and without
    /// waiting for replicas.
    #[must_use]
    pub fn new(url: impl Into<String>) -> RedisSettings {
        RedisSettings {
            url: url.into(),
            password_file: None,
            ca: None,
            certificate: None,
            prefix: RedisSettings::PREFIX.to_owned(),
            wait: 0,
            fsync: false,
            timeout: RedisSettings::TIMEOUT,
            lease: RedisSettings::LEASE,
            node_name: "node".to_owned(),
            isolation_limit: RedisSettings::ISOLATION_LIMIT,
            legacies: Legacies::default(),
        }
    }

    /// The password of the file, if there is one. It is read each time: it may have been changed.
    #[cfg(feature = "redis")]
    pub(crate) fn password(&self) -> Result<Option<String>, StoreError> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let refused = |reason: &str| StoreError::Refused(format!("{}: {reason}", path.display()));
        let metadata = std::fs::metadata(path).map_err(|error| refused(&error.to_string()))?;
        if !metadata.is_file() || metadata.len() > LONGEST_PASSWORD {
            return Err(refused("it is no file with a password"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refused(&error.to_string()))?;
        match text.lines().next() {
            Some(password) if !password.is_empty() => Ok(Some(password.to_owned())),
            _ => Err(refused("its first line is empty: it has no password")),
        }
    }

    /// The URL, for logs and messages.
    pub(crate) fn shown_url(&self) -> String {
        without_secrets(&self.url)
    }
}

/// Bytes of the largest file of a password.
#[cfg(feature = "redis")]
const LONGEST_PASSWORD: u64 = 64 * 1024;

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("url", &self.shown_url())
            .field("password_file", &self.password_file)
            .field("ca", &self.ca)
            .field("certificate", &self.certificate)
            .field("prefix", &self.prefix)
            .field("wait", &self.wait)
            .field("fsync", &self.fsync)
            .field("timeout", &self.timeout)
            .field("lease", &self.lease)
            .field("node_name", &self.node_name)
            .field("isolation_limit", &self.isolation_limit)
            .finish()
    }
}

/// A URL without its password, and without its query, which may have one.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    match before.rsplit_once('@') {
        Some((who, host)) => match who.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
            None => format!("{scheme}://{who}@{host}"),
        },
        // Either the password has a question mark, or the query an at sign.
        None if query.contains('@') => format!("{scheme}://***"),
        None => format!("{scheme}://{before}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("redis://h:1/2", "redis://h:1/2"),
            ("redis://:secret@h", "redis://:***@h"),
            ("rediss://ann:se/cr@et@h:6379/0", "rediss://ann:***@h:6379/0"),
            ("redis://ann@h", "redis://ann@h"),
            ("redis://h?password=secret", "redis://h"),
            ("redis://:sec?ret@h", "redis://***"),
            ("redis://h?password=sec@ret", "redis://***"),
            ("no URL", "no URL"),
        ] {
            assert_eq!(without_secrets(url), shown);
            assert!(!format!("{:?}", RedisSettings::new(url)).contains("ret"));
        }
    }

    #[test]
    fn a_password_may_be_in_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = RedisSettings::new("redis://h");
        assert_eq!(settings.password(), Ok(None));
        let path = directory.path().join("password");
        settings.password_file = Some(path.clone());
        assert!(matches!(settings.password(), Err(StoreError::Refused(_))));
        for (text, password) in [("secret\nmore", Some("secret")), ("\nsecret", None), ("", None)] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(settings.password().ok().flatten().as_deref(), password);
        }
    }
}
