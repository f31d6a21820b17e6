//! Asking an HTTP endpoint who may connect: a real one, which is slow, down or lies.

mod common;
use common::endpoint::{Endpoint, Reply};
use common::*;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

const BAD_PASSWORD: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;
const UNAVAILABLE: u8 = 0x88;
const BUSY: u8 = 0x89;

fn broker(endpoint: &Endpoint, options: &[&str]) -> Broker {
    Broker::start(&[&["--auth-http-url", &endpoint.url()], options].concat())
}

fn user(client_id: &str) -> Connect {
    Connect::v5(client_id).credentials("ann", "ann's")
}

fn password_is_right(question: &Value) -> Reply {
    let name = question["username"].as_str().unwrap_or_default();
    match question["password"] == format!("{name}'s") {
        true => Reply::allow(),
        false => Reply::deny(),
    }
}

/// Right and wrong passwords, in all versions, and what the endpoint is told.
#[test]
fn the_endpoint_decides() {
    let endpoint = Endpoint::start(password_is_right);
    let broker = broker(&endpoint, &["--auth-http-cache", "0"]);
    for (version, name, wrong) in [
        (Version::V31, "3.1", 4),
        (Version::V311, "3.1.1", 4),
        (Version::V5, "5.0", BAD_PASSWORD),
    ] {
        broker
            .connect(Connect::new(version, "c").credentials("ann", "ann's"))
            .disconnect();
        let question = endpoint.questions().pop().expect("asked");
        let transport = match Transport::chosen().scheme() {
            "mqtt" => "tcp",
            "mqtts" => "tls",
            other => other,
        };
        let expected = json!({
            "client_id": "c", "username": "ann", "password": "ann's", "address": "127.0.0.1", "protocol": name,
            "transport": transport, "listener": question["listener"], "common_name": null,
        });
        assert_eq!(question, expected);
        broker.expect_refused(Connect::new(version, "c").credentials("ann", "bob's"), wrong);
    }
    let binary = Connect::v5("c").username("ann").password(b"\xFF\0");
    broker.expect_refused(binary, BAD_PASSWORD);
    let question = endpoint.questions().pop().expect("asked");
    assert_eq!(
        (question.get("password"), &question["password_base64"]),
        (Some(&json!("\u{fffd}\0")), &json!("/wA="))
    );
    // Without a name nobody is asked.
    let asked = endpoint.questions().len();
    broker.expect_refused(Connect::v5("c"), NOT_AUTHORIZED);
    assert_eq!(endpoint.questions().len(), asked);
}

