//! The broker's settings, with the defaults that `--help` states.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::packet::QoS;
use crate::session::QueueOverflow;

/// Limits and behaviour of a broker.
///
/// ```
/// # async fn example() {
/// let mut config = mqtt_broker::Config::default();
/// config.max_packet_size = 64 * 1024;
/// let broker = mqtt_broker::Broker::start(config);
/// # drop(broker); }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Bytes of the largest packet that a client may send; announced to MQTT 5.0 clients. At most 268,435,460.
    pub max_packet_size: u32,
    /// Connections at a time; further ones are refused (MQTT 5.0: 0x97).
    pub max_connections: usize,
    /// Connections of one address at a time, or of one IPv6 network of 64 bits; further ones are refused (MQTT 5.0: 0x97).
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Connections that a listener accepts in a second; further ones wait.
    pub connection_rate: Option<NonZeroU32>,
    /// PUBLISH packets of a client in a second. A client that sends more is not read from until it may again.
    pub message_rate: Option<NonZeroU32>,
    /// Bytes of a client in a second. A client that sends more is not read from until it may again.
    pub byte_rate: Option<NonZeroU32>,
    /// For how long a client may be over one of these rates without a pause before its connection is closed (MQTT 5.0:
    /// 0x96, 0x97). `None` holds it back for as long as it likes.
    pub max_throttled: Option<Duration>,
    /// Levels of a Topic Name or Topic Filter.
    pub max_topic_levels: usize,
    /// Bytes of a Topic Name or Topic Filter.
    pub max_topic_length: usize,
    /// Bytes of a Client Identifier.
    pub max_client_id_length: usize,
    /// QoS 1 and 2 messages that may be on their way to a client at a time; the client's own Receive Maximum may be
    /// lower.
    pub max_inflight: u16,
    /// QoS 1 and 2 messages that a client may have on their way to the broker; announced as Receive Maximum.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that may wait in a session.
    pub max_queued_messages: usize,
    /// Bytes that may wait in a session, or for a slow client.
    pub max_queued_bytes: usize,
    /// What gives way when a session's queue is full.
    pub queue_overflow: QueueOverflow,
    /// In a cluster, seconds for which a will waits at least when its broker shuts down: it is not published if the client is
    /// back by then.
    pub will_grace: u32,
    /// Subscriptions of one session.
    pub max_subscriptions: usize,
    /// Bytes of the Topic Filters of one session.
    pub max_subscription_bytes: usize,
    /// Bytes of memory that the process may take. From nine tenths of it, QoS 0 does not wait for slow clients, and clients
    /// without a session are refused (MQTT 5.0: 0x89); from the bound, messages of QoS 1 and 2 are not accepted (0x97).
    pub max_memory: Option<usize>,
    /// Retained messages in total.
    pub max_retained_messages: usize,
    /// Bytes of all retained messages.
    pub max_retained_bytes: usize,
    /// Topic Aliases that a client may set; 0 turns them off.
    pub topic_alias_maximum: u16,
    /// Topic Aliases that the broker sets for a client that allows them; 0 turns them off.
    pub topic_alias_maximum_out: u16,
    /// Time from the connection to a complete CONNECT.
    pub connect_timeout: Duration,
    /// Time after which a TCP connection whose peer has vanished is found out although nothing is sent on it. `None`
    /// leaves that to the Keep Alive of MQTT.
    pub tcp_keepalive: Option<Duration>,
    /// Seconds; a longer Keep Alive, or none, is replaced by this one (MQTT 5.0: Server Keep Alive). `None` accepts
    /// every Keep Alive.
    pub max_keep_alive: Option<u16>,
    /// Seconds for which a session may outlive its connection; `None` is no bound. Also holds for MQTT 3 clients
    /// without Clean Session.
    pub session_expiry_cap: Option<u32>,
    /// The highest QoS of publications.
    pub max_qos: QoS,
    /// Whether retained messages are supported.
    pub retain: bool,
    /// Whether clients may leave their Client Identifier to the broker.
    pub empty_client_id: bool,
    /// Time for which a client's socket may take nothing before it is closed.
    pub write_timeout: Duration,
    /// Time between updates of the `$SYS` topics; `None` turns them off.
    pub sys_interval: Option<Duration>,
    /// Publish `$SYS/<broker id>/…` with the names of Aedes beside `$SYS/broker/…`, and there also which clients come,
    /// go, subscribe and unsubscribe.
    pub aedes_sys_topics: bool,
    /// Time that a shutdown may take to flush to the clients.
    pub drain_timeout: Duration,
    /// Clients that are told in a second that the broker shuts down; all of them are within half of
    /// [`drain_timeout`](Config::drain_timeout). `None` is 1000 in a cluster, and any number else.
    pub drain_rate: Option<NonZeroU32>,
    /// Where clients are told to go when the broker shuts down (MQTT 5.0: Server Reference, with 0x9C).
    pub server_reference: Option<Arc<str>>,
    /// They are told to go there for good (0x9D).
    pub server_moved: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_packet_size: 1024 * 1024,
            max_connections: usize::MAX,
            max_connections_per_address: None,
            connection_rate: None,
            message_rate: None,
            byte_rate: None,
            max_throttled: None,
            max_topic_levels: 128,
            max_topic_length: 65_535,
            max_client_id_length: 65_535,
            max_inflight: u16::MAX,
            receive_maximum: u16::MAX,
            max_queued_messages: 1_000_000,
            max_queued_bytes: 64 * 1024 * 1024,
            queue_overflow: QueueOverflow::DropNew,
            will_grace: 10,
            max_subscriptions: 1_000_000,
            max_subscription_bytes: 16 * 1024 * 1024,
            max_memory: None,
            max_retained_messages: 10_000_000,
            max_retained_bytes: 1024 * 1024 * 1024,
            topic_alias_maximum: 32,
            topic_alias_maximum_out: 32,
            connect_timeout: Duration::from_secs(10),
            tcp_keepalive: None,
            max_keep_alive: None,
            session_expiry_cap: None,
            max_qos: QoS::ExactlyOnce,
            retain: true,
            empty_client_id: true,
            write_timeout: Duration::from_secs(30),
            sys_interval: Some(Duration::from_secs(10)),
            aedes_sys_topics: false,
            drain_timeout: Duration::from_secs(5),
            drain_rate: None,
            server_reference: None,
            server_moved: false,
        }
    }
}
