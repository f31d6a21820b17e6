//! `broker ctl`: looks at a broker that runs, and intervenes, through its HTTP API.

mod changes;
mod cluster;
mod lists;
mod output;
mod request;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use request::Api;

/// Looks at a broker that runs, and intervenes, through its HTTP API (--http-port, --http-token-file).
#[derive(Clone, Debug, Args)]
pub(crate) struct Ctl {
    /// Where the HTTP listener of the broker is
    #[arg(
        long,
        env = "BROKER_HTTP_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:9883",
        global = true
    )]
    url: String,
    /// File with the token of the API; the variable BROKER_HTTP_TOKEN may have the token itself
    #[arg(long, env = "BROKER_HTTP_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print JSON, lists with one object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// The broker as a whole: version, uptime, listeners, counters
    #[command(visible_alias = "stats")]
    Node,
    /// The cluster that this broker is a node of: its nodes, and who recovers whom
    Cluster,
    /// Lists clients that are connected or have a session, in a cluster those of all nodes
    Clients(Which),
    /// Shows one client
    Client {
        /// Client Identifier
        id: String,
    },
    /// Disconnects a client (0x98, Administrative action)
    Kick {
        /// Client Identifier
        id: String,
        /// End its session as well, also if it is not connected
        #[arg(long)]
        session: bool,
    },
    /// Lists sessions
    Sessions(Which),
    /// Lists the subscriptions of a client, or of a Topic Filter
    Subscriptions(Subscriptions),
    /// Lists, prints and deletes retained messages
    #[command(subcommand)]
    Retained(Retained),
    /// Publishes a message
    Publish(Publish),
    /// Shows what is logged, or changes it until the next reload or start
    Log {
        /// Such as debug, or info,mqtt_broker::access=debug
        level: Option<String>,
    },
    /// Logs each packet of some clients
    #[command(subcommand)]
    Trace(Trace),
}

/// Which clients or sessions.
#[derive(Clone, Debug, Args)]
struct Which {
    /// Client Identifiers like this; * stands for any characters, ? for one
    #[arg(long, value_name = "PATTERN")]
    filter: Option<String>,
    /// With this user name
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// From this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Those that are connected only
    #[arg(long, conflicts_with = "disconnected")]
    connected: bool,
    /// Those that are not connected only
    #[arg(long)]
    disconnected: bool,
    /// No more than this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct Subscriptions {
    /// Those of this client
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Those with just this Topic Filter
    #[arg(long, value_name = "TOPIC_FILTER")]
    filter: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
enum Retained {
    /// Lists topics with a retained message
    List {
        /// Those that match this Topic Filter
        #[arg(default_value = "#")]
        filter: String,
    },
    /// Prints the payload of a retained message as it is
    Get {
        /// Its topic
        topic: String,
    },
    /// Deletes all retained messages that match
    Delete {
        /// The Topic Filter, or a topic
        filter: String,
    },
}

#[derive(Clone, Debug, Args)]
struct Publish {
    /// Topic
    #[arg(short, long)]
    topic: String,
    #[command(flatten)]
    payload: Payload,
    /// QoS: 0, 1 or 2
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Retain the message
    #[arg(short, long)]
    retain: bool,
    /// Time after which it expires
    #[arg(long, value_name = "SECONDS")]
    expiry: Option<u32>,
    /// Content Type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Response Topic
    #[arg(long, value_name = "TOPIC")]
    response_topic: Option<String>,
    /// Correlation Data
    #[arg(long, value_name = "TEXT")]
    correlation_data: Option<String>,
    /// User Property; several are allowed
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    user_property: Vec<(String, String)>,
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct Payload {
    /// The payload
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The payload is in this file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Read the payload from standard input
    #[arg(short, long)]
    stdin: bool,
    /// No payload: with --retain it clears the retained message
    #[arg(short, long)]
    null: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum Trace {
    /// Shows who is traced
    List,
    /// Traces these clients, too
    Add(Traced),
    /// Traces these clients no longer
    Remove(Traced),
    /// Traces nobody any more
    Clear,
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
struct Traced {
    /// Client Identifiers like this; * stands for any characters, ? for one
    #[arg(long, value_name = "PATTERN")]
    client: Vec<String>,
    /// All that connect from this address
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<IpAddr>,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does what the command says.
pub(crate) fn run(ctl: &Ctl) -> Result<(), String> {
    let api = Api::new(&ctl.url, ctl.token_file.as_deref())?;
    match &ctl.action {
        Action::Node => lists::node(&api, ctl.json),
        Action::Cluster => cluster::show(&api, ctl.json),
        Action::Clients(which) => lists::clients(&api, which, ctl.json),
        Action::Client { id } => lists::client(&api, id, ctl.json),
        Action::Kick { id, session } => changes::kick(&api, id, *session),
        Action::Sessions(which) => lists::sessions(&api, which, ctl.json),
        Action::Subscriptions(of) => lists::subscriptions(&api, of, ctl.json),
        Action::Retained(Retained::List { filter }) => lists::retained(&api, filter, ctl.json),
        Action::Retained(Retained::Get { topic }) => lists::retained_message(&api, topic),
        Action::Retained(Retained::Delete { filter }) => changes::delete_retained(&api, filter, ctl.json),
        Action::Publish(publish) => changes::publish(&api, publish),
        Action::Log { level } => changes::log(&api, level.as_deref(), ctl.json),
        Action::Trace(trace) => changes::trace(&api, trace, ctl.json),
    }
}
