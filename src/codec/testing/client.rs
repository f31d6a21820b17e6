//! What a client would write: the inverse of the decoder, for tests only and as simple as can be.

use crate::packet::{Ack, Auth, Connect, Disconnect, Packet, Publish, QoS, Subscribe, Unsubscribe, Version};
use crate::packet::{SubscriptionOptions, Will};
use crate::properties::Properties;
use crate::wire::{put_binary, put_varint};

pub(crate) fn connect(connect: &Connect<'_>) -> Vec<u8> {
    let (name, level) = match connect.version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    let mut body = Vec::new();
    put_binary(&mut body, name.as_bytes());
    body.extend([level, connect_flags(connect)]);
    body.extend(connect.keep_alive.to_be_bytes());
    put_properties(&mut body, connect.version, connect.properties.all);
    put_binary(&mut body, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        put_properties(&mut body, connect.version, will.properties);
        put_binary(&mut body, will.topic.as_bytes());
        put_binary(&mut body, will.payload);
    }
    connect.username.inspect(|name| put_binary(&mut body, name.as_bytes()));
    connect.password.inspect(|password| put_binary(&mut body, password));
    with_header(0x10, &body)
}

fn connect_flags(connect: &Connect<'_>) -> u8 {
    let will = |will: &Will<'_>| 0b100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    u8::from(connect.clean_start) << 1
        | connect.will.as_ref().map_or(0, will)
        | u8::from(connect.password.is_some()) << 6
        | u8::from(connect.username.is_some()) << 7
}

pub(crate) fn packet(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let first_byte = match packet {
        Packet::Connect => 0x10,
        Packet::Publish(publish) => return self::publish(version, publish),
        Packet::Puback(ack) => put_ack(&mut body, version, ack, 0x40),
        Packet::Pubrec(ack) => put_ack(&mut body, version, ack, 0x50),
        Packet::Pubrel(ack) => put_ack(&mut body, version, ack, 0x62),
        Packet::Pubcomp(ack) => put_ack(&mut body, version, ack, 0x70),
        Packet::Subscribe(subscribe) => put_subscribe(&mut body, version, subscribe),
        Packet::Unsubscribe(unsubscribe) => put_unsubscribe(&mut body, version, unsubscribe),
        Packet::Pingreq => 0xC0,
        Packet::Disconnect(disconnect) => put_disconnect(&mut body, version, disconnect),
        Packet::Auth(auth) => put_auth(&mut body, auth),
    };
    with_header(first_byte, &body)
}

fn publish(version: Version, publish: &Publish<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    put_binary(&mut body, publish.topic.as_bytes());
    if publish.qos != QoS::AtMostOnce {
        body.extend(publish.packet_id.to_be_bytes());
    }
    put_properties(&mut body, version, publish.properties);
    body.extend(publish.payload);
    let flags = u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    with_header(0x30 | flags, &body)
}

fn put_ack(body: &mut Vec<u8>, version: Version, ack: &Ack<'_>, first_byte: u8) -> u8 {
    body.extend(ack.packet_id.to_be_bytes());
    if version.is_v5() {
        body.push(ack.reason as u8);
        put_properties(body, version, ack.properties);
    }
    first_byte
}

fn put_subscribe(body: &mut Vec<u8>, version: Version, subscribe: &Subscribe<'_>) -> u8 {
    body.extend(subscribe.packet_id.to_be_bytes());
    put_properties(body, version, subscribe.properties);
    for (filter, options) in subscribe.filters {
        put_binary(body, filter.as_bytes());
        body.push(options_byte(options));
    }
    0x82
}

pub(crate) fn options_byte(options: SubscriptionOptions) -> u8 {
    options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
}

fn put_unsubscribe(body: &mut Vec<u8>, version: Version, unsubscribe: &Unsubscribe<'_>) -> u8 {
    body.extend(unsubscribe.packet_id.to_be_bytes());
    put_properties(body, version, unsubscribe.properties);
    for filter in unsubscribe.filters {
        put_binary(body, filter.as_bytes());
    }
    0xA2
}

fn put_disconnect(body: &mut Vec<u8>, version: Version, disconnect: &Disconnect<'_>) -> u8 {
    if version.is_v5() {
        body.push(disconnect.reason as u8);
        put_properties(body, version, disconnect.properties);
    }
    0xE0
}

fn put_auth(body: &mut Vec<u8>, auth: &Auth<'_>) -> u8 {
    body.push(auth.reason as u8);
    put_properties(body, Version::V5, auth.properties);
    0xF0
}

fn put_properties(body: &mut Vec<u8>, version: Version, properties: Properties<'_>) {
    if version.is_v5() {
        put_varint(body, properties.raw().len() as u32);
        body.extend(properties.raw());
    }
}

fn with_header(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first_byte];
    put_varint(&mut out, body.len() as u32);
    out.extend(body);
    out
}
