//! The limits that the command line sets: announced where the protocol has a property for it, enforced in every
//! version, and never at the cost of another client.

mod common;
use common::*;

/// A PUBLISH of exactly this many bytes.
fn publish_of_size(version: Version, topic: &str, size: usize) -> Vec<u8> {
    let empty = Packet::from(Publish::new(topic, "")).encode(version).len();
    // The empty packet has one byte of Remaining Length; larger ones have more.
    (size - empty - 4..size - empty + 1)
        .map(|payload| Packet::from(Publish::new(topic, vec![b'x'; payload])).encode(version))
        .find(|bytes| bytes.len() == size)
        .expect("some payload makes this size")
}

/// The broker announces its Maximum Packet Size and accepts a packet of just that size; a larger one closes with 0x95
/// [MQTT-3.2.2-15], when the header is there and before the body is.
#[test]
fn max_packet_size() {
    let broker = Broker::start(&["--max-packet-size", "1000"]);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "sender"));
        if version.is_v5() {
            assert_eq!(client.connack.props.maximum_packet_size(), Some(1000));
        }
        client.subscribe("t", 0);
        client.send_bytes(&publish_of_size(version, "t", 1000));
        assert!(client.recv_publish().payload.len() > 900);
        client.send_bytes(&publish_of_size(version, "t", 1001)[..3]);
        client.expect_cut(code::PACKET_TOO_LARGE);
    }
    let mut long = broker.open(Version::V5);
    long.send(Connect::v5(&"x".repeat(1000)));
    long.expect_closed();
    broker.assert_serves();
}

/// A connection too many is refused with 0x97 (return code 3 in MQTT 3) and closed, without harm to the others; there
/// is room again when one of them leaves. A takeover needs no more room than it frees.
#[test]
fn max_connections() {
    let broker = Broker::start(&["--max-connections", "2"]);
    let mut first = broker.v5("first");
    let mut second = broker.v311("second");
    for _ in 0..20 {
        broker.expect_refused(Connect::v5("third"), code::QUOTA_EXCEEDED);
        broker.expect_refused(Connect::v311("third"), code::v3::SERVER_UNAVAILABLE);
        broker.expect_refused(Connect::v31("third"), code::v3::SERVER_UNAVAILABLE);
    }
    first.ping();
    second.ping();
    first.disconnect();
    eventually("there is room again", || {
        broker.try_connect(Connect::v5("third")).connack.code == 0
    });
    second.ping();
}

/// Client Identifiers above the limit are refused with 0x85 [MQTT-3.1.3-8], return code 2 [MQTT3-3.1.3-9].
#[test]
fn max_client_id_length() {
    let broker = Broker::start(&["--max-client-id-length", "30"]);
    let (fits, long) = ("x".repeat(30), "x".repeat(31));
    for version in Version::ALL {
        broker.connect(Connect::new(version, &fits)).ping();
        let rejected = if version.is_v5() {
            code::CLIENT_ID_NOT_VALID
        } else {
            code::v3::IDENTIFIER_REJECTED
        };
        broker.expect_refused(Connect::new(version, &long), rejected);
    }
}

/// Topic Names over the limits close with 0x90, Topic Filters are refused in SUBACK with 0x8F (0x80 in MQTT 3.1.1,
/// which MQTT 3.1 does not have: it closes).
#[test]
fn max_topic_levels_and_length() {
    let broker = Broker::start(&["--max-topic-levels", "3", "--max-topic-length", "10"]);
    for version in Version::ALL {
        for (fits, too_much) in [
            ("a/b/c", "a/b/c/d"),
            ("0123456789", "0123456789a"),
            ("//", "///"),
            ("+/+/#", "+/+/+/#"),
        ] {
            let mut client = broker.connect(Connect::new(version, "client"));
            client.subscribe(fits, 0);
            if !fits.contains('+') {
                client.publish(fits, "x", 0);
                client.expect_message(fits, "x");
                let mut publisher = broker.connect(Connect::new(version, "publisher"));
                publisher.send(Publish::new(too_much, "x"));
                publisher.expect_cut(code::TOPIC_NAME_INVALID);
            }
            match version {
                Version::V31 => {
                    client.send(Subscribe::new(9).filter(too_much, 0));
                    client.expect_closed();
                }
                Version::V311 => assert_eq!(client.try_subscribe(too_much, 0), code::v3::SUBACK_FAILURE),
                Version::V5 => assert_eq!(client.try_subscribe(too_much, 0), code::TOPIC_FILTER_INVALID),
            }
        }
    }
}

