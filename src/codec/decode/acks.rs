//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).

use super::{at_end, packet_id, properties};
use crate::codec::DecodeError;
use crate::packet::{Ack, Packet, Version};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::wire::Reader;

/// An acknowledgement; `packet` says which, `valid` which Reason Codes it may carry.
///
/// It becomes a packet where it is read: moving it once more costs more than reading it.
#[inline]
pub(super) fn ack<'a>(
    version: Version,
    body: &'a [u8],
    valid: impl Fn(ReasonCode) -> bool,
    packet: impl FnOnce(Ack<'a>) -> Packet<'a>,
) -> Result<Packet<'a>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?;
    let (mut reason, mut properties) = (ReasonCode::Success, Properties::EMPTY);
    if version.is_v5() {
        (reason, properties) = reason_and_properties(&mut reader, properties::ACK, valid, |_| ())?;
    }
    at_end(&reader)?;
    Ok(packet(Ack {
        packet_id,
        reason,
        properties,
    }))
}

/// A Reason Code and properties, either of which may be missing at the end of the packet: then it is Success, and there
/// are no properties (sections 3.4.2.1, 3.4.2.2.1, 3.14.2.1, 3.14.2.2.1).
#[inline]
pub(super) fn reason_and_properties<'a>(
    reader: &mut Reader<'a>,
    allowed: properties::Allowed,
    valid: impl Fn(ReasonCode) -> bool,
    each: impl FnMut(Property<'a>),
) -> Result<(ReasonCode, Properties<'a>), DecodeError> {
    if reader.is_empty() {
        return Ok((ReasonCode::Success, Properties::EMPTY));
    }
    let reason = reason(reader, valid)?;
    if reader.is_empty() {
        return Ok((reason, Properties::EMPTY));
    }
    Ok((reason, properties::block(reader, allowed, each)?))
}

/// A Reason Code that this packet may carry.
pub(super) fn reason(reader: &mut Reader<'_>, valid: impl Fn(ReasonCode) -> bool) -> Result<ReasonCode, DecodeError> {
    ReasonCode::from_u8(reader.u8()?)
        .filter(|&reason| valid(reason))
        .ok_or(DecodeError::protocol("Reason Code is not valid for this packet"))
}
