//! QoS 2: exactly once (section 4.3.3), in both directions, in every state, and over reconnects (section 4.4).

mod common;
use common::*;

// ---- the broker receives -----------------------------------------------------------------------------------------

/// PUBREC and PUBCOMP have the Packet Identifier of the PUBLISH and the PUBREL [MQTT-4.3.3-8] [MQTT-4.3.3-11]
/// [MQTT-2.2.1-5] [MQTT3-4.3.3-2] [MQTT3-2.3.1-6].
#[test]
fn pubrec_and_pubcomp_have_the_identifier_of_the_publish() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 0);
        for id in [1, 255, 256, 65_535, 3] {
            publisher.send(Publish::new("a", "x").qos(2, id));
            assert_eq!(publisher.recv_pubrec(), Ack::new(id));
            publisher.send(Packet::Pubrel(Ack::new(id)));
            assert_eq!(publisher.recv_pubcomp(), Ack::new(id));
            subscriber.expect_message("a", "x");
        }
    }
}

/// Until the PUBREL a PUBLISH with the same identifier is the same message: answered by a PUBREC and not delivered
/// again, with or without DUP [MQTT-4.3.3-10] [MQTT3-4.3.3-2].
#[test]
fn a_repeated_publish_is_not_delivered_again() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        let publish = Publish::new("a", "x").qos(2, 5);
        for publish in [publish.clone(), publish.clone().dup(), publish.clone(), publish.dup()] {
            publisher.send(publish);
            assert_eq!(publisher.recv_pubrec().id, 5);
        }
        subscriber.expect_message("a", "x");
        subscriber.assert_nothing_from(&mut publisher);
        publisher.send(Packet::Pubrel(Ack::new(5)));
        assert_eq!(publisher.recv_pubcomp(), Ack::new(5));
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// Other identifiers are other messages, also while the first waits for its PUBREL [MQTT-4.3.3-8] [MQTT3-4.3.3-2].
#[test]
fn several_handshakes_run_side_by_side() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        for id in [4, 2, 9] {
            publisher.send(Publish::new("a", id.to_string()).qos(2, id));
        }
        for id in [4, 2, 9] {
            assert_eq!(publisher.recv_pubrec(), Ack::new(id));
        }
        for id in [9, 4, 2] {
            publisher.send(Packet::Pubrel(Ack::new(id)));
            assert_eq!(publisher.recv_pubcomp(), Ack::new(id));
        }
        let texts: Vec<String> = subscriber
            .take(3)
            .iter()
            .map(|message| message.text().to_owned())
            .collect();
        assert_eq!(texts, ["4", "2", "9"]);
    }
}

/// After the PUBCOMP the same identifier is a new message, with or without DUP [MQTT-4.3.3-12] [MQTT3-4.3.3-2].
#[test]
fn a_completed_identifier_is_a_new_message() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        for number in 0..4 {
            let publish = Publish::new("a", number.to_string()).qos(2, 5);
            publisher.publish_packet(if number % 2 == 1 { publish.dup() } else { publish });
        }
        subscriber.expect_numbers(0..4);
    }
}

/// After a PUBREC with an error the identifier is free: what comes next with it is a new message [MQTT-4.3.3-9].
#[test]
fn a_refused_identifier_is_a_new_message() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    subscriber.subscribe("a", 2);
    publisher.send(Publish::new("$SYS/a", "refused").qos(2, 5));
    assert_eq!(publisher.recv_pubrec().reason, code::NOT_AUTHORIZED);
    publisher.send(Publish::new("a", "new").qos(2, 5));
    assert_eq!(publisher.recv_pubrec(), Ack::new(5));
    publisher.send(Packet::Pubrel(Ack::new(5)));
    assert_eq!(publisher.recv_pubcomp(), Ack::new(5));
    subscriber.expect_message("a", "new");
}

