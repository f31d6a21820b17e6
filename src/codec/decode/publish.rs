//! PUBLISH (section 3.3): the packet that decides how fast the broker is.

use super::{packet_id, properties};
use crate::codec::DecodeError;
use crate::codec::frame::Frame;
use crate::packet::{Packet, Publish, QoS, Version};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::wire::{Reader, text, utf8};

/// A PUBLISH, made a packet where it is read: moving it once more would cost a good part of reading it.
#[inline]
pub(super) fn publish<'a>(version: Version, frame: &Frame<'a>) -> Result<Packet<'a>, DecodeError> {
    let (dup, qos, retain) = flags(frame.first_byte)?;
    let mut reader = Reader::new(frame.body);
    // The Topic Name is the first field [MQTT-3.3.2-1] [MQTT3-3.3.2-1].
    let topic = topic_name(reader.binary()?)?;
    // There is an identifier if, and only if, the QoS is not 0 [MQTT-2.2.1-2] [MQTT3-2.3.1-5].
    let packet_id = if qos == QoS::AtMostOnce {
        0
    } else {
        packet_id(&mut reader)?
    };
    let found = if version.is_v5() {
        Found::read(&mut reader)?
    } else {
        Found::default()
    };
    let Found {
        properties,
        message_expiry_interval,
        topic_alias,
    } = found;
    if topic.is_empty() && topic_alias.is_none() {
        return Err(DecodeError::protocol("PUBLISH with neither Topic Name nor Topic Alias"));
    }
    let payload = reader.rest();
    let publish = Publish {
        dup,
        qos,
        retain,
        topic,
        packet_id,
        message_expiry_interval,
        topic_alias,
        properties,
        payload,
    };
    Ok(Packet::Publish(publish))
}

/// DUP, QoS and RETAIN.
#[inline]
fn flags(first_byte: u8) -> Result<(bool, QoS, bool), DecodeError> {
    // [MQTT-3.3.1-4] [MQTT3-3.3.1-4]
    let qos = QoS::from_u8((first_byte >> 1) & 0b11).ok_or(DecodeError::malformed("PUBLISH with QoS 3"))?;
    let dup = first_byte & 0b1000 != 0;
    // [MQTT-3.3.1-2] [MQTT3-3.3.1-2]
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("PUBLISH with DUP and QoS 0"));
    }
    Ok((dup, qos, first_byte & 1 != 0))
}

/// The properties, and what the broker itself needs of them.
#[derive(Default)]
struct Found<'a> {
    properties: Properties<'a>,
    message_expiry_interval: Option<u32>,
    topic_alias: Option<u16>,
}

impl<'a> Found<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Found<'a>, DecodeError> {
        let mut found = Found::default();
        let mut subscription_identifier = false;
        found.properties = properties::block(reader, properties::PUBLISH, |property| match property {
            Property::MessageExpiryInterval(seconds) => found.message_expiry_interval = Some(seconds),
            Property::TopicAlias(alias) => found.topic_alias = Some(alias),
            Property::SubscriptionIdentifier(_) => subscription_identifier = true,
            _ => {}
        })?;
        // [MQTT-3.3.4-6]
        if subscription_identifier {
            return Err(DecodeError::protocol(
                "PUBLISH of a client with a Subscription Identifier",
            ));
        }
        Ok(found)
    }
}

/// A Topic Name, which may be empty here.
#[inline]
pub(super) fn topic_name(bytes: &[u8]) -> Result<&str, DecodeError> {
    if has_unwanted(bytes) {
        return Err(unwanted_byte(bytes));
    }
    Ok(utf8(bytes)?)
}

/// Whether there is a U+0000, `+` or `#`.
///
/// Eight bytes at a time, the last eight of them possibly for the second time: a loop over bytes is three times slower,
/// because the compiler does not reliably find this.
#[inline]
fn has_unwanted(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|byte| matches!(byte, 0 | b'+' | b'#'));
    };
    let (chunks, _) = bytes.as_chunks::<8>();
    let found = chunks
        .iter()
        .fold(unwanted_in(*last), |found, chunk| found | unwanted_in(*chunk));
    found != 0
}

/// Not 0 if one of these bytes is unwanted. `+` and `#` differ in one bit only.
#[inline]
const fn unwanted_in(chunk: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(chunk);
    let wildcard = (word & !(EACH * (b'+' ^ b'#') as u64)) ^ (EACH * b'#' as u64);
    zero_in(word) | zero_in(wildcard)
}

/// Not 0 if one of the bytes of this word is 0: only then does subtracting 1 from each byte set a highest bit that was
/// not set before.
#[inline]
const fn zero_in(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

#[cold]
fn unwanted_byte(bytes: &[u8]) -> DecodeError {
    if let Err(malformed) = text(bytes) {
        return malformed.into();
    }
    // [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-3.3.2-2] [MQTT3-4.7.1-1]
    DecodeError::new(ReasonCode::TopicNameInvalid, "Topic Name with a wildcard")
}

#[cfg(test)]
mod tests {
    use super::has_unwanted;

    /// Every byte at every place in texts of many lengths, between all kinds of neighbours.
    #[test]
    fn unwanted_bytes_are_found_wherever_they_are() {
        for neighbour in [b'a', 0x01, 0x7F, 0x80, 0xFF, b'*', b'$', b'"', b','] {
            for length in 0..=40 {
                let mut bytes = vec![neighbour; length];
                assert!(!has_unwanted(&bytes));
                for at in 0..length {
                    for byte in 0..=u8::MAX {
                        bytes[at] = byte;
                        assert_eq!(
                            has_unwanted(&bytes),
                            matches!(byte, 0 | b'+' | b'#'),
                            "{byte:#04X} at {at}"
                        );
                    }
                    bytes[at] = neighbour;
                }
            }
        }
    }
}
