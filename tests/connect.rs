//! CONNECT and CONNACK: who is let in, with which answer, and under which name.

mod common;
use common::*;
use std::time::Instant;

/// A valid CONNECT is answered with success [MQTT-3.1.4-5] [MQTT3-3.1.4-4] as the first packet [MQTT-3.2.0-1]
/// [MQTT3-3.2.0-1] and exactly once [MQTT-3.2.0-2], with no reserved bit [MQTT-3.2.2-1] and no session
/// [MQTT-3.2.2-2] [MQTT3-3.2.2-1]; all versions on one port over TCP [MQTT-4.2-1] [MQTT3-7.1.1-1].
#[test]
fn accepts_every_version() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "me"));
        assert!(!client.connack.session_present);
        client.assert_silent_until_ping();
        client.disconnect();
    }
}

/// Client Identifiers of 1 to 23 letters and digits are allowed [MQTT-3.1.3-5] [MQTT3-3.1.3-5]; longer ones and other
/// characters are as well, and a U+FEFF in front makes another identifier.
#[test]
fn accepts_client_identifiers() {
    let broker = Broker::start(&[]);
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let long = "x".repeat(200);
    let ids = [
        "0",
        &alphabet[..23],
        &alphabet[23..46],
        &alphabet[46..],
        &long,
        "é/+#$ \u{1f600}",
        "\u{feff}0",
    ];
    for version in Version::ALL {
        let mut clients: Vec<Client> = ids.iter().map(|id| broker.connect(Connect::new(version, id))).collect();
        clients.iter_mut().for_each(Client::ping);
    }
}

/// A zero-length identifier gets one assigned, told in CONNACK [MQTT-3.1.3-6] [MQTT-3.1.3-7], that no other session
/// has [MQTT-3.2.2-16], and is treated as if the client had sent it: the session is found again under that name.
#[test]
fn assigns_a_client_identifier() {
    let broker = Broker::start(&[]);
    let mut first = broker.connect(Connect::persistent(Version::V5, ""));
    let second = broker.connect(Connect::v5(""));
    let name = first
        .connack
        .props
        .assigned_client_id()
        .expect("an Assigned Client Identifier");
    assert!(!name.is_empty() && Some(&name) != second.connack.props.assigned_client_id().as_ref());
    first.subscribe("kept", 1);
    first.disconnect();
    let mut again = broker.connect(Connect::persistent(Version::V5, &name));
    assert!(again.connack.session_present);
    assert_eq!(
        again.connack.props.assigned_client_id(),
        None,
        "only what was not sent is assigned"
    );
    again.publish("kept", "x", 0);
    again.expect_message("kept", "x");
}

/// In MQTT 3.1.1 a zero-length identifier is assigned one each [MQTT3-3.1.3-6], but with Clean Session 0 it is
/// rejected with return code 2 [MQTT3-3.1.3-8] and closed; in MQTT 3.1 it always is.
#[test]
fn empty_client_identifier_in_v3() {
    let broker = Broker::start(&[]);
    let (mut first, mut second) = (broker.v311(""), broker.v311(""));
    first.ping();
    second.ping();
    let rejected = code::v3::IDENTIFIER_REJECTED;
    broker.expect_refused(Connect::v311("").clean(false), rejected);
    broker.expect_refused(Connect::v31(""), rejected);
    broker.expect_refused(Connect::v31("").clean(false), rejected);
}

/// With `--empty-client-id off` such clients are refused: 0x85 [MQTT-3.1.3-8], return code 2 [MQTT3-3.1.3-9], both
/// with Session Present 0 [MQTT-3.2.2-6] [MQTT3-3.2.2-4] and the end of the connection [MQTT-3.2.2-7]
/// [MQTT3-3.2.2-5].
#[test]
fn refuses_empty_client_identifiers_on_demand() {
    let broker = Broker::start(&["--empty-client-id", "off"]);
    broker.expect_refused(Connect::v5(""), code::CLIENT_ID_NOT_VALID);
    broker.expect_refused(Connect::v311(""), code::v3::IDENTIFIER_REJECTED);
    broker.v5("named").ping();
}

/// User Name and Password are accepted in every combination that the version allows; MQTT 5.0 allows a Password
/// alone.
#[test]
fn accepts_credentials_when_anonymous_access_is_open() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        broker.connect(Connect::new(version, "a").username("u")).ping();
        broker
            .connect(Connect::new(version, "b").username("").password(b""))
            .ping();
        broker
            .connect(Connect::new(version, "c").username("u").password(b"\0\xff"))
            .ping();
    }
    broker.connect(Connect::v5("d").password(b"alone")).ping();
}

