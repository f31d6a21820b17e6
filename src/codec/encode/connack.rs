//! CONNACK (section 3.2).

use super::{append, sendable};
use crate::packet::{QoS, Version};
use crate::reason::ReasonCode;
use bytes::Bytes;
use mqttbytes::{v4, v5};

/// A CONNACK. All but the first two fields are properties of MQTT 5.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Whether the broker goes on with an earlier Session.
    pub session_present: bool,
    /// Success, or why the connection is refused.
    pub reason: ReasonCode,
    /// The Session Expiry Interval that the broker uses, if it is not the one asked for.
    pub session_expiry_interval: Option<u32>,
    /// QoS 1 and 2 publications that the broker processes at a time. Not 0.
    pub receive_maximum: Option<u16>,
    /// The highest QoS that the broker accepts; QoS 2 is not sent, because its absence says so.
    pub maximum_qos: Option<QoS>,
    /// Whether retained messages are supported.
    pub retain_available: Option<bool>,
    /// Bytes of the largest packet that the broker accepts. Not 0.
    pub maximum_packet_size: Option<u32>,
    /// The Client Identifier that the broker chose.
    pub assigned_client_identifier: Option<&'a str>,
    /// The highest Topic Alias that the broker accepts.
    pub topic_alias_maximum: Option<u16>,
    /// The reason in words.
    pub reason_string: Option<&'a str>,
    /// Names and values.
    pub user_properties: &'a [(&'a str, &'a str)],
    /// Whether wildcards are supported.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether Subscription Identifiers are supported.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether Shared Subscriptions are supported.
    pub shared_subscription_available: Option<bool>,
    /// The Keep Alive that the client has to use, in seconds.
    pub server_keep_alive: Option<u16>,
    /// Basis for Response Topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Its data.
    pub authentication_data: Option<&'a [u8]>,
}

