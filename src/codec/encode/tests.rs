//! Every encoder against bytes written out by hand; lengths here are literal, never computed.

use super::*;
use crate::codec::testing::bytes;
use crate::packet::Version::{V5, V31, V311};
use crate::packet::{QoS, Version};
use crate::properties::PropertiesBuilder;
use crate::reason::ReasonCode;

/// What an encoder appends. That it appends is part of every test: there is something before it already.
#[track_caller]
fn written(write: impl FnOnce(&mut Vec<u8>) -> bool) -> Vec<u8> {
    let mut out = vec![0xEE];
    assert!(write(&mut out));
    assert_eq!(out.remove(0), 0xEE);
    out
}

#[track_caller]
fn unsent(write: impl FnOnce(&mut Vec<u8>) -> bool) {
    let mut out = vec![0xEE];
    assert!(!write(&mut out));
    assert_eq!(out, [0xEE]);
}

const SMALL: PublishFrame<'_> = PublishFrame {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: "a/b",
    packet_id: 0,
    topic_alias: None,
    message_expiry_interval: None,
    subscription_identifiers: &[],
    properties: &[],
    payload: b"hello",
};

#[track_caller]
fn publishes(version: Version, frame: &PublishFrame<'_>, expected: &str) {
    let out = written(|out| publish(out, version, frame));
    assert_eq!(out, bytes(expected));
    assert_eq!(publish_size(version, frame), out.len());
}

#[test]
fn publish_of_mqtt_3() {
    for version in [V31, V311] {
        publishes(version, &SMALL, "30 0A 0003 'a/b' 'hello'");
        publishes(
            version,
            &PublishFrame {
                retain: true,
                payload: b"",
                ..SMALL
            },
            "31 05 0003 'a/b'",
        );
        let qos1 = PublishFrame {
            qos: QoS::AtLeastOnce,
            packet_id: 0x1234,
            ..SMALL
        };
        publishes(version, &qos1, "32 0C 0003 'a/b' 1234 'hello'");
        publishes(
            version,
            &PublishFrame { dup: true, ..qos1 },
            "3A 0C 0003 'a/b' 1234 'hello'",
        );
        let all = PublishFrame {
            qos: QoS::ExactlyOnce,
            dup: true,
            retain: true,
            packet_id: 1,
            ..SMALL
        };
        publishes(version, &all, "3D 0C 0003 'a/b' 0001 'hello'");
        // What only MQTT 5.0 has is not written.
        let properties = bytes("26 0001 'n' 0001 'v'");
        let v5 = PublishFrame {
            topic_alias: Some(1),
            message_expiry_interval: Some(1),
            subscription_identifiers: &[1],
            properties: &properties,
            ..SMALL
        };
        publishes(version, &v5, "30 0A 0003 'a/b' 'hello'");
    }
}

#[test]
fn publish_of_mqtt_5() {
    publishes(V5, &SMALL, "30 0B 0003 'a/b' 00 'hello'");
    let properties = bytes("01 01 26 0001 'n' 0001 'v'");
    let full = PublishFrame {
        qos: QoS::AtLeastOnce,
        packet_id: 0x1234,
        topic_alias: Some(0x0102),
        message_expiry_interval: Some(0x0A0B0C0D),
        subscription_identifiers: &[1, 127, 128, 268_435_455],
        properties: &properties,
        ..SMALL
    };
    publishes(
        V5,
        &full,
        "32 2A 0003 'a/b' 1234 1D 23 0102 02 0A0B0C0D 0B 01 0B 7F 0B 8001 0B FFFFFF7F \
         01 01 26 0001 'n' 0001 'v' 'hello'",
    );
    let alias = PublishFrame {
        topic: "",
        topic_alias: Some(7),
        payload: b"",
        ..SMALL
    };
    publishes(V5, &alias, "30 06 0000 03 23 0007");
}

/// [MQTT-3.3.1-2]
#[test]
fn a_qos_0_publish_never_has_dup() {
    publishes(V311, &PublishFrame { dup: true, ..SMALL }, "30 0A 0003 'a/b' 'hello'");
}

