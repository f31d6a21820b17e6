//! QoS 1: at least once (section 4.3.2), in both directions and over reconnects (section 4.4).

mod common;
use common::*;

/// A PUBLISH is answered by a PUBACK with its Packet Identifier [MQTT-4.3.2-4] [MQTT-2.2.1-5] [MQTT3-4.3.2-2]
/// [MQTT3-2.3.1-6].
#[test]
fn puback_has_the_identifier_of_the_publish() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 0);
        for id in [1, 255, 256, 65_535, 3] {
            publisher.send(Publish::new("a", "x").qos(1, id));
            assert_eq!(publisher.recv_puback(), Ack::new(id));
        }
    }
}

/// Once acknowledged, the same Packet Identifier is a new message, with or without DUP [MQTT-4.3.2-5]
/// [MQTT3-4.3.2-2].
#[test]
fn an_acknowledged_identifier_is_a_new_message() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 1);
        for number in 0..4 {
            let publish = Publish::new("a", number.to_string()).qos(1, 5);
            publisher.publish_packet(if number % 2 == 1 { publish.dup() } else { publish });
        }
        subscriber.expect_numbers(0..4);
    }
}

/// Each new message goes out with an unused Packet Identifier, QoS 1 and DUP 0 [MQTT-4.3.2-1] [MQTT-4.3.2-2]
/// [MQTT-2.2.1-4] [MQTT3-4.3.2-1] [MQTT3-2.3.1-4].
#[test]
fn new_messages_have_unused_identifiers_and_no_dup() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 1);
        publisher.publish_numbers("a", 0..15, 1);
        let mut in_use = Vec::new();
        for number in 0..15 {
            let message = subscriber.recv_publish();
            assert_eq!(
                (message.qos, message.dup, message.text()),
                (1, false, &*number.to_string())
            );
            assert!(!in_use.contains(&message.id), "{} is in use: {in_use:?}", message.id);
            in_use.push(message.id);
        }
    }
}

/// What has not been acknowledged is sent again when the session is resumed: same identifier, same content, DUP 1, in
/// the order of the first time [MQTT-4.3.2-3] [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT3-4.3.2-1] [MQTT3-4.4.0-1]
/// [MQTT3-3.3.1-1] [MQTT3-2.3.1-3] [MQTT3-2.3.1-4] [MQTT3-4.6.0-1].
#[test]
fn unacknowledged_messages_are_sent_again_on_resume() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a/+", 1);
        publisher.publish_numbers("a/b", 0..5, 1);
        let sent: Vec<Publish> = (0..5).map(|_| subscriber.recv_publish()).collect();
        subscriber.ack(&sent[1]);
        subscriber.ack(&sent[3]);
        subscriber.ping();
        subscriber.kill();

        // Twice, because what was sent again is still unacknowledged.
        for _ in 0..2 {
            let mut subscriber = broker.resume(connect.clone());
            for index in [0, 2, 4] {
                assert_eq!(subscriber.recv_publish(), sent[index].clone().dup());
            }
            subscriber.assert_nothing_from(&mut publisher);
            subscriber.kill();
        }
        let mut subscriber = broker.resume(connect.clone());
        subscriber.expect_numbers(0..1);
        subscriber.expect_numbers(2..3);
        subscriber.expect_numbers(4..5);
        subscriber.disconnect();
        let mut subscriber = broker.resume(connect);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// A client that is taken over by a new connection of its own gets what it had not acknowledged as well
/// [MQTT-4.4.0-1] [MQTT3-4.4.0-1].
#[test]
fn unacknowledged_messages_are_sent_again_after_a_takeover() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (connect, mut first, mut publisher) = broker.lasting_pair(version, "a", 1);
        publisher.publish_numbers("a", 0..2, 1);
        let sent = [first.recv_publish(), first.recv_publish()];
        let mut second = broker.resume(connect);
        first.expect_cut(code::SESSION_TAKEN_OVER);
        for message in sent {
            assert_eq!(second.recv_publish(), message.clone().dup());
            second.ack(&message);
        }
        second.assert_nothing_from(&mut publisher);
    }
}

