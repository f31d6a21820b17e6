use super::*;
use crate::packet::{Publish, QoS};
use crate::properties::Properties;

#[track_caller]
fn published(version: Version, notation: &str, expected: Publish<'_>) {
    with_packet(version, notation, |result| {
        assert_eq!(result, Ok(Packet::Publish(expected)), "{notation}")
    });
}

const SMALL: Publish<'_> = Publish {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: "topic",
    packet_id: 0,
    message_expiry_interval: None,
    topic_alias: None,
    properties: Properties::EMPTY,
    payload: b"payload",
};

#[test]
fn every_field_is_read() {
    for version in [V31, V311] {
        published(version, "30 | s'topic' 'payload'", SMALL);
        published(version, "31 | s'topic' 'payload'", Publish { retain: true, ..SMALL });
        let qos1 = Publish {
            qos: QoS::AtLeastOnce,
            packet_id: 0x1234,
            ..SMALL
        };
        published(version, "32 | s'topic' 1234 'payload'", qos1);
        published(version, "3A | s'topic' 1234 'payload'", Publish { dup: true, ..qos1 });
        let qos2 = Publish {
            qos: QoS::ExactlyOnce,
            dup: true,
            retain: true,
            ..qos1
        };
        published(version, "3D | s'topic' 1234 'payload'", qos2);
        published(version, "30 | s'topic'", Publish { payload: b"", ..SMALL });
    }
    published(V5, "30 | s'topic' {} 'payload'", SMALL);
    let block = bytes("02 00000E10 23 000A 26 s'n' s'v'");
    let full = Publish {
        qos: QoS::AtLeastOnce,
        packet_id: 0xFFFF,
        message_expiry_interval: Some(3600),
        topic_alias: Some(10),
        properties: Properties::from_checked(&block),
        ..SMALL
    };
    published(
        V5,
        "32 | s'topic' FFFF {02 00000E10 23 000A 26 s'n' s'v'} 'payload'",
        full,
    );
}

#[test]
fn qos_3_and_dup_without_qos_are_malformed() {
    refused(
        &[V31, V311],
        MalformedPacket,
        &["36 | s't' 0001", "3E | s't' 0001", "38 | s't'", "39 | s't'"],
    );
    refused(
        &[V5],
        MalformedPacket,
        &["36 | s't' 0001 {}", "3E | s't' 0001 {}", "38 | s't' {}", "39 | s't' {}"],
    );
}

#[test]
fn a_packet_identifier_is_not_0() {
    refused(&[V31, V311], ProtocolError, &["32 | s't' 0000", "34 | s't' 0000"]);
    refused(&[V5], ProtocolError, &["32 | s't' 0000 {}", "34 | s't' 0000 {}"]);
}

#[test]
fn fields_are_not_cut_short() {
    refused(
        &[V31, V311, V5],
        MalformedPacket,
        &[
            "30 |",
            "30 | 00",
            "30 | 0001",
            "30 | 0005 'topi'",
            "32 | s't'",
            "32 | s't' 00",
        ],
    );
}

#[test]
fn only_an_alias_can_stand_for_the_topic() {
    refused(&[V31, V311], ProtocolError, &["30 | s''", "30 | s'' 'payload'"]);
    refused(
        &[V5],
        ProtocolError,
        &["30 | s'' {}", "30 | s'' {26 s'n' s'v'} 'payload'"],
    );
    accepted(
        &[V5],
        &[
            "30 | s'' {23 0001}",
            "30 | s't' {23 FFFF}",
            "32 | s'' 0001 {23 0001} 'payload'",
        ],
    );
}

#[test]
fn a_topic_name_has_no_wildcards() {
    for topic in [
        "+",
        "#",
        "a/+",
        "a/#",
        "a+b",
        "#a",
        "0123456789abcdef/0123456789abcdef/+",
        "ä/#",
    ] {
        refused(
            &[V31, V311],
            ReasonCode::TopicNameInvalid,
            &[&format!("30 | s'{topic}'")],
        );
        refused(&[V5], ReasonCode::TopicNameInvalid, &[&format!("30 | s'{topic}' {{}}")]);
    }
    accepted(
        &[V31, V311],
        &["30 | s'/'", "30 | s'//'", "30 | s' '", "30 | s'$SYS/x'", "30 | s'ä/ö'"],
    );
}

/// What cannot be parsed is Malformed, also where a more specific code would fit.
#[test]
fn malformed_comes_before_wildcards() {
    refused(&[V5], MalformedPacket, &["30 | 0002 '+' 00 {}", "30 | 0002 '#' FF {}"]);
}
