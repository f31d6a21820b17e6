//! Servers that end, forget, answer late or not at all, and others who write to the same keys.

use std::time::Duration;

use crate::store::op::Op;
use crate::store::redis::entry::message_bytes;
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::testing::{ALWAYS, Changes, Proxy, RedisServer, dump, indexes, publication};
use crate::store::redis::{self, doctor};
use crate::store::{Lane, Page, Store, StoreError};

/// A session with one message.
fn begun() -> Changes {
    Changes::default().session(1, "c", None).message(b"one", &[(1, 0)])
}

fn next() -> Changes {
    Changes::default().message(b"two", &[(1, 1)])
}

fn has_no_faults(server: &RedisServer) {
    let report = doctor(&server.settings()).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
}

#[test]
fn what_was_committed_survives_the_server() {
    let mut server = RedisServer::start(ALWAYS);
    let store = server.open();
    for number in 1..=20 {
        let changes = Changes::default()
            .session(number, &format!("c{number}"), Some(5))
            .message(b"m", &[(number, 0)]);
        changes.commit(&store, number).expect("commits");
        if number % 5 == 0 {
            server.restart();
        }
    }
    let before = dump(&store);
    assert_eq!(before.len(), 40);
    server.restart();
    assert_eq!(dump(&store), before);
    assert_eq!(dump(&server.open()), before);
    has_no_faults(&server);
}

#[test]
fn without_a_server_it_is_unavailable_until_there_is_one() {
    let mut server = RedisServer::start(ALWAYS);
    let store = server.open();
    begun().commit(&store, 1).expect("commits");
    server.kill();
    let error = next().commit(&store, 2).expect_err("there is no server");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let page = Page { messages: 1, bytes: 1 };
    let error = store.queue(1, Lane::Live, 0, page).expect_err("there is no server");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    server.restart();
    next().commit(&store, 2).expect("commits");
    assert_eq!(indexes(&store, 1), [0, 1]);
}

/// The reply to a transaction is cut off after the server has done it.
#[test]
fn a_batch_whose_reply_is_lost_has_effect_once() {
    let server = RedisServer::start_at_a_port(ALWAYS);
    let proxy = Proxy::start(server.port.expect("has one"));
    let mut settings = server.settings();
    settings.url = proxy.url();
    let store = redis::open(&settings).expect("opens");
    begun().commit(&store, 1).expect("commits");
    // The second attempt, which is made at once, is told that it was done.
    proxy.lose_replies(1);
    next().commit(&store, 2).expect("commits");
    assert_eq!(proxy.replies_to_lose(), 0);
    // Here the second is lost as well.
    proxy.lose_replies(2);
    let third = Changes::default().message(b"three", &[(1, 2)]).done(1, 0);
    let error = third.commit(&store, 3).expect_err("no reply came");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(proxy.replies_to_lose(), 0);
    third.commit(&store, 3).expect("commits");
    assert_eq!(indexes(&store, 1), [1, 2]);
    has_no_faults(&server);
}

/// What is sent to a server that stands still is done later, though nobody waits for it any more.
#[test]
fn a_batch_that_is_late_has_effect_once() {
    let server = RedisServer::start(ALWAYS);
    let mut settings = server.settings();
    settings.timeout = Duration::from_millis(300);
    let store = redis::open(&settings).expect("opens");
    begun().commit(&store, 1).expect("commits");
    server.signal("STOP");
    for _ in 0..2 {
        let error = next().commit(&store, 2).expect_err("nobody answers");
        assert!(error.to_string().contains("in time"), "{error}");
    }
    server.signal("CONT");
    next().commit(&store, 2).expect("commits");
    assert_eq!(indexes(&store, 1), [0, 1]);
    has_no_faults(&server);
}

#[test]
fn scripts_may_be_forgotten() {
    let server = RedisServer::start(&[]);
    let store = server.open();
    begun().commit(&store, 1).expect("commits");
    assert_eq!(indexes(&store, 1), [0]);
    server.command::<()>(&["SCRIPT", "FLUSH"]);
    next().commit(&store, 2).expect("commits");
    server.command::<()>(&["SCRIPT", "FLUSH"]);
    assert_eq!(indexes(&store, 1), [0, 1]);
}

