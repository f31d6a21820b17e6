//! The JSON API on the HTTP listener: with curl, and with what no client should send.

mod common;
use common::*;
#[path = "common/api.rs"]
mod with_api;
use with_api::*;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The client identifiers of a page.
fn ids(page: &Value, name: &str) -> BTreeSet<String> {
    let entries = page[name].as_array().expect("a list");
    entries
        .iter()
        .map(|entry| entry["client_id"].as_str().expect("a client").to_owned())
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A client whose session outlives it by ten minutes.
fn persistent(id: &str) -> Connect {
    Connect::v5(id).clean(false).expiry(600)
}

// ---- who may use it -------------------------------------------------------------------------------------------------

/// Without a token there is no API, and the answer says how to open it.
#[test]
fn it_is_off_unless_a_token_opens_it() {
    let broker = Broker::start(&["--http-port", "0"]);
    let address = broker.addr_of("http");
    let get = "GET /api/v1/node HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \r\nConnection: close\r\n\r\n";
    let mut socket = std::net::TcpStream::connect(address).expect("connected");
    std::io::Write::write_all(&mut socket, get.as_bytes()).expect("sent");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut socket, &mut answer).expect("read");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("--http-token-file"), "{answer}");
}

#[test]
fn a_token_that_protects_nothing_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let path = file.to_str().expect("UTF-8");
    let start = || Broker::cannot_start(&["--http-port", "0", "--http-token-file", path]);
    let (code, said) = start();
    assert!(code == Some(1) && said.contains("token: No such file"), "{said}");
    for (text, reason) in [
        ("", "at least 16 bytes"),
        ("fifteen-bytes--\n", "at least 16 bytes"),
        ("two words are no token", "without blanks"),
    ] {
        fs::write(&file, text).expect("written");
        let (code, said) = start();
        assert!(code == Some(1) && said.contains(reason), "{text:?}: {said}");
    }
    let (code, said) = Broker::cannot_start(&["--http-token-file", path]);
    assert!(code == Some(2) && said.contains("--http-port"), "{said}");
    fs::remove_file(&file).expect("removed");
    fs::create_dir(&file).expect("made");
    assert!(start().1.contains("it is no file"));
}

