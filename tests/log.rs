//! What is in the log: levels, at the start and changed while the broker runs; single clients that are traced; and that
//! what happens to clients can be found.

mod common;
use common::*;
#[path = "common/api.rs"]
mod with_api;
use with_api::*;

use serde_json::json;
use std::fs;

/// Traces these from now on.
fn trace(api: &Api, clients: &[&str], addresses: &[&str]) {
    let list = json!({ "clients": clients, "addresses": addresses });
    assert_eq!(api.send("PUT", "trace", &list.to_string()).json(), list);
}

/// The lines of the log with this text.
fn lines(broker: &Broker, text: &str) -> Vec<String> {
    let log = broker.log();
    log.lines()
        .filter(|line| line.contains(text))
        .map(str::to_owned)
        .collect()
}

// ---- levels ---------------------------------------------------------------------------------------------------------

#[test]
fn a_module_has_a_level_of_its_own() {
    let broker = Broker::start(&["--log-level", "warn,mqtt_broker::connection=debug"]);
    broker.v5("known").disconnect();
    broker.expect_log("DEBUG connected client=\"known\"");
    broker.expect_log("DEBUG disconnected client=\"known\"");
    let quiet = Broker::start(&["--log-level", "mqtt_broker::connection=off,debug"]);
    let mut client = quiet.v5("known");
    client.send(Publish::new("$SYS/x", "").qos(1, 1));
    client.recv_puback();
    quiet.expect_log("publication denied");
    assert!(!quiet.log().contains("connected"), "{}", quiet.log());
}

#[test]
fn a_level_that_is_none_is_refused() {
    for (options, reason) in [
        (&["--log-level", "verbose"][..], "\"verbose\" is no level"),
        (
            &["--log-level", "info,mqtt_broker::access=loud"],
            "\"loud\" is no level",
        ),
        (&["--log-level", "debug", "-v"], "cannot be used with"),
        (&["--log-level", "debug", "-q"], "cannot be used with"),
    ] {
        let (code, said) = Broker::cannot_start(options);
        assert!(code == Some(2) && said.contains(reason), "{options:?}: {said}");
    }
}

