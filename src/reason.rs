//! Reason Codes of MQTT 5.0 (section 2.4) and the Connect Return codes of MQTT 3.1 and 3.1.1.

use std::fmt;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// A Reason Code of MQTT 5.0. Values of 0x80 and above are errors.
        ///
        /// The codes 0x00, 0x01 and 0x02 have several names in the specification; [`ReasonCode::Success`] is also
        /// "Normal disconnection" and "Granted QoS 0".
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl ReasonCode {
            /// Every Reason Code, in ascending order.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$name,)*];

            /// The Reason Code with this value, if the specification defines one.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<ReasonCode> {
                match value {
                    $($value => Some(ReasonCode::$name),)*
                    _ => None,
                }
            }

            /// The name that the specification gives the code.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ReasonCode::$name => $text,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success, Normal disconnection, Granted QoS 0.
    Success = 0x00, "Success";
    /// Granted QoS 1.
    GrantedQoS1 = 0x01, "Granted QoS 1";
    /// Granted QoS 2.
    GrantedQoS2 = 0x02, "Granted QoS 2";
    /// Disconnect, and publish the Will Message.
    DisconnectWithWillMessage = 0x04, "Disconnect with Will Message";
    /// Accepted, but there was nobody to receive it.
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    /// Nothing was deleted by an UNSUBSCRIBE.
    NoSubscriptionExisted = 0x11, "No subscription existed";
    /// Enhanced authentication goes on.
    ContinueAuthentication = 0x18, "Continue authentication";
    /// The client starts authentication anew.
    ReAuthenticate = 0x19, "Re-authenticate";
    /// The reason is not revealed.
    UnspecifiedError = 0x80, "Unspecified error";
    /// The bytes are not what the specification says.
    MalformedPacket = 0x81, "Malformed Packet";
    /// A packet that is not allowed here.
    ProtocolError = 0x82, "Protocol Error";
    /// Valid, but not accepted by this broker.
    ImplementationSpecificError = 0x83, "Implementation specific error";
    /// The broker does not speak the requested version.
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version";
    /// The Client Identifier is not allowed.
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid";
    /// The User Name or Password is wrong.
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    /// The client may not do this.
    NotAuthorized = 0x87, "Not authorized";
    /// The broker is not available.
    ServerUnavailable = 0x88, "Server unavailable";
    /// The broker is busy.
    ServerBusy = 0x89, "Server busy";
    /// This client has been banned.
    Banned = 0x8A, "Banned";
    /// The broker is shutting down.
    ServerShuttingDown = 0x8B, "Server shutting down";
    /// The Authentication Method is not supported.
    BadAuthenticationMethod = 0x8C, "Bad authentication method";
    /// No packet for one and a half times the Keep Alive.
    KeepAliveTimeout = 0x8D, "Keep Alive timeout";
    /// Another connection uses the same Client Identifier.
    SessionTakenOver = 0x8E, "Session taken over";
    /// The Topic Filter is not accepted.
    TopicFilterInvalid = 0x8F, "Topic Filter invalid";
    /// The Topic Name is not accepted.
    TopicNameInvalid = 0x90, "Topic Name invalid";
    /// The Packet Identifier is already in use.
    PacketIdentifierInUse = 0x91, "Packet Identifier in use";
    /// The Packet Identifier is not known.
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found";
    /// More unacknowledged publications than Receive Maximum.
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    /// A Topic Alias of 0 or above the maximum.
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    /// Larger than the Maximum Packet Size.
    PacketTooLarge = 0x95, "Packet too large";
    /// The received data rate is too high.
    MessageRateTooHigh = 0x96, "Message rate too high";
    /// A limit was exceeded.
    QuotaExceeded = 0x97, "Quota exceeded";
    /// Closed by an administrator.
    AdministrativeAction = 0x98, "Administrative action";
    /// The payload does not match its Payload Format Indicator.
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    /// Retained messages are not supported.
    RetainNotSupported = 0x9A, "Retain not supported";
    /// The QoS is above the Maximum QoS.
    QoSNotSupported = 0x9B, "QoS not supported";
    /// Use another server for now.
    UseAnotherServer = 0x9C, "Use another server";
    /// The server has moved for good.
    ServerMoved = 0x9D, "Server moved";
    /// Shared Subscriptions are not supported.
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported";
    /// Connections are opened too quickly.
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded";
    /// The connection has been open for longer than allowed.
    MaximumConnectTime = 0xA0, "Maximum connect time";
    /// Subscription Identifiers are not supported.
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported";
    /// Wildcards are not supported.
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported";
}

impl ReasonCode {
    /// Whether the code reports an error (0x80 and above).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The Connect Return code that tells an MQTT 3 client the same (3.1.1, table 3.1), if there is one.
    ///
    /// A rejection without a counterpart closes the connection without a CONNACK [MQTT-3.2.2-6].
    #[must_use]
    pub const fn connect_return_code(self) -> Option<u8> {
        match self {
            ReasonCode::Success => Some(0),
            ReasonCode::UnsupportedProtocolVersion => Some(1),
            ReasonCode::ClientIdentifierNotValid => Some(2),
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::QuotaExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded => Some(3),
            ReasonCode::BadUserNameOrPassword => Some(4),
            ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::BadAuthenticationMethod => Some(5),
            _ => None,
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.name(), *self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_a_round_trip() {
        for value in 0..=u8::MAX {
            if let Some(code) = ReasonCode::from_u8(value) {
                assert_eq!(code as u8, value);
            }
        }
        assert_eq!(
            ReasonCode::ALL.len(),
            (0..=u8::MAX).filter(|v| ReasonCode::from_u8(*v).is_some()).count()
        );
    }
}