#[test]
fn publish_at_the_edges_of_the_remaining_length() {
    for (remaining, header) in [
        (127, &[0x30, 0x7F][..]),
        (128, &[0x30, 0x80, 0x01]),
        (16_383, &[0x30, 0xFF, 0x7F]),
        (16_384, &[0x30, 0x80, 0x80, 0x01]),
        (2_097_151, &[0x30, 0xFF, 0xFF, 0x7F]),
        (2_097_152, &[0x30, 0x80, 0x80, 0x80, 0x01]),
    ] {
        let payload = vec![b'x'; remaining - 5];
        let frame = PublishFrame {
            payload: &payload,
            ..SMALL
        };
        let out = written(|out| publish(out, V311, &frame));
        assert!(out.starts_with(header), "{remaining}");
        assert_eq!(out.len(), header.len() + remaining);
        assert_eq!(publish_size(V311, &frame), out.len());
    }
}

#[test]
fn publish_at_the_edges_of_the_property_length() {
    for (value, length) in [(122, &[0x7F][..]), (123, &[0x80, 0x01])] {
        let properties = [&[0x09, 0, value][..], &vec![0; usize::from(value)]].concat();
        let properties = [properties, vec![0x01, 0x01]].concat();
        let frame = PublishFrame {
            properties: &properties,
            ..SMALL
        };
        let out = written(|out| publish(out, V5, &frame));
        let body = [&[0, 3], &b"a/b"[..], length, &properties, b"hello"].concat();
        assert!(out.ends_with(&body));
        assert_eq!(publish_size(V5, &frame), out.len());
    }
}

#[test]
fn what_cannot_be_a_publish_is_not_written() {
    let longest = "t".repeat(65_535);
    assert_eq!(
        written(|out| publish(
            out,
            V311,
            &PublishFrame {
                topic: &longest,
                ..SMALL
            }
        ))
        .len(),
        65_546
    );
    let topic = "t".repeat(65_536);
    unsent(|out| publish(out, V311, &PublishFrame { topic: &topic, ..SMALL }));
    let payload = vec![0; 268_435_455 - 5 + 1];
    let frame = PublishFrame {
        payload: &payload,
        ..SMALL
    };
    unsent(|out| publish(out, V311, &frame));
    assert!(publish_size(V311, &frame) > MAX_PACKET_SIZE as usize);
    let frame = PublishFrame {
        properties: &payload,
        payload: b"",
        ..SMALL
    };
    unsent(|out| publish(out, V5, &frame));
    assert!(publish_size(V5, &frame) > MAX_PACKET_SIZE as usize);
}

#[test]
fn acks() {
    let kinds = [
        (AckKind::Puback, 0x40),
        (AckKind::Pubrec, 0x50),
        (AckKind::Pubrel, 0x62),
        (AckKind::Pubcomp, 0x70),
    ];
    for (kind, first) in kinds {
        for version in [V31, V311] {
            // Neither reason nor text exists there.
            let out = written(|out| ack(out, version, kind, 0x1234, ReasonCode::NotAuthorized, Some("no"), None));
            assert_eq!(out, [first, 2, 0x12, 0x34]);
        }
        let out = written(|out| ack(out, V5, kind, 0x1234, ReasonCode::Success, None, Some(4)));
        assert_eq!(out, [first, 2, 0x12, 0x34]);
        let out = written(|out| ack(out, V5, kind, 1, ReasonCode::Success, Some("ok"), None));
        assert_eq!(out, [&[first, 9, 0, 1, 0, 5, 0x1F, 0, 2], &b"ok"[..]].concat());
        unsent(|out| ack(out, V5, kind, 1, ReasonCode::Success, None, Some(3)));
    }
    let out = written(|out| {
        ack(
            out,
            V5,
            AckKind::Puback,
            1,
            ReasonCode::NoMatchingSubscribers,
            None,
            None,
        )
    });
    assert_eq!(out, bytes("40 03 0001 10"));
    let out = written(|out| {
        ack(
            out,
            V5,
            AckKind::Pubrec,
            1,
            ReasonCode::QuotaExceeded,
            Some("full"),
            None,
        )
    });
    assert_eq!(out, bytes("50 0B 0001 97 07 1F 0004 'full'"));
    let out = written(|out| {
        ack(
            out,
            V5,
            AckKind::Pubrel,
            1,
            ReasonCode::PacketIdentifierNotFound,
            None,
            None,
        )
    });
    assert_eq!(out, bytes("62 03 0001 92"));
}

