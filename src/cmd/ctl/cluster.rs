//! The cluster that a broker is a node of.

use serde_json::Value;

use super::lists::seconds_since;
use super::output::{Table, cell, duration, print, print_json};
use super::request::{Api, Resource};

pub(super) fn show(api: &Api, json: bool) -> Result<(), String> {
    let state = api.get(&Resource::new("cluster"))?;
    if json {
        return print_json(&state);
    }
    nodes(&state).print()?;
    if let Some(recoveries) = state["recoveries"].as_array().filter(|all| !all.is_empty()) {
        print(b"\n")?;
        self::recoveries(recoveries).print()?;
    }
    print(b"\n")?;
    let mut sums = Table::default();
    for name in ["log_position", "log_entries", "routes", "retained_messages"] {
        sums.row([name.to_owned(), cell(&state[name])]);
    }
    sums.print()
}

fn nodes(state: &Value) -> Table {
    let mut table = Table::with_head(&[
        "NODE",
        "NAME",
        "UP",
        "HEARD",
        "LAG",
        "CLIENTS",
        "SESSIONS",
        "RECOVERED",
        "GIVEN",
        "VERSION",
        "HTTP",
    ]);
    for node in list(&state["nodes"]) {
        let asked = state["node"] == node["node"];
        let number = cell(&node["node"]);
        let figures = &node["figures"];
        table.row([
            if asked { format!("{number} *") } else { number },
            cell(&node["name"]),
            node["since_ms"]
                .as_u64()
                .map_or_else(unknown, |at| duration(seconds_since(at))),
            node["heartbeat_age_ms"].as_u64().map_or_else(unknown, ago),
            cell(&node["log_lag"]),
            cell(&figures["connected_clients"]),
            cell(&figures["owned_sessions"]),
            cell(&figures["recovered_clients"]),
            cell(&figures["given_rests"]),
            cell(&node["version"]),
            cell(&node["http"]),
        ]);
    }
    table
}

fn recoveries(recoveries: &[Value]) -> Table {
    let mut table = Table::with_head(&["DEAD", "NAME", "RECOVERED BY"]);
    for recovery in recoveries {
        table.row(["node", "name", "by"].map(|name| cell(&recovery[name])));
    }
    table
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn unknown() -> String {
    "-".to_owned()
}

/// Heartbeats come several in a second, or some seconds apart.
fn ago(millis: u64) -> String {
    format!("{}.{}s ago", millis / 1000, millis % 1000 / 100)
}
