//! The rules of the specification, one example or counterexample each.

mod acks;
mod connect;
mod publish;
mod subscribe;

use super::{connect as decode_connect, packet};
use crate::codec::DecodeError;
use crate::codec::frame::{Frame, MAX_PACKET_SIZE, parse};
use crate::codec::testing::bytes;
use crate::packet::Version::{V5, V31, V311};
use crate::packet::{Packet, Version};
use crate::reason::ReasonCode::{self, MalformedPacket, ProtocolError};

/// The only packet in these bytes.
fn frame(bytes: &[u8]) -> Frame<'_> {
    let frame = parse(bytes, MAX_PACKET_SIZE).expect("a frame").expect("a whole frame");
    assert_eq!(frame.size, bytes.len(), "one packet in {bytes:02X?}");
    frame
}

fn with_packet<T>(version: Version, notation: &str, f: impl FnOnce(Result<Packet<'_>, DecodeError>) -> T) -> T {
    let bytes = bytes(notation);
    f(packet(version, &frame(&bytes)))
}

#[track_caller]
fn accepted(versions: &[Version], packets: &[&str]) {
    for (&version, packet) in versions
        .iter()
        .flat_map(|version| packets.iter().map(move |packet| (version, packet)))
    {
        with_packet(version, packet, |result| {
            assert!(result.is_ok(), "{version} {packet}: {result:?}")
        });
    }
}

#[track_caller]
fn refused(versions: &[Version], reason: ReasonCode, packets: &[&str]) {
    for (&version, packet) in versions
        .iter()
        .flat_map(|version| packets.iter().map(move |packet| (version, packet)))
    {
        with_packet(version, packet, |result| {
            assert_eq!(result.map_err(|error| error.reason), Err(reason), "{version} {packet}");
        });
    }
}

#[test]
fn flags_of_the_fixed_header_are_fixed() {
    for (first, body) in [
        (0x40, "| 0001"),
        (0x50, "| 0001"),
        (0x62, "| 0001"),
        (0x70, "| 0001"),
        (0x82, "| 0001 {} s'p' 00"),
        (0xA2, "| 0001 {} s'p'"),
        (0xC0, "|"),
        (0xE0, "|"),
        (0xF0, "| 18 {15 s'm'}"),
    ] {
        for flags in 0..16_u8 {
            let packet = format!("{:02X} {body}", first & 0xF0 | flags);
            match flags == first & 0x0F {
                true => accepted(&[V5], &[&packet]),
                false => refused(&[V5], MalformedPacket, &[&packet]),
            }
        }
    }
    refused(
        &[V311],
        MalformedPacket,
        &[
            "60 | 0001",
            "6A | 0001",
            "80 | 0001 s'p' 00",
            "A0 | 0001 s'p'",
            "C1 |",
            "E1 |",
        ],
    );
}

#[test]
fn mqtt_3_1_sends_some_packets_at_qos_1_and_again_with_dup() {
    accepted(
        &[V31],
        &[
            "62 | 0001",
            "6A | 0001",
            "82 | 0001 s'p' 00",
            "8A | 0001 s'p' 00",
            "AA | 0001 s'p'",
        ],
    );
    accepted(&[V31], &["42 | 0001", "E8 |"]);
    refused(
        &[V31],
        MalformedPacket,
        &[
            "60 | 0001",
            "64 | 0001",
            "66 | 0001",
            "86 | 0001 s'p' 00",
            "A0 | 0001 s'p'",
        ],
    );
}

#[test]
fn packets_of_servers_and_reserved_types_are_refused() {
    refused(
        &[V31, V311, V5],
        ProtocolError,
        &["20 | 0000", "90 | 0001 00", "B0 | 0001", "D0 |"],
    );
    refused(&[V31, V311], MalformedPacket, &["F0 |", "F0 | 18 {15 s'm'}"]);
    let reserved = Frame {
        first_byte: 0,
        body: &[],
        size: 2,
    };
    assert_eq!(
        packet(V5, &reserved).map_err(|error| error.reason),
        Err(MalformedPacket)
    );
}

#[test]
fn a_second_connect_is_seen_whatever_is_in_it() {
    for notation in ["10 |", "10 | s'MQTT' 05 02 0000 {} s'p'"] {
        with_packet(V5, notation, |result| assert_eq!(result, Ok(Packet::Connect)));
    }
}

#[test]
fn pingreq_is_empty() {
    with_packet(V5, "C0 |", |result| assert_eq!(result, Ok(Packet::Pingreq)));
    refused(&[V31, V311, V5], MalformedPacket, &["C0 | 00"]);
}

#[test]
fn errors_say_what_is_wrong() {
    let error = with_packet(V5, "C0 | 00", |result| result.expect_err("refused"));
    assert_eq!(error.to_string(), "Malformed Packet (0x81): PINGREQ with a body");
}

/// A property with a value that is valid wherever the property is.
fn valid_property(id: u8) -> &'static str {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => "01",
        0x02 | 0x11 | 0x18 | 0x27 => "00000001",
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => "s'v'",
        0x0B => "8001",
        0x13 | 0x21 | 0x22 | 0x23 => "0001",
        0x26 => "s'n' s'v'",
        _ => "",
    }
}

