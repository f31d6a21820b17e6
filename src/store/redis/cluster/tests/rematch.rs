//! Messages that were under way when somebody subscribed.

use super::faults::insist;
use super::proxy::{CuttingProxy, Way};
use super::testing::{Changes, For, LIMITS, Node, subscribed, to};
use crate::store::cluster::{Once, Publishing, bucket_of_uid};
use crate::store::redis::testing::{RedisServer, publication};

/// What was applied before the batch is kept, and after it had been open.
#[test]
fn what_was_added_before_the_calls_gets_the_messages_in_their_order() {
    let server = RedisServer::start(&[]);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let (one, other) = (node.begin("c", 1), node.begin("d", 2));
    node.apply(2, &subscribed(other, "old"));
    node.apply(3, &subscribed(other, "a/+"));
    // The second message was matched with it.
    let changes = Changes::default()
        .publish("1", &[to(one)])
        .publish("2", &[to(one), to(other)]);
    node.keep(&changes.publish("3", &[]));
    assert_eq!(node.queue(other), ["0 1", "1 2", "2 3"]);
    assert_eq!(node.queue(one), ["0 1", "1 2"]);
    // Those of later batches were, too.
    node.keep(&Changes::default().publish("4", &[to(one)]));
    assert_eq!(node.queue(other).len(), 3);
}

/// A batch of messages for nobody is read if there is somebody by now.
#[test]
fn a_batch_for_nobody_is_read_if_something_was_added() {
    let server = RedisServer::start(&[]);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let other = node.begin("d", 1);
    assert!(node.passes());
    node.apply(2, &subscribed(other, "old"));
    assert!(node.passes());
    node.apply(4, &subscribed(other, "a/+"));
    assert!(!node.passes());
    node.keep(&Changes::default().publish("1", &[]));
    assert_eq!(node.queue(other), ["0 1"]);
    assert!(node.passes());
}

/// The same if that is in the log, and applied only while the batch is being kept.
#[test]
fn a_batch_for_nobody_waits_for_the_log() {
    let server = RedisServer::start(&[]);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let other = node.begin("d", 1);
    let two = Node::join(&server);
    let entry = subscribed(other, "a/b");
    two.keep(&Changes::default().log(entry.clone()));
    std::thread::scope(|scope| {
        let passes = scope.spawn(|| node.passes());
        while node.store.recent.position() < two.store.recent.position() {
            node.apply(2, &entry);
        }
        assert!(!passes.join().expect("is kept"));
    });
    node.keep(&Changes::default().publish("2", &[]));
    assert_eq!(node.queue(other), ["0 2"]);
}

/// What is applied only while the batch is being kept: another node has written it to the log before.
#[test]
fn what_was_added_during_the_calls_gets_the_messages_once() {
    let server = RedisServer::start_at_a_port(&[]);
    let proxy = CuttingProxy::start(server.port.expect("has one"));
    let mut settings = server.settings();
    settings.url = proxy.url();
    let node = Node::without_mirror(&settings, LIMITS);
    let two = Node::join(&server);
    let one = node.begin("c", 1);
    let mut batch = 1;
    for (way, stride) in [(Way::ToServer, 41), (Way::ToNode, 3)] {
        for bytes in (0..).step_by(stride) {
            batch += 1;
            let other = two.begin(&format!("d{batch}"), batch);
            let filter = format!("a/{batch}");
            let entry = subscribed(other, &filter);
            two.keep(&Changes::default().log(entry.clone()));
            let changes = [b"m", b"n"].into_iter().fold(Changes::default(), |changes, payload| {
                changes.publish_as(&publication(&filter, payload), &Publishing::default(), &[to(one)])
            });
            let before = two.queue(one).len();
            std::thread::scope(|scope| {
                scope.spawn(|| insist(&node, &changes));
                while two.queue(one).len() < before + 2 {
                    std::thread::yield_now();
                }
                proxy.cut_after(way, bytes);
                while node.store.recent.position() < two.store.recent.position() {
                    node.apply(u64::from(batch), &entry);
                }
            });
            assert_eq!(two.queue(other), ["0 m", "1 n"]);
            assert_eq!(two.queue(one).len(), before + 2);
            if !proxy.has_cut() {
                break;
            }
        }
    }
}

/// Whoever routes it again finds that the one that was added has had it.
#[test]
fn what_must_have_effect_once_has_it_also_there() {
    let server = RedisServer::start(&[]);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let other = node.begin("d", 1);
    node.apply(2, &subscribed(other, "a/+"));
    let (mid, of) = (node.mid(1), node.id());
    let publish = |to: &[For<'_>]| {
        let publishing = Publishing {
            once: Some(Once { mid, of, bucket: 0 }),
            ..Publishing::default()
        };
        Changes::default().publish_as(&publication("a/b", b"m"), &publishing, to)
    };
    node.keep(&publish(&[]));
    node.keep(&publish(&[to(other)]));
    assert_eq!(node.queue(other), ["0 m"]);
    let key = format!("mqtt:{{{}}}:m2", bucket_of_uid(other));
    let noted: String = server.command(&["HGET", &key, &mid.to_string()]);
    assert_eq!(noted, format!("{of} {other}"));
}
