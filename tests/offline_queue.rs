//! The queue of a session (section 4.5 and the limits of this broker): what is kept for a client that is away or slow,
//! and what is dropped when it is too much.

mod common;
use common::*;

const LIMIT: [&str; 2] = ["--max-queued-messages", "10"];

fn texts(messages: &[Publish]) -> Vec<&str> {
    messages.iter().map(Publish::text).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Messages of QoS 1 and 2 that match a subscription of a client that is away are kept for it and delivered when it
/// returns, in order and each once [MQTT-4.5.0-1] [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT3-4.5.0-1] [MQTT3-3.1.2-4]
/// [MQTT3-3.1.2-5] [MQTT3-4.1.0-1].
#[test]
fn messages_are_kept_for_a_client_that_is_away() {
    for version in Version::ALL {
        for qos in 1..=2 {
            let broker = Broker::start(&[]);
            broker.offline_session(version, "subscriber", "a/#", qos);
            let mut publisher = broker.connect(Connect::new(version, "publisher"));
            publisher.publish_numbers("a/b", 0..100, qos);
            let mut subscriber = broker.resume(Connect::persistent(version, "subscriber"));
            let messages = subscriber.take(100);
            assert_eq!(texts(&messages), numbers(0..100));
            assert!(messages.iter().all(|message| message.qos == qos && !message.dup));
            subscriber.assert_nothing_from(&mut publisher);
            subscriber.disconnect();
            let mut subscriber = broker.resume(Connect::persistent(version, "subscriber"));
            subscriber.assert_nothing_from(&mut publisher);
        }
    }
}

/// QoS 0 is not kept: neither what was published at QoS 0 nor what was subscribed to at QoS 0.
#[test]
fn qos_0_is_not_kept() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        broker.offline_session(version, "qos0", "a", 0);
        broker.offline_session(version, "qos2", "a", 2);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        publisher.publish("a", "0", 0);
        publisher.publish("a", "1", 1);
        publisher.ping();
        let mut client = broker.resume(Connect::persistent(version, "qos0"));
        client.assert_nothing_from(&mut publisher);
        let mut client = broker.resume(Connect::persistent(version, "qos2"));
        assert_eq!(texts(&client.all_messages_from(&mut publisher)), ["1"]);
    }
}

/// A message that was published just before the subscriber came back arrives as one that was published just after
/// [MQTT-4.5.0-1] [MQTT3-4.5.0-1].
#[test]
fn nothing_is_lost_between_away_and_back() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let connect = Connect::persistent(version, "subscriber");
        let mut subscriber = broker.connect(connect.clone());
        subscriber.subscribe("a", 1);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let mut published = 0;
        let mut next = 0;
        for round in 0..20 {
            for _ in 0..5 {
                publisher.send(Publish::new("a", published.to_string()).qos(1, published + 1));
                published += 1;
            }
            // Leaves in every possible way while messages are on their way.
            match round % 3 {
                0 => subscriber.send(Disconnect::new(code::SUCCESS)),
                1 => drop(subscriber),
                _ => {}
            }
            subscriber = broker.resume(connect.clone());
        }
        while next < published {
            let message = subscriber.message();
            let number: u16 = message.text().parse().expect("a number");
            // QoS 1 repeats what was not acknowledged, in the order of the first time.
            assert!(number <= next, "{next} is lost: {number}");
            next = next.max(number + 1);
        }
    }
}

/// A clean start, and the end of the Session Expiry Interval, drop the queue with the session [MQTT-3.1.2-4]
/// [MQTT-4.1.0-2] [MQTT3-3.1.2-6].
#[test]
fn the_queue_ends_with_the_session() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        broker.offline_session(version, "subscriber", "a", 1);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        publisher.publish("a", "x", 1);
        let mut subscriber = broker.connect(Connect::persistent(version, "subscriber").clean(true));
        subscriber.subscribe("a", 1);
        subscriber.assert_nothing_from(&mut publisher);
    }
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect(Connect::v5("subscriber").expiry(1));
    subscriber.subscribe("a", 1);
    subscriber.disconnect();
    let mut publisher = broker.v5("publisher");
    publisher.publish("a", "x", 1);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let mut subscriber = broker.connect(Connect::persistent(Version::V5, "subscriber"));
    assert!(!subscriber.connack.session_present);
    subscriber.subscribe("a", 1);
    subscriber.assert_nothing_from(&mut publisher);
}

