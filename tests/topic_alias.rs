//! Topic Aliases of MQTT 5.0 (section 3.3.2.3.4), from clients and from the broker.

mod common;
use common::*;
use std::collections::HashMap;

// ---- aliases of clients ------------------------------------------------------------------------------------------

/// The broker announces 32 aliases, or as many as the operator says.
#[test]
fn the_broker_announces_its_topic_alias_maximum() {
    for (args, maximum) in [
        (&[][..], Some(32)),
        (&["--topic-alias-maximum", "7"], Some(7)),
        (&["--topic-alias-maximum", "65535"], Some(65_535)),
    ] {
        let broker = Broker::start(args);
        assert_eq!(broker.v5("client").connack.props.topic_alias_maximum(), maximum);
    }
    let broker = Broker::start(&["--topic-alias-maximum", "0"]);
    assert_eq!(broker.v5("client").connack.props.topic_alias_maximum().unwrap_or(0), 0);
}

/// An alias stands for the topic that it was last sent with; subscribers see the topic and not the alias
/// [MQTT-3.3.2-12].
#[test]
fn an_alias_stands_for_its_topic() {
    let broker = Broker::start(&[]);
    let (mut subscriber, mut publisher) = broker.pair(Version::V5);
    let mut three = broker.v311("three");
    subscriber.subscribe("#", 2);
    three.subscribe("#", 2);
    let aliased = |topic: &str, alias: u16| Publish::new(topic, "x").prop(Prop::TopicAlias(alias));
    for qos in 0..=2 {
        for (sent, alias, expected) in [
            ("a/b", 1, "a/b"),
            ("", 1, "a/b"),
            ("c", 2, "c"),
            ("", 1, "a/b"),
            ("", 2, "c"),
            ("d", 1, "d"),
            ("", 1, "d"),
            ("", 2, "c"),
            ("c", 1, "c"),
            ("", 1, "c"),
            ("c", 1, "c"),
        ] {
            publisher.publish_packet(aliased(sent, alias).qos(qos, 0));
            let message = subscriber.expect_message(expected, "x");
            assert_eq!((message.qos, &message.props), (qos, &Props::default()));
            three.expect_message(expected, "x");
        }
    }
}

/// Every alias from 1 to the announced maximum is accepted [MQTT-3.3.2-12].
#[test]
fn every_alias_up_to_the_maximum_is_accepted() {
    for maximum in [1_u16, 32, 300] {
        let broker = Broker::start(&["--topic-alias-maximum", &maximum.to_string()]);
        let (mut subscriber, mut publisher) = broker.pair(Version::V5);
        subscriber.subscribe("t/#", 0);
        for alias in (1..=maximum).rev() {
            publisher.publish_packet(Publish::new(&format!("t/{alias}"), "x").prop(Prop::TopicAlias(alias)));
            subscriber.expect_message(&format!("t/{alias}"), "x");
        }
        for alias in 1..=maximum {
            publisher.publish_packet(Publish::new("", "x").prop(Prop::TopicAlias(alias)));
            subscriber.expect_message(&format!("t/{alias}"), "x");
        }
    }
}

/// An alias of 0 or above the maximum is cut with 0x94 [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17]
/// [MQTT-3.2.2-18].
#[test]
fn an_alias_out_of_range_is_cut() {
    for (maximum, aliases) in [("32", &[0, 33, 65_535][..]), ("0", &[0, 1]), ("65535", &[0])] {
        let broker = Broker::start(&["--topic-alias-maximum", maximum]);
        let mut subscriber = broker.v5("subscriber");
        subscriber.subscribe("a", 0);
        for &alias in aliases {
            let mut client = broker.v5("client");
            client.send(Publish::new("a", "x").prop(Prop::TopicAlias(alias)));
            client.expect_disconnect(code::TOPIC_ALIAS_INVALID);
        }
        let mut publisher = broker.v5("publisher");
        publisher.publish("a", "end", 0);
        subscriber.expect_message("a", "end");
    }
}

/// An alias that stands for nothing is a Protocol Error [MQTT-4.13.1-1].
#[test]
fn an_alias_without_topic_is_a_protocol_error() {
    let broker = Broker::start(&[]);
    for qos in 0..=2 {
        let mut client = broker.v5("client");
        client.publish_packet(Publish::new("a", "x").prop(Prop::TopicAlias(1)));
        client.send(Publish::new("", "x").qos(qos, 1).prop(Prop::TopicAlias(2)));
        client.expect_disconnect(code::PROTOCOL_ERROR);
    }
    let mut client = broker.v5("client");
    client.send(Publish::new("", "x"));
    client.expect_disconnect(code::PROTOCOL_ERROR);
    broker.assert_serves();
}

