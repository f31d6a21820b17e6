//! Retained messages (sections 3.3.1.3 and 3.8.3.1).

mod common;
use common::*;
use std::time::Duration;

fn retain(publisher: &mut Client, topic: &str, payload: &str, qos: u8) {
    publisher.publish_packet(Publish::new(topic, payload).qos(qos, 0).retain());
    publisher.ping();
}

/// Subscribes a new client to this filter and returns what it gets because of that: a message to it alone marks the
/// end.
fn retained_for(broker: &Broker, version: Version, filter: &str) -> Vec<Publish> {
    let mut client = broker.connect(Connect::new(version, "late"));
    client.subscribe("end", 0);
    client.subscribe(filter, 2);
    client.publish("end", "", 0);
    let mut messages = client.messages(|message| message.topic == "end", |suback| panic!("{suback:?}"));
    messages.retain(|message| message.topic != "end");
    client.disconnect();
    messages
}

fn topics_and_payloads(mut messages: Vec<Publish>) -> Vec<(String, String)> {
    messages.sort_by(|one, other| one.topic.cmp(&other.topic));
    messages
        .into_iter()
        .map(|message| (message.topic.clone(), message.text().to_owned()))
        .collect()
}

/// A message with RETAIN 1 is stored with its QoS and sent to whom subscribes later, with RETAIN 1 [MQTT-3.3.1-5]
/// [MQTT-3.3.1-9] [MQTT3-3.3.1-5] [MQTT3-3.3.1-6] [MQTT3-3.3.1-8].
#[test]
fn a_later_subscriber_gets_the_retained_message() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        for qos in 0..=2 {
            retain(&mut publisher, "a/b", "x", qos);
            for filter in ["a/b", "a/+", "#"] {
                let messages = retained_for(&broker, version, filter);
                assert_eq!(messages.len(), 1, "{filter}");
                let message = &messages[0];
                assert_eq!(
                    (message.text(), message.qos, message.retain, message.dup),
                    ("x", qos, true, false)
                );
            }
        }
    }
}

/// Only the last message of a topic is retained, whatever its QoS is [MQTT-3.3.1-5] [MQTT3-3.3.1-6]
/// [MQTT3-3.3.1-7].
#[test]
fn a_newer_message_replaces_the_retained_one() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        for (number, qos) in [2, 0, 1, 0].into_iter().enumerate() {
            retain(&mut publisher, "a", &number.to_string(), qos);
            let messages = retained_for(&broker, version, "a");
            assert_eq!(messages.len(), 1);
            assert_eq!((messages[0].text(), messages[0].qos), (&*number.to_string(), qos));
        }
    }
}

/// An empty payload with RETAIN 1 removes the retained message and is not retained itself; subscribers get it as a
/// normal message [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT3-3.3.1-10] [MQTT3-3.3.1-11].
#[test]
fn an_empty_message_clears_the_retained_one() {
    for version in Version::ALL {
        for qos in 0..=2 {
            let broker = Broker::start(&[]);
            let (mut subscriber, mut publisher) = broker.pair(version);
            subscriber.subscribe("a", 2);
            retain(&mut publisher, "a", "x", 1);
            subscriber.expect_message("a", "x");
            retain(&mut publisher, "a", "", qos);
            let message = subscriber.expect_message("a", "");
            assert_eq!((message.qos, message.retain), (qos, false));
            assert_eq!(retained_for(&broker, version, "#"), []);
            // Also where nothing is retained.
            retain(&mut publisher, "b", "", qos);
            assert_eq!(retained_for(&broker, version, "#"), []);
        }
    }
}

/// A message with RETAIN 0 is not stored, and neither removes nor replaces what is [MQTT-3.3.1-8] [MQTT3-3.3.1-12].
#[test]
fn messages_without_retain_change_nothing() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        retain(&mut publisher, "a", "kept", 1);
        for qos in 0..=2 {
            publisher.publish("a", "other", qos);
            publisher.publish("a", "", qos);
            publisher.publish("b", "other", qos);
        }
        publisher.ping();
        let messages = topics_and_payloads(retained_for(&broker, version, "#"));
        assert_eq!(messages, [("a".to_owned(), "kept".to_owned())]);
    }
}

/// Whoever is subscribed already gets the message with RETAIN 0, unless Retain As Published is asked for
/// [MQTT-3.3.1-12] [MQTT3-3.3.1-9].
#[test]
fn established_subscriptions_get_retain_0() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        subscriber.subscribe("a", 2);
        for qos in 0..=2 {
            retain(&mut publisher, "a", "x", qos);
            assert!(!subscriber.expect_message("a", "x").retain);
            publisher.publish("a", "y", qos);
            assert!(!subscriber.expect_message("a", "y").retain);
        }
    }
}

