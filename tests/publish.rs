//! PUBLISH (section 3.3): flags, Topic Names, and the answer that its QoS asks for.

mod common;
use common::*;
use std::time::{Duration, Instant};

/// The answer to a PUBLISH follows from its QoS: none, PUBACK, PUBREC [MQTT-3.3.4-1] [MQTT3-3.3.4-1].
#[test]
fn the_answer_follows_from_the_qos() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 0);
        publisher.send(Publish::new("a", "x"));
        publisher.ping();
        publisher.send(Publish::new("a", "x").qos(1, 7));
        assert_eq!(publisher.recv_puback(), Ack::new(7));
        publisher.send(Publish::new("a", "x").qos(2, 8));
        assert_eq!(publisher.recv_pubrec(), Ack::new(8));
        publisher.ping();
    }
}

/// A message that nobody has subscribed to is acknowledged in MQTT 5.0 with 0x10, and with 0x00 as soon as somebody
/// has [MQTT-3.4.2-1] [MQTT-3.5.2-1].
#[test]
fn the_ack_tells_when_there_are_no_subscribers() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    let mut expect_reason = |reason| {
        publisher.send(Publish::new("a/b", "x").qos(1, 1));
        assert_eq!(publisher.recv_puback().reason, reason);
        publisher.send(Publish::new("a/b", "x").qos(2, 2));
        assert_eq!(publisher.recv_pubrec().reason, reason);
        publisher.send(Packet::Pubrel(Ack::new(2)));
        assert_eq!(publisher.recv_pubcomp().reason, code::SUCCESS);
    };
    expect_reason(code::NO_MATCHING_SUBSCRIBERS);
    for filter in ["a/b", "a/+", "$share/g/a/b"] {
        subscriber.subscribe(filter, 0);
        expect_reason(code::SUCCESS);
        subscriber.take(2);
        subscriber.unsubscribe(filter);
        expect_reason(code::NO_MATCHING_SUBSCRIBERS);
    }
}

/// The DUP flag of the publisher is not passed on [MQTT-3.3.1-3] [MQTT3-3.3.1-3].
#[test]
fn dup_is_not_passed_on() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        for qos in 1..=2 {
            publisher.publish_packet(Publish::new("a", "x").qos(qos, 0).dup());
            let message = subscriber.expect_message("a", "x");
            assert_eq!((message.qos, message.dup), (qos, false));
        }
    }
}

/// A QoS 0 message is sent with QoS 0, DUP 0 and no Packet Identifier: the bytes after the topic are those of the
/// payload [MQTT-4.3.1-1] [MQTT-2.2.1-2] [MQTT-3.3.1-2] [MQTT3-4.3.1-1] [MQTT3-2.3.1-5] [MQTT3-3.3.1-2]; in
/// MQTT 5.0 an empty set of properties stands between them [MQTT-2.2.2-1].
#[test]
fn qos_0_is_sent_without_identifier() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a/b", 2);
        for payload in [&b""[..], &[0, 1, 0, 2], b"text"] {
            publisher.publish("a/b", payload, 0);
            assert_eq!(subscriber.recv_publish(), Publish::new("a/b", payload));
        }
    }
}

/// DUP 1 at QoS 0 is malformed [MQTT-3.3.1-2] [MQTT3-3.3.1-2], and so are both QoS bits [MQTT-3.3.1-4]
/// [MQTT3-3.3.1-4].
#[test]
fn impossible_flags_cut_the_connection() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        for first in [0x38, 0x39, 0x36, 0x37, 0x3E, 0x3F] {
            let mut client = broker.connect(Connect::new(version, "client"));
            client.send_bytes(&wire::packet(first, &[0, 1, b'a', 0, 1, 0, b'x']));
            client.expect_cut_with_any(&[code::MALFORMED, code::PROTOCOL_ERROR]);
        }
        broker.assert_serves();
    }
}

