//! PUBACK, PUBREC, PUBREL, PUBCOMP (sections 3.4 to 3.7) and PINGRESP (section 3.13).

use super::{append_body, put_property, sendable};
use crate::codec::reasons;
use crate::packet::Version;
use crate::properties::PropertyId;
use crate::reason::ReasonCode;
use crate::wire::{put_varint, varint_len};

/// Which of the four acknowledgements of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AckKind {
    /// 3.4
    Puback = 0x40,
    /// 3.5
    Pubrec = 0x50,
    /// 3.6, whose flags are 2 [MQTT-3.6.1-1] [MQTT3-3.6.1-1]
    Pubrel = 0x62,
    /// 3.7
    Pubcomp = 0x70,
}

impl AckKind {
    /// The Reason Code itself, or, so that none goes out that the packet may not carry, the next best.
    const fn reason(self, reason: ReasonCode) -> ReasonCode {
        match self {
            AckKind::Puback | AckKind::Pubrec if reasons::in_puback(reason) => reason,
            AckKind::Pubrel | AckKind::Pubcomp if reasons::in_pubrel(reason) => reason,
            _ if !reason.is_error() => ReasonCode::Success,
            AckKind::Puback | AckKind::Pubrec => ReasonCode::UnspecifiedError,
            AckKind::Pubrel | AckKind::Pubcomp => ReasonCode::PacketIdentifierNotFound,
        }
    }
}

/// Appends an acknowledgement of a PUBLISH. MQTT 3 has neither its Reason Code nor its Reason String.
///
/// The Reason String is left out if the packet would become larger than `limit` [MQTT-3.4.2-2] [MQTT-3.5.2-2]
/// [MQTT-3.6.2-2] [MQTT-3.7.2-2]; the caller leaves it out if the client does not want it [MQTT-3.1.2-29].
#[inline]
pub fn ack(
    out: &mut Vec<u8>,
    version: Version,
    kind: AckKind,
    packet_id: u16,
    reason: ReasonCode,
    reason_string: Option<&str>,
    limit: Option<u32>,
) -> bool {
    debug_assert_ne!(packet_id, 0);
    let [high, low] = packet_id.to_be_bytes();
    if !version.is_v5() {
        out.extend_from_slice(&[kind as u8, 2, high, low]);
        return true;
    }
    if reason == ReasonCode::Success && reason_string.is_none() && limit.is_none_or(|limit| limit >= 4) {
        out.extend_from_slice(&[kind as u8, 2, high, low]);
        return true;
    }
    ack_with_reason(out, kind, [high, low], kind.reason(reason), reason_string, limit)
}

fn ack_with_reason(
    out: &mut Vec<u8>,
    kind: AckKind,
    packet_id: [u8; 2],
    reason: ReasonCode,
    reason_string: Option<&str>,
    limit: Option<u32>,
) -> bool {
    let [high, low] = packet_id;
    let short: &[u8] = if reason == ReasonCode::Success {
        &[high, low]
    } else {
        &[high, low, reason as u8]
    };
    if let Some(text) = sendable(reason_string) {
        let mut body = vec![high, low, reason as u8];
        let length = 3 + text.len() as u32;
        body.reserve(varint_len(length) + length as usize);
        put_varint(&mut body, length);
        put_property(&mut body, PropertyId::ReasonString, text.as_bytes());
        if append_body(out, limit, kind as u8, &body) {
            return true;
        }
    }
    append_body(out, limit, kind as u8, short)
}

/// Appends a PINGRESP.
#[inline]
pub fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}
