//! Options, their environment variables and their defaults.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command as Clap, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use tracing::Level;

use super::access::AccessOptions;
use super::config_command::ConfigCommand;
use super::config_file::ConfigFile;
use super::generate::{Completions, Manual};
use super::healthcheck::Healthcheck;
use super::listener_table::ListenerOptions;
use super::listening::Listening;
use super::listening::spec::Spec;
use super::logging::Filter;
use super::persistence::PersistenceOptions;
use super::rates::RateOptions;
use super::store_command::StoreCommand;
use super::values::{bytes, qos, seconds, seconds_or_never, switch};
use crate::cmd::acl::AclCommand;
use crate::cmd::bench::Bench;
use crate::cmd::ctl::Ctl;
use crate::cmd::passwd::Passwd;
use crate::cmd::publish::Publish;
use crate::cmd::subscribe::Subscribe;
use crate::{Config, QoS, QueueOverflow};

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Bench(Bench),
    Ctl(Ctl),
    Passwd(Passwd),
    Acl(AclCommand),
    Config(ConfigCommand),
    #[command(name = "pub")]
    Publish(Box<Publish>),
    #[command(name = "sub")]
    Subscribe(Box<Subscribe>),
    Store(StoreCommand),
    Healthcheck(Healthcheck),
    Completions(Completions),
    #[command(name = "man")]
    Manual(Manual),
}

