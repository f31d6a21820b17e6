//! Shared subscriptions (section 4.8.2), which this broker offers to clients of MQTT 3 as well.

mod common;
use common::*;

const GROUP: &str = "$share/g/a/+";

fn member(broker: &Broker, version: Version, id: &str) -> Client {
    let mut client = broker.connect(Connect::persistent(version, id));
    client.subscribe(GROUP, 2);
    client
}

/// A session that ends with the connection or, if it is `lasting`, when a client connects with a clean start.
fn mortal_member(broker: &Broker, version: Version, id: &str, lasting: bool) -> Client {
    let connect = if lasting {
        Connect::persistent(version, id)
    } else {
        Connect::new(version, id)
    };
    let mut client = broker.connect(connect);
    client.subscribe(GROUP, 2);
    client
}

fn numbers(messages: &[Publish]) -> Vec<u32> {
    messages
        .iter()
        .map(|message| message.text().parse().expect("a number"))
        .collect()
}

fn publisher(broker: &Broker, version: Version) -> Client {
    broker.connect(Connect::new(version, "publisher"))
}

/// Each message goes to one member, and the members take turns [MQTT-4.8.2-1].
#[test]
fn members_take_turns() {
    for version in Version::ALL {
        for qos in 0..=2 {
            let broker = Broker::start(&[]);
            let mut members = ["one", "two", "three"].map(|id| member(&broker, version, id));
            let mut publisher = publisher(&broker, version);
            publisher.publish_numbers("a/b", 0..12, qos);
            let mut seen = Vec::new();
            for client in &mut members {
                let mine = numbers(&client.take(4));
                assert!(
                    mine.windows(2).all(|pair| pair[1] == pair[0] + 3),
                    "not in turns: {mine:?}"
                );
                seen.extend(mine);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..12).collect::<Vec<_>>());
            for client in &mut members {
                client.assert_nothing_from(&mut publisher);
            }
        }
    }
}

/// Members of different versions share as well.
#[test]
fn members_of_all_versions_share() {
    let broker = Broker::start(&[]);
    let mut members = Version::ALL.map(|version| member(&broker, version, &format!("{version:?}")));
    let mut publisher = publisher(&broker, Version::V5);
    publisher.publish_numbers("a/b", 0..6, 1);
    for client in &mut members {
        client.message();
        client.message();
        client.assert_nothing_from(&mut publisher);
    }
}

/// Each group gets its copy, and so does each ordinary subscription; different filters are different groups even with
/// the same share name [MQTT-4.8.2-1] [MQTT-4.5.0-1].
#[test]
fn every_group_and_every_ordinary_subscription_gets_a_copy() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let filters = ["$share/g/a/+", "$share/h/a/+", "$share/g/a/b", "$share/g/#", "a/b", "#"];
        let mut clients: Vec<Client> = (0..)
            .zip(filters)
            .map(|(number, filter): (u8, &str)| {
                let mut client = broker.connect(Connect::new(version, &format!("client{number}")));
                client.subscribe(filter, 1);
                client
            })
            .collect();
        let mut publisher = publisher(&broker, version);
        publisher.publish_numbers("a/b", 0..3, 1);
        for client in &mut clients {
            client.expect_numbers(0..3);
        }
    }
}

/// The ShareName has at least one character and none of `/`, `+`, `#`, and a Topic Filter follows it
/// [MQTT-4.8.2-1] [MQTT-4.8.2-2].
#[test]
fn ill_formed_shared_filters_cut_the_connection() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        for filter in [
            "$share/",
            "$share//a",
            "$share/g",
            "$share/g/",
            "$share/+/a",
            "$share/g+/a",
            "$share/#",
            "$share/#/a",
            "$share/g/a#",
            "$share/g/#/a",
            "$share/g/a+",
        ] {
            let mut client = broker.connect(Connect::new(version, "client"));
            client.send(Subscribe::new(1).filter(filter, 0));
            client.expect_cut(code::TOPIC_FILTER_INVALID);
        }
        broker.assert_serves();
    }
}

