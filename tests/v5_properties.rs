//! Properties of MQTT 5.0: what is passed on to subscribers, Message Expiry, Maximum Packet Size, and what the broker
//! tells about problems.

mod common;
use common::*;
use std::time::Duration;

/// Every property that goes with a message, with User Properties before, between and after the others.
fn every_property() -> Vec<Prop> {
    vec![
        Prop::user("z", "1"),
        Prop::PayloadFormat(1),
        Prop::user("a", "2"),
        Prop::ContentType("text/plain; charset=utf-8".into()),
        Prop::user("z", ""),
        Prop::ResponseTopic("answers/\u{1f600}".into()),
        Prop::user("", "4"),
        Prop::CorrelationData(vec![0, 255, 0, 1]),
        Prop::user("z", "1"),
    ]
}

fn with_props(mut publish: Publish, props: Vec<Prop>) -> Publish {
    publish.props.0.extend(props);
    publish
}

fn sorted_by_id(props: &Props) -> Vec<Prop> {
    let mut props = props.0.clone();
    props.sort_by_key(Prop::id);
    props
}

// ---- what is passed on -------------------------------------------------------------------------------------------

/// All properties of the message reach every subscriber unaltered, the User Properties in their order, and nothing is
/// added [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
#[test]
fn message_properties_are_passed_on_unaltered() {
    let broker = Broker::start(&[]);
    let mut subscribers = ["one", "two"].map(|id| broker.v5(id));
    subscribers[0].subscribe("a/b", 2);
    subscribers[1].subscribe("a/+", 1);
    let mut publisher = broker.v5("publisher");
    for qos in 0..=2 {
        publisher.publish_packet(with_props(Publish::new("a/b", "x").qos(qos, 0), every_property()));
        for subscriber in &mut subscribers {
            let message = subscriber.expect_message("a/b", "x");
            assert_eq!(sorted_by_id(&message.props), sorted_by_id(&Props(every_property())));
            assert_eq!(
                message.props.users(),
                [("z", "1"), ("a", "2"), ("z", ""), ("", "4"), ("z", "1")]
            );
        }
    }
}

/// The same for a message that waits in the queue of a session, and for one that is sent again [MQTT-3.3.2-4]
/// [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
#[test]
fn queued_and_repeated_messages_keep_their_properties() {
    let broker = Broker::start(&[]);
    broker.offline_session(Version::V5, "subscriber", "a", 2);
    let mut publisher = broker.v5("publisher");
    publisher.publish_packet(with_props(Publish::new("a", "x").qos(2, 0), every_property()));
    for _ in 0..2 {
        let mut subscriber = broker.resume(Connect::persistent(Version::V5, "subscriber"));
        let message = subscriber.recv_publish();
        assert_eq!(sorted_by_id(&message.props), sorted_by_id(&Props(every_property())));
        subscriber.kill();
    }
}

/// Each property also alone, with its extreme values [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
/// [MQTT-3.3.2-17] [MQTT-3.3.2-20].
#[test]
fn each_property_alone_is_passed_on() {
    let long = "x".repeat(65_535);
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    subscriber.subscribe("a", 0);
    for prop in [
        Prop::PayloadFormat(0),
        Prop::PayloadFormat(1),
        Prop::ContentType(String::new()),
        Prop::ContentType(long.clone()),
        Prop::ResponseTopic("r".into()),
        Prop::ResponseTopic(long.clone()),
        Prop::CorrelationData(Vec::new()),
        Prop::CorrelationData(vec![0; 65_535]),
        Prop::user("", ""),
        Prop::user(&long, &long),
        Prop::MessageExpiry(u32::MAX),
    ] {
        publisher.publish_packet(Publish::new("a", "x").prop(prop.clone()));
        let message = subscriber.expect_message("a", "x");
        assert!(message.props.0 == [prop], "not passed on as it was");
    }
}

