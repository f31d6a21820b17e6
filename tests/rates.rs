//! How much clients may do in a second, and how many of them an address may have.

mod common;
use common::*;

use std::net::SocketAddr;
use std::time::Instant;

const MESSAGE_RATE_TOO_HIGH: u8 = 0x96;
const QUOTA_EXCEEDED: u8 = 0x97;

/// A client that publishes more than it may is held back, and nobody else is. Nothing is lost.
#[test]
fn who_publishes_too_fast_is_held_back() {
    let broker = Broker::start(&["--message-rate", "100"]);
    let mut subscriber = broker.v5("subscriber");
    subscriber.subscribe("a", 0);
    let mut publisher = broker.connect(Connect::v5("publisher").keep_alive(1));
    let start = Instant::now();
    for number in 0..400 {
        publisher.send(Publish::new("a", number.to_string()));
    }
    let mut other = broker.v5("other");
    other.publish("b", "at once", 1);
    assert_elapsed(start, 0.0, 2.0);
    for number in 0..400 {
        subscriber.expect_message("a", number.to_string());
    }
    // 100 at once, 300 at 100 a second.
    assert_elapsed(start, 2.9, 30.0);
    publisher.ping();
}

/// The same for bytes, of all packets; QoS 1 and 2 are acknowledged as they are handled.
#[test]
fn who_sends_too_much_is_held_back() {
    let broker = Broker::start(&["--byte-rate", "10K"]);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "c"));
        let start = Instant::now();
        for _ in 0..20 {
            client.publish("a", vec![b'x'; 1024], 1);
        }
        assert_elapsed(start, 0.9, 20.0);
    }
}

/// Who is held back is not taken for dead, although its PINGREQ are not read [MQTT-3.1.2-22].
#[test]
fn who_is_held_back_lives() {
    let broker = Broker::start(&["--byte-rate", "1K"]);
    let mut client = broker.connect(Connect::v5("c").keep_alive(1));
    let start = Instant::now();
    client.publish("a", vec![b'x'; 4 * 1024], 1);
    client.ping();
    assert_elapsed(start, 2.9, 30.0);
}

/// Who is held back for long and goes is noticed at once: its will is published [MQTT-3.1.2-8].
#[test]
fn who_is_held_back_may_go() {
    let broker = Broker::start(&["--byte-rate", "1K"]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("will", 0);
    let mut client = broker.connect(Connect::v5("c").will(Will::new("will", "gone")));
    // A minute's worth, and a little that is not read.
    client.publish("a", vec![b'x'; 60 * 1024], 1);
    client.send(Publish::new("a", "x"));
    client.kill();
    let start = Instant::now();
    watcher.expect_message("will", "gone");
    assert_elapsed(start, 0.0, 10.0);
}

/// Who does not stop is closed after the time that was set: an MQTT 5.0 client is told which of the rates it was.
#[test]
fn patience_ends() {
    for (options, reason) in [
        (["--message-rate", "10"], MESSAGE_RATE_TOO_HIGH),
        (["--byte-rate", "100"], QUOTA_EXCEEDED),
    ] {
        let broker = Broker::start(&[options[0], options[1], "--max-throttled", "1"]);
        let mut patient = broker.v5("patient");
        let mut greedy = broker.v5("greedy");
        for _ in 0..100 {
            greedy.send(Publish::new("a", "0123456789"));
        }
        greedy.expect_disconnect(reason);
        patient.publish("a", "x", 1);
        let mut old = broker.connect(Connect::v311("old"));
        for _ in 0..100 {
            old.send(Publish::new("a", "0123456789"));
        }
        old.expect_closed();
    }
}

/// A connection that a proxy passes on for this address.
fn connect_from(address: &str, broker: SocketAddr, client_id: &str) -> (Client, u8) {
    let mut client = Client::open(broker, Version::V5);
    client.send_bytes(format!("PROXY TCP4 {address} 127.0.0.1 1000 1883\r\n").as_bytes());
    client.send(Connect::v5(client_id));
    let code = client.recv_connack().code;
    (client, code)
}

/// An address has its share of the connections, and leaves the others theirs. What is closed makes room.
#[test]
fn an_address_has_its_share() {
    let broker = Broker::start_on(&[
        "--max-connections-per-address",
        "2",
        "--proxy-protocol",
        "tcp",
        "--trusted-proxies",
        "127.0.0.1",
    ]);
    let connect = |address: &str, client_id: &str| connect_from(address, broker.addr(), client_id);
    let (first, code) = connect("10.0.0.1", "a");
    assert_eq!(code, 0);
    let (_second, code) = connect("10.0.0.1", "b");
    assert_eq!(code, 0);
    assert_eq!(connect("10.0.0.1", "c").1, QUOTA_EXCEEDED);
    let (_other, code) = connect("10.0.0.2", "d");
    assert_eq!(code, 0);
    first.kill();
    let mut kept = None;
    eventually("there is room again", || {
        let (client, code) = connect("10.0.0.1", "e");
        kept = Some(client);
        code == 0
    });
    assert_eq!(connect("10.0.0.1", "f").1, QUOTA_EXCEEDED);
}

/// Far above its share an address is not even heard, so that it takes no memory and no handshakes.
#[test]
fn an_address_that_floods_is_not_heard() {
    let broker = Broker::start_on(&["--max-connections-per-address", "1"]);
    let mut first = broker.v5("first");
    let mut others: Vec<_> = (0..40).map(|_| Client::open(broker.addr(), Version::V5)).collect();
    // The last ones are closed at once, without a CONNECT.
    others.pop().expect("a client").expect_closed();
    first.ping();
}

/// Connections that come faster than they may wait for their turn, and all are served.
#[test]
fn connections_wait_for_their_turn() {
    let broker = Broker::start(&["--connection-rate", "20"]);
    let start = Instant::now();
    let clients: Vec<_> = (0..50).map(|number| broker.v5(&format!("c{number}"))).collect();
    assert_elapsed(start, 1.4, 30.0);
    for mut client in clients {
        client.ping();
    }
}

/// A listener has a maximum of its own.
#[test]
fn a_listener_has_its_maximum() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("broker.toml");
    let table = "[[listener]]\nhost = \"127.0.0.1\"\nport = 0\nmax-connections = 1\nmessage-rate = 10\n";
    std::fs::write(&path, table).expect("written");
    let broker = Broker::start_on(&["--config", path.to_str().expect("UTF-8")]);
    let narrow = broker.addrs_of("mqtt", 2)[1];
    let connect = |client_id: &str| {
        let mut client = Client::open(narrow, Version::V5);
        client.send(Connect::v5(client_id));
        let code = client.recv_connack().code;
        (client, code)
    };
    let (mut first, code) = connect("a");
    assert_eq!(code, 0);
    assert_eq!(connect("b").1, QUOTA_EXCEEDED);
    broker.v5("c").ping();
    first.disconnect_with(Disconnect::new(0));
    eventually("there is room again", || connect("d").1 == 0);
}
