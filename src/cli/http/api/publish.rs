//! Publishing a message.

use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;

use super::body::{self, Fields};
use crate::cli::http::Shared;
use crate::cli::http::query::Query;
use crate::cli::http::reply::{Fault, Reply, done};
use crate::{NewMessage, PropertiesBuilder, QoS};

/// Time for which the answer waits for slow subscribers. The message is on its way meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn publish(shared: &Shared, query: Query, request: Request<Incoming>) -> Result<Reply, Fault> {
    query.finish()?;
    let message = message(body::read(shared, request).await?)?;
    match tokio::time::timeout(PATIENCE, shared.broker.publish(message)).await {
        Ok(Err(error)) => Err(Fault::bad(error.to_string())),
        Ok(Ok(())) | Err(_) => Ok(done()),
    }
}

fn message(mut fields: Fields) -> Result<NewMessage, Fault> {
    let topic = fields.take_text("topic")?;
    let topic = topic.ok_or_else(|| Fault::bad("\"topic\" is missing"))?;
    if topic == "$SYS" || topic.starts_with("$SYS/") {
        return Err(Fault::bad("$SYS belongs to the broker"));
    }
    let payload = fields.take_bytes("payload")?.unwrap_or_default();
    let qos = fields.take_number("qos", 2)?.unwrap_or(0);
    let qos = QoS::from_u8(qos as u8).unwrap_or_default();
    let retain = fields.take_bool("retain")?.unwrap_or(false);
    let expiry = fields.take_number("message_expiry_interval", u32::MAX)?;
    let properties = properties(&mut fields)?;
    fields.finish()?;
    let message = NewMessage::new(topic, payload).map_err(|error| Fault::bad(error.to_string()))?;
    let message = message.qos(qos).retain(retain).properties(properties);
    Ok(match expiry {
        Some(seconds) => message.expiry(seconds),
        None => message,
    })
}

fn properties(fields: &mut Fields) -> Result<PropertiesBuilder, Fault> {
    let mut properties = PropertiesBuilder::new();
    let wrong = |name: &'static str| move |error| Fault::bad(format!("{name:?}: {error}"));
    if let Some(utf8) = fields.take_bool("payload_is_utf8")? {
        properties = properties.payload_is_utf8(utf8).map_err(wrong("payload_is_utf8"))?;
    }
    if let Some(text) = fields.take_text("content_type")? {
        properties = properties.content_type(&text).map_err(wrong("content_type"))?;
    }
    if let Some(topic) = fields.take_text("response_topic")? {
        properties = properties.response_topic(&topic).map_err(wrong("response_topic"))?;
    }
    if let Some(data) = fields.take_bytes("correlation_data")? {
        properties = properties.correlation_data(&data).map_err(wrong("correlation_data"))?;
    }
    for (name, value) in user_properties(fields)? {
        properties = properties
            .user_property(&name, &value)
            .map_err(wrong("user_properties"))?;
    }
    Ok(properties)
}

/// An object, or a list of pairs for names that are there more than once or in an order.
fn user_properties(fields: &mut Fields) -> Result<Vec<(String, String)>, Fault> {
    let wrong = || Fault::bad("\"user_properties\" is an object of strings, or a list of pairs of strings");
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        _ => Err(wrong()),
    };
    let pair = |value: Value| match value {
        Value::Array(pair) => {
            let [name, value] = <[Value; 2]>::try_from(pair).map_err(|_| wrong())?;
            Ok((text(name)?, text(value)?))
        }
        _ => Err(wrong()),
    };
    match fields.take("user_properties") {
        None => Ok(Vec::new()),
        Some(Value::Object(all)) => all.into_iter().map(|(name, value)| Ok((name, text(value)?))).collect(),
        Some(Value::Array(all)) => all.into_iter().map(pair).collect(),
        Some(_) => Err(wrong()),
    }
}
