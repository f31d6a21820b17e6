//! The broker as a whole: its state, its log, and which clients are traced.

use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::body;
use crate::cli::http::Shared;
use crate::cli::http::query::Query;
use crate::cli::http::reply::{Fault, Reply, done, json};
use crate::cli::logging::Filter;
use crate::{NodeState, TraceTargets};

pub(super) async fn node(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    query.finish()?;
    let state = shared.broker.state().await;
    let listeners = shared.settings.read().listeners.clone();
    Ok(json(&node_fields(&state, &listeners)))
}

fn node_fields(state: &NodeState, listeners: &[String]) -> Value {
    let counters: Map<_, _> = state
        .counters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let discarded: Map<_, _> = state
        .discarded
        .iter()
        .map(|(cause, count)| (cause.name().to_owned(), json!(count)))
        .collect();
    json!({
        "id": &*state.id,
        "version": state.version,
        "uptime_seconds": state.uptime.as_secs(),
        "listeners": listeners,
        "connected_clients": state.connected_clients,
        "connected_clients_max": state.connected_clients_max,
        "disconnected_sessions": state.disconnected_sessions,
        "open_connections": state.open_connections,
        "subscriptions": state.subscriptions,
        "shared_subscriptions": state.shared_subscriptions,
        "retained_messages": state.retained_messages,
        "retained_bytes": state.retained_bytes,
        "queued_messages": state.queued_messages,
        "queued_bytes": state.queued_bytes,
        "counters": counters,
        "discarded_messages": discarded,
    })
}

pub(super) fn log(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    query.finish()?;
    Ok(json(&json!({ "level": shared.log.level() })))
}

pub(super) async fn set_log(shared: &Shared, query: Query, request: Request<Incoming>) -> Result<Reply, Fault> {
    query.finish()?;
    let mut fields = body::read(shared, request).await?;
    let level = fields.take_text("level")?;
    let level = level.ok_or_else(|| Fault::bad("\"level\" is missing"))?;
    fields.finish()?;
    let filter: Filter = level
        .parse()
        .map_err(|reason: String| Fault::bad(format!("\"level\": {reason}")))?;
    shared.log.set(filter);
    Ok(json(&json!({ "level": shared.log.level() })))
}

/// Patterns and addresses that may be traced, and characters of a pattern: each new connection is compared with all.
const MOST_TARGETS: usize = 100;
const LONGEST_PATTERN: usize = 256;

pub(super) fn trace(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    query.finish()?;
    Ok(json(&targets(&shared.broker.traced())))
}

fn targets(targets: &TraceTargets) -> Value {
    let addresses: Vec<_> = targets.addresses.iter().map(ToString::to_string).collect();
    json!({ "clients": targets.clients, "addresses": addresses })
}

pub(super) async fn set_trace(shared: &Shared, query: Query, request: Request<Incoming>) -> Result<Reply, Fault> {
    query.finish()?;
    let mut fields = body::read(shared, request).await?;
    let clients = fields.take_texts("clients")?;
    let addresses = fields.take_texts("addresses")?;
    fields.finish()?;
    if clients.len() + addresses.len() > MOST_TARGETS {
        return Err(Fault::bad(format!(
            "at most {MOST_TARGETS} clients and addresses are traced"
        )));
    }
    if clients.iter().any(|pattern| pattern.len() > LONGEST_PATTERN) {
        return Err(Fault::bad(format!(
            "a client of the list has at most {LONGEST_PATTERN} characters"
        )));
    }
    let parse = |text: &String| {
        let address = text.parse();
        address.map_err(|_| Fault::bad(format!("{text:?} is no IP address")))
    };
    let wanted = TraceTargets {
        addresses: addresses.iter().map(parse).collect::<Result<_, _>>()?,
        clients,
    };
    tracing::info!(clients = ?wanted.clients, addresses = ?wanted.addresses, "clients to trace set through the HTTP API");
    set(shared, wanted).await;
    Ok(json(&targets(&shared.broker.traced())))
}

/// In a task of its own: who has asked may not wait for the end.
async fn set(shared: &Shared, wanted: TraceTargets) {
    let broker = shared.broker.clone();
    let all = tokio::spawn(async move { broker.set_traced(wanted).await });
    if all.await.is_err() {
        tracing::error!("the clients to trace are not set: this is a fault of the broker");
    }
}

pub(super) async fn end_trace(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    query.finish()?;
    set(shared, TraceTargets::default()).await;
    tracing::info!("tracing ended through the HTTP API");
    Ok(done())
}
