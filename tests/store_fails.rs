//! A store that can't be written to, as on a full disk: nothing that could be lost is acknowledged, what needs no store goes
//! on, and all of it resumes by itself.

mod common;
use common::*;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

/// A broker on a disk that can be made full, and where its HTTP is.
fn broker(dir: &Path) -> (Broker, SocketAddr) {
    let dir = dir.to_str().expect("UTF-8");
    let broker = Broker::start_to_be_limited(&["--data-dir", dir, "--http-port", "0", "--receive-maximum", "10"]);
    let address = broker.addr_of("http");
    (broker, address)
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).expect("connected");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut response = String::new();
    socket.read_to_string(&mut response).expect("UTF-8");
    response
}

fn metric(address: SocketAddr, name: &str) -> f64 {
    let metrics = get(address, "/metrics");
    let prefix = format!("mqtt_broker_{name} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&prefix));
    value
        .unwrap_or_else(|| panic!("{name}: {metrics}"))
        .parse()
        .expect("a number")
}

#[test]
fn what_it_does_is_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (broker, address) = broker(dir.path());
    broker.offline_session(Version::V5, "away", "a", 1);
    broker.v5("publisher").publish("a", "12345", 1);
    assert!(get(address, "/readyz").ends_with("ready\n"));
    assert_eq!(metric(address, "store_failing"), 0.0);
    assert!(metric(address, "store_commit_seconds_count") >= 2.0);
    assert!(metric(address, "store_committed_bytes_total") > 20.0);
    assert!(metric(address, "store_commit_seconds_sum") > 0.0);
    assert_eq!(metric(address, "store_failed_commits_total"), 0.0);
    let metrics = get(address, "/metrics");
    let all = metrics
        .lines()
        .find_map(|line| line.strip_prefix("mqtt_broker_store_commit_seconds_bucket{le=\"+Inf\"} "));
    assert!(all.expect("a bucket for all").parse::<u64>().expect("a number") >= 2);
}

#[test]
fn a_full_disk_holds_up_what_must_not_be_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let (broker, address) = broker(dir.path());
    broker.offline_session(Version::V5, "away", "kept", 1);
    let mut publisher = broker.v5("publisher");
    publisher.publish("kept", "before", 1);
    let (mut near, mut other) = (broker.v5("near"), broker.v5("other"));
    near.subscribe("volatile", 1);

    broker.limit_files(Some(1));
    for text in ["1", "2"] {
        let id = publisher.next_id();
        publisher.send(Publish::new("kept", text).qos(1, id));
    }
    eventually("it is not ready", || {
        get(address, "/readyz").starts_with("HTTP/1.1 503")
    });
    assert!(get(address, "/readyz").ends_with("the store takes no changes\n"));
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    broker.expect_log("the store does not take changes");
    assert_eq!(metric(address, "store_failing"), 1.0);
    assert!(metric(address, "store_failed_commits_total") >= 1.0);
    assert!(metric(address, "store_pending_bytes") > 0.0);
    // What needs no store goes on.
    for qos in [0, 1] {
        other.publish("volatile", "meanwhile", qos);
        near.expect_message("volatile", "meanwhile");
    }

    broker.limit_files(None);
    for _ in 0..2 {
        publisher.recv_puback();
    }
    eventually("it is ready again", || get(address, "/readyz").ends_with("ready\n"));
    broker.expect_log("the store takes changes again");
    assert_eq!(metric(address, "store_failing"), 0.0);

    drop(broker);
    let (broker, _) = self::broker(dir.path());
    let mut away = broker.resume(Connect::persistent(Version::V5, "away"));
    let messages = away.take(3);
    assert_eq!(
        messages.iter().map(Publish::text).collect::<Vec<_>>(),
        ["before", "1", "2"]
    );
}

/// A client that goes on sending is not read from, does not fill the memory, and goes on later.
#[test]
fn who_goes_on_sending_waits() {
    const MESSAGES: u16 = 600;
    let dir = tempfile::tempdir().expect("a directory");
    let (broker, address) = broker(dir.path());
    broker.offline_session(Version::V5, "away", "kept", 1);
    broker.limit_files(Some(1));
    let mut publisher = broker.v311("publisher");
    let sending = std::thread::spawn(move || {
        let payload = vec![b'x'; 100_000];
        for id in 1..=MESSAGES {
            publisher.send(Publish::new("kept", &payload).qos(1, id));
        }
        (1..=MESSAGES).for_each(|id| assert_eq!(publisher.recv_puback().id, id));
    });
    let mebibytes = || metric(address, "store_pending_bytes") / (1024.0 * 1024.0);
    eventually("much waits", || mebibytes() > 32.0);
    broker.assert_serves();
    assert!(mebibytes() < 40.0 && !sending.is_finished());
    broker.limit_files(None);
    sending.join().expect("all is acknowledged");
    assert_eq!(mebibytes(), 0.0);
}
