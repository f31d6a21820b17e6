//! Nothing stays behind, and what does not belong is found.

use crate::store::op::Op;
use crate::store::redis::doctor;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::testing::{Changes, RedisServer, publication};
use crate::store::{Lane, Store};

fn filled(store: &dyn Store, number: u64) {
    let mut changes = Changes::default();
    for uid in 0..300 {
        let away_since = (uid % 2 == 0).then_some(1000 + uid);
        changes = changes
            .session(uid, &format!("client-{}", uid % 250), away_since)
            .subscribe(uid, "a/b", true);
        for place in 0..5 {
            changes = changes.message(b"payload", &[(uid, place), (uid / 2, place + 5)]);
        }
        changes = changes
            .op(&Op::Received { uid, packet_id: 9 })
            .op(&Op::Released {
                uid,
                lane: Lane::Replayed,
                index: 3,
            })
            .op(&will(uid + 100))
            .op(&Op::Retain {
                message: publication(&format!("topic/{uid}"), b"r"),
            });
    }
    changes.commit(store, number).expect("commits");
}

fn will<'a>(uid: u64) -> Op<'a> {
    Op::Will {
        uid,
        delay_interval: 5,
        expires_in: None,
        message: publication("w", b"w"),
        client: b"",
    }
}

#[test]
fn nothing_stays_behind() {
    let server = RedisServer::start(&[]);
    let store = server.open();
    filled(&store, 1);
    drop(store);
    let store = server.open();
    let report = doctor(&server.settings()).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
    assert_eq!(
        (report.incarnation, report.sessions, report.wills, report.retained),
        (2, 300, 300, 300)
    );
    let mut changes = Changes::default();
    for uid in 0..300 {
        changes = changes
            .op(&Op::SessionEnd { uid })
            .op(&Op::WillEnd { uid: uid + 100 })
            .op(&Op::RetainClear {
                topic: &format!("topic/{uid}"),
            });
    }
    changes.commit(&store, 2).expect("commits");
    let mut left: Vec<String> = server.command(&["KEYS", "*"]);
    left.retain(|key| !key.ends_with(":hw"));
    left.sort();
    assert_eq!(left, ["mqtt:{g}:inc", "mqtt:{g}:meta"]);
    let counters: Vec<String> = server.command(&["KEYS", "*:hw"]);
    for counter in counters {
        assert_eq!(server.command::<u64>(&["HLEN", &counter]), 1, "{counter}");
    }
    let report = doctor(&server.settings()).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
fn what_does_not_belong_is_found() {
    let server = RedisServer::start(&[]);
    let store = server.open();
    filled(&store, 1);
    let keys = Keys::new("mqtt").expect("a prefix");
    let home = Home::of_client("client-4");
    let key = |name: &str| keys.of(home, name);
    let plants: &[(&str, &[&str], &str)] = &[
        (
            "a queue without a session",
            &["COPY", &key("q:4"), &key("q:999")],
            "session 999 has a queue",
        ),
        (
            "replays without a session",
            &["COPY", &key("r:4"), &key("r:999")],
            "session 999 has a lane",
        ),
        (
            "a record that is not listed",
            &["SREM", &key("sessions"), "4"],
            "sessions that are listed",
        ),
        (
            "a session that is not there",
            &["SADD", &key("sessions"), "999"],
            "sessions that are listed",
        ),
        (
            "a will that is not there",
            &["SADD", &key("wills"), "999"],
            "wills that are listed",
        ),
        (
            "a will that is not listed",
            &["COPY", &keys.will(Home::Bucket(100), 100), &key("w:999")],
            "wills that are listed",
        ),
        (
            "an owner of nothing",
            &["SADD", &key("own:1"), "999"],
            "999 has an owner",
        ),
        (
            "an owner of one who is away",
            &["SADD", &key("own:1"), "4"],
            "4 has an owner",
        ),
        ("another owner", &["SADD", &key("own:7"), "4"], "own sessions"),
        (
            "a due time of nobody",
            &["ZADD", &key("t"), "5", "999"],
            "999 has an owner or a due",
        ),
        ("a due time that is wrong", &["ZADD", &key("t"), "5", "4"], "4 is due"),
        ("no due time", &["ZREM", &key("t"), "4"], "4 is due"),
        ("another writer", &["HSET", &key("hw"), "7", "0"], "incarnations"),
        ("no writer", &["DEL", &key("hw")], "incarnations"),
        (
            "a message below the floor",
            &["HSET", &key("s:4"), "floor", "2"],
            "below its floor",
        ),
        ("a message too few", &["LTRIM", &key("q:4"), "3", "-1"], "are noted"),
        ("another key", &["SET", &key("other"), "x"], "none of this schema"),
        (
            "a key of no bucket",
            &["SET", "mqtt:{300}:hw", "x"],
            "none of this schema",
        ),
    ];
    for (what, command, told) in plants {
        server.command::<()>(&["FLUSHDB"]);
        let store = server.open();
        // The first incarnation of this data.
        filled(&store, 1);
        server.command::<::redis::Value>(command);
        let report = doctor(&server.settings()).expect("can look");
        assert!(
            report.faults.iter().any(|fault| fault.contains(told)),
            "{what}: {report}"
        );
    }
}

/// What is in motion is no fault.
#[test]
fn it_may_look_at_a_store_at_work() {
    let server = RedisServer::start(&[]);
    let store = server.open();
    filled(&store, 1);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| (0..3).map(|_| doctor(&server.settings())).collect::<Vec<_>>());
        let mut number = 2;
        while !looks.is_finished() {
            let changes = Changes::default()
                .session(1000, "x", None)
                .message(b"m", &[(1000, number), (5, number + 10)]);
            changes.commit(&store, number).expect("commits");
            let changes = Changes::default()
                .op(&Op::SessionEnd { uid: 1000 })
                .done(5, number + 10);
            changes.commit(&store, number + 1).expect("commits");
            number += 2;
        }
        for report in looks.join().expect("looks") {
            report.expect("can look");
        }
    });
    let report = doctor(&server.settings()).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
fn it_says_when_there_is_nothing() {
    let server = RedisServer::start(&[]);
    let error = doctor(&server.settings()).expect_err("there is nothing");
    assert!(error.to_string().contains("nothing of a broker"), "{error}");
}