/// The aliases of a client end with its connection, also when the session goes on [MQTT-3.3.2-7].
#[test]
fn aliases_of_a_client_end_with_the_connection() {
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "client");
    let mut client = broker.connect(connect.clone());
    client.publish_packet(Publish::new("a", "x").prop(Prop::TopicAlias(1)));
    client.ping();
    client.disconnect();
    let mut client = broker.resume(connect);
    client.send(Publish::new("", "x").prop(Prop::TopicAlias(1)));
    client.expect_disconnect(code::PROTOCOL_ERROR);
}

/// The aliases of one client mean nothing to another [MQTT-3.3.2-7].
#[test]
fn every_client_has_its_own_aliases() {
    let broker = Broker::start(&[]);
    let mut subscriber = broker.v5("subscriber");
    subscriber.subscribe("#", 0);
    let mut clients = ["one", "two"].map(|id| broker.v5(id));
    for (client, topic) in clients.iter_mut().zip(["t/1", "t/2"]) {
        client.publish_packet(Publish::new(topic, "x").prop(Prop::TopicAlias(1)));
        subscriber.expect_message(topic, "x");
    }
    for (client, topic) in clients.iter_mut().zip(["t/1", "t/2"]) {
        client.publish_packet(Publish::new("", "x").prop(Prop::TopicAlias(1)));
        subscriber.expect_message(topic, "x");
    }
}

/// A message that was published by alias is retained and queued under its topic [MQTT-3.3.2-12].
#[test]
fn retained_and_queued_messages_know_their_topic() {
    let broker = Broker::start(&[]);
    broker.offline_session(Version::V5, "offline", "a/+", 1);
    let mut publisher = broker.v5("publisher");
    publisher.publish_packet(Publish::new("a/b", "one").qos(1, 0).prop(Prop::TopicAlias(3)));
    publisher.publish_packet(Publish::new("", "two").qos(1, 0).retain().prop(Prop::TopicAlias(3)));
    let mut offline = broker.resume(Connect::persistent(Version::V5, "offline"));
    offline.expect_message("a/b", "one");
    offline.expect_message("a/b", "two");
    let mut late = broker.v311("late");
    late.subscribe("a/b", 1);
    late.expect_message("a/b", "two");
}

// ---- aliases of the broker ---------------------------------------------------------------------------------------

/// What a client knows of the aliases of the broker: gives each message its topic.
#[derive(Default)]
struct Aliases {
    topics: HashMap<u16, String>,
    used: usize,
}

impl Aliases {
    /// The topic of this message; panics when the alias is out of range or stands for nothing.
    fn resolve(&mut self, message: &Publish, maximum: u16) -> String {
        let Some(alias) = message.props.topic_alias() else {
            return message.topic.clone();
        };
        assert!((1..=maximum).contains(&alias), "alias {alias} of {maximum}");
        if message.topic.is_empty() {
            self.used += 1;
            return self
                .topics
                .get(&alias)
                .unwrap_or_else(|| panic!("alias {alias} stands for nothing"))
                .clone();
        }
        self.topics.insert(alias, message.topic.clone());
        message.topic.clone()
    }
}

/// Without a Topic Alias Maximum, or with 0, the client gets no aliases [MQTT-3.1.2-27].
#[test]
fn no_aliases_for_clients_that_want_none() {
    let broker = Broker::start(&[]);
    for connect in [
        Connect::v5("client"),
        Connect::v5("client").prop(Prop::TopicAliasMaximum(0)),
    ] {
        let mut client = broker.connect(connect);
        let mut publisher = broker.v5("publisher");
        client.subscribe("#", 0);
        for _ in 0..20 {
            publisher.publish("a/long/topic/that/would/be/worth/an/alias", "x", 0);
            let message = client.message();
            assert_eq!((message.props.topic_alias(), message.topic.len()), (None, 41));
        }
        client.disconnect();
    }
}

