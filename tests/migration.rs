//! Keeps the documents for those who come from other brokers complete and true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What the documentation and the types of Aedes 1.2.0 name, and the code of aedes-stats and aedes-cli 1.0.2.
const AEDES: &[&str] = &[
    // Options.
    "mq",
    "concurrency",
    "persistence",
    "queueLimit",
    "maxInflightInbound",
    "maxClientsIdLength",
    "maxTopicLevels",
    "heartbeatInterval",
    "id",
    "connectTimeout",
    "keepaliveLimit",
    "drainTimeout",
    "trustProxy",
    "trustedProxies",
    "decodeProtocol",
    // Handlers.
    "preConnect",
    "authenticate",
    "authorizePublish",
    "authorizeSubscribe",
    "authorizeForward",
    "published",
    // The broker.
    "new Aedes(options)",
    "Aedes.createBroker(options)",
    "aedes.listen()",
    "aedes.id",
    "aedes.connectedClients",
    "aedes.closed",
    "aedes.brokers",
    "aedes.handle(stream, request)",
    "aedes.subscribe(topic, deliverfunc, callback)",
    "aedes.unsubscribe(topic, deliverfunc, callback)",
    "aedes.publish(packet, callback)",
    "aedes.close(callback)",
    // Events.
    "client",
    "clientReady",
    "clientDisconnect",
    "clientError",
    "connectionError",
    "keepaliveTimeout",
    "publish",
    "ack",
    "ping",
    "subscribe",
    "unsubscribe",
    "connackSent",
    "closed",
    "error",
    // The client.
    "new Client(aedes, stream, request)",
    "client.conn",
    "client.req",
    "client.connecting",
    "client.connected",
    "client.closed",
    "client.id",
    "client.clean",
    "client.version",
    "connected",
    "client.publish(packet, callback)",
    "client.subscribe(subscriptions, callback)",
    "client.unsubscribe(unsubscriptions, callback)",
    "client.close(callback)",
    "client.emptyOutgoingQueue(callback)",
    // Topics.
    "$SYS/<id>/heartbeat",
    "$SYS/<id>/birth",
    "$SYS/<id>/new/clients",
    "$SYS/<id>/disconnect/clients",
    "$SYS/<id>/new/subscribes",
    "$SYS/<id>/new/unsubscribes",
    "$SYS/<id>/uptime",
    "$SYS/<id>/time",
    "$SYS/<id>/clients/total",
    "$SYS/<id>/clients/maximum",
    "$SYS/<id>/messages/publish/sent",
    "$SYS/<id>/memory/heap/current",
    "$SYS/<id>/memory/heap/maximum",
    "$SYS/<id>/cpu/usage",
    // aedes-cli.
    "port",
    "host",
    "protos",
    "credentials",
    "authorize-publish",
    "authorize-subscribe",
    "key",
    "cert",
    "reject-unauthorized",
    "tls-port",
    "ws-port",
    "wss-port",
    "stats",
    "stats-interval",
    "broker-id",
    "config",
    "verbose",
    "very-verbose",
    "no-pretty",
    "version",
    "help",
    "adduser",
    "rmuser",
    "start",
];

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cells of all rows, but those of the heads.
fn rows(document: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells = row.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Each name stands in the first column, beside what does it here or the word none.
#[test]
fn all_of_aedes_is_there() {
    let rows = rows("docs/migration-aedes.md");
    let named: BTreeSet<_> = rows.iter().flat_map(|cells| code_spans(&cells[0])).collect();
    let missing: Vec<_> = AEDES.iter().filter(|name| !named.contains(*name)).collect();
    assert!(missing.is_empty(), "not in docs/migration-aedes.md: {missing:?}");
    for cells in &rows {
        assert!(cells.len() >= 2 && !cells[1].is_empty(), "nothing beside {cells:?}");
        let says_why = !cells[1].trim_start_matches("none").trim().is_empty();
        assert!(says_why || cells[0] == "`aedes.id`", "no reason in {cells:?}");
    }
}

/// Names of the library are in its code: `Type::name`.
#[test]
fn what_the_documents_name_exists() {
    let mut faults = Vec::new();
    let code = library();
    for document in [
        "docs/migration-aedes.md",
        "docs/migration-mosquitto.md",
        "docs/migration-others.md",
    ] {
        let text = read(document);
        for path in code_spans(&text).filter(|span| span.contains("::") && !span.contains(' ')) {
            let Some((kind, name)) = path.split_once("::") else {
                continue;
            };
            let is_type = ["struct", "enum", "trait"]
                .iter()
                .any(|word| code.contains(&format!("pub {word} {kind}")));
            let defined = [
                format!("fn {name}("),
                format!("pub {name}:"),
                format!("\n    {name},"),
                format!("\n    {name}("),
                format!("\n    {name} {{"),
            ];
            if !is_type || !defined.iter().any(|text| code.contains(text)) {
                faults.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn library() -> String {
    let mut code = String::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("is readable");
            left.extend(entries.map(|entry| entry.expect("is readable").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code += &fs::read_to_string(path).expect("is readable");
        }
    }
    code
}
