//! Servers that have lost what they had confirmed: who notices that, and what is put there again.

use super::testing::{Changes, LIMITS, Node, to};
use std::sync::Arc;

use crate::message::Message;
use crate::packet::QoS;
use crate::store::cluster::{ClusterOp, Publishing, Shared, Witness, bucket_of_uid};
use crate::store::redis::testing::{ALWAYS, RedisServer, publication};
use crate::store::{StoreError, Uid};

fn hw(uid: Uid) -> String {
    format!("mqtt:{{{}}}:hw", bucket_of_uid(uid))
}

fn queue(uid: Uid) -> String {
    format!("mqtt:{{{}}}:q:{uid}", bucket_of_uid(uid))
}

fn cut(server: &RedisServer) {
    server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
}

/// As a server that has taken over without the last changes of this bucket.
fn lose(server: &RedisServer, node: &Node, uid: Uid, number: u64) {
    server.command::<()>(&["HSET", &hw(uid), &node.id().to_string(), &number.to_string()]);
    server.command::<()>(&["DEL", &queue(uid)]);
    cut(server);
}

fn witness(uid: Uid, next: u64, sent: &[(u64, Option<&str>)]) -> Witness {
    let message = |payload: &str| Arc::new(Message::new(&publication("a/b", payload.as_bytes())));
    let sent = sent
        .iter()
        .map(|(place, payload)| (*place, payload.map(|payload| (message(payload), None))));
    let sent = sent.collect();
    Witness { uid, next, sent }
}

fn refused(result: Result<(), StoreError>) -> String {
    match result {
        Err(StoreError::Refused(why)) => why,
        other => panic!("{other:?} is not refused"),
    }
}

