//! The end of the broker on SIGTERM and SIGINT.

mod common;
use common::*;
use std::net::TcpStream;
use std::time::Instant;

/// Clients of MQTT 5.0 are told 0x8B, without a Session Expiry Interval [MQTT-3.14.2-2], and then closed
/// [MQTT-3.14.4-2] [MQTT-4.13.2-1] with nothing in between [MQTT-3.14.4-1]; others are closed. The exit status is 0,
/// soon.
#[test]
fn drains_and_exits() {
    for signal in ["TERM", "INT"] {
        let broker = Broker::start(&[]);
        let mut clients: Vec<Client> = (0..60_usize)
            .map(|number| broker.connect(Connect::new(Version::ALL[number % 3], &format!("client{number}"))))
            .collect();
        let start = Instant::now();
        broker.signal(signal);
        clients
            .iter_mut()
            .for_each(|client| client.expect_cut(code::SERVER_SHUTTING_DOWN));
        let addr = broker.addr();
        assert_eq!(broker.wait().code(), Some(0));
        assert_elapsed(start, 0.0, 20.0);
        assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    }
}

/// An idle broker ends as well.
#[test]
fn idle_broker_exits() {
    assert_eq!(Broker::start(&[]).terminate().code(), Some(0));
}

/// SIGHUP is not the end, not even at the moment when the broker has said where it listens.
#[test]
fn hang_up_is_not_the_end() {
    for _ in 0..10 {
        let broker = Broker::start(&[]);
        broker.signal("HUP");
        let mut client = broker.connect(Connect::new(Version::ALL[0], "client"));
        client.ping();
        assert_eq!(broker.terminate().code(), Some(0));
    }
}

/// Only a client's own DISCONNECT 0x00 cancels its will: those of all clients are published, and reach whoever is
/// still there before its own end [MQTT-3.1.2-8] [MQTT3-3.1.2-8].
#[test]
fn wills_are_published_first() {
    let broker = Broker::start(&[]);
    let mut watchers = [broker.v5("watcher5"), broker.v311("watcher3")];
    watchers.iter_mut().for_each(|watcher| watcher.subscribe("will/#", 1));
    let _mortals: Vec<Client> = (0..30_usize)
        .map(|number| {
            let will = Will::new(&format!("will/{number}"), "end").qos(1);
            broker.connect(Connect::new(Version::ALL[number % 3], &format!("mortal{number}")).will(will))
        })
        .collect();
    broker.signal("TERM");
    for mut watcher in watchers {
        let mut topics: Vec<String> = (0..30).map(|_| watcher.recv_publish().topic).collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 30, "{topics:?}");
        watcher.expect_cut(code::SERVER_SHUTTING_DOWN);
    }
    assert_eq!(broker.wait().code(), Some(0));
}

/// What was accepted for a connected subscriber is flushed before it is cut.
#[test]
fn messages_are_flushed() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.v5("subscriber");
    subscriber.subscribe("t", 1);
    let mut publisher = broker.v311("publisher");
    (0..200).for_each(|number| publisher.publish("t", number.to_string(), 1));
    broker.signal("TERM");
    for number in 0..200 {
        assert_eq!(subscriber.recv_publish().text(), number.to_string());
    }
    subscriber.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    assert_eq!(broker.wait().code(), Some(0));
}

/// Clients that do not read, and connections without a CONNECT, do not hold up the end.
#[test]
fn stubborn_clients_do_not_matter() {
    let broker = Broker::start(&[]);
    let mut frozen = broker.v5("frozen");
    frozen.subscribe("t", 0);
    let mut publisher = broker.v5("publisher");
    for _ in 0..200 {
        publisher.publish("t", vec![0; 100_000], 0);
    }
    publisher.ping();
    let _mute = broker.open(Version::V5);
    let mut halfway = broker.open(Version::V5);
    halfway.send_bytes(&[0x10, 40, 0, 4]);
    let start = Instant::now();
    broker.signal("TERM");
    publisher.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    assert_eq!(broker.wait().code(), Some(0));
    assert_elapsed(start, 0.0, 20.0);
}

/// A second signal while the broker drains does no harm.
#[test]
fn second_signal() {
    let broker = Broker::start(&[]);
    let mut client = broker.v5("client");
    broker.signal("TERM");
    client.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    // It may be gone already.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| broker.signal("TERM")));
    broker.wait();
}
