//! What batches come to when nothing fails.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::testing::{Changes, For, Node, log, subscription, to, to_node};
use crate::message::Publication;
use crate::packet::QoS;
use crate::store::cluster::{
    ClusterOp, Entry, Homes, How, Limits, Once, Open, Publishing, RouteKind, Will, bucket_of_client,
};
use crate::store::op::{Op, SessionRecord};
use crate::store::redis::cluster::ClusterStore;
use crate::store::redis::entry::read_job;
use crate::store::redis::testing::{RedisServer, publication};
use crate::store::{Lane, Store, StoreError, Uid};
use crate::time::Millis;

/// A field of a hash of a client's bucket.
fn field(server: &RedisServer, client_id: &str, key: &str, field: &str) -> Option<String> {
    server.command(&["HGET", &key_of(client_id, key), field])
}

fn key_of(client_id: &str, key: &str) -> String {
    format!("mqtt:{{{}}}:{key}", bucket_of_client(client_id))
}

fn keys(server: &RedisServer, pattern: &str) -> Vec<String> {
    server.command(&["KEYS", pattern])
}

fn release(client_id: &str, node: &Node, number: u64, how: How) -> Changes {
    Changes::default().cluster(ClusterOp::Release {
        client_id,
        token: node.token(number),
        how,
        expiry_interval: 600,
        mid: node.mid(number),
    })
}

/// It matters to those only who read.
const LEASE: Duration = Duration::from_secs(3);

fn open_with_will<'a>(node: &Node, client_id: &'a str, number: u64, uid: Uid, delay: u32) -> Open<'a> {
    Open {
        client_id,
        token: node.token(number),
        clean: false,
        uid,
        expiry_interval: 600,
        mid: node.mid(100 + number),
        will: Some(Will {
            delay_interval: delay,
            expires_in: None,
            message: publication("will", b"gone"),
            client: b"\x00\x01c",
        }),
    }
}

#[test]
fn messages_get_their_places_from_redis() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let uid = one.begin("c", 1);
    one.keep(&Changes::default().publish("a", &[to(uid)]));
    two.keep(&Changes::default().publish("b", &[to(uid)]));
    one.keep(&Changes::default().publish("c", &[to(uid)]).publish("d", &[to(uid)]));
    assert_eq!(one.queue(uid), ["0 a", "1 b", "2 c", "3 d"]);
    assert_eq!(
        one.told.take(),
        [
            format!("arrived {uid} 0 a AtLeastOnce"),
            format!("arrived {uid} 2 c AtLeastOnce"),
            format!("arrived {uid} 3 d AtLeastOnce"),
        ]
    );
    assert_eq!(two.told.take(), [""; 0]);
    one.keep(&Changes::default().done(uid, 0).done(uid, 1).done(uid, 3));
    one.keep(&Changes::default().publish("e", &[to(uid)]));
    assert_eq!(two.queue(uid), ["2 c", "4 e"]);
    one.keep(&Changes::default().op(&Op::Released {
        uid,
        lane: Lane::Live,
        index: 2,
    }));
    assert_eq!(two.queue(uid), ["2 released", "4 e"]);
}

#[test]
fn who_published_is_told_that_a_session_is_gone_or_full() {
    let server = RedisServer::start(&[]);
    let limits = Limits {
        queue_messages: 2,
        queue_bytes: 100,
        drops_oldest: false,
        retained_messages: 1,
    };
    let node = Node::with(&server, &server.settings(), limits);
    let uid = node.begin("c", 1);
    let missing = node.uid(9, "c");
    node.keep(&Changes::default().publish("a", &[to(missing), to(uid)]));
    assert_eq!(
        node.told.take(),
        [format!("gone {missing}"), format!("arrived {uid} 0 a AtLeastOnce")]
    );
    node.keep(
        &Changes::default()
            .publish(&"x".repeat(99), &[to(uid)])
            .publish("b", &[to(uid)])
            .publish("c", &[to(uid)]),
    );
    assert_eq!(
        node.told.take(),
        [
            format!("full {uid}"),
            format!("arrived {uid} 1 b AtLeastOnce"),
            format!("full {uid}")
        ]
    );
    node.keep(&Changes::default().done(uid, 0).publish("d", &[to(uid)]));
    assert_eq!(node.queue(uid), ["1 b", "2 d"]);
}