/// A broker with `--max-qos` says so [MQTT-3.2.2-9], accepts subscriptions of every QoS [MQTT-3.2.2-10] and grants
/// what it has [MQTT-3.8.4-7], forwards at no more, refuses wills [MQTT-3.2.2-12] and publications above it
/// [MQTT-3.2.2-11] with 0x9B.
#[test]
fn max_qos() {
    for max in [0, 1] {
        let broker = Broker::start(&["--max-qos", &max.to_string()]);
        for version in Version::ALL {
            let mut client = broker.connect(Connect::new(version, "client"));
            if version.is_v5() {
                assert_eq!(client.connack.props.maximum_qos(), Some(max));
            }
            for qos in 0..3 {
                assert_eq!(client.try_subscribe(&format!("t{qos}"), qos), qos.min(max));
            }
            client.send(Publish::new("t2", "x").qos(max, u16::from(max)));
            let message = loop {
                if let Packet::Publish(message) = client.recv() {
                    break message;
                }
            };
            assert_eq!(message.qos, max);
            for qos in max + 1..3 {
                let mut bold = broker.connect(Connect::new(version, "bold"));
                bold.send(Publish::new("t2", "x").qos(qos, 1));
                bold.expect_cut(code::QOS_NOT_SUPPORTED);
                let connect = Connect::new(version, "bold").will(Will::new("w", "x").qos(qos));
                if version.is_v5() {
                    broker.expect_refused(connect, code::QOS_NOT_SUPPORTED);
                } else {
                    let mut bold = broker.open(version);
                    bold.send(connect);
                    while bold
                        .recv_or_closed()
                        .is_some_and(|packet| matches!(packet, Packet::Connack(c) if c.code != 0))
                    {}
                }
            }
            broker
                .connect(Connect::new(version, "modest").will(Will::new("w", "x").qos(max)))
                .ping();
        }
    }
}

/// With `--retain off` CONNACK says so, a will to be retained is refused with 0x9A [MQTT-3.2.2-13], and a PUBLISH with
/// RETAIN closes with it [MQTT-3.2.2-14].
#[test]
fn retain_off() {
    let broker = Broker::start(&["--retain", "off"]);
    let mut client = broker.v5("client");
    assert_eq!(client.connack.props.retain_available(), Some(0));
    client.send(Publish::new("t", "x").retain());
    client.expect_disconnect(code::RETAIN_NOT_SUPPORTED);
    broker.expect_refused(
        Connect::v5("will").will(Will::new("w", "x").retain()),
        code::RETAIN_NOT_SUPPORTED,
    );
    let mut client = broker.v311("client");
    client.send(Publish::new("t", "x").retain());
    client.expect_closed();
    let mut client = broker.v5("client");
    client.subscribe("t", 0);
    client.publish("t", "x", 0);
    client.expect_message("t", "x");
}

/// A subscription too many is refused with 0x97 (0x80 in MQTT 3.1.1; MQTT 3.1 closes); one that is there may be
/// replaced, and leaving one makes room. Others have limits of their own.
#[test]
fn max_subscriptions() {
    let broker = Broker::start(&["--max-subscriptions", "2"]);
    for version in [Version::V311, Version::V5] {
        let full = if version.is_v5() {
            code::QUOTA_EXCEEDED
        } else {
            code::v3::SUBACK_FAILURE
        };
        let mut client = broker.connect(Connect::new(version, "client"));
        client.send(Subscribe::new(100).filter("a", 0).filter("b/#", 1).filter("c", 2));
        assert_eq!(client.recv_suback().codes, [0, 1, full]);
        client.subscribe("a", 2);
        assert_eq!(client.try_subscribe("c", 0), full);
        client.unsubscribe("a");
        client.subscribe("c", 0);
        broker.connect(Connect::new(version, "other")).subscribe("c", 0);
    }
    let mut old = broker.connect(Connect::v31("client"));
    old.subscribe("a", 0);
    old.subscribe("b", 0);
    old.send(Subscribe::new(100).filter("c", 0));
    old.expect_closed();
}