/// Memory can be freed when there is none left; the rest waits until there is.
#[test]
fn memory_may_run_out() {
    let server = RedisServer::start(&[]);
    let store = server.open();
    begun().commit(&store, 1).expect("commits");
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1mb"]);
    Changes::default().done(1, 0).commit(&store, 2).expect("frees");
    let begin = Changes::default().message(b"one", &[(1, 1)]);
    let changes = begin.op(&Op::Retain {
        message: publication("t", b"r"),
    });
    for _ in 0..2 {
        let error = changes.commit(&store, 3).expect_err("there is no memory");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("maxmemory"), "{error}");
        assert!(indexes(&store, 1).is_empty());
    }
    // Another can take over, and sees the same.
    assert_eq!(dump(&server.open()).len(), 1);
    let store = server.open();
    assert!(changes.commit(&store, 3).is_err());
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    changes.commit(&store, 3).expect("commits");
    assert_eq!(dump(&store).len(), 3);
    has_no_faults(&server);
}

#[test]
fn the_last_that_opens_it_has_it() {
    let server = RedisServer::start(&[]);
    let first = server.open();
    begun().commit(&first, 1).expect("commits");
    let second = server.open();
    let error = next().commit(&first, 2).expect_err("is fenced");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("taken over"), "{error}");
    // Also over a new connection, and for good.
    let clients: String = server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    drop(clients);
    assert!(matches!(next().commit(&first, 2), Err(StoreError::Refused(_))));
    assert_eq!(second.last_batch(), Ok(1));
    assert_eq!(indexes(&second, 1), [0]);
    next().commit(&second, 2).expect("commits");
    assert_eq!(indexes(&second, 1), [0, 1]);
    has_no_faults(&server);
}

#[test]
fn to_look_is_not_to_take() {
    let server = RedisServer::start(&[]);
    assert!(dump(&*redis::open_to_read(&server.settings()).expect("opens")).is_empty());
    let store = server.open();
    begun().commit(&store, 1).expect("commits");
    let reader = redis::open_to_read(&server.settings()).expect("opens");
    assert_eq!(dump(&*reader), dump(&store));
    assert_eq!(reader.last_batch(), Ok(1));
    assert!(matches!(next().commit(&*reader, 2), Err(StoreError::Refused(_))));
    next().commit(&store, 2).expect("commits");
}

#[test]
fn two_prefixes_are_two_stores() {
    let server = RedisServer::start(&[]);
    let first = server.open();
    let mut settings = server.settings();
    settings.prefix = "other".to_owned();
    let second = redis::open(&settings).expect("opens");
    begun().commit(&first, 1).expect("commits");
    Changes::default().commit(&second, 1).expect("commits");
    assert!(dump(&second).is_empty());
    assert_eq!(dump(&first).len(), 2);
}

/// A server that comes back without what it had confirmed.
#[test]
fn lost_writes_are_noticed() {
    let mut server = RedisServer::start(&[]);
    let store = server.open();
    begun().commit(&store, 1).expect("commits");
    server.restart();
    let error = next().commit(&store, 2).expect_err("all is gone");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("gone"), "{error}");

    let store = server.open();
    begun().commit(&store, 1).expect("commits");
    let hw = "mqtt:{g}:hw";
    let incarnation: String = server.command(&["GET", "mqtt:{g}:inc"]);
    server.command::<()>(&["HSET", hw, &incarnation, "0"]);
    server.command::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    let error = next().commit(&store, 2).expect_err("a write is gone");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("lost"), "{error}");
}