/// What follows the ShareName is an ordinary filter, which can begin with `/`, `$` or a wildcard [MQTT-4.8.2-2].
#[test]
fn the_filter_of_a_group_is_an_ordinary_one() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        for (filter, topic) in [
            ("$share/g//a", "/a"),
            ("$share/g/$x/a", "$x/a"),
            ("$share/g/#", "b"),
            ("$share/g/+/c", "b/c"),
            ("$share/a b$/d", "d"),
            ("$share/g/$share", "$share"),
        ] {
            subscriber.subscribe(filter, 1);
            publisher.publish(topic, "x", 1);
            subscriber.expect_message(topic, "x");
            subscriber.unsubscribe(filter);
        }
        // The `$` rule concerns the filter, not the `$share` before it [MQTT-4.7.2-1].
        subscriber.subscribe("$share/g/#", 1);
        publisher.publish("$x/a", "hidden", 1);
        publisher.publish("x/$a", "seen", 1);
        subscriber.expect_message("x/$a", "seen");
    }
}

/// No Local on a Shared Subscription is a Protocol Error [MQTT-3.8.3-4].
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let broker = Broker::start(&[]);
    let mut client = broker.v5("client");
    client.send(Subscribe::new(1).filter("a", 0).filter(GROUP, 1 | Subscribe::NO_LOCAL));
    client.expect_disconnect(code::PROTOCOL_ERROR);
    broker.assert_serves();
}

/// Each member gets its messages at the QoS it was granted [MQTT-4.8.2-3].
#[test]
fn each_member_has_its_own_qos() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut members: Vec<Client> = (0..=2)
            .map(|qos| {
                let mut client = broker.connect(Connect::new(version, &format!("qos{qos}")));
                client.subscribe(GROUP, qos);
                client
            })
            .collect();
        let mut publisher = publisher(&broker, version);
        for published in 0..=2 {
            publisher.publish_numbers("a/b", 0..3, published);
            for (granted, client) in (0..=2).zip(&mut members) {
                assert_eq!(client.message().qos, published.min(granted));
            }
        }
    }
}

/// The Subscription Identifier of the member comes with its messages [MQTT-3.3.4-3].
#[test]
fn members_get_their_own_subscription_identifier() {
    let broker = Broker::start(&[]);
    let mut publisher = publisher(&broker, Version::V5);
    let mut members = [11, 12].map(|id| {
        let mut client = broker.v5(&format!("member{id}"));
        client.send(Subscribe::new(1).filter(GROUP, 1).prop(Prop::subscription_id(id)));
        client.recv_suback();
        client
    });
    publisher.publish_numbers("a/b", 0..4, 1);
    for (client, id) in members.iter_mut().zip([11, 12]) {
        assert_eq!(client.message().props.subscription_ids(), [id]);
        assert_eq!(client.message().props.subscription_ids(), [id]);
    }
}

/// A Shared Subscription brings no retained messages (section 4.8.2), at no Retain Handling.
#[test]
fn shared_subscriptions_bring_no_retained_messages() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let (mut subscriber, mut publisher) = broker.pair(version);
        publisher.publish_packet(Publish::new("a/b", "x").qos(1, 0).retain());
        subscriber.subscribe(GROUP, 1);
        subscriber.assert_nothing_from(&mut publisher);
    }
}

/// A member that subscribes again is still one member; one that unsubscribes is none any more [MQTT-3.10.4-2].
#[test]
fn subscribing_again_and_unsubscribing() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut one = member(&broker, version, "one");
        let mut two = member(&broker, version, "two");
        one.subscribe(GROUP, 1);
        let mut publisher = publisher(&broker, version);
        publisher.publish_numbers("a/b", 0..8, 2);
        for client in [&mut one, &mut two] {
            client.take(4);
            client.assert_nothing_from(&mut publisher);
        }
        one.unsubscribe(GROUP);
        publisher.publish_numbers("a/b", 0..4, 1);
        two.expect_numbers(0..4);
        one.assert_nothing_from(&mut publisher);
        two.unsubscribe(GROUP);
        publisher.publish("a/b", "nobody", 1);
        two.assert_nothing_from(&mut publisher);
    }
}

