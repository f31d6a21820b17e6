//! Sessions: how long they live, what they keep, and who gets them back.

mod common;
use common::*;

/// Seconds, far beyond any test.
const LONG: u32 = 3600;

/// Whether the broker has a session for this client; asking does not change how long it lives.
fn session_exists(broker: &Broker, version: Version, id: &str) -> bool {
    let mut client = broker.connect(Connect::persistent(version, id));
    client.disconnect();
    client.connack.session_present
}

/// Session Present is 0 without a session and after a clean start, 1 when the session is there [MQTT-3.2.2-2]
/// [MQTT-3.2.2-3] [MQTT-3.1.2-6] [MQTT3-3.2.2-1] [MQTT3-3.2.2-2] [MQTT3-3.2.2-3]; state is kept after the connection
/// [MQTT-3.1.2-23] [MQTT3-3.1.2-4]. A clean start discards it, for good [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT3-3.1.2-6]
/// [MQTT3-3.1.4-3].
#[test]
fn session_present() {
    let broker = Broker::start(&[]);
    for (version, id) in [(Version::V311, "v311"), (Version::V5, "v5")] {
        assert!(!session_exists(&broker, version, id), "nothing yet");
        assert!(session_exists(&broker, version, id), "kept");
        let mut clean = broker.connect(Connect::new(version, id));
        assert!(!clean.connack.session_present, "a clean start has no session");
        clean.disconnect();
        assert!(!session_exists(&broker, version, id), "a clean session leaves nothing");
    }
}

/// MQTT 3.1 has no Session Present; the bit is reserved and stays 0 while the session is resumed all the same.
#[test]
fn v31_resumes_without_saying_so() {
    let broker = Broker::start(&[]);
    let mut client = broker.connect(Connect::persistent(Version::V31, "old"));
    client.subscribe("t", 1);
    client.disconnect();
    broker.v5("publisher").publish("t", "kept", 1);
    let mut client = broker.connect(Connect::persistent(Version::V31, "old"));
    assert!(!client.connack.session_present);
    client.expect_message("t", "kept");
}

/// While a client is away its session takes QoS 1 and 2 messages for its subscriptions [MQTT-4.5.0-1]
/// [MQTT3-3.1.2-5] [MQTT3-4.5.0-1], which come in order when it is back [MQTT-3.1.2-5] [MQTT-4.6.0-5]
/// [MQTT3-3.1.2-4] [MQTT3-4.6.0-6], with nothing in between, and once.
#[test]
fn messages_wait_for_the_client() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for version in Version::ALL {
        let mut client = broker.connect(Connect::persistent(version, "away"));
        client.subscribe("one/+", 1);
        client.subscribe("two", 2);
        client.disconnect();
        for number in 0..100 {
            publisher.publish("one/a", format!("one {number}"), 1);
            publisher.publish("two", format!("two {number}"), 2);
        }
        publisher.publish("three", "not subscribed", 1);
        let mut client = broker.connect(Connect::persistent(version, "away"));
        for number in 0..100 {
            let one = client.expect_message("one/a", format!("one {number}"));
            let two = client.expect_message("two", format!("two {number}"));
            assert_eq!((one.qos, one.dup, two.qos, two.dup), (1, false, 2, false));
        }
        client.assert_nothing_from(&mut publisher);
        client.disconnect();
        broker
            .connect(Connect::persistent(version, "away"))
            .assert_silent_until_ping();
        broker.connect(Connect::new(version, "away")).disconnect();
    }
}

