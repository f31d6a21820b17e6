//! PUBLISH (section 3.3): the packet that decides how fast the broker is.

use super::{packet_id, properties};
use crate::codec::DecodeError;
use crate::codec::frame::Frame;
use crate::packet::{Publish, QoS, Version};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::wire::{Reader, text, utf8};

#[inline]
pub(super) fn publish<'a>(version: Version, frame: &Frame<'a>) -> Result<Publish<'a>, DecodeError> {
    let flags = frame.first_byte & 0x0F;
    // [MQTT-3.3.1-4] [MQTT3-3.3.1-4]
    let qos = QoS::from_u8((flags >> 1) & 0b11).ok_or(DecodeError::malformed("PUBLISH with QoS 3"))?;
    let dup = flags & 0b1000 != 0;
    // [MQTT-3.3.1-2] [MQTT3-3.3.1-2]
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("PUBLISH with DUP and QoS 0"));
    }
    let mut reader = Reader::new(frame.body);
    // The Topic Name is the first field [MQTT-3.3.2-1] [MQTT3-3.3.2-1].
    let topic = reader.binary()?;
    // There is an identifier if, and only if, the QoS is not 0 [MQTT-2.2.1-2] [MQTT3-2.3.1-5].
    let packet_id = if qos == QoS::AtMostOnce {
        0
    } else {
        packet_id(&mut reader)?
    };
    let mut publish = Publish {
        dup,
        qos,
        retain: flags & 1 != 0,
        topic: topic_name(topic)?,
        packet_id,
        message_expiry_interval: None,
        topic_alias: None,
        properties: Properties::EMPTY,
        payload: &[],
    };
    if version.is_v5() {
        read_properties(&mut publish, &mut reader)?;
    }
    publish.payload = reader.rest();
    if topic.is_empty() && publish.topic_alias.is_none() {
        return Err(DecodeError::protocol("PUBLISH with neither Topic Name nor Topic Alias"));
    }
    Ok(publish)
}

#[inline]
fn read_properties<'a>(publish: &mut Publish<'a>, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
    let mut subscription_identifier = false;
    publish.properties = properties::block(reader, properties::PUBLISH, |property| match property {
        Property::MessageExpiryInterval(seconds) => publish.message_expiry_interval = Some(seconds),
        Property::TopicAlias(alias) => publish.topic_alias = Some(alias),
        Property::SubscriptionIdentifier(_) => subscription_identifier = true,
        _ => {}
    })?;
    // [MQTT-3.3.4-6]
    if subscription_identifier {
        return Err(DecodeError::protocol(
            "PUBLISH of a client with a Subscription Identifier",
        ));
    }
    Ok(())
}

/// A Topic Name, which may be empty here.
#[inline]
pub(super) fn topic_name(bytes: &[u8]) -> Result<&str, DecodeError> {
    // Folded without a branch, so that the compiler can look at many bytes at a time.
    let unwanted = bytes.iter().fold(false, |found, &byte| {
        found | (byte == 0) | (byte == b'+') | (byte == b'#')
    });
    if unwanted {
        return Err(unwanted_byte(bytes));
    }
    Ok(utf8(bytes)?)
}

#[cold]
fn unwanted_byte(bytes: &[u8]) -> DecodeError {
    if let Err(malformed) = text(bytes) {
        return malformed.into();
    }
    // [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT3-3.3.2-2] [MQTT3-4.7.1-1]
    DecodeError::new(ReasonCode::TopicNameInvalid, "Topic Name with a wildcard")
}
