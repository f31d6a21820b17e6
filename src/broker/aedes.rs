//! What Aedes tells of itself and of single clients, as messages below `$SYS/<id>/`.
//!
//! They are the broker's own: no client publishes them, so no hook is asked. They are not retained, and of QoS 0, so
//! that a subscriber who does not keep up loses them and holds up nobody.

use std::fmt::Write;

use super::core::{Core, RouteScratch};
use crate::identity::ClientInfo;
use crate::message::Publication;
use crate::packet::{QoS, Subscribe, SubscriptionOptions, Unsubscribe, Version};
use crate::reason::ReasonCode;
use crate::router::LastMatch;
use crate::session::Subscriptions;
use crate::topic::TopicFilter;

/// Something that Aedes tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AedesEvent<'a> {
    Heartbeat,
    Connected(&'a ClientInfo),
    Disconnected(&'a ClientInfo),
    /// A SUBSCRIBE, and what its SUBACK says of each Topic Filter.
    Subscribed(&'a ClientInfo, &'a Subscribe<'a>, &'a [ReasonCode]),
    Unsubscribed(&'a ClientInfo, &'a Unsubscribe<'a>),
    /// The subscriptions of a session that ends with its connection.
    SessionEnded(&'a ClientInfo, &'a Subscriptions),
}

impl Core {
    /// Publishes the event, if that was asked for.
    pub(crate) fn tell_aedes(&self, event: AedesEvent<'_>, scratch: &mut RouteScratch) {
        if self.tells_aedes {
            self.publish_aedes(event, scratch);
        }
    }

    fn publish_aedes(&self, event: AedesEvent<'_>, scratch: &mut RouteScratch) {
        let topic = format!("$SYS/{}/{}", self.id, event.name());
        // What no client could send, none receives: many short filters make a long text.
        let Some(payload) = event.payload(&self.id, self.config().max_packet_size as usize) else {
            tracing::debug!(topic, "event above the maximum packet size left out");
            return;
        };
        let publication = Publication {
            topic: &topic,
            payload: payload.as_bytes(),
            properties: &[],
            expires_at: None,
            qos: QoS::AtMostOnce,
            retain: false,
        };
        self.route(&publication, None, scratch, &mut LastMatch::default());
    }
}

impl AedesEvent<'_> {
    fn name(&self) -> &'static str {
        match self {
            AedesEvent::Heartbeat => "heartbeat",
            AedesEvent::Connected(_) => "new/clients",
            AedesEvent::Disconnected(_) => "disconnect/clients",
            AedesEvent::Subscribed(..) => "new/subscribes",
            AedesEvent::Unsubscribed(..) | AedesEvent::SessionEnded(..) => "new/unsubscribes",
        }
    }

    /// `None` above the limit.
    fn payload(&self, broker_id: &str, limit: usize) -> Option<String> {
        match *self {
            AedesEvent::Heartbeat => Some(broker_id.to_owned()),
            AedesEvent::Connected(client) | AedesEvent::Disconnected(client) => Some((*client.client_id).to_owned()),
            AedesEvent::Subscribed(client, subscribe, codes) => {
                let all = subscribe.filters.zip(codes);
                let identifier = subscribe.subscription_identifier;
                subs(client, limit, all, |out, ((filter, options), code)| {
                    subscription(out, client.version, filter, options, *code, identifier);
                })
            }
            AedesEvent::Unsubscribed(client, unsubscribe) => subs(client, limit, unsubscribe.filters, string),
            AedesEvent::SessionEnded(client, subscriptions) => {
                subs(client, limit, subscriptions.keys().map(TopicFilter::as_str), string)
            }
        }
    }
}

/// `{"clientId":…,"subs":[…]}`; `None` above the limit, and then no more is made of it than that.
fn subs<T>(
    client: &ClientInfo,
    limit: usize,
    items: impl Iterator<Item = T>,
    write: impl Fn(&mut String, T),
) -> Option<String> {
    let mut out = String::from("{\"clientId\":");
    string(&mut out, &client.client_id);
    out.push_str(",\"subs\":[");
    for (number, item) in items.enumerate() {
        if number > 0 {
            out.push(',');
        }
        write(&mut out, item);
        if out.len() > limit {
            return None;
        }
    }
    out.push_str("]}");
    Some(out)
}

/// One element of a SUBSCRIBE with the fields that Aedes has for the version, the QoS as granted; refused, it is 128.
fn subscription(
    out: &mut String,
    version: Version,
    filter: &str,
    options: SubscriptionOptions,
    code: ReasonCode,
    identifier: Option<u32>,
) {
    let qos = if code.is_error() { 128 } else { code as u8 };
    out.push_str("{\"topic\":");
    string(out, filter);
    put(out, format_args!(",\"qos\":{qos}"));
    if version.is_v5() {
        let SubscriptionOptions {
            no_local,
            retain_as_published,
            retain_handling,
            ..
        } = options;
        let retain_handling = retain_handling as u8;
        put(
            out,
            format_args!(",\"nl\":{no_local},\"rap\":{retain_as_published},\"rh\":{retain_handling}"),
        );
    }
    if let Some(identifier) = identifier {
        put(out, format_args!(",\"subscriptionIdentifier\":{identifier}"));
    }
    out.push('}');
}

/// A string of JSON, escaped as by JavaScript's `JSON.stringify`.
fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => put(out, format_args!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        string(&mut out, "a\"\\\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é😀/");
        assert_eq!(out, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}é😀/\"");
    }
}
