//! What the conformance tests share: a broker process, and a client that speaks raw bytes or typed packets.
//!
//! A test reads like a script:
//!
//! ```ignore
//! mod common;
//! use common::*;
//!
//! /// A message goes to a matching subscription [MQTT-3.3.4-1].
//! #[test]
//! fn forwards_to_a_matching_subscription() {
//!     for version in Version::ALL {
//!         let broker = Broker::start(&[]);
//!         let mut alice = broker.connect(Connect::new(version, "alice"));
//!         let mut bob = broker.connect(Connect::new(version, "bob"));
//!         alice.subscribe("a/+", 1);
//!         bob.publish("a/b", "hello", 1); // the whole handshake
//!         let message = alice.message(); // the next packet must be a PUBLISH; it is acknowledged
//!         assert_eq!((message.topic.as_str(), message.qos), ("a/b", 1));
//!         alice.assert_nothing_from(&mut bob); // and nothing else came
//!     }
//! }
//! ```
//!
//! Rules of the house:
//!
//! * Encoder and decoder ([`wire`], [`packet`]) are written from the specification and share no code with the broker:
//!   what they have in common with it is the standard. The decoder is strict; each packet that any test receives is
//!   checked for reserved bits, minimal lengths, scope and multiplicity of properties, and left-over bytes.
//! * No sleep stands for a synchronisation. Everything that is expected is awaited, for at most [`DEADLINE`]; an
//!   absence is proved by a sentinel: [`Client::ping`], [`Client::assert_nothing_from`].
//! * The doc comment of a test says what it proves and names the statements: `[MQTT-…]` is MQTT 5.0's, `[MQTT3-…]`
//!   is MQTT 3.1.1's. `tests/conformance.md` lists them all, and `tests/conformance.rs` compares the two.
//! * With `CONF_BROKER_ADDR=127.0.0.1:1883` in the environment the tests talk to that broker instead of starting one,
//!   to see how another implementation answers (limits given to [`Broker::start`] are then ignored); with
//!   `CONF_BROKER_BIN=path` they start that program.
//! * With `CONF_TRANSPORT=tls`, `ws` or `wss` the tests of the protocol run over that one. What is below MQTT is reached
//!   through [`Client::stream`].
//! * With `CONF_PERSISTENCE=disk`, `disk-os`, `redis` or `faulty` each broker keeps its state there, in a place of its own;
//!   with `cluster` it is a cluster of three nodes in Redis, and connections go to one after the other; `faulty` is a store
//!   that fails now and then, for which the program is built with the feature `faults`.

// Each integration test is a crate of its own and uses a part of this.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)]

mod broker;
pub mod certificates;
mod client;
pub mod cluster;
pub mod endpoint;
pub mod packet;
pub mod persistence;
mod scenes;
mod stream;
mod transport;
pub mod websocket;
pub mod wire;

pub use broker::Broker;
pub use client::Client;
pub use cluster::{CLUSTER_LEASE, Cluster};
pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, Prop, Props, Publish, Suback, Subscribe, Unsuback, Unsubscribe,
    Version, Will, code,
};
pub use scenes::Bystander;
pub use stream::Stream;
pub use transport::Transport;

use std::time::{Duration, Instant};

/// How long an expected packet may take: generous, because a loaded machine must not fail a test.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds; panics with `what` when it does not within [`DEADLINE`].
///
/// Only for what no packet announces (a counter, memory of the process): everything else is awaited on a socket.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "still not so after {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asserts that `start` lies at least `least` and at most `most` seconds back.
pub fn assert_elapsed(start: Instant, least: f64, most: f64) {
    let seconds = start.elapsed().as_secs_f64();
    assert!(
        (least..=most).contains(&seconds),
        "took {seconds:.2} s; expected {least} to {most} s"
    );
}

/// The value of a header, whose name is given in lower case, in the head of an HTTP message.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    Some(value.trim())
}