/// A PUBREL for an identifier that is not in use is answered by a PUBCOMP [MQTT-4.3.3-11] [MQTT3-4.3.3-2], in MQTT
/// 5.0 with 0x92 [MQTT-3.7.2-1].
#[test]
fn a_pubrel_for_an_unknown_identifier_is_answered() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let unknown = if version.is_v5() {
            code::PACKET_ID_NOT_FOUND
        } else {
            code::SUCCESS
        };
        for id in [1, 65_535] {
            publisher.send(Packet::Pubrel(Ack::new(id)));
            let pubcomp = publisher.recv_pubcomp();
            assert_eq!((pubcomp.id, pubcomp.reason), (id, unknown));
        }
        publisher.publish_packet(Publish::new("a", "x").qos(2, 1));
        publisher.send(Packet::Pubrel(Ack::new(1)));
        assert_eq!(publisher.recv_pubcomp().reason, unknown);
    }
}

/// Messages whose payload is their identifier come at their PUBLISH, or from a store that brokers share at their PUBREL (4.3.3).
fn expect_unless_shared(subscriber: &mut Client, id: u16) {
    if !persistence::is_shared() {
        subscriber.expect_message("a", id.to_string());
    }
}

fn expect_if_shared(subscriber: &mut Client, id: u16) {
    if persistence::is_shared() {
        subscriber.expect_message("a", id.to_string());
    }
}

/// The state of a receiver outlives the connection: a PUBLISH that is repeated after the reconnect is not delivered
/// again, and its PUBREL completes it [MQTT-4.3.3-10] [MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT3-4.3.3-2]
/// [MQTT3-3.1.2-4].
#[test]
fn a_publish_repeated_after_a_reconnect_is_not_delivered_again() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let connect = Connect::persistent(version, "publisher");
        let mut subscriber = broker.connect(Connect::new(version, "subscriber"));
        subscriber.subscribe("a", 2);
        let mut publisher = broker.connect(connect.clone());
        for id in [7, 8] {
            publisher.send(Publish::new("a", id.to_string()).qos(2, id));
            assert_eq!(publisher.recv_pubrec(), Ack::new(id));
            expect_unless_shared(&mut subscriber, id);
        }
        publisher.kill();

        let mut publisher = broker.resume(connect.clone());
        publisher.send(Publish::new("a", "7").qos(2, 7).dup());
        assert_eq!(publisher.recv_pubrec().id, 7);
        // The other one is not repeated: its PUBREC had arrived.
        publisher.send(Packet::Pubrel(Ack::new(8)));
        assert_eq!(publisher.recv_pubcomp(), Ack::new(8));
        expect_if_shared(&mut subscriber, 8);
        publisher.kill();

        let mut publisher = broker.resume(connect);
        publisher.send(Packet::Pubrel(Ack::new(7)));
        assert_eq!(publisher.recv_pubcomp(), Ack::new(7));
        expect_if_shared(&mut subscriber, 7);
        subscriber.assert_nothing_from(&mut publisher);
        for id in [7, 8] {
            publisher.publish_packet(Publish::new("a", "new").qos(2, id));
            subscriber.expect_message("a", "new");
        }
    }
}

/// A clean start forgets the state of the receiver: the same identifier is a new message [MQTT-3.1.2-4]
/// [MQTT3-3.1.2-6].
#[test]
fn a_clean_start_forgets_received_identifiers() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut subscriber = broker.connect(Connect::new(version, "subscriber"));
        subscriber.subscribe("a", 2);
        for clean in [false, true] {
            let mut publisher = broker.connect(Connect::persistent(version, "publisher").clean(clean));
            assert!(!publisher.connack.session_present);
            publisher.send(Publish::new("a", "x").qos(2, 7).dup());
            publisher.recv_pubrec();
            if persistence::is_shared() && clean {
                // The first one was forgotten before it was published.
                publisher.send(Packet::Pubrel(Ack::new(7)));
                publisher.recv_pubcomp();
            }
            if clean || !persistence::is_shared() {
                subscriber.expect_message("a", "x");
            }
            publisher.kill();
        }
    }
}