/// CONNACK says nothing that was not asked for: no Response Information [MQTT-3.1.2-28], no Authentication Method
/// [MQTT-4.12.0-6]; what it says of the broker is true of it.
#[test]
fn connack_properties() {
    let broker = Broker::start(&[]);
    for connect in [Connect::v5("a"), Connect::v5("b").prop(Prop::RequestResponseInfo(0))] {
        let props = broker.connect(connect).connack.props;
        assert_eq!(
            (props.response_info(), props.auth_method(), props.auth_data()),
            (None, None, None)
        );
        assert_eq!((props.assigned_client_id(), props.server_keep_alive()), (None, None));
        assert_eq!((props.maximum_qos(), props.retain_available().unwrap_or(1)), (None, 1));
        assert_eq!(props.topic_alias_maximum(), Some(32));
        assert_eq!(props.receive_maximum().unwrap_or(65_535), 65_535);
        assert_eq!(props.wildcard_available().unwrap_or(1), 1);
        assert_eq!(props.subscription_id_available().unwrap_or(1), 1);
        assert_eq!(props.shared_available().unwrap_or(1), 1);
    }
}

/// A CONNACK keeps to the client's Maximum Packet Size [MQTT-3.1.2-24], for which Reason String and User Properties
/// are left out [MQTT-3.2.2-19] [MQTT-3.2.2-20].
#[test]
fn connack_keeps_to_the_maximum_packet_size() {
    let broker = Broker::start(&[]);
    let refused = |limit| {
        let connect = Connect::v5("small")
            .prop(Prop::AuthMethod("unknown".into()))
            .prop(Prop::MaximumPacketSize(limit));
        let mut client = broker.try_connect(connect);
        assert_eq!(client.connack.code, code::BAD_AUTHENTICATION_METHOD);
        let size = client.last_size;
        client.expect_closed();
        size
    };
    let roomy = refused(1000);
    for limit in 5..u32::try_from(roomy).expect("small") {
        assert!(
            refused(limit) <= usize::try_from(limit).expect("small"),
            "CONNACK over {limit} bytes"
        );
    }
    let accepted = broker.connect(Connect::v5("accepted").prop(Prop::MaximumPacketSize(64)));
    assert!(accepted.last_size <= 64);
}

/// Whoever opens a connection and does not send a whole CONNECT in time is closed, whether silent or dribbling.
#[test]
fn connect_timeout() {
    let broker = Broker::start(&["--connect-timeout", "1"]);
    let start = Instant::now();
    let mut silent = broker.open(Version::V5);
    let mut halfway = broker.open(Version::V5);
    let connect = Packet::from(Connect::v5("halfway")).encode(Version::V5);
    halfway.send_bytes(&connect[..connect.len() - 1]);
    silent.expect_closed();
    assert_elapsed(start, 0.9, 8.0);
    halfway.expect_closed();
    broker.v5("prompt").ping();
}

/// Packets may follow CONNECT without waiting for CONNACK, in the same segment.
#[test]
fn packets_behind_connect() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.open(version);
        let packets: [Packet; 4] = [
            Connect::new(version, "eager").into(),
            Subscribe::new(1).filter("t", 0).into(),
            Publish::new("t", "x").into(),
            Packet::Pingreq,
        ];
        client.send_bytes(&packets.map(|packet| packet.encode(version)).concat());
        assert_eq!(client.recv_connack().code, 0);
        // Only what rests on the store waits for it.
        let mut rest = [client.recv(), client.recv(), client.recv()];
        rest.sort_by_key(|packet| match packet {
            Packet::Suback(_) => 0,
            Packet::Publish(_) => 1,
            _ => 2,
        });
        let [Packet::Suback(suback), message, answer] = rest else {
            panic!("{rest:?}");
        };
        assert_eq!(suback.codes, [0]);
        assert_eq!([message, answer], [Publish::new("t", "x").into(), Packet::Pingresp]);
    }
}

/// A broker that rejects a CONNECT processes nothing that stands behind it [MQTT-3.1.4-6] [MQTT3-3.1.4-5], and closes
/// [MQTT-3.1.4-2].
#[test]
fn rejected_connect_has_no_effect() {
    let broker = Broker::start(&["--empty-client-id", "off"]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("intruder/#", 0);
    for version in Version::ALL {
        let mut intruder = broker.open(version);
        let connect = Connect::new(version, "").will(Will::new("intruder/will", "x").retain());
        let publish = Publish::new("intruder/message", "x").retain();
        let packets = [connect.into(), publish.into(), Packet::Pingreq];
        intruder.send_bytes(&packets.map(|packet: Packet| packet.encode(version)).concat());
        assert_ne!(intruder.recv_connack().code, 0);
        intruder.expect_closed();
    }
    let mut other = broker.v5("other");
    watcher.assert_nothing_from(&mut other);
    other.subscribe("intruder/#", 0);
    other.ping();
}

/// Another version on the same port does not disturb: a message crosses all three versions in all directions.
#[test]
fn versions_talk_to_each_other() {
    let broker = Broker::start(&[]);
    for from in Version::ALL {
        for to in Version::ALL {
            let mut receiver = broker.connect(Connect::new(to, "receiver"));
            let mut sender = broker.connect(Connect::new(from, "sender"));
            for qos in 0..3 {
                receiver.subscribe("cross", qos);
                sender.publish("cross", [0, 255, qos], qos);
                let message = receiver.expect_message("cross", [0, 255, qos]);
                assert_eq!((message.qos, message.retain, message.dup), (qos, false, false));
            }
        }
    }
}
