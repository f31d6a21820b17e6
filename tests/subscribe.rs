//! SUBSCRIBE and SUBACK (sections 3.8 and 3.9), and which messages a subscription brings (section 4.7).

mod common;
use common::*;

/// A SUBSCRIBE is answered by a SUBACK with its Packet Identifier, whichever that is [MQTT-3.8.4-1] [MQTT-3.8.4-2]
/// [MQTT-2.2.1-6] [MQTT3-3.8.4-1] [MQTT3-3.8.4-2] [MQTT3-2.3.1-7].
#[test]
fn suback_has_the_identifier_of_its_subscribe() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut client = broker.connect(Connect::new(version, "client"));
        for id in [1, 255, 256, 65_535, 1] {
            client.send(Subscribe::new(id).filter("a/b", 1));
            assert_eq!(client.recv_suback().id, id);
        }
    }
}

/// One SUBACK has a code for each Topic Filter, in their order, and each code is the QoS granted [MQTT-3.8.4-5]
/// [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2] [MQTT3-3.8.4-4] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1]
/// [MQTT3-3.9.3-2].
#[test]
fn suback_has_a_code_for_each_filter_in_order() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        let subscribe = Subscribe::new(9)
            .filter("a", 2)
            .filter("b/+", 0)
            .filter("c/#", 1)
            .filter("d", 2);
        subscriber.send(subscribe);
        assert_eq!(subscriber.recv_suback().codes, [2, 0, 1, 2]);
        for (topic, qos) in [("a", 2), ("b/x", 0), ("c/x/y", 1), ("d", 2)] {
            publisher.publish(topic, "x", 2);
            assert_eq!(subscriber.expect_message(topic, "x").qos, qos);
        }
    }
}

/// A filter that is refused, here by a limit, has an error code at its place and the others are granted
/// [MQTT-3.8.4-7] [MQTT-3.9.3-2]; the only error code of MQTT 3.1.1 is 0x80 [MQTT3-3.8.4-5] [MQTT3-3.9.3-2].
#[test]
fn a_refused_filter_has_an_error_code_at_its_place() {
    for (version, refused) in [
        (Version::V311, code::v3::SUBACK_FAILURE),
        (Version::V5, code::QUOTA_EXCEEDED),
    ] {
        let broker = Broker::start(&["--max-subscriptions", "2"]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.send(
            Subscribe::new(1)
                .filter("a", 1)
                .filter("b", 2)
                .filter("c", 0)
                .filter("b", 0),
        );
        assert_eq!(subscriber.recv_suback().codes, [1, 2, refused, 0]);
        publisher.publish("c", "not subscribed", 1);
        publisher.publish("a", "subscribed", 1);
        subscriber.expect_message("a", "subscribed");
    }
}

/// MQTT 3.1 has no code for a refusal, so the connection is closed.
#[test]
fn a_refused_filter_closes_an_mqtt_3_1_connection() {
    let broker = Broker::start(&["--max-subscriptions", "1"]);
    let mut client = broker.connect(Connect::v31("client"));
    client.subscribe("a", 1);
    client.send(Subscribe::new(2).filter("b", 1));
    client.expect_closed();
    broker.assert_serves();
}

/// Several filters in one packet act as one packet after the other: a filter that comes twice has the later options,
/// and the message comes once [MQTT-3.8.4-5] [MQTT3-3.8.4-4].
#[test]
fn many_filters_act_as_a_sequence_of_subscribes() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.send(Subscribe::new(1).filter("a", 0).filter("b", 1).filter("a", 2));
        assert_eq!(subscriber.recv_suback().codes, [0, 1, 2]);
        publisher.publish("a", "x", 2);
        assert_eq!(subscriber.expect_message("a", "x").qos, 2);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// A message comes at the lower of the QoS it was published with and the QoS granted [MQTT-3.8.4-8]
/// [MQTT3-3.8.4-6].
#[test]
fn messages_come_at_the_lower_of_published_and_granted_qos() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for granted in 0..=2 {
            subscriber.subscribe("a", granted);
            for published in 0..=2 {
                publisher.publish("a", "x", published);
                assert_eq!(subscriber.expect_message("a", "x").qos, granted.min(published));
            }
        }
    }
}

/// An identical Topic Filter replaces the subscription: messages come once, at the new QoS [MQTT-3.8.4-3]
/// [MQTT3-3.8.4-3].
#[test]
fn resubscribing_replaces_the_subscription() {
    for version in Version::ALL {
        for filter in ["a/b", "a/+", "#"] {
            let broker = Broker::start(&[]);
            let (mut subscriber, mut publisher) = broker.pair(version);
            for qos in [2, 0, 1] {
                subscriber.subscribe(filter, qos);
                publisher.publish("a/b", "x", 2);
                assert_eq!(subscriber.expect_message("a/b", "x").qos, qos);
                subscriber.assert_nothing_from(&mut publisher);
            }
        }
    }
}