/// A Topic Name contains no wildcard [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-3.3.2-2] [MQTT3-4.7.1-1], however long it is
/// and wherever the wildcard stands.
#[test]
fn a_topic_name_with_wildcards_cuts_the_connection() {
    const TOPICS: [&str; 12] = [
        "#",
        "+",
        "a/#",
        "a/+/b",
        "a#",
        "+a",
        "kitchen/sensors/#",
        "kitchen/sensors/+",
        "#/sensors/kitchen",
        "+/sensors/kitchen",
        "sensors/#/kitchen",
        "sensors/+/kitchen",
    ];
    for version in Version::ALL {
        for qos in 0..=2 {
            let broker = Broker::start(&[]);
            let mut subscriber = broker.connect(Connect::new(version, "subscriber"));
            subscriber.subscribe("#", 0);
            for topic in TOPICS {
                let mut client = broker.connect(Connect::new(version, "client"));
                client.send(Publish::new(topic, "x").qos(qos, 1));
                client.expect_cut_with_any(&[code::TOPIC_NAME_INVALID, code::MALFORMED, code::PROTOCOL_ERROR]);
            }
            let mut publisher = broker.connect(Connect::new(version, "publisher"));
            publisher.publish("end", "", 0);
            subscriber.expect_message("end", "");
        }
    }
}

/// A Topic Name is well-formed UTF-8 without U+0000 [MQTT-3.3.2-1] [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-4.7.3-2]
/// [MQTT3-3.3.2-1] [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT3-4.7.3-2] and has at least one character [MQTT-4.7.3-1]
/// [MQTT3-4.7.3-1].
#[test]
fn an_impossible_topic_name_cuts_the_connection() {
    const TOPICS: [&[u8]; 12] = [
        b"",
        b"\0",
        b"a\0",
        b"\0kitchen/sensors",
        b"kitchen\0/sensors",
        b"kitchen/sensors\0",
        b"a/\xFF",
        b"\xC3",
        b"\xC0\x80",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80",
    ];
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut subscriber = broker.connect(Connect::new(version, "subscriber"));
        subscriber.subscribe("#", 0);
        for topic in TOPICS {
            let mut client = broker.connect(Connect::new(version, "client"));
            let props: &[u8] = if version.is_v5() { &[0] } else { &[] };
            client.send_bytes(&wire::packet(0x30, &[&wire::binary(topic), props, b"x"].concat()));
            client.expect_cut_with_any(&[code::MALFORMED, code::PROTOCOL_ERROR, code::TOPIC_NAME_INVALID]);
        }
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        publisher.publish("end", "", 0);
        subscriber.expect_message("end", "");
    }
}

/// A PUBLISH at QoS 1 or 2 has a Packet Identifier that is not 0 [MQTT-2.2.1-3] [MQTT3-2.3.1-1].
#[test]
fn a_packet_identifier_of_0_cuts_the_connection() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        for qos in 1..=2 {
            let mut client = broker.connect(Connect::new(version, "client"));
            client.send(Publish::new("a", "x").qos(qos, 0));
            client.expect_cut_with_any(&[code::MALFORMED, code::PROTOCOL_ERROR]);
        }
        broker.assert_serves();
    }
}

/// A client does not send Subscription Identifiers [MQTT-3.3.4-6].
#[test]
fn a_subscription_identifier_from_a_client_is_refused() {
    let broker = Broker::start(&[]);
    for qos in 0..=2 {
        let mut client = broker.v5("client");
        client.send(Publish::new("a", "x").qos(qos, 1).prop(Prop::subscription_id(1)));
        client.expect_cut_with_any(&[code::PROTOCOL_ERROR, code::MALFORMED]);
    }
    broker.assert_serves();
}

/// Only the broker publishes to `$SYS`: MQTT 5.0 is told so with 0x87 [MQTT-3.4.2-1] [MQTT-3.5.2-1]; MQTT 3 has no
/// way to be told, and its message is acknowledged and ignored [MQTT3-3.3.5-2].
#[test]
fn publishing_to_sys_is_refused() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("$SYS/#", 2);
        for topic in ["$SYS", "$SYS/x", "$SYS/broker/version"] {
            let refusal = if version.is_v5() {
                code::NOT_AUTHORIZED
            } else {
                code::SUCCESS
            };
            publisher.publish(topic, "x", 0);
            publisher.send(Publish::new(topic, "x").qos(1, 1).retain());
            let puback = publisher.recv_puback();
            assert_eq!((puback.id, puback.reason), (1, refusal));
            publisher.send(Publish::new(topic, "x").qos(2, 2));
            let pubrec = publisher.recv_pubrec();
            assert_eq!((pubrec.id, pubrec.reason), (2, refusal));
            if !version.is_v5() {
                publisher.send(Packet::Pubrel(Ack::new(2)));
                assert_eq!(publisher.recv_pubcomp(), Ack::new(2));
            }
        }
        subscriber.assert_nothing_from(&mut publisher);
        let mut late = broker.connect(Connect::new(version, "late"));
        late.subscribe("$SYS/#", 2);
        late.assert_nothing_from(&mut publisher);
    }
}

