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
        // Who comes after the broker publishes them, if the clients don't.
        let due = if persistence::is_shared() { 0 } else { 30 };
        let mut topics: Vec<String> = (0..due).map(|_| watcher.recv_publish().topic).collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), due, "{topics:?}");
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

/// Clients are sent to another server, for now or for good.
#[test]
fn clients_are_sent_elsewhere() {
    for (option, reason) in [
        (None, code::USE_ANOTHER_SERVER),
        (Some("--server-moved"), code::SERVER_MOVED),
    ] {
        let mut options = vec!["--server-reference", "other.example:1883 third.example"];
        options.extend(option);
        let broker = Broker::start(&options);
        let mut client = broker.v5("client");
        client.subscribe("t", 1);
        let mut small = broker.connect(Connect::v5("small").prop(Prop::MaximumPacketSize(20)));
        let mut old = broker.v311("old");
        old.publish("t", "flushed", 1);
        broker.signal("TERM");
        client.expect_message("t", "flushed");
        let disconnect = client.recv_disconnect();
        let reference = disconnect.props.server_reference();
        assert_eq!(
            (disconnect.reason, reference.as_deref()),
            (reason, Some("other.example:1883 third.example"))
        );
        // It does not fit.
        assert_eq!(small.recv_disconnect(), Disconnect::new(reason));
        old.expect_closed();
        assert_eq!(broker.wait().code(), Some(0));
    }
}

/// Clients are told at the rate that is set, and are served until then; readiness is off before.
#[test]
fn clients_leave_at_a_bounded_rate() {
    let broker = Broker::start(&["--drain-rate", "20", "--drain-timeout", "20", "--http-port", "0"]);
    let http = broker.addr_of("http");
    let mut clients: Vec<_> = (0..40).map(|number| broker.v5(&format!("client{number}"))).collect();
    broker.signal("TERM");
    let mut told: Vec<_> = std::thread::scope(|scope| {
        let wait = |client: &mut Client| {
            client.expect_disconnect(code::SERVER_SHUTTING_DOWN);
            Instant::now()
        };
        let waiting: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || wait(client)))
            .collect();
        eventually("it is not ready", || http_status(http, "/readyz") == "503");
        assert!(waiting.iter().any(|one| !one.is_finished()), "all are told at once");
        waiting.into_iter().map(|one| one.join().expect("it is told")).collect()
    });
    told.sort();
    let took = told[told.len() - 1] - told[0];
    assert!((1.0..8.0).contains(&took.as_secs_f64()), "{took:?}");
    assert_eq!(broker.wait().code(), Some(0));
}

/// However slow the rate, the time for the shutdown does not become longer.
#[test]
fn the_rate_gives_way_to_the_time() {
    let broker = Broker::start(&["--drain-rate", "1", "--drain-timeout", "1"]);
    let mut clients: Vec<_> = (0..40).map(|number| broker.v5(&format!("client{number}"))).collect();
    let start = Instant::now();
    broker.signal("TERM");
    clients
        .iter_mut()
        .for_each(|client| client.expect_disconnect(code::SERVER_SHUTTING_DOWN));
    assert_eq!(broker.wait().code(), Some(0));
    assert_elapsed(start, 0.0, 10.0);
}

/// The status of what is at this path.
fn http_status(address: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut socket = TcpStream::connect(address).expect("connected");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("read");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}
