//! The Control Packets as plain data, borrowed from the bytes that they were read from.
//!
//! Packets that a client sends to the broker are here as the decoder yields them; they own nothing, so that reading
//! a packet allocates nothing. Lists (Topic Filters, properties) are validated when the packet is decoded and walked
//! again when they are used. Packets that the broker sends are described in `codec::encode`.

use crate::properties::Properties;
use crate::reason::ReasonCode;

/// The protocol version of a connection, as its CONNECT states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

impl Version {
    /// Whether this is MQTT 5.0, whose packets carry properties and Reason Codes.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Version::V5)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        })
    }
}

/// Quality of Service (section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: delivered at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: delivered at least once.
    AtLeastOnce = 1,
    /// QoS 2: delivered exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this value; 3 is reserved.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<QoS> {
        match value {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet that a client may send after its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A second CONNECT is a Protocol Error [MQTT-3.1.0-2]; its content does not matter and is not decoded.
    Connect,
    /// 3.3
    Publish(Publish<'a>),
    /// 3.4
    Puback(Ack<'a>),
    /// 3.5
    Pubrec(Ack<'a>),
    /// 3.6
    Pubrel(Ack<'a>),
    /// 3.7
    Pubcomp(Ack<'a>),
    /// 3.8
    Subscribe(Subscribe<'a>),
    /// 3.10
    Unsubscribe(Unsubscribe<'a>),
    /// 3.12
    Pingreq,
    /// 3.14
    Disconnect(Disconnect<'a>),
    /// 3.15, MQTT 5.0 only
    Auth(Auth<'a>),
}

/// CONNECT (section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that every later packet of this connection has.
    pub version: Version,
    /// Clean Start (5.0) or Clean Session (3.1, 3.1.1).
    pub clean_start: bool,
    /// Seconds; 0 turns the keep alive mechanism off.
    pub keep_alive: u16,
    /// May be empty where the version allows it.
    pub client_id: &'a str,
    /// The Will Message, if the Will Flag is set.
    pub will: Option<Will<'a>>,
    /// User Name.
    pub username: Option<&'a str>,
    /// Password: binary data.
    pub password: Option<&'a [u8]>,
    /// Properties of an MQTT 5.0 CONNECT; defaults for 3.1 and 3.1.1.
    pub properties: ConnectProperties<'a>,
}

/// Properties of CONNECT (section 3.1.2.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds; 0 (the default) ends the Session with the connection, 0xFFFF_FFFF means never.
    pub session_expiry_interval: u32,
    /// QoS 1 and 2 publications that the client is willing to process at a time; 1 to 65,535 (the default).
    pub receive_maximum: u16,
    /// Bytes of the largest packet that the client accepts; `None` is no limit. Never 0.
    pub maximum_packet_size: Option<u32>,
    /// The highest Topic Alias that the client accepts; 0 (the default) is none.
    pub topic_alias_maximum: u16,
    /// Whether the client asks for Response Information. Default: no.
    pub request_response_information: bool,
    /// Whether Reason Strings and User Properties may be sent on any packet. Default: yes.
    pub request_problem_information: bool,
    /// Name of the enhanced authentication method.
    pub authentication_method: Option<&'a str>,
    /// Its first data; never there without a method.
    pub authentication_data: Option<&'a [u8]>,
    /// All properties, for User Properties.
    pub all: Properties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry_interval: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            all: Properties::EMPTY,
        }
    }
}

/// The Will Message of a CONNECT (sections 3.1.2.5 and 3.1.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Topic: a valid Topic Name.
    pub topic: &'a str,
    /// Will Payload.
    pub payload: &'a [u8],
    /// Seconds; 0 (the default) is no delay.
    pub delay_interval: u32,
    /// Lifetime of the Will Message, in seconds, from its publication.
    pub message_expiry_interval: Option<u32>,
    /// All will properties.
    pub properties: Properties<'a>,
}

/// PUBLISH (section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Re-delivery of an earlier attempt.
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// A valid Topic Name; empty only in MQTT 5.0 together with a Topic Alias.
    pub topic: &'a str,
    /// Not 0 for QoS 1 and 2; 0 for QoS 0.
    pub packet_id: u16,
    /// Message Expiry Interval, in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Topic Alias as sent, not yet compared with the maximum; never 0.
    pub topic_alias: Option<u16>,
    /// All properties.
    pub properties: Properties<'a>,
    /// The Application Message's payload.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Never 0.
    pub packet_id: u16,
    /// Always [`ReasonCode::Success`] in MQTT 3.1 and 3.1.1.
    pub reason: ReasonCode,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

/// SUBSCRIBE (section 3.8): at least one Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Never 0.
    pub packet_id: u16,
    /// 1 to 268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User Properties.
    pub properties: Properties<'a>,
    /// The Topic Filters with their Subscription Options.
    pub filters: SubscribeFilters<'a>,
}

/// Subscription Options (section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Maximum QoS at which the broker may send.
    pub qos: QoS,
    /// Messages of the same Client Identifier are not forwarded.
    pub no_local: bool,
    /// Forwarded messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// Retain Handling option (section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// 0: retained messages are sent at every SUBSCRIBE.
    #[default]
    SendAlways,
    /// 1: only if the subscription did not exist.
    SendIfNew,
    /// 2: never.
    SendNever,
}

/// UNSUBSCRIBE (section 3.10): at least one Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Never 0.
    pub packet_id: u16,
    /// User Properties.
    pub properties: Properties<'a>,
    /// The Topic Filters.
    pub filters: UnsubscribeFilters<'a>,
}

/// DISCONNECT (section 3.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Always [`ReasonCode::Success`] in MQTT 3.1 and 3.1.1.
    pub reason: ReasonCode,
    /// A new Session Expiry Interval, in seconds.
    pub session_expiry_interval: Option<u32>,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

/// AUTH (section 3.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate.
    pub reason: ReasonCode,
    /// Authentication Method.
    pub method: Option<&'a str>,
    /// Authentication Data.
    pub data: Option<&'a [u8]>,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

/// The payload of a SUBSCRIBE: an iterator over `(Topic Filter, options)`.
///
/// The filters are well-formed UTF-8 without U+0000 and not empty; whether their wildcards are in valid places is
/// for [`crate::topic`] to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilters<'a> {
    pub(crate) rest: &'a [u8],
}

/// The payload of an UNSUBSCRIBE: an iterator over Topic Filters, checked as in [`SubscribeFilters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = (&'a str, SubscriptionOptions);

    fn next(&mut self) -> Option<Self::Item> {
        let filter = take_string(&mut self.rest)?;
        let (&options, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some((filter, SubscriptionOptions::from_byte(options)?))
    }
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        take_string(&mut self.rest)
    }
}

impl SubscriptionOptions {
    /// The options in this byte of a SUBSCRIBE, or `None` if reserved bits or values are used [MQTT-3.8.3-5].
    ///
    /// MQTT 3 knows only the QoS bits; the decoder refuses the others there [MQTT-3.8.3-4].
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<SubscriptionOptions> {
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::SendAlways,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::SendNever,
            _ => return None,
        };
        let Some(qos) = QoS::from_u8(byte & 0b11) else {
            return None;
        };
        Some(SubscriptionOptions {
            qos,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, tail) = rest.split_first_chunk::<2>()?;
    let (text, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = tail;
    std::str::from_utf8(text).ok()
}