#[test]
fn a_long_reason_string_of_an_ack() {
    let text = "x".repeat(125);
    let out = written(|out| {
        ack(
            out,
            V5,
            AckKind::Puback,
            1,
            ReasonCode::QuotaExceeded,
            Some(&text),
            None,
        )
    });
    assert_eq!(out, bytes(&format!("40 8501 0001 97 8001 1F 007D '{text}'")));
}

/// [MQTT-3.4.2-2]
#[test]
fn an_ack_leaves_out_what_makes_it_too_large() {
    let write = |limit| {
        written(|out| {
            ack(
                out,
                V5,
                AckKind::Puback,
                1,
                ReasonCode::QuotaExceeded,
                Some("full"),
                Some(limit),
            )
        })
    };
    assert_eq!(write(13), bytes("40 0B 0001 97 07 1F 0004 'full'"));
    assert_eq!(write(12), bytes("40 03 0001 97"));
    assert_eq!(write(5), bytes("40 03 0001 97"));
    unsent(|out| {
        ack(
            out,
            V5,
            AckKind::Puback,
            1,
            ReasonCode::QuotaExceeded,
            Some("full"),
            Some(4),
        )
    });
}

#[test]
fn unsendable_texts_are_left_out() {
    let long = "x".repeat(65_536);
    for text in [&long[..], "a\0b"] {
        let out = written(|out| ack(out, V5, AckKind::Puback, 1, ReasonCode::QuotaExceeded, Some(text), None));
        assert_eq!(out, bytes("40 03 0001 97"));
        let out = written(|out| suback(out, V5, 1, &[ReasonCode::Success], Some(text), None));
        assert_eq!(out, bytes("90 04 0001 00 00"));
        let out = written(|out| unsuback(out, V5, 1, &[ReasonCode::Success], Some(text), None));
        assert_eq!(out, bytes("B0 04 0001 00 00"));
        let out = written(|out| disconnect(out, ReasonCode::ServerBusy, Some(text), Some(text), None));
        assert_eq!(out, bytes("E0 01 89"));
        let out = written(|out| auth(out, ReasonCode::ContinueAuthentication, "m", None, Some(text), None));
        assert_eq!(out, bytes("F0 06 18 04 15 0001 'm'"));
        let refusal = Connack {
            reason_string: Some(text),
            user_properties: &[("n", text), (text, "v")],
            ..REFUSED
        };
        assert_eq!(written(|out| connack(out, V5, &refusal, None)), bytes("20 03 00 87 00"));
    }
}

/// An acknowledgement never carries a Reason Code that its packet may not have [MQTT-3.4.2-1] [MQTT-3.6.2-1].
#[test]
fn acks_have_their_own_reason_codes() {
    for &reason in ReasonCode::ALL {
        for kind in [AckKind::Puback, AckKind::Pubrec, AckKind::Pubrel, AckKind::Pubcomp] {
            let out = written(|out| ack(out, V5, kind, 1, reason, None, None));
            let code = ReasonCode::from_u8(*out.get(4).unwrap_or(&0)).expect("a Reason Code");
            match kind {
                AckKind::Puback | AckKind::Pubrec => assert!(crate::codec::reasons::in_puback(code)),
                AckKind::Pubrel | AckKind::Pubcomp => assert!(crate::codec::reasons::in_pubrel(code)),
            }
            assert_eq!(code.is_error(), reason.is_error());
        }
    }
}

