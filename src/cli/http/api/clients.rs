//! Clients and their sessions.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::cli::http::Shared;
use crate::cli::http::query::Query;
use crate::cli::http::reply::{Fault, Reply, done, json};
use crate::{ClientInfo, ClientPage, ClientQuery, ClientState, ReasonCode, Transport};

/// Characters of a pattern: how long a comparison may take.
const LONGEST_PATTERN: usize = 256;

pub(super) async fn list(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    let ClientPage { clients, next, .. } = page(shared, query).await?;
    let clients: Vec<_> = clients.iter().map(client).collect();
    Ok(json(&json!({ "clients": clients, "next": next })))
}

pub(super) async fn list_sessions(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    let ClientPage { clients, next, .. } = page(shared, query).await?;
    let sessions: Vec<_> = clients.iter().map(|state| Value::Object(session(state))).collect();
    Ok(json(&json!({ "sessions": sessions, "next": next })))
}

async fn page(shared: &Shared, mut query: Query) -> Result<ClientPage, Fault> {
    let limit = query.take_limit()?;
    let cursor = query.take("cursor");
    let wanted = ClientQuery {
        client_id: query.take("filter"),
        prefix: query.take("prefix"),
        username: query.take("username"),
        address: query.take_as("address", "an IP address")?,
        connected: query.take_switch("connected")?,
    };
    query.finish()?;
    if wanted
        .client_id
        .as_ref()
        .is_some_and(|pattern| pattern.len() > LONGEST_PATTERN)
    {
        return Err(Fault::bad(format!(
            "\"filter\" has at most {LONGEST_PATTERN} characters"
        )));
    }
    let page = shared.broker.clients(&wanted, cursor.as_deref(), limit).await;
    page.map_err(|error| Fault::bad(error.to_string()))
}

pub(super) fn show(shared: &Shared, id: &str, query: Query) -> Result<Reply, Fault> {
    query.finish()?;
    let state = shared.broker.client(id).ok_or_else(unknown)?;
    Ok(json(&client(&state)))
}

/// Closes the connection, and on request ends the session.
pub(super) fn disconnect(shared: &Shared, id: &str, mut query: Query) -> Result<Reply, Fault> {
    let ends_session = query.take_switch("session")?.unwrap_or(false);
    query.finish()?;
    let broker = &shared.broker;
    let found = match ends_session {
        true => broker.end_session(id),
        false => broker.disconnect(id, ReasonCode::AdministrativeAction),
    };
    if found {
        tracing::info!(client = id, ends_session, "disconnected through the HTTP API");
        return Ok(done());
    }
    if broker.client(id).is_some() {
        let reason = "the client is not connected; with session=true its session ends";
        return Err(Fault::new(StatusCode::CONFLICT, reason));
    }
    Err(unknown())
}

fn unknown() -> Fault {
    Fault::not_found("there is no such client, and no session of it")
}

fn client(state: &ClientState) -> Value {
    let mut fields = session(state);
    let info = state.info.as_deref();
    fields.extend(connection(info));
    Value::Object(fields)
}

/// What a connection has; `null` where there is none.
fn connection(info: Option<&ClientInfo>) -> Map<String, Value> {
    let peer = info.map(|info| &info.peer);
    let fields = [
        ("username", json!(info.and_then(|info| info.username.as_deref()))),
        (
            "address",
            json!(peer.and_then(|peer| peer.address.map(|address| address.to_string()))),
        ),
        ("transport", json!(peer.map(|peer| transport(peer.transport)))),
        ("listener", json!(peer.and_then(|peer| peer.listener.as_deref()))),
        ("version", json!(info.map(|info| info.version.to_string()))),
        ("connected_at_ms", json!(info.map(|info| info.connected_at.as_unix()))),
        ("keep_alive", json!(info.map(|info| info.keep_alive))),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn session(state: &ClientState) -> Map<String, Value> {
    let expiry = state.info.as_ref().map(|info| info.session_expiry);
    let fields = [
        ("client_id", json!(&*state.client_id)),
        ("connected", json!(state.connected)),
        ("subscriptions", json!(state.subscriptions)),
        ("queued_messages", json!(state.queued_messages)),
        ("queued_bytes", json!(state.queued_bytes)),
        ("inflight_messages", json!(state.inflight_messages)),
        ("session_expiry", json!(expiry.filter(|seconds| *seconds != u32::MAX))),
        ("expires_at_ms", json!(state.expires_at.map(|at| at.as_unix()))),
    ];
    fields
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::WebSocket => "ws",
        Transport::SecureWebSocket => "wss",
        Transport::Unix => "unix",
    }
}
