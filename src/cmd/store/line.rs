//! A line of an exported store: one JSON object with one field, which names its kind.
//!
//! ```text
//! {"store":{"broker":"0.1.0","format":1}}
//! {"session":{"client_id":…,"subscriptions":[…],"received":[…],…}}
//! {"delivery":{"uid":…,"lane":"live","index":…,"message":{…},…}}
//! {"will":{…}}
//! {"retained":{…}}
//! {"end":{"sessions":…,…}}
//! ```
//!
//! Bytes are in base64, times in milliseconds since 1970. A session stands before its deliveries, which are in order.

use std::sync::Arc;

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::fields::{Fields, number, whole};
use super::totals::Totals;
use crate::message::{Message, Publication};
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::properties::{Property, PropertyId};
use crate::store::{
    Extent, Lane, StoredDelivery, StoredMessage, StoredSession, StoredSubscription, StoredWill, Uid, read_client,
};
use crate::time::Millis;
use crate::topic::{self, TopicFilter};
use crate::wire::Reader;

/// What a file of another format says, this program can't know.
const FORMAT: u64 = 1;

/// See the module.
#[derive(Debug)]
pub(super) enum Line {
    Begin,
    Session(StoredSession),
    Delivery(Uid, Lane, StoredDelivery),
    Will(StoredWill),
    Retained(Message),
    End(Totals),
}

impl Line {
    /// With its line break.
    pub(super) fn to_text(&self) -> String {
        let value = match self {
            Line::Begin => json!({"store": {"format": FORMAT, "broker": env!("CARGO_PKG_VERSION")}}),
            Line::Session(session) => json!({"session": session_value(session)}),
            Line::Delivery(uid, lane, delivery) => json!({"delivery": delivery_value(*uid, *lane, delivery)}),
            Line::Will(will) => json!({"will": will_value(will)}),
            Line::Retained(message) => json!({"retained": message_value(message)}),
            Line::End(totals) => json!({"end": totals.to_value()}),
        };
        format!("{value}\n")
    }

    pub(super) fn parse(text: &str) -> Result<Line, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        let Value::Object(object) = value else {
            return Err("an object is expected".to_owned());
        };
        let mut kinds = object.into_iter();
        let (Some((kind, value)), None) = (kinds.next(), kinds.next()) else {
            return Err("an object with one field is expected".to_owned());
        };
        let read = whole(value, |fields| Line::of_kind(&kind, fields));
        read.map_err(|reason| format!("{kind}: {reason}"))
    }

    fn of_kind(kind: &str, fields: &mut Fields) -> Result<Line, String> {
        Ok(match kind {
            "store" => begin(fields)?,
            "session" => Line::Session(session(fields)?),
            "delivery" => {
                let (uid, lane) = (fields.number("uid")?, lane(&fields.text("lane")?)?);
                Line::Delivery(uid, lane, delivery(fields)?)
            }
            "will" => Line::Will(will(fields)?),
            "retained" => Line::Retained(message(fields)?),
            "end" => Line::End(Totals::read(fields)?),
            _ => return Err("lines of this kind are unknown".to_owned()),
        })
    }
}

fn begin(fields: &mut Fields) -> Result<Line, String> {
    let broker = fields.text("broker")?;
    match fields.number("format")? {
        FORMAT => Ok(Line::Begin),
        other => Err(format!(
            "the format {other} of broker {broker} is none that this one knows"
        )),
    }
}

fn session_value(session: &StoredSession) -> Value {
    json!({
        "uid": session.uid,
        "client_id": session.client_id,
        "expiry_interval": session.expiry_interval,
        "window": session.window,
        "away_since": session.away_since.map(Millis::as_unix),
        "unsent": session.unsent,
        "subscriptions": session.subscriptions.iter().map(subscription_value).collect::<Vec<_>>(),
        "received": session.received,
        "live": extent_value(&session.live),
        "replayed": extent_value(&session.replayed),
    })
}

fn session(fields: &mut Fields) -> Result<StoredSession, String> {
    let session = StoredSession {
        uid: fields.number("uid")?,
        client_id: fields.text("client_id")?,
        expiry_interval: fields.number("expiry_interval")?,
        window: fields.number("window")?,
        away_since: fields.optional_number("away_since")?.map(Millis::from_unix),
        unsent: fields.number("unsent")?,
        subscriptions: each(fields.list("subscriptions")?, subscription)?,
        received: fields.list("received")?.iter().map(number).collect::<Result<_, _>>()?,
        accepted: Vec::new(),
        live: fields.object("live", extent)?,
        replayed: fields.object("replayed", extent)?,
        owner: None,
    };
    if session.expiry_interval == 0 {
        return Err("\"expiry_interval\" is 0: the session would have ended".to_owned());
    }
    match session.received.contains(&0) {
        true => Err("0 is no Packet Identifier".to_owned()),
        false => Ok(session),
    }
}

fn subscription_value(subscription: &StoredSubscription) -> Value {
    let options = subscription.options;
    json!({
        "filter": subscription.filter,
        "qos": options.qos as u8,
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "retain_handling": options.retain_handling as u8,
        "identifier": subscription.identifier,
        "replay": subscription.replay,
    })
}