/// An MQTT broker: MQTT 3.1, 3.1.1 and 5.0 on one port.
///
/// Without options it listens on port 1883 of all interfaces and accepts everybody.
/// Every option can also be given as an environment variable, whose name stands behind it.
#[derive(Debug, Parser)]
#[command(name = "broker", version, max_term_width = 110, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct Options {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// Configuration file, in TOML: options by their long names. Options and environment variables win over it
    #[arg(
        short,
        long,
        env = "BROKER_CONFIG",
        value_name = "FILE",
        help_heading = "Configuration"
    )]
    config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) listening: Listening,
    /// Connections at a time; further ones are refused [default: what the limit of open files allows]
    #[arg(long, env = "BROKER_MAX_CONNECTIONS", value_name = "N", help_heading = "Listening")]
    pub(super) max_connections: Option<usize>,
    /// Worker threads [default: one for each core]
    #[arg(long, env = "BROKER_THREADS", value_name = "N", value_parser = at_least_one, help_heading = "Listening")]
    pub(super) threads: Option<usize>,

    #[command(flatten)]
    pub(super) persistence: PersistenceOptions,

    #[command(flatten)]
    pub(super) access: AccessOptions,

    #[command(flatten)]
    pub(super) rates: RateOptions,

    /// Largest packet that a client may send; K, M and G are understood
    #[arg(long, env = "BROKER_MAX_PACKET_SIZE", value_name = "BYTES", default_value = "1M", value_parser = packet_size, help_heading = "Packets and topics")]
    max_packet_size: u32,
    /// Most levels of a topic; longer ones are refused
    #[arg(
        long,
        env = "BROKER_MAX_TOPIC_LEVELS",
        value_name = "N",
        default_value_t = 128,
        help_heading = "Packets and topics"
    )]
    max_topic_levels: usize,
    /// Most bytes of a topic; longer ones are refused
    #[arg(
        long,
        env = "BROKER_MAX_TOPIC_LENGTH",
        value_name = "BYTES",
        default_value_t = 65_535,
        help_heading = "Packets and topics"
    )]
    max_topic_length: usize,
    /// Highest QoS of publications: 0, 1 or 2
    #[arg(long, env = "BROKER_MAX_QOS", value_name = "QOS", default_value = "2", value_parser = qos, help_heading = "Packets and topics")]
    max_qos: QoS,
    /// Topic Aliases that a client may set (MQTT 5.0)
    #[arg(
        long,
        env = "BROKER_TOPIC_ALIAS_MAXIMUM",
        value_name = "N",
        default_value_t = 32,
        help_heading = "Packets and topics"
    )]
    topic_alias_maximum: u16,
    /// Topic Aliases that the broker sets for a client that allows them (MQTT 5.0)
    #[arg(
        long,
        env = "BROKER_TOPIC_ALIAS_MAXIMUM_OUT",
        value_name = "N",
        default_value_t = 32,
        help_heading = "Packets and topics"
    )]
    topic_alias_maximum_out: u16,

    /// Most bytes of a client identifier; longer ones are refused
    #[arg(
        long,
        env = "BROKER_MAX_CLIENT_ID_LENGTH",
        value_name = "BYTES",
        default_value_t = 65_535,
        help_heading = "Clients and sessions"
    )]
    max_client_id_length: usize,
    /// Whether clients may leave their client identifier to the broker: on or off
    #[arg(long, env = "BROKER_EMPTY_CLIENT_ID", value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set, help_heading = "Clients and sessions")]
    empty_client_id: bool,
    /// Time for a new connection to send its CONNECT
    #[arg(long, env = "BROKER_CONNECT_TIMEOUT", value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Clients and sessions")]
    connect_timeout: Duration,
    /// Longest keep alive; MQTT 5.0 clients are told to use it, MQTT 3 clients that want more are refused [default: any]
    #[arg(
        long,
        env = "BROKER_MAX_KEEP_ALIVE",
        value_name = "SECONDS",
        help_heading = "Clients and sessions"
    )]
    max_keep_alive: Option<u16>,
    /// Longest time for which a session is kept without its client; also for MQTT 3 without clean session [default: never]
    #[arg(long, env = "BROKER_SESSION_EXPIRY_CAP", value_name = "SECONDS|never", value_parser = seconds_or_never, help_heading = "Clients and sessions")]
    session_expiry_cap: Option<u32>,
    /// Most subscriptions of a session; further ones are refused
    #[arg(
        long,
        env = "BROKER_MAX_SUBSCRIPTIONS",
        value_name = "N",
        default_value_t = 1_000_000,
        help_heading = "Clients and sessions"
    )]
    max_subscriptions: usize,
    /// Most bytes of the topic filters of a session; K, M and G are understood
    #[arg(long, env = "BROKER_MAX_SUBSCRIPTION_BYTES", value_name = "BYTES", default_value = "16M", value_parser = bytes, help_heading = "Clients and sessions")]
    max_subscription_bytes: u64,
    /// Close a client whose socket has accepted nothing for this long
    #[arg(long, env = "BROKER_WRITE_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Clients and sessions")]
    write_timeout: Duration,
    /// Time that clients have to take what is left when the broker shuts down
    #[arg(long, env = "BROKER_DRAIN_TIMEOUT", value_name = "SECONDS", default_value = "5", value_parser = seconds, help_heading = "Clients and sessions")]
    drain_timeout: Duration,
    /// Clients that are told in a second that the broker shuts down; all are within half of --drain-timeout [default: 1000 in
    /// a cluster, else all at once]
    #[arg(
        long,
        env = "BROKER_DRAIN_RATE",
        value_name = "N",
        help_heading = "Clients and sessions"
    )]
    drain_rate: Option<NonZeroU32>,
    /// Where clients are told to go when the broker shuts down (MQTT 5.0: Server Reference, with 0x9C)
    #[arg(long, env = "BROKER_SERVER_REFERENCE", value_name = "SERVER", value_parser = server_reference, help_heading = "Clients and sessions")]
    server_reference: Option<String>,
    /// They are told to go there for good (0x9D)
    #[arg(
        long,
        env = "BROKER_SERVER_MOVED",
        requires = "server_reference",
        help_heading = "Clients and sessions"
    )]
    server_moved: bool,
    /// In a cluster: how long wills wait at least for their clients to be back, when this broker shuts down
    #[arg(
        long,
        env = "BROKER_WILL_GRACE",
        value_name = "SECONDS",
        default_value_t = 10,
        help_heading = "Operation"
    )]
    will_grace: u32,

    /// QoS 1 and 2 messages on their way to a client at a time; its own Receive Maximum may be lower
    #[arg(long, env = "BROKER_MAX_INFLIGHT", value_name = "N", default_value_t = 65_535, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Queues")]
    max_inflight: u16,
    /// QoS 1 and 2 messages on their way from a client at a time (Receive Maximum)
    #[arg(long, env = "BROKER_RECEIVE_MAXIMUM", value_name = "N", default_value_t = 65_535, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Queues")]
    receive_maximum: u16,
    /// QoS 1 and 2 messages that may wait in a session
    #[arg(
        long,
        env = "BROKER_MAX_QUEUED_MESSAGES",
        value_name = "N",
        default_value_t = 1_000_000,
        help_heading = "Queues"
    )]
    max_queued_messages: usize,
    /// Bytes that may wait in a session or for a slow client; K, M and G are understood
    #[arg(long, env = "BROKER_MAX_QUEUED_BYTES", value_name = "BYTES", default_value = "64M", value_parser = bytes, help_heading = "Queues")]
    max_queued_bytes: u64,
    /// What gives way when a session's queue is full
    #[arg(
        long,
        env = "BROKER_QUEUE_OVERFLOW",
        value_name = "POLICY",
        default_value = "drop-new",
        help_heading = "Queues"
    )]
    queue_overflow: Overflow,

    /// Whether retained messages are supported: on or off
    #[arg(long, env = "BROKER_RETAIN", value_name = "on|off", default_value = "on", value_parser = switch, action = clap::ArgAction::Set, help_heading = "Retained messages")]
    retain: bool,
    /// Retained messages in total
    #[arg(
        long,
        env = "BROKER_MAX_RETAINED_MESSAGES",
        value_name = "N",
        default_value_t = 10_000_000,
        help_heading = "Retained messages"
    )]
    max_retained_messages: usize,
    /// Bytes of all retained messages; K, M and G are understood
    #[arg(long, env = "BROKER_MAX_RETAINED_BYTES", value_name = "BYTES", default_value = "1G", value_parser = bytes, help_heading = "Retained messages")]
    max_retained_bytes: u64,

    /// Time between updates of the $SYS topics; 0 turns them off
    #[arg(long, env = "BROKER_SYS_INTERVAL", value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Operation")]
    sys_interval: Duration,
    /// Publish $SYS/<broker id>/… with the names of Aedes beside $SYS/broker/…
    #[arg(long, env = "BROKER_AEDES_SYS_TOPICS", help_heading = "Operation")]
    aedes_sys_topics: bool,
    /// Format of the log, which goes to standard error
    #[arg(
        long,
        env = "BROKER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Operation"
    )]
    pub(super) log_format: LogFormat,
    /// What is logged: off, error, warn, info, debug or trace, and besides MODULE=LEVEL, with commas [default: info]
    #[arg(
        long,
        env = "BROKER_LOG_LEVEL",
        value_name = "FILTER",
        conflicts_with_all = ["verbose", "quiet"],
        help_heading = "Operation"
    )]
    log_level: Option<Filter>,
    /// Log more: connections (-v, as --log-level debug), everything (-vv, trace)
    #[arg(short, long, env = "BROKER_VERBOSE", action = clap::ArgAction::Count, help_heading = "Operation")]
    verbose: u8,
    /// Log errors only (as --log-level error)
    #[arg(
        short,
        long,
        env = "BROKER_QUIET",
        conflicts_with = "verbose",
        help_heading = "Operation"
    )]
    quiet: bool,

    /// Those with settings of their own.
    #[arg(skip)]
    pub(super) listeners: Vec<ListenerOptions>,
    /// Set if the environment's port was not ours.
    #[arg(skip)]
    foreign_port: bool,
    /// Set if a password is on the command line.
    #[arg(skip)]
    shows_password: bool,
}

