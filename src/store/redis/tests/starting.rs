//! What stops the start, and who may use the server.

use std::io::Write;

use crate::store::redis::testing::{Changes, RedisServer, indexes, publication, terms};
use crate::store::redis::{self, doctor};
use crate::store::{Lane, Op, RedisSettings, Store, StoreError};

fn refused(settings: &RedisSettings, why: &str) {
    let error = redis::open(settings).map(|_| ()).expect_err(why);
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn a_server_that_evicts_is_refused() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    refused(&server.settings(), "noeviction");
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    server.open();
}

#[test]
fn nobody_is_there() {
    let mut server = RedisServer::start(&[]);
    let settings = server.settings();
    server.kill();
    let error = redis::open(&settings).map(|_| ()).expect_err("nobody is there");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[test]
fn a_replica_is_refused() {
    let server = RedisServer::start_at_a_port(&[]);
    let port = server.port.expect("has one").to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]);
    refused(&replica.settings(), "replica");
}

#[test]
fn waiting_for_syncs_needs_a_newer_server() {
    let server = RedisServer::start(&[]);
    let version: String = server.command(&["INFO", "server"]);
    let mut settings = server.settings();
    settings.fsync = true;
    if version.contains("redis_version:7.0") {
        refused(&settings, "7.2");
    } else {
        refused(&settings, "append-only");
    }
}

#[test]
fn another_schema_is_refused() {
    let server = RedisServer::start(&[]);
    drop(server.open());
    for field in ["schema", "buckets"] {
        let right: String = server.command(&["HGET", "mqtt:{g}:meta", field]);
        server.command::<()>(&["HSET", "mqtt:{g}:meta", field, "9999"]);
        refused(&server.settings(), "9999");
        server.command::<()>(&["HSET", "mqtt:{g}:meta", field, &right]);
    }
    server.open();
}

#[test]
fn a_wrong_password_is_refused_and_not_told() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let mut settings = server.settings();
    refused(&settings, "NOAUTH");
    settings.url = format!("{}?pass=guess", server.url());
    let error = redis::open(&settings).map(|_| ()).expect_err("is wrong");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(!error.to_string().contains("guess"), "{error}");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"right\n").expect("written");
    settings.password_file = Some(file.path().to_owned());
    redis::open(&settings).expect("is right");
}

/// The rule of `docs/redis.md` is enough, for the store and for the doctor.
#[test]
fn the_documented_rule_is_enough() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).expect("is there");
    let rule = text
        .lines()
        .find_map(|line| line.strip_prefix("user broker "))
        .expect("has a rule");
    let server = RedisServer::start(&[]);
    let words: Vec<_> = ["ACL", "SETUSER", "broker"]
        .into_iter()
        .chain(rule.split_whitespace())
        .collect();
    server.command::<()>(&words);
    let mut settings = server.settings();
    settings.url = format!("{}?user=broker&pass=secret", server.url());
    let store = redis::open(&settings).expect("opens");
    everything(&store);
    let report = doctor(&settings).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
    settings.prefix = "elsewhere".to_owned();
    let error = redis::open(&settings).map(|_| ()).expect_err("is not allowed");
    assert!(error.to_string().contains("NOPERM"), "{error}");
    assert!(error.to_string().contains("docs/redis.md"), "{error}");
}

/// Changes that use all commands of the scripts.
fn everything(store: &dyn Store) {
    let mut changes = Changes::default().session(1, "c", Some(7)).subscribe(1, "a", true);
    for place in (0..700).rev() {
        changes = changes.message(b"m", &[(1, place)]);
    }
    changes.commit(store, 1).expect("commits");
    for (number, place) in (2..).zip([800, 900, 850, 750]) {
        Changes::default()
            .message(b"m", &[(1, place)])
            .commit(store, number)
            .expect("commits");
    }
    Changes::default()
        .message(b"m", &[(2, 0)])
        .session(2, "d", None)
        .message(b"m", &[(2, 5)])
        .commit(store, 6)
        .expect("commits");
    Changes::default()
        .message(b"m", &[(2, 1)])
        .done(2, 5)
        .commit(store, 7)
        .expect("commits");
    let ops = [
        Op::Replayed {
            uid: 1,
            index: 0,
            before: 1,
            filter: "a",
            terms: terms(),
            message: publication("a", b""),
        },
        Op::ReplayEnd { uid: 1, filter: "a" },
        Op::Released {
            uid: 1,
            lane: Lane::Live,
            index: 1,
        },
        Op::Floor { uid: 1, index: 3 },
        Op::Received { uid: 1, packet_id: 1 },
        Op::ReceivedEnd { uid: 1, packet_id: 1 },
        Op::Unsubscribe { uid: 1, filter: "a" },
        Op::Retain {
            message: publication("a", b"x"),
        },
        Op::RetainClear { topic: "b" },
        Op::Will {
            uid: 2,
            delay_interval: 0,
            expires_in: None,
            message: publication("a", b"x"),
            client: b"",
        },
        Op::SessionEnd { uid: 2 },
    ];
    let all = ops.iter().fold(Changes::default(), Changes::op);
    all.commit(store, 8).expect("commits");
    Changes::default()
        .op(&Op::WillEnd { uid: 2 })
        .commit(store, 9)
        .expect("commits");
    assert_eq!(indexes(store, 1).len(), 701);
}
