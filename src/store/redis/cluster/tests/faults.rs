//! Connections that break at any byte, servers that forget, refuse or lose, and nodes that are dead.

use std::time::Duration;

use super::proxy::{CuttingProxy, Way};
use super::testing::{Changes, LIMITS, Node, log, subscribed, to, to_node};
use crate::store::cluster::{ClusterOp, Entry, Homes, Limits, bucket_of_uid};
use crate::store::redis::testing::{ALWAYS, Cluster, RedisServer};
use crate::store::{Store, StoreError, Uid};

/// Tries until it is kept.
pub(super) fn insist(node: &Node, changes: &Changes) {
    for _ in 0..3 {
        match node.try_to_keep(changes) {
            Ok(()) => return,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("is not kept");
}

/// What was told is what has become of the messages, or that this is not known.
fn assert_told(node: &Node, uids: &[Uid], arrived: &[String]) {
    for told in node.told.take() {
        let is_look = uids.iter().any(|uid| told == format!("look {uid}"));
        assert!(is_look || arrived.contains(&told), "{told}");
    }
}

/// Requests and replies are cut at places all over a batch, which has effect once.
#[test]
fn a_connection_may_break_at_any_byte() {
    let server = RedisServer::start_at_a_port(&[]);
    let proxy = CuttingProxy::start(server.port.expect("has one"));
    let mut settings = server.settings();
    settings.url = proxy.url();
    let node = Node::with(&server, &settings, LIMITS);
    let other = Node::join(&server);
    let uids = [node.begin("c", 1), node.begin("d", 2), node.begin("e", 3)];
    let mut cuts = 0;
    let mut round = 0;
    for (way, stride) in [(Way::ToServer, 61), (Way::ToNode, 3)] {
        for bytes in (0..).step_by(stride) {
            round += 1;
            let (one, two) = (format!("{round}-1"), format!("{round}-2"));
            let filter = format!("f/{round}");
            let changes = Changes::default()
                .publish(&one, &[to(uids[0]), to(uids[1]), to_node(other.id())])
                .log(subscribed(uids[0], &filter))
                .publish(&two, &[to(uids[0]), to(uids[2])]);
            let before: Vec<_> = uids.iter().map(|uid| node.queue(*uid).len()).collect();
            proxy.cut_after(way, bytes);
            insist(&node, &changes);
            let has_cut = proxy.has_cut();
            let last = |place: usize| node.queue(uids[place])[before[place]..].to_vec();
            assert_eq!(
                last(0),
                [format!("{} {one}", before[0]), format!("{} {two}", before[0] + 1)]
            );
            assert_eq!(last(1), [format!("{} {one}", before[1])]);
            assert_eq!(last(2), [format!("{} {two}", before[2])]);
            let arrived = [
                format!("arrived {} {} {one} AtLeastOnce", uids[0], before[0]),
                format!("arrived {} {} {two} AtLeastOnce", uids[0], before[0] + 1),
                format!("arrived {} {} {one} AtLeastOnce", uids[1], before[1]),
                format!("arrived {} {} {two} AtLeastOnce", uids[2], before[2]),
            ];
            assert_told(&node, &uids, &arrived);
            assert_eq!(log(&server).len() as u64, node.store.recent.position());
            if !has_cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 30, "{cuts} cuts");
    let inbox = format!("mqtt:{{{}}}:in:{}", other.id(), other.id());
    assert_eq!(server.command::<u64>(&["XLEN", &inbox]), round);
    assert_eq!(log(&server).len() as u64, 2 + round);
}

#[test]
fn a_node_that_is_fenced_writes_nothing_more() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let uid = one.begin("c", 1);
    two.keep(&Changes::default().cluster(ClusterOp::Fence {
        bucket: bucket_of_uid(uid),
        node: one.id(),
    }));
    let error = one
        .try_to_keep(&Changes::default().publish("a", &[to(uid)]))
        .expect_err("is fenced");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert_eq!(two.queue(uid), [""; 0]);
    // Also where it is not fenced.
    let error = one
        .try_to_keep(&Changes::default().log(Entry::End { uid }))
        .expect_err("is fenced");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
}

/// Nothing of the batch has to be written, so that no call tells it.
#[test]
fn a_dead_node_that_waits_for_the_log_learns_of_it() {
    let server = RedisServer::start(&[]);
    let mut settings = server.settings();
    settings.timeout = Duration::from_millis(100);
    let (one, two) = (Node::without_mirror(&settings, LIMITS), Node::join(&server));
    let message = Changes::default().publish("a", &[]);
    let error = one.try_to_keep(&message).expect_err("the log does not come");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    two.keep(&Changes::default().cluster(ClusterOp::Dead {
        node: one.id(),
        counter: 0,
        lost: Homes::default(),
    }));
    let error = one.try_to_keep(&message).expect_err("is dead");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
}

#[test]
fn scripts_may_be_forgotten() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    for round in 0..3 {
        server.command::<()>(&["SCRIPT", "FLUSH"]);
        let changes = Changes::default().publish("a", &[to(uid)]).log(Entry::End { uid: 7 });
        node.keep(&changes);
        assert_eq!(node.told.take(), [format!("arrived {uid} {round} a AtLeastOnce")]);
    }
    assert_eq!(log(&server).len(), 4);
}

/// The call that frees comes behind one of its home that Redis refuses.
#[test]
fn what_memory_has_no_room_for_is_written_later() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    node.keep(&Changes::default().publish("a", &[to(uid)]).publish("b", &[to(uid)]));
    node.told.take();
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let frees = Changes::default().done(uid, 0).log(Entry::End { uid: 7 });
    node.keep(&frees);
    assert_eq!(node.queue(uid), ["1 b"]);
    let gone = (0..600).map(|number| to(Uid::from(bucket_of_uid(uid)) | (1000 + number) << 8));
    let gone: Vec<_> = gone.collect();
    let takes = Changes::default()
        .publish("c", &[to(uid)])
        .publish("d", &gone)
        .publish("e", &[to(uid)]);
    let takes = takes.done(uid, 1).log(subscribed(uid, "x"));
    for _ in 0..2 {
        let error = node.try_to_keep(&takes).expect_err("there is no memory");
        assert!(error.to_string().contains("maxmemory"), "{error:?}");
    }
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    node.keep(&takes);
    assert_eq!(node.queue(uid), ["2 c", "3 e"]);
    let told = node.told.take();
    assert_eq!(told.len(), 602);
    assert_eq!(told[0], format!("arrived {uid} 2 c AtLeastOnce"));
    assert_eq!(told[601], format!("arrived {uid} 3 e AtLeastOnce"));
    assert_eq!(log(&server).len(), 3);
}