/// Of more retained messages than the limit the later ones are not retained; those that are may be replaced and
/// removed, and all are forwarded to subscribers that are there.
#[test]
fn max_retained_messages() {
    let broker = Broker::start(&["--max-retained-messages", "2"]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("r/#", 1);
    let mut publisher = broker.v5("publisher");
    let mut retain = |topic: &str, payload: &str| {
        publisher.send(Publish::new(topic, payload).qos(1, 1).retain());
        publisher.recv_puback();
        watcher.expect_message(topic, payload);
    };
    retain("r/a", "1");
    retain("r/b", "1");
    retain("r/c", "too many");
    retain("r/a", "2");
    let retained = || {
        let mut reader = broker.v5("reader");
        reader.subscribe("r/+", 0);
        let mut texts = [reader.recv_publish(), reader.recv_publish()].map(|m| format!("{} {}", m.topic, m.text()));
        texts.sort();
        reader.assert_silent_until_ping();
        texts
    };
    assert_eq!(retained(), ["r/a 2", "r/b 1"]);
    retain("r/b", "");
    retain("r/c", "fits");
    assert_eq!(retained(), ["r/a 2", "r/c fits"]);
}

/// Retained messages are bounded in bytes as well.
#[test]
fn max_retained_bytes() {
    let broker = Broker::start(&["--max-retained-bytes", "10000"]);
    let mut publisher = broker.v5("publisher");
    for number in 0..100 {
        publisher.send(Publish::new(&format!("r/{number}"), [b'x'; 1000]).qos(1, 1).retain());
        publisher.recv_puback();
    }
    let mut reader = broker.v5("reader");
    reader.subscribe("r/#", 0);
    let mut count = 0;
    reader.send(Packet::Pingreq);
    while let Packet::Publish(_) = reader.recv() {
        count += 1;
    }
    assert!(
        (1..=10).contains(&count),
        "{count} messages of 1,000 bytes are retained in 10,000"
    );
}

/// A session whose queue is full keeps the oldest messages, or with `drop-oldest` the newest; the publisher is
/// acknowledged and other subscribers get everything.
#[test]
fn max_queued_messages() {
    for (policy, kept) in [("drop-new", 0..5), ("drop-oldest", 15..20)] {
        let broker = Broker::start(&["--max-queued-messages", "5", "--queue-overflow", policy]);
        let mut watcher = broker.v5("watcher");
        watcher.subscribe("q", 0);
        for version in Version::ALL {
            let mut absent = broker.connect(Connect::persistent(version, "absent"));
            absent.subscribe("q", 1);
            absent.disconnect();
            let mut publisher = broker.v5("publisher");
            for number in 0..20 {
                publisher.publish("q", number.to_string(), 1);
                watcher.expect_message("q", number.to_string());
            }
            let mut absent = broker.connect(Connect::persistent(version, "absent"));
            for number in kept.clone() {
                absent.expect_message("q", number.to_string());
            }
            absent.assert_nothing_from(&mut publisher);
            absent.disconnect();
            broker.connect(Connect::new(version, "absent")).disconnect();
        }
    }
}

/// Queues are bounded in bytes: of 100 messages of 1,000 bytes some of the first wait in 10,000 bytes.
#[test]
fn max_queued_bytes() {
    let broker = Broker::start(&["--max-queued-bytes", "10000"]);
    let mut absent = broker.connect(Connect::persistent(Version::V5, "absent"));
    absent.subscribe("q", 1);
    absent.disconnect();
    let mut publisher = broker.v5("publisher");
    (0..100_u8).for_each(|number| publisher.publish("q", [number; 1000], 1));
    let mut absent = broker.connect(Connect::persistent(Version::V5, "absent"));
    // A sentinel may itself find the queue full: send one after each PINGRESP until one arrives.
    let mut count = 0;
    absent.send(Packet::Pingreq);
    loop {
        match absent.recv() {
            Packet::Publish(message) if message.payload == b"sentinel" => break,
            Packet::Publish(message) => {
                assert_eq!(message.payload, [count; 1000], "not the first ones, in order");
                count += 1;
                absent.ack(&message);
            }
            Packet::Pingresp => {
                publisher.publish("q", "sentinel", 1);
                absent.send(Packet::Pingreq);
            }
            other => panic!("not expected: {other:?}"),
        }
    }
    assert!(
        (5..=10).contains(&count),
        "{count} messages of 1,000 bytes waited in 10,000"
    );
}

/// `--max-inflight` bounds the messages that are on their way to a client, whatever it would allow
/// [MQTT-3.3.4-9] [MQTT-4.9.0-1]; each acknowledgement makes room for one.
#[test]
fn max_inflight() {
    let broker = Broker::start(&["--max-inflight", "3"]);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "client"));
        client.subscribe("t", 1);
        let mut publisher = broker.v5("publisher");
        (0..6).for_each(|number| publisher.publish("t", number.to_string(), 1));
        let mut open: Vec<Publish> = (0..3).map(|_| client.recv_publish()).collect();
        for next in 3..6 {
            client.ping();
            client.ack(&open.remove(0));
            let message = client.recv_publish();
            assert_eq!(message.text(), next.to_string());
            open.push(message);
        }
    }
}

