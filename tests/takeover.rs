//! Takeover: a new connection with the Client Identifier of another ends the other and inherits its session.

mod common;
use common::*;
use std::sync::Barrier;

/// The older connection is closed, in MQTT 5.0 with 0x8E [MQTT-3.1.4-3] [MQTT3-3.1.4-2], whatever the versions are; the
/// newer one works.
#[test]
fn newer_connection_wins() {
    let broker = Broker::start(&[]);
    for old in Version::ALL {
        for new in Version::ALL {
            let mut older = broker.connect(Connect::new(old, "twin"));
            let mut newer = broker.connect(Connect::new(new, "twin"));
            older.expect_cut(code::SESSION_TAKEN_OVER);
            newer.subscribe("t", 1);
            newer.publish("t", "x", 0);
            newer.expect_message("t", "x");
            newer.disconnect();
        }
    }
}

/// A Client Identifier is all of its bytes [MQTT-3.1.3-2] [MQTT3-3.1.3-2]: others in case or length are others.
#[test]
fn other_identifiers_are_other_clients() {
    let broker = Broker::start(&[]);
    let mut clients = ["twin", "Twin", "twin ", "twi"].map(|id| broker.v5(id));
    clients.iter_mut().for_each(Client::ping);
}

/// The session goes over with subscriptions, with messages that the older connection has not acknowledged (again
/// under their identifiers, with DUP) and with those that wait [MQTT-3.1.2-5] [MQTT-4.4.0-1] [MQTT-3.3.1-1]
/// [MQTT3-3.1.2-4] [MQTT3-4.4.0-1] [MQTT3-3.3.1-1].
#[test]
fn session_is_inherited() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for version in Version::ALL {
        let mut older = broker.connect(Connect::persistent(version, "heir"));
        older.subscribe("t", 2);
        for (qos, text) in [(1, "a"), (2, "b"), (1, "c")] {
            publisher.publish("t", text, qos);
        }
        let ids = ["a", "b", "c"].map(|text| {
            let message = older.recv_publish();
            assert_eq!((message.text(), message.dup), (text, false));
            message.id
        });
        let mut newer = broker.connect(Connect::persistent(version, "heir"));
        assert_eq!(newer.connack.session_present, version != Version::V31);
        older.expect_cut(code::SESSION_TAKEN_OVER);
        for (id, text) in ids.into_iter().zip(["a", "b", "c"]) {
            let message = newer.recv_publish();
            assert_eq!((message.text(), message.id, message.dup), (text, id, true));
            if message.qos == 1 {
                newer.ack(&message);
            }
        }
        newer.send(Packet::Pubrec(Ack::new(ids[1])));
        assert_eq!(newer.recv_pubrel().id, ids[1]);
        newer.send(Packet::Pubcomp(Ack::new(ids[1])));
        publisher.publish("t", "d", 1);
        newer.expect_message("t", "d");
        newer.disconnect();
        broker.connect(Connect::new(version, "heir")).disconnect();
    }
}

/// A newer connection with a clean start inherits nothing [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT3-3.1.2-6]
/// [MQTT3-3.1.4-3].
#[test]
fn clean_start_discards() {
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for version in Version::ALL {
        let mut older = broker.connect(Connect::persistent(version, "heir"));
        older.subscribe("t", 1);
        publisher.publish("t", "for the older", 1);
        let mut newer = broker.connect(Connect::new(version, "heir"));
        assert!(!newer.connack.session_present);
        publisher.publish("t", "for nobody", 1);
        newer.assert_nothing_from(&mut publisher);
        newer.disconnect();
    }
}

/// However many connections race for one identifier, each is accepted, and when all is quiet exactly one is left,
/// which has the session: one message arrives once [MQTT-3.1.4-3] [MQTT3-3.1.4-2].
#[test]
fn races_leave_one() {
    const RACERS: usize = 16;
    let broker = Broker::start(&[]);
    let mut publisher = broker.v5("publisher");
    for round in 0..10 {
        let version = Version::ALL[round % 3];
        let barrier = Barrier::new(RACERS);
        let racer = || {
            let mut client = broker.open(version);
            barrier.wait();
            client.send(Connect::persistent(version, "raced"));
            let accepted = matches!(client.recv_or_closed(), Some(Packet::Connack(connack)) if connack.code == 0);
            accepted.then_some(client)
        };
        let racers: Vec<Client> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..RACERS).map(|_| scope.spawn(racer)).collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().expect("no racer panics"))
                .collect()
        });
        let mut alive: Vec<Client> = racers.into_iter().filter_map(answers_ping).collect();
        assert_eq!(alive.len(), 1, "round {round}");
        let last = &mut alive[0];
        last.subscribe("race", 1);
        publisher.publish("race", "x", 1);
        last.expect_message("race", "x");
        last.assert_nothing_from(&mut publisher);
        last.disconnect();
    }
}

fn answers_ping(mut client: Client) -> Option<Client> {
    // The connection may be closed already; the end is then read below.
    let _ = client.try_send_bytes(&[0xC0, 0]);
    loop {
        match client.recv_or_closed() {
            Some(Packet::Pingresp) => return Some(client),
            Some(Packet::Disconnect(disconnect)) => assert_eq!(disconnect.reason, code::SESSION_TAKEN_OVER),
            Some(other) => panic!("neither PINGRESP nor DISCONNECT: {other:?}"),
            None => return None,
        }
    }
}

/// A takeover while messages flow loses and reorders none at QoS 1: what the last connection of a client receives
/// continues where the one before it stopped, with repetitions only of what was not acknowledged [MQTT-4.4.0-1]
/// [MQTT-4.5.0-1] [MQTT3-4.4.0-1] [MQTT3-4.5.0-1].
#[test]
fn takeover_under_load_loses_nothing() {
    const MESSAGES: u32 = 2000;
    let broker = Broker::start(&[]);
    let mut receiver = broker.connect(Connect::persistent(Version::V5, "moving"));
    receiver.subscribe("flow", 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut publisher = broker.v311("publisher");
            (0..MESSAGES).for_each(|number| publisher.publish("flow", number.to_be_bytes(), 1));
        });
        let mut expected = 0;
        while expected < MESSAGES {
            if expected % 100 == 99 {
                receiver = broker.connect(Connect::persistent(Version::V5, "moving"));
            }
            let message = receiver.message();
            let number = u32::from_be_bytes(message.payload.try_into().expect("four bytes"));
            assert!(number <= expected, "{number} comes before {expected}");
            assert!(number == expected || message.dup, "{number} again, without DUP");
            expected = expected.max(number + 1);
        }
    });
}
