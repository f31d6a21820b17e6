//! MQTT 5.0 properties (section 2.2.2).

mod builder;

pub use builder::{InvalidProperty, PropertiesBuilder};

use crate::wire::{Malformed, Reader};
use std::borrow::Cow;

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident($value:ty) = $id:literal, $kind:ident;)*) => {
        /// The identifier of a property (table 2-4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $($(#[$doc])* $name = $id,)*
        }

        impl PropertyId {
            /// Every identifier, in ascending order.
            pub const ALL: &'static [PropertyId] = &[$(PropertyId::$name,)*];

            /// The identifier with this value, if the specification defines one.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<PropertyId> {
                match value {
                    $($id => Some(PropertyId::$name),)*
                    _ => None,
                }
            }

            const fn kind(self) -> Kind {
                match self {
                    $(PropertyId::$name => Kind::$kind,)*
                }
            }
        }

        /// A property with its value, as the packet has it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Property<'a> {
            $($(#[$doc])* $name($value),)*
        }

        impl<'a> Property<'a> {
            /// The identifier of this property.
            #[must_use]
            pub const fn id(&self) -> PropertyId {
                match self {
                    $(Property::$name(_) => PropertyId::$name,)*
                }
            }

            /// Reads the value of a property whose identifier has been read.
            #[inline]
            pub(crate) fn read(id: PropertyId, reader: &mut Reader<'a>) -> Result<Property<'a>, Malformed> {
                Ok(match id {
                    $(PropertyId::$name => Property::$name(properties!(@read $kind reader)),)*
                })
            }
        }
    };
    (@read Byte $reader:ident) => { $reader.u8()? };
    (@read TwoByte $reader:ident) => { $reader.u16()? };
    (@read FourByte $reader:ident) => { $reader.u32()? };
    (@read Varint $reader:ident) => { $reader.varint()? };
    (@read Text $reader:ident) => { $reader.string()? };
    (@read Binary $reader:ident) => { $reader.binary()? };
    // Both strings are UTF-8 Encoded Strings [MQTT-1.5.7-1].
    (@read Pair $reader:ident) => { ($reader.string()?, $reader.string()?) };
}