/// In one pipeline a later call of the home comes although an earlier one was refused.
#[test]
fn a_gap_is_filled() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    let bucket = bucket_of_uid(uid);
    // 4,000 changes are one call, and so the next ones another, which only frees.
    let changes = (0..4000).fold(Changes::default(), |changes, _| changes.publish("a", &[to(uid)]));
    let changes = changes.done(uid, 5).cluster(ClusterOp::Fence { bucket, node: 99 });
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = node.try_to_keep(&changes).expect_err("there is no memory");
    assert!(error.to_string().contains("maxmemory"), "{error:?}");
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    node.keep(&changes);
    assert_eq!(node.queue(uid).len(), LIMITS.queue_messages as usize - 1);
}

#[test]
fn a_server_that_has_lost_something_is_left() {
    let mut server = RedisServer::start(&["--appendonly", "no"]);
    let mut settings = server.settings();
    settings.timeout = Duration::from_secs(5);
    let node = Node::without_mirror(&settings, LIMITS);
    let uid = node.begin("c", 1);
    let home = format!("mqtt:{{{}}}:hw", bucket_of_uid(uid));
    // As after a failover to a replica that did not have the last call.
    server.command::<()>(&["HSET", &home, &node.id().to_string(), "0"]);
    let error = node
        .try_to_keep(&Changes::default().done(uid, 0))
        .expect_err("has lost a call");
    assert!(
        matches!(&error, StoreError::Refused(why) if why.contains("lost changes")),
        "{error:?}"
    );
    let node = Node::without_mirror(&settings, LIMITS);
    let uid = node.begin("d", 1);
    server.command::<()>(&[
        "HSET",
        &format!("mqtt:{{{}}}:hw", bucket_of_uid(uid)),
        &node.id().to_string(),
        "0",
    ]);
    server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let error = node
        .try_to_keep(&Changes::default().done(uid, 0))
        .expect_err("has lost a call");
    assert!(
        matches!(&error, StoreError::Refused(why) if why.contains("lost changes")),
        "{error:?}"
    );
    // Everything.
    let node = Node::without_mirror(&settings, LIMITS);
    let uid = node.begin("e", 1);
    server.restart();
    let error = node
        .try_to_keep(&Changes::default().done(uid, 0))
        .expect_err("has lost everything");
    assert!(
        matches!(&error, StoreError::Refused(why) if why.contains("is gone")),
        "{error:?}"
    );
}