#[test]
fn levels_change_while_the_broker_runs() {
    let api = Api::start(&[]);
    assert_eq!(api.get("log"), json!({ "level": "info" }));
    api.broker.v5("before").disconnect();
    let level = "warn,mqtt_broker::connection=debug,mqtt_broker::cli=info";
    let answer = api.send("PUT", "log", &json!({ "level": level }).to_string());
    assert_eq!(answer.json(), json!({ "level": level }));
    api.broker.v5("meanwhile").disconnect();
    api.broker.expect_log("disconnected client=\"meanwhile\"");
    for wrong in [
        r#"{"level": "loud"}"#,
        r#"{"level": 1}"#,
        "{}",
        r#"{"level": "info", "x": 1}"#,
    ] {
        api.send("PUT", "log", wrong).expect_error(400, "");
    }
    assert_eq!(api.get("log"), json!({ "level": level }));
    api.send("PUT", "log", r#"{"level": "info"}"#).json();
    api.broker.v5("after").disconnect();
    api.send("PUT", "log", r#"{"level": "debug"}"#).json();
    api.broker.v5("last").disconnect();
    api.broker.expect_log("disconnected client=\"last\"");
    let log = api.broker.log();
    assert!(!log.contains("\"before\"") && !log.contains("\"after\""), "{log}");
}

/// A reload puts the level of the settings into force, also over one that the API has set.
#[test]
fn a_reload_sets_the_level() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("broker.toml");
    let path = file.to_str().expect("UTF-8");
    fs::write(&file, "log-level = \"info\"\n").expect("written");
    let api = Api::start(&["--config", path]);
    api.send("PUT", "log", r#"{"level": "error"}"#).json();
    api.broker.signal("HUP");
    api.broker.expect_log("reloaded");
    assert_eq!(api.get("log"), json!({ "level": "info" }));
    api.broker.v5("unseen").disconnect();
    fs::write(&file, "log-level = \"mqtt_broker::connection=debug\"\n").expect("written");
    api.broker.signal("HUP");
    api.broker.expect_log("reloaded");
    api.broker.v5("seen").disconnect();
    api.broker.expect_log("disconnected client=\"seen\"");
    fs::write(&file, "log-level = \"loud\"\n").expect("written");
    api.broker.signal("HUP");
    api.broker.expect_log("not reloaded: the old settings stay in force");
    assert!(!api.broker.log().contains("unseen"));
}

#[test]
fn lines_of_json_say_which_module_they_are_from() {
    let broker = Broker::start(&["--log-format", "json", "-v"]);
    broker.v5("known").disconnect();
    broker.expect_log("\"message\":\"disconnected\"");
    let lines = lines(&broker, "\"message\":\"connected\"");
    let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!((&line["level"], &line["client"]), (&json!("DEBUG"), &json!("known")));
    assert_eq!(line["target"], "mqtt_broker::connection::handshake");
}

// ---- traced clients -------------------------------------------------------------------------------------------------

/// Every packet of the client is there, in both directions, but neither payloads nor passwords; others are not there.
#[test]
fn each_packet_of_a_traced_client_is_logged() {
    let api = Api::start(&[]);
    trace(&api, &["traced-*"], &[]);
    let mut other = api.broker.v5("other");
    let connect = Connect::persistent(Version::V5, "traced-1").credentials("ann", "secret-password");
    let mut client = api.broker.connect(connect);
    client.subscribe("in/#", 2);
    client.publish("out", "secret-payload", 2);
    for qos in 0..=2 {
        other.publish("in/x", "secret-payload", qos);
        client.expect_message("in/x", "secret-payload");
    }
    client.unsubscribe("in/#");
    client.ping();
    client.disconnect();
    let log = &api.broker;
    for line in [
        "received CONNECT client=\"traced-1\" peer=127.0.0.1:",
        "sent CONNACK client=\"traced-1\" reason=Success (0x00)",
        "received SUBSCRIBE client=\"traced-1\" packet_id=1 filters=[(\"in/#\", 2)] count=1",
        "sent SUBACK client=\"traced-1\" packet_id=1 codes=\"0x02\" count=1",
        "received PUBLISH client=\"traced-1\" topic=\"out\" qos=2 packet_id=2 retain=false dup=false payload_bytes=14",
        "sent PUBREC client=\"traced-1\" packet_id=2",
        "received PUBREL client=\"traced-1\" packet_id=2",
        "sent PUBCOMP client=\"traced-1\" packet_id=2",
        "sent PUBLISH client=\"traced-1\" topic=\"in/x\" qos=0 packet_id=0",
        "sent PUBLISH client=\"traced-1\" topic=\"in/x\" qos=1 packet_id=1",
        "received PUBACK client=\"traced-1\" packet_id=1",
        "sent PUBLISH client=\"traced-1\" topic=\"in/x\" qos=2 packet_id=2",
        "received PUBREC client=\"traced-1\" packet_id=2",
        "sent PUBREL client=\"traced-1\" packet_id=2",
        "received PUBCOMP client=\"traced-1\" packet_id=2",
        "received UNSUBSCRIBE client=\"traced-1\"",
        "sent UNSUBACK client=\"traced-1\"",
        "received PINGREQ client=\"traced-1\"",
        "sent PINGRESP client=\"traced-1\"",
        "received DISCONNECT client=\"traced-1\" reason=Success (0x00)",
    ] {
        log.expect_log(line);
    }
    let text = log.log();
    assert!(text.contains("username=\"ann\" has_password=true"), "{text}");
    assert!(!text.contains("secret") && !text.contains("\"other\""), "{text}");
}

/// A client that is connected is traced from now on, also what comes to it at QoS 0, and then no longer.
#[test]
fn tracing_begins_and_ends_while_a_client_is_connected() {
    let api = Api::start(&[]);
    let (mut subscriber, mut publisher) = api.broker.pair(Version::V5);
    subscriber.subscribe("a", 0);
    let mut exchange = |payload: &str| {
        publisher.publish("a", payload, 0);
        subscriber.expect_message("a", payload);
        subscriber.ping();
    };
    exchange("before");
    trace(&api, &["subscriber"], &[]);
    exchange("1");
    exchange("22");
    api.broker
        .expect_log("sent PUBLISH client=\"subscriber\" topic=\"a\" qos=0");
    api.broker.expect_log("payload_bytes=2");
    api.curl("trace", &["-X", "DELETE"]).expect_done();
    assert_eq!(api.get("trace"), json!({ "clients": [], "addresses": [] }));
    exchange("4444");
    exchange("4444");
    trace(&api, &["publisher"], &[]);
    // The connection has noticed when it has answered; a packet that it has read before may not be in the log.
    exchange("55555");
    exchange("55555");
    api.broker
        .expect_log("received PUBLISH client=\"publisher\" topic=\"a\"");
    assert_eq!(lines(&api.broker, "sent PUBLISH").len(), 2, "{}", api.broker.log());
}

/// By the address, whatever the identifier; a client that is refused is seen, too.
#[test]
fn clients_are_traced_by_their_address() {
    let api = Api::start(&["--max-client-id-length", "10"]);
    trace(&api, &[], &["127.0.0.2"]);
    api.broker.v5("unseen").disconnect();
    trace(&api, &[], &["127.0.0.1"]);
    api.broker.v5("seen").disconnect();
    api.broker.expect_log("received DISCONNECT client=\"seen\"");
    let mut refused = api.broker.try_connect(Connect::v5("longer-than-ten"));
    refused.expect_closed();
    api.broker
        .expect_log("refused CONNECT client=\"longer-than-ten\" reason=Client Identifier not valid (0x85)");
    assert!(lines(&api.broker, "unseen").is_empty());
}

#[test]
fn a_list_to_trace_is_checked() {
    let api = Api::start(&[]);
    let many: Vec<_> = (0..101).map(|n| format!("c{n}")).collect();
    for (body, reason) in [
        (json!({ "addresses": ["here"] }), "no IP address"),
        (json!({ "clients": "a" }), "list of strings"),
        (json!({ "clients": [1] }), "is a string"),
        (json!({ "client": ["a"] }), "no field"),
        (json!({ "clients": many }), "at most 100"),
        (json!({ "clients": ["*".repeat(257)] }), "at most 256"),
    ] {
        api.send("PUT", "trace", &body.to_string()).expect_error(400, reason);
    }
}

// ---- what can be found ----------------------------------------------------------------------------------------------

/// Who comes, goes and is refused, and why.
#[test]
fn comings_goings_and_refusals_are_logged() {
    let broker = Broker::start(&["-v", "--max-client-id-length", "10", "--max-subscriptions", "1"]);
    let client = broker.v5("lost");
    client.kill();
    broker.expect_log("connection lost client=\"lost\"");
    broker.v5("wrong").send_bytes(&[0xf0, 1, 0]);
    broker.expect_log("connection closed client=\"wrong\" reason=");
    let _ = broker.try_connect(Connect::v5("longer-than-ten"));
    broker.expect_log("connection refused client=\"longer-than-ten\"");
    let mut client = broker.v5("greedy");
    client.subscribe("a", 0);
    assert_eq!(client.try_subscribe("b", 0), 0x97);
    broker.expect_log("subscription refused client=\"greedy\" filter=\"b\" reason=Quota exceeded (0x97)");
    let _second = broker.v5("greedy");
    broker.expect_log("connection closed client=\"greedy\" reason=Session taken over (0x8E)");
}

/// A subscription that is wider than what its client may read is no fault of anybody: what is left out is for those who
/// look closely.
#[test]
fn what_a_wide_subscription_does_not_get_is_no_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let acl = directory.path().join("acl");
    fs::write(&acl, "topic write #\ntopic read public\n").expect("written");
    let acl = acl.to_str().expect("UTF-8");
    for (level, is_logged) in [("info", false), ("debug", true)] {
        let broker = Broker::start(&["--acl-file", acl, "--log-level", level]);
        let (mut subscriber, mut publisher) = broker.pair(Version::V5);
        subscriber.subscribe("#", 1);
        for qos in [0, 1] {
            publisher.publish("private", "x", qos);
        }
        publisher.publish("public", "x", 1);
        subscriber.expect_message("public", "x");
        subscriber.ping();
        let found = lines(&broker, "not authorized");
        assert_eq!(found.len(), usize::from(is_logged), "{}", broker.log());
        assert!(!broker.log().contains("WARN discarding"), "{}", broker.log());
    }
}
