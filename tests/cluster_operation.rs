//! Looking after a cluster: each of its nodes tells of all of them, and acts for all of them.

mod common;
use common::persistence::{Place, Redis};
use common::*;
#[path = "common/api.rs"]
mod with_api;
use with_api::*;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Nodes with an HTTP API, called `n0`, `n1` and so on.
struct Nodes {
    place: Place,
    options: Vec<String>,
    nodes: Vec<Api>,
}

impl Nodes {
    fn start(count: usize, options: &[&str]) -> Nodes {
        let mut nodes = Nodes {
            place: persistence::in_cluster(1),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            nodes: Vec::new(),
        };
        (0..count).for_each(|_| nodes.add());
        let is_complete = |cluster: &Value| {
            let list = cluster["nodes"].as_array().expect("a list");
            list.len() == count && list.iter().all(|node| node["http"].is_string())
        };
        for node in &nodes.nodes {
            eventually("all nodes know of each other", || is_complete(&node.get("cluster")));
        }
        nodes
    }

    fn add(&mut self) {
        let name = format!("n{}", self.nodes.len());
        let given = self.place.options.iter().chain(&self.options).map(String::as_str);
        let mut options: Vec<_> = given.chain(["--node-name", &name]).collect();
        if !options.contains(&"--cluster-lease") {
            options.extend(["--cluster-lease", "1"]);
        }
        self.nodes.push(Api::start(&options));
    }

    /// All pages of a list.
    fn list(&self, node: usize, path: &str, name: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut next = Some(String::new());
        while let Some(cursor) = next {
            let separator = if path.contains('?') { '&' } else { '?' };
            let cursor = match cursor.is_empty() {
                true => String::new(),
                false => format!("{separator}cursor={cursor}"),
            };
            let page = self[node].get(&format!("{path}{cursor}"));
            all.extend(page[name].as_array().expect("a list").iter().cloned());
            next = page["next"].as_str().map(str::to_owned);
        }
        all
    }
}

impl std::ops::Index<usize> for Nodes {
    type Output = Api;

    fn index(&self, node: usize) -> &Api {
        &self.nodes[node]
    }
}

