//! `-D PACKET PROPERTY VALUE`: properties of MQTT 5.0 for the packets of a client.

use crate::properties::{PropertiesBuilder, PropertyId};
use crate::wire::{put_binary, put_varint};

/// The bytes of the property blocks, by packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PacketProperties {
    pub(crate) connect: Vec<u8>,
    pub(crate) will: Vec<u8>,
    pub(crate) publish: Vec<u8>,
    pub(crate) subscribe: Vec<u8>,
    pub(crate) unsubscribe: Vec<u8>,
    pub(crate) disconnect: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A number up to this one.
    Byte(u8),
    TwoByte,
    FourByte,
    Varint,
    Text,
    Topic,
    Binary,
    Pair,
}

const CONNECT: u8 = 1;
const WILL: u8 = 2;
const PUBLISH: u8 = 4;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 16;
const DISCONNECT: u8 = 32;
const ALL: u8 = 63;

/// Name, identifier, representation, and the packets that may have it (table 2-4).
const PROPERTIES: [(&str, PropertyId, Kind, u8); 16] = [
    (
        "payload-format-indicator",
        PropertyId::PayloadFormatIndicator,
        Kind::Byte(1),
        PUBLISH | WILL,
    ),
    (
        "message-expiry-interval",
        PropertyId::MessageExpiryInterval,
        Kind::FourByte,
        PUBLISH | WILL,
    ),
    ("content-type", PropertyId::ContentType, Kind::Text, PUBLISH | WILL),
    ("response-topic", PropertyId::ResponseTopic, Kind::Topic, PUBLISH | WILL),
    (
        "correlation-data",
        PropertyId::CorrelationData,
        Kind::Binary,
        PUBLISH | WILL,
    ),
    (
        "subscription-identifier",
        PropertyId::SubscriptionIdentifier,
        Kind::Varint,
        SUBSCRIBE,
    ),
    (
        "session-expiry-interval",
        PropertyId::SessionExpiryInterval,
        Kind::FourByte,
        DISCONNECT,
    ),
    (
        "request-problem-information",
        PropertyId::RequestProblemInformation,
        Kind::Byte(1),
        CONNECT,
    ),
    (
        "request-response-information",
        PropertyId::RequestResponseInformation,
        Kind::Byte(1),
        CONNECT,
    ),
    (
        "will-delay-interval",
        PropertyId::WillDelayInterval,
        Kind::FourByte,
        WILL,
    ),
    ("receive-maximum", PropertyId::ReceiveMaximum, Kind::TwoByte, CONNECT),
    (
        "topic-alias-maximum",
        PropertyId::TopicAliasMaximum,
        Kind::TwoByte,
        CONNECT,
    ),
    ("topic-alias", PropertyId::TopicAlias, Kind::TwoByte, PUBLISH),
    (
        "maximum-packet-size",
        PropertyId::MaximumPacketSize,
        Kind::FourByte,
        CONNECT,
    ),
    ("user-property", PropertyId::UserProperty, Kind::Pair, ALL),
    ("reason-string", PropertyId::ReasonString, Kind::Text, DISCONNECT),
];

/// Properties of which 0 is no value.
const NOT_ZERO: [PropertyId; 4] = [
    PropertyId::ReceiveMaximum,
    PropertyId::MaximumPacketSize,
    PropertyId::TopicAlias,
    PropertyId::SubscriptionIdentifier,
];

impl PacketProperties {
    /// From the values of all `-D`, one behind the other: a User Property has two values, all others have one.
    pub(crate) fn parse(words: &[String]) -> Result<PacketProperties, String> {
        let mut properties = PacketProperties::default();
        let mut seen = Vec::new();
        let mut rest = words;
        while let [packet, name, tail @ ..] = rest {
            let (bit, block) = properties.block(packet)?;
            let (id, kind) = find(name, packet, bit)?;
            if kind != Kind::Pair && seen.contains(&(bit, id)) {
                return Err(format!("-D {packet} {name}: is there twice"));
            }
            seen.push((bit, id));
            let fault = |reason: String| format!("-D {packet} {name}: {reason}");
            rest = match (kind, tail) {
                (Kind::Pair, [key, value, tail @ ..]) => {
                    let pair = PropertiesBuilder::new().user_property(key, value);
                    block.extend(pair.map_err(|error| fault(error.to_string()))?.into_raw());
                    tail
                }
                (Kind::Pair, _) => return Err(fault("needs a name and a value".to_owned())),
                (_, [value, tail @ ..]) => {
                    put(block, id, kind, value).map_err(fault)?;
                    tail
                }
                (_, []) => return Err(fault("needs a value".to_owned())),
            };
        }
        match rest {
            [] => Ok(properties),
            _ => Err("-D needs a packet, a property and its value".to_owned()),
        }
    }