#[test]
fn who_has_not_the_token_is_refused() {
    let api = Api::start(&[]);
    api.curl_without_token("node", &[]).expect_error(401, "Authorization");
    let challenge = api.raw("GET /api/v1/node HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(challenge.contains("www-authenticate: Bearer\r\n"), "{challenge}");
    for wrong in [
        "Bearer wrong",
        "Bearer",
        "Basic MDEyMzQ1Njc4OS1hLXRva2VuLWZvci10ZXN0cw==",
        "Bearer \u{e9}",
    ] {
        let header = format!("Authorization: {wrong}");
        let answer = api.curl_without_token("node", &["-H", &header]);
        assert_eq!(answer.status, 401, "{wrong}");
    }
    // Whatever there is or is not.
    api.curl_without_token("nothing", &[]).expect_error(401, "");
    api.broker.expect_log("wrong token for the HTTP API");
    assert_eq!(api.curl("node", &[]).status, 200);
    let header = format!("Authorization: bearer {}", TOKEN);
    assert_eq!(api.curl_without_token("node", &["-H", &header]).status, 200);
    for open in ["metrics", "healthz", "readyz"] {
        let answer = api.raw(format!("GET /{open} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// An address that guesses waits, and who has the right token is let in from there all the same: behind a proxy it may be
/// somebody else.
#[test]
fn guesses_are_limited() {
    let api = Api::start(&[]);
    let request = |token: &str| format!("GET /api/v1/log HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let last = format!(
        "GET /api/v1/log HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        TOKEN
    );
    let answers = api.raw(request("guess").repeat(40) + &last);
    let count = |status: &str| answers.matches(status).count();
    assert!(count("HTTP/1.1 401") >= 20, "{answers}");
    assert!(
        count("HTTP/1.1 429") >= 1 && answers.contains("retry-after: 3"),
        "{answers}"
    );
    assert_eq!(count("HTTP/1.1 200"), 1, "{answers}");
    assert_eq!(api.curl("log", &[]).status, 200);
}

/// The file is read again at SIGHUP; one that can't be used changes nothing.
#[test]
fn a_new_token_is_in_force_after_sighup() {
    let api = Api::start(&[]);
    fs::write(api.token_file(), "short").expect("written");
    api.broker.signal("HUP");
    api.broker.expect_log("not reloaded: the old settings stay in force");
    assert_eq!(api.curl("log", &[]).status, 200);
    fs::write(api.token_file(), "another-token-of-some-length").expect("written");
    fs::set_permissions(api.token_file(), fs::Permissions::from_mode(0o644)).expect("set");
    api.broker.signal("HUP");
    api.broker.expect_log("every user of this machine may read the token");
    let header = "Authorization: Bearer another-token-of-some-length";
    eventually("the new token opens it", || {
        api.curl_without_token("log", &["-H", header]).status == 200
    });
    assert_eq!(api.curl("log", &[]).status, 401);
}

// ---- what no client should send -------------------------------------------------------------------------------------

#[test]
fn what_is_not_there_and_what_is_wrong_has_its_status() {
    let api = Api::start(&[]);
    let mut bystander = api.broker.v5("bystander");
    for path in [
        "",
        "nothing",
        "clients/",
        "clients/a/b",
        "../v1/node",
        "./node",
        "node/",
        "%6eode",
        "clients/%",
    ] {
        let status = api.curl(path, &[]).status;
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
    for path in [
        "clients/..",
        "clients/%00",
        "clients/..%2f..%2fetc%2fpasswd",
        "clients/%252e%252e",
    ] {
        api.curl(path, &[]).expect_error(404, "no such client");
    }
    for (method, path, allow) in [
        ("POST", "node", "GET, HEAD"),
        ("PUT", "clients/a", "GET, HEAD, DELETE"),
        ("GET", "publish", "POST"),
        ("DELETE", "log", "GET, HEAD, PUT"),
        ("PATCH", "trace", "GET, HEAD, PUT, DELETE"),
        ("OPTIONS", "retained", "GET, HEAD, DELETE"),
    ] {
        let answer = api.curl(path, &["-i", "-X", method]);
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.body.contains(&format!("allow: {allow}\r\n")), "{answer:?}");
    }
    for path in [
        "clients?limit=0",
        "clients?limit=1001",
        "clients?filtre=a",
        "clients?connected=maybe",
        "clients?address=here",
        "clients?cursor=x",
        "clients?cursor=64:a",
        "clients?limit=1&limit=2",
        "clients?filter=%",
        "node?x",
        "subscriptions",
        "subscriptions?client=a&filter=b",
        "subscriptions?filter=a/%23/b",
        "retained?filter=a/%23/b",
        "retained?filter=%24share/g/a",
        "retained/message",
    ] {
        api.curl(path, &[]).expect_error(400, "");
    }
    api.curl("retained", &["-X", "DELETE"]).expect_error(400, "filter=");
    bystander.ping();
}

#[test]
fn bodies_are_json_within_bounds() {
    let api = Api::start(&["--max-packet-size", "1K"]);
    let text = "Content-Type: text/plain";
    api.curl("publish", &["-H", text, "-d", "{}"])
        .expect_error(415, "application/json");
    for (body, reason) in [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[]", "JSON object"),
        ("{}", "\"topic\" is missing"),
        (r#"{"topic": 1}"#, "\"topic\" is a string"),
        (r#"{"topic": "a/+"}"#, "must not contain"),
        (r#"{"topic": ""}"#, ""),
        (r#"{"topic": "a", "qos": 3}"#, "0 to 2"),
        (r#"{"topic": "a", "qos": "1"}"#, "whole number"),
        (r#"{"topic": "a", "retained": true}"#, "no field \"retained\""),
        (r#"{"topic": "a", "payload": "x", "payload_base64": "eA=="}"#, "both"),
        (r#"{"topic": "a", "payload_base64": "?"}"#, "no base64"),
        (r#"{"topic": "a", "payload": {"x": 1}}"#, "\"payload\" is a string"),
        (r#"{"topic": "a", "response_topic": "b/#"}"#, "response_topic"),
        (r#"{"topic": "a", "user_properties": [["x"]]}"#, "user_properties"),
        (r#"{"topic": "a", "message_expiry_interval": -1}"#, "whole number"),
        (r#"{"topic": "$SYS/x"}"#, "$SYS"),
    ] {
        api.send("POST", "publish", body).expect_error(400, reason);
    }
    let deep = format!(r#"{{"topic": {}"#, "[".repeat(100_000));
    api.send("POST", "publish", &deep[..60_000])
        .expect_error(400, "no JSON");
    let head = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
        TOKEN
    );
    // Too large by what it says, and by what comes.
    let claimed = api.raw(format!("{head}Content-Length: 1000000000000\r\n\r\n"));
    assert!(claimed.starts_with("HTTP/1.1 413"), "{claimed}");
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(0x10_0000));
    let sent = api.raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}"));
    assert!(sent.is_empty() || sent.starts_with("HTTP/1.1 413"), "{sent}");
    // Without a token nothing of the body is read.
    let stranger = "POST /api/v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    assert!(api.raw(stranger).starts_with("HTTP/1.1 401"));
    for nonsense in [
        "nonsense\r\n\r\n",
        "GET /api/v1/node HTTP/9.9\r\n\r\n",
        "GET \0 HTTP/1.1\r\n\r\n",
    ] {
        let answer = api.raw(nonsense);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    api.broker.assert_serves();
}

// ---- the broker as a whole ------------------------------------------------------------------------------------------

#[test]
fn the_node_shows_what_there_is() {
    let api = Api::start(&[]);
    let (mut subscriber, mut publisher) = api.broker.pair(Version::V5);
    subscriber.subscribe("a", 1);
    publisher.publish_packet(Publish::new("kept", "123").retain());
    publisher.publish("a", "12345", 1);
    subscriber.recv_publish();
    publisher.ping();
    let node = api.get("node");
    for (name, value) in [
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("connected_clients", json!(2)),
        ("subscriptions", json!(1)),
        ("retained_messages", json!(1)),
        ("queued_messages", json!(1)),
        ("listeners", json!([format!("mqtt://{}", api.broker.addr_of("mqtt"))])),
    ] {
        // With another transport there are two listeners.
        if name != "listeners" || api.broker.announcements().len() == 2 {
            assert_eq!(node[name], value, "{name}");
        }
    }
    assert_eq!(node["counters"]["publish_received_messages"], 2);
    assert_eq!(node["discarded_messages"]["queue-full"], 0);
    assert!(node["id"].as_str().is_some_and(|id| id.len() == 16));
    assert!(node["uptime_seconds"].is_u64());
}

// ---- clients and sessions -------------------------------------------------------------------------------------------

#[test]
fn clients_are_listed_by_what_they_are() {
    let api = Api::start(&[]);
    let _ann = api
        .broker
        .connect(Connect::v5("sensor-1").username("ann").keep_alive(60));
    let _bob = api.broker.connect(Connect::v311("sensor-2").username("bob"));
    let _other = api.broker.v5("other/1 ü");
    let mut away = api.broker.connect(persistent("sensor-away"));
    away.subscribe("a/#", 1);
    away.disconnect();
    let is_away = || api.get("clients/sensor-away")["connected"] == false;
    eventually("it is away", is_away);
    for (query, expected) in [
        ("", &["sensor-1", "sensor-2", "other/1 ü", "sensor-away"][..]),
        ("?filter=sensor-*", &["sensor-1", "sensor-2", "sensor-away"]),
        ("?filter=sensor-?", &["sensor-1", "sensor-2"]),
        ("?prefix=other", &["other/1 ü"]),
        ("?prefix=sensor-*", &[]),
        ("?username=ann", &["sensor-1"]),
        ("?connected=false", &["sensor-away"]),
        ("?connected=true&filter=*-*", &["sensor-1", "sensor-2"]),
        ("?address=127.0.0.1&username=bob", &["sensor-2"]),
        ("?address=127.0.0.2", &[]),
    ] {
        assert_eq!(
            ids(&api.get(&format!("clients{query}")), "clients"),
            set(expected),
            "{query}"
        );
        assert_eq!(
            ids(&api.get(&format!("sessions{query}")), "sessions"),
            set(expected),
            "{query}"
        );
    }
    let ann = api.get("clients/sensor-1");
    let address = ann["address"].as_str().expect("an address");
    assert!(address.starts_with("127.0.0.1:"), "{ann}");
    assert_eq!(
        (&ann["username"], &ann["version"], &ann["keep_alive"]),
        (&json!("ann"), &json!("5.0"), &json!(60))
    );
    assert_eq!(
        (&ann["session_expiry"], &ann["expires_at_ms"]),
        (&json!(0), &Value::Null)
    );
    let away = api.get("clients/sensor-away");
    assert_eq!((&away["subscriptions"], &away["username"]), (&json!(1), &Value::Null));
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).expect("after it").as_millis() as u64;
    let left = away["expires_at_ms"].as_u64().expect("it ends") - now;
    assert!((590_000..=600_000).contains(&left), "{left}");
    assert_eq!(api.get("clients/other%2F1%20%C3%BC")["client_id"], "other/1 ü");
    api.curl("clients/nobody", &[]).expect_error(404, "no such client");
    let head = api.curl("clients/sensor-1", &["--head"]);
    assert_eq!(head.status, 200);
}

/// Page by page everybody is there once, whatever the size of the pages.
#[test]
fn pages_have_everybody_once() {
    let api = Api::start(&[]);
    let expected: BTreeSet<_> = (0..300).map(|n| format!("client-{n}")).collect();
    let clients: Vec<_> = expected.iter().map(|id| api.broker.v5(id)).collect();
    for limit in [7, 100, 1000] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("clients?limit={limit}{cursor}"));
            let found = ids(&page, "clients");
            assert!(found.len() <= limit);
            seen.extend(found);
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), 300, "{limit}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    drop(clients);
}

#[test]
fn what_waits_in_a_session_is_counted() {
    let api = Api::start(&["--max-inflight", "2"]);
    let mut subscriber = api.broker.connect(Connect::persistent(Version::V311, "slow"));
    subscriber.subscribe("a", 1);
    let mut publisher = api.broker.v5("publisher");
    for _ in 0..5 {
        publisher.publish("a", "12345", 1);
    }
    let first = subscriber.recv_publish();
    subscriber.recv_publish();
    let session = api.get("clients/slow");
    assert_eq!(
        (&session["inflight_messages"], &session["queued_messages"]),
        (&json!(2), &json!(3))
    );
    assert!(
        session["queued_bytes"].as_u64().is_some_and(|bytes| bytes >= 5 * 160),
        "{session}"
    );
    assert_eq!(session["session_expiry"], Value::Null, "never ends");
    subscriber.ack(&first);
    subscriber.recv_publish();
    let session = &api.get("sessions?prefix=slow")["sessions"][0];
    assert_eq!(
        (&session["inflight_messages"], &session["queued_messages"]),
        (&json!(2), &json!(2))
    );
}

/// The client is told why, its will is published, and its session stays.
#[test]
fn a_client_is_disconnected() {
    let api = Api::start(&[]);
    let mut watcher = api.broker.v5("watcher");
    watcher.subscribe("will", 0);
    let mut client = api.broker.connect(persistent("a/b").will(Will::new("will", "gone")));
    client.subscribe("kept", 1);
    api.curl("clients/a%2Fb", &["-X", "DELETE"]).expect_done();
    client.expect_disconnect(0x98);
    watcher.expect_message("will", "gone");
    eventually("it is away", || api.get("clients/a%2Fb")["connected"] == false);
    api.curl("clients/a%2Fb", &["-X", "DELETE"])
        .expect_error(409, "session=true");
    let again = api.broker.connect(persistent("a/b"));
    assert!(again.connack.session_present);
    api.curl("clients/nobody", &["-X", "DELETE"])
        .expect_error(404, "no such client");
    api.curl("clients/nobody?session=true", &["-X", "DELETE"])
        .expect_error(404, "no such client");
    api.broker
        .expect_log("disconnected through the HTTP API client=\"a/b\"");
}

/// With its session, connected or not: nothing of it is left for the next connection.
#[test]
fn a_session_is_ended() {
    let api = Api::start(&[]);
    for is_connected in [true, false] {
        let connect = || persistent("c");
        let mut client = api.broker.connect(connect());
        assert!(!client.connack.session_present);
        client.subscribe("a", 1);
        if !is_connected {
            client.disconnect();
            eventually("it is away", || api.get("clients/c")["connected"] == false);
        }
        api.curl("clients/c?session=true", &["-X", "DELETE"]).expect_done();
        if is_connected {
            client.expect_disconnect(0x98);
        }
        eventually("it has gone", || api.curl("clients/c", &[]).status == 404);
        assert_eq!(api.get("node")["subscriptions"], 0);
    }
}

// ---- subscriptions --------------------------------------------------------------------------------------------------

#[test]
fn subscriptions_are_listed_by_client_and_by_filter() {
    let api = Api::start(&[]);
    let mut one = api.broker.connect(persistent("one"));
    one.send(
        Subscribe::new(1)
            .filter("a/+", 1 | 0b1100)
            .prop(Prop::subscription_id(7)),
    );
    one.recv_suback();
    one.subscribe("$share/g/a/+", 2);
    one.subscribe("b", 0);
    let mut two = api.broker.v5("two");
    two.subscribe("a/+", 0);
    two.subscribe("$share/g/a/+", 0);
    let expected = json!({
        "client_id": "one", "filter": "a/+", "qos": 1, "no_local": true, "retain_as_published": true,
        "retain_handling": 0, "identifier": 7,
    });
    let filters = |page: &Value| -> Vec<String> {
        let all = page["subscriptions"].as_array().expect("a list").iter();
        all.map(|one| one["filter"].as_str().expect("a filter").to_owned())
            .collect()
    };
    for is_connected in [true, false] {
        if !is_connected {
            one.disconnect();
            eventually("it is away", || api.get("clients/one")["connected"] == false);
        }
        let page = api.get("subscriptions?client=one");
        assert_eq!(filters(&page), ["$share/g/a/+", "a/+", "b"]);
        assert_eq!((&page["subscriptions"][1], &page["next"]), (&expected, &Value::Null));
        let (mut all, mut cursor) = (BTreeSet::new(), "0".to_owned());
        for _ in 0..2 {
            let page = api.get(&format!("subscriptions?client=one&limit=2&cursor={cursor}"));
            all.extend(filters(&page));
            cursor = page["next"].as_str().unwrap_or("none").to_owned();
        }
        assert_eq!((all, &*cursor), (set(&["$share/g/a/+", "a/+", "b"]), "none"));
        let page = api.get("subscriptions?filter=a/+");
        assert_eq!(ids(&page, "subscriptions"), set(&["one", "two"]));
        assert_eq!(
            ids(&api.get("subscriptions?filter=$share/g/a/+"), "subscriptions"),
            set(&["one", "two"])
        );
    }
    let page = api.get("subscriptions?filter=a/+&limit=1");
    assert_eq!(ids(&page, "subscriptions"), set(&["one"]));
    let next = page["next"].as_str().expect("there is more");
    let page = api.get(&format!("subscriptions?filter=a/+&limit=1&cursor={next}"));
    assert_eq!(
        (ids(&page, "subscriptions"), &page["next"]),
        (set(&["two"]), &Value::Null)
    );
    assert_eq!(api.get("subscriptions?filter=a/b")["subscriptions"], json!([]));
    api.curl("subscriptions?client=nobody", &[])
        .expect_error(404, "no such client");
}

// ---- messages -------------------------------------------------------------------------------------------------------

#[test]
fn messages_are_published() {
    let api = Api::start(&[]);
    let mut subscriber = api.broker.v5("subscriber");
    subscriber.subscribe("#", 2);
    api.send("POST", "publish", r#"{"topic": "a"}"#).expect_done();
    let message = subscriber.expect_message("a", "");
    assert_eq!((message.qos, message.retain), (0, false));
    let full = json!({
        "topic": "a/b", "payload_base64": "AP/+", "qos": 2, "retain": true, "message_expiry_interval": 60,
        "payload_is_utf8": false, "content_type": "x/y", "response_topic": "r", "correlation_data": "c",
        "user_properties": [["n", "1"], ["n", "2"]],
    });
    api.send("POST", "publish", &full.to_string()).expect_done();
    let message = subscriber.expect_message("a/b", b"\x00\xff\xfe");
    let props = &message.props;
    assert_eq!((message.qos, props.message_expiry()), (2, Some(60)));
    assert_eq!(props.content_type().as_deref(), Some("x/y"));
    assert_eq!(props.response_topic().as_deref(), Some("r"));
    assert_eq!(props.correlation_data().as_deref(), Some(&b"c"[..]));
    assert_eq!(props.users(), [("n", "1"), ("n", "2")]);
    assert_eq!(api.get("retained")["retained"][0]["topic"], "a/b");
    let object = r#"{"topic": "a", "payload": "ü", "user_properties": {"k": "v"}, "content_type": null}"#;
    api.send("POST", "publish", object).expect_done();
    assert_eq!(subscriber.expect_message("a", "ü").props.users(), [("k", "v")]);
}

/// What the broker allows nobody, the API does not do either.
#[test]
fn limits_hold_for_the_api() {
    let api = Api::start(&["--max-qos", "1", "--retain", "off"]);
    api.send("POST", "publish", r#"{"topic": "a", "qos": 2}"#)
        .expect_error(400, "maximum");
    api.send("POST", "publish", r#"{"topic": "a", "retain": true}"#)
        .expect_error(400, "turned off");
}

#[test]
fn retained_messages_are_listed_read_and_removed() {
    let api = Api::start(&[]);
    let mut client = api.broker.v5("client");
    for n in 0..150 {
        client.publish_packet(Publish::new(&format!("many/{n:03}/x"), "1").retain());
    }
    client.publish_packet(
        Publish::new("a b/ü", [0, 255, 10])
            .retain()
            .qos(1, 1)
            .prop(Prop::MessageExpiry(60)),
    );
    client.ping();
    let (mut topics, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("retained?filter=many/%23&limit=70{cursor}"));
        let entries = page["retained"].as_array().expect("a list");
        topics.extend(
            entries
                .iter()
                .map(|entry| entry["topic"].as_str().expect("a topic").to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(topics, (0..150).map(|n| format!("many/{n:03}/x")).collect::<Vec<_>>());
    let entry = &api.get("retained?filter=+/%C3%BC")["retained"][0];
    assert_eq!(
        (&entry["topic"], &entry["qos"], &entry["payload_bytes"]),
        (&json!("a b/ü"), &json!(1), &json!(3))
    );
    assert!(entry["expires_at_ms"].is_u64());
    let token = TOKEN;
    let raw = api.raw(format!(
        "GET /api/v1/retained/message?topic=many/000/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    ));
    let (head, body) = raw.split_once("\r\n\r\n").expect("a body");
    assert_eq!(body, "1");
    assert_eq!(header(head, "content-type"), Some("application/octet-stream"));
    assert_eq!(
        (header(head, "x-content-type-options"), header(head, "mqtt-qos")),
        (Some("nosniff"), Some("0"))
    );
    api.curl("retained/message?topic=many/0", &[])
        .expect_error(404, "no retained message");
    let removed = api.curl("retained?filter=many/%23", &["-X", "DELETE"]).json();
    assert_eq!(removed, json!({ "removed": 150 }));
    assert_eq!(ids_of_topics(&api.get("retained")), ["a b/ü"]);
    assert_eq!(
        api.curl("retained?filter=%2B/%C3%BC", &["-X", "DELETE"]).json(),
        json!({ "removed": 1 })
    );
    assert_eq!(api.get("node")["retained_messages"], 0);
    assert_eq!(api.get("node")["retained_bytes"], 0);
}

fn ids_of_topics(page: &Value) -> Vec<&str> {
    let entries = page["retained"].as_array().expect("a list").iter();
    entries.map(|entry| entry["topic"].as_str().expect("a topic")).collect()
}