/// A full queue drops the new messages, which is the default; the publisher is acknowledged all the same.
#[test]
fn a_full_queue_drops_new_messages() {
    for version in Version::ALL {
        for args in [&LIMIT[..], &[LIMIT[0], LIMIT[1], "--queue-overflow", "drop-new"]] {
            let broker = Broker::start(args);
            broker.offline_session(version, "subscriber", "a", 2);
            let mut publisher = broker.connect(Connect::new(version, "publisher"));
            publisher.publish_numbers("a", 0..25, 2);
            let mut subscriber = broker.resume(Connect::persistent(version, "subscriber"));
            assert_eq!(texts(&subscriber.all_messages_from(&mut publisher)), numbers(0..10));
            // There is room again.
            publisher.publish("a", "25", 1);
            subscriber.expect_message("a", "25");
        }
    }
}

/// With `drop-oldest` the queue keeps the newest messages.
#[test]
fn a_full_queue_can_drop_the_oldest_messages() {
    for version in Version::ALL {
        let broker = Broker::start(&[LIMIT[0], LIMIT[1], "--queue-overflow", "drop-oldest"]);
        broker.offline_session(version, "subscriber", "a", 2);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        publisher.publish_numbers("a", 0..25, 2);
        let mut subscriber = broker.resume(Connect::persistent(version, "subscriber"));
        assert_eq!(texts(&subscriber.all_messages_from(&mut publisher)), numbers(15..25));
    }
}

/// `drop-oldest` never drops a message that is in flight: it was sent, and is sent again after a reconnect
/// [MQTT-4.4.0-1] [MQTT3-4.4.0-1].
#[test]
fn messages_in_flight_are_not_dropped() {
    for version in Version::ALL {
        for qos in 1..=2 {
            for overflow in ["drop-new", "drop-oldest"] {
                let broker = Broker::start(&[LIMIT[0], LIMIT[1], "--max-inflight", "2", "--queue-overflow", overflow]);
                let connect = Connect::persistent(version, "subscriber");
                let mut subscriber = broker.connect(connect.clone());
                subscriber.subscribe("a", qos);
                let mut publisher = broker.connect(Connect::new(version, "publisher"));
                publisher.publish_numbers("a", 0..2, qos);
                let sent = [subscriber.recv_publish(), subscriber.recv_publish()];
                subscriber.kill();
                publisher.publish_numbers("a", 2..30, qos);
                let mut subscriber = broker.resume(connect);
                let messages = subscriber.all_messages_from(&mut publisher);
                assert_eq!(messages[..2], sent.map(Publish::dup));
                // Whether those in flight count for the limit is not said; the others are whole and in order.
                let rest = texts(&messages[2..]);
                let kept = u32::try_from(rest.len()).expect("few");
                assert!((8..=10).contains(&kept), "{rest:?}");
                let first = if overflow == "drop-new" { 2 } else { 30 - kept };
                assert_eq!(rest, numbers(first..first + kept), "{overflow}");
            }
        }
    }
}

/// The queue is limited in bytes as well, whichever limit is reached first.
#[test]
fn the_queue_is_limited_in_bytes() {
    for version in Version::ALL {
        for overflow in ["drop-new", "drop-oldest"] {
            let broker = Broker::start(&["--max-queued-bytes", "20000", "--queue-overflow", overflow]);
            broker.offline_session(version, "subscriber", "a", 1);
            let mut publisher = broker.connect(Connect::new(version, "publisher"));
            let payload = |number: u32| format!("{number:0>1000}");
            for number in 0..50 {
                publisher.publish("a", payload(number), 1);
            }
            let mut subscriber = broker.resume(Connect::persistent(version, "subscriber"));
            let messages = subscriber.all_messages_from(&mut publisher);
            let kept = u32::try_from(messages.len()).expect("few");
            // 20,000 bytes hold 20 messages of 1,000 bytes, less what the broker counts for each beside its payload.
            assert!((10..=20).contains(&kept), "{kept} messages in 20,000 bytes");
            let first = if overflow == "drop-new" { 0 } else { 50 - kept };
            assert_eq!(texts(&messages), (first..first + kept).map(payload).collect::<Vec<_>>());
        }
    }
}

