//! The harness itself: bytes that it writes and reads, compared with bytes written out by hand.

mod common;
use common::*;

/// A CONNECT with everything in it, byte by byte (section 3.1.3.6 shows the order).
#[test]
fn encodes_connect() {
    let will = Will::new("w", "bye").qos(1).retain().delay(1);
    let connect = Connect::v5("me")
        .username("u")
        .password(b"p")
        .will(will)
        .expiry(2)
        .keep_alive(10);
    #[rustfmt::skip]
    let expected = [
        0x10, 43, 0, 4, b'M', b'Q', b'T', b'T', 5, 0xEE, 0, 10, 5, 0x11, 0, 0, 0, 2, 0, 2, b'm', b'e',
        5, 0x18, 0, 0, 0, 1, 0, 1, b'w', 0, 3, b'b', b'y', b'e', 0, 1, b'u', 0, 1, b'p',
    ];
    let bytes = Packet::from(connect).encode(Version::V5);
    assert_eq!(bytes[2..], expected[2..]);
    assert_eq!(usize::from(bytes[1]), expected.len() - 2);
}

/// A PUBLISH is read with its properties; Variable Byte Integers take up to four bytes.
#[test]
fn decodes_publish() {
    let body = [0, 1, b't', 0, 7, 6, 0x0B, 0x80, 0x01, 0x23, 0, 3, b'x'];
    let publish = Publish::new("t", "x")
        .qos(1, 7)
        .prop(Prop::subscription_id(128))
        .prop(Prop::TopicAlias(3));
    assert_eq!(Packet::decode(Version::V5, 0x32, &body), publish.into());
    for (value, length) in [
        (0, 1),
        (127, 1),
        (128, 2),
        (16_384, 3),
        (2_097_152, 4),
        (268_435_455, 4),
    ] {
        assert_eq!(wire::varint(value).len(), length);
    }
}

/// The strict reader refuses what a broker must not send.
#[test]
fn refuses_faults_of_a_broker() {
    type Case = (Version, u8, &'static [u8]);
    let cases: [Case; 8] = [
        (Version::V5, 0x36, &[0, 1, b't', 0, 1, 0]),
        (Version::V311, 0x38, &[0, 1, b't']),
        (Version::V311, 0x32, &[0, 1, b't', 0, 0]),
        (Version::V31, 0x20, &[1, 0]),
        (Version::V311, 0xE0, &[]),
        (Version::V5, 0x20, &[0, 0]),
        (Version::V5, 0xE0, &[0x8B, 5, 0x11, 0, 0, 0, 1]),
        (Version::V311, 0x40, &[0, 1, 0]),
    ];
    for (version, first, body) in cases {
        let result = std::panic::catch_unwind(|| Packet::decode(version, first, body));
        assert!(result.is_err(), "{first:#04x} {body:02x?} is read as {result:?}");
    }
}
