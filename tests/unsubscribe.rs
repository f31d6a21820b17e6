//! UNSUBSCRIBE and UNSUBACK (sections 3.10 and 3.11).

mod common;
use common::*;

/// An UNSUBSCRIBE is answered by an UNSUBACK with its Packet Identifier [MQTT-3.10.4-4] [MQTT-3.10.4-5]
/// [MQTT-2.2.1-6] [MQTT3-3.10.4-4] [MQTT3-2.3.1-7].
#[test]
fn unsuback_has_the_identifier_of_its_unsubscribe() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut client = broker.connect(Connect::new(version, "client"));
        for id in [1, 255, 256, 65_535, 1] {
            client.subscribe("a/b", 1);
            client.send(Unsubscribe::new(id).filter("a/b"));
            assert_eq!(client.recv_unsuback().id, id);
        }
    }
}

/// An UNSUBSCRIBE that deletes nothing is answered as well [MQTT-3.10.4-5] [MQTT3-3.10.4-5], in MQTT 5.0 with 0x11
/// [MQTT-3.11.3-2].
#[test]
fn an_unknown_filter_is_answered() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut client = broker.connect(Connect::new(version, "client"));
        let expected: &[u8] = if version.is_v5() {
            &[code::NO_SUBSCRIPTION_EXISTED]
        } else {
            &[]
        };
        assert_eq!(client.unsubscribe("a/b").codes, expected);
        client.subscribe("a/b", 0);
        client.unsubscribe("a/b");
        assert_eq!(client.unsubscribe("a/b").codes, expected);
    }
}

/// One UNSUBACK answers all filters of the packet, in MQTT 5.0 with a code for each in their order [MQTT-3.10.4-6]
/// [MQTT-3.11.3-1] [MQTT-3.11.3-2] [MQTT3-3.10.4-6].
#[test]
fn one_unsuback_answers_all_filters_in_order() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.send(
            Subscribe::new(1)
                .filter("a", 1)
                .filter("b/#", 1)
                .filter("c", 1)
                .filter("d/+", 1),
        );
        assert_eq!(subscriber.recv_suback().codes, [1, 1, 1, 1]);
        subscriber.send(
            Unsubscribe::new(2)
                .filter("a")
                .filter("x")
                .filter("d/+")
                .filter("a")
                .filter("b/#"),
        );
        let expected: &[u8] = if version.is_v5() { &[0, 0x11, 0, 0x11, 0] } else { &[] };
        assert_eq!(subscriber.recv_unsuback().codes, expected);
        for topic in ["a", "b/x", "d/x", "c"] {
            publisher.publish(topic, "x", 1);
        }
        subscriber.expect_message("c", "x");
    }
}

/// Filters are compared character by character, not matched, and only the same one is deleted [MQTT-3.10.4-1]
/// [MQTT3-3.10.4-1].
#[test]
fn filters_are_compared_and_not_matched() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for (filter, others) in [
            ("a/b", ["a/+", "a/#", "#", "A/b", "a/b/", "/a/b", "+/+", "$share/g/a/b"]),
            ("a/+", ["a/b", "a/#", "#", "A/+", "a/+/", "/a/+", "+/+", "$share/g/a/+"]),
        ] {
            subscriber.subscribe(filter, 1);
            for other in others {
                let unsuback = subscriber.unsubscribe(other);
                assert!(
                    unsuback.codes.iter().all(|code| *code == code::NO_SUBSCRIPTION_EXISTED),
                    "{other}"
                );
            }
            publisher.publish("a/b", "x", 1);
            subscriber.expect_message("a/b", "x");
            subscriber.unsubscribe(filter);
            publisher.publish("a/b", "x", 1);
            subscriber.assert_nothing_from(&mut publisher);
        }
    }
}

/// After the UNSUBSCRIBE no new message is added for the client [MQTT-3.10.4-2] [MQTT3-3.10.4-2]; other
/// subscriptions, also overlapping ones, go on.
#[test]
fn no_new_messages_come_after_an_unsubscribe() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for filter in ["a/b", "+/b", "#"] {
            subscriber.subscribe(filter, 2);
        }
        subscriber.subscribe("a/#", 1);
        for filter in ["a/b", "#", "+/b"] {
            subscriber.unsubscribe(filter);
        }
        for qos in 0..=2 {
            publisher.publish("a/b", "x", qos);
            assert_eq!(subscriber.expect_message("a/b", "x").qos, qos.min(1));
            publisher.publish("b", "x", qos);
        }
        subscriber.unsubscribe("a/#");
        for qos in 0..=2 {
            publisher.publish("a/b", "x", qos);
        }
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// What the broker has begun to send at QoS 1 and 2 is completed after the UNSUBSCRIBE, also over a reconnect
/// [MQTT-3.10.4-3] [MQTT3-3.10.4-3].
#[test]
fn deliveries_that_have_begun_are_completed() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a", 2);
        publisher.publish("a", "one", 1);
        publisher.publish("a", "two", 2);
        let (one, two) = (subscriber.recv_publish(), subscriber.recv_publish());
        subscriber.unsubscribe("a");
        subscriber.send(Packet::Pubrec(Ack::new(two.id)));
        assert_eq!(subscriber.recv_pubrel().id, two.id);
        subscriber.disconnect();

        let mut subscriber = broker.resume(connect);
        let again = Packet::from(Publish {
            dup: true,
            ..one.clone()
        });
        let packets = [subscriber.recv(), subscriber.recv()];
        assert!(
            packets.contains(&again) && packets.contains(&Packet::Pubrel(Ack::new(two.id))),
            "{packets:?}"
        );
        subscriber.ack(&one);
        subscriber.send(Packet::Pubcomp(Ack::new(two.id)));
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// Messages that wait in the queue when the UNSUBSCRIBE comes are delivered, which the specification allows
/// [MQTT-3.10.4-3].
#[test]
fn queued_messages_stay() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect(Connect::v5("subscriber").prop(Prop::ReceiveMaximum(1)));
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 1);
    publisher.publish_numbers("a", 0..3, 1);
    let first = subscriber.recv_publish();
    subscriber.unsubscribe("a");
    publisher.publish("a", "too late", 1);
    subscriber.ack(&first);
    subscriber.expect_numbers(1..3);
    subscriber.assert_nothing_from(&mut publisher);
}

/// An unsubscribed filter is gone from the session as well: nothing is queued for it [MQTT-3.10.4-1]
/// [MQTT3-3.10.4-1].
#[test]
fn nothing_is_queued_for_a_deleted_subscription() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let connect = Connect::persistent(version, "subscriber");
        let mut subscriber = broker.connect(connect.clone());
        subscriber.subscribe("a", 1);
        subscriber.subscribe("b", 1);
        subscriber.unsubscribe("a");
        subscriber.disconnect();
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        publisher.publish("a", "x", 1);
        publisher.publish("b", "x", 1);
        let mut subscriber = broker.resume(connect);
        subscriber.expect_message("b", "x");
        subscriber.ping();
    }
}