/// The handshake goes on even if the message has expired [MQTT-4.3.3-13].
#[test]
fn the_handshake_goes_on_when_the_message_has_expired() {
    let broker = Broker::start(&[]);
    broker.offline_session(Version::V5, "subscriber", "a", 2);
    let mut publisher = broker.v5("publisher");
    publisher.send(Publish::new("a", "short").qos(2, 1).prop(Prop::MessageExpiry(1)));
    assert_eq!(publisher.recv_pubrec(), Ack::new(1));
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    publisher.send(Publish::new("a", "short").qos(2, 1).dup().prop(Prop::MessageExpiry(1)));
    assert_eq!(publisher.recv_pubrec().id, 1);
    publisher.send(Packet::Pubrel(Ack::new(1)));
    assert_eq!(publisher.recv_pubcomp(), Ack::new(1));
    let mut subscriber = broker.resume(Connect::persistent(Version::V5, "subscriber"));
    subscriber.assert_nothing_from(&mut publisher);
}

/// PUBRECs come in the order of the PUBLISH packets, PUBCOMPs in the order of the PUBRELs [MQTT-4.6.0-3]
/// [MQTT3-4.6.0-3].
#[test]
fn pubrecs_and_pubcomps_come_in_order() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let ids: Vec<u16> = (1..=500).map(|number| number * 131).collect();
        for &id in &ids {
            publisher.send(Publish::new("a", "x").qos(2, id));
        }
        for &id in &ids {
            assert_eq!(publisher.recv_pubrec().id, id);
        }
        for &id in ids.iter().rev() {
            publisher.send(Packet::Pubrel(Ack::new(id)));
        }
        for &id in ids.iter().rev() {
            assert_eq!(publisher.recv_pubcomp(), Ack::new(id));
        }
    }
}

// ---- the broker sends --------------------------------------------------------------------------------------------

/// A message goes out with an unused identifier, QoS 2 and DUP 0; the PUBREC is answered by a PUBREL with the same
/// identifier [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-4] [MQTT-2.2.1-4] [MQTT-2.2.1-5] [MQTT3-4.3.3-1]
/// [MQTT3-2.3.1-4] [MQTT3-2.3.1-6].
#[test]
fn a_message_is_sent_and_released_with_one_identifier() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        publisher.publish_numbers("a", 0..10, 2);
        let messages: Vec<Publish> = (0..10).map(|_| subscriber.recv_publish()).collect();
        for (number, message) in messages.iter().enumerate() {
            assert_eq!(
                (message.qos, message.dup, message.text()),
                (2, false, &*number.to_string())
            );
            assert!(
                messages[..number].iter().all(|other| other.id != message.id),
                "{} is in use",
                message.id
            );
        }
        for message in messages.iter().rev() {
            subscriber.send(Packet::Pubrec(Ack::new(message.id)));
            assert_eq!(subscriber.recv_pubrel(), Ack::new(message.id));
        }
        for message in &messages {
            subscriber.send(Packet::Pubcomp(Ack::new(message.id)));
        }
        subscriber.ping();
    }
}

/// A PUBREC with a Reason Code below 0x80 is answered by a PUBREL, also 0x10 [MQTT-4.3.3-4].
#[test]
fn a_pubrec_without_subscribers_is_released() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    subscriber.subscribe("a", 2);
    publisher.publish("a", "x", 2);
    let message = subscriber.recv_publish();
    subscriber.send(Packet::Pubrec(Ack::with(message.id, code::NO_MATCHING_SUBSCRIBERS)));
    assert_eq!(subscriber.recv_pubrel(), Ack::new(message.id));
}

/// State "PUBLISH sent": until the PUBREC the message is sent again on resume, with DUP 1 and its identifier
/// [MQTT-4.3.3-3] [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT3-4.3.3-1] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1].
#[test]
fn resume_before_the_pubrec_repeats_the_publish() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a", 2);
        publisher.publish("a", "x", 2);
        let sent = subscriber.recv_publish();
        for _ in 0..2 {
            subscriber.kill();
            subscriber = broker.resume(connect.clone());
            assert_eq!(subscriber.recv_publish(), sent.clone().dup());
        }
        subscriber.ack(&sent);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// State "PUBREL sent": until the PUBCOMP the PUBREL is sent again on resume, with its identifier, and never the
