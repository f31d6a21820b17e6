//! Nothing stays behind, and what does not belong is found, whatever nodes are doing.

use super::testing::{Changes, Node, subscribed, subscription, to, to_node};
use crate::identity::{ClientInfo, Peer, Proof};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::message::Publication;
use crate::packet::{QoS, Version};
use crate::store::cluster::{
    ClusterOp, Entry, Homes, How, Incarnation, Mid, Once, Open, Publishing, RouteKind, Shared, Will, bucket_of_client,
};
use crate::store::op::Op;
use crate::store::redis::cluster::generation::raise;
use crate::store::redis::doctor::{Report, doctor};
use crate::store::redis::keys::Keys;
use crate::store::redis::link::Link;
use crate::store::redis::testing::{Cluster, RedisServer, publication};
use crate::store::{Lane, Page, Store, Uid, write_client};
use crate::time::Millis;

pub(super) fn look(server: &RedisServer) -> Report {
    doctor(&server.settings()).expect("can look")
}

fn key_of(client_id: &str, name: &str) -> String {
    format!("mqtt:{{{}}}:{name}", bucket_of_client(client_id))
}

pub(super) fn client(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_client(
        &mut bytes,
        &ClientInfo {
            client_id: client_id.into(),
            username: None,
            version: Version::V5,
            peer: Peer::default(),
            connected_at: Millis::from_unix(1),
            keep_alive: 0,
            session_expiry: 0,
            proof: Proof::Nothing,
            rights: None,
        },
    );
    bytes
}

/// With a will that waits for this long.
fn begin_with_will(node: &Node, client_id: &str, number: u64, uid: Uid, delay_interval: u32) {
    let client = client(client_id);
    let open = Open {
        client_id,
        token: node.token(number),
        clean: false,
        uid,
        expiry_interval: 600,
        mid: node.mid(100 + number),
        will: Some(Will {
            delay_interval,
            expires_in: None,
            message: publication("will", b"gone"),
            client: &client,
        }),
    };
    let claim = Changes::default().claim(client_id, open.token);
    node.keep(&claim.cluster(ClusterOp::Open(open)));
}

fn release(node: &Node, client_id: &str, number: u64, has_will: bool) -> Changes {
    Changes::default().cluster(ClusterOp::Release {
        client_id,
        token: node.token(number),
        how: if has_will { How::Lost } else { How::Clean },
        expiry_interval: 600,
        mid: node.mid(number),
    })
}

/// QoS 2 messages: one that has not been released, and one that has begun, and is in a queue.
fn half_way(node: &Node, uid: Uid) {
    let message = Publication {
        qos: QoS::ExactlyOnce,
        ..publication("a/b", b"twice")
    };
    let once = Once {
        mid: node.mid(8),
        of: node.id(),
        bucket: bucket_of_client("c"),
    };
    let received = |packet_id| ClusterOp::Received {
        uid,
        packet_id,
        message,
    };
    node.keep(&Changes::default().cluster(received(8)).cluster(received(9)));
    let begin = ClusterOp::Begin {
        uid,
        packet_id: 8,
        mid: once.mid,
    };
    let publishing = Publishing {
        origin: uid,
        once: Some(once),
        only: None,
    };
    let changes = Changes::default().cluster(begin);
    node.keep(&changes.publish_as(&message, &publishing, &[to(uid)]));
}

fn subscribe(uid: Uid, filter: &str) -> Changes {
    Changes::default().op(&Op::Subscribe {
        uid,
        subscription: subscription(filter),
    })
}

/// A bit of everything, of a node that lives. The session of `c`.
fn fill(node: &Node) -> Uid {
    let uid = node.begin("c", 1);
    let away = node.begin("away", 2);
    let changes = subscribe(uid, "a/#")
        .log(subscribed(uid, "a/#"))
        .log(Entry::Route {
            node: node.id(),
            filter: "v/#",
            kind: RouteKind::All,
        })
        .op(&Op::Retain {
            message: publication("r", b"kept"),
        });
    node.keep(&changes);
    for payload in ["one", "two", "three"] {
        node.keep(&Changes::default().publish(payload, &[to(uid), to(away), to_node(node.id())]));
    }
    node.keep(&subscribe(away, "a/#").done(uid, 1));
    node.keep(&release(node, "away", 2, false));
    begin_with_will(node, "mortal", 3, 0, 0);
    let late = node.uid(4, "late");
    begin_with_will(node, "late", 4, late, 60);
    node.keep(&subscribe(late, "b/#"));
    node.keep(&release(node, "late", 4, true));
    // What has begun is finished with the next batch.
    half_way(node, uid);
    uid
}