/// What may have been sent stays: what is below `unsent`, and of a client that is connected the first ones, up to its window.
#[test]
fn the_oldest_give_way_that_were_not_sent() {
    let server = RedisServer::start(&[]);
    let limits = Limits {
        queue_messages: 2,
        queue_bytes: 100,
        drops_oldest: true,
        retained_messages: 1,
    };
    let node = Node::with(&server, &server.settings(), limits);
    let uid = node.begin("c", 1);
    let session = |away_since: Option<u64>, window, unsent| {
        Changes::default().op(&Op::Session(SessionRecord {
            uid,
            client_id: "c",
            expiry_interval: 60,
            window,
            away_since: away_since.map(Millis::from_unix),
            unsent,
        }))
    };
    let publish = |text: &str| node.keep(&Changes::default().publish(text, &[to(uid)]));
    node.keep(&session(Some(1), 0, 0));
    ["a", "b", "c"].iter().for_each(|text| publish(text));
    assert_eq!(node.queue(uid), ["1 b", "2 c"]);
    assert!(node.told.take().contains(&format!("full {uid}")));
    // Of three in flight none goes, and they don't count.
    node.keep(&session(None, 1, 2));
    publish("d");
    assert_eq!(node.queue(uid), ["1 b", "2 c", "3 d"]);
    node.keep(&session(None, 3, 2));
    ["e", "f", "g"].iter().for_each(|text| publish(text));
    assert_eq!(node.queue(uid), ["1 b", "2 c", "3 d", "5 f", "6 g"]);
    // The same by bytes; what finds no room even so drops nothing.
    let in_flight = 3 * "a/bx".len();
    publish(&"x".repeat(101 - in_flight - "a/b".len()));
    assert_eq!(node.queue(uid).len(), 5);
    publish(&"x".repeat(100 - in_flight - "a/b".len()));
    assert_eq!(node.queue(uid).len(), 4);
    assert!(node.queue(uid)[3].starts_with("7 xxx"));
    let report = super::doctor::look(&server);
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
fn a_client_passes_from_one_node_to_the_next() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let uid = one.begin("c", 1);
    let (first, second) = (one.token(1), two.token(1));
    two.keep(&Changes::default().claim("c", second).open("c", second, two.uid(1, "c")));
    assert_eq!(field(&server, "c", "c:c", "owner"), Some(first.to_string()));
    assert_eq!(field(&server, "c", "c:c", "next"), Some(second.to_string()));
    one.keep(&Changes::default().publish("a", &[to(uid)]));
    one.keep(&release("c", &one, 1, How::Clean));
    assert_eq!(field(&server, "c", "c:c", "owner"), Some(second.to_string()));
    assert_eq!(field(&server, "c", "c:c", "next"), None);
    let owned: Vec<String> = server.command(&["SMEMBERS", &key_of("c", &format!("own:{}", two.id()))]);
    assert_eq!(owned, ["c"]);
    two.keep(&Changes::default().open("c", second, two.uid(2, "c")));
    one.told.take();
    one.keep(&Changes::default().publish("b", &[to(uid)]));
    assert_eq!(one.told.take(), [""; 0]);
    two.keep(&Changes::default().publish("c", &[to(uid)]));
    assert_eq!(two.told.take(), [format!("arrived {uid} 2 c AtLeastOnce")]);
    // What the former owner writes has no effect.
    one.keep(&Changes::default().done(uid, 0));
    assert_eq!(two.queue(uid), ["0 a", "1 b", "2 c"]);
    two.keep(&release("c", &two, 1, How::Clean));
    assert_eq!(field(&server, "c", "c:c", "owner"), None);
    let due: f64 = server.command(&["ZSCORE", &key_of("c", "t"), "c"]);
    assert!(due > 0.0);
    let mut sessions = Vec::new();
    two.store
        .sessions(&mut |session| sessions.push(session))
        .expect("sessions");
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].uid, &*sessions[0].client_id), (uid, "c"));
    assert_eq!((sessions[0].live.next, sessions[0].live.count), (3, 3));
}