/// With the subscription its options are replaced, and its Subscription Identifier, which can also go
/// [MQTT-3.8.4-3].
#[test]
fn resubscribing_replaces_options_and_subscription_identifier() {
    let broker = Broker::start(&[]);
    let mut client = broker.v5("client");
    let mut publisher = broker.v5("publisher");
    let mut resubscribe = |options: u8, id: Option<u32>| {
        let packet_id = client.next_id();
        let mut subscribe = Subscribe::new(packet_id).filter("a", options);
        subscribe.props.0.extend(id.map(Prop::subscription_id));
        client.send(subscribe);
        assert_eq!(client.recv_suback().codes, [options & 3]);
        client.send(Publish::new("a", "own"));
        if options & Subscribe::NO_LOCAL == 0 {
            client.expect_message("a", "own");
        } else {
            client.ping();
        }
        publisher.publish_packet(Publish::new("a", "x").qos(1, 0).retain());
        let message = client.expect_message("a", "x");
        assert_eq!(message.retain, options & Subscribe::RETAIN_AS_PUBLISHED != 0);
        assert_eq!(message.props.subscription_ids(), id.into_iter().collect::<Vec<_>>());
    };
    resubscribe(1 | Subscribe::RETAIN_NEVER, Some(1));
    resubscribe(1 | Subscribe::RETAIN_NEVER | Subscribe::NO_LOCAL, Some(2));
    resubscribe(Subscribe::RETAIN_NEVER | Subscribe::RETAIN_AS_PUBLISHED, None);
    resubscribe(1 | Subscribe::RETAIN_NEVER, Some(3));
}

/// Messages that are published while a subscription is replaced again and again all arrive, in order and once
/// [MQTT-3.8.4-4] [MQTT3-3.8.4-3].
#[test]
fn resubscribing_loses_no_message() {
    const COUNT: u32 = 300;
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a/+", 1);
        for number in 0..COUNT {
            let id = u16::try_from(number + 1).expect("small");
            publisher.send(Publish::new("a/b", number.to_string()).qos(1, id));
            if number % 3 == 0 {
                subscriber.send(Subscribe::new(id).filter("a/+", 1));
            }
        }
        let (mut messages, mut subacks) = (0, 0);
        while messages < COUNT || subacks < COUNT / 3 {
            match subscriber.recv() {
                Packet::Publish(publish) => {
                    assert_eq!(publish.text(), messages.to_string());
                    subscriber.ack(&publish);
                    messages += 1;
                }
                Packet::Suback(suback) => subacks += u32::try_from(suback.codes.len()).expect("one"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// With No Local a client does not get its own messages, but those of others [MQTT-3.8.3-3].
#[test]
fn no_local_keeps_own_messages_away() {
    let broker = Broker::start(&[]);
    let mut client = broker.v5("client");
    let mut other = broker.v5("other");
    for (filter, topic) in [("a", "a"), ("b/#", "b/c")] {
        client.subscribe(filter, 2 | Subscribe::NO_LOCAL);
        for qos in 0..=2 {
            client.publish(topic, "own", qos);
            client.assert_nothing_from_itself();
            other.publish(topic, "of another", qos);
            client.expect_message(topic, "of another");
        }
    }
}

/// Without No Local a client gets its own messages, as every client of MQTT 3 does [MQTT-4.5.0-1] [MQTT3-4.5.0-1].
#[test]
fn own_messages_come_without_no_local() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut client = broker.connect(Connect::new(version, "client"));
        client.subscribe("a", 0);
        client.publish("a", "own", 0);
        client.expect_message("a", "own");
    }
}

/// Where one of two overlapping subscriptions has No Local, an own message comes for the other one only
/// [MQTT-3.8.3-3] [MQTT-3.3.4-4].
#[test]
fn no_local_concerns_its_own_subscription_only() {
    let broker = Broker::start(&[]);
    let mut client = broker.v5("client");
    client.send(
        Subscribe::new(1)
            .filter("a/#", 2 | Subscribe::NO_LOCAL)
            .prop(Prop::subscription_id(1)),
    );
    assert_eq!(client.recv_suback().codes, [2]);
    client.send(Subscribe::new(2).filter("a/b", 0).prop(Prop::subscription_id(2)));
    assert_eq!(client.recv_suback().codes, [0]);
    client.publish("a/b", "own", 0);
    let message = client.expect_message("a/b", "own");
    assert_eq!((message.qos, message.props.subscription_ids()), (0, vec![2]));
    client.assert_nothing_from_itself();
}

/// A message that several subscriptions of one client match comes once, at the highest QoS among them
/// [MQTT-3.3.4-2] [MQTT3-3.3.5-1].
#[test]
fn overlapping_subscriptions_bring_one_copy_at_the_highest_qos() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for (filter, qos) in [("a/+", 0), ("a/b", 2), ("#", 1), ("a/#", 0)] {
            subscriber.subscribe(filter, qos);
        }
        for (topic, published, expected) in [
            ("a/b", 2, 2),
            ("a/b", 1, 1),
            ("a/b", 0, 0),
            ("a/c", 2, 1),
            ("b", 2, 1),
            ("a/b/c", 1, 1),
        ] {
            publisher.publish(topic, "x", published);
            assert_eq!(subscriber.expect_message(topic, "x").qos, expected, "{topic}");
            publisher.publish("sentinel", "only one copy came before", 0);
            subscriber.expect_message("sentinel", "only one copy came before");
        }
    }
}

