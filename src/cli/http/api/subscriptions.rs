//! Subscriptions, by client and by Topic Filter.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::cluster::fault;
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
    let asked = shared.broker.subscriptions_everywhere(client, skip, limit).await;
    let Some(page) = asked.map_err(|error| fault(&error))? else {
        let client = shared.broker.client_everywhere(client).await;
        return Err(match client.map_err(|error| fault(&error))? {
            Some(_) => {
                let reason = "the session is busy, or has just ended: try again";
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, reason)
            }
            None => Fault::not_found("there is no such client, and no session of it"),
        });
    };
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
