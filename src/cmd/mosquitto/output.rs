//! The new file.

use std::path::Path;

use super::listeners::{self, Table, Translated};
use super::model::{AccessFiles, Model};
use super::values::Value;
use super::{Note, Translation};

/// What the configuration becomes.
pub(super) fn translation(source: &Path, model: &Model) -> Translation {
    let listeners = listeners::translated(model);
    let (opened, left_out): (Vec<_>, Vec<_>) = listeners.iter().partition(|listener| listener.obstacles.is_empty());
    let mut notes = model.notes.clone();
    notes.extend(left_out.iter().map(|listener| Note {
        place: listener.place.clone(),
        text: format!("this listener is left out: {}", listener.obstacles.join("; ")),
    }));
    notes.extend(general_notes(model, &opened));
    let mut toml = format!(
        "# From {}, by `broker config import`.\n",
        one_line(&source.display().to_string())
    );
    toml += &body(model, &opened);
    for listener in left_out {
        toml += "\n# Left out, see below:\n";
        toml += &commented(&table(listener, true));
    }
    toml += &listed(&notes);
    Translation { toml, notes }
}

fn general_notes(model: &Model, opened: &[&Translated]) -> Vec<Note> {
    let mut texts = Vec::new();
    if opened.is_empty() {
        texts.push("no listener could be translated: the new file opens no port".to_owned());
    }
    if !model.has_packet_size {
        texts.push(
            "there is no max_packet_size: 2000000 is taken, as in Mosquitto 2.1, where 2.0 has no limit".to_owned(),
        );
    }
    if let Some(dir) = model.data_dir() {
        texts.push(format!(
            "data-dir is {dir}, which the user of the broker must be able to make and write: it begins empty, \
             mosquitto.db is not read"
        ));
    }
    if model.per_listener && model.is_default_forgotten() {
        texts.push("per_listener_settings: what stands before the first listener is for none".to_owned());
    }
    let has = |key: &str| {
        let mut tables = opened.iter().map(|listener| &listener.table);
        tables.any(|table| table.iter().any(|(name, _)| *name == key))
    };
    if has("trusted-proxies") {
        texts.push("trusted-proxies is everybody, as in Mosquitto: give the addresses of your proxies".to_owned());
    }
    let is_websocket = |(name, value): &(&str, Value)| {
        *name == "transport" && matches!(value, Value::Text(kind) if kind.starts_with("ws"))
    };
    if opened.iter().any(|listener| listener.table.iter().any(is_websocket)) {
        texts.push(
            "WebSocket clients ask for the path /mqtt or /, unless ws-path says another; Mosquitto takes any"
                .to_owned(),
        );
    }
    texts.into_iter().map(|text| Note { place: None, text }).collect()
}

fn body(model: &Model, opened: &[&Translated]) -> String {
    let mut settings: Table = Vec::new();
    if !model.has_packet_size {
        settings.push(("max-packet-size", Value::Number(2_000_000)));
    }
    settings.extend(model.settings.iter().cloned());
    settings.extend(model.data_dir().map(|dir| ("data-dir", Value::Text(dir))));
    match opened {
        [] => {
            settings.push(("no-tcp", Value::Flag(true)));
            lines(&settings)
        }
        [listener] => {
            // That of the listener is the narrower one.
            let own = flat(&listener.table);
            settings.retain(|(name, _)| own.iter().all(|(other, _)| other != name));
            settings.extend(own);
            settings.extend(access(&listener.access));
            lines(&settings)
        }
        several => {
            let is_same = several.iter().all(|listener| listener.access == several[0].access);
            if is_same {
                settings.extend(access(&several[0].access));
            }
            let tables = several.iter().map(|listener| table(listener, !is_same));
            lines(&settings) + &tables.collect::<String>()
        }
    }
}

fn access(access: &AccessFiles) -> Table {
    let file = |name, file: &Option<String>| file.clone().map(|file| (name, Value::Text(file)));
    let anonymous = access.anonymous.map(|on| ("anonymous", Value::Flag(on)));
    let files = file("password-file", &access.password_file)
        .into_iter()
        .chain(file("acl-file", &access.acl_file));
    files.chain(anonymous).collect()
}

/// The keys of a file that has one listener.
fn flat(table: &Table) -> Table {
    let transport = table.iter().find_map(|(name, value)| match value {
        Value::Text(kind) if *name == "transport" => Some(kind.as_str()),
        _ => None,
    });
    let kind = transport.unwrap_or("tcp");
    let mut keys = Table::new();
    if kind != "tcp" {
        keys.push(("no-tcp", Value::Flag(true)));
    }
    if kind == "wss" {
        keys.push(("tls-port", Value::from("off")));
    }
    let port = match kind {
        "tls" => "tls-port",
        "ws" => "ws-port",
        "wss" => "wss-port",
        _ => "port",
    };
    for (name, value) in table {
        match *name {
            "transport" => {}
            "port" => keys.push((port, value.clone())),
            "path" => keys.push(("unix-socket", value.clone())),
            "proxy-protocol" => keys.push(("proxy-protocol", Value::Texts(vec![kind.to_owned()]))),
            name => keys.push((name, value.clone())),
        }
    }
    keys
}

/// A `[[listener]]`.
fn table(listener: &Translated, with_access: bool) -> String {
    let value = |key: &str| {
        listener
            .table
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    let name = match (value("transport"), value("port")) {
        (Some(Value::Text(kind)), Some(port)) => format!("{kind}-{port}"),
        (Some(Value::Text(kind)), None) => kind.clone(),
        _ => "listener".to_owned(),
    };
    let mut keys: Table = vec![("name", Value::Text(name))];
    keys.extend(listener.table.iter().cloned());
    if with_access {
        keys.extend(access(&listener.access));
    }
    format!("\n[[listener]]\n{}", lines(&keys))
}

fn lines(table: &Table) -> String {
    table
        .iter()
        .map(|(name, value)| format!("{name} = {value}\n"))
        .collect()
}

fn commented(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| format!("# {line}\n")).collect()
}

fn listed(notes: &[Note]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let lines = notes.iter().map(|note| format!("# {}\n", one_line(&note.to_string())));
    format!("\n# Not translated, or to be looked at:\n{}", lines.collect::<String>())
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
