//! DISCONNECT (section 3.14) and AUTH (section 3.15), MQTT 5.0 only.

use super::{append, append_body, put_property, sendable};
use crate::properties::PropertyId;
use crate::reason::ReasonCode;
use crate::wire::put_varint;
use mqttbytes::v5;

/// Appends a DISCONNECT. MQTT 3 has none from a broker.
///
/// The Reason String is left out if the packet would become larger than `limit` [MQTT-3.14.2-3]; so is, after it, the
/// Server Reference.
pub fn disconnect(
    out: &mut Vec<u8>,
    reason: ReasonCode,
    reason_string: Option<&str>,
    server_reference: Option<&str>,
    limit: Option<u32>,
) -> bool {
    let (text, reference) = (sendable(reason_string), sendable(server_reference));
    [(text, reference), (None, reference), (None, None)]
        .into_iter()
        .any(|(text, reference)| {
            let packet = v5::Disconnect {
                reason_code: disconnect_reason(reason),
                properties: disconnect_properties(text, reference),
            };
            append(out, limit, |buffer| packet.write(buffer))
        })
}

/// Properties, or `None` without any: `mqttbytes` drops the Reason Code of a packet with an empty block.
fn disconnect_properties(text: Option<&str>, reference: Option<&str>) -> Option<v5::DisconnectProperties> {
    if text.is_none() && reference.is_none() {
        return None;
    }
    let mut properties = v5::DisconnectProperties::new();
    properties.reason_string = text.map(str::to_owned);
    properties.server_reference = reference.map(str::to_owned);
    Some(properties)
}

/// One of the DISCONNECT Reason Codes [MQTT-3.14.2-1]: the code itself, or the next best.
fn disconnect_reason(reason: ReasonCode) -> v5::DisconnectReasonCode {
    use v5::DisconnectReasonCode as Code;
    Code::try_from(reason as u8).unwrap_or(match reason {
        ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod | ReasonCode::Banned => {
            Code::NotAuthorized
        }
        ReasonCode::ServerUnavailable => Code::ServerBusy,
        _ => Code::UnspecifiedError,
    })
}

/// Appends an AUTH, which always names its method [MQTT-4.12.0-5].
///
/// The Reason String is left out if the packet would become larger than `limit` [MQTT-3.15.2-2].
pub fn auth(
    out: &mut Vec<u8>,
    reason: ReasonCode,
    method: &str,
    data: Option<&[u8]>,
    reason_string: Option<&str>,
    limit: Option<u32>,
) -> bool {
    let longest = usize::from(u16::MAX);
    if method.len() > longest || data.is_some_and(|data| data.len() > longest) {
        return false;
    }
    let text = sendable(reason_string);
    (text.is_some() && append_body(out, limit, 0xF0, &auth_body(reason, method, data, text)))
        || append_body(out, limit, 0xF0, &auth_body(reason, method, data, None))
}

fn auth_body(reason: ReasonCode, method: &str, data: Option<&[u8]>, text: Option<&str>) -> Vec<u8> {
    let mut properties = Vec::new();
    put_property(&mut properties, PropertyId::AuthenticationMethod, method.as_bytes());
    if let Some(data) = data {
        put_property(&mut properties, PropertyId::AuthenticationData, data);
    }
    if let Some(text) = text {
        put_property(&mut properties, PropertyId::ReasonString, text.as_bytes());
    }
    let mut body = vec![reason as u8];
    put_varint(&mut body, properties.len() as u32);
    body.extend_from_slice(&properties);
    body
}
