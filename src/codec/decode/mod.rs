//! Reading the packets that a client sends. Nothing is allocated, and every byte is looked at a bounded number of times.

mod acks;
mod connect;
mod disconnect;
mod properties;
mod publish;
mod subscribe;
#[cfg(test)]
mod tests;

pub use connect::{ConnectError, connect};

use super::frame::Frame;
use super::{DecodeError, reasons};
use crate::packet::{Packet, Version};
use crate::wire::Reader;

/// Packet types (table 2-1), as they stand in the upper half of the first byte.
mod packet_type {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const PUBREC: u8 = 5;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const PUBCOMP: u8 = 7;
    pub(super) const SUBSCRIBE: u8 = 8;
    pub(super) const UNSUBSCRIBE: u8 = 10;
    pub(super) const PINGREQ: u8 = 12;
    pub(super) const DISCONNECT: u8 = 14;
    pub(super) const AUTH: u8 = 15;
}

/// The packet in this frame, which is not the first of its connection.
///
/// # Errors
/// If the packet is one that a client may not send, whatever the state of its session.
#[inline]
pub fn packet<'a>(version: Version, frame: &Frame<'a>) -> Result<Packet<'a>, DecodeError> {
    if frame.first_byte >> 4 == packet_type::PUBLISH {
        return publish::publish(version, frame);
    }
    other_packet(version, frame)
}

fn other_packet<'a>(version: Version, frame: &Frame<'a>) -> Result<Packet<'a>, DecodeError> {
    check_flags(version, frame.first_byte)?;
    match frame.first_byte >> 4 {
        packet_type::CONNECT => Ok(Packet::Connect),
        packet_type::PUBACK => acks::ack(version, frame.body, reasons::in_puback, Packet::Puback),
        packet_type::PUBREC => acks::ack(version, frame.body, reasons::in_puback, Packet::Pubrec),
        packet_type::PUBREL => acks::ack(version, frame.body, reasons::in_pubrel, Packet::Pubrel),
        packet_type::PUBCOMP => acks::ack(version, frame.body, reasons::in_pubrel, Packet::Pubcomp),
        packet_type::SUBSCRIBE => subscribe::subscribe(version, frame.body).map(Packet::Subscribe),
        packet_type::UNSUBSCRIBE => subscribe::unsubscribe(version, frame.body).map(Packet::Unsubscribe),
        packet_type::PINGREQ if frame.body.is_empty() => Ok(Packet::Pingreq),
        packet_type::PINGREQ => Err(DecodeError::malformed("PINGREQ with a body")),
        packet_type::DISCONNECT => disconnect::disconnect(version, frame.body).map(Packet::Disconnect),
        packet_type::AUTH if version.is_v5() => disconnect::auth(frame.body).map(Packet::Auth),
        0 | packet_type::AUTH => Err(DecodeError::malformed("packet type is forbidden")),
        _ => Err(DecodeError::protocol("packet type that only a server sends")),
    }
}

/// The lower half of the first byte is fixed for every type but PUBLISH [MQTT-2.1.3-1] [MQTT3-2.2.2-1] [MQTT3-2.2.2-2]:
/// 2 for PUBREL [MQTT-3.6.1-1] [MQTT3-3.6.1-1], SUBSCRIBE [MQTT-3.8.1-1] [MQTT3-3.8.1-1] and UNSUBSCRIBE
/// [MQTT-3.10.1-1] [MQTT3-3.10.1-1], 0 for the rest [MQTT-3.14.1-1] [MQTT3-3.14.1-1] [MQTT-3.15.1-1].
fn check_flags(version: Version, first_byte: u8) -> Result<(), DecodeError> {
    let expected = match first_byte >> 4 {
        packet_type::PUBREL | packet_type::SUBSCRIBE | packet_type::UNSUBSCRIBE => 0b0010,
        _ => 0b0000,
    };
    // MQTT 3.1 sends these three at QoS 1, sets DUP when it sends them again, and calls all other bits "not used".
    let significant = match (version, expected) {
        (Version::V31, 0) => 0b0000,
        (Version::V31, _) => 0b0110,
        _ => 0b1111,
    };
    if first_byte & significant == expected {
        return Ok(());
    }
    Err(DecodeError::malformed("invalid fixed header flags"))
}

/// A Packet Identifier, which is never 0 [MQTT-2.2.1-3] [MQTT3-2.3.1-1].
#[inline]
fn packet_id(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    match reader.u16()? {
        0 => Err(DecodeError::protocol("Packet Identifier is 0")),
        id => Ok(id),
    }
}

/// Refuses bytes after the last field.
#[inline]
fn at_end(reader: &Reader<'_>) -> Result<(), DecodeError> {
    if reader.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::malformed("bytes after the last field"))
    }
}
