//! Flow control (section 4.9): Receive Maximum in both directions, and the Packet Identifiers of the broker.

mod common;
use common::*;

/// Takes in `count` messages without acknowledging them and checks that no further one comes.
fn fill_window(subscriber: &mut Client, count: u32) -> Vec<Publish> {
    let window = (0..count).map(|_| subscriber.recv_publish()).collect();
    assert_window_is_full(subscriber);
    window
}

/// Nothing comes however often the broker is spoken to: what was to come would have been sent with the first answer.
fn assert_window_is_full(subscriber: &mut Client) {
    for _ in 0..3 {
        subscriber.ping();
    }
}

// ---- the window of the client ------------------------------------------------------------------------------------

/// The broker has no more than Receive Maximum messages of QoS 1 unacknowledged, and a PUBACK makes room for one
/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2].
#[test]
fn the_broker_keeps_to_receive_maximum_at_qos_1() {
    let broker = Broker::start(&[]);
    for maximum in [1, 2, 10] {
        let mut subscriber = broker.connect(Connect::v5("subscriber").prop(Prop::ReceiveMaximum(maximum)));
        let mut publisher = broker.v5("publisher");
        subscriber.subscribe("a", 1);
        let maximum = u32::from(maximum);
        publisher.publish_numbers("a", 0..maximum + 5, 1);
        let mut window = fill_window(&mut subscriber, maximum);
        for number in maximum..maximum + 5 {
            subscriber.ack(&window.remove(0));
            window.push(subscriber.recv_publish());
            assert_eq!(window.last().map(Publish::text), Some(&*number.to_string()));
            assert_window_is_full(&mut subscriber);
        }
        subscriber.disconnect();
    }
}

/// At QoS 2 it is the PUBCOMP that makes room, not the PUBREC [MQTT-3.3.4-9] [MQTT-4.9.0-2].
#[test]
fn the_broker_keeps_to_receive_maximum_at_qos_2() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect(Connect::v5("subscriber").prop(Prop::ReceiveMaximum(2)));
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 2);
    publisher.publish_numbers("a", 0..6, 2);
    let mut window = fill_window(&mut subscriber, 2);
    for number in 2..6 {
        let first = window.remove(0);
        subscriber.send(Packet::Pubrec(Ack::new(first.id)));
        assert_eq!(subscriber.recv_pubrel(), Ack::new(first.id));
        assert_window_is_full(&mut subscriber);
        subscriber.send(Packet::Pubcomp(Ack::new(first.id)));
        window.push(subscriber.recv_publish());
        assert_eq!(window[1].text(), number.to_string());
        assert_window_is_full(&mut subscriber);
    }
}

/// QoS 1 and QoS 2 share one quota; a PUBREC with an error gives its place back [MQTT-3.3.4-9] [MQTT-4.9.0-2].
#[test]
fn qos_1_and_qos_2_share_the_quota() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect(Connect::v5("subscriber").prop(Prop::ReceiveMaximum(2)));
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 2);
    for (number, qos) in [2, 1, 2, 1].into_iter().enumerate() {
        publisher.publish("a", number.to_string(), qos);
    }
    let window = fill_window(&mut subscriber, 2);
    subscriber.send(Packet::Pubrec(Ack::with(window[0].id, code::UNSPECIFIED)));
    assert_eq!(subscriber.recv_publish().text(), "2");
    assert_window_is_full(&mut subscriber);
    subscriber.ack(&window[1]);
    assert_eq!(subscriber.recv_publish().text(), "3");
    assert_window_is_full(&mut subscriber);
}

/// Acks of nothing, and the second ack of the same message, give no room [MQTT-4.9.0-2].
#[test]
fn acks_of_nothing_do_not_widen_the_window() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect(Connect::v5("subscriber").prop(Prop::ReceiveMaximum(2)));
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 1);
    publisher.publish_numbers("a", 0..5, 1);
    let window = fill_window(&mut subscriber, 2);
    for id in [77, 65_535] {
        subscriber.send(Packet::Puback(Ack::new(id)));
    }
    assert_window_is_full(&mut subscriber);
    subscriber.ack(&window[0]);
    assert_eq!(subscriber.recv_publish().text(), "2");
    subscriber.ack(&window[0]);
    assert_window_is_full(&mut subscriber);
}

/// A full window holds back nothing but PUBLISH packets: SUBACK, UNSUBACK, PUBACK, PUBREC, PUBCOMP, PUBREL and
/// PINGRESP come as ever [MQTT-3.3.4-10] [MQTT-4.9.0-3].
#[test]
fn a_full_window_delays_nothing_else() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.connect(Connect::v5("subscriber").prop(Prop::ReceiveMaximum(1)));
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 2);
    publisher.publish_numbers("a", 0..3, 2);
    let first = fill_window(&mut subscriber, 1).remove(0);
    subscriber.subscribe("b", 1);
    subscriber.unsubscribe("b");
    subscriber.publish("c", "x", 1);
    subscriber.publish("c", "x", 2);
    subscriber.ack(&first);
    subscriber.expect_numbers(1..3);
}

