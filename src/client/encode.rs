//! The packets that only clients send.

use crate::packet::{QoS, Version};
use crate::properties::PropertyId;
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
    pub(crate) password: Option<&'a str>,
}

/// Appends a CONNECT without will.
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
    body.push(
        u8::from(connect.clean) << 1 | u8::from(connect.username.is_some()) << 7 | u8::from(password.is_some()) << 6,
    );
    body.extend_from_slice(&connect.keep_alive.to_be_bytes());
    if connect.version.is_v5() {
        body.push(5);
        body.push(PropertyId::SessionExpiryInterval as u8);
        body.extend_from_slice(&connect.session_expiry_interval.to_be_bytes());
    }
    put_binary(&mut body, connect.client_id.as_bytes());
    for text in [connect.username, password].into_iter().flatten() {
        put_binary(&mut body, text.as_bytes());
    }
    packet(out, 0x10, &body);
}

/// Appends a SUBSCRIBE for one Topic Filter.
pub(crate) fn subscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str, qos: QoS) {
    let mut body = Vec::with_capacity(filter.len() + 6);
    begin(&mut body, version, packet_id);
    put_binary(&mut body, filter.as_bytes());
    body.push(qos as u8);
    packet(out, 0x82, &body);
}

/// Appends an UNSUBSCRIBE for one Topic Filter.
pub(crate) fn unsubscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filter: &str) {
    let mut body = Vec::with_capacity(filter.len() + 5);
    begin(&mut body, version, packet_id);
    put_binary(&mut body, filter.as_bytes());
    packet(out, 0xA2, &body);
}

/// Appends a DISCONNECT.
pub(crate) fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 0]);
}

fn begin(body: &mut Vec<u8>, version: Version, packet_id: u16) {
    body.extend_from_slice(&packet_id.to_be_bytes());
    if version.is_v5() {
        body.push(0);
    }
}

fn packet(out: &mut Vec<u8>, first_byte: u8, body: &[u8]) {
    out.push(first_byte);
    put_varint(out, body.len() as u32);
    out.extend_from_slice(body);
}