/// While another member is online, nothing goes to one that is not.
#[test]
fn an_offline_member_is_passed_over() {
    for version in Version::ALL {
        for qos in 1..=2 {
            let broker = Broker::start(&[]);
            member(&broker, version, "offline").disconnect();
            let mut online = member(&broker, version, "online");
            let mut publisher = publisher(&broker, version);
            publisher.publish_numbers("a/b", 0..6, qos);
            online.expect_numbers(0..6);
            let mut back = broker.resume(Connect::persistent(version, "offline"));
            back.assert_nothing_from(&mut publisher);
        }
    }
}

/// When all members are offline, the messages wait in their sessions and are delivered to whom returns
/// [MQTT-4.5.0-1] [MQTT3-4.5.0-1].
#[test]
fn messages_wait_when_all_members_are_offline() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        member(&broker, version, "one").disconnect();
        member(&broker, version, "two").disconnect();
        let mut publisher = publisher(&broker, version);
        publisher.publish_numbers("a/b", 0..6, 1);
        let mut clients = ["one", "two"].map(|id| broker.resume(Connect::persistent(version, id)));
        let mut seen: Vec<u32> = clients
            .iter_mut()
            .flat_map(|client| numbers(&client.all_messages_from(&mut publisher)))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..6).collect::<Vec<_>>());
    }
}

/// A member whose queue is full is passed over while another one can take the message: nothing is lost.
#[test]
fn a_full_member_is_passed_over() {
    for version in Version::ALL {
        let broker = Broker::start(&["--max-inflight", "1", "--max-queued-messages", "3"]);
        let mut stuck = member(&broker, version, "stuck");
        let mut quick = member(&broker, version, "quick");
        let mut publisher = publisher(&broker, version);
        let mut seen = Vec::new();
        // The quick member takes each message before the next one is published, so that it is never full itself.
        for number in 0..20 {
            publisher.publish("a/b", number.to_string(), 1);
            seen.extend(numbers(&quick.all_messages_from(&mut publisher)));
        }
        assert!(
            seen.len() >= 20 - 4,
            "the stuck member has room for no more than four: {seen:?}"
        );
        seen.extend(numbers(&stuck.all_messages_from(&mut publisher)));
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    }
}

/// What a member has been sent at QoS 2 stays with it when the connection breaks, and is completed when it returns
/// [MQTT-4.8.2-4].
#[test]
fn qos_2_stays_with_its_member() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut one = member(&broker, version, "one");
        let mut publisher = publisher(&broker, version);
        publisher.publish_numbers("a/b", 0..2, 2);
        let (sent, released) = (one.recv_publish(), one.recv_publish());
        one.send(Packet::Pubrec(Ack::new(released.id)));
        assert_eq!(one.recv_pubrel().id, released.id);
        let mut two = member(&broker, version, "two");
        one.kill();
        two.assert_nothing_from(&mut publisher);

        let mut one = broker.resume(Connect::persistent(version, "one"));
        let packets = [one.recv(), one.recv()];
        assert!(packets.contains(&sent.clone().dup().into()), "{packets:?}");
        assert!(packets.contains(&Packet::Pubrel(Ack::new(released.id))), "{packets:?}");
        one.ack(&sent);
        one.send(Packet::Pubcomp(Ack::new(released.id)));
        one.assert_nothing_from(&mut publisher);
        two.assert_nothing_from(&mut publisher);
    }
}