/// A change of each bucket.
fn everywhere(change: impl Fn(u8) -> ClusterOp<'static>) -> Changes {
    (0..=u8::MAX).fold(Changes::default(), |changes, bucket| changes.cluster(change(bucket)))
}

/// What is done for a dead node, in steps.
fn recovery(by: &Node, dead: Incarnation) -> Vec<Changes> {
    let of_dead = |number| Mid {
        incarnation: dead,
        number,
    };
    let free = |client_id, number| {
        let mid = by.mid(number);
        let bucket = bucket_of_client(client_id);
        let free = ClusterOp::Free {
            node: dead,
            client_id,
            mid,
            how: How::Lost,
            ends: false,
        };
        Changes::default()
            .cluster(free)
            .cluster(ClusterOp::Finish { bucket, mid })
    };
    let begun = ClusterOp::Finish {
        bucket: bucket_of_client("c"),
        mid: of_dead(8),
    };
    let half = (0..100).fold(Changes::default(), |changes, bucket| {
        changes.cluster(ClusterOp::Fence { bucket, node: dead })
    });
    vec![
        Changes::default().cluster(ClusterOp::Dead {
            node: dead,
            counter: 0,
            lost: Homes::default(),
        }),
        half,
        everywhere(|bucket| ClusterOp::Fence { bucket, node: dead }),
        Changes::default().cluster(ClusterOp::TakeOver { node: dead }),
        Changes::default().cluster(begun),
        free("c", 501),
        free("mortal", 502),
        Changes::default().cluster(ClusterOp::Destroy { node: dead }),
        everywhere(|bucket| ClusterOp::ForgetOf { bucket, node: dead }),
        Changes::default().cluster(ClusterOp::Recovered { node: dead }),
    ]
}

#[test]
fn all_that_nodes_have_is_in_order() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    fill(&node);
    let report = look(&server);
    assert!(report.faults.is_empty(), "{report}");
    assert_eq!((report.clients, report.jobs), (4, 1), "{report}");
    assert_eq!(report.living.iter().copied().collect::<Vec<_>>(), [node.id()]);
    assert_eq!(
        (report.sessions, report.messages, report.wills, report.retained),
        (3, 6, 2, 1),
        "{report}"
    );
}

/// After each step that another node makes for a dead one.
#[test]
fn what_a_dead_node_leaves_is_in_order_until_it_is_recovered() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    fill(&node);
    let dead = node.id();
    drop(node);
    let by = Node::join(&server);
    for (number, step) in recovery(&by, dead).iter().enumerate() {
        by.keep(step);
        let report = look(&server);
        assert!(report.faults.is_empty(), "after step {number}: {report}");
    }
    let report = look(&server);
    assert_eq!((report.living.len(), report.recovered.len(), report.jobs), (1, 0, 0));
}

/// Each step that is left out leaves something.
#[test]
fn a_recovery_that_has_left_something_is_found() {
    for (step, told) in [
        (2, "it may write here"),
        (4, "a message has begun"),
        (5, "it owns clients"),
        (7, "this is its inbox"),
        (8, "it has put messages into queues"),
        (8, "what it has left here is noted"),
    ] {
        let server = RedisServer::start(&[]);
        let node = Node::join(&server);
        fill(&node);
        let dead = node.id();
        drop(node);
        let by = Node::join(&server);
        for (_, done) in recovery(&by, dead)
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != step)
        {
            by.keep(done);
        }
        let report = look(&server);
        let is_told = |fault: &String| fault.contains(told) && fault.contains(&format!("rec {dead} NODE"));
        assert!(report.faults.iter().any(is_told), "without step {step}: {report}");
    }
}