    fn block(&mut self, packet: &str) -> Result<(u8, &mut Vec<u8>), String> {
        match packet.to_ascii_lowercase().as_str() {
            "connect" => Ok((CONNECT, &mut self.connect)),
            "will" => Ok((WILL, &mut self.will)),
            "publish" => Ok((PUBLISH, &mut self.publish)),
            "subscribe" => Ok((SUBSCRIBE, &mut self.subscribe)),
            "unsubscribe" => Ok((UNSUBSCRIBE, &mut self.unsubscribe)),
            "disconnect" => Ok((DISCONNECT, &mut self.disconnect)),
            _ => Err(format!(
                "-D {packet}: is none of connect, will, publish, subscribe, unsubscribe, disconnect"
            )),
        }
    }
}

fn find(name: &str, packet: &str, bit: u8) -> Result<(PropertyId, Kind), String> {
    if bit == CONNECT && name == "session-expiry-interval" {
        return Err("-D connect session-expiry-interval: is set by -x".to_owned());
    }
    if matches!(name, "authentication-method" | "authentication-data") {
        return Err(format!("-D {packet} {name}: enhanced authentication is not supported"));
    }
    let found = PROPERTIES.iter().find(|(known, ..)| *known == name);
    let (_, id, kind, packets) = found.ok_or_else(|| format!("-D {packet} {name}: there is no such property"))?;
    if packets & bit == 0 {
        return Err(format!("-D {packet} {name}: the packet does not have this property"));
    }
    Ok((*id, *kind))
}

fn put(block: &mut Vec<u8>, id: PropertyId, kind: Kind, value: &str) -> Result<(), String> {
    let number = |most: u32| {
        let least = u32::from(NOT_ZERO.contains(&id));
        let number = value.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("{value:?} is no number from {least} to {most}"))
    };
    let checked = match kind {
        Kind::Text => PropertiesBuilder::new().content_type(value),
        Kind::Topic => PropertiesBuilder::new().response_topic(value),
        _ => PropertiesBuilder::new().correlation_data(value.as_bytes()),
    };
    checked.map_err(|error| error.to_string())?;
    block.push(id as u8);
    match kind {
        Kind::Byte(most) => block.push(number(u32::from(most))? as u8),
        Kind::TwoByte => block.extend_from_slice(&(number(u32::from(u16::MAX))? as u16).to_be_bytes()),
        Kind::FourByte => block.extend_from_slice(&number(u32::MAX)?.to_be_bytes()),
        Kind::Varint => put_varint(block, number(crate::wire::MAX_VARINT)?),
        Kind::Text | Kind::Topic | Kind::Binary | Kind::Pair => put_binary(block, value.as_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::bytes;

    fn parse(text: &str) -> Result<PacketProperties, String> {
        let words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        PacketProperties::parse(&words)
    }

    #[test]
    fn every_kind_of_value() {
        let parsed = parse(
            "publish content-type t PUBLISH user-property n v publish user-property n v publish topic-alias 5 \
             will payload-format-indicator 1 will will-delay-interval 9 connect receive-maximum 7 \
             subscribe subscription-identifier 128 unsubscribe user-property n v disconnect session-expiry-interval 0",
        );
        let expected = PacketProperties {
            connect: bytes("21 0007"),
            will: bytes("01 01 18 00000009"),
            publish: bytes("03 s't' 26 s'n' s'v' 26 s'n' s'v' 23 0005"),
            subscribe: bytes("0B 8001"),
            unsubscribe: bytes("26 s'n' s'v'"),
            disconnect: bytes("11 00000000"),
        };
        assert_eq!(parsed, Ok(expected));
        assert_eq!(PacketProperties::parse(&[]), Ok(PacketProperties::default()));
    }

    #[test]
    fn what_no_packet_has() {
        for (text, reason) in [
            ("publish", "-D needs a packet"),
            ("publish content-type", "needs a value"),
            ("publish user-property n", "needs a name and a value"),
            ("puback content-type t", "is none of connect"),
            ("publish type t", "there is no such property"),
            ("subscribe content-type t", "the packet does not have"),
            ("publish content-type t publish content-type t", "is there twice"),
            ("publish topic-alias 0", "from 1 to 65535"),
            ("connect receive-maximum 65536", "from 1 to 65535"),
            ("publish payload-format-indicator 2", "from 0 to 1"),
            ("publish response-topic a/#", "must not contain"),
            ("connect session-expiry-interval 1", "-x"),
            ("connect authentication-method m", "not supported"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