/// What a member has been sent at QoS 2 dies with its session: no other member gets it [MQTT-4.8.2-5].
#[test]
fn qos_2_dies_with_the_session_of_its_member() {
    for version in Version::ALL {
        for lasting in [false, true] {
            let broker = Broker::start(&[]);
            let mut one = mortal_member(&broker, version, "one", lasting);
            let mut publisher = publisher(&broker, version);
            publisher.publish("a/b", "dies", 2);
            one.recv_publish();
            let mut two = member(&broker, version, "two");
            one.kill();
            if lasting {
                broker.connect(Connect::new(version, "one")).disconnect();
            }
            two.assert_nothing_from(&mut publisher);
            publisher.publish("a/b", "next", 2);
            two.expect_message("a/b", "next");
        }
    }
}

/// What a member has been sent at QoS 1 and has not acknowledged goes to another member when its session ends, and so
/// does what was still waiting for it.
#[test]
fn qos_1_moves_on_when_the_session_ends() {
    for version in Version::ALL {
        for lasting in [false, true] {
            let broker = Broker::start(&["--max-inflight", "3"]);
            let mut one = mortal_member(&broker, version, "one", lasting);
            let mut publisher = publisher(&broker, version);
            publisher.publish_numbers("a/b", 0..6, 1);
            let first = one.recv_publish();
            one.recv_publish();
            one.recv_publish();
            one.ack(&first);
            assert_eq!(one.recv_publish().text(), "3");
            let mut two = member(&broker, version, "two");
            one.kill();
            if lasting {
                two.assert_nothing_from(&mut publisher);
                broker.connect(Connect::new(version, "one")).disconnect();
            }
            two.expect_numbers(1..6);
            two.assert_nothing_from(&mut publisher);
        }
    }
}

/// When the last member's session ends there is nobody left, and the messages go with it.
#[test]
fn without_other_members_messages_end_with_the_session() {
    for version in Version::ALL {
        let broker = Broker::start(&[]);
        let mut one = broker.connect(Connect::new(version, "one"));
        one.subscribe(GROUP, 1);
        let mut publisher = publisher(&broker, version);
        publisher.publish("a/b", "x", 1);
        one.recv_publish();
        one.kill();
        // The session before has ended when its client is accepted again.
        drop(broker.connect(Connect::new(version, "one")));
        let mut two = member(&broker, version, "two");
        two.assert_nothing_from(&mut publisher);
        broker.assert_serves();
    }
}

/// A PUBACK or PUBREC with 0x80 or above discards the message: no other member gets it [MQTT-4.8.2-6].
#[test]
fn a_refused_message_is_discarded() {
    let broker = Broker::start(&[]);
    let mut one = member(&broker, Version::V5, "one");
    let mut publisher = publisher(&broker, Version::V5);
    publisher.publish("a/b", "refused", 1);
    publisher.publish("a/b", "refused", 2);
    let (first, second) = (one.recv_publish(), one.recv_publish());
    let mut two = member(&broker, Version::V5, "two");
    one.send(Packet::Puback(Ack::with(first.id, code::UNSPECIFIED)));
    one.send(Packet::Pubrec(Ack::with(second.id, code::IMPLEMENTATION_SPECIFIC)));
    one.assert_nothing_from(&mut publisher);
    one.disconnect_with(Disconnect::new(code::SUCCESS).prop(Prop::SessionExpiry(0)));
    two.assert_nothing_from(&mut publisher);
}

/// A takeover does not end the session: its messages stay with the member [MQTT-4.8.2-4].
#[test]
fn a_takeover_keeps_the_messages_of_the_member() {
    for version in Version::ALL {
        for qos in 1..=2 {
            let broker = Broker::start(&[]);
            let mut one = member(&broker, version, "one");
            let mut publisher = publisher(&broker, version);
            publisher.publish("a/b", "x", qos);
            let sent = one.recv_publish();
            let mut two = member(&broker, version, "two");
            let mut again = broker.resume(Connect::persistent(version, "one"));
            one.expect_cut(code::SESSION_TAKEN_OVER);
            assert_eq!(again.recv_publish(), sent.dup());
            two.assert_nothing_from(&mut publisher);
        }
    }
}
