//! The end of an embedded broker.

use mqtt_broker::{Event, NextEvent, Peer};

use crate::common::*;
use crate::harness::{Embedded, Gate, Script, config};

/// `serve` and `handle` return, every client is told or closed, subscriptions of the program end behind the last
/// message, and the last event is `Closed`. A second shutdown, also at the same time, does no harm.
#[test]
fn ends_everything() {
    let mut embedded = Embedded::start();
    let (_, other_listener) = embedded.serve_another();
    let mut subscription = embedded.subscribe("#", 1);
    let mut clients: Vec<Client> = ["a", "b", "c"]
        .iter()
        .zip(Version::ALL)
        .map(|(name, version)| embedded.connect(Connect::new(version, name)))
        .collect();
    let mut pipe = embedded.pipe(Connect::v5("pipe").will(Will::new("will", "of the pipe").qos(1)), 1024);
    let mut events = embedded.broker.events();
    let broker = embedded.broker.clone();
    embedded.wait(async { tokio::join!(broker.shutdown(), broker.shutdown()) });
    clients
        .iter_mut()
        .for_each(|client| client.expect_cut(code::SERVER_SHUTTING_DOWN));
    assert!(matches!(pipe.recv(), Packet::Disconnect(disconnect) if disconnect.reason == code::SERVER_SHUTTING_DOWN));
    pipe.ended();
    assert_eq!(embedded.broker.connected_clients(), 0);
    embedded.served().expect("no error");
    embedded.wait(other_listener).expect("no panic").expect("no error");
    assert!(
        std::net::TcpStream::connect(embedded.addr()).is_err(),
        "nobody listens any more"
    );
    embedded.expect_next(&mut subscription, "will", "of the pipe");
    assert!(embedded.wait(subscription.next()).is_none());
    assert!(embedded.wait(subscription.next()).is_none(), "the end stays");
    embedded.wait(embedded.broker.shutdown());
    drop((embedded.broker, broker, subscription));
    let mut closed = 0;
    let mut last = None;
    while let Some(NextEvent::Event(event)) = wait_for_the_end(events.next()) {
        closed += u32::from(matches!(event, Event::Closed));
        last = Some(event);
    }
    assert!(
        closed == 1 && matches!(last, Some(Event::Closed)),
        "{closed} times, at last {last:?}"
    );
}

/// Waits without the runtime of a broker that has been dropped.
fn wait_for_the_end<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .expect("in time")
}

/// After the shutdown nobody gets in: `serve` returns at once, a connection of the program is refused
/// [MQTT-3.2.2-7] [MQTT3-3.2.2-5], and a new subscription of the program has no messages to wait for.
#[test]
fn nothing_afterwards() {
    let embedded = Embedded::start();
    embedded.wait(embedded.broker.shutdown());
    let (_, serving) = embedded.serve_another();
    embedded.wait(serving).expect("no panic").expect("no error");
    for (version, refusal) in [
        (Version::V5, code::SERVER_UNAVAILABLE),
        (Version::V311, code::v3::SERVER_UNAVAILABLE),
    ] {
        let connect = Packet::from(Connect::new(version, "late")).encode(version);
        let mut pipe = embedded.open_pipe_with(&connect, version, 1024, Peer::default());
        assert!(matches!(pipe.recv(), Packet::Connack(connack) if connack.code == refusal));
        assert_eq!(pipe.recv_or_closed(), None);
        pipe.ended();
    }
    assert!(embedded.wait(embedded.subscribe("#", 1).next()).is_none());
}

/// When the last handle is dropped, listeners of events are told by the end of their stream.
#[test]
fn dropped_without_shutdown() {
    let events = {
        let embedded = Embedded::start();
        embedded.broker.events()
    };
    let mut events = events;
    assert!(wait_for_the_end(events.next()).is_none());
}

/// Wills that a hook has to allow are published by a shutdown while their receivers are still there [MQTT-3.1.2-8]
/// [MQTT3-3.1.2-8].
#[test]
fn wills_with_hooks() {
    let script = Script::new().authorize_publish(|_, request| {
        assert!(request.is_will());
        match request.topic() {
            "will/refused" => mqtt_broker::PublishVerdict::Refuse(mqtt_broker::ReasonCode::NotAuthorized),
            _ => mqtt_broker::PublishVerdict::Rewrite(request.to_message().payload("rewritten")),
        }
    });
    let embedded = Embedded::with_hooks(script);
    let mut watchers = [embedded.v5("watcher5"), embedded.v311("watcher3")];
    watchers.iter_mut().for_each(|watcher| watcher.subscribe("will/#", 1));
    let _mortals = ["will/refused", "will/allowed"].map(|topic| {
        let will = Will::new(topic, "as it was").qos(1);
        embedded.connect(Connect::v5(topic).will(will))
    });
    embedded.wait(embedded.broker.shutdown());
    for mut watcher in watchers {
        let message = watcher.recv_publish();
        assert_eq!((message.topic.as_str(), message.text()), ("will/allowed", "rewritten"));
        watcher.expect_cut(code::SERVER_SHUTTING_DOWN);
    }
}

/// A client that is let in while the broker shuts down is told to go like the others.
#[test]
fn late_arrivals() {
    let gate = Gate::default();
    let slow = Script::new().authenticate(|_| Ok(())).gate("authenticate", &gate);
    let mut config = config();
    config.drain_timeout = DEADLINE;
    let embedded = Embedded::launch(config, Some(slow));
    let mut late = embedded.begin_connect(Connect::v5("late"));
    gate.wait_for_arrival(&embedded);
    let broker = embedded.broker.clone();
    let stopping = embedded.runtime().spawn(async move { broker.shutdown().await });
    // Nobody listens any more: the shutdown has begun.
    eventually("the shutdown begins", || {
        std::net::TcpStream::connect(embedded.addr()).is_err()
    });
    gate.open();
    assert_eq!(late.recv_connack().code, 0);
    late.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    embedded.wait(stopping).expect("no panic");
    assert_eq!(embedded.broker.connected_clients(), 0);
}

/// A connection that has not sent its CONNECT does not hold up a shutdown.
#[test]
fn mute_connections() {
    let embedded = Embedded::with_config(|config| config.drain_timeout = 3 * DEADLINE);
    let mut mute = embedded.open_pipe(Version::V5, 64, Peer::default());
    mute.send_bytes(&[0x10]);
    let mut half = Client::open(embedded.addr(), Version::V5);
    half.send_bytes(&[0x10, 40, 0, 4]);
    embedded.wait(embedded.broker.shutdown());
    mute.ended();
    half.expect_closed();
}

/// A hook that does not return holds up a shutdown no longer than the drain time-outs.
#[test]
fn stuck_hooks() {
    let gate = Gate::default();
    let script = Script::new().authorize_publish(|_, _| mqtt_broker::PublishVerdict::Allow);
    let mut config = config();
    config.drain_timeout = std::time::Duration::from_millis(300);
    let embedded = Embedded::launch(config, Some(script.gate("authorize_publish", &gate)));
    let mut stuck = embedded.v5("stuck");
    stuck.send(Publish::new("t", "x"));
    gate.wait_for_arrival(&embedded);
    let mut other = embedded.v5("other");
    embedded.wait(embedded.broker.shutdown());
    other.expect_disconnect(code::SERVER_SHUTTING_DOWN);
    gate.open();
    stuck.expect_disconnect(code::SERVER_SHUTTING_DOWN);
}
