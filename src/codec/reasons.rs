//! Which Reason Codes a packet may carry.

use crate::reason::ReasonCode;

/// PUBACK [MQTT-3.4.2-1] and PUBREC [MQTT-3.5.2-1].
pub(super) const fn in_puback(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::NoMatchingSubscribers
            | ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::NotAuthorized
            | ReasonCode::TopicNameInvalid
            | ReasonCode::PacketIdentifierInUse
            | ReasonCode::QuotaExceeded
            | ReasonCode::PayloadFormatInvalid
    )
}

/// PUBREL [MQTT-3.6.2-1] and PUBCOMP [MQTT-3.7.2-1].
pub(super) const fn in_pubrel(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::Success | ReasonCode::PacketIdentifierNotFound)
}

/// A DISCONNECT that a client sends [MQTT-3.14.2-1]; the other codes of table 3-10 are for the broker alone.
pub(super) const fn in_client_disconnect(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success
            | ReasonCode::DisconnectWithWillMessage
            | ReasonCode::UnspecifiedError
            | ReasonCode::MalformedPacket
            | ReasonCode::ProtocolError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::TopicNameInvalid
            | ReasonCode::ReceiveMaximumExceeded
            | ReasonCode::TopicAliasInvalid
            | ReasonCode::PacketTooLarge
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::QuotaExceeded
            | ReasonCode::AdministrativeAction
            | ReasonCode::PayloadFormatInvalid
    )
}

/// An AUTH that a client sends [MQTT-3.15.2-1]; Success is for the broker alone.
pub(super) const fn in_client_auth(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::ContinueAuthentication | ReasonCode::ReAuthenticate)
}