impl Connack<'_> {
    /// A CONNACK without properties.
    #[must_use]
    pub const fn new(reason: ReasonCode, session_present: bool) -> Self {
        Connack {
            session_present,
            reason,
            session_expiry_interval: None,
            receive_maximum: None,
            maximum_qos: None,
            retain_available: None,
            maximum_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_maximum: None,
            reason_string: None,
            user_properties: &[],
            wildcard_subscription_available: None,
            subscription_identifiers_available: None,
            shared_subscription_available: None,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// Appends a CONNACK.
///
/// To an MQTT 3 client nothing is sent if there is no return code for the reason [MQTT3-3.2.2-6]. To an MQTT 5.0 client
/// User Properties and then the Reason String are left out if the packet would become larger than `limit`
/// [MQTT-3.2.2-19] [MQTT-3.2.2-20].
pub fn connack(out: &mut Vec<u8>, version: Version, connack: &Connack<'_>, limit: Option<u32>) -> bool {
    // A refusal has no session [MQTT-3.2.2-6] [MQTT3-3.2.2-4].
    let session_present = connack.session_present && connack.reason == ReasonCode::Success;
    if !version.is_v5() {
        // MQTT 3.1 does not know the flag.
        return v3_connack(out, session_present && version == Version::V311, connack.reason);
    }
    let mut packet = v5::ConnAck {
        session_present,
        code: connect_code(connack.reason),
        // Never `None`, which would leave out the Property Length [MQTT-2.2.2-1].
        properties: Some(v5_properties(connack)),
    };
    let shorten: [fn(&mut v5::ConnAckProperties); 3] = [
        |_| (),
        |properties| properties.user_properties.clear(),
        |properties| properties.reason_string = None,
    ];
    shorten.into_iter().any(|shorten| {
        packet.properties.as_mut().map(shorten);
        append(out, limit, |buffer| packet.write(buffer))
    })
}

fn v3_connack(out: &mut Vec<u8>, session_present: bool, reason: ReasonCode) -> bool {
    let code = match reason.connect_return_code() {
        Some(0) => v4::ConnectReturnCode::Success,
        Some(1) => v4::ConnectReturnCode::RefusedProtocolVersion,
        Some(2) => v4::ConnectReturnCode::BadClientId,
        Some(3) => v4::ConnectReturnCode::ServiceUnavailable,
        Some(4) => v4::ConnectReturnCode::BadUserNamePassword,
        Some(5) => v4::ConnectReturnCode::NotAuthorized,
        _ => return false,
    };
    append(out, None, |buffer| {
        v4::ConnAck::new(code, session_present).write(buffer)
    })
}

fn v5_properties(connack: &Connack<'_>) -> v5::ConnAckProperties {
    let text = |text: Option<&str>| sendable(text).map(str::to_owned);
    let flag = |flag: Option<bool>| flag.map(u8::from);
    v5::ConnAckProperties {
        session_expiry_interval: connack.session_expiry_interval,
        receive_max: connack.receive_maximum.filter(|&maximum| maximum != 0),
        max_qos: connack
            .maximum_qos
            .filter(|&qos| qos != QoS::ExactlyOnce)
            .map(|qos| qos as u8),
        retain_available: flag(connack.retain_available),
        max_packet_size: connack.maximum_packet_size.filter(|&size| size != 0),
        assigned_client_identifier: text(connack.assigned_client_identifier),
        topic_alias_max: connack.topic_alias_maximum,
        reason_string: text(connack.reason_string),
        user_properties: user_properties(connack.user_properties),
        wildcard_subscription_available: flag(connack.wildcard_subscription_available),
        subscription_identifiers_available: flag(connack.subscription_identifiers_available),
        shared_subscription_available: flag(connack.shared_subscription_available),
        server_keep_alive: connack.server_keep_alive,
        response_information: text(connack.response_information),
        server_reference: text(connack.server_reference),
        authentication_method: text(connack.authentication_method),
        authentication_data: authentication_data(connack.authentication_data),
    }
}

fn user_properties(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let sendable_pair = |&(name, value)| Some((sendable(Some(name))?.to_owned(), sendable(Some(value))?.to_owned()));
    pairs.iter().filter_map(sendable_pair).collect()
}

fn authentication_data(data: Option<&[u8]>) -> Option<Bytes> {
    data.filter(|data| data.len() <= usize::from(u16::MAX))
        .map(Bytes::copy_from_slice)
}

/// One of the Connect Reason Codes [MQTT-3.2.2-8]: the code itself, or the next best.
fn connect_code(reason: ReasonCode) -> v5::ConnectReturnCode {
    use v5::ConnectReturnCode as Code;
    match reason {
        ReasonCode::Success => Code::Success,
        ReasonCode::MalformedPacket => Code::MalformedPacket,
        ReasonCode::ProtocolError => Code::ProtocolError,
        ReasonCode::ImplementationSpecificError => Code::ImplementationSpecificError,
        ReasonCode::UnsupportedProtocolVersion => Code::UnsupportedProtocolVersion,
        ReasonCode::ClientIdentifierNotValid => Code::ClientIdentifierNotValid,
        ReasonCode::BadUserNameOrPassword => Code::BadUserNamePassword,
        ReasonCode::NotAuthorized => Code::NotAuthorized,
        ReasonCode::ServerUnavailable | ReasonCode::ServerShuttingDown => Code::ServerUnavailable,
        ReasonCode::ServerBusy => Code::ServerBusy,
        ReasonCode::Banned => Code::Banned,
        ReasonCode::BadAuthenticationMethod => Code::BadAuthenticationMethod,
        ReasonCode::TopicNameInvalid => Code::TopicNameInvalid,
        ReasonCode::PacketTooLarge => Code::PacketTooLarge,
        ReasonCode::QuotaExceeded => Code::QuotaExceeded,
        ReasonCode::PayloadFormatInvalid => Code::PayloadFormatInvalid,
        ReasonCode::RetainNotSupported => Code::RetainNotSupported,
        ReasonCode::QoSNotSupported => Code::QoSNotSupported,
        ReasonCode::UseAnotherServer => Code::UseAnotherServer,
        ReasonCode::ServerMoved => Code::ServerMoved,
        ReasonCode::ConnectionRateExceeded => Code::ConnectionRateExceeded,
        _ => Code::UnspecifiedError,
    }
}
