//! What is imported is there as it was with one broker, and nodes go on with it.

use std::time::Duration;

use super::doctor::{client, look};
use super::testing::{Changes, LIMITS, Node, to};
use crate::message::Publication;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::cluster::{About, ClusterOp, Homes, Shared};
use crate::store::op::{
    Lane, Op, Recipient, SessionRecord, SubscriptionRecord, TermsRecord, Uid, write_message, write_recipient,
};
use crate::store::redis::cluster::open;
use crate::store::redis::testing::{RedisServer, publication, queue};
use crate::store::redis::{load, open_to_read, store_is_there};
use crate::store::{Batch, MemoryStore, Store, StoreError};
use crate::time::Millis;

const AWAY: Uid = 1;
const THERE: Uid = 9;
const EMPTY: Uid = 12;

/// As an import writes it: each session before its queues, which are in order.
fn everything() -> Vec<u8> {
    let mut to = Vec::new();
    session(&mut to, AWAY, ("away", 3600), Some(1 << 42), 6);
    Op::Floor { uid: AWAY, index: 2 }.write(&mut to);
    for (filter, identifier, replays) in [("a/#", 0, false), ("$share/g/b/+", 7, false), ("r/#", 3, true)] {
        subscribe(&mut to, AWAY, filter, identifier, replays);
    }
    cursor(&mut to, AWAY, "r/#", "r/5", 10);
    for packet_id in [1, 65_535] {
        Op::Received { uid: AWAY, packet_id }.write(&mut to);
    }
    session(&mut to, THERE, ("there", 60), None, 0);
    session(&mut to, EMPTY, ("drained", u32::MAX), Some(8), 57);
    for (index, share) in [
        (2, None),
        (5, Some("$share/g/b/+")),
        (6, None),
        (8, Some("$share/g/b/+")),
    ] {
        message(&mut to, AWAY, index, share);
    }
    let (uid, lane) = (AWAY, Lane::Live);
    Op::Released { uid, lane, index: 9 }.write(&mut to);
    message(&mut to, THERE, 0, None);
    for (index, topic) in [(0, "r/0"), (2, "r/2")] {
        replayed(&mut to, AWAY, "", topic, index);
    }
    let lane = Lane::Replayed;
    Op::Released { uid, lane, index: 2 }.write(&mut to);
    will(&mut to, AWAY, "away", 5);
    will(&mut to, THERE, "there", 7);
    will(&mut to, 77, "volatile", 0);
    // Of a connection before.
    will(&mut to, 78, "volatile", 0);
    for (topic, payload) in [("r/1", &b"\x00\xff"[..]), ("r/2", b"two")] {
        let message = publication(topic, payload);
        Op::Retain { message }.write(&mut to);
    }
    to
}

fn session(to: &mut Vec<u8>, uid: Uid, (client_id, expiry_interval): (&str, u32), away: Option<u64>, unsent: u64) {
    Op::Session(SessionRecord {
        uid,
        client_id,
        expiry_interval,
        window: 20,
        away_since: away.map(Millis::from_unix),
        unsent,
    })
    .write(to);
}

fn subscribe(to: &mut Vec<u8>, uid: Uid, filter: &str, identifier: u32, replays: bool) {
    let subscription = SubscriptionRecord {
        filter,
        options: SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: true,
            retain_handling: RetainHandling::SendIfNew,
        },
        identifier,
        replays,
    };
    Op::Subscribe { uid, subscription }.write(to);
}

fn cursor(to: &mut Vec<u8>, uid: Uid, filter: &str, topic: &str, index: u64) {
    replayed(to, uid, filter, topic, index);
    let lane = Lane::Replayed;
    Op::Done { uid, lane, index }.write(to);
}

fn replayed(to: &mut Vec<u8>, uid: Uid, filter: &str, topic: &str, index: u64) {
    Op::Replayed {
        uid,
        index,
        before: 4,
        filter,
        terms: terms(None),
        message: publication(topic, b"retained"),
    }
    .write(to);
}

fn message(to: &mut Vec<u8>, uid: Uid, index: u64, share: Option<&str>) {
    let mut recipient = Vec::new();
    let terms = terms(share);
    write_recipient(&mut recipient, &Recipient { uid, index, terms });
    let payload = format!("payload {index}");
    let message = Publication {
        expires_at: Some(Millis::from_unix(1 << 50)),
        ..publication("a/b", payload.as_bytes())
    };
    write_message(to, 1, &recipient, &message);
}

fn terms(share: Option<&str>) -> TermsRecord<'_> {
    TermsRecord {
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: &[0, 0, 0, 7],
        share,
    }
}

fn will(to: &mut Vec<u8>, uid: Uid, client_id: &str, delay_interval: u32) {
    let client = client(client_id);
    Op::Will {
        uid,
        delay_interval,
        expires_in: Some(9),
        message: publication("will", client_id.as_bytes()),
        client: &client,
    }
    .write(to);
}

fn batch(bytes: &[u8]) -> Batch<'_> {
    Batch { number: 1, bytes }
}