#[test]
fn a_clean_start_ends_the_session() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    node.keep(&Changes::default().publish("a", &[to(uid)]));
    node.keep(&release("c", &node, 1, How::Clean));
    let token = node.token(2);
    let open = Open {
        clean: true,
        will: None,
        ..open_with_will(&node, "c", 2, 0, 0)
    };
    node.keep(&Changes::default().claim("c", token).cluster(ClusterOp::Open(open)));
    assert_eq!(keys(&server, &format!("*:{uid}")), [""; 0]);
    assert_eq!(field(&server, "c", "c:c", "uid"), None);
    node.keep(&release("c", &node, 2, How::Clean));
    for pattern in ["*:c:*", "*:own:*", "*:t", "*:sessions"] {
        assert_eq!(keys(&server, pattern), [""; 0], "{pattern}");
    }
}

#[test]
fn a_will_becomes_a_job_when_it_is_due() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let connect = |number: u64, uid: Uid, delay: u32| {
        Changes::default()
            .claim("c", node.token(number))
            .cluster(ClusterOp::Open(open_with_will(&node, "c", number, uid, delay)))
            .used(uid)
    };
    let kept = node.uid(7, "c");
    let job = |mid: u64| {
        let mid = node.mid(mid);
        let bytes: Option<Vec<u8>> = server.command(&["HGET", &key_of("c", "jobs"), &mid.to_string()]);
        let job = bytes.map(|bytes| read_job(bucket_of_client("c"), mid, &bytes).expect("a job"));
        job.map(|job| (job.of, job.will.map(|will| will.message.topic().to_owned())))
    };
    let due = Some((node.id(), Some("will".to_owned())));
    // At once.
    node.keep(&connect(1, node.uid(1, "c"), 0));
    node.keep(&release("c", &node, 1, How::Lost));
    assert_eq!(job(1), due);
    // Not wanted.
    node.keep(&connect(2, kept, 0));
    node.keep(&release("c", &node, 2, How::Clean));
    assert_eq!(job(2), None);
    // Later, and then the session is resumed.
    node.keep(&connect(3, kept, 60));
    node.keep(&release("c", &node, 3, How::Lost));
    assert!(field(&server, "c", "c:c", "will_at").is_some());
    node.keep(&connect(4, kept, 60));
    assert_eq!(field(&server, "c", "c:c", "will_at"), None);
    // Later, and then the session ends.
    node.keep(&release("c", &node, 4, How::Lost));
    let clean = Open {
        clean: true,
        ..open_with_will(&node, "c", 5, 0, 60)
    };
    node.keep(
        &Changes::default()
            .claim("c", node.token(5))
            .cluster(ClusterOp::Open(clean)),
    );
    assert_eq!((job(4), job(105)), (None, due.clone()));
    // Nothing is kept: at once.
    node.keep(&release("c", &node, 5, How::Lost));
    assert_eq!(job(5), due);
    // A grace is waited for nevertheless.
    node.keep(&connect(6, 0, 0));
    node.keep(&release("c", &node, 6, How::Left { grace: 5 }));
    assert!(field(&server, "c", "c:c", "will_at").is_some());
    assert_eq!(job(6), None);
    // The client is back.
    node.keep(&connect(7, 0, 0));
    assert_eq!((job(6), job(107)), (None, None));
    // Nobody has opened it: what waits goes on waiting.
    node.keep(&release("c", &node, 7, How::Left { grace: 5 }));
    let waits = field(&server, "c", "c:c", "will_at");
    node.keep(&Changes::default().claim("c", node.token(8)));
    node.keep(&release("c", &node, 8, How::Lost));
    assert_eq!((job(8), field(&server, "c", "c:c", "will_at")), (None, waits));
    node.keep(&Changes::default().claim("c", node.token(9)));
    node.keep(&release("c", &node, 9, How::Clean));
    assert!(server.command::<bool>(&["HEXISTS", &key_of("c", "c:c"), "will"]));
    node.keep(&Changes::default().cluster(ClusterOp::Finish {
        bucket: bucket_of_client("c"),
        mid: node.mid(5),
    }));
    assert_eq!(job(5), None);
}