/// After each step by which the next incarnation puts in order what was lost.
#[test]
fn what_a_generation_leaves_is_in_order_until_it_is_recovered() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    fill(&node);
    let over = node.id();
    drop(node);
    let settings = server.settings();
    let keys = Keys::new(&settings.prefix).expect("a prefix");
    let mut link = Link::connect(&settings).expect("connects");
    assert_eq!(raise(&mut link, &keys, over, Homes::all()), Ok(over));
    let by = Node::join(&server);
    let end = |client_id| ClusterOp::EndSession {
        client_id,
        generation: over,
        grace: 60,
        mid: by.mid(900),
    };
    let retire = Changes::default().cluster(ClusterOp::Retire { node: over });
    let ends = ["c", "away"].map(|client_id| Changes::default().cluster(end(client_id)));
    let steps = [retire].into_iter().chain(ends).chain(recovery(&by, over));
    for (number, step) in steps.enumerate() {
        by.keep(&step);
        let report = look(&server);
        assert!(report.faults.is_empty(), "after step {number}: {report}");
    }
    let report = look(&server);
    assert_eq!((report.living.len(), report.recovered.len(), report.jobs), (1, 0, 0));
}

/// Something is changed, and found; `told` is a part of what is said.
#[derive(Clone)]
struct Plant {
    what: &'static str,
    command: Vec<String>,
    told: &'static str,
}

fn plant(what: &'static str, command: &[&str], told: &'static str) -> Plant {
    Plant {
        what,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        told,
    }
}

fn of_clients(uid: Uid, node: Incarnation) -> Vec<Plant> {
    let key = |name: &str| key_of("c", name);
    let away = |name: &str| key_of("away", name);
    let session = format!("s:{uid}");
    let own = key(&format!("own:{node}"));
    vec![
        plant(
            "an owner that is no node",
            &["HSET", &key("c:c"), "owner", "77.1"],
            "there is no node 77",
        ),
        plant(
            "an owner whose set does not have it",
            &["SREM", &own, "c"],
            "does not say so",
        ),
        plant("two owners", &["SADD", &key("own:5"), "c"], "is in it, which"),
        plant(
            "a client that is in a set, and not there",
            &["SADD", &own, "nobody"],
            "nothing of the client \"nobody\"",
        ),
        plant(
            "who waits for nobody",
            &["HSET", &away("c:away"), "next", "1.9"],
            "somebody waits for it",
        ),
        plant(
            "who has begun, and does not own it",
            &["HSET", &key("c:c"), "opened", "1.9"],
            "who does not own it",
        ),
        plant(
            "a client of which there is nothing",
            &["HSET", &key("c:x"), "next", "1.9"],
            "another bucket",
        ),
        plant(
            "what is due of nobody",
            &["ZADD", &key("t"), "5", "nobody"],
            "\"nobody\" is due at None",
        ),
        plant(
            "what is due at another time",
            &["ZADD", &away("t"), "5", "away"],
            "\"away\" is due at",
        ),
        plant("what is not due", &["ZREM", &away("t"), "away"], "\"away\" is due at"),
        plant(
            "what is due of who is there",
            &["ZADD", &key("t"), "5", "c"],
            "\"c\" is due at None",
        ),
        plant(
            "a session that never ends",
            &["HDEL", &away("c:away"), "ends_at"],
            "when its session ends",
        ),
        plant(
            "a will that is never due",
            &["HDEL", &key_of("late", "c:late"), "will_at"],
            "never due",
        ),
        plant(
            "a will that is cut off",
            &["HSET", &key_of("late", "c:late"), "will", "x"],
            "its will can't be read",
        ),
        plant(
            "a due will that is not there",
            &["HDEL", &key_of("late", "c:late"), "will"],
            "that is not there",
        ),
        plant(
            "a will that is no job",
            &["HSET", &key("c:c"), "wills", "1.77"],
            "\"1.77\", which is no job",
        ),
        plant(
            "an unknown field",
            &["HSET", &key("c:c"), "other", "x"],
            "has a field \"other\"",
        ),
        plant(
            "a number that is none",
            &["HSET", &key("c:c"), "uid", "x"],
            "\"uid\" can't be read",
        ),
        plant(
            "a session that is not there",
            &["HSET", &key("c:c"), "uid", "256"],
            "its session 256 is not there",
        ),
        plant(
            "another owner of the session",
            &["HSET", &key(&session), "owner", "77"],
            "belongs to",
        ),
        plant("no client", &["DEL", &key("c:c")], "nobody can find this one"),
    ]
}

