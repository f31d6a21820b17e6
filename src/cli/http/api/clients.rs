//! Clients and their sessions.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::cluster::fault;
use crate::cli::http::Shared;
use crate::cli::http::query::Query;
use crate::cli::http::reply::{Fault, Reply, done, json};
use crate::{ClientInfo, ClientPage, ClientQuery, ClientState, Disconnected, Transport};

/// Characters of a pattern: how long a comparison may take.
const LONGEST_PATTERN: usize = 256;

pub(super) async fn list(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    let ClientPage { clients, next, .. } = page(shared, query).await?;
    let clients: Vec<_> = clients.iter().map(client).collect();
    Ok(json(&json!({ "clients": clients, "next": next })))
}

pub(super) async fn list_sessions(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    let ClientPage { clients, next, .. } = page(shared, query).await?;
    let sessions = clients.iter();
    let sessions: Vec<Map<_, _>> = sessions
        .map(|state| session(state).into_iter().chain(node(state)).collect())
        .collect();
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
    let page = shared.broker.clients_everywhere(&wanted, cursor.as_deref(), limit);
    page.await.map_err(|error| fault(&error))
}

pub(super) async fn show(shared: &Shared, id: &str, query: Query) -> Result<Reply, Fault> {
    query.finish()?;
    let state = shared.broker.client_everywhere(id).await;
    let state = state.map_err(|error| fault(&error))?.ok_or_else(unknown)?;
    Ok(json(&client(&state)))
}

/// Closes the connection, and on request ends the session.
pub(super) async fn disconnect(shared: &Shared, id: &str, mut query: Query) -> Result<Reply, Fault> {
    let ends_session = query.take_switch("session")?.unwrap_or(false);
    query.finish()?;
    let asked = shared.broker.disconnect_everywhere(id, ends_session).await;
    match asked.map_err(|error| fault(&error))? {
        Disconnected::Done => {
            tracing::info!(client = id, ends_session, "disconnected through the HTTP API");
            Ok(done())
        }
        Disconnected::IsAway => {
            let reason = "the client is not connected; with session=true its session ends";
            Err(Fault::new(StatusCode::CONFLICT, reason))
        }
        Disconnected::IsUnknown => Err(unknown()),
    }
}

fn unknown() -> Fault {
    Fault::not_found("there is no such client, and no session of it")
}

fn client(state: &ClientState) -> Value {
    let mut fields = session(state);
    let info = state.info.as_deref();
    fields.extend(connection(info));
    fields.extend(node(state));
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

/// In a cluster, where it is connected.
fn node(state: &ClientState) -> impl Iterator<Item = (String, Value)> {
    let node = state.node.iter();
    node.flat_map(|node| {
        [
            ("node".to_owned(), json!(node.node)),
            ("node_name".to_owned(), json!(&*node.name)),
        ]
    })
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