#[test]
fn what_is_due_is_swept() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.uid(1, "c");
    let will = open_with_will(&node, "c", 1, uid, 60);
    node.keep(
        &Changes::default()
            .claim("c", node.token(1))
            .cluster(ClusterOp::Open(will))
            .used(uid),
    );
    node.keep(&release("c", &node, 1, How::Lost));
    let sweep = |first: u64| {
        Changes::default().cluster(ClusterOp::Sweep {
            bucket: bucket_of_client("c"),
            first: node.mid(first),
            most: 10,
        })
    };
    node.keep(&sweep(200));
    assert_eq!(field(&server, "c", "jobs", &node.mid(200).to_string()), None);
    let passes = |name: &str| {
        server.command::<()>(&["HSET", &key_of("c", "c:c"), name, "5"]);
        server.command::<()>(&["ZADD", &key_of("c", "t"), "5", "c"]);
    };
    passes("will_at");
    node.keep(&sweep(300));
    assert!(server.command::<bool>(&["HEXISTS", &key_of("c", "jobs"), &node.mid(300).to_string()]));
    let to_do = format!("job {} in {}", node.mid(300), bucket_of_client("c"));
    assert_eq!(node.told.take(), [to_do]);
    assert!(server.command::<f64>(&["ZSCORE", &key_of("c", "t"), "c"]) > 5.0);
    passes("ends_at");
    node.keep(&sweep(400));
    assert_eq!(node.told.take(), [format!("gone {uid}")]);
    // Who comes back waits for it.
    node.keep(&Changes::default().cluster(ClusterOp::Finish {
        bucket: bucket_of_client("c"),
        mid: node.mid(300),
    }));
    for pattern in ["*:c:*", "*:own:*", "*:t", "*:s:*"] {
        assert_eq!(keys(&server, pattern), [""; 0], "{pattern}");
    }
}

/// A session, or a node, that has a plain subscription and is a member of groups, too, gets the message for each, and each once.
#[test]
fn members_of_groups_get_what_they_get_for_themselves_as_well() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let uid = one.begin("c", 1);
    let message = publication("a/b", b"exactly");
    let publishing = Publishing {
        once: Some(Once {
            mid: one.mid(1),
            of: one.id(),
            bucket: bucket_of_client("c"),
        }),
        ..Publishing::default()
    };
    let node = to_node(two.id());
    let (one_group, other_group) = (Some("$share/g/a/b"), Some("$share/h/a/b"));
    let targets = [
        to(uid),
        For(uid, one_group),
        For(uid, other_group),
        For(node.0, None),
        For(node.0, one_group),
    ];
    let publish = Changes::default().publish_as(&message, &publishing, &targets);
    one.keep(&publish);
    two.keep(&publish);
    assert_eq!(one.queue(uid), ["0 exactly", "1 exactly", "2 exactly"]);
    let inbox = format!("mqtt:{{{}}}:in:{}", two.id(), two.id());
    // One entry for each call, with the two messages.
    assert_eq!(server.command::<u64>(&["XLEN", &inbox]), 1);
}

#[test]
fn a_qos_2_message_has_effect_once() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let (uid, other) = (one.begin("c", 1), two.begin("d", 1));
    let message = publication("a/b", b"exactly");
    let received = |payload| {
        Changes::default().cluster(ClusterOp::Received {
            uid,
            packet_id: 7,
            message: publication("a/b", payload),
        })
    };
    one.keep(&received(b"exactly"));
    one.keep(&received(b"again"));
    let mut sessions = Vec::new();
    one.store
        .sessions(&mut |session| sessions.push((session.uid, session.received)))
        .expect("sessions");
    sessions.sort();
    assert_eq!(sessions.iter().find(|(read, _)| *read == uid), Some(&(uid, vec![7])));
    let mid = one.mid(1);
    let begin = Changes::default().cluster(ClusterOp::Begin { uid, packet_id: 7, mid });
    one.keep(&begin);
    let bytes: Vec<u8> = server.command(&["HGET", &key_of("c", "jobs"), &mid.to_string()]);
    let job = read_job(bucket_of_client("c"), mid, &bytes).expect("a job");
    assert_eq!((job.of, job.origin), (one.id(), uid));
    assert_eq!(job.message.expect("its message").payload(), b"exactly");
    let publishing = Publishing {
        origin: uid,
        once: Some(Once {
            mid,
            of: one.id(),
            bucket: bucket_of_client("c"),
        }),
        only: None,
    };
    let publish = Changes::default().publish_as(&message, &publishing, &[to(other), to(uid), to_node(two.id())]);
    one.keep(&publish);
    two.keep(&publish);
    assert_eq!(two.queue(other), ["0 exactly"]);
    let inbox = format!("mqtt:{{{}}}:in:{}", two.id(), two.id());
    assert_eq!(server.command::<u64>(&["XLEN", &inbox]), 1);
    // It was there already: who put it there may have been unable to tell.
    let mut told = two.told.take();
    told.sort();
    assert_eq!(told, [format!("look {uid}"), format!("look {other}")]);
    let forget = |client_id| ClusterOp::Forget {
        bucket: bucket_of_client(client_id),
        mid,
    };
    one.keep(&Changes::default().cluster(forget("c")).cluster(forget("d")));
    assert_eq!(keys(&server, "*}:m2").len(), 1, "that of the inbox");
    one.keep(&Changes::default().cluster(ClusterOp::ForgetOf {
        bucket: two.id() as u8,
        node: one.id(),
    }));
    assert_eq!(keys(&server, "*}:m2"), [""; 0]);
}