const EXAMPLES: &str = "\
Examples:
  broker                                  all interfaces, port 1883
  broker --host 127.0.0.1 --port 2883     this machine only
  broker --tls-cert cert.pem --tls-key key.pem --ws-port
                                          with TLS on 8883 and WebSocket on 8888 as well
  BROKER_PORT=2883 broker -v              by environment, logging connections";

/// [`QueueOverflow`] by its name on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Overflow {
    /// The new message is discarded
    DropNew,
    /// The oldest unsent messages are discarded
    DropOldest,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Options {
    /// Parses, or prints what is wrong (exit code 2), the help or the version (0), and ends the process.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Options {
        match Parsed::new(arguments.into_iter().collect()) {
            Ok(parsed) => parsed.options,
            Err(Fault::Parser(error)) => error.exit(),
            Err(Fault::File(reason)) => {
                eprintln!("broker: {reason}");
                std::process::exit(2);
            }
        }
    }

    /// What is logged.
    pub(super) fn log_filter(&self) -> Filter {
        let level = match (self.quiet, self.verbose) {
            (true, _) => Level::ERROR,
            (false, 0) => Level::INFO,
            (false, 1) => Level::DEBUG,
            (false, _) => Level::TRACE,
        };
        self.log_level.clone().unwrap_or_else(|| level.into())
    }

    /// To be called when logging has been set up.
    pub(super) fn warn_about_environment(&self) {
        if self.foreign_port {
            tracing::warn!(
                "BROKER_PORT is ignored: it looks like the one that Kubernetes sets for a Service named broker"
            );
        }
        if self.shows_password {
            tracing::warn!(
                "every user of this machine can see the password in --redis: give it with --redis-password-file, or in BROKER_REDIS"
            );
        }
    }

    /// Where there are tables of listeners, the ports that are open by default are not.
    fn close_unasked(&mut self, matches: &ArgMatches) {
        let is_default = |id| matches.value_source(id) == Some(ValueSource::DefaultValue);
        if self.listeners.is_empty() {
            return;
        }
        if is_default("port") {
            self.listening.close_tcp();
        }
        if is_default("tls_port") {
            self.listening.close_tls();
        }
    }

    /// What takes effect at the start alone.
    pub(super) fn fixed(&self) -> Fixed {
        let mut fixed = vec![
            ("threads", format!("{:?}", self.threads)),
            ("sys-interval", format!("{:?}", self.sys_interval)),
            ("aedes-sys-topics", self.aedes_sys_topics.to_string()),
            ("log-format", format!("{:?}", self.log_format)),
        ];
        fixed.extend(self.persistence.fixed());
        fixed
    }

    /// All that is to be listened on.
    pub(super) fn specs(&self) -> Result<Vec<Spec>, String> {
        if self.listeners.is_empty() {
            self.listening.check_names()?;
        }
        let mut specs = self.listening.specs(None, self.access.anonymous())?;
        for listener in &self.listeners {
            specs.extend(listener.specs()?);
        }
        if specs.is_empty() {
            return Err("nothing to listen on: with --no-tcp give --tls-cert, --ws-port or --unix-socket".to_owned());
        }
        for (index, spec) in specs.iter().enumerate() {
            if !spec.has_chosen_port() && specs[..index].iter().any(|other| other.at == spec.at) {
                return Err(format!("two listeners are to be at {}", spec.url(None)));
            }
        }
        Ok(specs)
    }

    /// Whether there are clients whose names are in their certificates.
    pub(super) fn has_certificate_names(&self) -> bool {
        let mut all = self.listeners.iter().map(|listener| &listener.options.listening);
        self.listening.has_certificate_names() || all.any(Listening::has_certificate_names)
    }

    pub(super) fn config(&self) -> Config {
        let mut config = Config {
            max_packet_size: self.max_packet_size,
            max_topic_levels: self.max_topic_levels,
            max_topic_length: self.max_topic_length,
            max_client_id_length: self.max_client_id_length,
            max_inflight: self.max_inflight,
            receive_maximum: self.receive_maximum,
            max_queued_messages: self.max_queued_messages,
            max_queued_bytes: usize::try_from(self.max_queued_bytes).unwrap_or(usize::MAX),
            queue_overflow: match self.queue_overflow {
                Overflow::DropNew => QueueOverflow::DropNew,
                Overflow::DropOldest => QueueOverflow::DropOldest,
            },
            max_subscriptions: self.max_subscriptions,
            max_subscription_bytes: usize::try_from(self.max_subscription_bytes).unwrap_or(usize::MAX),
            max_retained_messages: self.max_retained_messages,
            max_retained_bytes: usize::try_from(self.max_retained_bytes).unwrap_or(usize::MAX),
            topic_alias_maximum: self.topic_alias_maximum,
            topic_alias_maximum_out: self.topic_alias_maximum_out,
            connect_timeout: self.connect_timeout,
            tcp_keepalive: self.listening.tcp_keepalive.filter(|time| !time.is_zero()),
            max_keep_alive: self.max_keep_alive.filter(|seconds| *seconds > 0),
            session_expiry_cap: self.session_expiry_cap.filter(|seconds| *seconds != u32::MAX),
            max_qos: self.max_qos,
            retain: self.retain,
            empty_client_id: self.empty_client_id,
            write_timeout: self.write_timeout,
            sys_interval: Some(self.sys_interval).filter(|interval| !interval.is_zero()),
            aedes_sys_topics: self.aedes_sys_topics,
            drain_timeout: self.drain_timeout,
            drain_rate: self.drain_rate,
            server_reference: self.server_reference.as_deref().map(Arc::from),
            server_moved: self.server_moved,
            will_grace: self.will_grace,
            ..Config::default()
        };
        self.rates.set(&mut config);
        config
    }
}

