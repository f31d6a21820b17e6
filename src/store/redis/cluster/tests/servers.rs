//! Which servers will do, how they are reached, and who may use them.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::testing::{Changes, LIMITS, Node, to};
use crate::store::cluster::bucket_of_uid;
use crate::store::redis;
use crate::store::redis::testing::RedisServer;
use crate::store::{RedisSettings, StoreError};

fn error_of(settings: &RedisSettings, why: &str) -> StoreError {
    redis::open(settings, LIMITS).map(|_| ()).expect_err(why)
}

fn refused(settings: &RedisSettings, why: &str) {
    let error = error_of(settings, why);
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains(why), "{error}");
}

/// A node at work: a client has a session, and a message is put into its queue.
fn works(settings: &RedisSettings) {
    let node = Node::without_mirror(settings, LIMITS);
    // Nobody has declared nodes before it dead, which had others.
    let uid = node.begin(&format!("of {}", node.id()), 1);
    node.keep(&Changes::default().publish("m", &[to(uid)]));
    assert_eq!(node.queue(uid), ["0 m"]);
}

#[test]
fn a_server_that_evicts_is_refused() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    refused(&server.settings(), "noeviction");
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    works(&server.settings());
}

#[test]
fn nobody_is_there() {
    let mut server = RedisServer::start(&[]);
    let settings = server.settings();
    server.kill();
    let error = error_of(&settings, "nobody is there");
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
    works(&server.settings());
    for field in ["schema", "buckets"] {
        let right: String = server.command(&["HGET", "mqtt:{g}:meta", field]);
        server.command::<()>(&["HSET", "mqtt:{g}:meta", field, "9999"]);
        refused(&server.settings(), "9999");
        let looked = redis::doctor(&server.settings()).map(|_| ());
        assert!(looked.is_err_and(|error| error.to_string().contains("9999")));
        server.command::<()>(&["HSET", "mqtt:{g}:meta", field, &right]);
    }
    works(&server.settings());
}

/// A node of the version before would not look whether it is over.
#[test]
fn what_the_version_before_has_left_goes_on_when_none_of_its_nodes_is_there() {
    let server = RedisServer::start(&[]);
    works(&server.settings());
    server.command::<()>(&["HSET", "mqtt:{g}:meta", "schema", "2"]);
    refused(&server.settings(), "schema 2");
    redis::doctor(&server.settings()).expect("can look");
    server.command::<()>(&["DEL", "mqtt:{g}:nodes"]);
    works(&server.settings());
    assert_eq!(server.command::<u32>(&["HGET", "mqtt:{g}:meta", "schema"]), 3);
}

#[test]
fn two_prefixes_are_two_stores() {
    let server = RedisServer::start(&[]);
    let mut settings = server.settings();
    settings.prefix = "other".to_owned();
    works(&server.settings());
    works(&settings);
    for prefix in ["mqtt", "other"] {
        settings.prefix = prefix.to_owned();
        let report = redis::doctor(&settings).expect("can look");
        assert_eq!((report.sessions, report.messages), (1, 1), "{report}");
    }
}

#[test]
fn a_wrong_password_is_refused_and_not_told() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let mut settings = server.settings();
    refused(&settings, "NOAUTH");
    settings.url = format!("{}?pass=guess", server.url());
    let error = error_of(&settings, "is wrong");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(!error.to_string().contains("guess"), "{error}");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"right\n").expect("written");
    settings.password_file = Some(file.path().to_owned());
    works(&settings);
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
    let node = Node::without_mirror(&settings, LIMITS);
    let uid = node.begin("c", 1);
    user(">second");
    server.command::<u32>(&["CLIENT", "KILL", "USER", "broker"]);
    let changes = Changes::default().publish("m", &[to(uid)]);
    for _ in 0..2 {
        let error = node.try_to_keep(&changes).expect_err("the password is wrong");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    std::fs::write(file.path(), "second").expect("written");
    node.keep(&changes);
    assert_eq!(node.queue(uid), ["0 m"]);
}

/// A user who may use other keys is told where the rule is.
#[test]
fn who_may_not_use_the_keys_is_told_where_the_rule_is() {
    let server = RedisServer::start(&[]);
    server.command::<()>(&["ACL", "SETUSER", "broker", "on", ">secret", "~elsewhere:*", "+@all"]);
    let mut settings = server.settings();
    settings.url = format!("{}?user=broker&pass=secret", server.url());
    let error = error_of(&settings, "is not allowed").to_string();
    assert!(error.contains("NOPERM") && error.contains("docs/redis.md"), "{error}");
}

/// What is sent to a server that stands still is done later, though nobody waits for it any more.
#[test]
fn a_batch_that_is_late_has_effect_once() {
    let server = RedisServer::start(&[]);
    let mut settings = server.settings();
    settings.timeout = Duration::from_millis(300);
    let node = Node::without_mirror(&settings, LIMITS);
    let uid = node.begin("c", 1);
    let changes = Changes::default().publish("m", &[to(uid)]);
    server.signal("STOP");
    for _ in 0..2 {
        let error = node.try_to_keep(&changes).expect_err("nobody answers");
        assert!(error.to_string().contains("in time"), "{error}");
    }
    server.signal("CONT");
    node.keep(&changes);
    assert_eq!(node.queue(uid), ["0 m"]);
}

/// A batch that meets something of another type says so, and is not taken for kept.
#[test]
fn a_batch_that_meets_garbage_fails() {
    let server = RedisServer::start(&[]);
    let node = Node::without_mirror(&server.settings(), LIMITS);
    let uid = node.begin("c", 1);
    server.command::<()>(&["SET", &format!("mqtt:{{{}}}:q:{uid}", bucket_of_uid(uid)), "x"]);
    let changes = Changes::default().publish("m", &[to(uid)]);
    for _ in 0..2 {
        let error = node.try_to_keep(&changes).expect_err("is no list");
        assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    }
}

fn certificates() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/make");
    let made = Command::new(script)
        .arg(directory.path())
        .output()
        .expect("certs/make runs");
    assert!(made.status.success(), "certs/make: {}", made.status);
    directory
}

#[test]
fn it_speaks_tls() {
    let certificates = certificates();
    let file = |name: &str| certificates.path().join(name);
    let text = |name: &str| file(name).display().to_string();
    let port = RedisServer::start_with_tls(&text("server.pem"), &text("server.key"), &text("ca.pem"));
    let mut settings = port.settings();
    settings.url = format!("rediss://localhost:{}", port.tls_port.expect("has one"));
    settings.ca = Some(file("ca.pem"));
    let error = error_of(&settings, "the server asks for a certificate");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    settings.certificate = Some((file("client.pem"), file("client.key")));
    works(&settings);
    settings.ca = Some(file("other-ca.pem"));
    let error = error_of(&settings, "nobody vouches for the server");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn a_sentinel_tells_where_the_server_is() {
    let server = RedisServer::start_at_a_port(&["--requirepass", "secret"]);
    let sentinel = RedisServer::start_sentinel(server.port.expect("has one"), "secret");
    let port = sentinel.port.expect("has one");
    let mut settings = server.settings();
    settings.url = format!("redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:{port}/main/1");
    works(&settings);
    settings.url = format!("redis+sentinel://:secret@127.0.0.1:{port}/other");
    let error = error_of(&settings, "is not known");
    assert!(error.to_string().contains("does not know"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}