#[test]
fn an_inbox_gets_one_entry_of_a_batch() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    let lowest = Publication {
        qos: QoS::AtMostOnce,
        ..publication("a/b", b"lowest")
    };
    let inbox = to_node(two.id());
    let shared = For(inbox.0, Some("$share/g/a/b"));
    one.keep(
        &Changes::default()
            .publish("one", &[inbox])
            .publish_as(&lowest, &Publishing::default(), &[inbox])
            .publish("two", &[shared]),
    );
    let key = |name| format!("mqtt:{{{}}}:{name}:{}", two.id(), two.id());
    let entries = |key: &str| -> Vec<(String, Vec<Vec<u8>>)> { server.command(&["XRANGE", key, "-", "+"]) };
    let found = entries(&key("in"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "1-0");
    let mut expected = vec![0];
    crate::store::op::put_publication(&mut expected, &publication("a/b", b"one"));
    expected.push(1);
    crate::wire::put_binary(&mut expected, b"$share/g/a/b");
    crate::store::op::put_publication(&mut expected, &publication("a/b", b"two"));
    assert_eq!(found[0].1[1], expected);
    assert_eq!(entries(&key("in0")).len(), 1);
    one.keep(&Changes::default().cluster(ClusterOp::Destroy { node: two.id() }));
    assert_eq!(keys(&server, "*}:in*:*"), [""; 0]);
    // It is there as long as its node may write.
    one.keep(&Changes::default().publish("three", &[inbox]));
    assert_eq!(entries(&key("in")).len(), 1);
    let bucket = two.id() as u8;
    one.keep(&Changes::default().cluster(ClusterOp::Fence { bucket, node: two.id() }));
    one.keep(&Changes::default().publish("four", &[inbox]));
    assert_eq!(entries(&key("in")).len(), 1);
    assert_eq!(one.told.take(), [""; 0]);
}

#[test]
fn the_log_has_one_order() {
    let server = RedisServer::start(&[]);
    let limits = Limits {
        retained_messages: 1,
        ..super::testing::LIMITS
    };
    let node = Node::with(&server, &server.settings(), limits);
    let retain = |topic| Entry::Retain {
        message: Publication {
            retain: true,
            ..publication(topic, b"kept")
        },
    };
    let route = |filter| Entry::Route {
        node: 1,
        filter,
        kind: RouteKind::OnlyQos0,
    };
    node.keep(
        &Changes::default()
            .log(route("x"))
            .log(route("y"))
            .log(retain("a"))
            .log(retain("b")),
    );
    node.keep(
        &Changes::default()
            .log(retain("a"))
            .log(Entry::Unroute { node: 1, filter: "x" }),
    );
    let entries: Vec<_> = [
        Entry::Join(1),
        route("x"),
        route("y"),
        retain("a"),
        retain("a"),
        Entry::Unroute { node: 1, filter: "x" },
    ]
    .iter()
    .zip(1..)
    .map(|(entry, position)| format!("{position} {entry:?}"))
    .collect();
    assert_eq!(log(&server), entries);
    assert_eq!(node.store.recent.position(), 6);
    assert_eq!(node.store.not_retained.load(Ordering::Relaxed), 1);
    let mut retained = Vec::new();
    node.store
        .retained(&mut |message| retained.push(message.topic().to_owned()))
        .expect("retained");
    assert_eq!(retained, ["a"]);
    assert_eq!(server.command::<Vec<String>>(&["HGETALL", "mqtt:{g}:f"]), ["1:y", "1"]);
    node.keep(
        &Changes::default()
            .log(Entry::RetainClear { topic: "a" })
            .log(retain("b")),
    );
    assert_eq!(server.command::<Vec<String>>(&["HKEYS", "mqtt:{g}:ret"]), ["b"]);
}

