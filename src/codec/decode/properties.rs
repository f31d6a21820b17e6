//! The property block of a packet: which properties are allowed there, how often, and with which values.

use crate::codec::DecodeError;
use crate::properties::{Properties, Property, PropertyId};
use crate::reason::ReasonCode;
use crate::topic;
use crate::wire::Reader;

/// The properties that may be in a block, as bits by their identifiers.
pub(super) type Allowed = u64;

const fn bits(ids: &[PropertyId]) -> Allowed {
    let mut set = 0;
    let mut index = 0;
    while index < ids.len() {
        set |= bit(ids[index]);
        index += 1;
    }
    set
}

const fn bit(id: PropertyId) -> u64 {
    1 << id as u8
}

pub(super) const CONNECT: Allowed = bits(&[
    PropertyId::SessionExpiryInterval,
    PropertyId::ReceiveMaximum,
    PropertyId::MaximumPacketSize,
    PropertyId::TopicAliasMaximum,
    PropertyId::RequestResponseInformation,
    PropertyId::RequestProblemInformation,
    PropertyId::UserProperty,
    PropertyId::AuthenticationMethod,
    PropertyId::AuthenticationData,
]);

pub(super) const WILL: Allowed = bits(&[
    PropertyId::WillDelayInterval,
    PropertyId::PayloadFormatIndicator,
    PropertyId::MessageExpiryInterval,
    PropertyId::ContentType,
    PropertyId::ResponseTopic,
    PropertyId::CorrelationData,
    PropertyId::UserProperty,
]);

pub(super) const PUBLISH: Allowed = bits(&[
    PropertyId::PayloadFormatIndicator,
    PropertyId::MessageExpiryInterval,
    PropertyId::TopicAlias,
    PropertyId::ResponseTopic,
    PropertyId::CorrelationData,
    PropertyId::UserProperty,
    PropertyId::SubscriptionIdentifier,
    PropertyId::ContentType,
]);

pub(super) const ACK: Allowed = bits(&[PropertyId::ReasonString, PropertyId::UserProperty]);

pub(super) const SUBSCRIBE: Allowed = bits(&[PropertyId::SubscriptionIdentifier, PropertyId::UserProperty]);

pub(super) const UNSUBSCRIBE: Allowed = bits(&[PropertyId::UserProperty]);

pub(super) const DISCONNECT: Allowed = bits(&[
    PropertyId::SessionExpiryInterval,
    PropertyId::ReasonString,
    PropertyId::UserProperty,
    PropertyId::ServerReference,
]);

pub(super) const AUTH: Allowed = bits(&[
    PropertyId::AuthenticationMethod,
    PropertyId::AuthenticationData,
    PropertyId::ReasonString,
    PropertyId::UserProperty,
]);

/// Reads a Property Length and its properties, and hands over each one after it has been checked.
#[inline]
pub(super) fn block<'a>(
    reader: &mut Reader<'a>,
    allowed: Allowed,
    mut each: impl FnMut(Property<'a>),
) -> Result<Properties<'a>, DecodeError> {
    let length = reader.varint()?;
    let raw = reader.bytes(length as usize)?;
    let mut block = Reader::new(raw);
    let mut seen = 0;
    while !block.is_empty() {
        each(property(&mut block, allowed, &mut seen)?);
    }
    Ok(Properties::from_checked(raw))
}

fn property<'a>(block: &mut Reader<'a>, allowed: Allowed, seen: &mut u64) -> Result<Property<'a>, DecodeError> {
    // All identifiers fit one byte, so that the Variable Byte Integer of any other starts with a byte unknown here.
    let id = PropertyId::from_u8(block.u8()?).ok_or(DecodeError::malformed("unknown property"))?;
    let bit = bit(id);
    if allowed & bit == 0 {
        return Err(DecodeError::malformed("property is not valid for this packet"));
    }
    if *seen & bit != 0 && id != PropertyId::UserProperty {
        return Err(DecodeError::protocol("property is there twice"));
    }
    *seen |= bit;
    let property = Property::read(id, block)?;
    check_value(&property)?;
    Ok(property)
}

/// Values that the specification excludes although their type could hold them.
fn check_value(property: &Property<'_>) -> Result<(), DecodeError> {
    match *property {
        Property::TopicAlias(0) => Err(DecodeError::new(ReasonCode::TopicAliasInvalid, "Topic Alias is 0")),
        Property::PayloadFormatIndicator(2..) => Err(DecodeError::protocol("Payload Format Indicator is not 0 or 1")),
        Property::RequestProblemInformation(2..) => {
            Err(DecodeError::protocol("Request Problem Information is not 0 or 1"))
        }
        Property::RequestResponseInformation(2..) => {
            Err(DecodeError::protocol("Request Response Information is not 0 or 1"))
        }
        Property::ReceiveMaximum(0) => Err(DecodeError::protocol("Receive Maximum is 0")),
        Property::MaximumPacketSize(0) => Err(DecodeError::protocol("Maximum Packet Size is 0")),
        Property::SubscriptionIdentifier(0) => Err(DecodeError::protocol("Subscription Identifier is 0")),
        // [MQTT-3.3.2-14] [MQTT-4.7.3-1]
        Property::ResponseTopic(topic) if topic::check_name(topic).is_err() => {
            Err(DecodeError::protocol("Response Topic is not a Topic Name"))
        }
        _ => Ok(()),
    }
}
