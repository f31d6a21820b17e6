//! Options that say what outlives the process, and where it is kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::seconds;
use crate::{DiskSettings, Durability, Persistence, RedisSettings};

const HEADING: &str = "Persistence";

#[derive(Debug, Args)]
pub(super) struct PersistenceOptions {
    /// Where sessions, their messages and retained messages are kept [default: memory; disk with --data-dir, redis with
    /// --redis]
    #[arg(long, env = "BROKER_PERSISTENCE", value_name = "memory|disk|redis", hide_possible_values = true, help_heading = HEADING)]
    persistence: Option<Where>,
    /// Directory of the store on disk, which one broker at a time may have
    #[arg(long, env = "BROKER_DATA_DIR", value_name = "DIR", help_heading = HEADING)]
    data_dir: Option<PathBuf>,
    /// What the store on disk survives: loss of power (fsync), or of the broker's process alone (os) [default: fsync]
    #[arg(long, env = "BROKER_DURABILITY", value_name = "fsync|os", hide_possible_values = true, help_heading = HEADING)]
    durability: Option<Survives>,
    /// URL of the store in Redis or Valkey, such as redis://host:6379. All brokers with the same one form a cluster
    #[arg(long, env = "BROKER_REDIS", value_name = "URL", hide_env_values = true, help_heading = HEADING)]
    redis: Option<String>,
    #[command(flatten)]
    access: RedisAccess,
    /// Replicas that must have a change before it is acknowledged [default: 0]
    #[arg(long, env = "BROKER_REDIS_WAIT", value_name = "N", help_heading = HEADING)]
    redis_wait: Option<u32>,
    /// A change is acknowledged only when Redis has synced it to its append-only file, on the replicas as well that are
    /// waited for (Redis 7.2)
    #[arg(long, env = "BROKER_REDIS_FSYNC", help_heading = HEADING)]
    redis_fsync: bool,
    /// How long Redis may take to connect, and to answer [default: 10]
    #[arg(long, env = "BROKER_REDIS_TIMEOUT", value_name = "SECONDS", value_parser = seconds, help_heading = HEADING)]
    redis_timeout: Option<Duration>,
    /// How long a node may be silent before the others take over its clients; the same on all nodes [default: 3]
    #[arg(long, env = "BROKER_CLUSTER_LEASE", value_name = "SECONDS", value_parser = lease, help_heading = HEADING)]
    cluster_lease: Option<Duration>,
    /// What this node is called where nodes are listed [default: the host name]
    #[arg(long, env = "BROKER_NODE_NAME", value_name = "NAME", value_parser = node_name, help_heading = HEADING)]
    node_name: Option<String>,
    /// How long a node that Redis does not answer keeps its connections; then it closes them [default: 60]
    #[arg(long, env = "BROKER_ISOLATION_LIMIT", value_name = "SECONDS", value_parser = seconds, help_heading = HEADING)]
    isolation_limit: Option<Duration>,
    /// Has the store fail now and then, for tests: one of RATE calls
    #[cfg(feature = "faults")]
    #[arg(long, value_name = "SEED[:RATE]", hide = true)]
    store_faults: Option<String>,
}

