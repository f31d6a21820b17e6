//! Retained messages.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde_json::{Value, json};

use crate::cli::http::Shared;
use crate::cli::http::query::Query;
use crate::cli::http::reply::{Fault, Reply, json, respond};
use crate::{Message, TopicFilter};

pub(super) async fn list(shared: &Shared, mut query: Query) -> Result<Reply, Fault> {
    let limit = query.take_limit()?;
    let from = query.take("cursor").unwrap_or_default();
    let filter = query.take("filter").unwrap_or_else(|| "#".to_owned());
    query.finish()?;
    let page = shared.broker.retained_matching(&parse(&filter)?, &from, limit).await;
    let retained: Vec<_> = page.messages.iter().map(|message| entry(message)).collect();
    Ok(json(&json!({ "retained": retained, "next": page.next.as_deref() })))
}

pub(super) async fn clear(shared: &Shared, mut query: Query) -> Result<Reply, Fault> {
    let Some(filter) = query.take("filter") else {
        return Err(Fault::bad("give filter=TOPIC_FILTER; a # in it is written as %23"));
    };
    query.finish()?;
    let filter_of_topics = parse(&filter)?;
    if shared.broker.is_store_failing() {
        let reason = "the store takes no changes now: try again";
        return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, reason));
    }
    let removed = shared.broker.clear_retained(&filter_of_topics).await;
    tracing::info!(filter, removed, "retained messages removed through the HTTP API");
    Ok(json(&json!({ "removed": removed })))
}

/// The payload as it is. Never as what it claims to be: a browser must not take it for a page of this server.
pub(super) fn message(shared: &Shared, mut query: Query) -> Result<Reply, Fault> {
    let Some(topic) = query.take("topic") else {
        return Err(Fault::bad("give topic=TOPIC"));
    };
    query.finish()?;
    let message = shared.broker.retained(&topic);
    let message = message.ok_or_else(|| Fault::not_found("there is no retained message of this topic"))?;
    let kind = HeaderValue::from_static("application/octet-stream");
    let mut response = respond(StatusCode::OK, kind, Bytes::copy_from_slice(message.payload()));
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        HeaderName::from_static("mqtt-qos"),
        HeaderValue::from(message.qos() as u16),
    );
    if let Some(at) = message.expires_at() {
        headers.insert(
            HeaderName::from_static("mqtt-expires-at-ms"),
            HeaderValue::from(at.as_unix()),
        );
    }
    Ok(response)
}

fn parse(filter: &str) -> Result<TopicFilter, Fault> {
    let filter = TopicFilter::parse(filter).map_err(|error| Fault::bad(error.to_string()))?;
    match filter.share_name() {
        Some(_) => Err(Fault::bad("a shared subscription has no retained messages")),
        None => Ok(filter),
    }
}

fn entry(message: &Message) -> Value {
    json!({
        "topic": message.topic(),
        "qos": message.qos() as u8,
        "payload_bytes": message.payload().len(),
        "expires_at_ms": message.expires_at().map(|at| at.as_unix()),
    })
}
