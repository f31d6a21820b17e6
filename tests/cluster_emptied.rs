//! Nothing is left in Redis of a cluster whose sessions have all ended: promise C8 of `tests/cluster/PROTOCOL.md`. What stays is
//! listed in docs/redis.md, "Keys of a cluster".

mod common;
use common::*;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// More than nodes take for what they do by themselves.
const LONG: Duration = Duration::from_secs(30);

fn cluster(nodes: usize) -> Cluster {
    Cluster::with_options(nodes, &["--cluster-lease", "1", "--will-grace", "1"])
}

fn keys(cluster: &Cluster) -> BTreeSet<String> {
    cluster.keys().into_iter().collect()
}

fn fields(cluster: &Cluster, key: &str) -> BTreeSet<String> {
    let key = format!("{}:{key}", cluster.option("--redis-prefix"));
    ask(&["HKEYS", &key]).into_iter().collect()
}

/// What the doctor says, who finds nothing wrong.
fn doctor(cluster: &Cluster) -> String {
    let options = [
        "--redis",
        cluster.option("--redis"),
        "--redis-prefix",
        cluster.option("--redis-prefix"),
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_broker"))
        .args(["store", "doctor"])
        .args(options)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    said
}

/// Waits until the doctor says all this.
fn until_doctor_says(cluster: &Cluster, lines: &[&str]) {
    let start = Instant::now();
    loop {
        let said = doctor(cluster);
        match lines.iter().find(|line| !said.lines().any(|other| other == **line)) {
            None => return,
            Some(missing) => assert!(start.elapsed() < LONG, "{missing:?} is not said: {said}"),
        }
    }
}

/// Has the Redis of the tests do something: what it answers, as one list of words.
fn ask(words: &[&str]) -> Vec<String> {
    let mut server = TcpStream::connect(persistence::redis()).expect("it listens");
    let mut request = format!("*{}\r\n", words.len());
    words
        .iter()
        .for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
    server.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    read_answer(&mut BufReader::new(server), &mut answer);
    answer
}

fn read_answer(server: &mut BufReader<TcpStream>, to: &mut Vec<String>) {
    let mut head = String::new();
    server.read_line(&mut head).expect("an answer");
    let (kind, rest) = head.trim_end().split_at(1);
    match kind {
        "*" => (0..rest.parse().expect("a count")).for_each(|_| read_answer(server, to)),
        "$" => {
            let mut bytes = vec![0; rest.parse::<usize>().expect("a length") + 2];
            server.read_exact(&mut bytes).expect("a text");
            to.push(String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned());
        }
        ":" => to.push(rest.to_owned()),
        _ => panic!("Redis says {head}"),
    }
}

/// All that the clients of a node leave, who are connected still.
struct Crowd {
    clients: Vec<Client>,
    kept: Vec<String>,
}

/// Clients of all sorts at this node. Each leaves something in Redis that has to go by itself, or with its session.
fn crowd(cluster: &Cluster, at: usize) -> Crowd {
    let node = &cluster[at];
    let name = |what: &str| format!("{what}-{at}");
    let mut crowd = Crowd {
        clients: Vec::new(),
        kept: Vec::new(),
    };
    let mut keep = |connect: Connect, what: &str| {
        crowd.kept.push(name(what));
        node.connect(connect)
    };
    let persistent = |what: &str| Connect::persistent(Version::V5, &name(what));
    let will = |what: &str| Will::new(&format!("will/{}", name(what)), "gone").qos(1);

    let mut both = keep(persistent("both").will(will("both")), "both");
    both.subscribe("t/#", 2);
    both.subscribe("$share/g/s", 1);
    let mut delayed = keep(persistent("delayed").will(will("delayed").delay(1)), "delayed");
    delayed.subscribe("t/a", 1);
    delayed.kill();
    let mut away = keep(persistent("away"), "away");
    away.subscribe("t/#", 1);
    away.disconnect();
    let expires = Connect::v5(&name("expires")).clean(false).expiry(1);
    let mut expires = keep(expires, "expires");
    expires.subscribe("t/#", 1);
    expires.kill();

    let mut half = keep(persistent("half"), "half");
    half.subscribe("t/a", 2);
    let id = half.next_id();
    half.send(Publish::new("t/half", "not released").qos(2, id));
    half.recv_pubrec();

    let mut volatile = node.connect(Connect::v5(&name("volatile")).will(will("volatile")));
    volatile.subscribe("t/#", 1);
    volatile.subscribe("zero", 0);
    volatile.subscribe("$share/g/s", 2);
    crowd.clients.extend([both, half, volatile]);
    crowd
}

/// Publishes of all QoS, by a session that is kept, to all of them; some are retained.
fn publish(cluster: &Cluster, at: usize) {
    let mut publisher = cluster[at].connect(Connect::persistent(Version::V5, &format!("publisher-{at}")));
    for number in 0..30_u8 {
        let qos = number % 3;
        publisher.publish("t/a", number.to_string(), qos);
        publisher.publish("s", number.to_string(), qos);
        publisher.publish("zero", number.to_string(), 0);
        let retained = Publish::new(&format!("t/retained/{at}/{}", number % 5), "kept");
        publisher.publish_packet(retained.qos(1, 0).retain());
    }
    publisher.disconnect();
}

/// Ends a session by a Clean Start, as its client may at any node.
fn end(node: &Broker, client_id: &str) {
    node.connect(Connect::v5(client_id)).disconnect();
}

/// Nothing but what a cluster has that does nothing, of this node alone.
fn expect_nothing_left(cluster: &Cluster, node: &str) {
    let start = Instant::now();
    let constants = ["{g}:meta", "{g}:inc", "{g}:nodes", "{g}:about", "{g}:log", "{g}:hw"].map(str::to_owned);
    let counters = (0..256).map(|bucket| format!("{{{bucket}}}:hw"));
    let constants: BTreeSet<_> = constants.into_iter().chain(counters).collect();
    let bucket = node.parse::<u64>().expect("a number") % 256;
    let inboxes = ["in", "in0"].map(|kind| format!("{{{bucket}}}:{kind}:{node}"));
    loop {
        let mut keys = keys(cluster);
        keys.retain(|key| !inboxes.contains(key));
        if keys == constants {
            break;
        }
        let others: Vec<_> = keys.symmetric_difference(&constants).collect();
        assert!(start.elapsed() < LONG, "left, or not there: {others:?}");
    }
    assert_eq!(fields(cluster, "{g}:nodes"), BTreeSet::from([node.to_owned()]));
    for key in constants.iter().filter(|key| key.ends_with(":hw")) {
        let mut fields = fields(cluster, key);
        fields.remove("top");
        assert_eq!(fields, BTreeSet::from([node.to_owned()]), "{key}");
    }
}

#[test]
fn nothing_is_left_when_all_sessions_have_ended() {
    let mut cluster = cluster(3);
    let mut watcher = cluster[0].v5("watcher");
    watcher.subscribe("will/#", 1);
    let crowds: Vec<_> = (0..3).map(|at| crowd(&cluster, at)).collect();
    (0..3).for_each(|at| publish(&cluster, at));

    // One is killed, and recovered by another one.
    drop(cluster.take(2));
    let mut wills: BTreeSet<String> = BTreeSet::new();
    while !["both-2", "volatile-2", "delayed-0"]
        .iter()
        .all(|who| wills.contains(&format!("will/{who}")))
    {
        wills.insert(watcher.message().topic.clone());
    }
    until_doctor_says(&cluster, &["dead nodes: {}", "nodes: {1, 2}"]);

    for crowd in crowds {
        crowd.clients.into_iter().for_each(Client::kill);
        crowd.kept.iter().for_each(|client_id| end(&cluster[1], client_id));
    }
    (0..3).for_each(|at| end(&cluster[0], &format!("publisher-{at}")));
    let mut cleaner = cluster[0].v5("cleaner");
    for (at, number) in (0..3).flat_map(|at| (0..5).map(move |number| (at, number))) {
        let clear = Publish::new(&format!("t/retained/{at}/{number}"), "");
        cleaner.publish_packet(clear.qos(1, 0).retain());
    }
    cleaner.disconnect();
    watcher.kill();

    // One leaves in good order.
    assert_eq!(cluster.take(1).terminate().code(), Some(0));
    until_doctor_says(
        &cluster,
        &["dead nodes: {}", "nodes: {1}", "sessions: 0", "wills: 0", "clients: 0"],
    );
    expect_nothing_left(&cluster, "1");
    until_doctor_says(
        &cluster,
        &[
            "messages that have begun: 0",
            "messages that are noted as put into queues: 0",
            "sessions that have left messages: 0",
            "retained messages: 0",
        ],
    );
    // And the last one.
    assert_eq!(cluster.take(0).terminate().code(), Some(0));
    let constants = ["{g}:meta", "{g}:inc", "{g}:log", "{g}:hw"].map(str::to_owned);
    let counters = (0..256).map(|bucket| format!("{{{bucket}}}:hw"));
    let constants: BTreeSet<_> = constants.into_iter().chain(counters).collect();
    assert_eq!(keys(&cluster), constants);
    for key in constants.iter().filter(|key| key.ends_with(":hw")) {
        assert_eq!(fields(&cluster, key), BTreeSet::from(["top".to_owned()]), "{key}");
    }
}
