//! The packets that a server sends.

use crate::codec::frame::Frame;
use crate::packet::{QoS, Version};
use crate::properties::Properties;
use crate::wire::{Malformed, Reader};

/// A packet of the server, with what clients of this program look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'a> {
    Connack {
        session_present: bool,
        reason: u8,
        properties: Properties<'a>,
    },
    Publish(InboundPublish<'a>),
    Puback {
        packet_id: u16,
        reason: u8,
    },
    Pubrec {
        packet_id: u16,
        reason: u8,
    },
    Pubrel {
        packet_id: u16,
        reason: u8,
    },
    Pubcomp {
        packet_id: u16,
        reason: u8,
    },
    Suback {
        packet_id: u16,
        reason: u8,
    },
    Unsuback {
        packet_id: u16,
        reason: u8,
    },
    Pingresp,
    Disconnect {
        reason: u8,
        properties: Properties<'a>,
    },
}

/// A PUBLISH of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InboundPublish<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) topic: &'a [u8],
    /// 0 for QoS 0.
    pub(crate) packet_id: u16,
    pub(crate) properties: Properties<'a>,
    pub(crate) payload: &'a [u8],
}

/// The packet in this frame.
///
/// # Errors
/// If it ends too early, or is none that a server sends.
#[inline]
pub(crate) fn parse<'a>(version: Version, frame: &Frame<'a>) -> Result<Inbound<'a>, Malformed> {
    let mut reader = Reader::new(frame.body);
    if frame.first_byte >> 4 == 3 {
        return publish(version, frame.first_byte, &mut reader).map(Inbound::Publish);
    }
    match frame.first_byte >> 4 {
        2 => Ok(Inbound::Connack {
            session_present: reader.u8()? & 1 != 0,
            reason: reader.u8()?,
            properties: last_properties(version, &mut reader)?,
        }),
        4 => with_reason(&mut reader).map(|(packet_id, reason)| Inbound::Puback { packet_id, reason }),
        5 => with_reason(&mut reader).map(|(packet_id, reason)| Inbound::Pubrec { packet_id, reason }),
        6 => with_reason(&mut reader).map(|(packet_id, reason)| Inbound::Pubrel { packet_id, reason }),
        7 => with_reason(&mut reader).map(|(packet_id, reason)| Inbound::Pubcomp { packet_id, reason }),
        9 => suback(version, &mut reader),
        11 => unsuback(version, &mut reader),
        13 => Ok(Inbound::Pingresp),
        14 => Ok(Inbound::Disconnect {
            reason: reader.u8().unwrap_or(0),
            properties: last_properties(version, &mut reader)?,
        }),
        _ => Err(Malformed("a packet that no server sends")),
    }
}

#[inline]
fn publish<'a>(version: Version, first_byte: u8, reader: &mut Reader<'a>) -> Result<InboundPublish<'a>, Malformed> {
    let qos = QoS::from_u8((first_byte >> 1) & 3).ok_or(Malformed("PUBLISH with QoS 3"))?;
    let topic = reader.binary()?;
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.u16()? };
    let properties = if version.is_v5() {
        properties(reader)?
    } else {
        Properties::EMPTY
    };
    Ok(InboundPublish {
        qos,
        retain: first_byte & 1 != 0,
        topic,
        packet_id,
        properties,
        payload: reader.rest(),
    })
}

/// The Packet Identifier, and the Reason Code, which is Success where there is none.
fn with_reason(reader: &mut Reader<'_>) -> Result<(u16, u8), Malformed> {
    Ok((reader.u16()?, reader.u8().unwrap_or(0)))
}

fn suback<'a>(version: Version, reader: &mut Reader<'_>) -> Result<Inbound<'a>, Malformed> {
    let packet_id = reader.u16()?;
    if version.is_v5() {
        properties(reader)?;
    }
    Ok(Inbound::Suback {
        packet_id,
        reason: reader.u8()?,
    })
}

/// MQTT 3 has no Reason Code here.
fn unsuback<'a>(version: Version, reader: &mut Reader<'_>) -> Result<Inbound<'a>, Malformed> {
    let packet_id = reader.u16()?;
    let mut reason = 0;
    if version.is_v5() {
        properties(reader)?;
        reason = reader.u8()?;
    }
    Ok(Inbound::Unsuback { packet_id, reason })
}