#[test]
fn subacks() {
    let codes = [
        ReasonCode::Success,
        ReasonCode::GrantedQoS1,
        ReasonCode::GrantedQoS2,
        ReasonCode::NotAuthorized,
        ReasonCode::WildcardSubscriptionsNotSupported,
    ];
    let write = |version, text, limit| written(|out| suback(out, version, 0x1234, &codes, text, limit));
    assert_eq!(write(V311, Some("text"), None), bytes("90 07 1234 00 01 02 80 80"));
    assert_eq!(write(V31, None, None), bytes("90 07 1234 00 01 02 00 00"));
    assert_eq!(write(V5, None, None), bytes("90 08 1234 00 00 01 02 87 A2"));
    assert_eq!(
        write(V5, Some("text"), Some(17)),
        bytes("90 0F 1234 07 1F 0004 'text' 00 01 02 87 A2")
    );
    // [MQTT-3.9.2-1]
    assert_eq!(write(V5, Some("text"), Some(16)), bytes("90 08 1234 00 00 01 02 87 A2"));
    unsent(|out| suback(out, V5, 1, &codes, Some("text"), Some(9)));
}

#[test]
fn suback_codes() {
    let valid = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    for &reason in ReasonCode::ALL {
        let out = written(|out| suback(out, V5, 1, &[reason], None, None));
        let expected = if valid.contains(&(reason as u8)) {
            reason as u8
        } else {
            0x80
        };
        assert_eq!(out, [0x90, 4, 0, 1, 0, expected]);
    }
}

#[test]
fn unsubacks() {
    let codes = [
        ReasonCode::Success,
        ReasonCode::NoSubscriptionExisted,
        ReasonCode::NotAuthorized,
    ];
    let write = |version, text, limit| written(|out| unsuback(out, version, 0x1234, &codes, text, limit));
    assert_eq!(write(V31, None, None), bytes("B0 02 1234"));
    assert_eq!(write(V311, Some("text"), None), bytes("B0 02 1234"));
    assert_eq!(write(V5, None, None), bytes("B0 06 1234 00 00 11 87"));
    assert_eq!(
        write(V5, Some("text"), Some(15)),
        bytes("B0 0D 1234 07 1F 0004 'text' 00 11 87")
    );
    // [MQTT-3.11.2-1]
    assert_eq!(write(V5, Some("text"), Some(14)), bytes("B0 06 1234 00 00 11 87"));
    unsent(|out| unsuback(out, V5, 1, &codes, None, Some(7)));
    let valid = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
    for &reason in ReasonCode::ALL {
        let out = written(|out| unsuback(out, V5, 1, &[reason], None, None));
        let expected = if valid.contains(&(reason as u8)) {
            reason as u8
        } else {
            0x80
        };
        assert_eq!(out, [0xB0, 4, 0, 1, 0, expected]);
    }
}

#[test]
fn many_codes() {
    let codes = vec![ReasonCode::GrantedQoS1; 200];
    let list = "01".repeat(200);
    assert_eq!(
        written(|out| suback(out, V5, 1, &codes, None, None)),
        bytes(&format!("90 CB01 0001 00 {list}"))
    );
    assert_eq!(
        written(|out| suback(out, V311, 1, &codes, None, None)),
        bytes(&format!("90 CA01 0001 {list}"))
    );
}

#[test]
fn pingresps() {
    let mut out = vec![0xEE];
    pingresp(&mut out);
    assert_eq!(out, [0xEE, 0xD0, 0x00]);
}