/// PUBLISH [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT3-4.3.3-1] [MQTT3-4.4.0-1].
#[test]
fn resume_before_the_pubcomp_repeats_the_pubrel() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a", 2);
        publisher.publish("a", "x", 2);
        let id = subscriber.recv_publish().id;
        subscriber.send(Packet::Pubrec(Ack::new(id)));
        assert_eq!(subscriber.recv_pubrel(), Ack::new(id));
        for _ in 0..2 {
            subscriber.kill();
            subscriber = broker.resume(connect.clone());
            assert_eq!(subscriber.recv_pubrel(), Ack::new(id));
            subscriber.assert_nothing_from(&mut publisher);
        }
        // A client that has lost the PUBREL may repeat its PUBREC; that is no reason to repeat the PUBLISH.
        subscriber.send(Packet::Pubrec(Ack::new(id)));
        assert_eq!(subscriber.recv_pubrel(), Ack::new(id));
        subscriber.send(Packet::Pubcomp(Ack::new(id)));
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// State "complete": after the PUBCOMP nothing is sent again [MQTT-4.3.3-5] [MQTT3-4.3.3-1].
#[test]
fn resume_after_the_pubcomp_repeats_nothing() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a", 2);
        publisher.publish("a", "x", 2);
        subscriber.expect_message("a", "x");
        subscriber.disconnect();
        let mut subscriber = broker.resume(connect);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// All states at once, with queued messages behind them: each goes on where it was, and the messages keep their order
/// [MQTT-4.4.0-1] [MQTT-4.6.0-5] [MQTT3-4.4.0-1] [MQTT3-4.6.0-1] [MQTT3-4.6.0-6].
#[test]
fn every_state_is_resumed_at_once() {
    for version in Version::ALL {
        let broker = Broker::start(&["--max-inflight", "4"]);
        let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a", 2);
        publisher.publish_numbers("a", 0..7, 2);
        let first = subscriber.recv_publish();
        let mut sent = vec![
            subscriber.recv_publish(),
            subscriber.recv_publish(),
            subscriber.recv_publish(),
        ];
        subscriber.ack(&first);
        sent.push(subscriber.recv_publish());
        for released in [sent[1].id, sent[2].id] {
            subscriber.send(Packet::Pubrec(Ack::new(released)));
            assert_eq!(subscriber.recv_pubrel().id, released);
        }
        subscriber.kill();

        let mut subscriber = broker.resume(connect);
        let packets: Vec<Packet> = (0..4).map(|_| subscriber.recv()).collect();
        let (publishes, pubrels): (Vec<_>, Vec<_>) = packets.into_iter().partition(|p| matches!(p, Packet::Publish(_)));
        assert_eq!(
            publishes,
            [sent[0].clone().dup().into(), Packet::from(sent[3].clone().dup())]
        );
        assert_eq!(
            pubrels,
            [
                Packet::Pubrel(Ack::new(sent[1].id)),
                Packet::Pubrel(Ack::new(sent[2].id))
            ]
        );
        // The window is full again: one PUBCOMP makes room for one message.
        subscriber.send(Packet::Pubcomp(Ack::new(sent[1].id)));
        let five = subscriber.recv_publish();
        assert_eq!((five.text(), five.dup), ("5", false));
        subscriber.send(Packet::Pubcomp(Ack::new(sent[2].id)));
        let six = subscriber.recv_publish();
        assert_eq!((six.text(), six.dup), ("6", false));
        for message in [&sent[0], &sent[3], &five, &six] {
            subscriber.ack(message);
        }
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// A PUBREC with a Reason Code of 0x80 or above ends the exchange: no PUBREL, room for the next message, nothing sent
/// again [MQTT-4.3.3-4] [MQTT-4.4.0-2].
#[test]
fn a_pubrec_with_an_error_ends_the_exchange() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber").prop(Prop::ReceiveMaximum(1));
    let mut subscriber = broker.connect(connect.clone());
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 2);
    publisher.publish_numbers("a", 0..3, 2);
    for (number, reason) in [code::UNSPECIFIED, code::PACKET_ID_IN_USE, code::QUOTA_EXCEEDED]
        .into_iter()
        .enumerate()
    {
        let message = subscriber.recv_publish();
        assert_eq!(message.text(), number.to_string());
        subscriber.send(Packet::Pubrec(Ack::with(message.id, reason)));
    }
    subscriber.assert_nothing_from(&mut publisher);
    subscriber.disconnect();
    let mut subscriber = broker.resume(connect);
    subscriber.assert_nothing_from(&mut publisher);
}

