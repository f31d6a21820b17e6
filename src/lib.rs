//! An MQTT broker for MQTT 3.1, 3.1.1 and 5.0: the `broker` binary as a library.
//!
//! A program embeds a broker with [`Broker`], sets its limits with [`Config`], decides who may do what with
//! [`Hooks`], and follows what happens with [`Events`].

mod access;
mod api;
mod broker;
mod config;
mod connection;
mod events;
mod handlers;
mod hooks;
mod identity;
mod message;
mod rate;
mod server;
mod session;
mod stats;
mod store;
mod time;
mod transport;
mod wire;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod client;
#[cfg(feature = "cli")]
mod cmd;
pub mod codec;
pub mod packet;
pub mod properties;
pub mod reason;
pub mod router;
pub mod topic;

#[cfg(feature = "http-auth")]
pub use access::HttpAuthSettings;
pub use access::{
    Access, AccessError, AccessSettings, ClientIdRule, DeniedPublish, WideSubscriptions, hash_password,
    hash_password_scram,
};
#[cfg(feature = "jwt")]
pub use access::{JwtAlgorithm, JwtFrom, JwtKeys, JwtSettings};
pub use api::{Broker, Builder};
/// What [`Hooks`] is made with, so that programs need not depend on the same version of its crate.
pub use async_trait::async_trait;
pub use broker::TraceTargets;
pub use broker::inspect::{
    BadCursor, ClientPage, ClientQuery, ClientState, ClusterError, ClusterNode, ClusterState, Disconnected, NodeRef,
    NodeState, Recovery, RetainedPage, Subscriber, SubscriberPage, SubscriptionPage, SubscriptionState,
};
pub use broker::program::{PublishError, ReceivedMessage, SubscribeError, Subscription};
pub use config::Config;
pub use events::{Event, Events, NextEvent};
pub use hooks::{ConnectRequest, ForwardVerdict, Hooks, Interests, PublishRequest, PublishVerdict, SubscribeVerdict};
pub use identity::{ClientCertificate, ClientInfo, Peer, Transport, UpgradeRequest};
pub use message::{Message, NewMessage};
pub use packet::{QoS, SubscriptionOptions, Version};
pub use properties::{Properties, PropertiesBuilder, Property};
pub use reason::ReasonCode;
pub use server::Listener;
pub use session::QueueOverflow;
pub use stats::Discard;
pub use store::{DiskSettings, Durability, Persistence, RedisSettings, StoreError};
pub use time::Millis;
pub use topic::{TopicError, TopicFilter};
pub use transport::{CertificateName, ClientAuth, Tls, TlsError, TlsSettings, TrustedProxies, WebSocket};