fn of_sessions(uid: Uid) -> Vec<Plant> {
    let key = |name: &str| key_of("c", name);
    let (session, queue) = (key(&format!("s:{uid}")), key(&format!("q:{uid}")));
    let strange = uid + (1 << 8);
    vec![
        plant(
            "a session that is not listed",
            &["SREM", &key("sessions"), &uid.to_string()],
            "nobody puts messages",
        ),
        plant(
            "a listed session",
            &["SADD", &key("sessions"), &strange.to_string()],
            "has no record",
        ),
        plant(
            "a queue",
            &["COPY", &queue, &key(&format!("q:{strange}"))],
            "a queue without a session",
        ),
        plant(
            "replays",
            &["COPY", &queue, &key(&format!("r:{strange}"))],
            "a queue without a session",
        ),
        plant(
            "a record that was changed",
            &["HSET", &session, "expiry", "601"],
            "checksum",
        ),
        plant("another client", &["HSET", &session, "cid", "d"], "checksum"),
        plant(
            "a record without a field",
            &["HDEL", &session, "window"],
            "has no window",
        ),
        plant(
            "an unknown field",
            &["HSET", &session, "floor", "0"],
            "has a field \"floor\"",
        ),
        plant(
            "a subscription that was changed",
            &["HSET", &session, "sub:b/#", "12345678"],
            "checksum",
        ),
        plant("a received message", &["HSET", &session, "in:9", "x"], "checksum"),
        plant("a message too few", &["LTRIM", &queue, "3", "-1"], "bytes, and"),
        plant(
            "a message at another place",
            &["LSET", &queue, "0", "5000"],
            "not in order",
        ),
        plant(
            "a place above the last",
            &["LSET", &queue, "-3", "5000"],
            "is noted as the last",
        ),
        plant("half a message", &["RPUSH", &queue, "9"], "half a message"),
        plant(
            "a message that was changed",
            &["LSET", &queue, "2", "x"],
            "place \"0\" can't be read",
        ),
        plant("other bytes", &["HINCRBY", &session, "bytes", "1"], "bytes, and"),
        plant("no queue", &["DEL", &queue], "0 messages of 0 bytes"),
        plant("a list that is a text", &["SET", &queue, "x"], "WRONGTYPE"),
    ]
}

