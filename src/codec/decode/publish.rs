//! PUBLISH (section 3.3): the packet that decides how fast the broker is.

use super::{packet_id, properties};
use crate::codec::DecodeError;
use crate::codec::frame::Frame;
use crate::packet::{Packet, Publish, QoS, Version};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::topic::{self, TopicError};
use crate::wire::Reader;

/// A PUBLISH, made a packet where it is read: moving it once more would cost a good part of reading it.
#[inline]
pub(super) fn publish<'a>(version: Version, frame: &Frame<'a>) -> Result<Packet<'a>, DecodeError> {
    let (dup, qos, retain) = flags(frame.first_byte)?;
    // [MQTT-3.3.1-2] [MQTT3-3.3.1-2]
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("PUBLISH with DUP and QoS 0"));
    }
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
    match topic::validate_name(bytes) {
        Ok(name) => Ok(name),
        Err(TopicError::Empty) => Ok(""),
        Err(error) if error.is_malformed() => Err(DecodeError::malformed(error.as_str())),
        // [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-3.3.2-2] [MQTT3-4.7.1-1]
        Err(error) => Err(DecodeError::new(ReasonCode::TopicNameInvalid, error.as_str())),
    }
}