/// All that there is, in words, without names of sessions, which are others.
fn contents(store: &dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    let mut named = Vec::new();
    let read = store.sessions(&mut |mut session| {
        named.push((session.uid, session.client_id.clone()));
        session.uid = 0;
        session.owner = None;
        lines.push(format!("{session:?}"));
    });
    read.expect("sessions");
    for (uid, client_id) in &named {
        for lane in [Lane::Live, Lane::Replayed] {
            let entries = queue(store, *uid, lane).into_iter();
            lines.extend(entries.map(|entry| format!("{client_id} {lane:?} {entry}")));
        }
    }
    let read = store.wills(&mut |mut will| {
        let of = named.iter().find(|(uid, _)| *uid == will.uid);
        will.uid = 0;
        lines.push(format!("of {of:?}: {will:?}", of = of.map(|(_, client_id)| client_id)));
    });
    read.expect("wills");
    let read = store.retained(&mut |message| lines.push(format!("{message:?}")));
    read.expect("retained messages");
    lines.sort();
    lines
}

#[test]
fn what_is_imported_is_there() {
    let server = RedisServer::start(&[]);
    let bytes = everything();
    let expected = MemoryStore::default();
    expected.commit(&batch(&bytes)).expect("committed");
    let load = load(&server.settings(), |store| {
        store.commit(&batch(&bytes)).map_err(|error| error.to_string())?;
        Ok(contents(store))
    });
    assert_eq!(load.expect("loaded"), contents(&expected));
    let reader = open_to_read(&server.settings()).expect("opens");
    assert_eq!(contents(&*reader), contents(&expected));
    let report = look(&server);
    assert!(report.faults.is_empty(), "{report}");
    assert_eq!(
        (report.sessions, report.messages, report.retained),
        (3, 8, 2),
        "{report}"
    );
}

/// Places go on from where they were, and what is due is due for whoever frees the clients.
#[test]
fn nodes_go_on_with_what_was_imported() {
    let server = RedisServer::start(&[]);
    let bytes = everything();
    let load = load(&server.settings(), |store| {
        store.commit(&batch(&bytes)).map_err(|error| error.to_string())
    });
    load.expect("loaded");
    let node = Node::join(&server);
    let members = node.store.members().expect("members");
    let dead = members.nodes[0].0;
    assert_ne!(dead, node.id());
    node.keep(&Changes::default().cluster(ClusterOp::Dead {
        node: dead,
        counter: 0,
        lost: Homes::default(),
    }));
    let mut owned = node.store.owned_by(dead).expect("clients");
    owned.sort();
    assert_eq!(owned, ["there".into(), "volatile".into()] as [Box<str>; 2]);
    assert_eq!(
        node.store.jobs_of(dead).expect("jobs").len(),
        1,
        "the will of a connection before"
    );
    let drained = node.begin("drained", 1);
    let record = node.store.client("drained").expect("a client");
    let uid = record.uid.expect("a session");
    assert_ne!(uid, drained, "it goes on");
    node.keep(&Changes::default().publish("next", &[to(uid)]));
    assert_eq!(node.queue(uid), ["57 next"]);
    let report = look(&server);
    assert!(report.faults.is_empty(), "{report}");
}

/// A node whose lease is long says rarely that it lives: what it has is not replaced.
#[test]
fn a_node_with_a_long_lease_is_at_work() {
    let server = RedisServer::start(&[]);
    load(&server.settings(), |_| Ok(())).expect("loaded");
    let about = About {
        lease: Some(Duration::from_secs(5)),
        ..About::default()
    };
    server.command::<()>(&["HSET", "mqtt:{g}:nodes", "7", "1:0"]);
    let mut tell = redis::cmd("HSET");
    tell.arg("mqtt:{g}:about").arg(7).arg(about.write());
    tell.exec(&mut server.connection()).expect("is told");
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(4));
            server.command::<()>(&["HSET", "mqtt:{g}:nodes", "7", "2:0"]);
        });
        load(&server.settings(), |_| Ok(()))
    });
    assert!(refused.is_err_and(|why| why.contains("at work ([7])")));
}

/// A prefix that was mistyped is no empty store.
#[test]
fn what_is_not_there_can_not_be_read() {
    let server = RedisServer::start(&[]);
    assert_eq!(store_is_there(&server.settings()), Ok(false));
    let refused = open_to_read(&server.settings()).err();
    assert!(
        matches!(&refused, Some(StoreError::Refused(why)) if why.contains("nothing of a broker under the prefix mqtt")),
        "{refused:?}"
    );
    load(&server.settings(), |_| Ok(())).expect("loaded");
    assert_eq!(store_is_there(&server.settings()), Ok(true));
    assert!(open_to_read(&server.settings()).is_ok(), "an empty one is there");
}

/// Nobody opens what is half there, and what has failed is gone.
#[test]
fn an_import_is_whole_or_not_there() {
    let server = RedisServer::start(&[]);
    let bytes = everything();
    let failed = load(&server.settings(), |store| {
        store.commit(&batch(&bytes)).map_err(|error| error.to_string())?;
        for opened in [
            open(&server.settings(), LIMITS).err(),
            open_to_read(&server.settings()).err(),
        ] {
            assert!(matches!(opened, Some(StoreError::Refused(_))), "{opened:?}");
        }
        Err::<(), _>("it ends".to_owned())
    });
    assert!(failed.is_err_and(|error| error.contains("nothing was imported")));
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "*"]), ["mqtt:{g}:inc"]);
    // Only what this version knows is replaced.
    server.command::<()>(&["HSET", "mqtt:{g}:meta", "schema", "1"]);
    let refused = load(&server.settings(), |_| Ok(()));
    assert!(refused.is_err_and(|error| error.contains("schema 1")));
}