/// The properties of a will are those of the message, with User Properties in their order; the Will Delay Interval is
/// not one of them [MQTT-3.1.3-10] [MQTT-3.3.2-18].
#[test]
fn will_properties_are_passed_on() {
    let broker = Broker::start(&[]);
    let mut witness = broker.v5("witness");
    witness.subscribe("w", 1);
    let mut will = Will::new("w", "gone").qos(1).delay(0);
    will.props.0.extend(every_property());
    broker.connect(Connect::v5("mortal").will(will)).kill();
    let message = witness.expect_message("w", "gone");
    assert_eq!(sorted_by_id(&message.props), sorted_by_id(&Props(every_property())));
    assert_eq!(
        message.props.users(),
        [("z", "1"), ("a", "2"), ("z", ""), ("", "4"), ("z", "1")]
    );
}

/// Subscribers of MQTT 3 get the message without properties, and a message from MQTT 3 has an empty set of them
/// [MQTT-2.2.2-1] [MQTT3-4.5.0-1].
#[test]
fn mqtt_3_has_no_properties() {
    for version in Version::V3 {
        let broker = Broker::start(&[]);
        let mut three = broker.connect(Connect::new(version, "three"));
        let mut five = broker.v5("five");
        three.subscribe("to/3", 1);
        five.subscribe("to/5", 1);
        five.publish_packet(with_props(Publish::new("to/3", "x").qos(1, 0), every_property()));
        three.expect_message("to/3", "x");
        three.publish("to/5", "x", 1);
        assert_eq!(five.expect_message("to/5", "x").props, Props::default());
    }
}

/// Texts with U+FEFF at the front are passed on with it [MQTT-1.5.4-3] [MQTT-1.5.7-1].
#[test]
fn texts_are_passed_on_byte_for_byte() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    subscriber.subscribe("#", 0);
    for text in [
        "\u{feff}x",
        "x\u{feff}",
        "e\u{301}\u{e9}",
        "\u{10ffff}",
        "\u{1}\u{7f}\u{85}",
    ] {
        publisher.publish_packet(
            Publish::new(text, text)
                .prop(Prop::user(text, text))
                .prop(Prop::ContentType(text.into())),
        );
        let message = subscriber.expect_message(text, text);
        assert_eq!(message.props.users(), [(text, text)]);
        assert_eq!(message.props.content_type().as_deref(), Some(text));
    }
}

// ---- what is refused ---------------------------------------------------------------------------------------------

/// A Response Topic is a Topic Name: no wildcards [MQTT-3.3.2-14], well-formed UTF-8 without U+0000 [MQTT-3.3.2-13].
/// The Content Type [MQTT-3.3.2-19] and both strings of a User Property [MQTT-1.5.7-1] are well-formed as well, and
/// the Payload Format Indicator is 0 or 1.
#[test]
fn ill_formed_message_properties_cut_the_connection() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.v5("subscriber");
    subscriber.subscribe("a", 0);
    let text = |id: u8, bytes: &[u8]| [&[id], wire::binary(bytes).as_slice()].concat();
    let pair = |name: &[u8], value: &[u8]| [&[0x26], wire::binary(name).as_slice(), &wire::binary(value)].concat();
    for block in [
        text(0x08, b"a/#"),
        text(0x08, b"+"),
        text(0x08, b"a\0"),
        text(0x08, b"\xFF"),
        text(0x03, b"\xED\xA0\x80"),
        text(0x03, b"a\0"),
        pair(b"\xC0\x80", b"x"),
        pair(b"x", b"\xFF"),
        pair(b"x\0", b"x"),
        pair(b"x", b"\0"),
        vec![0x01, 2],
    ] {
        let mut client = broker.v5("client");
        let length = u8::try_from(block.len()).expect("short");
        client.send_bytes(&wire::packet(
            0x30,
            &[&[0, 1, b'a', length], block.as_slice(), b"x"].concat(),
        ));
        let allowed = [code::MALFORMED, code::PROTOCOL_ERROR, code::TOPIC_NAME_INVALID];
        client.expect_cut_with_any(&allowed);
    }
    let mut publisher = broker.v5("publisher");
    publisher.publish("a", "end", 0);
    subscriber.expect_message("a", "end");
}