#[test]
fn a_dead_node_is_recovered() {
    let server = RedisServer::start(&[]);
    let (one, two, three) = (Node::join(&server), Node::join(&server), Node::join(&server));
    let uid = one.uid(1, "c");
    let will = open_with_will(&one, "c", 1, uid, 0);
    one.keep(
        &Changes::default()
            .claim("c", one.token(1))
            .cluster(ClusterOp::Open(will))
            .used(uid),
    );
    one.keep(&Changes::default().log(Entry::Route {
        node: one.id(),
        filter: "x",
        kind: RouteKind::All,
    }));
    two.keep(&Changes::default().claim("c", two.token(1)));
    let dead = |counter| {
        Changes::default().cluster(ClusterOp::Dead {
            node: one.id(),
            counter,
            lost: Homes::default(),
        })
    };
    two.keep(&dead(1));
    assert_eq!(server.command::<u64>(&["HLEN", "mqtt:{g}:nodes"]), 3);
    two.keep(&dead(0));
    assert_eq!(server.command::<u64>(&["HLEN", "mqtt:{g}:nodes"]), 2);
    let recoverers = || server.command::<Vec<String>>(&["HGETALL", "mqtt:{g}:rec"]);
    assert_eq!(recoverers(), [one.id().to_string(), two.id().to_string()]);
    let error = one
        .try_to_keep(&Changes::default().log(Entry::End { uid }))
        .expect_err("is dead");
    assert!(
        matches!(&error, StoreError::Refused(why) if why.contains("declared dead")),
        "{error:?}"
    );
    let take = |node| Changes::default().cluster(ClusterOp::TakeOver { node });
    three.keep(&take(two.id()));
    assert_eq!(recoverers(), [one.id().to_string(), two.id().to_string()], "it lives");
    three.keep(&Changes::default().cluster(ClusterOp::Dead {
        node: two.id(),
        counter: 0,
        lost: Homes::default(),
    }));
    three.keep(&take(two.id()));
    let all: std::collections::BTreeMap<u64, u64> = server.command(&["HGETALL", "mqtt:{g}:rec"]);
    assert_eq!(all, [(one.id(), three.id()), (two.id(), three.id())].into());
    let bucket = bucket_of_client("c");
    let fence = |node| ClusterOp::Fence { bucket, node };
    three.keep(&Changes::default().cluster(fence(two.id())).cluster(fence(one.id())));
    assert_eq!(field(&server, "c", "hw", "top"), Some(two.id().to_string()));
    let mid = three.mid(1);
    let free = |node| ClusterOp::Free {
        node,
        client_id: "c",
        mid,
        how: How::Lost,
        ends: false,
    };
    three.keep(&Changes::default().cluster(free(two.id())).cluster(free(one.id())));
    // Who waited for it may not have it: it is dead, too.
    assert_eq!(field(&server, "c", "c:c", "owner"), None);
    assert_eq!(field(&server, "c", "c:c", "uid"), Some(uid.to_string()));
    let bytes: Vec<u8> = server.command(&["HGET", &key_of("c", "jobs"), &mid.to_string()]);
    assert_eq!(read_job(bucket, mid, &bytes).expect("a job").of, one.id());
    three.keep(&Changes::default().cluster(ClusterOp::Recovered { node: one.id() }));
    assert_eq!(recoverers(), [two.id().to_string(), three.id().to_string()]);
    assert!(!server.command::<bool>(&["EXISTS", "mqtt:{g}:f"]));
    assert_eq!(log(&server).last().expect("an entry"), &format!("6 Dead({})", two.id()));
}