/// Without Receive Maximum the window of the client is as large as can be: hundreds of messages come without an ack
/// [MQTT-4.9.0-1].
#[test]
fn without_receive_maximum_the_window_is_wide() {
    for version in Version::ALL {
        let broker = Broker::start(&["--max-inflight", "65535"]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        publisher.publish_numbers("a", 0..500, 1);
        for number in 0..500 {
            assert_eq!(subscriber.recv_publish().text(), number.to_string());
        }
    }
}

/// The operator can keep the window smaller than the client, for all versions [MQTT-4.9.0-1].
#[test]
fn max_inflight_limits_the_window() {
    for version in Version::ALL {
        let broker = Broker::start(&["--max-inflight", "2"]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        publisher.publish_numbers("a", 0..4, 1);
        let window = fill_window(&mut subscriber, 2);
        subscriber.ack(&window[0]);
        assert_eq!(subscriber.recv_publish().text(), "2");
        assert_window_is_full(&mut subscriber);
    }
}

/// After a reconnect what is sent again takes its places in the window, before anything new [MQTT-3.3.4-9]
/// [MQTT-4.4.0-1].
#[test]
fn what_is_sent_again_takes_its_place_in_the_window() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber").prop(Prop::ReceiveMaximum(3));
    let mut subscriber = broker.connect(connect.clone());
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 2);
    publisher.publish_numbers("a", 0..6, 2);
    let sent = fill_window(&mut subscriber, 3);
    subscriber.send(Packet::Pubrec(Ack::new(sent[1].id)));
    assert_eq!(subscriber.recv_pubrel().id, sent[1].id);
    subscriber.kill();

    let mut subscriber = broker.resume(connect);
    let again: Vec<Packet> = (0..3).map(|_| subscriber.recv()).collect();
    assert!(again.contains(&Packet::Pubrel(Ack::new(sent[1].id))), "{again:?}");
    for index in [0, 2] {
        assert!(again.contains(&sent[index].clone().dup().into()), "{again:?}");
    }
    assert_window_is_full(&mut subscriber);
    subscriber.ack(&sent[0]);
    assert_eq!(subscriber.recv_publish().text(), "3");
    subscriber.send(Packet::Pubcomp(Ack::new(sent[1].id)));
    assert_eq!(subscriber.recv_publish().text(), "4");
    assert_window_is_full(&mut subscriber);
}

/// A smaller Receive Maximum at the reconnect holds as well, for what is sent again [MQTT-3.3.4-9]; all of it comes
/// in the end, in its order [MQTT-4.4.0-1].
#[test]
fn a_smaller_window_after_a_reconnect_is_kept() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber");
    let mut subscriber = broker.connect(connect.clone().prop(Prop::ReceiveMaximum(5)));
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("a", 1);
    publisher.publish_numbers("a", 0..8, 1);
    let sent = fill_window(&mut subscriber, 5);
    subscriber.kill();

    let mut subscriber = broker.resume(connect.prop(Prop::ReceiveMaximum(2)));
    let mut window = fill_window(&mut subscriber, 2);
    for number in 2..8 {
        subscriber.ack(&window.remove(0));
        window.push(subscriber.recv_publish());
        let message = &window[1];
        assert_eq!((message.text(), message.dup), (&*number.to_string(), number < 5));
        if let Some(first) = sent.get(number) {
            assert_eq!(message.id, first.id);
        }
        assert_window_is_full(&mut subscriber);
    }
}

// ---- the window of the broker ------------------------------------------------------------------------------------

/// The broker announces its Receive Maximum; without an option it is 65,535, which may be left out [MQTT-4.9.0-1].
#[test]
fn the_broker_announces_its_receive_maximum() {
    let broker = Broker::start(&[]);
    assert_eq!(
        broker.v5("client").connack.props.receive_maximum().unwrap_or(65_535),
        65_535
    );
    let broker = Broker::start(&["--receive-maximum", "7"]);
    assert_eq!(broker.v5("client").connack.props.receive_maximum(), Some(7));
}

/// A client that has more than the broker's Receive Maximum of QoS 2 messages under way is cut with 0x93
/// [MQTT-3.3.4-7]; a PUBREL gives a place back.
#[test]
fn exceeding_the_receive_maximum_of_the_broker_is_cut() {
    let broker = Broker::start(&["--receive-maximum", "2"]);
    let mut publisher = broker.v5("publisher");
    for id in 1..=2 {
        publisher.send(Publish::new("a", "x").qos(2, id));
        assert_eq!(publisher.recv_pubrec().id, id);
    }
    publisher.send(Packet::Pubrel(Ack::new(1)));
    assert_eq!(publisher.recv_pubcomp(), Ack::new(1));
    publisher.send(Publish::new("a", "x").qos(2, 3));
    assert_eq!(publisher.recv_pubrec().id, 3);
    // The same message again takes no further place, and QoS 1 is acknowledged at once.
    publisher.send(Publish::new("a", "x").qos(2, 3).dup());
    assert_eq!(publisher.recv_pubrec().id, 3);
    publisher.send(Publish::new("a", "x"));
    publisher.send(Publish::new("a", "x").qos(2, 4));
    publisher.expect_disconnect(code::RECEIVE_MAXIMUM_EXCEEDED);
    broker.assert_serves();
}

