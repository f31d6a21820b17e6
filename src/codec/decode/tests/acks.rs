use super::*;
use crate::packet::{Ack, Auth, Disconnect};
use crate::properties::Properties;

#[test]
fn acks_of_every_length() {
    let block = bytes("1F s'why' 26 s'n' s'v'");
    let plain = Ack {
        packet_id: 0x1234,
        reason: ReasonCode::Success,
        properties: Properties::EMPTY,
    };
    let not_found = Ack {
        reason: ReasonCode::PacketIdentifierNotFound,
        ..plain
    };
    let with_properties = Ack {
        properties: Properties::from_checked(&block),
        ..not_found
    };
    for version in [V31, V311, V5] {
        with_packet(version, "40 | 1234", |result| {
            assert_eq!(result, Ok(Packet::Puback(plain)))
        });
        with_packet(version, "50 | 1234", |result| {
            assert_eq!(result, Ok(Packet::Pubrec(plain)))
        });
        with_packet(version, "62 | 1234", |result| {
            assert_eq!(result, Ok(Packet::Pubrel(plain)))
        });
        with_packet(version, "70 | 1234", |result| {
            assert_eq!(result, Ok(Packet::Pubcomp(plain)))
        });
    }
    with_packet(V5, "62 | 1234 92", |result| {
        assert_eq!(result, Ok(Packet::Pubrel(not_found)))
    });
    with_packet(V5, "62 | 1234 92 {}", |result| {
        assert_eq!(result, Ok(Packet::Pubrel(not_found)))
    });
    with_packet(V5, "70 | 1234 92 {1F s'why' 26 s'n' s'v'}", |result| {
        assert_eq!(result, Ok(Packet::Pubcomp(with_properties)));
    });
    assert_eq!(with_properties.properties.reason_string(), Some("why"));
}

#[test]
fn acks_have_no_more_and_no_less() {
    for first in ["40", "50", "62", "70"] {
        refused(
            &[V31, V311, V5],
            MalformedPacket,
            &[&format!("{first} |"), &format!("{first} | 01")],
        );
        refused(
            &[V31, V311],
            MalformedPacket,
            &[&format!("{first} | 0001 00"), &format!("{first} | 0001 00 00")],
        );
        refused(&[V31, V311, V5], ProtocolError, &[&format!("{first} | 0000")]);
        refused(
            &[V5],
            MalformedPacket,
            &[&format!("{first} | 0001 00 {{}} 00"), &format!("{first} | 0001 00 01")],
        );
    }
}

#[test]
fn reason_codes_belong_to_their_packets() {
    let publish = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99][..];
    let release = &[0x00, 0x92];
    let disconnect = &[
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ];
    for (packet, valid) in [
        ("40 | 0001", publish),
        ("50 | 0001", publish),
        ("62 | 0001", release),
        ("70 | 0001", release),
        ("E0 |", disconnect),
    ] {
        for code in 0..=0xFF {
            let notation = [format!("{packet} {code:02X}"), format!("{packet} {code:02X} {{}}")];
            match valid.contains(&code) {
                true => accepted(&[V5], &[&notation[0], &notation[1]]),
                false => refused(&[V5], ProtocolError, &[&notation[0], &notation[1]]),
            }
        }
    }
    for code in 0..=0xFF {
        let notation = format!("F0 | {code:02X} {{15 s'm'}}");
        match code {
            0x18 | 0x19 => accepted(&[V5], &[&notation]),
            _ => refused(&[V5], ProtocolError, &[&notation]),
        }
    }
}

#[test]
fn disconnects_of_every_length() {
    let normal = Disconnect {
        reason: ReasonCode::Success,
        session_expiry_interval: None,
        properties: Properties::EMPTY,
    };
    for version in [V31, V311, V5] {
        with_packet(version, "E0 |", |result| {
            assert_eq!(result, Ok(Packet::Disconnect(normal)))
        });
    }
    refused(&[V31, V311], MalformedPacket, &["E0 | 00", "E0 | 00 00"]);
    let with_will = Disconnect {
        reason: ReasonCode::DisconnectWithWillMessage,
        ..normal
    };
    with_packet(V5, "E0 | 04", |result| {
        assert_eq!(result, Ok(Packet::Disconnect(with_will)))
    });
    with_packet(V5, "E0 | 04 {}", |result| {
        assert_eq!(result, Ok(Packet::Disconnect(with_will)))
    });
    let block = bytes("11 FFFFFFFF 1F s'bye'");
    let long = Disconnect {
        session_expiry_interval: Some(u32::MAX),
        properties: Properties::from_checked(&block),
        ..normal
    };
    with_packet(V5, "E0 | 00 {11 FFFFFFFF 1F s'bye'}", |result| {
        assert_eq!(result, Ok(Packet::Disconnect(long)))
    });
    refused(&[V5], MalformedPacket, &["E0 | 00 {} 00", "E0 | 00 01"]);
}

#[test]
fn auth_names_its_method() {
    let block = bytes("15 s'SCRAM' 16 s'data'");
    let expected = Auth {
        reason: ReasonCode::ContinueAuthentication,
        method: Some("SCRAM"),
        data: Some(b"data"),
        properties: Properties::from_checked(&block),
    };
    with_packet(V5, "F0 | 18 {15 s'SCRAM' 16 s'data'}", |result| {
        assert_eq!(result, Ok(Packet::Auth(expected)))
    });
    refused(&[V5], ProtocolError, &["F0 |", "F0 | 18 {}", "F0 | 19 {16 s'data'}"]);
    refused(&[V5], MalformedPacket, &["F0 | 18", "F0 | 18 {15 s'm'} 00"]);
}