fn subscription(fields: &mut Fields) -> Result<StoredSubscription, String> {
    let filter = fields.text("filter")?;
    TopicFilter::parse(&filter).map_err(|error| format!("{filter:?}: {error}"))?;
    Ok(StoredSubscription {
        filter,
        options: SubscriptionOptions {
            qos: qos(fields)?,
            no_local: fields.flag("no_local")?,
            retain_as_published: fields.flag("retain_as_published")?,
            retain_handling: match fields.number("retain_handling")? {
                0u8 => RetainHandling::SendAlways,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::SendNever,
                _ => return Err("\"retain_handling\" is 0, 1 or 2".to_owned()),
            },
        },
        identifier: fields.number("identifier")?,
        replay: fields.optional_text("replay")?,
    })
}

fn extent_value(extent: &Extent) -> Value {
    json!({"first": extent.first, "next": extent.next, "count": extent.count, "bytes": extent.bytes})
}

fn extent(fields: &mut Fields) -> Result<Extent, String> {
    let extent = Extent {
        first: fields.number("first")?,
        next: fields.number("next")?,
        count: fields.number("count")?,
        bytes: fields.number("bytes")?,
    };
    match extent.first > extent.next || extent.count > extent.next - extent.first {
        true => Err("more places than there are between the first and the next".to_owned()),
        false => Ok(extent),
    }
}

fn delivery_value(uid: Uid, lane: Lane, delivery: &StoredDelivery) -> Value {
    let message = delivery.message.as_ref().map(|stored| {
        json!({
            "message": message_value(&stored.message),
            "qos": stored.qos as u8,
            "retain": stored.retain,
            "subscription_ids": stored.subscription_ids,
            "share": stored.share,
        })
    });
    let lane = match lane {
        Lane::Live => "live",
        Lane::Replayed => "replayed",
    };
    let state = if message.is_some() { "waiting" } else { "released" };
    json!({
        "uid": uid,
        "lane": lane,
        "index": delivery.index,
        "before": delivery.before,
        "state": state,
        "terms": message,
    })
}

fn delivery(fields: &mut Fields) -> Result<StoredDelivery, String> {
    let (index, before) = (fields.number("index")?, fields.number("before")?);
    let terms = fields.optional("terms")?;
    let message = match (&*fields.text("state")?, terms) {
        ("waiting", Some(terms)) => Some(whole(terms, stored_message)?),
        ("released", None) => None,
        ("waiting" | "released", _) => return Err("a message waits, or has been released and is not there".to_owned()),
        _ => return Err("\"state\" is neither waiting nor released".to_owned()),
    };
    Ok(StoredDelivery { index, before, message })
}

fn stored_message(fields: &mut Fields) -> Result<StoredMessage, String> {
    Ok(StoredMessage {
        message: Arc::new(fields.object("message", message)?),
        qos: qos(fields)?,
        retain: fields.flag("retain")?,
        subscription_ids: fields
            .list("subscription_ids")?
            .iter()
            .map(number)
            .collect::<Result<_, _>>()?,
        share: fields.optional_text("share")?,
    })
}

fn lane(name: &str) -> Result<Lane, String> {
    match name {
        "live" => Ok(Lane::Live),
        "replayed" => Ok(Lane::Replayed),
        _ => Err("\"lane\" is neither live nor replayed".to_owned()),
    }
}

fn will_value(will: &StoredWill) -> Value {
    json!({
        "uid": will.uid,
        "delay_interval": will.delay_interval,
        "expires_in": will.expires_in,
        "message": message_value(&will.message),
        "client": BASE64.encode(&will.client),
    })
}

fn will(fields: &mut Fields) -> Result<StoredWill, String> {
    let will = StoredWill {
        uid: fields.number("uid")?,
        delay_interval: fields.number("delay_interval")?,
        expires_in: fields.optional_number("expires_in")?,
        message: fields.object("message", message)?,
        client: fields.bytes("client")?.into(),
    };
    read_client(&will.client).map_err(|error| format!("\"client\": {}", error.0))?;
    Ok(will)
}

fn message_value(message: &Message) -> Value {
    let publication = message.as_publication();
    json!({
        "topic": publication.topic,
        "payload": BASE64.encode(publication.payload),
        "properties": BASE64.encode(publication.properties),
        "expires_at": publication.expires_at.map(Millis::as_unix),
        "qos": publication.qos as u8,
        "retain": publication.retain,
    })
}

fn message(fields: &mut Fields) -> Result<Message, String> {
    let topic = fields.text("topic")?;
    topic::validate_name(topic.as_bytes()).map_err(|error| format!("{topic:?}: {error}"))?;
    let (payload, properties) = (fields.bytes("payload")?, fields.bytes("properties")?);
    if !are_forwardable(&properties) {
        return Err("\"properties\" are none that a message is passed on with".to_owned());
    }
    Ok(Message::new(&Publication {
        topic: &topic,
        payload: &payload,
        properties: &properties,
        expires_at: fields.optional_number("expires_at")?.map(Millis::from_unix),
        qos: qos(fields)?,
        retain: fields.flag("retain")?,
    }))
}

/// Whether these are the bytes of properties that go with a message to its receivers.
pub(super) fn are_forwardable(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let id = reader.u8().ok().and_then(PropertyId::from_u8);
        let is_right = id.is_some_and(|id| id.is_forwardable() && Property::read(id, &mut reader).is_ok());
        if !is_right {
            return false;
        }
    }
    true
}

fn qos(fields: &mut Fields) -> Result<QoS, String> {
    let qos = QoS::from_u8(fields.number("qos")?);
    qos.ok_or_else(|| "\"qos\" is 0, 1 or 2".to_owned())
}

fn each<T>(items: Vec<Value>, read: impl Fn(&mut Fields) -> Result<T, String>) -> Result<Vec<T>, String> {
    items.into_iter().map(|item| whole(item, &read)).collect()
}