/// Nothing that others have put into our keys is taken for ours.
#[test]
fn garbage_is_damage() {
    let server = RedisServer::start(&[]);
    let plants: &[(&str, &[&str])] = &[
        ("a queue of another type", &["SET", "QUEUE", "x"]),
        ("half a message", &["RPUSH", "QUEUE", "9"]),
        ("a place that is none", &["LSET", "QUEUE", "0", "x"]),
        ("a place with a zero before it", &["LSET", "QUEUE", "0", "00"]),
        ("terms that are none", &["LSET", "QUEUE", "1", "xxxxxxx"]),
        ("a message that is none", &["LSET", "QUEUE", "2", "x"]),
        ("places out of order", &["RPUSH", "QUEUE", "0", "\0\0\0\0\0\0", ""]),
        ("a record of another type", &["SET", "RECORD", "x"]),
        ("no record", &["DEL", "RECORD"]),
        ("a record without a client", &["HDEL", "RECORD", "cid"]),
        ("a floor that is no number", &["HSET", "RECORD", "floor", "x"]),
        ("a window out of range", &["HSET", "RECORD", "window", "70000"]),
        ("a subscription that is none", &["HSET", "RECORD", "sub:a", "x"]),
        ("an identifier that is none", &["HSET", "RECORD", "in:x", ""]),
        ("a list of sessions that is none", &["SET", "SESSIONS", "x"]),
        ("a will that is none", &["SET", "WILL", "x"]),
        ("a retained message that is none", &["HSET", "mqtt:{g}:ret", "t", "x"]),
        (
            "a retained message of another topic",
            &["HSET", "mqtt:{g}:ret", "t", "RETAINED"],
        ),
    ];
    for (what, command) in plants {
        server.command::<()>(&["FLUSHDB"]);
        let store = server.open();
        let changes = begun().op(&Op::Will {
            uid: 1,
            delay_interval: 0,
            expires_in: None,
            message: publication("w", b"w"),
            client: b"",
        });
        changes.commit(&store, 1).expect("commits");
        let (home, keys) = (Home::of_client("c"), Keys::new("mqtt").expect("a prefix"));
        let words = command.iter().map(|word| match *word {
            "QUEUE" => keys.of(home, "q:1").into_bytes(),
            "RECORD" => keys.session(home, 1).into_bytes(),
            "WILL" => keys.will(home, 1).into_bytes(),
            "SESSIONS" => keys.of(home, "sessions").into_bytes(),
            "RETAINED" => message_bytes(&publication("other", b"x")),
            word => word.as_bytes().to_vec(),
        });
        let mut command = ::redis::Cmd::new();
        words.for_each(|word| {
            command.arg(word);
        });
        command.exec(&mut server.connection()).expect("is planted");
        let opened = redis::open(&server.settings());
        let result = opened.and_then(|store| read_all(&store));
        assert!(matches!(result, Err(StoreError::Damaged(_))), "{what}: {result:?}");
        let report = doctor(&server.settings()).expect("can look");
        assert!(!report.faults.is_empty(), "{what} is not seen by the doctor");
    }
}

fn read_all(store: &dyn Store) -> Result<(), StoreError> {
    let mut uids = Vec::new();
    store.sessions(&mut |session| uids.push(session.uid))?;
    store.wills(&mut |_| {})?;
    store.retained(&mut |_| {})?;
    for uid in uids {
        let most = Page {
            messages: 100,
            bytes: 100_000,
        };
        store.queue(uid, Lane::Live, 0, most)?;
    }
    Ok(())
}

/// A batch that meets something of another type says so, and is not taken for kept.
#[test]
fn a_commit_that_meets_garbage_fails() {
    let server = RedisServer::start(&[]);
    let store = server.open();
    begun().commit(&store, 1).expect("commits");
    let bucket = Home::of_client("c").index();
    server.command::<()>(&["SET", &format!("mqtt:{{{bucket}}}:q:1"), "x"]);
    for _ in 0..2 {
        let error = next().commit(&store, 2).expect_err("is no list");
        assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    }
}

/// It is changed in Redis first, and where the broker reads it later.
#[test]
fn a_password_may_change() {
    let server = RedisServer::start(&[]);
    let user = |password: &str| {
        server.command::<()>(&[
            "ACL",
            "SETUSER",
            "broker",
            "on",
            "resetpass",
            password,
            "~*",
            "&*",
            "+@all",
        ]);
    };
    user(">first");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "first").expect("written");
    let mut settings = server.settings();
    settings.url = format!("{}?user=broker", server.url());
    settings.password_file = Some(file.path().to_owned());
    let store = redis::open(&settings).expect("opens");
    begun().commit(&store, 1).expect("commits");
    user(">second");
    server.command::<u32>(&["CLIENT", "KILL", "USER", "broker"]);
    for _ in 0..2 {
        let error = next().commit(&store, 2).expect_err("the password is wrong");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    std::fs::write(file.path(), "second").expect("written");
    next().commit(&store, 2).expect("commits");
    assert_eq!(indexes(&store, 1), [0, 1]);
    has_no_faults(&server);
}