#[test]
fn a_session_has_a_record_and_subscriptions() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    let record = SessionRecord {
        uid,
        client_id: "c",
        expiry_interval: 5,
        window: 9,
        away_since: Some(Millis::from_unix(77)),
        unsent: 3,
    };
    let mut replayed = subscription("r/#");
    replayed.replays = true;
    let changes = Changes::default().op(&Op::Session(record));
    let changes = [subscription("a/b"), subscription("b"), replayed]
        .into_iter()
        .fold(changes, |changes, subscription| {
            changes.op(&Op::Subscribe { uid, subscription })
        });
    let changes = changes.op(&Op::Unsubscribe { uid, filter: "b" });
    node.keep(&changes.op(&Op::Replayed {
        uid,
        index: 0,
        before: 4,
        filter: "r/#",
        terms: crate::store::redis::testing::terms(),
        message: publication("r/1", b"kept"),
    }));
    let mut sessions = Vec::new();
    node.store
        .sessions(&mut |session| sessions.push(session))
        .expect("sessions");
    let session = &sessions[0];
    assert_eq!((session.expiry_interval, session.window, session.unsent), (5, 9, 3));
    assert_eq!(session.away_since, Some(Millis::from_unix(77)));
    let filters: Vec<_> = session
        .subscriptions
        .iter()
        .map(|read| (&*read.filter, read.replay.as_deref()))
        .collect();
    assert_eq!(filters, [("a/b", None), ("r/#", Some("r/1"))]);
    assert_eq!((session.replayed.next, session.live.next), (1, 3));
    let page = crate::store::Page { messages: 9, bytes: 99 };
    let replayed = node.store.queue(uid, Lane::Replayed, 0, page).expect("a queue");
    assert_eq!((replayed[0].index, replayed[0].before), (0, 4));
    // It may not be made again by what comes late.
    node.keep(&Changes::default().op(&Op::SessionEnd { uid }));
    node.keep(&Changes::default().op(&Op::Session(record)));
    assert_eq!(keys(&server, "*:s:*"), [""; 0]);
}

#[test]
fn incarnations_may_be_used_up() {
    let server = RedisServer::start(&[]);
    drop(Node::join(&server));
    server.command::<()>(&["SET", "mqtt:{g}:inc", "8388606"]);
    assert_eq!(Node::join(&server).id(), 8_388_607);
    let error = ClusterStore::open(&server.settings(), super::testing::LIMITS, LEASE).expect_err("all are used up");
    assert!(
        matches!(&error, StoreError::Refused(why) if why.contains("8388607 starts")),
        "{error:?}"
    );
}

#[test]
fn changes_of_one_broker_alone_are_refused() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let changes = Changes::default().op(&Op::WillEnd { uid: 7 });
    assert!(matches!(node.try_to_keep(&changes), Err(StoreError::Refused(_))));
}

/// One call holds Redis up only so long; and what comes in several calls comes to the same.
#[test]
fn a_call_is_about_500_sessions_at_most() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    // All in one bucket.
    let clients: Vec<_> = (0..)
        .map(|n| format!("c{n}"))
        .filter(|id| bucket_of_client(id) == 7)
        .take(1200)
        .collect();
    let uids: Vec<_> = clients.iter().zip(1..).map(|(id, n)| node.uid(n, id)).collect();
    let mut changes = Changes::default();
    for ((client_id, uid), number) in clients.iter().zip(&uids).zip(1..) {
        changes = changes
            .claim(client_id, node.token(number))
            .open(client_id, node.token(number), *uid);
    }
    node.keep(&changes);
    assert_eq!(
        server.command::<u64>(&["HGET", "mqtt:{7}:hw", &node.id().to_string()]),
        3
    );
    let all: Vec<_> = uids.iter().map(|uid| to(*uid)).collect();
    node.keep(&Changes::default().publish("one", &all).publish("two", &all));
    assert_eq!(
        server.command::<u64>(&["HGET", "mqtt:{7}:hw", &node.id().to_string()]),
        8
    );
    assert_eq!(node.told.take().len(), 2400);
    for uid in [uids[0], uids[499], uids[500], uids[1199]] {
        assert_eq!(node.queue(uid), ["0 one", "1 two"]);
    }
}