/// A property that may come once must not come twice, and one that belongs to another packet must not come at all
/// [MQTT-4.13.1-1].
#[test]
fn misplaced_message_properties_are_protocol_errors() {
    let broker = Broker::start(&[]);
    let twice = [
        Prop::PayloadFormat(0),
        Prop::MessageExpiry(1),
        Prop::ContentType("a".into()),
        Prop::ResponseTopic("a".into()),
        Prop::CorrelationData(vec![1]),
        Prop::TopicAlias(1),
    ];
    let foreign = [
        Prop::SessionExpiry(1),
        Prop::ReasonString("a".into()),
        Prop::ReceiveMaximum(1),
        Prop::WillDelay(1),
        Prop::MaximumPacketSize(100),
        Prop::ServerKeepAlive(1),
    ];
    let blocks = twice
        .map(|prop| vec![prop.clone(), prop])
        .into_iter()
        .chain(foreign.map(|prop| vec![prop]));
    for block in blocks {
        let mut client = broker.v5("client");
        client.send(with_props(Publish::new("a", "x"), block));
        client.expect_cut_with_any(&[code::PROTOCOL_ERROR, code::MALFORMED]);
    }
    broker.assert_serves();
}

// ---- Message Expiry Interval -------------------------------------------------------------------------------------

/// A message that is passed on at once has the Message Expiry Interval it came with [MQTT-3.3.2-6].
#[test]
fn message_expiry_is_passed_on() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    subscriber.subscribe("a", 2);
    for qos in 0..=2 {
        for interval in [60, 1_000_000, u32::MAX] {
            publisher.publish_packet(Publish::new("a", "x").qos(qos, 0).prop(Prop::MessageExpiry(interval)));
            let left = subscriber
                .expect_message("a", "x")
                .props
                .message_expiry()
                .expect("still there");
            assert!(left == interval || left == interval - 1, "{left} of {interval}");
        }
    }
}

/// While a message waits, for an offline client or for room in the window, its Message Expiry Interval runs; what
/// has expired before it was sent is deleted [MQTT-3.3.2-5] [MQTT-3.3.2-6].
#[test]
fn message_expiry_runs_in_the_queue() {
    let broker = Broker::start(&[]);
    broker.offline_session(Version::V5, "offline", "a", 1);
    broker.offline_session(Version::V311, "offline3", "a", 1);
    let mut busy = broker.connect(Connect::v5("busy").prop(Prop::ReceiveMaximum(1)));
    busy.subscribe("a", 1);
    let mut publisher = broker.v5("publisher");
    publisher.publish("a", "first", 1);
    let first = busy.recv_publish();
    for (payload, interval) in [("short", 1), ("long", 100), ("shorter", 2)] {
        publisher.publish_packet(Publish::new("a", payload).qos(1, 0).prop(Prop::MessageExpiry(interval)));
    }
    publisher.publish("a", "ever", 1);
    std::thread::sleep(Duration::from_millis(3_200));

    busy.ack(&first);
    let mut offline = broker.resume(Connect::persistent(Version::V5, "offline"));
    offline.expect_message("a", "first");
    for client in [&mut busy, &mut offline] {
        let left = client
            .expect_message("a", "long")
            .props
            .message_expiry()
            .expect("still there");
        assert!((80..=97).contains(&left), "{left}");
        assert_eq!(client.expect_message("a", "ever").props.message_expiry(), None);
        client.assert_nothing_from(&mut publisher);
    }
    let mut offline3 = broker.resume(Connect::persistent(Version::V311, "offline3"));
    let messages = offline3.all_messages_from(&mut publisher);
    assert_eq!(
        messages.iter().map(Publish::text).collect::<Vec<_>>(),
        ["first", "long", "ever"]
    );
}