/// The broker uses aliases from 1 to the maximum of the client, defines each before it uses it, and every message
/// has the right topic [MQTT-3.1.2-26] [MQTT-3.3.2-11] [MQTT-3.3.2-8].
#[test]
fn aliases_of_the_broker_keep_to_the_maximum() {
    for maximum in [1_u16, 3, 65_535] {
        let broker = Broker::start(&[]);
        let mut client = broker.connect(Connect::v5("client").prop(Prop::TopicAliasMaximum(maximum)));
        let mut publisher = broker.v5("publisher");
        client.subscribe("#", 2);
        let mut aliases = Aliases::default();
        for round in 0..60 {
            for qos in 0..=2 {
                let topic = format!("a/long/topic/that/is/worth/an/alias/{}", round % 5);
                publisher.publish(&topic, "x", qos);
                let message = client.message();
                assert_eq!(aliases.resolve(&message, maximum), topic);
            }
        }
        assert!(aliases.used > 0, "no alias was used");
    }
}

/// A repeated topic is sent once in full and then by its alias.
#[test]
fn a_repeated_topic_is_sent_by_its_alias() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect(Connect::v5("client").prop(Prop::TopicAliasMaximum(10)));
    let mut publisher = broker.v5("publisher");
    client.subscribe("#", 0);
    let mut aliases = Aliases::default();
    for _ in 0..10 {
        publisher.publish("a/long/topic/that/is/worth/an/alias", "x", 0);
        let message = client.message();
        assert_eq!(aliases.resolve(&message, 10), "a/long/topic/that/is/worth/an/alias");
    }
    assert!(aliases.used >= 8, "only {} of 10 messages came by alias", aliases.used);
}

/// The aliases of the broker end with the connection: after a reconnect, in which unacknowledged messages are sent
/// again, each is defined anew before it is used [MQTT-3.3.2-7] [MQTT-4.4.0-1].
#[test]
fn aliases_of_the_broker_end_with_the_connection() {
    const TOPIC: &str = "a/long/topic/that/is/worth/an/alias";
    let broker = Broker::start(&[]);
    let connect = Connect::persistent(Version::V5, "client");
    let mut client = broker.connect(connect.clone().prop(Prop::TopicAliasMaximum(10)));
    let mut publisher = broker.v5("publisher");
    client.subscribe("#", 1);
    publisher.publish_numbers(TOPIC, 0..5, 1);
    let mut aliases = Aliases::default();
    for _ in 0..5 {
        assert_eq!(aliases.resolve(&client.recv_publish(), 10), TOPIC);
    }
    client.kill();
    // First with fewer aliases, then with none at all.
    let mut client = broker.resume(connect.clone().prop(Prop::TopicAliasMaximum(1)));
    let mut aliases = Aliases::default();
    for number in 0..5 {
        let message = client.recv_publish();
        assert_eq!(
            (aliases.resolve(&message, 1), message.text()),
            (TOPIC.to_owned(), &*number.to_string())
        );
    }
    client.kill();
    let mut client = broker.resume(connect);
    for number in 0..5 {
        client.expect_message(TOPIC, number.to_string());
    }
}

/// Two clients with different maxima get the same messages, each by its own aliases; what one has does not show at
/// the other [MQTT-3.1.2-26] [MQTT-3.1.2-27].
#[test]
fn each_client_has_aliases_of_its_own() {
    let broker = Broker::start(&[]);
    let maxima = [0, 2, 100];
    let mut clients = maxima.map(|maximum| {
        let connect = Connect::v5(&format!("client{maximum}")).prop(Prop::TopicAliasMaximum(maximum));
        (broker.connect(connect), Aliases::default(), maximum)
    });
    clients.iter_mut().for_each(|(client, ..)| client.subscribe("#", 1));
    let mut publisher = broker.v5("publisher");
    for number in 0..50 {
        let topic = format!("a/long/topic/that/is/worth/an/alias/{}", number % 7);
        publisher.publish(&topic, number.to_string(), 1);
        for (client, aliases, maximum) in &mut clients {
            let message = client.message();
            assert_eq!(
                (aliases.resolve(&message, *maximum), message.text()),
                (topic.clone(), &*number.to_string())
            );
        }
    }
}

/// The operator can switch the aliases of the broker off.
#[test]
fn aliases_of_the_broker_can_be_switched_off() {
    let broker = Broker::start(&["--topic-alias-maximum-out", "0"]);
    let mut client = broker.connect(Connect::v5("client").prop(Prop::TopicAliasMaximum(10)));
    let mut publisher = broker.v5("publisher");
    client.subscribe("#", 0);
    for _ in 0..10 {
        publisher.publish("a/long/topic/that/is/worth/an/alias", "x", 0);
        assert_eq!(client.message().props.topic_alias(), None);
    }
}