/// What decoding a packet with this property block gives.
fn with_properties(packet: &str, block: &str) -> Result<(), ReasonCode> {
    let notation = packet.replace("{}", &format!("{{{block}}}"));
    match notation.strip_prefix("10 ") {
        Some(_) => connect::refusal(&notation),
        None => with_packet(V5, &notation, |result| result.map(drop).map_err(|error| error.reason)),
    }
}

/// Table 2-4: a property is valid in some packets, malformed in all others [section 2.2.2.2], and a Protocol Error if
/// it is there twice, unless it is a User Property.
#[test]
fn properties_belong_to_their_packets() {
    const CONNECT: &[u8] = &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27];
    let ack = &[0x1F, 0x26][..];
    for (packet, allowed) in [
        ("10 | s'MQTT' 05 02 0000 {} s'c'", CONNECT),
        (
            "10 | s'MQTT' 05 06 0000 00 s'c' {} s'w' s''",
            &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
        ),
        ("30 | s't' {}", &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26]),
        ("40 | 0001 00 {}", ack),
        ("50 | 0001 00 {}", ack),
        ("62 | 0001 00 {}", ack),
        ("70 | 0001 00 {}", ack),
        ("82 | 0001 {} s'f' 00", &[0x0B, 0x26]),
        ("A2 | 0001 {} s'f'", &[0x26]),
        ("E0 | 00 {}", &[0x11, 0x1C, 0x1F, 0x26]),
        ("F0 | 18 {}", &[0x15, 0x16, 0x1F, 0x26]),
    ] {
        for id in 0..=0xFF {
            properties_belong_to_packet(packet, allowed, id);
        }
    }
}

fn properties_belong_to_packet(packet: &str, allowed: &[u8], id: u8) {
    let one = format!("{id:02X} {}", valid_property(id));
    let two = format!("{one} {one}");
    // Data needs a method, which AUTH always has.
    let method = match (packet.starts_with("F0"), id) {
        (true, 0x15) | (false, 0..=0x15 | 0x17..) => "",
        _ => "15 s'm'",
    };
    let (first, second) = match id {
        0x26 => (Ok(()), Ok(())),
        0x0B if packet.starts_with("30") => (Err(ProtocolError), Err(ProtocolError)),
        _ if allowed.contains(&id) => (Ok(()), Err(ProtocolError)),
        _ => (Err(MalformedPacket), Err(MalformedPacket)),
    };
    assert_eq!(
        with_properties(packet, &format!("{method} {one}")),
        first,
        "{id:#04X} in {packet}"
    );
    assert_eq!(
        with_properties(packet, &format!("{method} {two}")),
        second,
        "twice {id:#04X} in {packet}"
    );
}

/// Every property must end where the block ends.
#[test]
fn properties_are_not_cut_short() {
    for (packet, ids) in [
        (
            "10 | s'MQTT' 05 02 0000 {} s'c'",
            &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27][..],
        ),
        ("30 | s't' {} 'payload'", &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26]),
        ("82 | 0001 {} s'f' 00", &[0x0B, 0x26]),
        ("E0 | 00 {}", &[0x11, 0x1C, 0x1F, 0x26]),
    ] {
        for &id in ids {
            let whole = bytes(&format!("{id:02X} {}", valid_property(id)));
            for end in 1..whole.len() {
                let cut: String = whole[..end].iter().map(|byte| format!("{byte:02X}")).collect();
                assert_eq!(with_properties(packet, &cut), Err(MalformedPacket), "{cut} in {packet}");
            }
        }
    }
}