/// A message that is larger than the whole queue is dropped, and empties the queue in no mode.
#[test]
fn a_message_larger_than_the_queue_drops_nothing_else() {
    for version in Version::ALL {
        for overflow in ["drop-new", "drop-oldest"] {
            let broker = Broker::start(&["--max-queued-bytes", "5000", "--queue-overflow", overflow]);
            broker.offline_session(version, "subscriber", "a", 1);
            let mut publisher = broker.connect(Connect::new(version, "publisher"));
            publisher.publish("a", "0", 1);
            publisher.publish("a", vec![b'x'; 10_000], 1);
            publisher.publish("a", "1", 1);
            let mut subscriber = broker.resume(Connect::persistent(version, "subscriber"));
            assert_eq!(
                texts(&subscriber.all_messages_from(&mut publisher)),
                ["0", "1"],
                "{overflow}"
            );
        }
    }
}

/// The limits are per session: one full queue costs nobody else a message.
#[test]
fn the_limits_are_per_session() {
    for version in Version::ALL {
        let broker = Broker::start(&LIMIT);
        broker.offline_session(version, "full", "#", 1);
        broker.offline_session(version, "part", "b", 1);
        let (mut online, mut publisher) = broker.pair(version);
        online.subscribe("#", 1);
        for number in 0..20 {
            publisher.publish("a", number.to_string(), 1);
            online.expect_message("a", number.to_string());
            // The acknowledgement has been handled: until then the message counts for the limit.
            online.ping();
        }
        publisher.publish_numbers("b", 0..10, 1);
        online.expect_numbers(0..10);
        let mut part = broker.resume(Connect::persistent(version, "part"));
        part.expect_numbers(0..10);
        let mut full = broker.resume(Connect::persistent(version, "full"));
        full.expect_numbers(0..10);
        full.assert_nothing_from(&mut publisher);
    }
}

/// The limits hold for a client that is connected and slow, too: what waits behind its window is limited.
#[test]
fn the_limits_hold_for_slow_clients() {
    for version in Version::ALL {
        let broker = Broker::start(&[LIMIT[0], LIMIT[1], "--max-inflight", "1"]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 1);
        publisher.publish("a", "0", 1);
        let first = subscriber.recv_publish();
        publisher.publish_numbers("a", 1..30, 1);
        subscriber.ack(&first);
        let messages = subscriber.all_messages_from(&mut publisher);
        let kept = u32::try_from(messages.len()).expect("few");
        assert!((9..=10).contains(&kept), "{:?}", texts(&messages));
        assert_eq!(texts(&messages), numbers(1..1 + kept));
    }
}

/// What is dropped is said: once per client in the log, not once per message.
#[test]
fn dropping_is_logged_once_per_client() {
    let broker = Broker::start(&LIMIT);
    broker.offline_session(Version::V5, "overflowing", "a", 1);
    let mut publisher = broker.v5("publisher");
    publisher.publish_numbers("a", 0..50, 1);
    publisher.disconnect();
    if broker.is_ours() {
        eventually("the drop is logged", || broker.log().contains("overflowing"));
        let lines = broker
            .log()
            .lines()
            .filter(|line| line.contains("overflowing") && line.contains("queue"))
            .count();
        assert_eq!(lines, 1, "{}", broker.log());
    }
}

/// What is dropped is counted, with its cause.
#[test]
fn dropping_is_counted() {
    let broker = Broker::start(&[LIMIT[0], LIMIT[1], "--sys-interval", "0.2"]);
    broker.offline_session(Version::V5, "subscriber", "a", 1);
    let mut publisher = broker.v5("publisher");
    publisher.publish_numbers("a", 0..25, 1);
    for topic in [
        "$SYS/broker/publish/messages/dropped",
        "$SYS/broker/discarded/queue-full",
    ] {
        publisher.subscribe(topic, 0);
        let mut last = String::new();
        eventually("15 are counted", || {
            last = publisher.message().text().to_owned();
            last == "15"
        });
        publisher.unsubscribe(topic);
    }
}