/// Topics that merely look like `$SYS` are ordinary ones, also for wills [MQTT-4.7.3-4] [MQTT3-4.7.3-4].
#[test]
fn other_dollar_topics_can_be_published() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for topic in ["$SYSTEM", "$SYS2/a", "$sys/a", "$a", "/$SYS/a", "a/$SYS"] {
            subscriber.subscribe(topic, 2);
            publisher.publish(topic, "x", 1);
            subscriber.expect_message(topic, "x");
            broker
                .connect(Connect::new(version, "mortal").will(Will::new(topic, "will")))
                .kill();
            subscriber.expect_message(topic, "will");
        }
    }
}

/// Payloads of all lengths around the borders of the Remaining Length arrive unaltered, with any bytes
/// [MQTT-1.5.5-1].
#[test]
fn payloads_of_all_sizes_arrive_unaltered() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        for size in [
            0, 1, 119, 120, 121, 122, 123, 124, 125, 16_374, 16_380, 16_384, 65_536, 900_000,
        ] {
            let payload: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
            for qos in 0..=2 {
                publisher.publish("a", &payload, qos);
                assert!(subscriber.message().payload == payload, "{size} bytes at QoS {qos}");
            }
        }
    }
}

/// A message crosses from every version to every other, at every QoS [MQTT-4.5.0-1] [MQTT3-4.5.0-1].
#[test]
fn messages_cross_between_versions() {
    let broker = Broker::start(&[]);
    for from in Version::ALL {
        for to in Version::ALL {
            let mut subscriber = broker.connect(Connect::new(to, "subscriber"));
            let mut publisher = broker.connect(Connect::new(from, "publisher"));
            subscriber.subscribe("a/b", 2);
            for qos in 0..=2 {
                publisher.publish("a/b", format!("{from:?} {to:?}"), qos);
                let message = subscriber.message();
                assert_eq!((message.qos, message.retain, message.dup), (qos, false, false));
                assert_eq!(
                    (message.topic.as_str(), message.text()),
                    ("a/b", &*format!("{from:?} {to:?}"))
                );
                assert_eq!(message.props, Props::default());
            }
            subscriber.disconnect();
            publisher.disconnect();
        }
    }
}

/// A client is heard however much it is sent: under a flood of messages that it reads as fast as they come, its
/// PINGREQs are read in time [MQTT-3.1.2-22] [MQTT-3.12.4-1] [MQTT3-3.1.2-24] [MQTT3-3.12.4-1].
#[test]
fn a_flooded_subscriber_is_heard() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect(Connect::v311("subscriber").keep_alive(1));
    let flood = Packet::from(Publish::new("a", "x".repeat(25)))
        .encode(Version::V311)
        .repeat(3);
    let publishers = [1, 2, 3].map(|number| broker.v311(&format!("publisher{number}")));
    subscriber.subscribe("a", 0);
    for mut publisher in publishers {
        let flood = flood.clone();
        std::thread::spawn(move || while publisher.try_send_bytes(&flood).is_ok() {});
    }
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let mut pings = 0;
    while start.elapsed() < Duration::from_secs(6) {
        // Five for each Keep Alive.
        if start.elapsed() >= pings * Duration::from_millis(200) {
            subscriber.send(Packet::Pingreq);
            pings += 1;
        }
        let count = subscriber
            .stream()
            .read(&mut buffer, DEADLINE)
            .expect("the connection lasts");
        assert_ne!(
            count,
            0,
            "cut off after {:?} although it has sent PINGREQs",
            start.elapsed()
        );
    }
}
