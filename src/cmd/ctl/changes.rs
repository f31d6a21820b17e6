//! What changes something.

use std::io::Read;

use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::output::{Table, print, print_json};
use super::request::{Api, Resource};
use super::{Payload, Publish, Trace, Traced};

pub(super) fn kick(api: &Api, id: &str, session: bool) -> Result<(), String> {
    let path = Resource::new("clients")
        .part(id)
        .with_some("session", session.then_some(true));
    api.delete(&path).map(|_| ())
}

pub(super) fn delete_retained(api: &Api, filter: &str, json: bool) -> Result<(), String> {
    let answer = api
        .delete(&Resource::new("retained").with("filter", filter))?
        .unwrap_or_default();
    if json {
        return print_json(&answer);
    }
    print(format!("{} removed\n", answer["removed"]).as_bytes())
}

pub(super) fn publish(api: &Api, publish: &Publish) -> Result<(), String> {
    let mut message = Map::new();
    let mut set = |name: &str, value: Value| _ = message.insert(name.to_owned(), value);
    set("topic", json!(publish.topic));
    match String::from_utf8(payload(&publish.payload)?) {
        Ok(text) => set("payload", json!(text)),
        Err(bytes) => set("payload_base64", json!(BASE64.encode(bytes.as_bytes()))),
    }
    set("qos", json!(publish.qos));
    set("retain", json!(publish.retain));
    set("message_expiry_interval", json!(publish.expiry));
    set("content_type", json!(publish.content_type));
    set("response_topic", json!(publish.response_topic));
    set("correlation_data", json!(publish.correlation_data));
    set("user_properties", json!(publish.user_property));
    api.post(&Resource::new("publish"), &Value::Object(message))
}

fn payload(payload: &Payload) -> Result<Vec<u8>, String> {
    if let Some(path) = &payload.file {
        return std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    }
    let mut bytes = Vec::new();
    if payload.stdin {
        let read = std::io::stdin().read_to_end(&mut bytes);
        read.map_err(|error| format!("can't read standard input: {error}"))?;
    }
    Ok(payload.message.clone().map_or(bytes, String::into_bytes))
}

pub(super) fn log(api: &Api, level: Option<&str>, json: bool) -> Result<(), String> {
    let path = Resource::new("log");
    let answer = match level {
        None => api.get(&path)?,
        Some(level) => api.put(&path, &json!({ "level": level }))?,
    };
    if json {
        return print_json(&answer);
    }
    print(format!("{}\n", answer["level"].as_str().unwrap_or_default()).as_bytes())
}

pub(super) fn trace(api: &Api, trace: &Trace, json: bool) -> Result<(), String> {
    let path = Resource::new("trace");
    let mut list = TraceList::of(&api.get(&path)?);
    match trace {
        Trace::List => {}
        Trace::Add(traced) => list.add(traced),
        Trace::Remove(traced) => list.remove(traced)?,
        Trace::Clear => list = TraceList::default(),
    }
    if !matches!(trace, Trace::List) {
        list = TraceList::of(&api.put(&path, &list.to_json())?);
    }
    if json {
        return print_json(&list.to_json());
    }
    let mut table = Table::default();
    list.clients
        .into_iter()
        .for_each(|one| table.row(["client".to_owned(), one]));
    list.addresses
        .into_iter()
        .for_each(|one| table.row(["address".to_owned(), one]));
    table.print()
}

#[derive(Default)]
struct TraceList {
    clients: Vec<String>,
    addresses: Vec<String>,
}

impl TraceList {
    fn of(answer: &Value) -> TraceList {
        let texts = |name: &str| {
            let items = answer[name].as_array().into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        TraceList {
            clients: texts("clients"),
            addresses: texts("addresses"),
        }
    }

    fn to_json(&self) -> Value {
        json!({ "clients": self.clients, "addresses": self.addresses })
    }

    fn add(&mut self, traced: &Traced) {
        let add = |list: &mut Vec<String>, one: String| {
            if !list.contains(&one) {
                list.push(one);
            }
        };
        traced.client.iter().for_each(|one| add(&mut self.clients, one.clone()));
        traced
            .address
            .iter()
            .for_each(|one| add(&mut self.addresses, one.to_string()));
    }

    fn remove(&mut self, traced: &Traced) -> Result<(), String> {
        let remove = |list: &mut Vec<String>, one: &str| {
            let index = list.iter().position(|listed| listed == one);
            let index = index.ok_or_else(|| format!("{one:?} is not traced"))?;
            list.remove(index);
            Ok::<_, String>(())
        };
        traced
            .client
            .iter()
            .try_for_each(|one| remove(&mut self.clients, one))?;
        let mut addresses = traced.address.iter().map(ToString::to_string);
        addresses.try_for_each(|one| remove(&mut self.addresses, &one))
    }
}