/// The Message Expiry Interval of a will runs from its publication [MQTT-3.3.2-6].
#[test]
fn the_expiry_of_a_will_runs_from_its_publication() {
    let broker = Broker::start(&[]);
    let mut witness = broker.v5("witness");
    witness.subscribe("w", 1);
    let mut mortal = broker.connect(Connect::v5("mortal").will(Will::new("w", "x").prop(Prop::MessageExpiry(60))));
    std::thread::sleep(Duration::from_millis(1_200));
    mortal.ping();
    mortal.kill();
    assert_eq!(witness.expect_message("w", "x").props.message_expiry(), Some(60));
}

// ---- Maximum Packet Size -----------------------------------------------------------------------------------------

/// A message whose packet would be larger than the client accepts is dropped for this client, which goes on; others
/// get it. The border is exact [MQTT-3.1.2-24] [MQTT-3.1.2-25].
#[test]
fn messages_above_the_maximum_packet_size_of_the_client_are_dropped() {
    const LIMIT: u32 = 100;
    let broker = Broker::start(&[]);
    let mut small = broker.connect(
        Connect::v5("small")
            .prop(Prop::MaximumPacketSize(LIMIT))
            .prop(Prop::ReceiveMaximum(1)),
    );
    let mut large = broker.v5("large");
    small.subscribe("a", 2);
    large.subscribe("a", 2);
    let mut publisher = broker.v5("publisher");
    for qos in 0..=2 {
        // Fixed header 2, topic 3, Packet Identifier, Property Length 1.
        let room = 100 - 6 - if qos > 0 { 2 } else { 0 };
        for length in [room + 1, room, room + 2, room - 1, 5_000, room, room + 1] {
            let payload = vec![b'x'; length];
            publisher.publish("a", &payload, qos);
            large.expect_message("a", &payload);
            if length <= room {
                small.expect_message("a", &payload);
            }
        }
    }
    small.assert_nothing_from(&mut publisher);
}

/// The limit counts properties, also those that the broker adds; for a client that it has no use for they do not
/// count [MQTT-3.1.2-24] [MQTT-3.1.2-25].
#[test]
fn properties_count_for_the_maximum_packet_size() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect(Connect::v5("client").prop(Prop::MaximumPacketSize(60)));
    let mut three = broker.v311("three");
    let mut publisher = broker.v5("publisher");
    client.send(
        Subscribe::new(1)
            .filter("a", 1)
            .prop(Prop::subscription_id(268_435_455)),
    );
    client.recv_suback();
    three.subscribe("a", 1);
    // Fixed header 2, topic 3, Packet Identifier 2, Property Length 1, Subscription Identifier 5, and the name.
    let room = 60 - 13;
    for length in [room, room + 1] {
        publisher.publish("a", vec![b'x'; length], 1);
        three.message();
    }
    client.expect_message("a", vec![b'x'; room]);
    for length in [room - 7, room - 6] {
        publisher.publish_packet(
            Publish::new("a", "")
                .qos(1, 0)
                .prop(Prop::user(&"n".repeat(length), "vv")),
        );
        three.message();
    }
    assert_eq!(client.expect_message("a", "").props.users().len(), 1);
    client.assert_nothing_from(&mut publisher);
}

