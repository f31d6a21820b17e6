//! The cluster of which this broker is a node.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::cli::http::Shared;
use crate::cli::http::query::Query;
use crate::cli::http::reply::{Fault, Reply, json};
use crate::{ClusterError, ClusterNode, ClusterState};

pub(super) async fn show(shared: &Shared, query: Query) -> Result<Reply, Fault> {
    query.finish()?;
    let state = shared.broker.cluster().await;
    let state = state.ok_or_else(|| Fault::not_found("this broker is no node of a cluster (--redis)"))?;
    Ok(json(&cluster(&state.map_err(|error| fault(&error))?)))
}

/// What is said if something is not learnt from others.
pub(super) fn fault(error: &ClusterError) -> Fault {
    let status = match error {
        ClusterError::BadCursor => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Fault::new(status, error.to_string())
}

fn cluster(state: &ClusterState) -> Value {
    let nodes: Vec<_> = state.nodes.iter().map(node).collect();
    let recoveries = state.recoveries.iter();
    let recoveries: Vec<_> = recoveries
        .map(|recovery| json!({ "node": recovery.node, "name": recovery.name, "by": recovery.by }))
        .collect();
    json!({
        "node": state.node,
        "nodes": nodes,
        "recoveries": recoveries,
        "log_position": state.log_position,
        "log_entries": state.log_entries,
        "routes": state.routes,
        "retained_messages": state.retained_messages,
        "lease_ms": state.lease.as_millis() as u64,
    })
}

fn node(node: &ClusterNode) -> Value {
    let figures: Map<_, _> = node
        .figures
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({
        "node": node.node,
        "name": node.name,
        "version": node.version,
        "http": node.http,
        "since_ms": node.since.map(|since| since.as_unix()),
        "log_lag": node.log_lag,
        "heartbeat_age_ms": node.heartbeat_age.map(|age| age.as_millis() as u64),
        "figures": figures,
    })
}
