//! SUBSCRIBE (section 3.8) and UNSUBSCRIBE (section 3.10).

use super::{packet_id, properties};
use crate::codec::DecodeError;
use crate::packet::{Subscribe, SubscribeFilters, Unsubscribe, UnsubscribeFilters, Version};
use crate::properties::{Properties, Property};
use crate::wire::Reader;

pub(super) fn subscribe(version: Version, body: &[u8]) -> Result<Subscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?;
    let mut subscription_identifier = None;
    let mut properties = Properties::EMPTY;
    if version.is_v5() {
        properties = properties::block(&mut reader, properties::SUBSCRIBE, |property| {
            if let Property::SubscriptionIdentifier(id) = property {
                subscription_identifier = Some(id);
            }
        })?;
    }
    let filters = SubscribeFilters { rest: reader.rest() };
    check_payload(reader, |reader| {
        let filter = filter(reader)?;
        check_options(version, filter, reader.u8()?)
    })?;
    Ok(Subscribe {
        packet_id,
        subscription_identifier,
        properties,
        filters,
    })
}

pub(super) fn unsubscribe(version: Version, body: &[u8]) -> Result<Unsubscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?;
    let mut properties = Properties::EMPTY;
    if version.is_v5() {
        properties = properties::block(&mut reader, properties::UNSUBSCRIBE, |_| ())?;
    }
    let filters = UnsubscribeFilters { rest: reader.rest() };
    check_payload(reader, |reader| filter(reader).map(drop))?;
    Ok(Unsubscribe {
        packet_id,
        properties,
        filters,
    })
}

/// Checks every entry of a payload, which has at least one [MQTT-3.8.3-2] [MQTT3-3.8.3-3] [MQTT-3.10.3-2]
/// [MQTT3-3.10.3-2].
fn check_payload<'a>(
    mut reader: Reader<'a>,
    entry: impl Fn(&mut Reader<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    if reader.is_empty() {
        return Err(DecodeError::protocol("no Topic Filter"));
    }
    while !reader.is_empty() {
        entry(&mut reader)?;
    }
    Ok(())
}

/// A Topic Filter is a UTF-8 Encoded String [MQTT-3.8.3-1] [MQTT3-3.8.3-1] [MQTT-3.10.3-1] [MQTT3-3.10.3-1] and not
/// empty [MQTT-4.7.3-1] [MQTT3-4.7.3-1].
fn filter<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    match reader.string()? {
        "" => Err(DecodeError::malformed("Topic Filter is empty")),
        filter => Ok(filter),
    }
}

fn check_options(version: Version, filter: &str, options: u8) -> Result<(), DecodeError> {
    // [MQTT-3.8.3-5] [MQTT3-3.8.3-4]
    let reserved = if version.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
    if options & reserved != 0 {
        return Err(DecodeError::malformed(
            "reserved bits of the Subscription Options are set",
        ));
    }
    if options & 0b11 == 0b11 {
        return Err(DecodeError::protocol("SUBSCRIBE with QoS 3"));
    }
    if options & 0b11_0000 == 0b11_0000 {
        return Err(DecodeError::protocol("Retain Handling is 3"));
    }
    // [MQTT-3.8.3-4]
    if options & 0b100 != 0 && filter.starts_with("$share/") {
        return Err(DecodeError::protocol("No Local on a Shared Subscription"));
    }
    Ok(())
}
