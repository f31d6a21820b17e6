//! Metrics and health over HTTP.

mod common;
use common::*;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A broker with HTTP, and where that is.
fn broker(options: &[&str]) -> (Broker, SocketAddr) {
    let broker = Broker::start(&[&["--http-port", "0"], options].concat());
    let address = broker.addr_of("http");
    (broker, address)
}

fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).expect("connected");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    // It may be cut while it sends.
    let _ = socket.write_all(request);
    let mut response = Vec::new();
    let _ = socket.read_to_end(&mut response);
    String::from_utf8(response).expect("UTF-8")
}

fn get(address: SocketAddr, path: &str) -> String {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

/// The value of a metric.
fn metric(metrics: &str, name: &str) -> u64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&format!("mqtt_broker_{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {metrics}"))
        .parse()
        .expect("a number")
}

#[test]
fn metrics_count() {
    let (broker, address) = broker(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    subscriber.subscribe("a", 1);
    publisher.publish("a", "12345", 1);
    let message = subscriber.recv_publish();
    // A connection counts what it has written at the end of its turn.
    subscriber.ping();
    publisher.publish_packet(Publish::new("kept", "1").retain());
    publisher.ping();
    let response = get(address, "/metrics");
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    assert!(
        response.contains("content-type: text/plain; version=0.0.4"),
        "{response}"
    );
    for (name, value) in [
        ("connected_clients", 2),
        ("subscriptions", 1),
        ("publish_received_messages_total", 2),
        ("publish_received_bytes_total", 6),
        ("publish_sent_messages_total", 1),
        ("queued_messages", 1),
        ("retained_messages", 1),
        ("accepted_connects_total", 2),
    ] {
        assert_eq!(metric(&response, name), value, "{name}");
    }
    subscriber.ack(&message);
    subscriber.ping();
    assert_eq!(metric(&get(address, "/metrics"), "queued_messages"), 0);
}

/// Every sample has its HELP and its TYPE, once, before it; counters end with `_total`.
#[test]
fn metrics_are_in_the_format_of_prometheus() {
    let (_broker, address) = broker(&[]);
    let response = get(address, "/metrics");
    let (_, body) = response.split_once("\r\n\r\n").expect("a body");
    let mut kinds = std::collections::BTreeMap::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert!(kinds.insert(name, kind).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert!(kinds.contains_key(name), "{line}");
            let value = line.rsplit(' ').next().expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(kinds.len() > 20);
}

#[test]
fn health() {
    let (_broker, address) = broker(&[]);
    assert!(get(address, "/healthz").ends_with("ok\n"));
    assert!(get(address, "/readyz").ends_with("ready\n"));
}

/// A broker that shuts down lives, and is not ready: a client that takes nothing keeps it for its drain time-out.
#[test]
fn a_broker_that_shuts_down_is_not_ready() {
    let (broker, address) = broker(&["--drain-timeout", "5", "--max-queued-bytes", "100000000"]);
    let (mut frozen, mut publisher) = broker.pair(Version::V5);
    frozen.subscribe("a", 0);
    for _ in 0..400 {
        publisher.publish("a", vec![0; 50_000], 0);
    }
    publisher.ping();
    broker.signal("TERM");
    eventually("it is not ready", || {
        get(address, "/readyz").starts_with("HTTP/1.1 503")
    });
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn what_is_wrong_is_refused_and_hurts_nobody() {
    let (broker, address) = broker(&[]);
    let mut client = broker.v5("c");
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));
    assert!(get(address, "/metrics/../healthz").starts_with("HTTP/1.1 404"));
    let post = b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n";
    assert!(exchange(address, post).starts_with("HTTP/1.1 405"));
    assert!(exchange(address, b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    let huge = [b"GET / HTTP/1.1\r\nA: ", &[b'a'; 100_000][..]].concat();
    let answer = exchange(address, &huge);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    // More than may be open at a time, which say nothing: the time for the head of a request is over soon.
    let silent: Vec<_> = (0..70)
        .map(|_| TcpStream::connect(address).expect("connected"))
        .collect();
    assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
    client.ping();
    drop(silent);
}
