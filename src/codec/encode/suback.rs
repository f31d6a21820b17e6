//! SUBACK (section 3.9) and UNSUBACK (section 3.11).

use super::{append, sendable};
use crate::packet::Version;
use crate::reason::ReasonCode;
use mqttbytes::{v4, v5};

/// Appends a SUBACK with one code for each Topic Filter, in their order [MQTT-3.9.3-1] [MQTT3-3.9.3-1].
///
/// The Reason String is left out if the packet would become larger than `limit` [MQTT-3.9.2-1].
pub fn suback(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    codes: &[ReasonCode],
    reason_string: Option<&str>,
    limit: Option<u32>,
) -> bool {
    debug_assert_ne!(packet_id, 0);
    if !version.is_v5() {
        let codes = codes.iter().map(|&code| v3_suback_code(version, code)).collect();
        return append(out, None, |buffer| v4::SubAck::new(packet_id, codes).write(buffer));
    }
    let mut packet = v5::SubAck::new(packet_id, codes.iter().map(|&code| suback_code(code)).collect());
    with_reason_string(reason_string, |text| {
        packet.properties = text.map(|text| v5::SubAckProperties {
            reason_string: Some(text),
            user_properties: Vec::new(),
        });
        append(out, limit, |buffer| packet.write(buffer))
    })
}

/// One of the Subscribe Reason Codes [MQTT-3.9.3-2].
fn suback_code(code: ReasonCode) -> v5::SubscribeReasonCode {
    v5::SubscribeReasonCode::try_from(code as u8).unwrap_or(v5::SubscribeReasonCode::Unspecified)
}

/// One of the return codes of MQTT 3.1.1 [MQTT3-3.9.3-2]. MQTT 3.1 has none for a failure: "it has no way of informing
/// that client" and "must therefore make a positive acknowledgement".
fn v3_suback_code(version: Version, code: ReasonCode) -> v4::SubscribeReasonCode {
    match code {
        ReasonCode::GrantedQoS1 => v4::SubscribeReasonCode::Success(mqttbytes::QoS::AtLeastOnce),
        ReasonCode::GrantedQoS2 => v4::SubscribeReasonCode::Success(mqttbytes::QoS::ExactlyOnce),
        ReasonCode::Success => v4::SubscribeReasonCode::Success(mqttbytes::QoS::AtMostOnce),
        _ if version == Version::V31 => v4::SubscribeReasonCode::Success(mqttbytes::QoS::AtMostOnce),
        _ => v4::SubscribeReasonCode::Failure,
    }
}

/// Appends an UNSUBACK with one code for each Topic Filter, in their order [MQTT-3.11.3-1]; MQTT 3 has no codes.
///
/// The Reason String is left out if the packet would become larger than `limit` [MQTT-3.11.2-1].
pub fn unsuback(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    codes: &[ReasonCode],
    reason_string: Option<&str>,
    limit: Option<u32>,
) -> bool {
    debug_assert_ne!(packet_id, 0);
    if !version.is_v5() {
        return append(out, None, |buffer| v4::UnsubAck::new(packet_id).write(buffer));
    }
    let mut packet = v5::UnsubAck::new(packet_id);
    packet.reasons = codes.iter().map(|&code| unsuback_code(code)).collect();
    with_reason_string(reason_string, |text| {
        packet.properties = text.map(|text| v5::UnsubAckProperties {
            reason_string: Some(text),
            user_properties: Vec::new(),
        });
        append(out, limit, |buffer| packet.write(buffer))
    })
}

/// One of the Unsubscribe Reason Codes [MQTT-3.11.3-2].
fn unsuback_code(code: ReasonCode) -> v5::UnsubAckReason {
    match code {
        ReasonCode::Success => v5::UnsubAckReason::Success,
        ReasonCode::NoSubscriptionExisted => v5::UnsubAckReason::NoSubscriptionExisted,
        ReasonCode::ImplementationSpecificError => v5::UnsubAckReason::ImplementationSpecificError,
        ReasonCode::NotAuthorized => v5::UnsubAckReason::NotAuthorized,
        ReasonCode::TopicFilterInvalid => v5::UnsubAckReason::TopicFilterInvalid,
        ReasonCode::PacketIdentifierInUse => v5::UnsubAckReason::PacketIdentifierInUse,
        _ => v5::UnsubAckReason::UnspecifiedError,
    }
}

/// Tries to append with the Reason String, if it can be sent, and then without it.
fn with_reason_string(reason_string: Option<&str>, mut append: impl FnMut(Option<String>) -> bool) -> bool {
    let text = sendable(reason_string).map(str::to_owned);
    (text.is_some() && append(text)) || append(None)
}