/// A Topic Alias that makes the packet larger than the topic alone does not make it too large [MQTT-3.1.2-24]
/// [MQTT-3.1.2-25].
#[test]
fn topic_aliases_count_for_the_maximum_packet_size() {
    const LIMIT: u32 = 100;
    let broker = Broker::start(&[]);
    let connect = Connect::v5("subscriber")
        .prop(Prop::MaximumPacketSize(LIMIT))
        .prop(Prop::TopicAliasMaximum(10));
    let mut subscriber = broker.connect(connect);
    let mut publisher = broker.v5("publisher");
    subscriber.subscribe("#", 1);
    for topic in ["a", "ab", "abc", "abcd", "a/longer/topic"] {
        publisher.publish(topic, "introduces the alias", 0);
        subscriber.message();
        for qos in 0..=1 {
            for length in 60..100 {
                publisher.publish(topic, vec![b'x'; length], qos);
            }
            publisher.publish("end", "", qos);
            let messages = subscriber.messages(|message| message.payload.is_empty(), |suback| panic!("{suback:?}"));
            for message in messages {
                let size = Packet::from(message).encode(Version::V5).len();
                assert!(size <= 100, "{topic}: {size} bytes");
            }
        }
    }
}

/// A message that is too large for its client takes no place in the session: after the reconnect with a larger limit
/// it does not come, and the messages around it have come in order [MQTT-3.1.2-25].
#[test]
fn a_dropped_message_counts_as_sent() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber");
    let mut subscriber = broker.connect(connect.clone());
    subscriber.subscribe("a", 1);
    subscriber.disconnect();
    let mut publisher = broker.v5("publisher");
    publisher.publish("a", "0", 1);
    publisher.publish("a", vec![b'x'; 500], 1);
    publisher.publish("a", "1", 1);
    let mut subscriber = broker.resume(connect.clone().prop(Prop::MaximumPacketSize(200)));
    subscriber.expect_numbers(0..2);
    subscriber.disconnect();
    let mut subscriber = broker.resume(connect);
    subscriber.assert_nothing_from(&mut publisher);
}

/// The broker announces its Maximum Packet Size and cuts whoever exceeds it with 0x95, before the packet is complete;
/// a packet of exactly that size is fine [MQTT-3.2.2-15].
#[test]
fn packets_above_the_maximum_packet_size_of_the_broker_are_refused() {
    let broker = Broker::start(&["--max-packet-size", "1000"]);
    let mut subscriber = broker.v5("subscriber");
    subscriber.subscribe("a", 0);
    let mut client = broker.v5("client");
    assert_eq!(client.connack.props.maximum_packet_size(), Some(1_000));
    // Fixed header 3, topic 3, Property Length 1.
    client.publish("a", vec![b'x'; 1_000 - 7], 0);
    assert_eq!(subscriber.message().payload.len(), 1_000 - 7);
    client.send_bytes(&[0x30, 0xE6, 0x07, 0, 1]);
    client.expect_disconnect(code::PACKET_TOO_LARGE);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "client"));
        client.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        client.expect_cut(code::PACKET_TOO_LARGE);
    }
    broker.assert_serves();
}

// ---- Reason Strings and User Properties of the broker ------------------------------------------------------------

/// Enough for a CONNACK, too small for words.
const SMALL: u32 = 16;

/// Provokes every ack with something to tell and returns all of them: PUBACK, PUBREC, PUBCOMP, PUBREL, SUBACK,
/// UNSUBACK.
fn provoke_acks(client: &mut Client) -> Vec<Packet> {
    client.send(Publish::new("$SYS/a", "x").qos(1, 1));
    client.send(Publish::new("$SYS/a", "x").qos(2, 2));
    client.send(Packet::Pubrel(Ack::new(3)));
    client.send(Packet::Pubrec(Ack::new(4)));
    client.send(Subscribe::new(5).filter("a", 0).filter("b", 0));
    client.send(Unsubscribe::new(6).filter("c"));
    (0..6).map(|_| client.recv()).collect()
}

fn props_of(packet: &Packet) -> &Props {
    match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => &ack.props,
        Packet::Suback(suback) => &suback.props,
        Packet::Unsuback(unsuback) => &unsuback.props,
        other => panic!("not an ack: {other:?}"),
    }
}

