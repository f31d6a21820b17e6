//! A message as one JSON object, with the names that mosquitto_sub has.

use std::fmt::Write;

use super::format::Message;
use crate::packet::QoS;
use crate::properties::Property;

/// Appends the object. Bytes that are no UTF-8 become U+FFFD.
pub(super) fn object(out: &mut String, message: &Message<'_>, time: &str) {
    let _ = write!(out, "{{\"tst\":\"{time}\",\"topic\":");
    string(out, message.topic);
    let (qos, retain, size) = (message.qos as u8, u8::from(message.retain), message.payload.len());
    let _ = write!(out, ",\"qos\":{qos},\"retain\":{retain},\"payloadlen\":{size}");
    if message.qos != QoS::AtMostOnce {
        let _ = write!(out, ",\"mid\":{}", message.packet_id);
    }
    if !message.properties.is_empty() {
        properties(out, message);
    }
    out.push_str(",\"payload\":");
    if message.payload.is_empty() {
        out.push_str("null");
    } else {
        string(out, message.payload);
    }
    out.push('}');
}

fn properties(out: &mut String, message: &Message<'_>) {
    let mut members = Vec::new();
    let mut users = String::new();
    let mut place_of_users = 0;
    for property in message.properties.iter() {
        let mut text = |name: &str, value: &[u8]| {
            let mut member = format!("\"{name}\":");
            string(&mut member, value);
            members.push(member);
        };
        match property {
            Property::ContentType(value) => text("content-type", value.as_bytes()),
            Property::ResponseTopic(value) => text("response-topic", value.as_bytes()),
            Property::CorrelationData(value) => text("correlation-data", value),
            Property::PayloadFormatIndicator(value) => members.push(format!("\"payload-format-indicator\":{value}")),
            Property::MessageExpiryInterval(value) => members.push(format!("\"message-expiry-interval\":{value}")),
            Property::SubscriptionIdentifier(value) => members.push(format!("\"subscription-identifier\":{value}")),
            Property::TopicAlias(value) => members.push(format!("\"topic-alias\":{value}")),
            Property::UserProperty((name, value)) => {
                if users.is_empty() {
                    place_of_users = members.len();
                }
                users.push(if users.is_empty() { '{' } else { ',' });
                string(&mut users, name.as_bytes());
                users.push(':');
                string(&mut users, value.as_bytes());
            }
            _ => {}
        }
    }
    if !users.is_empty() {
        members.insert(place_of_users, format!("\"user-properties\":{users}}}"));
    }
    let _ = write!(out, ",\"properties\":{{{}}}", members.join(","));
}

fn string(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