/// The one copy carries the Subscription Identifiers of all subscriptions that match and have one [MQTT-3.3.4-3]
/// [MQTT-3.3.4-4].
#[test]
fn one_copy_carries_all_subscription_identifiers() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    let subscriptions = [
        ("a/+", Some(1)),
        ("a/b", Some(268_435_455)),
        ("#", Some(128)),
        ("a/#", None),
        ("b", Some(4)),
        ("+/b", Some(1)),
    ];
    for (filter, id) in subscriptions {
        let mut subscribe = Subscribe::new(1).filter(filter, 1);
        subscribe.props.0.extend(id.map(Prop::subscription_id));
        subscriber.send(subscribe);
        subscriber.recv_suback();
    }
    // The same identifier stands there once for each subscription that has it (section 3.3.4).
    for (topic, ids) in [
        ("a/b", &[1, 1, 128, 268_435_455][..]),
        ("b", &[4, 128]),
        ("a/c", &[1, 128]),
        ("x", &[128]),
    ] {
        for qos in 0..=1 {
            publisher.publish(topic, "x", qos);
            assert_eq!(
                subscriber.expect_message(topic, "x").props.subscription_ids(),
                ids,
                "{topic}"
            );
        }
    }
}

/// The Subscription Identifier of a SUBSCRIBE goes for each of its filters [MQTT-3.3.4-3].
#[test]
fn a_subscription_identifier_goes_for_all_filters_of_its_packet() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    subscriber.send(
        Subscribe::new(1)
            .filter("a", 0)
            .filter("b/+", 0)
            .prop(Prop::subscription_id(16_384)),
    );
    assert_eq!(subscriber.recv_suback().codes, [0, 0]);
    for topic in ["a", "b/c"] {
        publisher.publish(topic, "x", 0);
        assert_eq!(subscriber.expect_message(topic, "x").props.subscription_ids(), [16_384]);
    }
}

/// Subscription Identifiers belong to the session: messages that were queued while the client was away have them, and
/// so have those after its return [MQTT-3.3.4-3] [MQTT-4.1.0-1].
#[test]
fn subscription_identifiers_outlive_the_connection() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber");
    let mut subscriber = broker.connect(connect.clone());
    subscriber.send(Subscribe::new(1).filter("a/#", 1).prop(Prop::subscription_id(5)));
    subscriber.recv_suback();
    subscriber.send(Subscribe::new(2).filter("a/b", 1).prop(Prop::subscription_id(6)));
    subscriber.recv_suback();
    subscriber.disconnect();
    let mut publisher = broker.v5("publisher");
    publisher.publish("a/b", "queued", 1);
    let mut subscriber = broker.resume(connect);
    assert_eq!(
        subscriber.expect_message("a/b", "queued").props.subscription_ids(),
        [5, 6]
    );
    publisher.publish("a/b", "live", 1);
    assert_eq!(
        subscriber.expect_message("a/b", "live").props.subscription_ids(),
        [5, 6]
    );
}

/// `#` stands alone or after a `/` and is last; `+` takes a whole level [MQTT-4.7.1-1] [MQTT-4.7.1-2]
/// [MQTT3-4.7.1-2] [MQTT3-4.7.1-3]. Another filter cuts the connection: with 0x8F in MQTT 5.0 [MQTT-4.13.1-1], as a
/// protocol violation in MQTT 3 [MQTT3-4.8.0-1].
#[test]
fn misplaced_wildcards_cut_the_connection() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        for filter in [
            "a/#/b", "#/", "#/b", "a#", "#a", "a/b#", "##", "a+", "+a", "a/+b", "a/b+/c", "++", "+#",
        ] {
            let mut client = broker.connect(Connect::new(version, "client"));
            client.send(Subscribe::new(1).filter(filter, 0));
            client.expect_cut(code::TOPIC_FILTER_INVALID);
        }
        broker.assert_serves();
    }
}

