//! Subscriptions, by client and by Topic Filter.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::cli::http::Shared;
use crate::cli::http::query::Query;
use crate::cli::http::reply::{Fault, Reply, json};
use crate::{Subscriber, SubscriptionState, TopicFilter};

pub(super) async fn list(shared: &Shared, mut query: Query) -> Result<Reply, Fault> {
    match (query.take("client"), query.take("filter")) {
        (Some(client), None) => of_client(shared, &client, query).await,
        (None, Some(filter)) => of_filter(shared, &filter, query),
        _ => Err(Fault::bad("give one of client=CLIENT_ID and filter=TOPIC_FILTER")),
    }
}

async fn of_client(shared: &Shared, client: &str, mut query: Query) -> Result<Reply, Fault> {
    let limit = query.take_limit()?;
    let skip = query.take_as("cursor", "the \"next\" of an earlier page")?.unwrap_or(0);
    query.finish()?;
    if shared.broker.client(client).is_none() {
        return Err(Fault::not_found("there is no such client, and no session of it"));
    }
    let page = shared.broker.subscriptions_of(client, skip, limit).await;
    let page = page.ok_or_else(|| {
        let reason = "the session is busy, or has just ended: try again";
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    })?;
    let subscriptions: Vec<_> = page.subscriptions.iter().map(|one| subscription(client, one)).collect();
    let next = page.next.map(|next| next.to_string());
    Ok(json(&json!({ "subscriptions": subscriptions, "next": next })))
}

fn of_filter(shared: &Shared, filter: &str, mut query: Query) -> Result<Reply, Fault> {
    let limit = query.take_limit()?;
    let after = query.take_as("cursor", "the \"next\" of an earlier page")?.unwrap_or(0);
    query.finish()?;
    let filter = TopicFilter::parse(filter).map_err(|error| Fault::bad(error.to_string()))?;
    let page = shared.broker.subscribers(&filter, after, limit);
    let subscriptions: Vec<_> = page.subscribers.iter().map(|one| subscriber(&filter, one)).collect();
    let next = page.next.map(|next| next.to_string());
    Ok(json(&json!({ "subscriptions": subscriptions, "next": next })))
}

fn subscription(client: &str, state: &SubscriptionState) -> Value {
    let options = &state.options;
    json!({
        "client_id": client,
        "filter": state.filter.as_str(),
        "qos": options.qos as u8,
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "retain_handling": options.retain_handling as u8,
        "identifier": state.identifier,
    })
}

fn subscriber(filter: &TopicFilter, subscriber: &Subscriber) -> Value {
    json!({
        "client_id": &*subscriber.client_id,
        "filter": filter.as_str(),
        "qos": subscriber.qos as u8,
        "no_local": subscriber.no_local,
        "retain_as_published": subscriber.retain_as_published,
    })
}