/// What was sent and not acknowledged comes again on reconnection, first and in order, with DUP and its identifier,
/// and at no other time [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1] [MQTT3-4.6.0-1]
/// [MQTT3-2.3.1-4]; a PUBREL as well, and then not its PUBLISH [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT3-4.3.3-1].
#[test]
fn unacknowledged_comes_again() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for version in Version::ALL {
        let mut client = broker.connect(Connect::persistent(version, "flaky"));
        client.subscribe("t", 2);
        for (text, qos) in [("a", 2), ("b", 1), ("c", 2), ("d", 1)] {
            publisher.publish("t", text, qos);
        }
        let sent: Vec<Publish> = (0..4).map(|_| client.recv_publish()).collect();
        client.send(Packet::Pubrec(Ack::new(sent[0].id)));
        assert_eq!(client.recv_pubrel().id, sent[0].id);
        client.ping();
        client.kill();
        publisher.publish("t", "e", 1);
        for _ in 0..2 {
            let mut client = broker.connect(Connect::persistent(version, "flaky"));
            let mut again = Vec::new();
            while again.len() < 5 {
                again.push(client.recv());
            }
            let place = again
                .iter()
                .position(|packet| matches!(packet, Packet::Pubrel(_)))
                .expect("the PUBREL");
            assert!(matches!(again.remove(place), Packet::Pubrel(ack) if ack.id == sent[0].id && ack.reason == 0));
            for (packet, first) in again.into_iter().zip(&sent[1..]) {
                assert_eq!(
                    packet,
                    Publish {
                        dup: true,
                        ..first.clone()
                    }
                    .into()
                );
            }
            client.ping();
            client.kill();
        }
        let mut client = broker.connect(Connect::persistent(version, "flaky"));
        for _ in 0..5 {
            match client.recv() {
                Packet::Publish(publish) if publish.qos == 1 => client.ack(&publish),
                Packet::Publish(publish) => client.send(Packet::Pubrec(Ack::new(publish.id))),
                Packet::Pubrel(ack) => client.send(Packet::Pubcomp(ack)),
                other => panic!("not expected: {other:?}"),
            }
        }
        assert_eq!(client.recv_pubrel().id, sent[2].id);
        client.send(Packet::Pubcomp(Ack::new(sent[2].id)));
        client.ping();
        client.disconnect();
        let mut client = broker.connect(Connect::persistent(version, "flaky"));
        client.assert_silent_until_ping();
        client.disconnect();
        broker.connect(Connect::new(version, "flaky")).disconnect();
    }
}

/// Without a Session Expiry Interval the session of MQTT 5.0 ends with the connection, even with Clean Start 0; so does
/// one whose interval is set to 0 by DISCONNECT, or that is resumed without an interval.
#[test]
fn session_without_an_expiry_interval() {
    let broker = Broker::start(&[]);
    broker.connect(Connect::v5("short").clean(false)).disconnect();
    assert!(!session_exists(&broker, Version::V5, "short"));
    let mut client = broker.connect(Connect::v5("short").clean(false).expiry(LONG));
    client.disconnect_with(Disconnect::new(0).prop(Prop::SessionExpiry(0)));
    assert!(!session_exists(&broker, Version::V5, "short"));
    let mut client = broker.connect(Connect::v5("short").clean(false));
    assert!(client.connack.session_present, "resumed, now without an interval");
    client.disconnect();
    assert!(!session_exists(&broker, Version::V5, "short"));
}

/// A clean start with a Session Expiry Interval makes a session that stays.
#[test]
fn clean_start_with_an_expiry_interval() {
    let broker = Broker::start(&[]);
    broker.connect(Connect::v5("stay").expiry(u32::MAX)).disconnect();
    assert!(session_exists(&broker, Version::V5, "stay"));
}

/// A session ends when its interval has passed since the end of the connection, not before [MQTT-4.1.0-2]; the end is
/// seen from a will whose delay is longer, which is due then [MQTT-3.1.2-8].
#[test]
fn session_expires() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("expired", 0);
    let connect = || {
        Connect::v5("brief")
            .clean(false)
            .expiry(1)
            .will(Will::new("expired", "x").delay(LONG))
    };
    broker.connect(connect()).kill();
    let resumed = broker.connect(connect());
    assert!(resumed.connack.session_present, "not before");
    let start = std::time::Instant::now();
    resumed.kill();
    watcher.expect_message("expired", "x");
    assert_elapsed(start, 0.9, 9.0);
    assert!(!session_exists(&broker, Version::V5, "brief"));
}

/// DISCONNECT may lengthen or shorten the interval of a session that has one.
#[test]
fn disconnect_changes_the_interval() {
    let broker = Broker::start(&[]);
    let mut lengthened = broker.connect(Connect::v5("lengthened").clean(false).expiry(1));
    lengthened.disconnect_with(Disconnect::new(0).prop(Prop::SessionExpiry(LONG)));
    let mut shortened = broker.connect(Connect::v5("shortened").clean(false).expiry(LONG));
    shortened.disconnect_with(Disconnect::new(0).prop(Prop::SessionExpiry(1)));
    broker.let_time_pass();
    assert!(session_exists(&broker, Version::V5, "lengthened"));
    eventually("the shortened session has ended", || {
        // Each question that finds the session would lengthen it: ask with the same second.
        let mut client = broker.connect(Connect::v5("shortened").clean(false).expiry(1));
        client.disconnect();
        broker.let_time_pass();
        !client.connack.session_present
    });
}