fn assert_provoked(acks: &[Packet]) {
    let codes: Vec<(u16, u8)> = acks
        .iter()
        .map(|packet| match packet {
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
                (ack.id, ack.reason)
            }
            Packet::Suback(suback) => (suback.id, *suback.codes.last().expect("a code")),
            Packet::Unsuback(unsuback) => (unsuback.id, unsuback.codes[0]),
            other => panic!("not an ack: {other:?}"),
        })
        .collect();
    assert_eq!(
        codes,
        [(1, 0x87), (2, 0x87), (3, 0x92), (4, 0x92), (5, 0x97), (6, 0x11)]
    );
}

/// With Request Problem Information 0 no ack has a Reason String or a User Property [MQTT-3.1.2-29].
#[test]
fn reason_strings_come_only_when_asked_for() {
    let broker = Broker::start(&["--max-subscriptions", "1"]);
    let mut client = broker.connect(Connect::v5("client").prop(Prop::RequestProblemInfo(0)));
    let acks = provoke_acks(&mut client);
    assert_provoked(&acks);
    for ack in &acks {
        assert_eq!(props_of(ack), &Props::default(), "{ack:?}");
    }
}

/// By default, and with Request Problem Information 1, the client is told in words what is wrong with its publication
/// [MQTT-3.1.2-29] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1].
#[test]
fn reason_strings_come_by_default() {
    let broker = Broker::start(&["--max-subscriptions", "1"]);
    for connect in [
        Connect::v5("client"),
        Connect::v5("client").prop(Prop::RequestProblemInfo(1)),
    ] {
        let mut client = broker.connect(connect);
        let acks = provoke_acks(&mut client);
        assert_provoked(&acks);
        assert!(
            acks.iter().any(|ack| props_of(ack).reason_string().is_some()),
            "not a word: {acks:?}"
        );
        client.disconnect();
    }
}

/// A Reason String or User Property is left out where it would exceed the Maximum Packet Size of the client
/// [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2]
/// [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.1.2-24].
#[test]
fn reason_strings_do_not_exceed_the_maximum_packet_size() {
    let broker = Broker::start(&["--max-subscriptions", "1"]);
    let mut client = broker.connect(Connect::v5("client").prop(Prop::MaximumPacketSize(SMALL)));
    let acks = provoke_acks(&mut client);
    assert_provoked(&acks);
    for ack in &acks {
        assert_eq!(props_of(ack), &Props::default(), "{ack:?}");
    }
}

/// The same for DISCONNECT [MQTT-3.14.2-3] [MQTT-3.14.2-4].
#[test]
fn the_words_of_a_disconnect_do_not_exceed_the_maximum_packet_size() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect(Connect::v5("client").prop(Prop::MaximumPacketSize(SMALL)));
    client.send(Subscribe::new(1).filter("#a", 0));
    let disconnect = client.recv_disconnect();
    assert_eq!(
        (disconnect.reason, disconnect.props),
        (code::TOPIC_FILTER_INVALID, Props::default())
    );
}

/// A client that takes no packet as large as the smallest CONNACK can't be served; it is not left waiting either
/// [MQTT-3.1.2-24].
#[test]
fn a_client_that_cannot_take_the_connack_is_cut() {
    let broker = Broker::start(&[]);
    for limit in 1..=4 {
        let mut client = broker.open(Version::V5);
        client.send(Connect::v5("client").prop(Prop::MaximumPacketSize(limit)));
        client.expect_closed();
    }
    broker.assert_serves();
}

/// Response Information is not sent to whom has not asked for it [MQTT-3.1.2-28].
#[test]
fn no_response_information_without_request() {
    let broker = Broker::start(&[]);
    for connect in [
        Connect::v5("client"),
        Connect::v5("client").prop(Prop::RequestResponseInfo(0)),
    ] {
        let mut client = broker.connect(connect);
        assert_eq!(client.connack.props.response_info(), None);
        client.disconnect();
    }
}
