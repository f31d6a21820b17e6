//! Malformed Packets and Protocol Errors: each costs exactly the connection that it came on, with the Reason Code that
//! MQTT 5.0 gives it, silently in MQTT 3.
//!
//! Every case is sent together with a PINGREQ behind it, which must not be answered: nothing of a connection is
//! processed after a fault. After every case another client of the same broker exchanges a message.

mod common;
use common::packet::code::{
    BAD_AUTHENTICATION_METHOD, MALFORMED, PACKET_TOO_LARGE, PROTOCOL_ERROR, TOPIC_ALIAS_INVALID, TOPIC_NAME_INVALID,
    UNSUPPORTED_VERSION, v3,
};
use common::wire::packet;
use common::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the fault is, the bytes, and the Reason Code (of the DISCONNECT, or of the CONNACK for a CONNECT).
type Case = (&'static str, Vec<u8>, u8);

const PINGREQ: &[u8] = &[0xC0, 0];

/// Runs cases on established connections.
fn check(version: Version, cases: &[Case]) {
    run(cases, |broker, bytes, reason| {
        let mut client = broker.connect(Connect::new(version, "victim"));
        client.send_bytes(&[bytes, PINGREQ].concat());
        client.expect_cut(reason);
    });
}

/// Runs cases that are the first packet of a connection: a CONNACK of MQTT 5.0 with the code, then the end.
fn check_connect_v5(cases: &[Case]) {
    run(cases, |broker, bytes, reason| {
        expect_connack(broker, Version::V5, bytes, reason)
    });
}

/// Runs cases that are the first packet of a connection and are cut without an answer.
fn check_connect_silent(cases: &[Case]) {
    run(cases, |broker, bytes, _| {
        let mut client = broker.open(Version::V311);
        client.send_bytes(&[bytes, PINGREQ].concat());
        client.expect_closed();
    });
}

fn expect_connack(broker: &Broker, version: Version, bytes: &[u8], code: u8) {
    let mut client = broker.open(version);
    client.send_bytes(&[bytes, PINGREQ].concat());
    assert_eq!(client.recv_connack().code, code);
    client.expect_closed();
}

/// Runs every case, then reports all that went wrong together.
fn run(cases: &[Case], one: impl Fn(&Broker, &[u8], u8)) {
    let broker = Broker::start(&[]);
    let mut bystander = broker.v5("bystander");
    bystander.subscribe("bystander", 0);
    let mut failures = Vec::new();
    for (name, bytes, reason) in cases {
        if catch_unwind(AssertUnwindSafe(|| one(&broker, bytes, *reason))).is_err() {
            failures.push(format!("{name}: {bytes:02x?}"));
        }
        bystander.publish("bystander", name, 0);
        bystander.expect_message("bystander", name);
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// The fixed header in MQTT 5.0: the reserved packet type, packets that only a server sends, reserved flags
/// [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1], a second CONNECT
/// [MQTT-3.1.0-2], Remaining Lengths of five bytes or longer than necessary [MQTT-1.5.5-1]. Each closes the connection
/// with its Reason Code [MQTT-4.13.1-1] [MQTT-4.13.2-1], after which nothing is processed.
#[test]
#[rustfmt::skip] // one case, one line
fn v5_fixed_header() {
    check(
        Version::V5,
        &[
            ("packet type 0", packet(0x00, b""), MALFORMED),
            ("second CONNECT", packet(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01a"), PROTOCOL_ERROR),
            ("CONNACK from a client", packet(0x20, b"\0\0\0"), PROTOCOL_ERROR),
            ("SUBACK from a client", packet(0x90, b"\0\x01\0\0"), PROTOCOL_ERROR),
            ("UNSUBACK from a client", packet(0xB0, b"\0\x01\0\0"), PROTOCOL_ERROR),
            ("PINGRESP from a client", packet(0xD0, b""), PROTOCOL_ERROR),
            ("PUBACK with flags 0001", packet(0x41, b"\0\x01"), MALFORMED),
            ("PUBREC with flags 0010", packet(0x52, b"\0\x01"), MALFORMED),
            ("PUBREL with flags 0000", packet(0x60, b"\0\x01"), MALFORMED),
            ("PUBREL with flags 1010", packet(0x6A, b"\0\x01"), MALFORMED),
            ("PUBCOMP with flags 0100", packet(0x74, b"\0\x01"), MALFORMED),
            ("SUBSCRIBE with flags 0000", packet(0x80, b"\0\x01\0\0\x01a\0"), MALFORMED),
            ("SUBSCRIBE with flags 0011", packet(0x83, b"\0\x01\0\0\x01a\0"), MALFORMED),
            ("UNSUBSCRIBE with flags 0000", packet(0xA0, b"\0\x01\0\0\x01a"), MALFORMED),
            ("UNSUBSCRIBE with flags 1010", packet(0xAA, b"\0\x01\0\0\x01a"), MALFORMED),
            ("PINGREQ with flags 0001", packet(0xC1, b""), MALFORMED),
            ("PINGREQ with a body", packet(0xC0, b"\0"), MALFORMED),
            ("DISCONNECT with flags 0001", packet(0xE1, b"\0"), MALFORMED),
            ("AUTH with flags 0001", packet(0xF1, b"\x18\0"), MALFORMED),
            ("Remaining Length of five bytes", b"\x30\x80\x80\x80\x80\x01".to_vec(), MALFORMED),
            ("Remaining Length without an end", b"\x30\xff\xff\xff\xff\xff".to_vec(), MALFORMED),
            ("Remaining Length 0 in two bytes", b"\xC0\x80\0".to_vec(), MALFORMED),
            ("Remaining Length 2 in three bytes", b"\x40\x82\x80\0\0\x01".to_vec(), MALFORMED),
            ("a claim of 256 MB", b"\x30\xff\xff\xff\x7f".to_vec(), PACKET_TOO_LARGE),
        ],
    );
}

/// PUBLISH in MQTT 5.0: QoS 3 [MQTT-3.3.1-4], DUP at QoS 0 [MQTT-3.3.1-2], no Topic Name [MQTT-3.3.2-1]
/// [MQTT-4.7.3-1], a Topic Name with wildcards [MQTT-3.3.2-2] [MQTT-4.7.0-1], with U+0000 [MQTT-1.5.4-2]
/// [MQTT-4.7.3-2] or ill-formed UTF-8 [MQTT-1.5.4-1], no or a zero Packet Identifier [MQTT-2.2.1-3].
#[test]
#[rustfmt::skip] // one case, one line
fn v5_publish() {
    check(
        Version::V5,
        &[
            ("QoS 3", packet(0x36, b"\0\x01t\0\x01\0x"), MALFORMED),
            ("DUP at QoS 0", packet(0x38, b"\0\x01t\0x"), MALFORMED),
            ("no body", packet(0x30, b""), MALFORMED),
            ("half a topic length", packet(0x30, b"\0"), MALFORMED),
            ("topic over the end", packet(0x30, b"\0\x09t\0x"), MALFORMED),
            ("neither topic nor alias", packet(0x30, b"\0\0\0x"), PROTOCOL_ERROR),
            ("topic with +", packet(0x30, b"\0\x03a/+\0x"), TOPIC_NAME_INVALID),
            ("topic with #", packet(0x30, b"\0\x01#\0x"), TOPIC_NAME_INVALID),
            ("topic with + inside", packet(0x30, b"\0\x03a+b\0x"), TOPIC_NAME_INVALID),
            ("topic with U+0000", packet(0x30, b"\0\x03a\0b\0x"), MALFORMED),
            ("topic with a lone continuation byte", packet(0x30, b"\0\x02a\x80\0x"), MALFORMED),
            ("topic with an overlong U+0000", packet(0x30, b"\0\x03a\xC0\x80\0x"), MALFORMED),
            ("topic with a surrogate", packet(0x30, b"\0\x03\xED\xA0\x80\0x"), MALFORMED),
            ("topic above U+10FFFF", packet(0x30, b"\0\x04\xF4\x90\x80\x80\0x"), MALFORMED),
            ("topic that ends within a character", packet(0x30, b"\0\x02\xE2\x82\0x"), MALFORMED),
            ("QoS 1 without a Packet Identifier", packet(0x32, b"\0\x01t"), MALFORMED),
            ("QoS 1 with Packet Identifier 0", packet(0x32, b"\0\x01t\0\0\0x"), PROTOCOL_ERROR),
            ("QoS 2 with Packet Identifier 0", packet(0x34, b"\0\x01t\0\0\0x"), PROTOCOL_ERROR),
            ("QoS 2 with half a Packet Identifier", packet(0x34, b"\0\x01t\0"), MALFORMED),
        ],
    );
}

/// Properties of PUBLISH: cut short, unknown, not of this packet, more than one, bad values; a Topic Alias of 0 or
/// above the maximum [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17], a Subscription Identifier from a client
/// [MQTT-3.3.4-6], a Response Topic with wildcards [MQTT-3.3.2-14] or ill-formed [MQTT-3.3.2-13], an ill-formed
/// Content Type [MQTT-3.3.2-19] and User Property [MQTT-1.5.7-1], a property length longer than necessary
/// [MQTT-1.5.5-1] or not there [MQTT-2.2.2-1].
#[test]
#[rustfmt::skip] // one case, one line
fn v5_publish_properties() {
    let publish = |props: &[u8]| {
        let length = u8::try_from(props.len()).expect("short");
        packet(0x30, &[b"\0\x01t", [length].as_slice(), props, b"x"].concat())
    };
    check(
        Version::V5,
        &[
            ("no property length", packet(0x30, b"\0\x01t"), MALFORMED),
            ("property length over the end", packet(0x30, b"\0\x01t\x09x"), MALFORMED),
            ("property length 0 in two bytes", packet(0x30, b"\0\x01t\x80\0x"), MALFORMED),
            ("property length of five bytes", packet(0x30, b"\0\x01t\x80\x80\x80\x80\x01x"), MALFORMED),
            ("unknown property 0x00", publish(b"\0\0"), MALFORMED),
            ("unknown property 0x7f", publish(b"\x7f\0"), MALFORMED),
            ("unknown property 0x2b", publish(b"\x2b\0"), MALFORMED),
            ("unknown property of two bytes", publish(b"\x81\x01\0"), MALFORMED),
            ("Session Expiry Interval", publish(b"\x11\0\0\0\x01"), MALFORMED),
            ("Will Delay Interval", publish(b"\x18\0\0\0\x01"), MALFORMED),
            ("Reason String", publish(b"\x1f\0\x01a"), MALFORMED),
            ("Payload Format Indicator twice", publish(b"\x01\0\x01\0"), PROTOCOL_ERROR),
            ("Message Expiry Interval twice", publish(b"\x02\0\0\0\x09\x02\0\0\0\x09"), PROTOCOL_ERROR),
            ("Content Type twice", publish(b"\x03\0\x01a\x03\0\x01a"), PROTOCOL_ERROR),
            ("Response Topic twice", publish(b"\x08\0\x01a\x08\0\x01a"), PROTOCOL_ERROR),
            ("Correlation Data twice", publish(b"\x09\0\x01a\x09\0\x01a"), PROTOCOL_ERROR),
            ("Topic Alias twice", publish(b"\x23\0\x01\x23\0\x01"), PROTOCOL_ERROR),
            ("Payload Format Indicator 2", publish(b"\x01\x02"), PROTOCOL_ERROR),
            ("Message Expiry Interval of two bytes", publish(b"\x02\0\x01"), MALFORMED),
            ("Content Type over the end", publish(b"\x03\0\x09a"), MALFORMED),
            ("Content Type not UTF-8", publish(b"\x03\0\x01\xff"), MALFORMED),
            ("Response Topic not UTF-8", publish(b"\x08\0\x01\xff"), MALFORMED),
            ("Response Topic with #", publish(b"\x08\0\x03a/#"), PROTOCOL_ERROR),
            ("Response Topic with +", publish(b"\x08\0\x01+"), PROTOCOL_ERROR),
            ("User Property: name not UTF-8", publish(b"\x26\0\x01\xff\0\x01v"), MALFORMED),
            ("User Property: value not UTF-8", publish(b"\x26\0\x01n\0\x01\xff"), MALFORMED),
            ("User Property without a value", publish(b"\x26\0\x01n"), MALFORMED),
            ("Subscription Identifier from a client", publish(b"\x0b\x01"), PROTOCOL_ERROR),
            ("Topic Alias 0", publish(b"\x23\0\0"), TOPIC_ALIAS_INVALID),
            ("Topic Alias above the maximum", publish(b"\x23\xff\xff"), TOPIC_ALIAS_INVALID),
            ("unknown Topic Alias", packet(0x30, b"\0\0\x03\x23\0\x01x"), PROTOCOL_ERROR),
        ],
    );
}

/// Acknowledgements in MQTT 5.0: no or a zero Packet Identifier, codes that are not among those of the packet
/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1], properties that do not belong there.
#[test]
#[rustfmt::skip] // one case, one line
fn v5_acks() {
    check(
        Version::V5,
        &[
            ("PUBACK without a body", packet(0x40, b""), MALFORMED),
            ("PUBACK of one byte", packet(0x40, b"\x01"), MALFORMED),
            ("PUBACK of 0", packet(0x40, b"\0\0"), PROTOCOL_ERROR),
            ("PUBACK with code 0x01", packet(0x40, b"\0\x01\x01"), PROTOCOL_ERROR),
            ("PUBACK with code 0x92", packet(0x40, b"\0\x01\x92"), PROTOCOL_ERROR),
            ("PUBACK with a property length over the end", packet(0x40, b"\0\x01\0\x05"), MALFORMED),
            ("PUBACK with bytes behind", packet(0x40, b"\0\x01\0\0\0"), MALFORMED),
            ("PUBACK with a Topic Alias", packet(0x40, b"\0\x01\0\x03\x23\0\x01"), MALFORMED),
            ("PUBACK with two Reason Strings", packet(0x40, b"\0\x01\0\x08\x1f\0\x01a\x1f\0\x01a"), PROTOCOL_ERROR),
            ("PUBREC of 0", packet(0x50, b"\0\0"), PROTOCOL_ERROR),
            ("PUBREC with code 0x92", packet(0x50, b"\0\x01\x92"), PROTOCOL_ERROR),
            ("PUBREL of 0", packet(0x62, b"\0\0"), PROTOCOL_ERROR),
            ("PUBREL with code 0x10", packet(0x62, b"\0\x01\x10"), PROTOCOL_ERROR),
            ("PUBCOMP of one byte", packet(0x70, b"\x01"), MALFORMED),
            ("PUBCOMP with code 0x80", packet(0x70, b"\0\x01\x80"), PROTOCOL_ERROR),
        ],
    );
}

/// SUBSCRIBE and UNSUBSCRIBE in MQTT 5.0: no Topic Filter [MQTT-3.8.3-2] [MQTT-3.10.3-2], one that is empty
/// [MQTT-4.7.3-1] or not UTF-8 [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2], options with reserved bits
/// [MQTT-3.8.3-5] or values, No Local on a Shared Subscription [MQTT-3.8.3-4], a zero Packet Identifier [MQTT-2.2.1-3].
#[test]
#[rustfmt::skip] // one case, one line
fn v5_subscribe_and_unsubscribe() {
    check(
        Version::V5,
        &[
            ("SUBSCRIBE without a body", packet(0x82, b""), MALFORMED),
            ("SUBSCRIBE without properties", packet(0x82, b"\0\x01"), MALFORMED),
            ("SUBSCRIBE with Packet Identifier 0", packet(0x82, b"\0\0\0\0\x01a\0"), PROTOCOL_ERROR),
            ("SUBSCRIBE without a filter", packet(0x82, b"\0\x01\0"), PROTOCOL_ERROR),
            ("SUBSCRIBE without options", packet(0x82, b"\0\x01\0\0\x01a"), MALFORMED),
            ("SUBSCRIBE, second filter without options", packet(0x82, b"\0\x01\0\0\x01a\0\0\x01b"), MALFORMED),
            ("SUBSCRIBE, filter over the end", packet(0x82, b"\0\x01\0\0\x09a\0"), MALFORMED),
            ("SUBSCRIBE, empty filter", packet(0x82, b"\0\x01\0\0\0\0"), MALFORMED),
            ("SUBSCRIBE, filter not UTF-8", packet(0x82, b"\0\x01\0\0\x01\xff\0"), MALFORMED),
            ("SUBSCRIBE, filter with U+0000", packet(0x82, b"\0\x01\0\0\x03a\0b\0"), MALFORMED),
            ("SUBSCRIBE with QoS 3", packet(0x82, b"\0\x01\0\0\x01a\x03"), PROTOCOL_ERROR),
            ("SUBSCRIBE with Retain Handling 3", packet(0x82, b"\0\x01\0\0\x01a\x30"), PROTOCOL_ERROR),
            ("SUBSCRIBE with reserved bit 6", packet(0x82, b"\0\x01\0\0\x01a\x40"), MALFORMED),
            ("SUBSCRIBE with reserved bit 7", packet(0x82, b"\0\x01\0\0\x01a\x80"), MALFORMED),
            ("SUBSCRIBE, shared with No Local", packet(0x82, b"\0\x01\0\0\x0a$share/g/a\x04"), PROTOCOL_ERROR),
            ("SUBSCRIBE with Subscription Identifier 0", packet(0x82, b"\0\x01\x02\x0b\0\0\x01a\0"), PROTOCOL_ERROR),
            ("SUBSCRIBE with two of them", packet(0x82, b"\0\x01\x04\x0b\x01\x0b\x02\0\x01a\0"), PROTOCOL_ERROR),
            ("SUBSCRIBE with a Topic Alias", packet(0x82, b"\0\x01\x03\x23\0\x01\0\x01a\0"), MALFORMED),
            ("UNSUBSCRIBE without a body", packet(0xA2, b""), MALFORMED),
            ("UNSUBSCRIBE with Packet Identifier 0", packet(0xA2, b"\0\0\0\0\x01a"), PROTOCOL_ERROR),
            ("UNSUBSCRIBE without a filter", packet(0xA2, b"\0\x01\0"), PROTOCOL_ERROR),
            ("UNSUBSCRIBE, empty filter", packet(0xA2, b"\0\x01\0\0\0"), MALFORMED),
            ("UNSUBSCRIBE, filter over the end", packet(0xA2, b"\0\x01\0\0\x02a"), MALFORMED),
            ("UNSUBSCRIBE, filter not UTF-8", packet(0xA2, b"\0\x01\0\0\x02\xC3\x28"), MALFORMED),
            ("UNSUBSCRIBE, filter with U+0000", packet(0xA2, b"\0\x01\0\0\x01\0"), MALFORMED),
            ("UNSUBSCRIBE with a Subscription Identifier", packet(0xA2, b"\0\x01\x02\x0b\x01\0\x01a"), MALFORMED),
        ],
    );
}

/// DISCONNECT and AUTH from a client of MQTT 5.0: codes that are not among those that it may send [MQTT-3.14.2-1]
/// [MQTT-3.15.2-1], a Session Expiry Interval where CONNECT had none, AUTH without an Authentication Method in the
/// CONNECT [MQTT-4.12.0-7].
#[test]
#[rustfmt::skip] // one case, one line
fn v5_disconnect_and_auth() {
    check(
        Version::V5,
        &[
            ("DISCONNECT with code 0x01", packet(0xE0, b"\x01"), PROTOCOL_ERROR),
            ("DISCONNECT with code 0x8B", packet(0xE0, b"\x8B"), PROTOCOL_ERROR),
            ("DISCONNECT with code 0xFF", packet(0xE0, b"\xFF"), PROTOCOL_ERROR),
            ("DISCONNECT with bytes behind", packet(0xE0, b"\0\0\0"), MALFORMED),
            ("DISCONNECT, properties over the end", packet(0xE0, b"\0\x05\x11"), MALFORMED),
            ("DISCONNECT sets a Session Expiry Interval", packet(0xE0, b"\0\x05\x11\0\0\0\x01"), PROTOCOL_ERROR),
            ("DISCONNECT with a Topic Alias", packet(0xE0, b"\0\x03\x23\0\x01"), MALFORMED),
            ("AUTH without a method in CONNECT", packet(0xF0, b"\x18\x04\x15\0\x01m"), PROTOCOL_ERROR),
            ("re-authentication without a method", packet(0xF0, b"\x19\x04\x15\0\x01m"), PROTOCOL_ERROR),
            ("AUTH with code 0x01", packet(0xF0, b"\x01\x04\x15\0\x01m"), PROTOCOL_ERROR),
            ("AUTH without a body", packet(0xF0, b""), PROTOCOL_ERROR),
        ],
    );
}

/// Flags, name and version of CONNECT in MQTT 5.0: the reserved flag [MQTT-3.1.2-3], a will that the flags leave out
/// [MQTT-3.1.2-11] [MQTT-3.1.2-13], Will QoS 3 [MQTT-3.1.2-12], fields that the flags promise and that are not there
/// [MQTT-3.1.2-9] [MQTT-3.1.2-17] [MQTT-3.1.2-19], or that are there without a flag [MQTT-3.1.2-16] [MQTT-3.1.2-18],
/// strings that are not UTF-8 [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12], no Client Identifier [MQTT-3.1.3-3], an
/// unknown version [MQTT-3.1.2-2]. The format is checked [MQTT-3.1.4-1], the CONNACK has one of its codes
/// [MQTT-3.2.2-8] and Session Present 0 [MQTT-3.2.2-6], and the connection is closed [MQTT-3.2.2-7] before anything
/// behind the CONNECT is processed [MQTT-3.1.4-6], with no DISCONNECT [MQTT-3.14.0-1].
#[test]
#[rustfmt::skip] // one case, one line
fn v5_connect() {
    let connect =
        |flags: u8, rest: &[u8]| packet(0x10, &[b"\0\x04MQTT\x05", [flags].as_slice(), b"\0\x0a", rest].concat());
    check_connect_v5(&[
        ("fixed header flags", packet(0x11, b"\0\x04MQTT\x05\x02\0\x0a\0\0\x01a"), MALFORMED),
        ("version 6", packet(0x10, b"\0\x04MQTT\x06\x02\0\x0a\0\0\x01a"), UNSUPPORTED_VERSION),
        ("version 255", packet(0x10, b"\0\x04MQTT\xff\x02\0\x0a\0\0\x01a"), UNSUPPORTED_VERSION),
        ("reserved Connect Flag", connect(0x03, b"\0\0\x01a"), MALFORMED),
        ("Will QoS without Will Flag", connect(0x0A, b"\0\0\x01a"), MALFORMED),
        ("Will Retain without Will Flag", connect(0x22, b"\0\0\x01a"), MALFORMED),
        ("Will QoS 3", connect(0x1E, b"\0\0\x01a\0\0\x01w\0\x01m"), MALFORMED),
        ("no Connect Flags", packet(0x10, b"\0\x04MQTT\x05"), MALFORMED),
        ("no Keep Alive", packet(0x10, b"\0\x04MQTT\x05\x02\0"), MALFORMED),
        ("no properties", connect(0x02, b""), MALFORMED),
        ("no Client Identifier", connect(0x02, b"\0"), MALFORMED),
        ("Client Identifier over the end", connect(0x02, b"\0\0\x02a"), MALFORMED),
        ("Client Identifier not UTF-8", connect(0x02, b"\0\0\x01\xff"), MALFORMED),
        ("Client Identifier with U+0000", connect(0x02, b"\0\0\x02a\0"), MALFORMED),
        ("Client Identifier with a surrogate", connect(0x02, b"\0\0\x03\xED\xBF\xBF"), MALFORMED),
        ("bytes behind", connect(0x02, b"\0\0\x01a\0"), MALFORMED),
        ("a will without a Will Flag", connect(0x02, b"\0\0\x01a\0\0\x01w\0\x01m"), MALFORMED),
        ("no will", connect(0x06, b"\0\0\x01a"), MALFORMED),
        ("no Will Payload", connect(0x06, b"\0\0\x01a\0\0\x01w"), MALFORMED),
        ("Will Topic not UTF-8", connect(0x06, b"\0\0\x01a\0\0\x01\xff\0\x01m"), MALFORMED),
        ("Will Topic with U+0000", connect(0x06, b"\0\0\x01a\0\0\x01\0\0\x01m"), MALFORMED),
        ("Will Topic with +", connect(0x06, b"\0\0\x01a\0\0\x01+\0\x01m"), TOPIC_NAME_INVALID),
        ("Will Topic with #", connect(0x06, b"\0\0\x01a\0\0\x03a/#\0\x01m"), TOPIC_NAME_INVALID),
        ("empty Will Topic", connect(0x06, b"\0\0\x01a\0\0\0\0\x01m"), TOPIC_NAME_INVALID),
        ("no User Name", connect(0x82, b"\0\0\x01a"), MALFORMED),
        ("User Name not UTF-8", connect(0x82, b"\0\0\x01a\0\x02\xC3\x28"), MALFORMED),
        ("User Name without a flag", connect(0x02, b"\0\0\x01a\0\x01u"), MALFORMED),
        ("no Password", connect(0xC2, b"\0\0\x01a\0\x01u"), MALFORMED),
        ("Password without a flag", connect(0x82, b"\0\0\x01a\0\x01u\0\x01p"), MALFORMED),
        ("Password over the end", connect(0x42, b"\0\0\x01a\0\x09p"), MALFORMED),
    ]);
}

/// Properties of CONNECT and of its will: not of this packet, more than one, values that the specification excludes,
/// Authentication Data without a method; a method that the broker does not have [MQTT-4.12.0-1].
#[test]
#[rustfmt::skip] // one case, one line
fn v5_connect_properties() {
    let connect = |props: &[u8]| {
        let length = u8::try_from(props.len()).expect("short");
        packet(
            0x10,
            &[b"\0\x04MQTT\x05\x02\0\x0a", [length].as_slice(), props, b"\0\x01a"].concat(),
        )
    };
    let will = |props: &[u8]| {
        let length = u8::try_from(props.len()).expect("short");
        let head = b"\0\x04MQTT\x05\x06\0\x0a\0\0\x01a";
        packet(0x10, &[head, [length].as_slice(), props, b"\0\x01w\0\x01m"].concat())
    };
    check_connect_v5(&[
        ("unknown property", connect(b"\x7f\0"), MALFORMED),
        ("property of PUBLISH", connect(b"\x01\0"), MALFORMED),
        ("property of CONNACK", connect(b"\x24\x01"), MALFORMED),
        ("Will Delay Interval outside of the will", connect(b"\x18\0\0\0\x01"), MALFORMED),
        ("Session Expiry Interval cut short", connect(b"\x11\0\0"), MALFORMED),
        ("Session Expiry Interval twice", connect(b"\x11\0\0\0\x01\x11\0\0\0\x01"), PROTOCOL_ERROR),
        ("Receive Maximum 0", connect(b"\x21\0\0"), PROTOCOL_ERROR),
        ("Receive Maximum twice", connect(b"\x21\0\x01\x21\0\x01"), PROTOCOL_ERROR),
        ("Maximum Packet Size 0", connect(b"\x27\0\0\0\0"), PROTOCOL_ERROR),
        ("Maximum Packet Size twice", connect(b"\x27\0\0\x01\0\x27\0\0\x01\0"), PROTOCOL_ERROR),
        ("Topic Alias Maximum twice", connect(b"\x22\0\x01\x22\0\x01"), PROTOCOL_ERROR),
        ("Request Response Information 2", connect(b"\x19\x02"), PROTOCOL_ERROR),
        ("Request Response Information twice", connect(b"\x19\0\x19\0"), PROTOCOL_ERROR),
        ("Request Problem Information 2", connect(b"\x17\x02"), PROTOCOL_ERROR),
        ("Request Problem Information twice", connect(b"\x17\0\x17\0"), PROTOCOL_ERROR),
        ("User Property not UTF-8", connect(b"\x26\0\x01\xff\0\x01v"), MALFORMED),
        ("Authentication Data without a method", connect(b"\x16\0\x01d"), PROTOCOL_ERROR),
        ("Authentication Method twice", connect(b"\x15\0\x01m\x15\0\x01m"), PROTOCOL_ERROR),
        ("unknown Authentication Method", connect(b"\x15\0\x01m"), BAD_AUTHENTICATION_METHOD),
        ("will: unknown property", will(b"\x7f\0"), MALFORMED),
        ("will: Topic Alias", will(b"\x23\0\x01"), MALFORMED),
        ("will: Will Delay Interval twice", will(b"\x18\0\0\0\x01\x18\0\0\0\x01"), PROTOCOL_ERROR),
        ("will: Payload Format Indicator 2", will(b"\x01\x02"), PROTOCOL_ERROR),
        ("will: Response Topic with +", will(b"\x08\0\x01+"), PROTOCOL_ERROR),
        ("will: Content Type not UTF-8", will(b"\x03\0\x01\xff"), MALFORMED),
        ("will: properties over the end", packet(0x10, b"\0\x04MQTT\x05\x06\0\x0a\0\0\x01a\x7f\x18\0"), MALFORMED),
    ]);
}

/// A CONNECT with everything in it, cut at every place with the Remaining Length adjusted: the fields must all be
/// there, in their order [MQTT-3.1.3-1] [MQTT-3.1.4-1] [MQTT3-3.1.3-1] [MQTT3-3.1.4-1].
#[test]
fn connect_cut_at_every_place() {
    let full = |version| {
        let will = Will::new("will/topic", "gone").qos(1);
        let connect = Connect::new(version, "cut")
            .username("user")
            .password(b"secret")
            .will(will);
        let connect = if version == Version::V5 {
            connect.expiry(5)
        } else {
            connect
        };
        Packet::from(connect).encode(version)[2..].to_vec()
    };
    // MQTT 5.0 answers as soon as the version is known, which is after name and level.
    let (silent, answered): (Vec<usize>, Vec<usize>) = (0..full(Version::V5).len()).partition(|&length| length < 7);
    let cut = |length: usize| ("cut", packet(0x10, &full(Version::V5)[..length]), MALFORMED);
    check_connect_silent(&silent.into_iter().map(cut).collect::<Vec<_>>());
    check_connect_v5(&answered.into_iter().map(cut).collect::<Vec<_>>());
    let v311 = full(Version::V311);
    let cut = |length: usize| ("cut", packet(0x10, &v311[..length]), 0);
    check_connect_silent(&(0..v311.len()).map(cut).collect::<Vec<_>>());
}

/// What cannot be the first packet of a connection is not answered: another packet than CONNECT [MQTT-3.1.0-1]
/// [MQTT3-3.1.0-1], another protocol [MQTT-3.1.2-1] [MQTT3-3.1.2-1].
#[test]
#[rustfmt::skip] // one case, one line
fn first_packet_is_not_connect() {
    check_connect_silent(&[
        ("PINGREQ", packet(0xC0, b""), 0),
        ("PUBLISH", packet(0x30, b"\0\x01tx"), 0),
        ("SUBSCRIBE", packet(0x82, b"\0\x01\0\x01a\0"), 0),
        ("DISCONNECT", packet(0xE0, b""), 0),
        ("AUTH", packet(0xF0, b"\x18\0"), 0),
        ("CONNACK", packet(0x20, b"\0\0"), 0),
        ("packet type 0", packet(0x00, b""), 0),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 0),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 0),
        ("Remaining Length of five bytes", b"\x10\xff\xff\xff\xff\x7f".to_vec(), 0),
        ("a CONNECT of 256 MB", b"\x10\xff\xff\xff\x7f".to_vec(), 0),
        ("CONNECT without a body", packet(0x10, b""), 0),
        ("protocol name MQTX", packet(0x10, b"\0\x04MQTX\x04\x02\0\x0a\0\x01a"), 0),
        ("protocol name mqtt", packet(0x10, b"\0\x04mqtt\x05\x02\0\x0a\0\0\x01a"), 0),
        ("empty protocol name", packet(0x10, b"\0\0\x04\x02\0\x0a\0\x01a"), 0),
        ("protocol name over the end", packet(0x10, b"\0\x40MQTT\x04"), 0),
        ("no level", packet(0x10, b"\0\x04MQTT"), 0),
    ]);
}

/// A protocol level that no version has is answered as MQTT 3 does: return code 1 [MQTT3-3.1.2-2], Session Present 0
/// [MQTT3-3.2.2-4], closed [MQTT3-3.2.2-5], nothing behind it processed [MQTT3-3.1.4-5].
#[test]
#[rustfmt::skip] // one case, one line
fn unknown_level_of_v3() {
    let level = v3::UNACCEPTABLE_PROTOCOL_VERSION;
    let cases = [
        ("MQTT level 0", packet(0x10, b"\0\x04MQTT\0\x02\0\x0a\0\x01a"), level),
        ("MQTT level 3", packet(0x10, b"\0\x04MQTT\x03\x02\0\x0a\0\x01a"), level),
        ("MQIsdp level 2", packet(0x10, b"\0\x06MQIsdp\x02\x02\0\x0a\0\x01a"), level),
        ("MQIsdp level 4", packet(0x10, b"\0\x06MQIsdp\x04\x02\0\x0a\0\x01a"), level),
        ("MQIsdp level 5", packet(0x10, b"\0\x06MQIsdp\x05\x02\0\x0a\0\0\x01a"), level),
    ];
    run(&cases, |broker, bytes, code| {
        expect_connack(broker, Version::V311, bytes, code)
    });
}

/// A malformed CONNECT of MQTT 3.1.1 is not answered at all [MQTT3-3.1.4-1] [MQTT3-3.2.2-6]: reserved bits
/// [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT3-3.1.2-3], a will against the flags [MQTT3-3.1.2-9] [MQTT3-3.1.2-11]
/// [MQTT3-3.1.2-13] [MQTT3-3.1.2-14] [MQTT3-3.1.2-15], User Name and Password against the flags [MQTT3-3.1.2-18]
/// [MQTT3-3.1.2-19] [MQTT3-3.1.2-20] [MQTT3-3.1.2-21] [MQTT3-3.1.2-22], no Client Identifier [MQTT3-3.1.3-3], strings
/// that are not UTF-8 [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT3-3.1.3-4] [MQTT3-3.1.3-10] [MQTT3-3.1.3-11].
#[test]
#[rustfmt::skip] // one case, one line
fn v311_connect() {
    let connect =
        |flags: u8, rest: &[u8]| packet(0x10, &[b"\0\x04MQTT\x04", [flags].as_slice(), b"\0\x0a", rest].concat());
    check_connect_silent(&[
        ("fixed header flags", packet(0x12, b"\0\x04MQTT\x04\x02\0\x0a\0\x01a"), 0),
        ("reserved Connect Flag", connect(0x03, b"\0\x01a"), 0),
        ("Will QoS without Will Flag", connect(0x12, b"\0\x01a"), 0),
        ("Will Retain without Will Flag", connect(0x22, b"\0\x01a"), 0),
        ("Will QoS 3", connect(0x1E, b"\0\x01a\0\x01w\0\x01m"), 0),
        ("a will without a Will Flag", connect(0x02, b"\0\x01a\0\x01w\0\x01m"), 0),
        ("no will", connect(0x06, b"\0\x01a"), 0),
        ("no Will Message", connect(0x06, b"\0\x01a\0\x01w"), 0),
        ("Will Topic not UTF-8", connect(0x06, b"\0\x01a\0\x01\xff\0\x01m"), 0),
        ("Will Topic with a wildcard", connect(0x06, b"\0\x01a\0\x01#\0\x01m"), 0),
        ("Password without User Name", connect(0x42, b"\0\x01a\0\x01p"), 0),
        ("User Name without a flag", connect(0x02, b"\0\x01a\0\x01u"), 0),
        ("no User Name", connect(0x82, b"\0\x01a"), 0),
        ("User Name not UTF-8", connect(0x82, b"\0\x01a\0\x02\xC3\x28"), 0),
        ("Password without a flag", connect(0x82, b"\0\x01a\0\x01u\0\x01p"), 0),
        ("no Password", connect(0xC2, b"\0\x01a\0\x01u"), 0),
        ("no Client Identifier", connect(0x02, b""), 0),
        ("Client Identifier not UTF-8", connect(0x02, b"\0\x01\xff"), 0),
        ("Client Identifier with U+0000", connect(0x02, b"\0\x01\0"), 0),
        ("Client Identifier with a surrogate", connect(0x02, b"\0\x03\xED\xA0\x80"), 0),
        ("bytes behind", connect(0x02, b"\0\x01a\0"), 0),
    ]);
}

/// Faults after CONNECT in MQTT 3.1.1 close the connection without a word [MQTT3-4.8.0-1]: a second CONNECT
/// [MQTT3-3.1.0-2], reserved flags [MQTT3-2.2.2-2] [MQTT3-3.6.1-1] [MQTT3-3.8.1-1] [MQTT3-3.10.1-1] [MQTT3-3.14.1-1],
/// QoS 3 [MQTT3-3.3.1-4], DUP at QoS 0 [MQTT3-3.3.1-2], Topic Names [MQTT3-3.3.2-1] [MQTT3-3.3.2-2] [MQTT3-4.7.1-1]
/// [MQTT3-4.7.3-1] [MQTT3-4.7.3-2] [MQTT3-1.5.3-1] [MQTT3-1.5.3-2], Packet Identifiers of 0 [MQTT3-2.3.1-1],
/// SUBSCRIBE and UNSUBSCRIBE without a valid filter [MQTT3-3.8.3-1] [MQTT3-3.8.3-3] [MQTT3-3.10.3-1] [MQTT3-3.10.3-2]
/// or with reserved bits [MQTT3-3.8.3-4].
#[test]
#[rustfmt::skip] // one case, one line
fn v311_after_connect() {
    check(
        Version::V311,
        &[
            ("packet type 0", packet(0x00, b""), 0),
            ("packet type 15", packet(0xF0, b""), 0),
            ("second CONNECT", packet(0x10, b"\0\x04MQTT\x04\x02\0\x0a\0\x01a"), 0),
            ("CONNACK from a client", packet(0x20, b"\0\0"), 0),
            ("SUBACK from a client", packet(0x90, b"\0\x01\0"), 0),
            ("UNSUBACK from a client", packet(0xB0, b"\0\x01"), 0),
            ("PINGRESP from a client", packet(0xD0, b""), 0),
            ("Remaining Length of five bytes", b"\x30\xff\xff\xff\xff\x01".to_vec(), 0),
            ("a claim of 256 MB", b"\x30\xff\xff\xff\x7f".to_vec(), 0),
            ("PUBLISH with QoS 3", packet(0x36, b"\0\x01t\0\x01x"), 0),
            ("PUBLISH with DUP at QoS 0", packet(0x38, b"\0\x01tx"), 0),
            ("PUBLISH without a body", packet(0x30, b""), 0),
            ("PUBLISH, empty topic", packet(0x30, b"\0\0x"), 0),
            ("PUBLISH, topic over the end", packet(0x30, b"\0\x05t"), 0),
            ("PUBLISH, topic with +", packet(0x30, b"\0\x03a/+x"), 0),
            ("PUBLISH, topic with #", packet(0x30, b"\0\x01#x"), 0),
            ("PUBLISH, topic with U+0000", packet(0x30, b"\0\x02a\0x"), 0),
            ("PUBLISH, topic not UTF-8", packet(0x30, b"\0\x02\xC3\x28x"), 0),
            ("PUBLISH, topic with a surrogate", packet(0x30, b"\0\x03\xED\xA0\x80x"), 0),
            ("PUBLISH, QoS 1 without a Packet Identifier", packet(0x32, b"\0\x01t\x01"), 0),
            ("PUBLISH, QoS 1 with Packet Identifier 0", packet(0x32, b"\0\x01t\0\0x"), 0),
            ("PUBACK without a body", packet(0x40, b""), 0),
            ("PUBACK of three bytes", packet(0x40, b"\0\x01\0"), 0),
            ("PUBACK with flags", packet(0x42, b"\0\x01"), 0),
            ("PUBREC of one byte", packet(0x50, b"\x01"), 0),
            ("PUBREL with flags 0000", packet(0x60, b"\0\x01"), 0),
            ("PUBREL with flags 0110", packet(0x66, b"\0\x01"), 0),
            ("PUBCOMP of four bytes", packet(0x70, b"\0\x01\0\0"), 0),
            ("SUBSCRIBE with flags 0000", packet(0x80, b"\0\x01\0\x01a\0"), 0),
            ("SUBSCRIBE with Packet Identifier 0", packet(0x82, b"\0\0\0\x01a\0"), 0),
            ("SUBSCRIBE without a filter", packet(0x82, b"\0\x01"), 0),
            ("SUBSCRIBE without a QoS", packet(0x82, b"\0\x01\0\x01a"), 0),
            ("SUBSCRIBE with QoS 3", packet(0x82, b"\0\x01\0\x01a\x03"), 0),
            ("SUBSCRIBE with No Local", packet(0x82, b"\0\x01\0\x01a\x05"), 0),
            ("SUBSCRIBE with reserved bit 7", packet(0x82, b"\0\x01\0\x01a\x80"), 0),
            ("SUBSCRIBE, empty filter", packet(0x82, b"\0\x01\0\0\0"), 0),
            ("SUBSCRIBE, filter not UTF-8", packet(0x82, b"\0\x01\0\x01\xff\0"), 0),
            ("SUBSCRIBE, filter with U+0000", packet(0x82, b"\0\x01\0\x01\0\0"), 0),
            ("UNSUBSCRIBE with flags 0000", packet(0xA0, b"\0\x01\0\x01a"), 0),
            ("UNSUBSCRIBE with Packet Identifier 0", packet(0xA2, b"\0\0\0\x01a"), 0),
            ("UNSUBSCRIBE without a filter", packet(0xA2, b"\0\x01"), 0),
            ("UNSUBSCRIBE, filter over the end", packet(0xA2, b"\0\x01\0\x05a"), 0),
            ("UNSUBSCRIBE, filter not UTF-8", packet(0xA2, b"\0\x01\0\x01\xff"), 0),
            ("PINGREQ with flags", packet(0xC1, b""), 0),
            ("PINGREQ with a body", packet(0xC0, b"\0"), 0),
            ("DISCONNECT with flags", packet(0xE1, b""), 0),
            ("DISCONNECT with a body", packet(0xE0, b"\0"), 0),
        ],
    );
}

/// What looks odd and is not a fault: SUBSCRIBE, UNSUBSCRIBE and PUBREL of MQTT 3.1 with DUP set, U+FEFF in a topic,
/// which is not stripped [MQTT-1.5.4-3] [MQTT3-1.5.3-3], characters beyond the Basic Multilingual Plane, the shortest
/// and the longest forms of an ack, a PUBLISH without a payload.
#[test]
fn odd_but_valid() {
    let broker = Broker::start(&[]);
    let mut old = broker.connect(Connect::v31("old"));
    old.send_bytes(&packet(0x8A, b"\0\x01\0\x01a\0"));
    assert_eq!(old.recv_suback().id, 1);
    old.send_bytes(&packet(0xAA, b"\0\x02\0\x01a"));
    assert_eq!(old.recv_unsuback().id, 2);
    old.ping();

    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "odd"));
        for topic in [
            "\u{feff}bom",
            "a\u{feff}b",
            "\u{10ffff}/\u{1f600}",
            " ",
            "/",
            "//",
            "a//b",
            "\u{85}\u{fffe}",
        ] {
            client.subscribe(topic, 0);
            client.publish(topic, "", 0);
            client.expect_message(topic, "");
        }
        client.subscribe("bom", 0);
        client.publish("\u{feff}bom", "x", 0);
        client.expect_message("\u{feff}bom", "x");
        client.assert_nothing_from_itself();
    }

    let mut client = broker.v5("acks");
    client.subscribe("t", 1);
    let tails: [&[u8]; 4] = [b"", b"\x10", b"\0\0", b"\x80\x0b\x1f\0\x01a\x26\0\x01n\0\x01v"];
    for tail in tails {
        client.send(Publish::new("t", "x").qos(1, 7));
        let (mut ack, mut id) = (None, None);
        for _ in 0..2 {
            match client.recv() {
                Packet::Puback(puback) => ack = Some(puback),
                Packet::Publish(publish) => id = Some(publish.id),
                other => panic!("neither ack nor message: {other:?}"),
            }
        }
        assert_eq!(ack.map(|ack| ack.id), Some(7));
        let id = id.expect("the message").to_be_bytes();
        client.send_bytes(&packet(0x40, &[&id, tail].concat()));
        client.ping();
    }
}
