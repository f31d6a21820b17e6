//! What there is in the broker.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::output::{Table, cell, duration, print, print_json};
use super::request::{Api, Resource};
use super::{Subscriptions, Which};

/// Entries that are asked for at a time.
const PAGE: usize = 1000;

/// How a list is printed for people.
struct Columns {
    names: &'static [&'static str],
    cells: fn(&Value) -> Vec<String>,
}

impl Columns {
    /// In a cluster also where clients are connected.
    fn table(&self, entries: &[Value]) -> Table {
        let has_nodes = entries.iter().any(|entry| entry.get("node").is_some());
        let node = has_nodes.then_some("NODE");
        let names: Vec<_> = self.names.iter().copied().chain(node).collect();
        let mut table = Table::with_head(&names);
        for entry in entries {
            let node = has_nodes.then(|| match entry.get("node") {
                Some(node) => format!("{} ({})", cell(&entry["node_name"]), cell(node)),
                None => "-".to_owned(),
            });
            table.row((self.cells)(entry).into_iter().chain(node));
        }
        table
    }
}

pub(super) fn node(api: &Api, json: bool) -> Result<(), String> {
    let node = api.get(&Resource::new("node"))?;
    if json {
        return print_json(&node);
    }
    let mut table = Table::default();
    for (name, value) in fields(&node) {
        match value {
            Value::Object(_) => {
                for (inner, value) in fields(value) {
                    table.row([format!("{name}.{inner}"), cell(value)]);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| table.row([name.clone(), cell(item)])),
            value => table.row([name.clone(), cell(value)]),
        }
    }
    table.print()
}

pub(super) fn clients(api: &Api, which: &Which, json: bool) -> Result<(), String> {
    let columns = Columns {
        names: &[
            "CLIENT",
            "CONNECTED",
            "USER",
            "ADDRESS",
            "OVER",
            "MQTT",
            "SUBS",
            "QUEUED",
            "IN FLIGHT",
        ],
        cells: |client| {
            let connected = match client["connected_at_ms"].as_u64() {
                Some(at) => duration(seconds_since(at)),
                None => cell(&client["connected"]),
            };
            let mut cells = vec![cell(&client["client_id"]), connected];
            let names = [
                "username",
                "address",
                "transport",
                "version",
                "subscriptions",
                "queued_messages",
            ];
            cells.extend(names.map(|name| cell(&client[name])));
            cells.push(cell(&client["inflight_messages"]));
            cells
        },
    };
    all(api, "clients", chosen("clients", which), which.limit, json, &columns)
}

pub(super) fn sessions(api: &Api, which: &Which, json: bool) -> Result<(), String> {
    let columns = Columns {
        names: &["CLIENT", "CONNECTED", "SUBS", "QUEUED", "BYTES", "IN FLIGHT", "ENDS"],
        cells: |session| {
            let names = [
                "client_id",
                "connected",
                "subscriptions",
                "queued_messages",
                "queued_bytes",
            ];
            let mut cells = names.map(|name| cell(&session[name])).to_vec();
            cells.extend([cell(&session["inflight_messages"]), end_of(session)]);
            cells
        },
    };
    all(api, "sessions", chosen("sessions", which), which.limit, json, &columns)
}

pub(super) fn client(api: &Api, id: &str, json: bool) -> Result<(), String> {
    let client = api.get(&Resource::new("clients").part(id))?;
    if json {
        return print_json(&client);
    }
    let mut table = Table::default();
    fields(&client).for_each(|(name, value)| table.row([name.clone(), cell(value)]));
    table.print()
}

pub(super) fn subscriptions(api: &Api, of: &Subscriptions, json: bool) -> Result<(), String> {
    let columns = Columns {
        names: &["CLIENT", "FILTER", "QOS", "NO LOCAL", "RETAIN AS PUBLISHED"],
        cells: |subscription| {
            let names = ["client_id", "filter", "qos", "no_local", "retain_as_published"];
            names.map(|name| cell(&subscription[name])).to_vec()
        },
    };
    let path = || {
        Resource::new("subscriptions")
            .with_some("client", of.client.as_ref())
            .with_some("filter", of.filter.as_ref())
    };
    all(api, "subscriptions", path, None, json, &columns)
}

pub(super) fn retained(api: &Api, filter: &str, json: bool) -> Result<(), String> {
    let columns = Columns {
        names: &["TOPIC", "QOS", "BYTES", "EXPIRES IN"],
        cells: |message| {
            let mut cells = ["topic", "qos", "payload_bytes"]
                .map(|name| cell(&message[name]))
                .to_vec();
            let left = message["expires_at_ms"].as_u64().map(seconds_until);
            cells.push(left.map_or_else(|| "-".to_owned(), duration));
            cells
        },
    };
    let path = || Resource::new("retained").with("filter", filter);
    all(api, "retained", path, None, json, &columns)
}

pub(super) fn retained_message(api: &Api, topic: &str) -> Result<(), String> {
    print(&api.get_raw(&Resource::new("retained/message").with("topic", topic))?)
}

fn chosen(resource: &str, which: &Which) -> impl Fn() -> Resource {
    move || {
        let connected = match (which.connected, which.disconnected) {
            (false, false) => None,
            (connected, _) => Some(connected),
        };
        Resource::new(resource)
            .with_some("filter", which.filter.as_ref())
            .with_some("username", which.username.as_ref())
            .with_some("address", which.address)
            .with_some("connected", connected)
    }
}

/// Asks for page after page, and prints each: columns are as wide as those of a page, and memory is that of a page.
fn all(
    api: &Api,
    name: &str,
    path: impl Fn() -> Resource,
    limit: Option<usize>,
    json: bool,
    columns: &Columns,
) -> Result<(), String> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut next: Option<String> = None;
    let mut is_first = true;
    while left > 0 {
        let page = path()
            .with("limit", &left.min(PAGE).to_string())
            .with_some("cursor", next.as_ref());
        let page = api.get(&page)?;
        let entries = page[name].as_array().map_or(&[][..], Vec::as_slice);
        left = left.saturating_sub(entries.len());
        if json {
            entries.iter().try_for_each(print_json)?;
        } else if is_first || !entries.is_empty() {
            columns.table(entries).print()?;
        }
        is_first = false;
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    Ok(())
}

fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn end_of(session: &Value) -> String {
    let connected = session["connected"] == true;
    match (
        connected,
        session["session_expiry"].as_u64(),
        session["expires_at_ms"].as_u64(),
    ) {
        (true, Some(0), _) => "with its connection".to_owned(),
        (true, Some(seconds), _) => format!("{} after it", duration(seconds)),
        (false, _, Some(at)) => format!("in {}", duration(seconds_until(at))),
        _ => "never".to_owned(),
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn seconds_since(at_ms: u64) -> u64 {
    now_ms().saturating_sub(at_ms) / 1000
}

fn seconds_until(at_ms: u64) -> u64 {
    at_ms.saturating_sub(now_ms()) / 1000
}