fn names(list: &[Value], field: &str) -> BTreeSet<String> {
    list.iter()
        .map(|one| one[field].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn sorted<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Who is there, since when, how far, where its API is; who was there, and who has taken over what it left.
#[test]
fn the_nodes_are_listed() {
    let mut nodes = Nodes::start(3, &[]);
    let mut client = nodes[2].broker.connect(Connect::persistent(Version::V5, "client"));
    client.subscribe("t", 1);
    let _volatile = nodes[2].broker.v5("volatile");
    eventually("the figures of a node are there", || {
        let figures = nodes[0].get("cluster")["nodes"][2]["figures"].clone();
        (&figures["connected_clients"], &figures["owned_sessions"]) == (&json!(2), &json!(1))
    });
    let cluster = nodes[0].get("cluster");
    let list = cluster["nodes"].as_array().expect("a list");
    assert_eq!(names(list, "name"), sorted(["n0", "n1", "n2"]));
    assert_eq!(cluster["node"], list[0]["node"]);
    assert_eq!(
        (&cluster["lease_ms"], &cluster["recoveries"]),
        (&json!(1000), &json!([]))
    );
    for (node, api) in list.iter().zip(&nodes.nodes) {
        assert_eq!(node["http"], json!(format!("http://{}", api.address)));
        assert_eq!(node["version"], json!(env!("CARGO_PKG_VERSION")));
        assert!(node["since_ms"].as_u64() > Some(1_600_000_000_000), "{node}");
        assert!(node["heartbeat_age_ms"].as_u64() < Some(10_000), "{node}");
        assert!(node["log_lag"].as_u64() <= cluster["log_position"].as_u64(), "{node}");
    }
    eventually("all have applied the log", || {
        let cluster = nodes[1].get("cluster");
        let list = cluster["nodes"].as_array().expect("a list").clone();
        list.iter().all(|node| node["log_lag"] == json!(0))
    });
    let table = nodes[1].ctl_prints(&["cluster"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..2], ["NODE", "NAME"], "{table}");
    assert_eq!(rows[2][1..3], ["*", "n1"], "{table}");
    assert!(table.contains("\nlog_position "), "{table}");
    let json: Value = serde_json::from_str(&nodes[1].ctl_prints(&["cluster", "--json"])).expect("JSON");
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(3));
    drop(nodes.nodes.pop());
    eventually("the dead node is recovered", || {
        let cluster = nodes[0].get("cluster");
        let list = cluster["nodes"].as_array().expect("a list");
        let recovered = |node: &Value| node["figures"]["recovered_clients"].as_u64().unwrap_or(0);
        list.len() == 2 && list.iter().map(recovered).sum::<u64>() == 2 && cluster["recoveries"] == json!([])
    });
    // Nothing of it is left.
    eventually("nothing of it is left", || {
        nodes[0].get("cluster")["routes"] == json!(0)
    });
}

/// What sessions have left to other members of a group is counted by the node that gives it to them.
#[test]
fn what_is_given_to_others_is_counted() {
    let nodes = Nodes::start(1, &[]);
    let member = |name: &str| {
        let mut member = nodes[0].broker.connect(Connect::persistent(Version::V5, name));
        member.subscribe("$share/g/s", 1);
        member
    };
    let mut leaver = member("leaver");
    nodes[0].broker.v5("publisher").publish("s", "m", 1);
    assert_eq!(leaver.recv_publish().text(), "m");
    let mut stayer = member("stayer");
    leaver.disconnect_with(Disconnect::new(0).prop(Prop::SessionExpiry(0)));
    stayer.expect_message("s", "m");
    eventually("it is counted", || {
        nodes[0].get("cluster")["nodes"][0]["figures"]["given_rests"] == json!(1)
    });
    let metrics = nodes[0].raw("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(
        metrics.contains("\nmqtt_broker_cluster_given_rests_total 1\n"),
        "{metrics}"
    );
    let table = nodes[0].ctl_prints(&["cluster"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let at = rows[0].iter().position(|head| *head == "GIVEN").expect("a column");
    // A space is in what was heard, and a mark at the node that is asked.
    assert_eq!(rows[1][at + 2], "1", "{table}");
}

/// A broker alone has none.
#[test]
fn a_broker_alone_is_no_cluster() {
    let api = Api::start(&["--persistence", "memory"]);
    api.curl("cluster", &[]).expect_error(404, "no node of a cluster");
    assert_eq!(api.ctl(&["cluster"]).status.code(), Some(1));
    let _client = api.broker.v5("client");
    assert_eq!(api.get("clients/client").get("node"), None);
}

/// A list has the clients of all nodes and those that are away, once, in whatever pages; each says where it is.
#[test]
fn clients_are_listed_on_all_nodes() {
    let nodes = Nodes::start(3, &[]);
    let mut online = Vec::new();
    for node in 0..3 {
        for number in 0..5 {
            let id = format!("on-{node}-{number}");
            online.push(
                nodes[node]
                    .broker
                    .connect(Connect::v5(&id).username(&format!("user-{node}"))),
            );
        }
    }
    let mut publisher = nodes[0].broker.v5("publisher");
    for number in 0..12 {
        let id = format!("away-{number}");
        let mut client = nodes[number % 3].broker.connect(Connect::persistent(Version::V5, &id));
        client.subscribe("away/+", 1);
        client.disconnect();
    }
    publisher.publish("away/x", "payload", 1);
    let away: BTreeSet<_> = (0..12).map(|number| format!("away-{number}")).collect();
    let on = |node: usize| (0..5).map(move |number| format!("on-{node}-{number}"));
    let all: BTreeSet<_> = (0..3).flat_map(on).chain(away.iter().cloned()).collect();
    for (node, limit) in [(0, 1), (1, 4), (2, 1000)] {
        let list = nodes.list(node, &format!("clients?limit={limit}"), "clients");
        let list: Vec<_> = list.into_iter().filter(|one| one["client_id"] != "publisher").collect();
        assert_eq!(names(&list, "client_id"), all, "pages of {limit}");
        assert_eq!(list.len(), all.len(), "pages of {limit}");
        for client in &list {
            match client["connected"] == json!(true) {
                true => {
                    let id = client["client_id"].as_str().expect("a text");
                    let number = &id[3..4];
                    assert_eq!(client["node_name"], json!(format!("n{number}")), "{client}");
                    assert_eq!(client["username"], json!(format!("user-{number}")), "{client}");
                    assert!(client["address"].is_string() && client["node"].is_u64(), "{client}");
                }
                false => {
                    assert_eq!(
                        (&client["queued_messages"], &client["subscriptions"]),
                        (&json!(1), &json!(1)),
                        "{client}"
                    );
                    assert!(client["expires_at_ms"].is_u64() && client["node"].is_null(), "{client}");
                }
            }
        }
    }
    let list = |query: &str| names(&nodes.list(1, &format!("clients?{query}"), "clients"), "client_id");
    assert_eq!(list("connected=false"), away);
    assert_eq!(list("username=user-2"), on(2).collect());
    assert_eq!(list("prefix=away-1&limit=2"), sorted(["away-1", "away-10", "away-11"]));
    assert_eq!(list("filter=*-2-4"), sorted(["on-2-4"]));
    assert_eq!(list("connected=true&prefix=away"), BTreeSet::new());
    nodes[1].curl("clients?cursor=x", &[]).expect_error(400, "cursor");
    for node in nodes[0].get("cluster")["nodes"].as_array().expect("a list") {
        let path = format!("clients?cursor=n.{}.no-cursor-of-it", node["node"]);
        nodes[1].curl(&path, &[]).expect_error(400, "cursor");
    }
    let sessions = nodes.list(2, "sessions?connected=false", "sessions");
    assert_eq!(names(&sessions, "client_id"), away);
    let table = nodes[2].ctl_prints(&["clients", "--filter", "on-0-1"]);
    assert!(table.contains("NODE\n") && table.contains("n0 ("), "{table}");
}

/// What there is of one client, wherever it is.
#[test]
fn one_client_is_found_on_all_nodes() {
    let nodes = Nodes::start(2, &[]);
    let mut client = nodes[1]
        .broker
        .connect(Connect::persistent(Version::V5, "a/b").username("ann"));
    client.subscribe("s/#", 2);
    client.subscribe("$share/g/t", 1);
    let found = nodes[0].get("clients/a%2Fb");
    let here = nodes[1].get("clients/a%2Fb");
    assert_eq!(found, here);
    assert_eq!((&found["username"], &found["node_name"]), (&json!("ann"), &json!("n1")));
    let subscriptions = |node: usize| nodes.list(node, "subscriptions?client=a%2Fb&limit=1", "subscriptions");
    assert_eq!(names(&subscriptions(0), "filter"), sorted(["s/#", "$share/g/t"]));
    assert_eq!(subscriptions(0), subscriptions(1));
    client.disconnect();
    eventually("it is away", || {
        nodes[0].get("clients/a%2Fb")["connected"] == json!(false)
    });
    assert_eq!(nodes[0].get("clients/a%2Fb")["subscriptions"], json!(2));
    assert_eq!(names(&subscriptions(0), "filter"), sorted(["s/#", "$share/g/t"]));
    for path in ["clients/nobody", "subscriptions?client=nobody"] {
        nodes[0].curl(path, &[]).expect_error(404, "no such client");
    }
}

/// A client is disconnected by any node: its will is published, its session stays or ends.
#[test]
fn clients_are_kicked_by_any_node() {
    let nodes = Nodes::start(3, &[]);
    let kick = |node: usize, path: &str| nodes[node].curl(path, &["-X", "DELETE"]);
    let mut watcher = nodes[0].broker.v5("watcher");
    watcher.subscribe("will/+", 1);
    let connect = |id: &str| {
        let will = Will::new(&format!("will/{id}"), "gone").qos(1);
        Connect::persistent(Version::V5, id).will(will)
    };
    for node in 0..3 {
        let mut client = nodes[1].broker.connect(connect("client"));
        kick(node, "clients/client").expect_done();
        client.expect_disconnect(code::ADMINISTRATIVE_ACTION);
        watcher.expect_message("will/client", "gone");
    }
    let back = nodes[2].broker.connect(connect("client"));
    assert!(back.connack.session_present);
    // Also a session that is only heard of.
    let mut back = back;
    kick(0, "clients/client?session=true").expect_done();
    back.expect_disconnect(code::ADMINISTRATIVE_ACTION);
    watcher.expect_message("will/client", "gone");
    eventually("its session has ended", || kick(1, "clients/client").status == 404);
    let again = nodes[0].broker.connect(connect("client"));
    assert!(!again.connack.session_present);
    kick(0, "clients/nobody").expect_error(404, "no such client");
    assert_eq!(nodes[2].ctl(&["kick", "client"]).status.code(), Some(0));
    drop(again);
}

/// Somebody who asks a node as if he were one.
struct Stranger {
    prefix: String,
    server: BufReader<TcpStream>,
}

impl Stranger {
    const NODE: u64 = 999;

    fn new(prefix: &str) -> Stranger {
        let mut server = BufReader::new(TcpStream::connect(persistence::redis()).expect("it listens"));
        let channel = format!("{prefix}:wake:{}", Stranger::NODE);
        write!(server.get_mut(), "SUBSCRIBE {channel}\r\n").expect("written");
        assert_eq!(read_words(&mut server)[0], b"subscribe");
        Stranger {
            prefix: prefix.to_owned(),
            server,
        }
    }

    /// Whether the node has closed this connection of the client, which it is asked to.
    fn kick(&mut self, node: u64, id: &str, connection: u64) -> bool {
        let mut words = b"s?".to_vec();
        words.extend(Stranger::NODE.to_be_bytes().into_iter().chain([0; 8]).chain([3]));
        words.extend((id.len() as u64).to_be_bytes());
        words.extend(id.bytes().chain(connection.to_be_bytes()).chain([0]));
        let mut cli = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &persistence::redis().port().to_string()])
            .args(["-x", "PUBLISH", &format!("{}:wake:{node}", self.prefix)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-cli runs");
        cli.stdin.take().expect("piped").write_all(&words).expect("written");
        let heard = cli.wait_with_output().expect("it ends").stdout;
        assert_eq!(String::from_utf8_lossy(&heard), "1\n");
        let answer = read_words(&mut self.server).pop().expect("an answer");
        assert!(answer.starts_with(b"s!"), "{answer:?}");
        answer.last() == Some(&1)
    }
}

/// What Redis says, as one list.
fn read_words(server: &mut BufReader<TcpStream>) -> Vec<Vec<u8>> {
    let mut head = String::new();
    server.read_line(&mut head).expect("an answer");
    let (kind, rest) = head.trim_end().split_at(1);
    match kind {
        "*" => (0..rest.parse().expect("a count"))
            .flat_map(|_: usize| read_words(server))
            .collect(),
        "$" => {
            let mut bytes = vec![0; rest.parse::<usize>().expect("a length") + 2];
            server.read_exact(&mut bytes).expect("a text");
            bytes.truncate(bytes.len() - 2);
            vec![bytes]
        }
        _ => vec![rest.as_bytes().to_vec()],
    }
}

/// A wish that comes late is not about the connection that the client has by then, and who has it is told so: nothing was done.
#[test]
fn a_late_kick_does_nothing() {
    let nodes = Nodes::start(1, &[]);
    let node = nodes[0].get("cluster")["node"].as_u64().expect("a number");
    let mut stranger = Stranger::new(&nodes.place.options[3]);
    // Connections are counted from 1.
    drop(nodes[0].broker.v5("client"));
    let mut client = nodes[0].broker.v5("client");
    let mut sentinel = nodes[0].broker.v5("sentinel");
    assert!(!stranger.kick(node, "nobody", 1));
    assert!(!stranger.kick(node, "client", 1));
    assert!(stranger.kick(node, "sentinel", 3));
    sentinel.expect_disconnect(code::ADMINISTRATIVE_ACTION);
    client.ping();
    assert!(stranger.kick(node, "client", 2));
    client.expect_disconnect(code::ADMINISTRATIVE_ACTION);
}

/// The session of a client that is away ends, with what was queued for it, and its will is due.
#[test]
fn sessions_of_clients_that_are_away_end() {
    let nodes = Nodes::start(2, &[]);
    let delete = |path: &str| nodes[1].curl(path, &["-X", "DELETE"]);
    let mut watcher = nodes[0].broker.v5("watcher");
    watcher.subscribe("will", 1);
    let connect = || {
        let will = Will::new("will", "gone").qos(1).delay(3600);
        Connect::persistent(Version::V5, "away").will(will)
    };
    let mut client = nodes[0].broker.connect(connect());
    client.subscribe("t", 1);
    client.kill();
    watcher.publish("t", "queued", 1);
    eventually("it is away", || {
        nodes[1].get("clients/away")["connected"] == json!(false)
    });
    delete("clients/away").expect_error(409, "session=true");
    delete("clients/away?session=true").expect_done();
    watcher.expect_message("will", "gone");
    delete("clients/away?session=true").expect_error(404, "no such client");
    eventually("nothing is subscribed to", || {
        nodes[0].get("subscriptions?filter=t")["subscriptions"] == json!([])
    });
    assert!(!nodes[1].broker.connect(connect()).connack.session_present);
}

/// A node that hangs is not waited for.
#[test]
fn a_node_that_hangs_is_named() {
    let nodes = Nodes::start(2, &["--cluster-lease", "30"]);
    let mut client = nodes[1].broker.v5("client");
    let _own = nodes[0].broker.v5("own");
    nodes[1].broker.signal("STOP");
    let node = nodes[0].get("cluster")["nodes"][1]["node"].clone();
    for (method, path) in [
        ("GET", "clients/client"),
        ("GET", "clients"),
        ("DELETE", "clients/client?session=true"),
    ] {
        let started = Instant::now();
        let answer = nodes[0].curl(path, &["-X", method]);
        answer.expect_error(503, &format!("node {node} of the cluster does not answer"));
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
    assert_eq!(nodes[0].get("clients/own")["connected"], json!(true));
    nodes[1].broker.signal("CONT");
    // What it was told meanwhile may be lost.
    eventually("it answers again", || {
        let answer = nodes[0].curl("clients/client?session=true", &["-X", "DELETE"]);
        matches!(answer.status, 204 | 404)
    });
    client.expect_disconnect(code::ADMINISTRATIVE_ACTION);
    eventually("it is gone", || nodes[0].curl("clients/client", &[]).status == 404);
}

/// Sums over all nodes are told on each of them.
#[test]
fn sys_topics_are_summed() {
    let nodes = Nodes::start(3, &["--sys-interval", "0.2"]);
    let mut clients: Vec<_> = (0..3).map(|node| nodes[node].broker.v5(&format!("c{node}"))).collect();
    clients[0].subscribe("volatile/+", 0);
    let mut kept = nodes[2].broker.connect(Connect::persistent(Version::V5, "kept"));
    kept.subscribe("kept/1", 1);
    kept.subscribe("kept/2", 1);
    let mut away = nodes[0].broker.connect(Connect::persistent(Version::V5, "away"));
    away.disconnect();
    clients[1].publish_packet(Publish::new("r", "x").qos(1, 0).retain());
    for (topic, value) in [
        ("nodes/count", "3"),
        ("clients/connected", "5"),
        ("clients/disconnected", "1"),
        ("clients/total", "6"),
        ("sessions/count", "2"),
        ("retained messages/count", "1"),
        ("subscriptions/count", "4"),
        ("publish/messages/received", "1"),
    ] {
        let topic = format!("$SYS/cluster/{topic}");
        // The reader is a client on node 1, and has a subscription.
        let mut reader = nodes[1].broker.v5("reader");
        reader.subscribe(&topic, 0);
        while reader.message().text() != value {}
    }
    // Own clients alone.
    let mut reader = nodes[2].broker.v5("reader");
    reader.subscribe("$SYS/broker/clients/connected", 0);
    while reader.message().text() != "3" {}
}

/// A retained message that has expired goes from Redis, so that there is room for another one, and from all nodes; one that has taken
/// its place stays.
#[test]
fn expired_retained_messages_make_room() {
    let nodes = Nodes::start(2, &["--max-retained-messages", "2"]);
    let mut publisher = nodes[0].broker.v5("publisher");
    let mut retain = |topic: &str, payload: &str, expiry: Option<u32>| {
        let mut publish = Publish::new(topic, payload).qos(1, 0).retain();
        publish.props.0.extend(expiry.map(Prop::MessageExpiry));
        publisher.publish_packet(publish);
    };
    retain("expires", "old", Some(1));
    retain("is replaced", "old", Some(1));
    retain("is replaced", "new", Some(3600));
    assert_eq!(nodes[0].get("cluster")["retained_messages"], json!(2));
    eventually("it is removed", || {
        nodes[1].get("cluster")["retained_messages"] == json!(1)
    });
    retain("has room", "here", None);
    for node in 0..2 {
        let mut client = nodes[node].broker.v5("");
        client.subscribe("+", 0);
        let mut got = [client.message(), client.message()].map(|message| message.text().to_owned());
        got.sort();
        assert_eq!(got, ["here", "new"]);
    }
}

/// Retained messages are deleted on all nodes.
#[test]
fn retained_messages_are_deleted_everywhere() {
    let nodes = Nodes::start(2, &[]);
    let mut publisher = nodes[0].broker.v5("publisher");
    for topic in ["a/1", "a/2", "b"] {
        publisher.publish_packet(Publish::new(topic, "x").qos(1, 0).retain());
    }
    let topics = |node: usize| names(&nodes.list(node, "retained", "retained"), "topic");
    eventually("all have it", || topics(1).len() == 3);
    let deleted = nodes[1].curl("retained?filter=a/%23", &["-X", "DELETE"]).json();
    assert_eq!(deleted, json!({ "removed": 2 }));
    assert_eq!(topics(1), sorted(["b"]));
    eventually("it is gone on the other node", || topics(0) == sorted(["b"]));
    assert_eq!(nodes[0].get("cluster")["retained_messages"], json!(1));
}

/// Without Redis, QoS 0 goes on until the isolation limit; then connections are closed (C7).
#[test]
fn an_isolated_node_closes_its_connections() {
    let redis = Redis::start();
    let url = format!("redis://{}", redis.addr);
    let node = Broker::start_as_told(&[
        "--redis",
        &url,
        "--cluster-lease",
        "1",
        "--isolation-limit",
        "4",
        "--server-reference",
        "other.example",
    ]);
    let mut old = node.v311("old");
    let mut client = node.v5("client");
    client.subscribe("t", 0);
    let started = Instant::now();
    drop(redis);
    // Also when the node may have been declared dead.
    while started.elapsed() < Duration::from_millis(2500) {
        client.publish("t", "meanwhile", 0);
        client.expect_message("t", "meanwhile");
        std::thread::sleep(Duration::from_millis(20));
    }
    let disconnect = client.recv_disconnect();
    assert_eq!(disconnect.reason, code::USE_ANOTHER_SERVER);
    assert_eq!(disconnect.props.server_reference().as_deref(), Some("other.example"));
    assert!(started.elapsed() > Duration::from_secs(2), "{:?}", started.elapsed());
    old.expect_closed();
    node.expect_log("isolation limit");
}
