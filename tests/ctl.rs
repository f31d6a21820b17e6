//! `broker ctl`, as a process.

mod common;
use common::*;
#[path = "common/api.rs"]
mod with_api;
use with_api::*;

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Its exit code, and what it says on standard error.
fn failure(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn clients_are_listed_in_columns_and_in_json() {
    let api = Api::start(&[]);
    let mut ann = api.broker.connect(Connect::v5("sensor-1").username("ann"));
    ann.subscribe("a/+", 1);
    let _evil = api.broker.v311("evil\u{9b}2J");
    let table = api.ctl_prints(&["clients", "--filter", "sensor-*"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["CLIENT", "CONNECTED", "USER", "ADDRESS"]);
    assert_eq!(
        (rows.len(), rows[1][0], rows[1][2], rows[1][5]),
        (2, "sensor-1", "ann", "5.0")
    );
    assert!(
        rows[1][1].ends_with('s') && rows[1][3].starts_with("127.0.0.1:"),
        "{table}"
    );
    let all = api.ctl_prints(&["clients", "--connected"]);
    assert!(all.contains("evil\\u{9b}2J") && !all.contains('\u{9b}'), "{all:?}");
    let json = api.ctl_prints(&["clients", "--json", "--username", "ann"]);
    let client: Value = serde_json::from_str(json.trim()).expect("one object");
    assert_eq!(
        (&client["client_id"], &client["subscriptions"]),
        (&json!("sensor-1"), &json!(1))
    );
    assert_eq!(
        api.ctl_prints(&["clients", "--json", "--limit", "1"]).lines().count(),
        1
    );
    assert!(
        api.ctl_prints(&["client", "sensor-1"])
            .contains("username           ann\n")
    );
    let session = api.ctl_prints(&["sessions", "--filter", "sensor-1"]);
    assert!(session.contains("with its connection"), "{session}");
    for list in [&["--client", "sensor-1"][..], &["--filter", "a/+"]] {
        let table = api.ctl_prints(&[&["subscriptions"], list].concat());
        let row: Vec<_> = table.lines().nth(1).expect("one").split_whitespace().collect();
        assert_eq!(row, ["sensor-1", "a/+", "1", "no", "no"]);
    }
}

/// More than one page.
#[test]
fn lists_go_on_over_pages() {
    let api = Api::start(&[]);
    let mut client = api.broker.v5("client");
    for n in 0..1100 {
        client.send(Publish::new(&format!("many/{n}"), "1").retain());
    }
    client.ping();
    let json = api.ctl_prints(&["retained", "list", "many/+", "--json"]);
    assert_eq!(json.lines().count(), 1100);
    assert_eq!(api.ctl_prints(&["retained", "delete", "many/#"]), "1100 removed\n");
    assert_eq!(api.ctl_prints(&["retained", "list", "many/#"]).lines().count(), 1);
}

#[test]
fn the_node_is_shown() {
    let api = Api::start(&[]);
    for name in ["node", "stats"] {
        let text = api.ctl_prints(&[name]);
        assert!(
            text.contains("connected_clients") && text.contains("counters.received_bytes"),
            "{text}"
        );
    }
    let node: Value = serde_json::from_str(&api.ctl_prints(&["node", "--json"])).expect("JSON");
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn clients_are_kicked() {
    let api = Api::start(&[]);
    let mut client = api.broker.connect(Connect::persistent(Version::V5, "a/b c"));
    assert_eq!(api.ctl_prints(&["kick", "a/b c"]), "");
    client.expect_disconnect(0x98);
    eventually("it is away", || {
        api.ctl_prints(&["client", "a/b c"]).contains("connected          no")
    });
    assert_eq!(api.ctl_prints(&["kick", "--session", "a/b c"]), "");
    let (code, said) = failure(&api.ctl(&["kick", "a/b c"]));
    assert_eq!(code, Some(1));
    assert!(said.contains("no such client") && said.contains("HTTP 404"), "{said}");
}

#[test]
fn messages_are_published_and_printed() {
    let api = Api::start(&[]);
    let mut subscriber = api.broker.v5("subscriber");
    subscriber.subscribe("#", 2);
    let options = [
        "--qos",
        "1",
        "--retain",
        "--expiry",
        "60",
        "--content-type",
        "t",
        "--user-property",
        "n=v=w",
    ];
    api.ctl_prints(&[&["publish", "-t", "a/b", "-m", "hello"], &options[..]].concat());
    let message = subscriber.expect_message("a/b", "hello");
    assert_eq!((message.qos, message.props.users()), (1, vec![("n", "v=w")]));
    assert_eq!(api.ctl_prints(&["retained", "get", "a/b"]), "hello");
    api.ctl_prints(&["publish", "-t", "a/b", "--null", "-r"]);
    subscriber.expect_message("a/b", "");
    assert_eq!(failure(&api.ctl(&["retained", "get", "a/b"])).0, Some(1));
    // What is no text, from standard input.
    let mut child = api
        .ctl_command(&["publish", "-t", "bytes", "-s"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it runs");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(&[0xff, 0, 10])
        .expect("written");
    assert!(child.wait().expect("it ends").success());
    subscriber.expect_message("bytes", [0xff, 0, 10]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("payload");
    fs::write(&file, "from a file").expect("written");
    api.ctl_prints(&["publish", "-t", "file", "-f", file.to_str().expect("UTF-8")]);
    subscriber.expect_message("file", "from a file");
    let (code, said) = failure(&api.ctl(&["publish", "-t", "a/#", "-m", "x"]));
    assert!(code == Some(1) && said.contains("HTTP 400"), "{said}");
}

#[test]
fn the_log_and_the_traced_clients_are_set() {
    let api = Api::start(&[]);
    assert_eq!(api.ctl_prints(&["log"]), "info\n");
    assert_eq!(
        api.ctl_prints(&["log", "info,mqtt_broker::access=debug"]),
        "info,mqtt_broker::access=debug\n"
    );
    assert_eq!(failure(&api.ctl(&["log", "loud"])).0, Some(1));
    assert_eq!(
        api.ctl_prints(&[
            "trace",
            "add",
            "--client",
            "a*",
            "--client",
            "b",
            "--address",
            "127.0.0.9"
        ]),
        "client   a*\nclient   b\naddress  127.0.0.9\n"
    );
    assert_eq!(
        api.ctl_prints(&["trace", "remove", "--client", "a*"]),
        "client   b\naddress  127.0.0.9\n"
    );
    assert_eq!(
        api.ctl_prints(&["trace", "list", "--json"]),
        "{\"addresses\":[\"127.0.0.9\"],\"clients\":[\"b\"]}\n"
    );
    assert!(
        failure(&api.ctl(&["trace", "remove", "--client", "c"]))
            .1
            .contains("not traced")
    );
    assert_eq!(api.ctl_prints(&["trace", "clear"]), "");
}

/// 1 if the broker can't do it or is not there, 2 if the command line is wrong.
#[test]
fn exit_codes_tell_what_is_wrong() {
    let api = Api::start(&[]);
    for arguments in [
        &[][..],
        &["kick"],
        &["subscriptions"],
        &["subscriptions", "--client", "a", "--filter", "b"],
        &["publish", "-t", "a"],
        &["publish", "-t", "a", "-m", "x", "-n"],
        &["publish", "-t", "a", "-m", "x", "-q", "3"],
        &["trace", "add"],
        &["trace", "add", "--address", "here"],
        &["clients", "--connected", "--disconnected"],
        &["unknown"],
    ] {
        assert_eq!(api.ctl(arguments).status.code(), Some(2), "{arguments:?}");
    }
    fs::write(api.token_file(), "not-the-token-of-the-broker").expect("written");
    let (code, said) = failure(&api.ctl(&["node"]));
    assert!(
        code == Some(1) && said.contains("not the token") && said.contains("HTTP 401"),
        "{said}"
    );
    // The variable has the token itself.
    let by_variable = |token: &str| {
        let mut command = api.ctl_command(&["log"]);
        command
            .env_remove("BROKER_HTTP_TOKEN_FILE")
            .env("BROKER_HTTP_TOKEN", token);
        command.output().expect("it runs")
    };
    assert_eq!(by_variable(TOKEN).stdout, b"info\n");
    let without = api.ctl_command(&["log"]).env_remove("BROKER_HTTP_TOKEN_FILE").output();
    let (code, said) = failure(&without.expect("it runs"));
    assert!(code == Some(1) && said.contains("--token-file"), "{said}");
    for url in ["https://127.0.0.1:1", "127.0.0.1", "http://"] {
        let (code, said) = failure(&api.ctl(&["node", "--url", url]));
        assert!(code == Some(1) && said.contains("no URL such as http://"), "{said}");
    }
    // Nobody listens there, and somebody who speaks no HTTP.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("bound")
        .local_addr()
        .expect("there");
    let (code, said) = failure(&api.ctl(&["node", "--url", &format!("http://{free}")]));
    assert!(code == Some(1) && said.contains("can't connect"), "{said}");
    let mqtt = format!("http://{}", api.broker.addr_of("mqtt"));
    assert_eq!(failure(&api.ctl(&["node", "--url", &mqtt])).0, Some(1));
}

/// `| head` ends it without a complaint.
#[test]
fn a_reader_that_has_enough_is_no_error() {
    let api = Api::start(&[]);
    let mut command = api.ctl_command(&["node"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

/// Without the API, the answer says how to open it.
#[test]
fn an_api_that_is_off_says_so() {
    let broker = Broker::start(&["--http-port", "0"]);
    let url = format!("http://{}", broker.addr_of("http"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    let output = command.args(["ctl", "node", "--url", &url]).output().expect("it runs");
    let (code, said) = failure(&output);
    assert!(code == Some(1) && said.contains("--http-token-file"), "{said}");
}