/// A PUBREC for an identifier that is not in use: MQTT 5.0 is told 0x92 in the PUBREL [MQTT-3.6.2-1].
#[test]
fn a_pubrec_for_an_unknown_identifier_is_answered() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.v5("subscriber");
    for id in [1, 65_535] {
        subscriber.send(Packet::Pubrec(Ack::new(id)));
        let pubrel = subscriber.recv_pubrel();
        assert_eq!((pubrel.id, pubrel.reason), (id, code::PACKET_ID_NOT_FOUND));
        subscriber.send(Packet::Pubcomp(Ack::with(id, code::PACKET_ID_NOT_FOUND)));
    }
    subscriber.ping();
    broker.assert_serves();
}

/// Acks for nothing leave the messages in flight as they are: a PUBCOMP before the PUBREC, a PUBACK for QoS 2.
#[test]
fn acks_for_nothing_change_nothing() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (connect, mut subscriber, mut publisher) = broker.lasting_pair(version, "a", 2);
        subscriber.send(Packet::Pubcomp(Ack::new(3)));
        subscriber.ping();
        publisher.publish("a", "x", 2);
        let message = subscriber.recv_publish();
        // What a broker answers to a client that breaks the order of acks is not specified; it may cut it.
        for ack in [
            Packet::Pubcomp(Ack::new(message.id)),
            Packet::Puback(Ack::new(message.id)),
        ] {
            let _ = subscriber.try_send_bytes(&ack.encode(version));
        }
        subscriber.kill();
        let mut subscriber = broker.resume(connect);
        assert_eq!(subscriber.recv_publish(), message.clone().dup());
        subscriber.ack(&message);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// A message that has been sent does not expire any more [MQTT-4.3.3-7]; at QoS 1 and 2 it is sent again on resume.
#[test]
fn a_message_that_was_sent_does_not_expire() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber");
    let mut subscriber = broker.connect(connect.clone());
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 2);
    publisher.publish_packet(Publish::new("a", "two").qos(2, 0).prop(Prop::MessageExpiry(1)));
    publisher.publish_packet(Publish::new("a", "released").qos(2, 0).prop(Prop::MessageExpiry(1)));
    let (two, released) = (subscriber.recv_publish(), subscriber.recv_publish());
    subscriber.send(Packet::Pubrec(Ack::new(released.id)));
    subscriber.recv_pubrel();
    subscriber.kill();
    std::thread::sleep(std::time::Duration::from_millis(1_500));

    let mut subscriber = broker.resume(connect);
    let (mut publishes, mut pubrels) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        match subscriber.recv() {
            Packet::Publish(publish) => publishes.push((publish.id, publish.dup, publish.text().to_owned())),
            Packet::Pubrel(ack) => pubrels.push(ack.id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (publishes, pubrels),
        (vec![(two.id, true, "two".to_owned())], vec![released.id])
    );
    subscriber.ack(&two);
    subscriber.send(Packet::Pubcomp(Ack::new(released.id)));
    subscriber.assert_nothing_from(&mut publisher);
}

/// PUBRELs come in the order of the PUBRECs [MQTT-4.6.0-4] [MQTT3-4.6.0-4].
#[test]
fn pubrels_come_in_the_order_of_the_pubrecs() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        publisher.publish_numbers("a", 0..15, 2);
        let mut ids: Vec<u16> = (0..15).map(|_| subscriber.recv_publish().id).collect();
        ids.reverse();
        for &id in &ids {
            subscriber.send(Packet::Pubrec(Ack::new(id)));
        }
        for &id in &ids {
            assert_eq!(subscriber.recv_pubrel(), Ack::new(id));
        }
    }
}
