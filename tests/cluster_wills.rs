//! Wills in a cluster, and what comes behind them: promises C4 and C6 of `tests/cluster/PROTOCOL.md`.

mod common;
use common::*;
use std::collections::BTreeMap;

/// Each says whether it is there, on a topic of its own.
const CLIENTS: usize = 60;

fn topic(client: usize) -> String {
    format!("state/{client}")
}

fn says_when_it_goes(client: usize) -> Connect {
    let will = Will::new(&topic(client), "offline").qos(1).retain();
    Connect::v5(&format!("device-{client}")).will(will)
}

fn says_that_it_is_there(client: &mut Client, number: usize) {
    client.publish_packet(Publish::new(&topic(number), "online").qos(1, 0).retain());
}

/// Who comes back is behind its own will, with subscribers as in what is retained, also if its node has died.
#[test]
fn wills_of_a_dead_node_come_first() {
    let mut cluster = Cluster::start(3);
    let mut before: Vec<_> = (0..CLIENTS)
        .map(|number| cluster[2].connect(says_when_it_goes(number)))
        .collect();
    for (number, client) in before.iter_mut().enumerate() {
        says_that_it_is_there(client, number);
    }
    let mut watcher = cluster[0].connect(Connect::persistent(Version::V5, "watcher"));
    watcher.subscribe("state/#", 1 | Subscribe::RETAIN_NEVER);
    cluster.kill(2);
    let node = &cluster[1];
    let after: Vec<_> = std::thread::scope(|scope| {
        let back = |number| {
            move || {
                let mut client = node.connect(says_when_it_goes(number));
                says_that_it_is_there(&mut client, number);
                client
            }
        };
        let threads: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(back(number))).collect();
        let clients = threads.into_iter().map(|thread| thread.join().expect("it is back"));
        clients.collect()
    });
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..2 * CLIENTS {
        let message = watcher.message();
        said.entry(message.topic.clone())
            .or_default()
            .push(message.text().to_owned());
    }
    for (topic, said) in said {
        assert_eq!(said, ["offline", "online"], "{topic}");
    }
    for node in 0..2 {
        let mut late = cluster[node].v5("");
        late.subscribe("state/#", 1);
        for _ in 0..CLIENTS {
            assert_eq!(late.message().text(), "online");
        }
    }
    drop((before, after));
}

/// So it is when a client is taken over by another node, which does not know when its will is out but by asking.
#[test]
fn the_will_of_who_was_taken_over_comes_first() {
    let cluster = Cluster::start(3);
    let mut watcher = cluster[2].v5("watcher");
    watcher.subscribe("state/#", 1);
    let mut before = cluster[0].connect(says_when_it_goes(0));
    for round in 1..=30 {
        let mut client = cluster[round % 2].connect(says_when_it_goes(0));
        says_that_it_is_there(&mut client, 0);
        before.expect_cut(code::SESSION_TAKEN_OVER);
        watcher.expect_message(&topic(0), "offline");
        watcher.expect_message(&topic(0), "online");
        before = client;
    }
    before.disconnect();
}

/// A will of QoS 0 that nobody gets holds up nobody, and nothing is left of it.
#[test]
fn a_will_that_nobody_gets_holds_up_nobody() {
    let cluster = Cluster::start(2);
    let connect = || Connect::v5("lonely").will(Will::new("nobody", "gone"));
    let mut last = cluster[0].connect(connect());
    for round in 1..=10 {
        last.kill();
        last = cluster[round % 2].connect(connect());
    }
    last.disconnect();
    cluster[0].assert_serves();
}

/// A CONNECT that was given up while it waited for its client changes nothing: its session goes on, and its will is published when it is due.
#[test]
fn a_connect_that_was_given_up_takes_nothing_away() {
    let options = ["--cluster-lease", "3", "--connect-timeout", "1"];
    let mut cluster = Cluster::with_options(2, &options);
    let mut watcher = cluster[1].v5("watcher");
    watcher.subscribe("will/#", 1);
    let will = Will::new("will/patient", "gone").qos(1).delay(2);
    let connect = || Connect::persistent(Version::V5, "patient");
    let mut patient = cluster[0].connect(connect().will(will));
    patient.subscribe("t", 1);
    cluster.kill(0);
    // Its node has not been declared dead yet.
    let mut given_up = cluster[0].open(Version::V5);
    given_up.send(connect().clean(true));
    given_up.drain_until_closed();
    watcher.expect_message("will/patient", "gone");
    let mut publisher = cluster[0].v5("");
    publisher.publish("t", "while away", 1);
    let mut patient = loop {
        let mut client = cluster[0].open(Version::V5);
        client.send(connect());
        if let Some(Packet::Connack(connack)) = client.recv_or_closed() {
            assert_eq!((connack.code, connack.session_present), (0, true));
            break client;
        }
    };
    patient.expect_message("t", "while away");
}
