//! The packets that only clients send.

use crate::packet::{QoS, RetainHandling, SubscriptionOptions, Version};
use crate::properties::PropertyId;
use crate::reason::ReasonCode;
use crate::wire::{put_binary, put_varint};

/// What a client says first (section 3.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) version: Version,
    pub(crate) client_id: &'a str,
    /// Clean Start, or Clean Session.
    pub(crate) clean: bool,
    /// Seconds; 0 turns it off.
    pub(crate) keep_alive: u16,
    /// MQTT 5.0 only.
    pub(crate) session_expiry_interval: u32,
    pub(crate) username: Option<&'a str>,
    /// Only with a user name.
    pub(crate) password: Option<&'a [u8]>,
    pub(crate) will: Option<Will<'a>>,
    /// Bytes of further properties, without the Session Expiry Interval. MQTT 5.0 only.
    pub(crate) properties: &'a [u8],
}

/// What is published if the client goes without a word (section 3.1.2.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Will<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// MQTT 5.0 only.
    pub(crate) properties: &'a [u8],
}

/// Appends a CONNECT.
pub(crate) fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut body = Vec::new();
    let (name, level) = match connect.version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    put_binary(&mut body, name.as_bytes());
    body.push(level);
    let password = connect.username.and(connect.password);
    let will = connect
        .will
        .map_or(0, |will| 1 << 2 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
    let credentials = u8::from(connect.username.is_some()) << 7 | u8::from(password.is_some()) << 6;
    body.push(u8::from(connect.clean) << 1 | will | credentials);
    body.extend_from_slice(&connect.keep_alive.to_be_bytes());
    if connect.version.is_v5() {
        put_varint(&mut body, 5 + connect.properties.len() as u32);
        body.push(PropertyId::SessionExpiryInterval as u8);
        body.extend_from_slice(&connect.session_expiry_interval.to_be_bytes());
        body.extend_from_slice(connect.properties);
    }
    put_binary(&mut body, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        put_properties(&mut body, connect.version, will.properties);
        put_binary(&mut body, will.topic.as_bytes());
        put_binary(&mut body, will.payload);
    }
    for bytes in [connect.username.map(str::as_bytes), password].into_iter().flatten() {
        put_binary(&mut body, bytes);
    }
    packet(out, 0x10, &body);
}

/// Appends a SUBSCRIBE for one Topic Filter.
pub(crate) fn subscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str, qos: QoS) {
    let options = SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    };
    subscribe_with(out, version, packet_id, filter, options, &[]);
}

/// Appends a SUBSCRIBE for one Topic Filter with options and properties, of which MQTT 3 has the QoS only.
pub(crate) fn subscribe_with(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    filter: &str,
    options: SubscriptionOptions,
    properties: &[u8],
) {
    let mut body = Vec::with_capacity(filter.len() + properties.len() + 9);
    body.extend_from_slice(&packet_id.to_be_bytes());
    put_properties(&mut body, version, properties);
    put_binary(&mut body, filter.as_bytes());
    body.push(if version.is_v5() {
        byte_of(options)
    } else {
        options.qos as u8
    });
    packet(out, 0x82, &body);
}

/// Appends an UNSUBSCRIBE for one Topic Filter.
pub(crate) fn unsubscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str) {
    unsubscribe_with(out, version, packet_id, filter, &[]);
}

/// Appends an UNSUBSCRIBE for one Topic Filter with properties, which MQTT 3 does not have.
pub(crate) fn unsubscribe_with(out: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str, properties: &[u8]) {
    let mut body = Vec::with_capacity(filter.len() + properties.len() + 8);
    body.extend_from_slice(&packet_id.to_be_bytes());
    put_properties(&mut body, version, properties);
    put_binary(&mut body, filter.as_bytes());
    packet(out, 0xA2, &body);
}

/// Appends a PINGREQ.
pub(crate) fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xC0, 0]);
}

/// Appends a DISCONNECT.
pub(crate) fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 0]);
}

/// Appends a DISCONNECT with a reason and properties, which MQTT 3 does not have.
pub(crate) fn disconnect_with(out: &mut Vec<u8>, version: Version, reason: ReasonCode, properties: &[u8]) {
    if !version.is_v5() || (reason == ReasonCode::Success && properties.is_empty()) {
        return disconnect(out);
    }
    let mut body = vec![reason as u8];
    put_properties(&mut body, version, properties);
    packet(out, 0xE0, &body);
}

/// Appends a property block, which MQTT 3 does not have.
fn put_properties(body: &mut Vec<u8>, version: Version, properties: &[u8]) {
    if version.is_v5() {
        put_varint(body, properties.len() as u32);
        body.extend_from_slice(properties);
    }
}

fn byte_of(options: SubscriptionOptions) -> u8 {
    let handling = match options.retain_handling {
        RetainHandling::SendAlways => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::SendNever => 2,
    };
    options.qos as u8 | u8::from(options.no_local) << 2 | u8::from(options.retain_as_published) << 3 | handling << 4
}

fn packet(out: &mut Vec<u8>, first_byte: u8, body: &[u8]) {
    out.push(first_byte);
    put_varint(out, body.len() as u32);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::testing::bytes;

    #[test]
    fn a_connect_with_everything() {
        let mut out = Vec::new();
        let will = Will {
            topic: "w",
            payload: &[0, 255],
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: &[0x01, 0x01],
        };
        let mut of = |version| {
            out.clear();
            let connect_packet = Connect {
                version,
                client_id: "c",
                clean: true,
                keep_alive: 60,
                session_expiry_interval: 7,
                username: Some("u"),
                password: Some(&[1, 2]),
                will: Some(will),
                properties: &[0x21, 0, 9],
            };
            connect(&mut out, &connect_packet);
            out.clone()
        };
        let v311 = "10 1B s'MQTT' 04 F6 003C s'c' s'w' 0002 00 FF s'u' 0002 01 02";
        assert_eq!(of(Version::V311), bytes(v311));
        let v5 = "10 27 s'MQTT' 05 F6 003C 08 11 00000007 21 0009 s'c' 02 01 01 s'w' 0002 00 FF s'u' 0002 01 02";
        assert_eq!(of(Version::V5), bytes(v5));
    }

    #[test]
    fn options_and_properties_are_for_mqtt_5() {
        let options = SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::SendNever,
        };
        for (version, subscribed, unsubscribed, disconnected) in [
            (Version::V311, "82 06 0001 s'a' 01", "A2 05 0001 s'a'", "E0 00"),
            (
                Version::V5,
                "82 09 0001 02 0B 07 s'a' 2D",
                "A2 08 0001 02 0B 07 s'a'",
                "E0 04 04 02 0B 07",
            ),
        ] {
            let properties = [0x0B, 7];
            let mut out = Vec::new();
            subscribe_with(&mut out, version, 1, "a", options, &properties);
            unsubscribe_with(&mut out, version, 1, "a", &properties);
            disconnect_with(&mut out, version, ReasonCode::DisconnectWithWillMessage, &properties);
            assert_eq!(out, bytes(&[subscribed, unsubscribed, disconnected].join(" ")));
        }
    }
}