/// With Retain As Published the flag is that of the publisher [MQTT-3.3.1-13]; retained messages have it set in any
/// case (section 3.3.1.3).
#[test]
fn retain_as_published_keeps_the_flag() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    for qos in 0..=2 {
        subscriber.subscribe("a", 2 | Subscribe::RETAIN_AS_PUBLISHED);
        retain(&mut publisher, "a", "x", qos);
        assert!(subscriber.expect_message("a", "x").retain);
        publisher.publish("a", "y", qos);
        assert!(!subscriber.expect_message("a", "y").retain);
        subscriber.unsubscribe("a");
        subscriber.subscribe("a", 2);
        assert!(subscriber.expect_message("a", "x").retain);
        subscriber.unsubscribe("a");
        retain(&mut publisher, "a", "", 1);
    }
}

/// Retain As Published holds for messages that were queued as well [MQTT-3.3.1-13] [MQTT-3.3.1-12].
#[test]
fn retain_as_published_holds_for_queued_messages() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for (id, options) in [("keeps", Subscribe::RETAIN_AS_PUBLISHED), ("drops", 0)] {
        let mut client = broker.connect(Connect::persistent(Version::V5, id));
        client.subscribe("a", 1 | options);
        client.disconnect();
    }
    retain(&mut publisher, "a", "x", 1);
    publisher.publish("a", "y", 1);
    for (id, retain) in [("keeps", true), ("drops", false)] {
        let mut client = broker.resume(Connect::persistent(Version::V5, id));
        assert_eq!(client.expect_message("a", "x").retain, retain, "{id}");
        assert!(!client.expect_message("a", "y").retain);
    }
}

/// A retained message comes at the lower of its QoS and the QoS granted [MQTT-3.8.4-8] [MQTT3-3.8.4-6].
#[test]
fn retained_messages_come_at_the_lower_qos() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for published in 0..=2 {
            retain(&mut publisher, "a", "x", published);
            for granted in 0..=2 {
                subscriber.subscribe("a", granted);
                assert_eq!(subscriber.expect_message("a", "x").qos, published.min(granted));
                subscriber.unsubscribe("a");
            }
        }
    }
}

/// Retain Handling 0, which is what MQTT 3 does, sends the retained messages at every SUBSCRIBE [MQTT-3.3.1-9]
/// [MQTT-3.8.4-4] [MQTT3-3.3.1-6] [MQTT3-3.8.4-3].
#[test]
fn retain_handling_0_sends_at_every_subscribe() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        retain(&mut publisher, "a/b", "x", 1);
        for filter in ["a/b", "a/+"] {
            for _ in 0..3 {
                subscriber.subscribe(filter, 1);
                assert!(subscriber.expect_message("a/b", "x").retain);
            }
        }
    }
}

/// Retain Handling 1 sends them only when the subscription did not exist: not for a new QoS, not in a resumed
/// session, but again after UNSUBSCRIBE or a clean start [MQTT-3.3.1-10].
#[test]
fn retain_handling_1_sends_for_new_subscriptions() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "subscriber");
    let mut subscriber = broker.connect(connect.clone());
    let mut publisher = broker.v5("publisher");
    retain(&mut publisher, "a/b", "x", 1);
    for filter in ["a/b", "a/+"] {
        subscriber.subscribe(filter, 1 | Subscribe::RETAIN_IF_NEW);
        assert!(subscriber.expect_message("a/b", "x").retain);
        for qos in [1, 0, 2] {
            subscriber.subscribe(filter, qos | Subscribe::RETAIN_IF_NEW);
            subscriber.assert_nothing_from(&mut publisher);
        }
        subscriber.unsubscribe(filter);
        subscriber.subscribe(filter, 1 | Subscribe::RETAIN_IF_NEW);
        subscriber.expect_message("a/b", "x");
    }
    subscriber.disconnect();
    let mut subscriber = broker.resume(connect.clone());
    subscriber.subscribe("a/b", 1 | Subscribe::RETAIN_IF_NEW);
    subscriber.assert_nothing_from(&mut publisher);
    subscriber.disconnect();
    let mut subscriber = broker.connect(connect.clean(true));
    subscriber.subscribe("a/b", 1 | Subscribe::RETAIN_IF_NEW);
    subscriber.expect_message("a/b", "x");
}

/// Retain Handling 2 never sends them [MQTT-3.3.1-11].
#[test]
fn retain_handling_2_never_sends() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    retain(&mut publisher, "a/b", "x", 1);
    for filter in ["a/b", "a/+", "a/b"] {
        subscriber.subscribe(filter, 1 | Subscribe::RETAIN_NEVER);
        subscriber.assert_nothing_from(&mut publisher);
    }
    publisher.publish("a/b", "live", 1);
    subscriber.expect_message("a/b", "live");
}