/// Settings by name, and their values in words.
pub(super) type Fixed = Vec<(&'static str, String)>;

/// The options, and where they come from.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) options: Options,
    pub(super) matches: ArgMatches,
    pub(super) file: Option<ConfigFile>,
}

/// Why there are no options.
#[derive(Debug)]
pub(super) enum Fault {
    /// Of the command line, the help included.
    Parser(clap::Error),
    /// Of the configuration file.
    File(String),
}

impl From<clap::Error> for Fault {
    fn from(error: clap::Error) -> Fault {
        Fault::Parser(error)
    }
}

impl Parsed {
    /// From the arguments, the environment, and the file that they name, in this order.
    pub(super) fn new(arguments: Vec<OsString>) -> Result<Parsed, Fault> {
        let foreign_port = is_foreign_port(std::env::var("BROKER_PORT").ok().as_deref());
        let mut command = Options::command();
        if foreign_port {
            command = command.mut_arg("port", |port| port.env(None::<&'static str>));
        }
        let file = config_file(&command, &arguments)?;
        let merged = match &file {
            Some((file, given)) => file.merge(&arguments, given, &command),
            None => arguments,
        };
        let file = file.map(|(file, _)| file);
        let fault = |error: clap::Error| match &file {
            Some(file) if error.use_stderr() => Fault::File(file.explain(&error)),
            _ => Fault::Parser(error),
        };
        let matches = command.clone().try_get_matches_from(&merged).map_err(fault)?;
        let mut options = Options::from_arg_matches(&matches)?;
        options.foreign_port = foreign_port;
        if options.command.is_none() {
            let contradiction = |reason| fault(command.error(ErrorKind::ArgumentConflict, reason));
            options.persistence.settings().map_err(contradiction)?;
            let is_typed = matches.value_source("redis") == Some(ValueSource::CommandLine)
                && !file.as_ref().is_some_and(|file| file.has("redis"));
            options.shows_password = is_typed && options.persistence.has_password_in_url();
        }
        if let Some(file) = &file {
            options.listeners = file.listeners(&merged, &command).map_err(Fault::File)?;
        }
        options.close_unasked(&matches);
        Ok(Parsed { options, matches, file })
    }
}

/// The file, and what is given besides, if a file is named and the command line is right without it.
fn config_file(command: &Clap, arguments: &[OsString]) -> Result<Option<(ConfigFile, ArgMatches)>, Fault> {
    // What the file must add is not there yet.
    let lenient = command.clone().ignore_errors(true);
    let given = lenient.try_get_matches_from(arguments)?;
    let Some(path) = given
        .get_one::<PathBuf>("config")
        .filter(|_| given.subcommand().is_none())
    else {
        return Ok(None);
    };
    let file = ConfigFile::read(path, command).map_err(Fault::File)?;
    Ok(Some((file, given)))
}

/// Kubernetes sets `BROKER_PORT=tcp://10.0.0.1:1883` for a Service named `broker`.
fn is_foreign_port(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.starts_with("tcp://"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

/// Bytes of the longest Server Reference: DISCONNECT has to fit into what clients accept.
const LONGEST_REFERENCE: usize = 1024;

/// Several servers may be named, with spaces between.
fn server_reference(text: &str) -> Result<String, String> {
    match text.len() {
        1..=LONGEST_REFERENCE if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!(
            "expected up to {LONGEST_REFERENCE} bytes, such as other.example:1883"
        )),
    }
}

/// The largest packet that the protocol has: 268,435,455 bytes behind a fixed header of 5.
const LARGEST_PACKET: u64 = 268_435_460;
/// Below this no client could connect.
const SMALLEST_PACKET: u64 = 64;

fn packet_size(text: &str) -> Result<u32, String> {
    match bytes(text)? {
        size @ SMALLEST_PACKET..=LARGEST_PACKET => Ok(size as u32),
        _ => Err(format!("must be between {SMALLEST_PACKET} and {LARGEST_PACKET}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let options = Options::parse(["broker".into()]);
        let (from_options, default) = (format!("{:?}", options.config()), format!("{:?}", Config::default()));
        assert_eq!(from_options, default);
    }

    #[test]
    fn a_port_from_kubernetes_is_recognised() {
        assert!(is_foreign_port(Some("tcp://10.96.0.12:1883")));
        assert!(!is_foreign_port(Some("1883")));
        assert!(!is_foreign_port(None));
    }
}