#[test]
fn a_property_length_is_minimal_and_within_the_packet() {
    refused(
        &[V5],
        MalformedPacket,
        &[
            "30 | s't'",
            "30 | s't' 01",
            "30 | s't' 02 01",
            "30 | s't' 80",
            "30 | s't' 8000",
            "30 | s't' 80808000",
            "30 | s't' 8080808001",
            "30 | s't' FFFFFF7F",
            "30 | s't' {8100 01}",
            "82 | 0001 {0B 8000} s'f' 00",
            "82 | 0001 {0B 8080808001} s'f' 00",
            "40 | 0001 00 8000",
        ],
    );
    accepted(&[V5], &["82 | 0001 {0B FFFFFF7F} s'f' 00"]);
}

#[test]
fn values_out_of_range_are_protocol_errors() {
    for (packet, properties) in [
        (
            "10 | s'MQTT' 05 02 0000 {} s'c'",
            &["17 02", "19 02", "21 0000", "27 00000000", "16 s'd'"][..],
        ),
        (
            "10 | s'MQTT' 05 06 0000 00 s'c' {} s'w' s''",
            &["01 02", "08 s'a/+'", "08 s'#'", "08 s''"],
        ),
        (
            "30 | s't' {}",
            &["01 02", "01 FF", "08 s'a/+'", "08 s'#'", "08 s''", "0B 01"],
        ),
        ("82 | 0001 {} s'f' 00", &["0B 00"]),
        ("F0 | 18 {}", &["16 s'd'", "", "1F s'reason'"]),
    ] {
        for property in properties {
            assert_eq!(
                with_properties(packet, property),
                Err(ProtocolError),
                "{property} in {packet}"
            );
        }
    }
    assert_eq!(
        with_properties("30 | s't' {}", "23 0000"),
        Err(ReasonCode::TopicAliasInvalid)
    );
    for valid in [
        "21 FFFF",
        "27 FFFFFFFF",
        "17 00",
        "19 00",
        "22 0000",
        "11 FFFFFFFF",
        "15 s'' 16 s''",
    ] {
        assert_eq!(
            with_properties("10 | s'MQTT' 05 02 0000 {} s'c'", valid),
            Ok(()),
            "{valid}"
        );
    }
}

#[test]
fn strings_are_utf_8_without_null() {
    // U+0000, a surrogate, a continuation byte alone, an overlong slash, U+110000, a sequence cut short.
    for bad in [
        "00", "61 00 62", "EDA080", "EDBFBF", "80", "C0AF", "F4908080", "FF", "E282", "C080",
    ] {
        let length = bytes(bad).len();
        let string = format!("{length:04X} {bad}");
        refused(
            &[V31, V311],
            MalformedPacket,
            &[
                &format!("30 | {string}"),
                &format!("82 | 0001 {string} 00"),
                &format!("82 | 0001 s'f' 00 {string} 00"),
                &format!("A2 | 0001 {string}"),
            ],
        );
        refused(
            &[V5],
            MalformedPacket,
            &[
                &format!("30 | {string} {{}}"),
                &format!("30 | s't' {{03 {string}}}"),
                &format!("30 | s't' {{08 {string}}}"),
                &format!("30 | s't' {{26 {string} s'v'}}"),
                &format!("30 | s't' {{26 s'n' {string}}}"),
                &format!("82 | 0001 {{}} {string} 00"),
                &format!("A2 | 0001 {{}} {string}"),
                &format!("40 | 0001 00 {{1F {string}}}"),
                &format!("E0 | 00 {{1F {string}}}"),
                &format!("F0 | 18 {{15 {string}}}"),
            ],
        );
        connect::strings(&string);
    }
}

/// Control and non-characters are discouraged, not forbidden; a byte order mark is kept [MQTT-1.5.4-3].
#[test]
fn other_characters_pass() {
    for good in ["01", "1F", "7F", "C29F", "EFBFBF", "EFBBBF 61", "F0AA9B94", "F48FBFBF"] {
        let length = bytes(good).len();
        accepted(
            &[V5],
            &[
                &format!("30 | {length:04X} {good} {{}}"),
                &format!("82 | 0001 {{}} {length:04X} {good} 00"),
            ],
        );
    }
    with_packet(V311, "30 | 0004 EFBBBF 61", |result| {
        assert!(matches!(result, Ok(Packet::Publish(publish)) if publish.topic == "\u{FEFF}a"));
    });
}