/// A Topic Filter has at least one character, none of them U+0000, and is well-formed UTF-8 [MQTT-4.7.3-1]
/// [MQTT-4.7.3-2] [MQTT-3.8.3-1] [MQTT3-4.7.3-1] [MQTT3-4.7.3-2] [MQTT3-3.8.3-1].
#[test]
fn impossible_filters_cut_the_connection() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        for filter in [&b""[..], b"a\0b", b"\0", b"a/\xFF", b"\xED\xA0\x80", b"\xC0\xAF"] {
            let mut client = broker.connect(Connect::new(version, "client"));
            let props: &[u8] = if version.is_v5() { &[0] } else { &[] };
            let body = [&[0, 1], props, &wire::binary(filter), &[0]].concat();
            client.send_bytes(&wire::packet(0x82, &body));
            client.expect_cut_with_any(&[code::MALFORMED, code::PROTOCOL_ERROR, code::TOPIC_FILTER_INVALID]);
        }
        broker.assert_serves();
    }
}

/// A packet with one ill-formed filter subscribes to nothing: the client, which has no SUBACK, finds its session as it
/// was [MQTT-4.13.1-1] [MQTT3-4.8.0-1].
#[test]
fn a_packet_with_an_ill_formed_filter_subscribes_to_nothing() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let connect = Connect::persistent(version, "subscriber");
        let mut subscriber = broker.connect(connect.clone());
        subscriber.send(Subscribe::new(1).filter("a", 1).filter("#a", 1));
        subscriber.expect_cut(code::TOPIC_FILTER_INVALID);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let mut subscriber = broker.resume(connect);
        publisher.publish("a", "x", 1);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// What each filter matches, and what not: exactly the matching ones of the published messages come
/// [MQTT-3.3.2-3] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT3-3.3.2-3] [MQTT3-4.7.1-2] [MQTT3-4.7.1-3].
#[test]
fn filters_match_as_specified() {
    const CASES: &[(&str, &[&str], &[&str])] = &[
        ("a/b", &["a/b"], &["a", "a/", "a/b/", "/a/b", "a//b", "a/b/c", "b"]),
        ("/", &["/"], &["a", "//", "/a"]),
        (
            "s/t/#",
            &["s/t", "s/t/", "s/t/p", "s/t/p/r/w"],
            &["s", "s/", "s/u", "s/tt", "x/s/t"],
        ),
        ("#", &["a", "/", "a/b/c", "//"], &[]),
        ("/#", &["/", "/a", "/a/b", "//"], &["a", "a/b"]),
        ("s/t/+", &["s/t/p", "s/t/"], &["s/t", "s/t/p/r", "s/u/p"]),
        ("s/+", &["s/", "s/t"], &["s", "s/t/", "t/s"]),
        ("+", &["a", "abc"], &["/a", "a/", "/", "a/b"]),
        ("+/+", &["/a", "a/", "a/b", "/"], &["a", "a/b/c", "//"]),
        ("/+", &["/a", "/"], &["a", "/a/b", "//"]),
        ("+/t/#", &["s/t", "/t", "s/t/p/r"], &["t", "s/s/t", "s/x/t"]),
        ("s/+/p", &["s/t/p", "s//p"], &["s/p", "s/t/u/p", "s/t/p/"]),
        ("+/+/#", &["a/b", "a/b/c/d", "//"], &["a"]),
        ("$x/#", &["$x", "$x/a", "$x/"], &["x/a", "$y/a", "$xx"]),
        ("$x/+/z", &["$x/y/z"], &["$x/z", "$y/y/z"]),
    ];
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        for (filter, matching, others) in CASES {
            let (mut subscriber, mut publisher) = broker.pair(version);
            subscriber.subscribe(filter, 0);
            for topic in matching.iter().chain(*others).chain(matching.first()) {
                publisher.publish(topic, filter, 0);
            }
            for topic in matching.iter().chain(matching.first()) {
                subscriber.expect_message(topic, filter);
            }
            // The other publications lie between the last two messages: none of them has come.
            subscriber.ping();
        }
    }
}