#[test]
fn disconnects() {
    let write = |reason, text, reference, limit| written(|out| disconnect(out, reason, text, reference, limit));
    assert_eq!(write(ReasonCode::Success, None, None, None), bytes("E0 00"));
    assert_eq!(
        write(ReasonCode::ServerShuttingDown, None, None, Some(3)),
        bytes("E0 01 8B")
    );
    assert_eq!(
        write(ReasonCode::SessionTakenOver, Some("gone"), None, None),
        bytes("E0 09 8E 07 1F 0004 'gone'")
    );
    assert_eq!(
        write(ReasonCode::ServerMoved, None, Some("b:1"), None),
        bytes("E0 08 9D 06 1C 0003 'b:1'")
    );
    assert_eq!(
        write(ReasonCode::Success, Some(""), None, None),
        bytes("E0 05 00 03 1F 0000")
    );
    let both = "E0 0F 9C 0D 1F 0004 'gone' 1C 0003 'b:1'";
    assert_eq!(
        write(ReasonCode::UseAnotherServer, Some("gone"), Some("b:1"), Some(17)),
        bytes(both)
    );
    // [MQTT-3.14.2-3]
    let short = write(ReasonCode::UseAnotherServer, Some("gone"), Some("b:1"), Some(16));
    assert_eq!(short, bytes("E0 08 9C 06 1C 0003 'b:1'"));
    assert_eq!(
        write(ReasonCode::UseAnotherServer, Some("gone"), Some("b:1"), Some(9)),
        bytes("E0 01 9C")
    );
    unsent(|out| disconnect(out, ReasonCode::ServerBusy, None, None, Some(2)));
}

/// Table 3-10 of MQTT 5.0 [MQTT-3.14.2-1].
#[test]
fn disconnect_codes() {
    for &reason in ReasonCode::ALL {
        let out = written(|out| disconnect(out, reason, None, None, None));
        let expected = match reason as u8 {
            code @ (0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2) => code,
            0x86 | 0x8A | 0x8C => 0x87,
            0x88 => 0x89,
            0x00 => {
                assert_eq!(out, [0xE0, 0]);
                continue;
            }
            _ => 0x80,
        };
        assert_eq!(out, [0xE0, 1, expected], "{reason}");
    }
}

#[test]
fn auths() {
    let write =
        |data, text, limit| written(|out| auth(out, ReasonCode::ContinueAuthentication, "SCRAM", data, text, limit));
    assert_eq!(write(None, None, None), bytes("F0 0A 18 08 15 0005 'SCRAM'"));
    assert_eq!(
        write(Some(b"data"), None, None),
        bytes("F0 11 18 0F 15 0005 'SCRAM' 16 0004 'data'")
    );
    let all = "F0 17 18 15 15 0005 'SCRAM' 16 0004 'data' 1F 0003 'why'";
    assert_eq!(write(Some(b"data"), Some("why"), Some(25)), bytes(all));
    // [MQTT-3.15.2-2]
    assert_eq!(
        write(Some(b"data"), Some("why"), Some(24)),
        bytes("F0 11 18 0F 15 0005 'SCRAM' 16 0004 'data'")
    );
    unsent(|out| auth(out, ReasonCode::Success, "SCRAM", None, None, Some(11)));
    let long = "x".repeat(65_536);
    unsent(|out| auth(out, ReasonCode::Success, &long, None, None, None));
    unsent(|out| auth(out, ReasonCode::Success, "m", Some(long.as_bytes()), None, None));
    let longest = &long[1..];
    let out = written(|out| auth(out, ReasonCode::Success, "m", Some(longest.as_bytes()), None, None));
    assert_eq!(
        out,
        bytes(&format!("F0 8A8004 00 868004 15 0001 'm' 16 FFFF '{longest}'"))
    );
}

const REFUSED: Connack<'_> = Connack::new(ReasonCode::NotAuthorized, false);

#[test]
fn connacks_of_mqtt_3() {
    let write = |version, reason, session| {
        let mut out = vec![];
        let sent = connack(&mut out, version, &Connack::new(reason, session), None);
        assert_eq!(sent, !out.is_empty());
        out
    };
    assert_eq!(write(V311, ReasonCode::Success, false), [0x20, 2, 0, 0]);
    assert_eq!(write(V311, ReasonCode::Success, true), [0x20, 2, 1, 0]);
    assert_eq!(write(V31, ReasonCode::Success, true), [0x20, 2, 0, 0]);
    for (reason, code) in [
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
    ] {
        // [MQTT3-3.2.2-4]
        assert_eq!(write(V31, reason, true), [0x20, 2, 0, code]);
        assert_eq!(write(V311, reason, true), [0x20, 2, 0, code]);
    }
    // [MQTT3-3.2.2-6]
    assert!(write(V311, ReasonCode::MalformedPacket, false).is_empty());
}

