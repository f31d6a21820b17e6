//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).

use super::{at_end, packet_id, properties};
use crate::codec::{DecodeError, reasons};
use crate::packet::{Ack, Version};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::wire::Reader;

/// PUBACK, and PUBREC, which is alike.
pub(super) fn puback(version: Version, body: &[u8]) -> Result<Ack<'_>, DecodeError> {
    ack(version, body, reasons::in_puback)
}

/// PUBREL, and PUBCOMP, which is alike.
pub(super) fn pubrel(version: Version, body: &[u8]) -> Result<Ack<'_>, DecodeError> {
    ack(version, body, reasons::in_pubrel)
}

#[inline]
fn ack(version: Version, body: &[u8], valid: impl Fn(ReasonCode) -> bool) -> Result<Ack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut ack = Ack {
        packet_id: packet_id(&mut reader)?,
        reason: ReasonCode::Success,
        properties: Properties::EMPTY,
    };
    if version.is_v5() {
        (ack.reason, ack.properties) = reason_and_properties(&mut reader, properties::ACK, valid, |_| ())?;
    }
    at_end(&reader)?;
    Ok(ack)
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