fn of_homes(node: Incarnation) -> Vec<Plant> {
    let key = |name: &str| key_of("c", name);
    let (node, other) = (node.to_string(), format!("mqtt:{{{}}}:in:7", 8));
    vec![
        plant(
            "a writer that is no node",
            &["HSET", &key("hw"), "77", "0"],
            "there is no node 77",
        ),
        plant(
            "a writer that is no number",
            &["HSET", &key("hw"), "x", "0"],
            "counts no calls",
        ),
        plant(
            "a node that may not write",
            &["HDEL", &key("hw"), &node],
            "lives, and may not write",
        ),
        plant(
            "a mark of what is no node",
            &["SADD", &key("fenced"), "x"],
            "\"x\" is no node",
        ),
        plant(
            "a mark of a node that is not there",
            &["SADD", &key("fenced"), "77"],
            "there is no node 77",
        ),
        plant(
            "what is no home",
            &["SADD", "mqtt:{g}:lost", "256"],
            "\"256\" is no home",
        ),
        plant(
            "what was lost of none that is over",
            &["SADD", "mqtt:{g}:lost", "g"],
            "that are over, and none is",
        ),
        plant(
            "a generation that is no number",
            &["HSET", "mqtt:{g}:meta", "gen", "x"],
            "which incarnations are over",
        ),
        plant(
            "a job that can't be read",
            &["HSET", &key("jobs"), "1.5", "x"],
            "the job \"1.5\"",
        ),
        plant(
            "a job without a name",
            &["HSET", &key("jobs"), "x", "x"],
            "the job \"x\"",
        ),
        plant(
            "messages of nobody",
            &["HSET", &key("m2"), "77.1", "77"],
            "there is no node 77",
        ),
        plant(
            "a retained message of nobody",
            &["HSET", "mqtt:{g}:m2", "77.1", "77"],
            "there is no node 77",
        ),
        plant(
            "a retained message without an identity",
            &["HSET", "mqtt:{g}:m2", "x", "1"],
            "has been retained once",
        ),
        plant(
            "a queue elsewhere",
            &["HSET", &key("m2"), "1.5", "1 n1"],
            "names no queues of this bucket",
        ),
        plant(
            "an inbox in another bucket",
            &["XADD", &other, "1-0", "e", ""],
            "in another bucket",
        ),
        plant(
            "an inbox that can't be read",
            &["XADD", &format!("mqtt:{{{node}}}:in:{node}"), "1-*", "e", "x"],
            "can't be read",
        ),
        plant("another key", &["SET", &key("other"), "x"], "no key of a cluster"),
        plant(
            "a key of no bucket",
            &["SET", "mqtt:{300}:hw", "x"],
            "no key of a cluster",
        ),
        plant(
            "a key of one broker",
            &["SET", "mqtt:{g}:j", "x"],
            "no key of a cluster",
        ),
        plant(
            "a node that may not write at all",
            &["HDEL", "mqtt:{g}:hw", &node],
            "may not write",
        ),
        plant(
            "who may write, and is no node",
            &["HSET", "mqtt:{g}:hw", "77", "0"],
            "no node of the cluster",
        ),
        plant(
            "a living node that is recovered",
            &["HSET", "mqtt:{g}:rec", &node, &node],
            "recovered, and lives",
        ),
        plant(
            "a recoverer that is no node",
            &["HSET", "mqtt:{g}:rec", "77", "78"],
            "recovered by 78",
        ),
        plant("too few incarnations", &["SET", "mqtt:{g}:inc", "0"], "0 is noted"),
        plant(
            "a filter of nobody",
            &["HSET", "mqtt:{g}:f", "77:a", "0"],
            "there is no node 77",
        ),
        plant(
            "a filter that is none",
            &["HSET", "mqtt:{g}:f", "1:a/#/b", "0"],
            "no filter",
        ),
        plant(
            "a position that the log has not",
            &["HINCRBY", "mqtt:{g}:meta", "pos", "1"],
            "is noted in meta",
        ),
        plant(
            "an entry too few",
            &["XDEL", "mqtt:{g}:log", "1-2"],
            "the entries from 2 to 2",
        ),
        plant(
            "an entry that was not applied",
            &["XTRIM", "mqtt:{g}:log", "MINID", "1-3"],
            "it begins with entry 3",
        ),
        plant(
            "a node ahead of the log",
            &["HSET", "mqtt:{g}:nodes", &node, "0:99"],
            "99",
        ),
        plant(
            "a retained message that was changed",
            &["HSET", "mqtt:{g}:ret", "r", "x"],
            "of \"r\"",
        ),
        plant(
            "a retained message of another topic",
            &["HSET", "mqtt:{g}:ret", "s", "x"],
            "of \"s\"",
        ),
    ]
}

fn of_rests(uid: Uid, node: Incarnation) -> Vec<Plant> {
    let key = |name: &str| key_of("c", name);
    let strange = (uid + (1 << 8)).to_string();
    vec![
        plant(
            "the rest of a session of nobody",
            &["HSET", &key("rest"), "77.1", &format!("{strange} 77")],
            "there is no node 77",
        ),
        plant(
            "a rest without a queue",
            &["HSET", &key("rest"), "1.9", &format!("{strange} {node}")],
            "which has ended, is not there",
        ),
        plant(
            "a rest of nothing",
            &["HSET", &key("rest"), "1.9", "x"],
            "says of no session",
        ),
        plant(
            "a choice for no job",
            &["HSET", &key("chosen"), "1.9", "1 $share/g/t\0"],
            "which is no job",
        ),
        plant(
            "messages that groups have not given",
            &["HSET", &key(&format!("s:{uid}")), "given", "1"],
            "groups have given it 0 messages",
        ),
        plant(
            "a node that has left without a will",
            &["HSET", &key("c:c"), "left", "1"],
            "its node has left",
        ),
    ]
}