#[test]
fn connacks_of_mqtt_5() {
    let write = |connack: &Connack<'_>, limit| written(|out| super::connack(out, V5, connack, limit));
    assert_eq!(
        write(&Connack::new(ReasonCode::Success, false), None),
        bytes("20 03 00 00 00")
    );
    assert_eq!(
        write(&Connack::new(ReasonCode::Success, true), None),
        bytes("20 03 01 00 00")
    );
    // [MQTT-3.2.2-6]
    assert_eq!(
        write(&Connack::new(ReasonCode::NotAuthorized, true), None),
        bytes("20 03 00 87 00")
    );
    let everything = Connack {
        session_expiry_interval: Some(0x01020304),
        receive_maximum: Some(0x0506),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(0x0708090A),
        assigned_client_identifier: Some("id"),
        topic_alias_maximum: Some(0x0B0C),
        reason_string: Some("why"),
        user_properties: &[("n", "v"), ("n", "w")],
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(true),
        shared_subscription_available: Some(false),
        server_keep_alive: Some(0x0D0E),
        response_information: Some("info"),
        server_reference: Some("b:1"),
        authentication_method: Some("m"),
        authentication_data: Some(&[0, 1]),
        ..Connack::new(ReasonCode::Success, true)
    };
    let expected = "20 4F 01 00 4C 11 01020304 21 0506 24 01 25 00 27 0708090A 12 0002 'id' 22 0B0C 1F 0003 'why' \
        26 0001 'n' 0001 'v' 26 0001 'n' 0001 'w' 28 01 29 01 2A 00 13 0D0E 1A 0004 'info' 1C 0003 'b:1' \
        15 0001 'm' 16 0002 0001";
    assert_eq!(write(&everything, None), bytes(expected));
}

/// Values that a CONNACK must not have are not written: their absence means the same, or is the lesser fault.
#[test]
fn connacks_have_no_invalid_values() {
    let invalid = Connack {
        maximum_qos: Some(QoS::ExactlyOnce),
        receive_maximum: Some(0),
        maximum_packet_size: Some(0),
        ..Connack::new(ReasonCode::Success, false)
    };
    assert_eq!(written(|out| connack(out, V5, &invalid, None)), bytes("20 03 00 00 00"));
}

/// [MQTT-3.2.2-19] [MQTT-3.2.2-20]
#[test]
fn a_connack_leaves_out_what_makes_it_too_large() {
    let refusal = Connack {
        reason_string: Some("why"),
        user_properties: &[("n", "v")],
        ..REFUSED
    };
    let write = |limit| written(|out| connack(out, V5, &refusal, Some(limit)));
    assert_eq!(write(18), bytes("20 10 00 87 0D 1F 0003 'why' 26 0001 'n' 0001 'v'"));
    assert_eq!(write(17), bytes("20 09 00 87 06 1F 0003 'why'"));
    assert_eq!(write(10), bytes("20 03 00 87 00"));
    assert_eq!(write(5), bytes("20 03 00 87 00"));
    unsent(|out| connack(out, V5, &refusal, Some(4)));
}

/// Table 3-1 of MQTT 5.0 [MQTT-3.2.2-8].
#[test]
fn connack_codes() {
    for &reason in ReasonCode::ALL {
        let out = written(|out| connack(out, V5, &Connack::new(reason, false), None));
        let expected = match reason as u8 {
            code @ (0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F) => code,
            0x8B => 0x88,
            _ => 0x80,
        };
        assert_eq!(out, [0x20, 3, 0, expected, 0], "{reason}");
    }
}

#[test]
fn properties_of_a_builder_go_into_a_publish() {
    let built = PropertiesBuilder::new()
        .content_type("text/plain")
        .and_then(|b| b.user_property("n", "v"));
    let properties = built.expect("valid").into_raw();
    let frame = PublishFrame {
        properties: &properties,
        payload: b"",
        ..SMALL
    };
    publishes(
        V5,
        &frame,
        "30 1A 0003 'a/b' 14 03 000A 'text/plain' 26 0001 'n' 0001 'v'",
    );
}