/// How a Redis server is reached beside its URL.
#[derive(Clone, Debug, Args)]
pub(super) struct RedisAccess {
    /// File whose first line is the password for Redis, in place of one in the URL
    #[arg(long, env = "BROKER_REDIS_PASSWORD_FILE", value_name = "FILE", help_heading = HEADING)]
    redis_password_file: Option<PathBuf>,
    /// Roots that the certificate of a rediss:// server leads to, in PEM [default: those of the system]
    #[arg(long, env = "BROKER_REDIS_CA", value_name = "FILE", help_heading = HEADING)]
    redis_ca: Option<PathBuf>,
    /// Certificate for a rediss:// server that asks its clients for one, in PEM
    #[arg(long, env = "BROKER_REDIS_CERT", value_name = "FILE", requires = "redis_key", help_heading = HEADING)]
    redis_cert: Option<PathBuf>,
    /// Private key of --redis-cert, in PEM
    #[arg(long, env = "BROKER_REDIS_KEY", value_name = "FILE", requires = "redis_cert", help_heading = HEADING)]
    redis_key: Option<PathBuf>,
    /// What the names of all keys in Redis begin with [default: mqtt]
    #[arg(long, env = "BROKER_REDIS_PREFIX", value_name = "PREFIX", value_parser = prefix, help_heading = HEADING)]
    redis_prefix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Where {
    Memory,
    Disk,
    Redis,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Survives {
    Fsync,
    Os,
}

impl PersistenceOptions {
    /// Whether this broker is a node of a cluster.
    pub(super) fn is_node(&self) -> bool {
        self.place() == Ok(Where::Redis)
    }

    /// What the options come to, or how they contradict each other.
    pub(super) fn settings(&self) -> Result<Persistence, String> {
        let kept = self.kept()?;
        #[cfg(feature = "faults")]
        if let Some(faults) = &self.store_faults {
            return Ok(Persistence::Faulty(Box::new(kept), faults.clone()));
        }
        Ok(kept)
    }

    fn kept(&self) -> Result<Persistence, String> {
        let place = self.place()?;
        if place != Where::Disk && self.durability.is_some() {
            return Err("--durability is for a store on disk, which --data-dir DIR turns on".to_owned());
        }
        if place != Where::Redis
            && let Some(option) = self.first_of_redis()
        {
            return Err(format!("{option} is for a store in Redis, which --redis URL turns on"));
        }
        self.check_isolation()?;
        match (place, &self.data_dir, &self.redis) {
            (Where::Memory, ..) => Ok(Persistence::Memory),
            (Where::Disk, Some(dir), _) => {
                let mut settings = DiskSettings::new(dir);
                settings.durability = match self.durability {
                    Some(Survives::Os) => Durability::Os,
                    Some(Survives::Fsync) | None => Durability::Fsync,
                };
                Ok(Persistence::Disk(settings))
            }
            (Where::Disk, None, _) => Err("--persistence disk needs a directory: --data-dir DIR".to_owned()),
            (Where::Redis, _, Some(url)) => {
                let mut settings = self.access.settings(url)?;
                settings.wait = self.redis_wait.unwrap_or_default();
                settings.fsync = self.redis_fsync;
                settings.timeout = self.redis_timeout.unwrap_or(RedisSettings::TIMEOUT);
                settings.lease = self.cluster_lease.unwrap_or(RedisSettings::LEASE);
                settings.isolation_limit = self.isolation_limit.unwrap_or(RedisSettings::ISOLATION_LIMIT);
                if let Some(name) = self.node_name.clone().or_else(host_name) {
                    settings.node_name = name;
                }
                Ok(Persistence::Redis(settings))
            }
            (Where::Redis, _, None) => Err("--persistence redis needs a server: --redis URL".to_owned()),
        }
    }

    fn check_isolation(&self) -> Result<(), String> {
        let lease = self.cluster_lease.unwrap_or(RedisSettings::LEASE);
        if self.isolation_limit.is_some_and(|limit| limit < lease) {
            return Err(
                "--isolation-limit is shorter than --cluster-lease: within that, Redis may be silent".to_owned(),
            );
        }
        Ok(())
    }

    /// Which of the stores is meant.
    fn place(&self) -> Result<Where, String> {
        let place = match (self.persistence, &self.data_dir, &self.redis) {
            (None, Some(_), Some(_)) => {
                return Err("--data-dir is for a store on disk, --redis for one in Redis: give one of them".to_owned());
            }
            (None, Some(_), None) => Where::Disk,
            (None, None, Some(_)) => Where::Redis,
            (None, None, None) => Where::Memory,
            (Some(place), ..) => place,
        };
        let name = match place {
            Where::Memory => "memory",
            Where::Disk => "disk",
            Where::Redis => "redis",
        };
        let stray = match (place, &self.data_dir, &self.redis) {
            (Where::Memory | Where::Redis, Some(_), _) => "--data-dir",
            (Where::Memory | Where::Disk, _, Some(_)) => "--redis",
            _ => return Ok(place),
        };
        Err(format!(
            "--persistence {name} has no use for {stray}: leave one of them out"
        ))
    }

    fn first_of_redis(&self) -> Option<&'static str> {
        let access = &self.access;
        let given = [
            ("--redis-password-file", access.redis_password_file.is_some()),
            ("--redis-ca", access.redis_ca.is_some()),
            ("--redis-prefix", access.redis_prefix.is_some()),
            ("--redis-cert", access.redis_cert.is_some()),
            ("--redis-wait", self.redis_wait.is_some()),
            ("--redis-fsync", self.redis_fsync),
            ("--redis-timeout", self.redis_timeout.is_some()),
            ("--cluster-lease", self.cluster_lease.is_some()),
            ("--node-name", self.node_name.is_some()),
            ("--isolation-limit", self.isolation_limit.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// Whether the URL has a password.
    pub(super) fn has_password_in_url(&self) -> bool {
        let url = self.redis.as_deref().unwrap_or_default();
        crate::store::without_secrets(url).contains("***")
    }

    /// By name, and in words that tell whether they have changed.
    pub(super) fn fixed(&self) -> [(&'static str, String); 15] {
        let access = &self.access;
        [
            ("persistence", format!("{:?}", self.persistence)),
            ("data-dir", format!("{:?}", self.data_dir)),
            ("durability", format!("{:?}", self.durability)),
            ("redis", format!("{:?}", self.redis)),
            ("redis-password-file", format!("{:?}", access.redis_password_file)),
            ("redis-ca", format!("{:?}", access.redis_ca)),
            ("redis-prefix", format!("{:?}", access.redis_prefix)),
            ("redis-cert", format!("{:?}", access.redis_cert)),
            ("redis-key", format!("{:?}", access.redis_key)),
            ("redis-wait", format!("{:?}", self.redis_wait)),
            ("redis-fsync", format!("{:?}", self.redis_fsync)),
            ("redis-timeout", format!("{:?}", self.redis_timeout)),
            ("cluster-lease", format!("{:?}", self.cluster_lease)),
            ("node-name", format!("{:?}", self.node_name)),
            ("isolation-limit", format!("{:?}", self.isolation_limit)),
        ]
    }
}

impl RedisAccess {
    /// The server at the URL.
    pub(super) fn settings(&self, url: &str) -> Result<RedisSettings, String> {
        let is_url = url.split_once("://").is_some_and(|(_, host)| !host.is_empty());
        if !is_url || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("--redis is no URL such as redis://host:6379".to_owned());
        }
        let mut settings = RedisSettings::new(url);
        settings.password_file.clone_from(&self.redis_password_file);
        settings.ca.clone_from(&self.redis_ca);
        settings.certificate = self.redis_cert.clone().zip(self.redis_key.clone());
        if let Some(prefix) = &self.redis_prefix {
            settings.prefix.clone_from(prefix);
        }
        Ok(settings)
    }
}

/// Heartbeats are told three times in a lease: a shorter one would make nodes dead that are only slow.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);
const LONGEST_LEASE: Duration = Duration::from_secs(60);

fn lease(text: &str) -> Result<Duration, String> {
    let lease = seconds(text)?;
    match (SHORTEST_LEASE..=LONGEST_LEASE).contains(&lease) {
        true => Ok(lease),
        false => Err("expected 0.5 to 60 seconds".to_owned()),
    }
}

/// Bytes of the longest name of a node.
const LONGEST_NAME: usize = 64;

/// What fits into a column of a list.
fn node_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    match text.len() {
        1..=LONGEST_NAME if text.chars().all(is_plain) => Ok(text.to_owned()),
        _ => Err(format!("expected up to {LONGEST_NAME} letters, digits and - _ . :")),
    }
}

/// That of this machine, if it can be that of a node.
fn host_name() -> Option<String> {
    let host = rustix::system::uname();
    node_name(host.nodename().to_str().ok()?).ok()
}

/// Bytes of the longest prefix, which stands in each key.
const LONGEST_PREFIX: usize = 64;

/// Nothing that has a meaning in keys, patterns or rules for users.
fn prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    match text.len() {
        1..=LONGEST_PREFIX if text.chars().all(is_plain) => Ok(text.to_owned()),
        _ => Err(format!("expected up to {LONGEST_PREFIX} letters, digits and - _ . :")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        options: PersistenceOptions,
    }

    fn settings(arguments: &str) -> Result<Persistence, String> {
        let arguments = ["broker"].into_iter().chain(arguments.split_whitespace());
        Alone::try_parse_from(arguments)
            .map_err(|error| error.to_string())?
            .options
            .settings()
    }

    #[test]
    fn one_option_is_enough() {
        assert_eq!(settings(""), Ok(Persistence::Memory));
        assert_eq!(settings("--data-dir d"), Ok(Persistence::Disk(DiskSettings::new("d"))));
        assert_eq!(
            settings("--data-dir d"),
            settings("--persistence disk --data-dir d --durability fsync")
        );
        let Ok(Persistence::Redis(settings)) = settings(
            "--redis redis://h --redis-prefix p --redis-wait 2 --redis-ca c --redis-password-file f \
                      --redis-cert cert --redis-key key --redis-fsync --redis-timeout 0.5",
        ) else {
            panic!("no settings of Redis");
        };
        assert_eq!((&*settings.prefix, settings.wait, settings.fsync), ("p", 2, true));
        assert_eq!(settings.timeout, Duration::from_millis(500));
        assert_eq!(settings.certificate, Some(("cert".into(), "key".into())));
        assert_eq!(
            (settings.ca, settings.password_file),
            (Some("c".into()), Some("f".into()))
        );
    }

    #[test]
    fn a_node_has_a_name() {
        let node = |arguments: &str| match settings(&format!("--redis redis://h {arguments}")) {
            Ok(Persistence::Redis(node)) => node,
            other => panic!("{arguments}: {other:?}"),
        };
        let usual = node("");
        assert_eq!(Some(usual.node_name), host_name());
        assert_eq!(usual.url, "redis://h");
        assert_eq!(
            (usual.lease, usual.isolation_limit),
            (Duration::from_secs(3), Duration::from_secs(60))
        );
        let node = node("--node-name rack-3.a --cluster-lease 1 --isolation-limit 1");
        assert_eq!(
            (&*node.node_name, node.isolation_limit),
            ("rack-3.a", Duration::from_secs(1))
        );
    }

    /// Each says what to do.
    #[test]
    fn contradictions_are_errors() {
        for (arguments, advice) in [
            ("--data-dir d --redis redis://h", "give one of them"),
            ("--persistence memory --data-dir d", "leave one of them out"),
            ("--persistence memory --redis redis://h", "leave one of them out"),
            (
                "--persistence redis --redis redis://h --data-dir d",
                "no use for --data-dir",
            ),
            (
                "--persistence disk --redis redis://h --data-dir d",
                "no use for --redis",
            ),
            ("--persistence disk", "--data-dir DIR"),
            ("--persistence redis", "--redis URL"),
            ("--durability os", "--data-dir DIR turns on"),
            ("--redis redis://h --durability os", "--data-dir DIR turns on"),
            ("--redis-prefix p", "--redis URL turns on"),
            ("--data-dir d --redis-wait 1", "--redis URL turns on"),
            ("--redis-fsync", "--redis URL turns on"),
            ("--redis redis://h --redis-cert c", "--redis-key"),
            ("--cluster-lease 1", "--redis URL turns on"),
            ("--redis redis://h --cluster-lease 0.1", "0.5 to 60"),
            ("--data-dir d --node-name n", "--redis URL turns on"),
            ("--isolation-limit 9", "--redis URL turns on"),
            ("--redis redis://h --node-name a/b", "letters, digits"),
            ("--redis redis://h --isolation-limit 2", "shorter than --cluster-lease"),
            ("--redis host:6379", "no URL"),
            ("--redis redis://h --redis-prefix a{b}", "letters, digits"),
            ("--persistence file", "invalid value"),
        ] {
            let error = settings(arguments).expect_err(arguments);
            assert!(error.contains(advice), "{arguments}: {error}");
        }
    }
}