#[test]
fn what_does_not_belong_is_found() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = fill(&node);
    let id = node.id();
    // It lives.
    server.command::<()>(&["HSET", "mqtt:{g}:nodes", &id.to_string(), "1:1"]);
    drop(node);
    let whole: Vec<(String, Vec<u8>)> = {
        let keys: Vec<String> = server.command(&["KEYS", "*"]);
        let dump = |key: &String| server.command(&["DUMP", key]);
        keys.iter().map(|key| (key.clone(), dump(key))).collect()
    };
    for Plant { what, command, told } in
        [of_clients(uid, id), of_sessions(uid), of_rests(uid, id), of_homes(id)].concat()
    {
        server.command::<()>(&["FLUSHDB"]);
        for (key, value) in &whole {
            let mut restore = redis::cmd("RESTORE");
            restore.arg(key).arg(0).arg(value);
            restore.exec(&mut server.connection()).expect("is restored");
        }
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        server.command::<::redis::Value>(&command);
        let report = look(&server);
        let faults: Vec<_> = report.faults.iter().filter(|fault| fault.contains(told)).collect();
        assert!(!faults.is_empty(), "{what}: {report}");
        for fault in faults {
            assert!(
                fault.starts_with("mqtt:{") && fault.contains(". "),
                "it says what to do: {fault}"
            );
        }
    }
}

/// What is in motion is no fault.
#[test]
fn it_may_look_at_nodes_at_work() {
    let server = RedisServer::start(&[]);
    let nodes = [Node::join(&server), Node::join(&server)];
    fill(&nodes[0]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (node, client_id) in nodes.iter().zip(["x", "y"]) {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut number = 1000;
                while !is_over.load(Ordering::SeqCst) {
                    number += 1;
                    come_and_go(node, client_id, number);
                }
            });
        }
        for _ in 0..5 {
            let report = look(&server);
            assert!(report.faults.is_empty(), "{report}");
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

/// What is wrong all the time is told, though its numbers go on.
#[test]
fn a_fault_is_told_while_nodes_are_at_work() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = fill(&node);
    server.command::<()>(&["HINCRBY", &key_of("c", &format!("s:{uid}")), "bytes", "1000"]);
    let is_over = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                node.keep(&Changes::default().publish("m", &[to(uid)]));
            }
        });
        let report = look(&server);
        is_over.store(true, Ordering::SeqCst);
        report
    });
    let queue = key_of("c", &format!("q:{uid}: it has "));
    assert!(report.faults.iter().any(|fault| fault.starts_with(&queue)), "{report}");
}

fn come_and_go(node: &Node, client_id: &str, number: u32) {
    let uid = node.begin(client_id, number);
    let record = node.store.client(client_id).expect("a client");
    let session = record.uid.unwrap_or(uid);
    let changes = subscribe(session, "a").publish("m", &[to(session), to(session)]);
    node.keep(&changes.log(subscribed(session, "a")));
    let most = Page {
        messages: 100,
        bytes: usize::MAX,
    };
    let queue = node.store.queue(session, Lane::Live, 0, most).expect("a queue");
    let done = queue.iter().fold(Changes::default(), |changes, delivery| {
        changes.done(session, delivery.index)
    });
    node.keep(&done);
    node.keep(&release(node, client_id, u64::from(number), false));
}

/// The queue of a session that has ended stays as long as it is noted that others get what is in it.
#[test]
fn the_rest_of_a_session_is_in_order() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = fill(&node);
    let rest = uid + (1 << 8);
    let queue = key_of("c", &format!("q:{rest}"));
    server.command::<()>(&["COPY", &key_of("c", &format!("q:{uid}")), &queue]);
    server.command::<()>(&["HSET", &key_of("c", "rest"), "1.9", &format!("{rest} {}", node.id())]);
    let report = look(&server);
    assert!(report.faults.is_empty(), "{report}");
    assert!(
        report.to_string().contains("\nsessions that have left messages: 1\n"),
        "{report}"
    );
}

/// Keys are on several servers.
#[test]
fn it_looks_at_all_servers_of_a_redis_cluster() {
    let servers = Cluster::start(2);
    let node = Node::without_mirror(&servers.settings(), super::testing::LIMITS);
    node.begin("c", 1);
    let report = doctor(&servers.settings()).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
    assert_eq!(report.sessions, 1);
    let own = key_of("c", &format!("own:{}", node.id()));
    let other = servers.server_without(&own);
    servers.servers[1 - other].command::<()>(&["SREM", &own, "c"]);
    let report = doctor(&servers.settings()).expect("can look");
    assert_eq!(report.faults.len(), 1, "{report}");
}