/// A PUBREC with an error ends the exchange and takes no place in the broker's window [MQTT-4.9.0-2].
#[test]
fn refused_messages_take_no_place() {
    let broker = Broker::start(&["--receive-maximum", "2"]);
    let mut publisher = broker.v5("publisher");
    for id in 1..=10 {
        publisher.send(Publish::new("$SYS/a", "x").qos(2, id));
        assert_eq!(publisher.recv_pubrec().reason, code::NOT_AUTHORIZED);
    }
    for id in 1..=2 {
        publisher.send(Publish::new("a", "x").qos(2, id));
        assert_eq!(publisher.recv_pubrec().id, id);
    }
    publisher.ping();
}

/// A client that sends no more than the announced Receive Maximum is never cut, however fast it is [MQTT-3.3.4-7].
#[test]
fn using_the_whole_window_of_the_broker_is_fine() {
    for qos in 1..=2 {
        let broker = Broker::start(&["--receive-maximum", "20"]);
        let mut publisher = broker.v5("publisher");
        for id in 1..=20 {
            publisher.send(Publish::new("a", "x").qos(qos, id));
        }
        for id in 1..=20 {
            let ack = if qos == 1 {
                publisher.recv_puback()
            } else {
                publisher.recv_pubrec()
            };
            assert_eq!(ack.id, id);
        }
    }
}

/// MQTT 3 knows no Receive Maximum; its clients are not cut.
#[test]
fn mqtt_3_clients_have_no_receive_maximum() {
    for version in Version::V3 {
        let broker = Broker::start(&["--receive-maximum", "2"]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        for id in 1..=50 {
            publisher.send(Publish::new("a", "x").qos(2, id));
            assert_eq!(publisher.recv_pubrec().id, id);
        }
    }
}

// ---- Packet Identifiers of the broker ----------------------------------------------------------------------------

/// The identifiers of a session count up from 1, also over a reconnect; every session has its own [MQTT-2.2.1-4]
/// [MQTT3-2.3.1-4].
#[test]
fn identifiers_count_up_from_1_in_each_session() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let connects = ["one", "two"].map(|id| Connect::persistent(version, id));
        let mut clients = connects.clone().map(|connect| broker.connect(connect));
        clients.iter_mut().for_each(|client| client.subscribe("a", 2));
        for id in 1..=10 {
            publisher.publish("a", "x", 1 + u8::from(id % 2 == 0));
            for client in &mut clients {
                assert_eq!(client.message().id, id);
            }
        }
        clients.iter_mut().for_each(Client::disconnect);
        let mut clients = connects.map(|connect| broker.resume(connect));
        for id in 11..=15 {
            publisher.publish("a", "x", 2);
            for client in &mut clients {
                assert_eq!(client.message().id, id);
            }
        }
    }
}

/// After 65,535 follows 1, and an identifier that is still in use is not used again [MQTT-2.2.1-4] [MQTT-4.3.2-1]
/// [MQTT3-2.3.1-4] [MQTT3-4.3.2-1].
#[test]
fn identifiers_wrap_around_past_those_in_use() {
    const HELD: u16 = 5;
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V311);
    subscriber.subscribe("a", 1);
    let mut held = None;
    for number in 0..65_535_u32 {
        let id = u16::try_from(number + 1).expect("at most 65,535");
        publisher.send(Publish::new("a", number.to_string()).qos(1, id));
        assert_eq!(publisher.recv_puback().id, id);
        let message = subscriber.recv_publish();
        assert_eq!((message.id, message.text()), (id, &*number.to_string()));
        if id == HELD {
            held = Some(message);
        } else {
            subscriber.ack(&message);
        }
    }
    publisher.publish_numbers("a", 0..10, 1);
    // Whether the broker goes on past the one in use or waits for it is its choice; 5 is what it must not use.
    let mut texts = Vec::new();
    let mut take = |message: Publish, subscriber: &mut Client| {
        assert_ne!(message.id, HELD, "in use");
        subscriber.ack(&message);
        texts.push(message.text().to_owned());
    };
    for _ in 0..3 {
        take(subscriber.recv_publish(), &mut subscriber);
    }
    for _ in 0..5 {
        let more = subscriber.messages_until_ping();
        more.into_iter().for_each(|message| take(message, &mut subscriber));
    }
    subscriber.ack(&held.expect("was sent"));
    texts.extend((texts.len()..10).map(|_| subscriber.message().text().to_owned()));
    assert_eq!(texts, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
}