#[test]
fn what_was_confirmed_is_put_there_again() {
    let server = RedisServer::start(&[]);
    let settings = server.settings();
    let other = Node::join(&server);
    let node = Node::with(&server, &settings, LIMITS);
    let uid = other.begin("c", 1);
    let elsewhere = other.begin("d", 2);
    node.keep(&Changes::default().publish("before", &[to(uid), to(elsewhere)]));
    let kept: u64 = server.command(&["HGET", &hw(uid), &node.id().to_string()]);
    let long = "x".repeat(1000);
    node.keep(
        &Changes::default()
            .publish("short", &[to(uid), to(elsewhere)])
            .publish(&long, &[to(uid)]),
    );
    node.keep(&Changes::default().publish("last", &[to(uid)]));
    lose(&server, &node, uid, kept);
    let why = refused(node.try_to_keep(&Changes::default().publish("no", &[to(uid)])));
    assert!(why.contains("lost changes"), "{why}");
    node.store.hand_over(vec!["c".into()]);

    let next = Node::with(&server, &settings, LIMITS);
    let generation = next.store.generation();
    assert!(generation >= node.id() && generation >= other.id() && next.id() > generation);
    let inherited = next.store.inherited();
    assert_eq!(
        (inherited.nodes, inherited.clients),
        (vec![node.id()], vec!["c".into()])
    );
    // Who hears of it is over, whatever has come of its own.
    let why = refused(other.store.beat().map(drop));
    assert!(why.contains("lost writes"), "{why}");
    assert!(other.store.is_over());

    let again = next.store.append_again().expect("is done");
    assert_eq!((again.made, again.full, again.gone, again.forgotten), (3, 0, 0, 0));
    let payloads = |uid| {
        let queue = next.queue(uid).into_iter();
        queue
            .map(|entry| entry.split_once(' ').expect("a place").1.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(payloads(uid), ["short", &long, "last"]);
    // The other bucket had lost nothing.
    assert_eq!(payloads(elsewhere), ["before", "short"]);
    next.store.has_settled();
    assert!(next.store.inherited().nodes.is_empty());
    next.keep(&Changes::default().publish("after", &[to(uid)]));
}

#[test]
fn what_was_read_must_be_there_as_well() {
    let mut server = RedisServer::start(ALWAYS);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let uid = node.begin("c", 1);
    node.keep(&Changes::default().publish("a", &[to(uid)]));
    *node.told.witnesses.lock() = vec![witness(uid, 1, &[(0, Some("a"))])];
    server.restart();
    node.keep(&Changes::default().publish("b", &[to(uid)]));
    // Another node had put two messages there, was told nothing, and they are gone.
    *node.told.witnesses.lock() = vec![witness(uid, 4, &[])];
    cut(&server);
    node.keep(&Changes::default().publish("c", &[to(uid)]));
    server.restart();
    refused(node.try_to_keep(&Changes::default().publish("d", &[to(uid)])));
    let missing = node.store.life.missing();
    assert_eq!((missing.len(), missing.has_bucket(bucket_of_uid(uid))), (1, true));
    // A place that was given to another message.
    for (sent, is_there) in [
        (vec![(0, Some("a")), (1, Some("b")), (2, None)], true),
        (vec![(1, Some("x"))], false),
        (vec![(7, None)], false),
    ] {
        let node = Node::without_mirror(&server.settings(), LIMITS);
        let own = node.begin("d", 1);
        node.keep(&Changes::default().publish("x", &[to(own)]));
        *node.told.witnesses.lock() = vec![witness(uid, 3, &sent)];
        server.restart();
        let kept = node.try_to_keep(&Changes::default().publish("y", &[to(own)]));
        assert_eq!(kept.is_ok(), is_there, "{sent:?}: {kept:?}");
    }
}

/// It has nothing to write by which it would notice.
#[test]
fn who_is_idle_asks_a_new_server_as_well() {
    let mut server = RedisServer::start(ALWAYS);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let uid = node.begin("c", 1);
    assert!(node.store.beat().expect("is answered") && !node.store.owes());
    server.restart();
    assert!(node.store.beat().expect("is answered") && node.store.owes());
    node.keep(&Changes::default());
    assert!(!node.store.owes());
    server.restart();
    server.command::<()>(&["HSET", &hw(uid), &node.id().to_string(), "0"]);
    assert!(node.store.beat().expect("is answered") && node.store.owes());
    let why = refused(node.try_to_keep(&Changes::default()));
    assert!(why.contains("lost changes"), "{why}");
}

/// A message of a group goes to another member when the one that had it is gone.
#[test]
fn what_a_member_can_not_have_is_for_others() {
    let server = RedisServer::start(&[]);
    let settings = server.settings();
    let other = Node::join(&server);
    let node = Node::with(&server, &settings, LIMITS);
    let uid = other.begin("c", 1);
    let kept: u64 = server.command(&["HGET", &hw(uid), &node.id().to_string()]);
    let message = publication("a/b", b"shared");
    let share = super::testing::For(uid, Some("$share/g/a/b"));
    node.keep(&Changes::default().publish_as(&message, &Publishing::default(), &[share, to(uid)]));
    let session = format!("mqtt:{{{}}}:s:{uid}", bucket_of_uid(uid));
    server.command::<()>(&["DEL", &session]);
    lose(&server, &node, uid, kept);
    refused(node.try_to_keep(&Changes::default().publish("no", &[to(uid)])));
    node.store.hand_over(Vec::new());
    let next = Node::with(&server, &settings, LIMITS);
    let again = next.store.append_again().expect("is done");
    assert_eq!((again.made, again.gone), (0, 1));
    assert_eq!(again.for_others.len(), 1);
    assert_eq!(again.for_others[0].qos, QoS::AtLeastOnce);
    assert_eq!(again.for_others[0].message.payload(), b"shared");
}

/// Of a node that was declared dead nothing is left to do.
#[test]
fn who_was_declared_dead_leaves_nothing() {
    let server = RedisServer::start(&[]);
    let settings = server.settings();
    let (node, other) = (Node::with(&server, &settings, LIMITS), Node::join(&server));
    let uid = other.begin("c", 1);
    node.keep(&Changes::default().publish("a", &[to(uid)]));
    other.keep(&Changes::default().cluster(ClusterOp::Fence {
        bucket: bucket_of_uid(uid),
        node: node.id(),
    }));
    refused(node.try_to_keep(&Changes::default().publish("b", &[to(uid)])));
    node.store.hand_over(vec!["c".into()]);
    let next = Node::with(&server, &settings, LIMITS);
    assert_eq!(next.store.generation(), 0);
    assert!(next.store.inherited().nodes.is_empty());
    other.keep(&Changes::default().publish("c", &[to(uid)]));
}

/// Also if it was cut off while another server took over that has everything.
#[test]
fn who_was_declared_dead_beside_a_new_server_leaves_nothing() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let settings = server.settings();
    let (node, other) = (Node::with(&server, &settings, LIMITS), Node::join(&server));
    let uid = other.begin("c", 1);
    node.keep(&Changes::default().publish("a", &[to(uid)]));
    server.restart();
    let fence = |bucket| ClusterOp::Fence {
        bucket,
        node: node.id(),
    };
    other.keep(&(0..=u8::MAX).fold(Changes::default(), |changes, bucket| changes.cluster(fence(bucket))));
    refused(node.try_to_keep(&Changes::default().publish("b", &[to(uid)])));
    node.store.hand_over(vec!["c".into()]);
    let next = Node::with(&server, &settings, LIMITS);
    assert_eq!(next.store.generation(), 0);
    assert!(next.store.inherited().nodes.is_empty());
}
