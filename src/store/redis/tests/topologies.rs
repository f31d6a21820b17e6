//! TLS, replicas, Sentinels and clusters.

use std::path::Path;
use std::process::Command;

use crate::store::redis::testing::{Changes, Cluster, RedisServer, dump, indexes};
use crate::store::redis::{self, doctor};
use crate::store::{MemoryStore, Store, StoreError};

fn certificates() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/make");
    let status = Command::new(script)
        .arg(directory.path())
        .output()
        .expect("certs/make runs")
        .status;
    assert!(status.success(), "certs/make: {status}");
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
    let error = redis::open(&settings)
        .map(|_| ())
        .expect_err("the server asks for a certificate");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    settings.certificate = Some((file("client.pem"), file("client.key")));
    let store = redis::open(&settings).expect("opens");
    Changes::default()
        .session(1, "c", None)
        .message(b"m", &[(1, 0)])
        .commit(&store, 1)
        .expect("commits");
    assert_eq!(indexes(&store, 1), [0]);
    settings.ca = Some(file("other-ca.pem"));
    let error = redis::open(&settings)
        .map(|_| ())
        .expect_err("nobody vouches for the server");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn replicas_are_waited_for() {
    let server = RedisServer::start_at_a_port(&["--repl-diskless-sync-delay", "0"]);
    let mut settings = server.settings();
    settings.wait = 1;
    settings.timeout = std::time::Duration::from_secs(4);
    let store = redis::open(&settings).expect("opens");
    let changes = Changes::default().session(1, "c", None).message(b"m", &[(1, 0)]);
    for _ in 0..2 {
        let error = changes.commit(&store, 1).expect_err("there is no replica");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("replicas"), "{error}");
    }
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &server.port.expect("has one").to_string()]);
    while let Err(error) = changes.commit(&store, 1) {
        assert!(error.to_string().contains("replicas"), "{error}");
    }
    let home = super::super::keys::Home::of_client("c").index();
    assert_eq!(replica.command::<u64>(&["LLEN", &format!("mqtt:{{{home}}}:q:1")]), 3);
    assert_eq!(indexes(&store, 1), [0]);
}

#[test]
fn a_sentinel_tells_where_the_server_is() {
    let server = RedisServer::start_at_a_port(&["--requirepass", "secret"]);
    let sentinel = RedisServer::start_sentinel(server.port.expect("has one"), "secret");
    let port = sentinel.port.expect("has one");
    let mut settings = server.settings();
    settings.url = format!("redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:{port}/main/1");
    let store = redis::open(&settings).expect("opens");
    Changes::default()
        .session(1, "c", None)
        .commit(&store, 1)
        .expect("commits");
    assert_eq!(dump(&store).len(), 1);
    settings.url = format!("redis+sentinel://:secret@127.0.0.1:{port}/other");
    let error = redis::open(&settings).map(|_| ()).expect_err("is not known");
    assert!(error.to_string().contains("does not know"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_cluster_keeps_what_one_server_keeps() {
    let cluster = Cluster::start(3);
    let settings = cluster.settings();
    let store = redis::open(&settings).expect("opens");
    let model = MemoryStore::default();
    for number in 1..=50 {
        let changes = (0..30).fold(Changes::default(), |changes, client| {
            let uid = 1000 + number * 100 + client;
            changes
                .session(uid, &format!("client-{uid}"), None)
                .message(b"m", &[(uid, 0), (uid - 100, 1), (uid - 200, 2)])
                .done(uid - 200, 0)
        });
        changes.commit(&store, number).expect("commits");
        changes.commit(&model, number).expect("commits");
    }
    assert_eq!(dump(&store), dump(&model));
    let report = doctor(&settings).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
    assert_eq!(report.sessions, 1500);
    let second = redis::open(&settings).expect("opens");
    assert_eq!(dump(&second), dump(&model));
    let error = Changes::default().commit(&store, 51).expect_err("is fenced");
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    second.close().expect("closes");
    for server in &cluster.servers {
        assert!(server.command::<Vec<String>>(&["KEYS", "*:j"]).is_empty());
    }
}

/// A batch that reached some servers of a cluster only is finished by whoever opens the store.
#[test]
fn a_batch_that_was_cut_in_a_cluster_is_finished() {
    let mut cluster = Cluster::start(3);
    let settings = cluster.settings();
    let store = redis::open(&settings).expect("opens");
    let model = MemoryStore::default();
    let all = |payload: &[u8], place| {
        (0..60).fold(Changes::default(), |changes, uid| {
            changes
                .session(uid, &format!("client-{uid}"), Some(1))
                .message(payload, &[(uid, place)])
        })
    };
    for store in [&store as &dyn Store, &model] {
        all(b"one", 0).commit(store, 1).expect("commits");
    }
    // Not the one that has the note.
    let other = cluster.server_without("mqtt:{g}:meta");
    cluster.servers[other].kill();
    let error = all(b"two", 1).commit(&store, 2).expect_err("a server is away");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    cluster.servers[other].restart();
    cluster.wait();
    drop(store);
    let second = redis::open(&settings).expect("opens");
    all(b"two", 1).commit(&model, 2).expect("commits");
    assert_eq!(second.last_batch(), Ok(2));
    assert_eq!(dump(&second), dump(&model));
    let report = doctor(&settings).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
}

/// When one server of several does not answer in time, what the others answer is not taken for something else later.
#[test]
fn replies_that_came_too_late_are_not_taken_for_others() {
    let cluster = Cluster::start(3);
    let mut settings = cluster.settings();
    settings.timeout = std::time::Duration::from_millis(300);
    let store = redis::open(&settings).expect("opens");
    let begin = Changes::default().session(1, "c", None);
    begin.commit(&store, 1).expect("commits");
    for (place, server) in (0..).zip(&cluster.servers) {
        // The scripts are loaded again, and that fails at one server.
        for server in &cluster.servers {
            server.command::<()>(&["SCRIPT", "FLUSH"]);
        }
        let changes = Changes::default().message(b"m", &[(1, place)]);
        server.signal("STOP");
        let failed = changes.commit(&store, place + 2);
        server.signal("CONT");
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
        changes.commit(&store, place + 2).expect("commits");
    }
    assert_eq!(indexes(&store, 1), [0, 1, 2]);
    let report = doctor(&settings).expect("can look");
    assert!(report.faults.is_empty(), "{report}");
}