/// Whatever is not clearly a permission is none. An endpoint that fails is told apart from a refusal: 0x88, MQTT 3: 3.
#[test]
fn answers_that_make_no_sense_open_nothing() {
    let raw = |text: &str| text.as_bytes().to_vec();
    let endpoint = Endpoint::start(move |question| match question["client_id"].as_str().expect("a name") {
        "good" => Reply::allow(),
        "204" => Reply::Status(204, String::new()),
        "401" => Reply::Status(401, String::new()),
        "403" => Reply::Status(403, r#"{"result": "allow"}"#.into()),
        "ignore" => Reply::json(r#"{"result": "ignore"}"#),
        "302" => Reply::Status(302, r#"{"result": "allow"}"#.into()),
        "404" => Reply::Status(404, "not found".into()),
        "500" => Reply::Status(500, r#"{"result": "allow"}"#.into()),
        "text" => Reply::json("allow"),
        "empty" => Reply::json(""),
        "no result" => Reply::json(r#"{"is_superuser": true}"#),
        "acl" => Reply::json(r#"{"result": "allow", "acl": {"pub": "a"}}"#),
        "giant" => Reply::json(&format!(r#"{{"result": "allow", "x": "{}"}}"#, "x".repeat(100_000))),
        "endless head" => Reply::Raw(raw(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1_000_000)))),
        "no HTTP" => Reply::Raw(raw("SSH-2.0-x\r\n")),
        "cut in the head" => Reply::Raw(raw("HTTP/1.1 200 OK\r\nContent-Le")),
        "cut in the body" => Reply::Raw(raw("HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"result\": \"allo")),
        "cut" => Reply::Raw(Vec::new()),
        other => panic!("{other}"),
    });
    let broker = broker(&endpoint, &["--auth-http-cache", "0"]);
    broker.connect(user("204")).disconnect();
    for denied in ["401", "403", "ignore"] {
        broker.expect_refused(user(denied), BAD_PASSWORD);
    }
    let nonsense = [
        "302",
        "404",
        "text",
        "empty",
        "no result",
        "acl",
        "giant",
        "endless head",
    ];
    for senseless in nonsense {
        broker.expect_refused(user(senseless), BAD_PASSWORD);
    }
    broker.expect_refused(Connect::v311("404").credentials("ann", "ann's"), 4);
    for broken in ["500", "no HTTP", "cut in the head", "cut in the body", "cut"] {
        broker.expect_refused(user(broken), UNAVAILABLE);
        broker.expect_refused(Connect::v311(broken).credentials("ann", "ann's"), 3);
        // The endpoint is not down: it has an answer for others, also behind what it said before.
        broker.connect(user("good")).disconnect();
    }
}

/// What the endpoint says to one client is no word about the others: who makes it answer nonsense is refused and counted,
/// who makes it fail is refused, and all others are let in. It takes more than one address to show that it is down.
#[test]
fn an_outsider_keeps_nobody_out() {
    let endpoint = Endpoint::start(|question| match question["client_id"].as_str().expect("a name") {
        "400" => Reply::Status(400, "bad request".into()),
        "text" => Reply::json("oops"),
        "500" => Reply::Status(500, "oops".into()),
        _ => Reply::allow(),
    });
    let broker = Broker::start_on(&["--auth-http-url", &endpoint.url(), "--auth-http-cache", "0"]);
    let code_from = |host: u8, client_id: &str| {
        let mut client = Client::on(Stream::tcp_from([127, 0, 0, host], broker.addr()), Version::V5);
        client.send(user(client_id));
        client.recv_connack().code
    };
    for client_id in ["400", "text"] {
        let codes: Vec<u8> = (0..6).map(|_| code_from(9, client_id)).collect();
        assert_eq!(codes, [BAD_PASSWORD; 6], "{client_id}");
        broker.connect(user("good")).disconnect();
    }
    let asked = endpoint.questions().len();
    let codes: Vec<u8> = (0..6).map(|_| code_from(9, "500")).collect();
    assert_eq!(codes, [UNAVAILABLE; 6]);
    assert_eq!(endpoint.questions().len(), asked + 6);
    broker.connect(user("good")).disconnect();
    let codes: Vec<u8> = (0..12).map(|_| code_from(9, "400")).collect();
    assert!(codes.contains(&0x9F), "{codes:x?}");
    broker.connect(user("good")).disconnect();
    assert!(!broker.log().contains("is down"), "{}", broker.log());
    for host in [7, 7, 8] {
        assert_eq!(code_from(host, "500"), UNAVAILABLE);
    }
    broker.expect_log("is down");
    broker.expect_refused(user("good"), UNAVAILABLE);
}

/// Clients that go before the endpoint has answered, or are sent away, count as questions without an answer, if that has
/// taken it half of its time.
#[test]
fn an_endpoint_that_is_slower_than_clients_wait() {
    let slow = Endpoint::start(|_| Reply::Held(r#"{"result": "allow"}"#.into()));
    let options = ["--auth-http-timeout", "1.5", "--connect-timeout", "1"];
    let broker = broker(&slow, &options);
    for _ in 0..3 {
        let mut client = broker.open(Version::V311);
        client.send(Connect::v311("c").credentials("ann", "ann's"));
        client.expect_closed();
    }
    broker.expect_log("is down");
    slow.release();
}

/// An endpoint that does not answer in time, and one that is not there; it is left alone for a while then, so that
/// nobody waits, and asked again when it is back.
#[test]
fn an_endpoint_that_is_down() {
    let slow = Endpoint::start(|_| Reply::Held(r#"{"result": "allow"}"#.into()));
    let broker = Broker::start(&["--auth-http-url", &slow.url(), "--auth-http-timeout", "0.3"]);
    for _ in 0..3 {
        let start = Instant::now();
        broker.expect_refused(user("c"), UNAVAILABLE);
        assert_elapsed(start, 0.25, 8.0);
    }
    broker.expect_log("is down");
    let asked = slow.questions().len();
    for _ in 0..20 {
        broker.expect_refused(user("c"), UNAVAILABLE);
    }
    assert!(slow.questions().len() <= asked + 1, "it is left alone");
    slow.release();

    let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let addr = gone.local_addr().expect("an address");
    drop(gone);
    let broker = Broker::start(&["--auth-http-url", &format!("http://{addr}/auth?for=mqtt")]);
    for _ in 0..5 {
        broker.expect_refused(user("c"), UNAVAILABLE);
    }
    broker.expect_log("is down");
    let _back = Endpoint::start_at(addr, password_is_right);
    eventually("it is asked again", || {
        let mut client = broker.try_connect(user("c"));
        let code = client.connack.code;
        if code == 0 {
            client.disconnect();
        } else {
            client.expect_closed();
        }
        code == 0
    });
    broker.expect_log("answers again");
}

/// Questions go over one connection, as long as it lasts.
#[test]
fn connections_are_used_again() {
    let endpoint = Endpoint::start(password_is_right);
    let kept = broker(&endpoint, &["--auth-http-cache", "0"]);
    for _ in 0..5 {
        kept.connect(user("c")).disconnect();
    }
    assert_eq!(endpoint.connections(), 1);
    // One that is closed without a word is not held against the endpoint.
    let closing = Endpoint::start(|_| Reply::ThenClose(r#"{"result": "allow"}"#.into()));
    let cut = broker(&closing, &["--auth-http-cache", "0"]);
    for _ in 0..20 {
        cut.connect(user("c")).disconnect();
    }
}

/// A permission is remembered for the same question, until its time is over: also when the rules are reloaded, as long as
/// the endpoint is the same.
#[test]
fn permissions_are_remembered() {
    let endpoint = Endpoint::start(|question| match question["client_id"] == "short" {
        true => Reply::json(r#"{"result": "allow", "expires_in": 0.2}"#),
        false => password_is_right(question),
    });
    let broker = broker(&endpoint, &[]);
    let asked = || endpoint.questions().len();
    for _ in 0..3 {
        broker.connect(user("c")).disconnect();
    }
    assert_eq!(asked(), 1);
    // Other questions.
    broker.expect_refused(Connect::v5("c").credentials("ann", "wrong"), BAD_PASSWORD);
    broker.expect_refused(Connect::v5("c").credentials("ann", "wrong"), BAD_PASSWORD);
    broker.connect(user("d")).disconnect();
    broker
        .connect(Connect::v311("c").credentials("ann", "ann's"))
        .disconnect();
    assert_eq!(asked(), 5);
    broker.signal("HUP");
    broker.expect_log("reloaded");
    broker
        .connect(Connect::v311("c").credentials("ann", "ann's"))
        .disconnect();
    assert_eq!(asked(), 5);
    broker.connect(user("short")).expect_disconnect(NOT_AUTHORIZED);
    broker.connect(user("short")).expect_disconnect(NOT_AUTHORIZED);
    assert_eq!(asked(), 7);
}

/// Another endpoint, or another time for which it is believed, is asked anew.
#[test]
fn another_endpoint_is_asked_anew() {
    let (one, other) = (Endpoint::start(password_is_right), Endpoint::start(|_| Reply::deny()));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("broker.toml");
    let write = |endpoint: &Endpoint| {
        fs::write(&file, format!("auth-http-url = \"{}\"\n", endpoint.url())).expect("written");
    };
    write(&one);
    let broker = Broker::start(&["--config", file.to_str().expect("UTF-8")]);
    broker.connect(user("c")).disconnect();
    write(&other);
    broker.signal("HUP");
    broker.expect_log("reloaded");
    broker.expect_refused(user("c"), BAD_PASSWORD);
    write(&one);
    broker.signal("HUP");
    broker.expect_log("reloaded");
    broker.connect(user("c")).disconnect();
    assert_eq!(one.questions().len(), 2);
}

/// What the endpoint says of rights takes the place of the access list.
#[test]
fn the_endpoint_gives_rights() {
    let endpoint = Endpoint::start(|question| match question["client_id"].as_str().expect("a name") {
        "lists" => Reply::json(r#"{"result": "allow", "acl": {"all": ["to/%u"], "sub": ["in/${clientid}/#"]}}"#),
        "rules" => Reply::json(
            r##"{"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "#"},
                {"permission": "deny", "action": "publish", "topic": "safe"}]}"##,
        ),
        "all" => Reply::json(r#"{"result": "allow", "is_superuser": true}"#),
        _ => Reply::allow(),
    });
    let directory = tempfile::tempdir().expect("a directory");
    let acl = directory.path().join("acl");
    fs::write(&acl, "user ann\ntopic readwrite file\n").expect("written");
    let broker = broker(
        &endpoint,
        &["--acl-file", acl.to_str().expect("UTF-8"), "--acl-subscribe", "deny"],
    );
    let may = |client_id: &str, publish: &[(&str, bool)], subscribe: &[(&str, bool)]| {
        let mut client = broker.connect(user(client_id));
        for (topic, allowed) in publish {
            client.send(Publish::new(topic, "x").qos(1, 1));
            let code = client.recv_puback().reason;
            assert_eq!(code != NOT_AUTHORIZED, *allowed, "{client_id} to {topic}: {code:#x}");
        }
        for (filter, allowed) in subscribe {
            assert_eq!(client.try_subscribe(filter, 0) == 0, *allowed, "{client_id} {filter}");
        }
        client.disconnect();
    };
    may(
        "lists",
        &[("to/ann", true), ("to/bob", false), ("file", false)],
        &[("in/lists/+", true), ("#", false), ("file", false)],
    );
    may(
        "rules",
        &[("a", true), ("safe", false)],
        &[("#", true), ("$SYS/#", false)],
    );
    may("all", &[("anything", true)], &[("#", true), ("$SYS/#", true)]);
    may("file", &[("file", true), ("a", false)], &[("file", true), ("a", false)]);
}

/// The will of a client with rights of its own, and its session, obey them.
#[test]
fn wills_and_sessions_obey() {
    let endpoint = Endpoint::start(|question| {
        let wide = question["password"] == "wide";
        let topics = if wide { r##"["#"]"## } else { r#"["allowed"]"# };
        Reply::json(&format!(r#"{{"result": "allow", "acl": {{"all": {topics}}}}}"#))
    });
    let broker = broker(&endpoint, &["--acl-subscribe", "deny"]);
    let connect = |id: &str, password: &str| Connect::persistent(Version::V5, id).credentials("ann", password);
    let mut watcher = broker.connect(connect("watcher", "wide"));
    watcher.subscribe("#", 0);
    for topic in ["denied", "allowed"] {
        broker
            .connect(connect("w", "narrow").will(Will::new(topic, "gone")))
            .kill();
    }
    watcher.expect_message("allowed", "gone");
    // Subscribed with more rights than at the next connect.
    let mut session = broker.connect(connect("s", "wide"));
    session.subscribe("denied", 1);
    session.subscribe("allowed", 1);
    session.kill();
    let mut publisher = broker.connect(connect("publisher", "wide"));
    for topic in ["denied", "allowed"] {
        publisher.publish_packet(Publish::new(topic, "queued").qos(1, 9));
        watcher.expect_message(topic, "queued");
    }
    let mut session = broker.connect(connect("s", "narrow"));
    session.expect_message("allowed", "queued");
    watcher.unsubscribe("#");
    for topic in ["denied", "allowed"] {
        publisher.publish_packet(Publish::new(topic, "live").qos(1, 9));
    }
    session.expect_message("allowed", "live");
}

/// Who may stay only for a time is disconnected then, with 0x87, whatever it does meanwhile.
#[test]
fn a_permission_ends() {
    let endpoint = Endpoint::start(|_| Reply::json(r#"{"result": "allow", "expires_in": 1.2}"#));
    let broker = broker(&endpoint, &[]);
    let start = Instant::now();
    let mut idle = broker.connect(user("idle").keep_alive(0));
    let mut busy = broker.connect(user("busy"));
    let mut old = broker.connect(Connect::v311("old").credentials("ann", "x"));
    busy.ping();
    busy.expect_disconnect(NOT_AUTHORIZED);
    idle.expect_disconnect(NOT_AUTHORIZED);
    old.expect_closed();
    assert_elapsed(start, 1.1, 6.0);
}

/// The password file is asked first, and knows its users alone.
#[test]
fn the_password_file_comes_first() {
    let endpoint = Endpoint::start(password_is_right);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    let file = file.to_str().expect("UTF-8");
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    let command = command.args(["passwd", "add", file, "bob", "--stdin"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("started");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(b"from the file\n")
        .expect("written");
    assert!(child.wait().expect("ended").success());
    let broker = broker(&endpoint, &["--password-file", file, "--anonymous", "on"]);
    broker
        .connect(Connect::v5("c").credentials("bob", "from the file"))
        .disconnect();
    broker.expect_refused(Connect::v5("c").credentials("bob", "bob's"), BAD_PASSWORD);
    broker.connect(Connect::v5("c")).disconnect();
    assert_eq!(endpoint.questions().len(), 0);
    let mut ann = broker.connect(user("c"));
    // It is known as long as there is an endpoint.
    broker.signal("HUP");
    broker.expect_log("reloaded");
    ann.ping();
}

/// A storm of clients: few questions at a time, few clients that wait, and the others are told so.
#[test]
fn questions_are_bounded() {
    let endpoint = Endpoint::start(|_| Reply::Held(r#"{"result": "allow"}"#.into()));
    let options = [
        "--auth-http-cache",
        "0",
        "--auth-http-timeout",
        "60",
        "--connect-timeout",
        "60",
        "-v",
    ];
    let broker = broker(&endpoint, &options);
    let mut clients: Vec<Client> = (0..270).map(|_| broker.open(Version::V5)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(user(&format!("c{number}")));
    }
    eventually("256 wait, and the others are refused", || {
        broker.log().matches("too many clients are being checked").count() == 14 && endpoint.questions().len() == 16
    });
    endpoint.release();
    let (mut accepted, mut refused) = (0, 0);
    for client in &mut clients {
        match client.recv_connack().code {
            0 => accepted += 1,
            BUSY => refused += 1,
            code => panic!("{code:#x}"),
        }
    }
    assert_eq!((accepted, refused), (256, 14));
    assert!(endpoint.most_at_a_time() <= 16, "{}", endpoint.most_at_a_time());
}

/// Who guesses is slowed down before the endpoint is.
#[test]
fn wrong_passwords_are_counted() {
    let endpoint = Endpoint::start(|_| Reply::deny());
    let broker = broker(&endpoint, &[]);
    let codes: Vec<u8> = (0..30).map(|_| broker.try_connect(user("c")).connack.code).collect();
    assert!(codes.contains(&0x9F) && codes[0] == BAD_PASSWORD, "{codes:?}");
    assert!(endpoint.questions().len() < 30);
}

/// Over TLS, with an authority that is given; another one is not believed.
#[test]
fn the_endpoint_may_be_secure() {
    let endpoint = Endpoint::start_tls("server", password_is_right);
    let url = format!("https://localhost:{}/auth?for=mqtt", endpoint.addr.port());
    let ca = certificates::path("ca.pem");
    let broker = Broker::start(&["--auth-http-url", &url, "--auth-http-ca", &ca]);
    broker.connect(user("c")).disconnect();
    broker.expect_refused(Connect::v5("c").credentials("ann", "wrong"), BAD_PASSWORD);
    let stranger = Broker::start(&[
        "--auth-http-url",
        &url,
        "--auth-http-ca",
        &certificates::path("other-ca.pem"),
    ]);
    stranger.expect_refused(user("c"), UNAVAILABLE);
    // TLS where there is none.
    let plain = Endpoint::start(password_is_right);
    let url = format!("https://localhost:{}/auth?for=mqtt", plain.addr.port());
    let confused = Broker::start(&["--auth-http-url", &url, "--auth-http-ca", &ca]);
    confused.expect_refused(user("c"), UNAVAILABLE);
}

/// Passwords are in the question, and in no log.
#[test]
fn passwords_are_not_logged() {
    let endpoint = Endpoint::start(|question| match question["client_id"] == "c" {
        true => Reply::allow(),
        false => Reply::Raw(Vec::new()),
    });
    let broker = broker(&endpoint, &["-vv"]);
    for id in ["c", "d", "d", "d", "d"] {
        let _ = broker.try_connect(Connect::v5(id).credentials("ann", "hunter2hunter2"));
    }
    broker.expect_log("is down");
    assert!(!broker.log().contains("hunter2"), "{}", broker.log());
}

#[test]
fn settings_that_make_no_sense_stop_the_start() {
    for (options, reason) in [
        (
            &["--auth-http-url", "ftp://127.0.0.1/"][..],
            "begins neither with http:// nor with https://",
        ),
        (&["--auth-http-url", "http:///auth"], "is no URL"),
        (
            &["--auth-http-url", "http://ann:x@127.0.0.1/"],
            "a URL with a user name is not supported",
        ),
        (&["--auth-http-url", "https://127.0.0.1/"], "needs a CA"),
        (
            &["--auth-http-url", "http://127.0.0.1/", "--auth-http-ca", "/x"],
            "for https URLs only",
        ),
        (
            &["--auth-http-url", "https://127.0.0.1/", "--auth-http-ca", "/nowhere"],
            "/nowhere",
        ),
    ] {
        let (code, said) = Broker::cannot_start(options);
        assert_eq!(code, Some(1), "{options:?}: {said}");
        assert!(said.contains(reason), "{options:?}: {said}");
    }
    let (code, said) = Broker::cannot_start(&["--auth-http-timeout", "1"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--auth-http-url"), "{said}");
}