#[test]
fn the_server_may_be_away() {
    let mut server = RedisServer::start(ALWAYS);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let uid = node.begin("c", 1);
    server.kill();
    let changes = Changes::default().done(uid, 0);
    let error = node.try_to_keep(&changes).expect_err("there is no server");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    server.restart();
    node.keep(&changes);
}

/// Tries until the replica has caught up.
fn keep_with_replica(node: &Node, changes: &Changes) {
    while let Err(error) = node.try_to_keep(changes) {
        assert!(error.to_string().contains("0 replicas"), "{error:?}");
    }
}

/// What was answered, but has not come to the replica, is not kept; it is not forgotten either.
#[test]
fn replicas_are_waited_for() {
    let server = RedisServer::start_at_a_port(&[]);
    let mut settings = server.settings();
    settings.wait = 1;
    settings.timeout = Duration::from_millis(500);
    let node = Node::without_mirror(&settings, LIMITS);
    let changes = Changes::default().claim("c", node.token(1));
    let error = node.try_to_keep(&changes).expect_err("there is no replica");
    assert!(error.to_string().contains("0 replicas"), "{error:?}");
    let port = server.port.expect("has one").to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    keep_with_replica(&node, &changes);
    let uid = node.uid(1, "c");
    keep_with_replica(&node, &Changes::default().open("c", node.token(1), uid));
    keep_with_replica(&node, &Changes::default().publish("a", &[to(uid)]));
    // The position is read by a write, which the replica must have as well.
    keep_with_replica(&node, &Changes::default().publish("b", &[]));
    assert_eq!(node.told.take(), [format!("arrived {uid} 0 a AtLeastOnce")]);
    let queue: u64 = replica.command(&["LLEN", &format!("mqtt:{{{}}}:q:{uid}", bucket_of_uid(uid))]);
    assert_eq!(queue, 3);
    drop(replica);
    let error = node
        .try_to_keep(&Changes::default().publish("c", &[to(uid)]))
        .expect_err("there is no replica");
    assert!(error.to_string().contains("0 replicas"), "{error:?}");
    let _replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    keep_with_replica(&node, &Changes::default().publish("c", &[to(uid)]));
    assert_eq!(node.told.take(), [format!("arrived {uid} 1 c AtLeastOnce")]);
}

/// Homes on several servers: the log is behind all of them.
#[test]
fn a_redis_cluster_has_the_homes() {
    let cluster = Cluster::start(3);
    let limits = Limits { ..LIMITS };
    let node = Node::without_mirror(&cluster.settings(), limits);
    let uids: Vec<_> = (1..9).map(|number| node.begin(&format!("c{number}"), number)).collect();
    let all: Vec<_> = uids.iter().map(|uid| to(*uid)).collect();
    node.keep(&Changes::default().publish("a", &all));
    for uid in &uids {
        assert_eq!(node.queue(*uid), ["0 a"]);
    }
    assert_eq!(node.told.take().len(), 8);
    let entry = subscribed(uids[0], "x");
    let changes = Changes::default().log(entry.clone()).publish("b", &all);
    std::thread::scope(|scope| {
        let keeping = scope.spawn(|| node.keep(&changes));
        while node.queue(uids[7]).len() < 2 {
            std::thread::yield_now();
        }
        node.apply(9, &entry);
        keeping.join().expect("is kept");
    });
    let mut sessions = 0;
    node.store.sessions(&mut |_| sessions += 1).expect("sessions");
    assert_eq!(sessions, 8);
}
