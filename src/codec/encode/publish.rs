//! PUBLISH (section 3.3), written by hand: it is most of what a broker sends.

use crate::codec::frame::MAX_PACKET_SIZE;
use crate::packet::{QoS, Version};
use crate::properties::PropertyId;
use crate::wire::{MAX_VARINT, put_binary, put_varint, varint_len};

/// A PUBLISH on its way to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishFrame<'a> {
    /// This has been sent before. Not with QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// Quality of Service.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic Name; empty only with a Topic Alias.
    pub topic: &'a str,
    /// Not written for QoS 0.
    pub packet_id: u16,
    /// MQTT 5.0 only, as all that follows before the payload.
    pub topic_alias: Option<u16>,
    /// Seconds left.
    pub message_expiry_interval: Option<u32>,
    /// The identifiers of all matching subscriptions that have one; none of them 0 or above 268,435,455.
    pub subscription_identifiers: &'a [u32],
    /// The properties that go unaltered to every receiver, as
    /// [`forwardable`](crate::properties::Properties::forwardable) yields them.
    pub properties: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// How many bytes [`publish`] appends; more than [`MAX_PACKET_SIZE`] if it cannot.
#[inline]
#[must_use]
pub fn publish_size(version: Version, frame: &PublishFrame<'_>) -> usize {
    let remaining = remaining_length(version, frame, properties_length(version, frame));
    1 + varint_len(remaining.min(MAX_VARINT as usize) as u32) + remaining
}

/// Appends a PUBLISH, if the protocol allows one of this size and its Topic Name is not above 65,535 bytes
/// [MQTT-4.7.3-3].
#[inline]
pub fn publish(out: &mut Vec<u8>, version: Version, frame: &PublishFrame<'_>) -> bool {
    let properties = properties_length(version, frame);
    let remaining = remaining_length(version, frame, properties);
    if remaining > MAX_VARINT as usize || frame.topic.len() > usize::from(u16::MAX) {
        return false;
    }
    out.reserve(remaining + 5);
    out.push(first_byte(frame));
    put_varint(out, remaining as u32);
    put_binary(out, frame.topic.as_bytes());
    if frame.qos != QoS::AtMostOnce {
        debug_assert_ne!(frame.packet_id, 0);
        out.extend_from_slice(&frame.packet_id.to_be_bytes());
    }
    if version.is_v5() {
        put_varint(out, properties as u32);
        put_own_properties(out, frame);
        out.extend_from_slice(frame.properties);
    }
    out.extend_from_slice(frame.payload);
    true
}

#[inline]
fn first_byte(frame: &PublishFrame<'_>) -> u8 {
    let dup = frame.dup && frame.qos != QoS::AtMostOnce;
    0x30 | u8::from(dup) << 3 | (frame.qos as u8) << 1 | u8::from(frame.retain)
}

#[inline]
fn put_own_properties(out: &mut Vec<u8>, frame: &PublishFrame<'_>) {
    if let Some(alias) = frame.topic_alias {
        out.push(PropertyId::TopicAlias as u8);
        out.extend_from_slice(&alias.to_be_bytes());
    }
    if let Some(seconds) = frame.message_expiry_interval {
        out.push(PropertyId::MessageExpiryInterval as u8);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for &id in frame.subscription_identifiers {
        out.push(PropertyId::SubscriptionIdentifier as u8);
        put_varint(out, id);
    }
}

/// Bytes of all properties, without their Property Length.
#[inline]
fn properties_length(version: Version, frame: &PublishFrame<'_>) -> usize {
    if !version.is_v5() {
        return 0;
    }
    let mut length = frame.properties.len();
    if frame.topic_alias.is_some() {
        length += 3;
    }
    if frame.message_expiry_interval.is_some() {
        length += 5;
    }
    for &id in frame.subscription_identifiers {
        length += 1 + varint_len(id);
    }
    length
}

#[inline]
fn remaining_length(version: Version, frame: &PublishFrame<'_>, properties: usize) -> usize {
    let packet_id = if frame.qos == QoS::AtMostOnce { 0 } else { 2 };
    let property_length = if version.is_v5() {
        varint_len(properties.min(MAX_VARINT as usize) as u32)
    } else {
        0
    };
    2 + frame.topic.len() + packet_id + property_length + properties + frame.payload.len()
}

// A size above the maximum must stay one when it is computed for a frame that cannot be sent.
const _: () = assert!(MAX_VARINT as usize + 1 + 4 == MAX_PACKET_SIZE as usize);