/// The interval runs only while the client is away: an open connection keeps its session [MQTT-4.1.0-1]
/// [MQTT3-4.1.0-1] [MQTT3-4.1.0-2], whatever it is.
#[test]
fn connection_keeps_its_session() {
    let broker = Broker::start(&[]);
    let mut clients = [
        Connect::v5("zero"),
        Connect::v5("one").expiry(1),
        Connect::v311("clean"),
    ]
    .map(|connect| broker.connect(connect));
    clients.iter_mut().for_each(|client| client.subscribe("t", 1));
    broker.let_time_pass();
    broker.let_time_pass();
    broker.v5("publisher").publish("t", "x", 1);
    clients
        .iter_mut()
        .for_each(|client| drop(client.expect_message("t", "x")));
}

/// `--session-expiry-cap` bounds the interval, tells so in CONNACK, and holds for MQTT 3 as well, where sessions
/// otherwise stay until a clean session.
#[test]
fn session_expiry_cap() {
    let broker = Broker::start(&["--session-expiry-cap", "1"]);
    for asked in [2, u32::MAX] {
        let client = broker.connect(Connect::v5("capped").expiry(asked));
        assert_eq!(client.connack.props.session_expiry(), Some(1));
    }
    assert_eq!(
        broker
            .connect(Connect::v5("modest").expiry(1))
            .connack
            .props
            .session_expiry()
            .unwrap_or(1),
        1
    );
    let mut client = broker.v5("later");
    client.disconnect();
    for version in [Version::V311, Version::V5] {
        broker.connect(Connect::persistent(version, "gone")).disconnect();
        eventually("the session has ended", || {
            broker.let_time_pass();
            !session_exists(&broker, version, "gone")
        });
    }
}

/// Sessions belong to identifiers [MQTT-3.1.3-2] [MQTT3-3.1.3-2]: what one client leaves is not another's.
#[test]
fn sessions_do_not_mix() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for version in Version::ALL {
        for id in ["a", "b"] {
            let mut client = broker.connect(Connect::persistent(version, id));
            client.subscribe(&format!("for/{id}"), 1);
            client.disconnect();
        }
        publisher.publish("for/a", "x", 1);
        broker
            .connect(Connect::persistent(version, "b"))
            .assert_silent_until_ping();
        broker
            .connect(Connect::persistent(version, "a"))
            .expect_message("for/a", "x");
    }
}

/// Retained messages are not part of a session: they outlive the one whose client published them [MQTT3-3.1.2-7].
#[test]
fn retained_messages_outlive_the_session() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut author = broker.connect(Connect::new(version, "author"));
        author.publish_packet(Publish::new("kept", "x").qos(1, 0).retain());
        author.disconnect();
        broker.connect(Connect::new(version, "author")).disconnect();
        let mut reader = broker.connect(Connect::new(version, "reader"));
        reader.subscribe("kept", 0);
        assert!(reader.expect_message("kept", "x").retain);
    }
}

/// A clean session of MQTT 3 leaves nothing to a later session of the same client: not its subscriptions, not what
/// waited [MQTT3-3.1.2-6].
#[test]
fn nothing_is_reused_after_a_clean_session() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for version in Version::V3 {
        let mut client = broker.connect(Connect::persistent(version, "me"));
        client.subscribe("t", 1);
        client.disconnect();
        publisher.publish("t", "waits", 1);
        broker.connect(Connect::new(version, "me")).disconnect();
        publisher.publish("t", "for nobody", 1);
        let mut client = broker.connect(Connect::persistent(version, "me"));
        assert!(!client.connack.session_present);
        publisher.publish("t", "for nobody", 1);
        client.assert_nothing_from(&mut publisher);
        client.disconnect();
        broker.connect(Connect::new(version, "me")).disconnect();
    }
}