/// The retained messages for a filter with wildcards are all that match it, and no others; those under `$` are not
/// found by a leading wildcard [MQTT-3.3.1-9] [MQTT-4.7.2-1] [MQTT3-3.3.1-6] [MQTT3-4.7.2-1].
#[test]
fn wildcards_find_all_retained_messages() {
    const TOPICS: [&str; 11] = ["a", "a/", "a/b", "a/b/c", "a/x/c", "/", "/a", "b", "b/b", "$x/b", "$x"];
    const CASES: [(&str, &[&str]); 13] = [
        ("#", &["/", "/a", "a", "a/", "a/b", "a/b/c", "a/x/c", "b", "b/b"]),
        ("+", &["a", "b"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a/x/c"]),
        ("a/+", &["a/", "a/b"]),
        ("a/+/c", &["a/b/c", "a/x/c"]),
        ("+/b", &["a/b", "b/b"]),
        ("+/b/#", &["a/b", "a/b/c", "b/b"]),
        ("/+", &["/", "/a"]),
        ("+/+", &["/", "/a", "a/", "a/b", "b/b"]),
        ("$x/#", &["$x", "$x/b"]),
        ("$x/+", &["$x/b"]),
        ("a/b", &["a/b"]),
        ("c/#", &[]),
    ];
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        TOPICS.iter().for_each(|topic| retain(&mut publisher, topic, "x", 1));
        for (filter, expected) in CASES {
            let mut messages = retained_for(&broker, version, filter);
            messages.sort_by(|one, other| one.topic.cmp(&other.topic));
            let found: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
            assert_eq!(found, expected, "{filter}");
        }
    }
}

/// Retained messages outlive the client that has published them and its session [MQTT3-3.1.2-7] [MQTT-3.3.1-5].
#[test]
fn retained_messages_outlive_their_publisher() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::persistent(version, "publisher"));
        retain(&mut publisher, "a", "x", 1);
        publisher.disconnect();
        broker
            .connect(Connect::new(version, "publisher").clean(true))
            .disconnect();
        assert_eq!(retained_for(&broker, version, "a").len(), 1);
    }
}

/// A retained message is sent because of a SUBSCRIBE, not because a session is resumed [MQTT-3.3.1-9]
/// [MQTT3-3.3.1-6].
#[test]
fn resuming_a_session_sends_no_retained_messages() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        retain(&mut publisher, "a", "x", 1);
        let connect = Connect::persistent(version, "subscriber");
        let mut subscriber = broker.connect(connect.clone());
        subscriber.subscribe("a", 1);
        subscriber.expect_message("a", "x");
        subscriber.disconnect();
        let mut subscriber = broker.resume(connect);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// A retained message is one for the session: published while the client is away, it waits in the queue like any
/// other, with RETAIN 0 [MQTT-4.5.0-1] [MQTT-3.3.1-12] [MQTT3-4.5.0-1] [MQTT3-3.3.1-9].
#[test]
fn retained_publications_are_queued_like_others() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        broker.offline_session(version, "subscriber", "a", 1);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        retain(&mut publisher, "a", "x", 1);
        let mut subscriber = broker.resume(Connect::persistent(version, "subscriber"));
        assert!(!subscriber.expect_message("a", "x").retain);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// A retained message that has expired is not sent any more; before that its Message Expiry Interval has become
/// smaller by the time it has waited [MQTT-3.3.2-5] [MQTT-3.3.2-6].
#[test]
fn retained_messages_expire() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    publisher.publish_packet(
        Publish::new("a/short", "x")
            .qos(1, 0)
            .retain()
            .prop(Prop::MessageExpiry(1)),
    );
    publisher.publish_packet(
        Publish::new("a/long", "x")
            .qos(1, 0)
            .retain()
            .prop(Prop::MessageExpiry(100)),
    );
    publisher.publish_packet(Publish::new("a/ever", "x").qos(1, 0).retain());
    assert_eq!(
        retained_for(&broker, Version::V5, "a/long")[0].props.message_expiry(),
        Some(100)
    );
    std::thread::sleep(Duration::from_millis(2_200));
    for filter in ["a/+", "#"] {
        let mut messages = retained_for(&broker, Version::V5, filter);
        messages.sort_by(|one, other| one.topic.cmp(&other.topic));
        let found: Vec<_> = messages.iter().map(|message| message.topic.as_str()).collect();
        assert_eq!(found, ["a/ever", "a/long"]);
        assert_eq!(messages[0].props.message_expiry(), None);
        let left = messages[1].props.message_expiry().expect("still there");
        assert!((80..=98).contains(&left), "{left}");
    }
    assert_eq!(retained_for(&broker, Version::V5, "a/short"), []);
    assert_eq!(retained_for(&broker, Version::V311, "a/short"), []);
}