/// A filter that begins with a wildcard does not match a Topic Name that begins with `$` [MQTT-4.7.2-1]
/// [MQTT3-4.7.2-1].
#[test]
fn leading_wildcards_do_not_match_dollar_topics() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for filter in ["#", "+", "+/a", "+/#", "+/+"] {
            subscriber.subscribe(filter, 1);
        }
        for topic in ["$x", "$x/a", "$x/a/b", "$"] {
            publisher.publish(topic, "hidden", 1);
        }
        publisher.publish("x/$a", "seen", 1);
        subscriber.expect_message("x/$a", "seen");
        subscriber.subscribe("$x/+", 1);
        publisher.publish("$x/a", "asked for", 1);
        subscriber.expect_message("$x/a", "asked for");
    }
}

/// Neither names nor filters are normalized: case, white space, dots, percent signs, composed and decomposed
/// characters, U+FEFF all make a difference [MQTT-4.7.3-4] [MQTT-1.5.4-3] [MQTT3-4.7.3-4] [MQTT3-1.5.3-3].
#[test]
fn topics_are_compared_byte_for_byte() {
    const TOPICS: [&str; 14] = [
        "k\u{f6}ln",
        "ko\u{308}ln",
        "K\u{d6}LN",
        "\u{feff}k\u{f6}ln",
        "k\u{f6}ln ",
        " k\u{f6}ln",
        "k\u{f6}ln/",
        "/k\u{f6}ln",
        "k\u{f6}ln/.",
        "./k\u{f6}ln",
        "x/../k\u{f6}ln",
        "k%C3%B6ln",
        "k\u{200b}\u{f6}ln",
        "\u{1f600}",
    ];
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for topic in TOPICS {
            subscriber.subscribe(topic, 0);
            for published in TOPICS {
                publisher.publish(published, published, 0);
            }
            subscriber.expect_message(topic, topic);
            subscriber.assert_nothing_from(&mut publisher);
            subscriber.unsubscribe(topic);
        }
    }
}

/// A filter and a name of 65,535 bytes, the longest that can be written, work [MQTT-4.7.3-3] [MQTT3-4.7.3-3].
#[test]
fn the_longest_topic_works() {
    for version in Version::ALL {
        let broker = Broker::start(&["--max-topic-length", "65535"]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        let topic = "x".repeat(65_535);
        subscriber.subscribe(&topic, 1);
        publisher.publish(&topic, "x", 1);
        subscriber.expect_message(&topic, "x");
    }
}

/// A message reaches every client with a matching subscription, whatever its version, and no other
/// [MQTT-4.5.0-1] [MQTT-3.3.2-3] [MQTT3-4.5.0-1] [MQTT3-3.3.2-3].
#[test]
fn a_message_reaches_all_matching_clients_and_no_other() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let mut matching = Vec::new();
        let mut others = Vec::new();
        for (number, version) in Version::ALL.into_iter().enumerate() {
            for filter in ["a/b", "a/+", "#"] {
                let mut client = broker.connect(Connect::new(version, &format!("in{}", matching.len())));
                client.subscribe(filter, 1);
                matching.push(client);
            }
            let mut client = broker.connect(Connect::new(version, &format!("out{number}")));
            client.subscribe("b/+", 1);
            others.push(client);
        }
        publisher.publish("a/b", "x", 1);
        for client in &mut matching {
            client.expect_message("a/b", "x");
        }
        for client in &mut others {
            client.assert_nothing_from(&mut publisher);
        }
    }
}

/// A publisher that stays with one topic reaches who subscribes later, whatever the filter [MQTT-4.5.0-1], and no more
/// who has unsubscribed [MQTT-3.10.4-1]: nobody works with subscribers of the past.
#[test]
fn who_subscribes_later_is_found_and_who_unsubscribed_is_not() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v311("publisher");
    let mut witness = broker.v311("witness");
    witness.subscribe("a/b/c", 1);
    let filters = [
        "a/b/c",
        "a/b/+",
        "a/+/c",
        "+/b/c",
        "a/b/#",
        "a/#",
        "#",
        "$share/g/a/b/c",
        "$share/g/a/#",
    ];
    for (number, filter) in filters.into_iter().enumerate() {
        for _ in 0..3 {
            publisher.publish("a/b/c", "before", 1);
            witness.expect_message("a/b/c", "before");
        }
        let mut late = broker.v311(&format!("late{number}"));
        late.subscribe(filter, 1);
        publisher.publish("a/b/c", "after", 1);
        witness.expect_message("a/b/c", "after");
        late.expect_message("a/b/c", "after");
        late.unsubscribe(filter);
        publisher.publish("a/b/c", "gone", 1);
        witness.expect_message("a/b/c", "gone");
        late.assert_nothing_from(&mut publisher);
    }
}