/// A clean start forgets what was unacknowledged [MQTT-3.1.2-4] [MQTT3-3.1.2-6].
#[test]
fn a_clean_start_forgets_unacknowledged_messages() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut subscriber = broker.connect(Connect::persistent(version, "subscriber"));
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        subscriber.subscribe("a", 1);
        publisher.publish("a", "x", 1);
        subscriber.recv_publish();
        subscriber.kill();
        let mut subscriber = broker.connect(Connect::persistent(version, "subscriber").clean(true));
        assert!(!subscriber.connack.session_present);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// While the connection lasts nothing is sent again, however late the PUBACK is [MQTT-4.4.0-1].
#[test]
fn nothing_is_sent_again_on_the_same_connection() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 1);
        publisher.publish("a", "late", 1);
        let late = subscriber.recv_publish();
        // Longer than any timer for such things that would make sense.
        std::thread::sleep(std::time::Duration::from_secs(2));
        subscriber.assert_nothing_from(&mut publisher);
        subscriber.ack(&late);
        subscriber.ping();
    }
}

/// A PUBACK with a Reason Code of 0x80 or above acknowledges as well: nothing is sent again [MQTT-4.4.0-2].
#[test]
fn a_puback_with_an_error_acknowledges() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber").prop(Prop::ReceiveMaximum(1));
    let mut subscriber = broker.connect(connect.clone());
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 1);
    for reason in [
        code::UNSPECIFIED,
        code::IMPLEMENTATION_SPECIFIC,
        code::NOT_AUTHORIZED,
        code::TOPIC_NAME_INVALID,
        code::QUOTA_EXCEEDED,
        code::PAYLOAD_FORMAT_INVALID,
    ] {
        publisher.publish("a", "refused", 1);
        let message = subscriber.recv_publish();
        subscriber.send(Packet::Puback(
            Ack::with(message.id, reason).prop(Prop::ReasonString("no".into())),
        ));
    }
    subscriber.disconnect();
    let mut subscriber = broker.resume(connect);
    subscriber.assert_nothing_from(&mut publisher);
}

/// A PUBACK with 0x10 is an ordinary one [MQTT-4.3.2-3].
#[test]
fn a_puback_without_subscribers_acknowledges() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber").prop(Prop::ReceiveMaximum(1));
    let mut subscriber = broker.connect(connect.clone());
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 1);
    publisher.publish_numbers("a", 0..2, 1);
    let message = subscriber.recv_publish();
    subscriber.send(Packet::Puback(Ack::with(message.id, code::NO_MATCHING_SUBSCRIBERS)));
    subscriber.expect_numbers(1..2);
    subscriber.disconnect();
    let mut subscriber = broker.resume(connect);
    subscriber.assert_nothing_from(&mut publisher);
}

/// A PUBACK that acknowledges nothing, or something twice, does no harm.
#[test]
fn a_puback_for_nothing_changes_nothing() {
    for version in Version::ALL {
        let broker = Broker::start(&["--max-inflight", "1"]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 1);
        subscriber.send(Packet::Puback(Ack::new(1)));
        subscriber.send(Packet::Puback(Ack::new(65_535)));
        subscriber.ping();
        publisher.publish_numbers("a", 0..3, 1);
        for number in 0..3 {
            let message = subscriber.recv_publish();
            assert_eq!(message.text(), number.to_string());
            subscriber.send(Packet::Puback(Ack::new(message.id + 7)));
            subscriber.ping();
            subscriber.ack(&message);
        }
    }
}

/// The PUBACK does not wait for a subscriber: the broker owns the message [MQTT-4.3.2-4] [MQTT-4.5.0-1]
/// [MQTT3-4.5.0-1].
#[test]
fn the_publisher_does_not_wait_for_subscribers() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 1);
        publisher.publish_numbers("a", 0..100, 1);
        subscriber.expect_numbers(0..100);
    }
}

/// PUBACKs come in the order of the PUBLISH packets, which MQTT asks of clients and publishers rely on
/// [MQTT-4.6.0-2] [MQTT3-4.6.0-2].
#[test]
fn pubacks_come_in_the_order_of_the_messages() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let ids: Vec<u16> = (1..=500).map(|number| number * 131).collect();
        for &id in &ids {
            publisher.send(Publish::new("a", "x").qos(1, id));
        }
        for id in ids {
            assert_eq!(publisher.recv_puback().id, id);
        }
    }
}