properties! {
    /// 1: the payload is UTF-8; 0: it is unspecified bytes.
    PayloadFormatIndicator(u8) = 0x01, Byte;
    /// Lifetime of the message, in seconds.
    MessageExpiryInterval(u32) = 0x02, FourByte;
    /// Content Type, as the publisher names it.
    ContentType(&'a str) = 0x03, Text;
    /// Topic Name for a response.
    ResponseTopic(&'a str) = 0x08, Text;
    /// Identifies the request that a response belongs to.
    CorrelationData(&'a [u8]) = 0x09, Binary;
    /// Identifier of a subscription.
    SubscriptionIdentifier(u32) = 0x0B, Varint;
    /// Lifetime of the session after the connection, in seconds.
    SessionExpiryInterval(u32) = 0x11, FourByte;
    /// The Client Identifier that the broker chose.
    AssignedClientIdentifier(&'a str) = 0x12, Text;
    /// The Keep Alive that the broker imposes, in seconds.
    ServerKeepAlive(u16) = 0x13, TwoByte;
    /// Name of the enhanced authentication method.
    AuthenticationMethod(&'a str) = 0x15, Text;
    /// Data of the enhanced authentication method.
    AuthenticationData(&'a [u8]) = 0x16, Binary;
    /// 0: Reason Strings and User Properties only on PUBLISH, CONNACK and DISCONNECT.
    RequestProblemInformation(u8) = 0x17, Byte;
    /// Seconds between the end of the connection and the publication of the Will Message.
    WillDelayInterval(u32) = 0x18, FourByte;
    /// 1: the client asks for Response Information.
    RequestResponseInformation(u8) = 0x19, Byte;
    /// Basis for the creation of Response Topics.
    ResponseInformation(&'a str) = 0x1A, Text;
    /// Another server to use.
    ServerReference(&'a str) = 0x1C, Text;
    /// The reason in words, for diagnostics.
    ReasonString(&'a str) = 0x1F, Text;
    /// How many QoS 1 and 2 publications may be unacknowledged at a time.
    ReceiveMaximum(u16) = 0x21, TwoByte;
    /// The highest Topic Alias that is accepted.
    TopicAliasMaximum(u16) = 0x22, TwoByte;
    /// Stands for a Topic Name on this connection.
    TopicAlias(u16) = 0x23, TwoByte;
    /// The highest QoS that the broker accepts.
    MaximumQoS(u8) = 0x24, Byte;
    /// Whether the broker supports retained messages.
    RetainAvailable(u8) = 0x25, Byte;
    /// A name and a value.
    UserProperty((&'a str, &'a str)) = 0x26, Pair;
    /// Bytes of the largest packet that is accepted.
    MaximumPacketSize(u32) = 0x27, FourByte;
    /// Whether the broker supports wildcards in Topic Filters.
    WildcardSubscriptionAvailable(u8) = 0x28, Byte;
    /// Whether the broker supports Subscription Identifiers.
    SubscriptionIdentifierAvailable(u8) = 0x29, Byte;
    /// Whether the broker supports Shared Subscriptions.
    SharedSubscriptionAvailable(u8) = 0x2A, Byte;
}

/// How a value is represented (section 1.5).
#[derive(Clone, Copy)]
enum Kind {
    Byte,
    TwoByte,
    FourByte,
    Varint,
    Text,
    Binary,
    Pair,
}

impl PropertyId {
    /// Whether a property of a PUBLISH or a Will goes unaltered to the receivers of the message [MQTT-3.3.2-4]
    /// [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20]; the others are between two peers only, or
    /// change on the way.
    #[must_use]
    pub const fn is_forwardable(self) -> bool {
        matches!(
            self,
            PropertyId::PayloadFormatIndicator
                | PropertyId::ContentType
                | PropertyId::ResponseTopic
                | PropertyId::CorrelationData
                | PropertyId::UserProperty
        )
    }
}

/// A block of properties without its length, checked when the packet was decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    raw: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Properties<'static> = Properties { raw: &[] };

    /// A block that has been checked before.
    pub(crate) const fn from_checked(raw: &'a [u8]) -> Properties<'a> {
        Properties { raw }
    }

    /// The bytes of the block.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The properties, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.raw);
        std::iter::from_fn(move || {
            let id = PropertyId::from_u8(reader.u8().ok()?)?;
            Property::read(id, &mut reader).ok()
        })
    }

    /// The User Properties as `(name, value)`, in their order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(pair) => Some(pair),
            _ => None,
        })
    }

    /// The Reason String, if there is one.
    #[must_use]
    pub fn reason_string(&self) -> Option<&'a str> {
        self.iter().find_map(|property| match property {
            Property::ReasonString(text) => Some(text),
            _ => None,
        })
    }

    /// Appends the properties that go unaltered to the receivers of a message, in their order
    /// [MQTT-3.3.2-18] [MQTT-3.1.3-10], as bytes of a property block.
    pub fn append_forwardable(&self, out: &mut Vec<u8>) {
        for (_, bytes) in self.spans().filter(|(id, _)| id.is_forwardable()) {
            out.extend_from_slice(bytes);
        }
    }

    /// What [`Self::append_forwardable`] appends; borrowed if it is in one piece.
    #[must_use]
    pub fn forwardable(&self) -> Cow<'a, [u8]> {
        match self.forwardable_run() {
            Some(run) => Cow::Borrowed(run),
            None => {
                let mut out = Vec::with_capacity(self.raw.len());
                self.append_forwardable(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// The forwardable properties if no other is between them: clients write their properties in the order of the
    /// specification, which has Message Expiry Interval and Topic Alias early, so that this is not rare.
    fn forwardable_run(&self) -> Option<&'a [u8]> {
        let (mut start, mut end, mut at) = (0, 0, 0);
        for (id, bytes) in self.spans() {
            if id.is_forwardable() {
                if start == end {
                    start = at;
                } else if end != at {
                    return None;
                }
                end = at + bytes.len();
            }
            at += bytes.len();
        }
        self.raw.get(start..end)
    }

    /// Each property as its identifier and all of its bytes.
    fn spans(&self) -> impl Iterator<Item = (PropertyId, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.raw);
        std::iter::from_fn(move || {
            let whole = reader.rest();
            let id = PropertyId::from_u8(reader.u8().ok()?)?;
            skip(id, &mut reader).ok()?;
            whole.get(..whole.len() - reader.rest().len()).map(|bytes| (id, bytes))
        })
    }
}

/// Passes over the value of a property without looking into it.
fn skip(id: PropertyId, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    match id.kind() {
        Kind::Byte => reader.bytes(1).map(drop),
        Kind::TwoByte => reader.bytes(2).map(drop),
        Kind::FourByte => reader.bytes(4).map(drop),
        Kind::Varint => reader.varint().map(drop),
        Kind::Text | Kind::Binary => reader.binary().map(drop),
        Kind::Pair => reader.binary().and_then(|_| reader.binary()).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::bytes;

    #[test]
    fn identifiers_survive_a_round_trip() {
        for value in 0..=u8::MAX {
            assert!(PropertyId::from_u8(value).is_none_or(|id| id as u8 == value));
        }
        assert_eq!(PropertyId::ALL.len(), 27);
        assert!(PropertyId::ALL.windows(2).all(|pair| (pair[0] as u8) < pair[1] as u8));
    }

    /// Reading and skipping agree on where each property ends.
    #[test]
    fn properties_are_read_in_their_order() {
        let block = bytes(
            "01 01 02 00000001 03 s'text' 08 s'a/b' 09 s'data' 0B 8001 11 00000002 12 s'id' 13 0003 15 s'm' 16 s'd' \
             17 00 18 00000004 19 01 1A s'info' 1C s'server' 1F s'why' 21 0005 22 0006 23 0007 24 01 25 00 \
             26 s'n' s'v' 27 00000008 28 01 29 00 2A 01",
        );
        let properties = Properties::from_checked(&block);
        let expected = [
            Property::PayloadFormatIndicator(1),
            Property::MessageExpiryInterval(1),
            Property::ContentType("text"),
            Property::ResponseTopic("a/b"),
            Property::CorrelationData(b"data"),
            Property::SubscriptionIdentifier(128),
            Property::SessionExpiryInterval(2),
            Property::AssignedClientIdentifier("id"),
            Property::ServerKeepAlive(3),
            Property::AuthenticationMethod("m"),
            Property::AuthenticationData(b"d"),
            Property::RequestProblemInformation(0),
            Property::WillDelayInterval(4),
            Property::RequestResponseInformation(1),
            Property::ResponseInformation("info"),
            Property::ServerReference("server"),
            Property::ReasonString("why"),
            Property::ReceiveMaximum(5),
            Property::TopicAliasMaximum(6),
            Property::TopicAlias(7),
            Property::MaximumQoS(1),
            Property::RetainAvailable(0),
            Property::UserProperty(("n", "v")),
            Property::MaximumPacketSize(8),
            Property::WildcardSubscriptionAvailable(1),
            Property::SubscriptionIdentifierAvailable(0),
            Property::SharedSubscriptionAvailable(1),
        ];
        assert_eq!(properties.iter().collect::<Vec<_>>(), expected);
        let spans: Vec<_> = properties.spans().collect();
        assert_eq!(spans.iter().map(|(id, _)| *id).collect::<Vec<_>>(), PropertyId::ALL);
        assert_eq!(
            spans.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>().concat(),
            block
        );
        assert_eq!(properties.reason_string(), Some("why"));
        assert_eq!(properties.user_properties().collect::<Vec<_>>(), [("n", "v")]);
        assert_eq!(
            properties.forwardable(),
            bytes("01 01 03 s'text' 08 s'a/b' 09 s'data' 26 s'n' s'v'")
        );
    }

    #[test]
    fn forwardable_properties_keep_their_order_and_borrow_if_possible() {
        for (block, expected, borrowed) in [
            ("", "", true),
            ("02 00000001", "", true),
            ("23 0001 02 00000001", "", true),
            ("01 01 03 s't'", "01 01 03 s't'", true),
            (
                "02 00000001 23 0001 26 s'b' s'1' 26 s'a' s'2'",
                "26 s'b' s'1' 26 s'a' s'2'",
                true,
            ),
            ("26 s'b' s'1' 01 00 23 0001", "26 s'b' s'1' 01 00", true),
            ("18 00000001 01 00 02 00000001", "01 00", true),
            ("26 s'b' s'1' 02 00000001 01 00", "26 s'b' s'1' 01 00", false),
            (
                "01 00 23 0001 02 00000001 09 s'' 08 s'r' 03 s't'",
                "01 00 09 s'' 08 s'r' 03 s't'",
                false,
            ),
        ] {
            let raw = bytes(block);
            let properties = Properties::from_checked(&raw);
            let forwardable = properties.forwardable();
            assert_eq!(forwardable, bytes(expected), "{block}");
            assert_eq!(matches!(forwardable, Cow::Borrowed(_)), borrowed, "{block}");
            let mut out = vec![1];
            properties.append_forwardable(&mut out);
            assert_eq!(out[1..], bytes(expected));
        }
    }
}
