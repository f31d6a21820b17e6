//! What whoever looks after a cluster asks of it, and retained messages that have expired.

use super::testing::{Changes, LIMITS, Node, log, to};
use crate::message::Publication;
use crate::store::Store;
use crate::store::cluster::{About, ClusterOp, Entry, Homes, How, Shared, bucket_of_client, bucket_of_uid};
use crate::store::op::{Op, SessionRecord};
use crate::store::redis::testing::{RedisServer, publication};
use crate::time::Millis;

fn about(name: &str) -> About {
    About {
        name: name.into(),
        figures: vec![1, 2],
        ..About::default()
    }
}

/// What a node says is there as long as it lives, and until it has been recovered.
#[test]
fn nodes_tell_of_themselves() {
    let server = RedisServer::start(&[]);
    let (one, two) = (Node::join(&server), Node::join(&server));
    one.store.announce(&about("one")).expect("said");
    two.store.announce(&about("before")).expect("said");
    two.store.announce(&about("two")).expect("said");
    one.keep(&Changes::default().log(Entry::Route {
        node: one.id(),
        filter: "f",
        kind: crate::store::cluster::RouteKind::All,
    }));
    let overview = one.store.overview().expect("read");
    assert_eq!(overview.nodes, [(one.id(), 1), (two.id(), 2)]);
    assert_eq!((overview.position, overview.log_entries, overview.routes), (3, 3, 1));
    let mut told = overview.about;
    told.sort_by_key(|(node, _)| *node);
    assert_eq!(told, [(one.id(), about("one")), (two.id(), about("two"))]);
    let (node, counter) = (two.id(), 0);
    one.keep(&Changes::default().cluster(ClusterOp::Dead {
        node,
        counter,
        lost: Homes::default(),
    }));
    let overview = one.store.overview().expect("read");
    assert_eq!(overview.recoverers, [(two.id(), one.id())]);
    assert_eq!(overview.about.len(), 2);
    // Too late.
    two.store.announce(&about("dead")).expect("asked");
    one.keep(&Changes::default().cluster(ClusterOp::Recovered { node }));
    two.store.announce(&about("dead")).expect("asked");
    let overview = one.store.overview().expect("read");
    assert_eq!(overview.about, [(one.id(), about("one"))]);
}

/// What a later version says of itself is left out, and no fault.
#[test]
fn what_is_not_understood_is_left_out() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    server.command::<()>(&["HSET", "mqtt:{g}:about", "1", "?"]);
    assert_eq!(node.store.overview().expect("read").about, []);
}

/// Sessions are found bucket by bucket, whoever owns them, and what waits in them is counted.
#[test]
fn sessions_are_found_in_parts() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let names: Vec<_> = (0..3000).map(|number| format!("c{number}")).collect();
    for (number, part) in names.chunks(500).enumerate() {
        let mut changes = Changes::default();
        for (place, name) in part.iter().enumerate() {
            let number = (number * 500 + place) as u32 + 1;
            let (token, uid) = (node.token(u64::from(number)), node.uid(number, name));
            changes = changes.claim(name, token).open(name, token, uid);
        }
        node.keep(&changes);
    }
    assert_eq!(node.store.count_sessions(), Ok(3000));
    let mut found = Vec::new();
    for bucket in 0..=u8::MAX {
        let mut cursor = 0;
        loop {
            let (sessions, next) = node.store.some_sessions(bucket, cursor).expect("read");
            assert!(sessions.iter().all(|session| bucket_of_uid(session.uid) == bucket));
            assert!(sessions.is_sorted_by_key(|session| session.uid));
            found.extend(sessions.into_iter().map(|session| session.client_id));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    found.sort();
    let mut names: Vec<_> = names.iter().map(|name| Box::from(&**name)).collect();
    names.sort();
    assert_eq!(found, names);
}

#[test]
fn a_session_is_seen_with_what_waits_in_it() {
    let server = RedisServer::start(&[]);
    let node = Node::join(&server);
    let uid = node.begin("c", 1);
    node.keep(&Changes::default().publish("one", &[to(uid)]).publish("two", &[to(uid)]));
    let seen = node.store.glance(uid).expect("read").expect("there");
    assert_eq!(
        (&*seen.client_id, seen.owner, seen.ends_at),
        ("c", Some(node.id()), None)
    );
    assert_eq!((seen.messages, seen.bytes), (2, 2 * "a/bone".len() as u64));
    let record = SessionRecord {
        uid,
        client_id: "c",
        expiry_interval: 600,
        window: 10,
        away_since: Some(Millis::from_unix(5000)),
        unsent: 0,
    };
    let release = ClusterOp::Release {
        client_id: "c",
        token: node.token(1),
        how: How::Clean,
        expiry_interval: 600,
        mid: node.mid(9),
    };
    node.keep(&Changes::default().op(&Op::Session(record)).cluster(release));
    let seen = node.store.glance(uid).expect("read").expect("there");
    assert_eq!((seen.owner, seen.ends_at), (None, Some(Millis::from_unix(605_000))));
    assert_eq!(node.store.glance(uid + 256), Ok(None));
    let (sessions, _) = node.store.some_sessions(bucket_of_client("c"), 0).expect("read");
    assert_eq!(sessions, [seen]);
}

/// Only the message that has expired goes, once, and the log says so.
#[test]
fn an_expired_message_goes_if_it_is_still_that_one() {
    let server = RedisServer::start(&[]);
    let node = Node::with(&server, &server.settings(), LIMITS);
    let retain = |topic, expires_at: Option<u64>| Entry::Retain {
        message: Publication {
            retain: true,
            expires_at: expires_at.map(Millis::from_unix),
            ..publication(topic, b"x")
        },
    };
    let expire = |topic, at| ClusterOp::Expire {
        topic,
        at: Millis::from_unix(at),
    };
    node.keep(
        &Changes::default()
            .log(retain("goes", Some(1000)))
            .log(retain("is later", Some(2000)))
            .log(retain("stays", None)),
    );
    node.keep(
        &Changes::default()
            .cluster(expire("goes", 1000))
            .cluster(expire("goes", 1000))
            .cluster(expire("is later", 1000))
            .cluster(expire("stays", 1000))
            .cluster(expire("unknown", 1000)),
    );
    let mut left = Vec::new();
    node.store
        .retained(&mut |message| left.push(message.topic().to_owned()))
        .expect("retained");
    left.sort();
    assert_eq!(left, ["is later", "stays"]);
    let told = format!("5 {:?}", Entry::RetainClear { topic: "goes" });
    assert_eq!(log(&server)[4..], [told]);
}
