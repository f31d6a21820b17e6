//! Nodes that leave.

use super::testing::{Changes, For, LIMITS, Node, log, to};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{ClusterOp, Entry, How, Publishing, RouteKind, Shared, bucket_of_client, bucket_of_uid};
use crate::store::redis::testing::{Cluster, RedisServer, publication};
use crate::store::{Store, StoreError};

fn keys(server: &RedisServer, pattern: &str) -> Vec<String> {
    server.command(&["KEYS", pattern])
}

fn release(client_id: &str, node: &Node, number: u64) -> Changes {
    Changes::default().cluster(ClusterOp::Release {
        client_id,
        token: node.token(number),
        how: How::Clean,
        expiry_interval: 0,
        mid: node.mid(number),
    })
}

#[test]
fn a_node_leaves_when_nothing_is_left() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let uid = one.begin("c", 1);
    one.keep(&Changes::default().log(Entry::Route {
        node: one.id(),
        filter: "x",
        kind: RouteKind::All,
    }));
    two.keep(&Changes::default().publish("a", &[For(uid, Some("$share/g/a")), super::testing::to_node(one.id())]));
    let bucket = bucket_of_client("c");
    assert_eq!(one.store.depart(), Ok(vec![bucket]), "the client");
    // Nothing has been given up, nowhere.
    assert_eq!(
        keys(&server, &format!("mqtt:{{{}}}:in:{}", one.id(), one.id())).len(),
        1
    );
    one.keep(&release("c", &one, 1));
    assert_eq!(one.store.depart(), Ok(vec![bucket]), "the rest");
    let mid = one.mid(1);
    let once = Publication {
        qos: QoS::ExactlyOnce,
        ..publication("a/b", b"x")
    };
    let other = two.begin("d", 1);
    let finish = Changes::default().cluster(ClusterOp::FinishRest { uid, mid });
    one.keep(&finish.publish_as(&once, &Publishing::default(), &[For(other, Some("$share/g/a"))]));
    assert_eq!(
        one.store.depart(),
        Ok(vec![bucket_of_uid(other)]),
        "what is to be forgotten"
    );
    assert!(one.store.owes());
    one.keep(&Changes::default());
    assert_eq!(one.store.depart(), Ok(vec![]));
    assert_eq!(one.store.depart(), Ok(vec![]), "may be repeated");
    let own = one.id().to_string();
    for bucket in 0..=255 {
        let hw = format!("mqtt:{{{bucket}}}:hw");
        let [number, top]: [Option<String>; 2] = server.command(&["HMGET", &hw, &own, "top"]);
        assert_eq!((number, top), (None, Some(own.clone())));
    }
    assert_eq!(keys(&server, &format!("*:in*:{own}")), [""; 0]);
    // It may say something still, but to buckets.
    one.keep(&Changes::default().log(Entry::End { uid }));
    assert_eq!(one.store.beat(), Ok(true));
    assert_eq!(one.store.bye(), Ok(()));
    assert_eq!(one.store.bye(), Ok(()));
    assert!(matches!(one.store.beat(), Err(StoreError::Unavailable(why)) if why.contains("has left")));
    let error = one.try_to_keep(&Changes::default().publish("b", &[to(uid)]));
    assert!(matches!(error, Err(StoreError::Unavailable(why)) if why.contains("has left")));
    for key in ["mqtt:{g}:nodes", "mqtt:{g}:hw"] {
        assert!(!server.command::<bool>(&["HEXISTS", key, &own]), "{key}");
    }
    assert_eq!(keys(&server, "mqtt:{g}:f"), [""; 0]);
    assert_eq!(keys(&server, "mqtt:{g}:rec"), [""; 0]);
    assert!(
        log(&server)
            .last()
            .expect("an entry")
            .ends_with(&format!(" Dead({own})"))
    );
    two.keep(&Changes::default().publish("c", &[to(other)]));
}

/// The answer of the last step was lost: the connection is made anew, and it is asked again.
#[test]
fn each_step_may_be_repeated() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    for step in [
        |node: &Node| node.store.depart().map(drop),
        |node: &Node| node.store.bye(),
    ] {
        step(&node).expect("is done");
        server.command::<u32>(&["CLIENT", "KILL", "TYPE", "normal"]);
        let again = (0..3).map(|_| step(&node)).find(Result::is_ok);
        assert_eq!(again, Some(Ok(())));
    }
}

#[test]
fn what_is_not_kept_is_waited_for() {
    let mut server = RedisServer::start(crate::store::redis::testing::ALWAYS);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let uid = node.begin("c", 1);
    server.kill();
    let changes = release("c", &node, 1);
    node.try_to_keep(&changes).expect_err("there is no server");
    server.restart();
    assert!(matches!(node.store.depart(), Err(StoreError::Unavailable(_))));
    assert!(matches!(node.store.bye(), Err(StoreError::Unavailable(_))));
    node.keep(&changes);
    assert_eq!(node.queue(uid), [""; 0]);
    assert_eq!(node.store.depart(), Ok(vec![]));
}

#[test]
fn buckets_of_several_servers_are_given_up() {
    let cluster = Cluster::start(3);
    let node = Node::without_mirror(&cluster.settings(), LIMITS);
    node.begin("c", 1);
    assert_eq!(node.store.depart(), Ok(vec![bucket_of_client("c")]));
    node.keep(&release("c", &node, 1));
    assert_eq!(node.store.depart(), Ok(vec![]));
    assert_eq!(node.store.bye(), Ok(()));
    assert_eq!(node.store.close(), Ok(()));
}