/// A retained message that has expired makes room for another, also when the broker publishes no `$SYS` topics.
#[test]
fn expired_retained_messages_are_removed() {
    let broker = Broker::start(&["--max-retained-messages", "1", "--sys-interval", "0"]);
    let mut publisher = broker.v5("publisher");
    publisher.publish_packet(Publish::new("old", "x").qos(1, 0).retain().prop(Prop::MessageExpiry(1)));
    eventually("there is room for another", || {
        retain(&mut publisher, "new", "x", 1);
        !retained_for(&broker, Version::V5, "new").is_empty()
    });
}

/// A retained message has the properties it was published with, and the Subscription Identifier of the subscription
/// that it is sent for [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-3.3.4-3].
#[test]
fn retained_messages_keep_their_properties() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    let props = [
        Prop::user("b", "1"),
        Prop::PayloadFormat(1),
        Prop::user("a", "2"),
        Prop::ContentType("text/plain".into()),
        Prop::ResponseTopic("r".into()),
        Prop::CorrelationData(vec![0, 255]),
        Prop::user("b", "0"),
    ];
    let mut publish = Publish::new("a", "x").qos(1, 0).retain();
    publish.props.0.extend(props.clone());
    publisher.publish_packet(publish);
    subscriber.send(Subscribe::new(1).filter("+", 1).prop(Prop::subscription_id(9)));
    subscriber.recv_suback();
    let message = subscriber.expect_message("a", "x");
    assert_eq!(message.props.subscription_ids(), [9]);
    assert_eq!(message.props.users(), [("b", "1"), ("a", "2"), ("b", "0")]);
    assert!(props.iter().all(|prop| message.props.0.contains(prop)), "{message:?}");
    assert_eq!(message.props.0.len(), props.len() + 1);
}

/// Retained messages cross between versions [MQTT-3.3.1-5] [MQTT3-3.3.1-5].
#[test]
fn retained_messages_cross_between_versions() {
    let broker = Broker::start(&[]);
    for from in Version::ALL {
        let mut publisher = broker.connect(Connect::new(from, "publisher"));
        let publish = Publish::new("a", format!("{from:?}")).qos(1, 0).retain();
        publisher.publish_packet(if from.is_v5() {
            publish.prop(Prop::user("a", "b"))
        } else {
            publish
        });
        for to in Version::ALL {
            let messages = retained_for(&broker, to, "a");
            assert_eq!(messages.len(), 1);
            assert_eq!((messages[0].text(), messages[0].retain), (&*format!("{from:?}"), true));
            assert_eq!(messages[0].props.users().len(), usize::from(from.is_v5() && to.is_v5()));
        }
        publisher.disconnect();
    }
}

/// A will with Will Retain 1 is retained when it is published, one without is not, and an empty one clears
/// [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT3-3.1.2-16] [MQTT3-3.1.2-17].
#[test]
fn a_will_is_retained_if_it_says_so() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut witness = broker.connect(Connect::new(version, "witness"));
        witness.subscribe("w", 0);
        let mut die_with = |will: Will| {
            broker
                .connect(Connect::new(version, "mortal").will(will.clone()))
                .kill();
            let message = witness.recv_publish();
            assert_eq!((&message.payload, message.retain), (&will.payload, false));
        };
        die_with(Will::new("w", "gone"));
        assert_eq!(retained_for(&broker, version, "w"), []);
        die_with(Will::new("w", "retained").qos(1).retain());
        let messages = retained_for(&broker, version, "w");
        assert_eq!(messages.len(), 1);
        assert_eq!(
            (messages[0].text(), messages[0].qos, messages[0].retain),
            ("retained", 1, true)
        );
        die_with(Will::new("w", "not retained"));
        assert_eq!(retained_for(&broker, version, "w")[0].text(), "retained");
        die_with(Will::new("w", "").retain());
        assert_eq!(retained_for(&broker, version, "w"), []);
    }
}

/// Many retained messages all come, each once, also through a small window [MQTT-3.3.1-9] [MQTT3-3.3.1-6].
#[test]
fn many_retained_messages_come_through_a_small_window() {
    for version in Version::ALL {
        let broker = Broker::start(&["--max-inflight", "3"]);
        let mut publisher = broker.connect(Connect::new(version, "publisher"));
        let topics: Vec<String> = (100..400).map(|number| format!("a/{number}")).collect();
        topics
            .iter()
            .for_each(|topic| publisher.publish_packet(Publish::new(topic, "x").qos(1, 0).retain()));
        let mut subscriber = broker.connect(Connect::new(version, "subscriber"));
        subscriber.subscribe("a/+", 1);
        let mut found: Vec<String> = topics.iter().map(|_| subscriber.message().topic).collect();
        found.sort();
        assert_eq!(found, topics);
        subscriber.assert_nothing_from(&mut publisher);
    }
}