/// A property block. It is taken as it is: what does not belong there is not looked at.
#[inline]
fn properties<'a>(reader: &mut Reader<'a>) -> Result<Properties<'a>, Malformed> {
    let length = reader.varint()?;
    Ok(Properties::from_checked(reader.bytes(length as usize)?))
}

/// The properties at the end of a packet: it may end without any, as a CONNACK does that answers a client of MQTT 5.0
/// in the words of MQTT 3.
fn last_properties<'a>(version: Version, reader: &mut Reader<'a>) -> Result<Properties<'a>, Malformed> {
    if version.is_v5() && !reader.is_empty() {
        properties(reader)
    } else {
        Ok(Properties::EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::frame;

    fn parsed(version: Version, bytes: &[u8]) -> Result<Inbound<'_>, Malformed> {
        let frame = frame::parse(bytes, u32::MAX).expect("valid").expect("whole");
        parse(version, &frame)
    }

    #[test]
    fn packets_of_a_server() {
        let publish = InboundPublish {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: b"a",
            packet_id: 7,
            properties: Properties::EMPTY,
            payload: b"x",
        };
        assert_eq!(
            parsed(Version::V311, &[0x33, 6, 0, 1, b'a', 0, 7, b'x']),
            Ok(Inbound::Publish(publish))
        );
        assert_eq!(
            parsed(Version::V5, &[0x33, 9, 0, 1, b'a', 0, 7, 2, 1, 0, b'x']),
            Ok(Inbound::Publish(InboundPublish {
                properties: Properties::from_checked(&[1, 0]),
                ..publish
            }))
        );
        assert_eq!(
            parsed(Version::V5, &[0x40, 3, 0, 7, 0x10]),
            Ok(Inbound::Puback {
                packet_id: 7,
                reason: 0x10
            })
        );
        assert_eq!(
            parsed(Version::V5, &[0x90, 4, 0, 7, 0, 0x80]),
            Ok(Inbound::Suback {
                packet_id: 7,
                reason: 0x80
            })
        );
        assert_eq!(
            parsed(Version::V5, &[0x70, 3, 0, 7, 0x92]),
            Ok(Inbound::Pubcomp {
                packet_id: 7,
                reason: 0x92
            })
        );
        assert_eq!(
            parsed(Version::V311, &[0x62, 2, 0, 7]),
            Ok(Inbound::Pubrel {
                packet_id: 7,
                reason: 0
            })
        );
        for (version, bytes, reason) in [
            (Version::V311, &[0xB0, 2, 0, 7][..], 0),
            (Version::V5, &[0xB0, 4, 0, 7, 0, 0x87], 0x87),
        ] {
            let unsuback = Inbound::Unsuback { packet_id: 7, reason };
            assert_eq!(parsed(version, bytes), Ok(unsuback));
        }
        for (version, bytes, reason, properties) in [
            (Version::V311, &[0xE0, 0][..], 0, Properties::EMPTY),
            (Version::V5, &[0xE0, 1, 0x8B], 0x8B, Properties::EMPTY),
            (
                Version::V5,
                &[0xE0, 6, 0x8B, 4, 0x1F, 0, 1, b'x'],
                0x8B,
                Properties::from_checked(&[0x1F, 0, 1, b'x']),
            ),
        ] {
            assert_eq!(parsed(version, bytes), Ok(Inbound::Disconnect { reason, properties }));
        }
        for (version, bytes) in [
            (Version::V311, &[0x20, 2, 1, 0][..]),
            (Version::V5, &[0x20, 3, 1, 0, 0]),
        ] {
            let connack = Inbound::Connack {
                session_present: true,
                reason: 0,
                properties: Properties::EMPTY,
            };
            assert_eq!(parsed(version, bytes), Ok(connack));
        }
        assert!(parsed(Version::V5, &[0x30, 4, 0, 1, b'a', 9]).is_err());
        assert!(parsed(Version::V311, &[0x82, 2, 0, 1]).is_err());
    }
}
