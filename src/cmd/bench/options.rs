//! The command line of `broker bench`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::account::STAMP_SIZE;
use super::process::Process;
use super::socket::Layers;
use crate::packet::{QoS, Version};

/// A load generator for any MQTT broker. It runs on one thread, and accounts for every message.
#[derive(Clone, Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(super) shape: Shape,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Shape {
    /// Pairs of one publisher and one subscriber
    P2p {
        /// Pairs
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        pairs: u32,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// One publisher, many subscribers
    Fanout {
        /// Subscribers
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
        subscribers: u32,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// Many publishers, one subscriber with a wildcard
    Fanin {
        /// Publishers
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        publishers: u32,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// Many publishers, and a Shared Subscription
    Shared {
        /// Publishers
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        publishers: u32,
        /// Members of the Shared Subscription
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        members: u32,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// Publishers that change the topic with each message, among many filters: most exact, some with + or #
    Match {
        /// Publishers
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        publishers: u32,
        /// Topics that are published to
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        topics: u32,
        /// Topic Filters; three of them match each topic
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
        filters: u32,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// Pairs at a fixed rate: time from when a message should have been sent until it arrives
    Latency {
        /// Pairs
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        pairs: u32,
        #[command(flatten)]
        traffic: TrafficOptions,
    },
    /// Clients that connect and stay
    Conn {
        /// Clients
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
        clients: u32,
        /// Each of them subscribes to a topic of its own
        #[arg(long)]
        subscribe: bool,
        /// Subscriptions of each client, instead: 60 % exact, 30 % with +, 10 % with #
        #[arg(long, value_name = "N", default_value_t = 0)]
        subscriptions: u32,
        /// Sessions outlive their connections, until the run ends
        #[arg(long)]
        persistent: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Retained messages, and a subscriber that gets them all
    Retained {
        /// Retained messages
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        topics: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Messages for sessions whose clients are away, and their return
    Offline {
        /// Sessions, each of which gets all messages
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50_000))]
        subscribers: u32,
        /// Messages
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        messages: u32,
        #[command(flatten)]
        common: Common,
    },
}

/// Options of all shapes.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Where the broker is
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its port [default: 1883, 8883 with --tls, 8888 with --ws, 8889 with --wss]
    #[arg(short, long)]
    port: Option<u16>,
    /// Over TLS
    #[arg(long, requires = "ca", conflicts_with_all = ["ws", "wss"])]
    tls: bool,
    /// Over WebSocket
    #[arg(long, conflicts_with = "wss")]
    ws: bool,
    /// Over WebSocket within TLS
    #[arg(long, requires = "ca")]
    wss: bool,
    /// The authority that the broker's certificate leads to, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Path of the WebSocket
    #[arg(long, default_value = "/mqtt")]
    path: String,
    /// Protocol version
    #[arg(long, value_name = "VERSION", default_value = "3.1.1")]
    mqtt: Mqtt,
    /// QoS of messages and subscriptions: 0, 1 or 2
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Bytes of a payload, at least 20
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = payload)]
    pub(super) payload: usize,
    /// Messages of a publisher that are under way at a time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(super) window: u64,
    /// Keep Alive of the clients, in seconds; they send no PINGREQ, so it must be longer than the run
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) keep_alive: u16,
    /// User name
    #[arg(long)]
    pub(super) username: Option<String>,
    /// Password; other users of this machine can see it
    #[arg(long)]
    pub(super) password: Option<String>,
    /// Process id of the broker, on this machine, to be told what it costs
    #[arg(long)]
    pid: Option<u32>,
    /// Say `mark` on standard error when what is measured begins, and when it ends
    #[arg(long)]
    pub(super) marks: bool,
    /// Print the figures as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of the shapes whose messages flow for a time.
#[derive(Clone, Debug, Args)]
pub(super) struct TrafficOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Seconds that are measured
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    duration: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warmup: f64,
    /// Messages a second of all publishers together, instead of as many as the window allows
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rate: Option<u32>,
    /// User Properties of each message (MQTT 5.0)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) user_properties: u8,
    /// Further subscribers of the first topic that never read
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) frozen: u32,
    /// Subscriptions that come and go each second besides
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) churn: u32,
    /// Sessions of the subscribers outlive their connections, until the run ends
    #[arg(long)]
    pub(super) persistent: bool,
    /// Where subscribers connect instead, in turn: to other nodes of a cluster, which are given half a second to learn of it
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub(super) subscriber_ports: Vec<u16>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mqtt {
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5")]
    V5,
}

impl Common {
    pub(super) fn address(&self) -> Result<SocketAddr, String> {
        let port = self.port.unwrap_or(match (self.tls, self.ws, self.wss) {
            (true, _, _) => 8883,
            (_, true, _) => 8888,
            (_, _, true) => 8889,
            _ => 1883,
        });
        let found = (self.host.as_str(), port).to_socket_addrs();
        let mut found = found.map_err(|error| format!("--host {}: {error}", self.host))?;
        found
            .next()
            .ok_or_else(|| format!("--host {}: has no address", self.host))
    }

    /// What lies between the sockets and MQTT.
    pub(super) fn layers(&self) -> Result<Layers, String> {
        Ok(Layers {
            tls: if self.tls || self.wss {
                Some(self.tls_config()?)
            } else {
                None
            },
            websocket: (self.ws || self.wss).then(|| (self.path.clone(), self.host.clone())),
        })
    }

    fn tls_config(&self) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
        let Some(path) = &self.ca else {
            return Err("--tls needs --ca".to_owned());
        };
        let error = |error: &dyn std::fmt::Display| format!("--ca {}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(path).map_err(|fault| error(&fault))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|fault| error(&fault))?;
            roots.add(certificate).map_err(|fault| error(&fault))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|fault| error(&fault))?.with_root_certificates(roots);
        let mut config = builder.with_no_client_auth();
        // Each connection costs what a new client costs.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(self.host.clone()).map_err(|fault| error(&fault))?;
        Ok((Arc::new(config), name))
    }

    pub(super) fn version(&self) -> Version {
        match self.mqtt {
            Mqtt::V311 => Version::V311,
            Mqtt::V5 => Version::V5,
        }
    }

    pub(super) fn qos(&self) -> QoS {
        QoS::from_u8(self.qos).unwrap_or_default()
    }

    pub(super) fn broker(&self) -> Option<Process> {
        self.pid.map(Process::Other)
    }
}

impl TrafficOptions {
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }

    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds @ 0.0..=86_400.0) => Ok(seconds),
        _ => Err("must be seconds from 0 to 86400".to_owned()),
    }
}

fn payload(text: &str) -> Result<usize, String> {
    const MOST: usize = 200_000_000;
    match text.parse() {
        Ok(bytes @ STAMP_SIZE..=MOST) => Ok(bytes),
        _ => Err(format!("must be between {STAMP_SIZE} and {MOST}")),
    }
}