/// The broker announces `--receive-maximum` and closes with 0x93 when a client has more QoS 2 messages open
/// [MQTT-3.3.4-7]; what it has accepted is delivered.
#[test]
fn receive_maximum() {
    let broker = Broker::start(&["--receive-maximum", "2"]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("t", 0);
    let mut client = broker.v5("client");
    assert_eq!(client.connack.props.receive_maximum(), Some(2));
    for id in 1..=3 {
        client.send(Publish::new("t", id.to_string()).qos(2, id));
    }
    assert_eq!((client.recv_pubrec().id, client.recv_pubrec().id), (1, 2));
    client.expect_disconnect(code::RECEIVE_MAXIMUM_EXCEEDED);
    watcher.expect_message("t", "1");
    watcher.expect_message("t", "2");
    let mut other = broker.v5("other");
    watcher.assert_nothing_from(&mut other);
}

/// `--topic-alias-maximum` is announced; without aliases none is accepted [MQTT-3.2.2-17] [MQTT-3.2.2-18]
/// [MQTT-3.3.2-9].
#[test]
fn topic_alias_maximum() {
    for (maximum, accepted) in [(0, 0), (1, 1), (500, 500)] {
        let broker = Broker::start(&["--topic-alias-maximum", &maximum.to_string()]);
        let mut client = broker.v5("client");
        assert_eq!(client.connack.props.topic_alias_maximum().unwrap_or(0), maximum);
        client.subscribe("t", 0);
        for alias in 1..=accepted {
            client.send(Publish::new("t", "x").prop(Prop::TopicAlias(alias)));
            client.expect_message("t", "x");
        }
        client.send(Publish::new("t", "x").prop(Prop::TopicAlias(accepted + 1)));
        client.expect_disconnect(code::TOPIC_ALIAS_INVALID);
    }
}

/// With `--topic-alias-maximum-out 0` the broker sets none, though the client would allow it.
#[test]
fn no_outgoing_topic_aliases() {
    let broker = Broker::start(&["--topic-alias-maximum-out", "0"]);
    let mut client = broker.connect(Connect::v5("client").prop(Prop::TopicAliasMaximum(10)));
    client.subscribe("t", 0);
    for _ in 0..10 {
        client.publish("t", "x", 0);
        assert_eq!(client.expect_message("t", "x").props.topic_alias(), None);
    }
}
