//! Nodes that come, are declared dead, and go. Promises C1 to C8 are those of `tests/cluster/PROTOCOL.md`.

mod common;
use common::*;

const QUIET: [&str; 4] = ["--cluster-lease", "1", "--sys-interval", "0"];

/// A will of QoS 0 that is for nobody but whoever comes later is published once: its node leaves nothing of it behind (C8).
#[test]
fn a_will_that_nobody_waits_for_is_done() {
    let mut cluster = Cluster::with_options(2, &QUIET);
    let will = Will::new("state/1", "offline").retain();
    cluster[0].connect(Connect::v5("mortal").will(will)).kill();
    let mut watcher = cluster[1].v5("watcher");
    watcher.subscribe("state/+", 0);
    watcher.expect_message("state/1", "offline");
    let mut publisher = cluster[1].v5("publisher");
    publisher.publish_packet(Publish::new("state/1", "online").qos(1, 1).retain());
    watcher.expect_message("state/1", "online");
    assert_eq!(cluster.take(0).terminate().code(), Some(0));
    let log = cluster[0].log();
    assert!(!log.contains("dead"), "{log}");
    let keys = cluster.keys();
    assert!(!keys.iter().any(|key| key.ends_with(":jobs")), "{keys:?}");
    let mut other = cluster[0].v5("other");
    other.subscribe("state/+", 0);
    other.expect_message("state/1", "online");
    watcher.assert_nothing_from_elsewhere(&mut publisher);
}

/// A node that was declared dead begins again, also if it has nothing to write (C2).
#[test]
fn a_node_that_is_idle_learns_that_it_is_dead() {
    let cluster = Cluster::with_options(2, &QUIET);
    let mut subscriber = cluster[0].v5("subscriber");
    subscriber.subscribe("t", 1);
    cluster[0].signal("STOP");
    cluster[1].expect_log("a node of the cluster is dead");
    cluster[0].signal("CONT");
    subscriber.expect_closed();
    // The same process, which listens anew.
    cluster[0].expect_log("starting again");
    let addr = cluster[0].addrs_of("mqtt", 2)[1];
    let mut subscriber = cluster[0].connect_on(Stream::tcp(addr), Connect::v5("subscriber"));
    subscriber.subscribe("t", 1);
    cluster[1].v5("publisher").publish("t", "x", 1);
    subscriber.expect_message("t", "x");
}

/// A node that has much to read before it serves is not taken for dead meanwhile.
#[test]
fn a_node_lives_while_it_reads_what_there_is() {
    const MESSAGES: usize = 30_000;
    let mut cluster = Cluster::with_options(1, &["--cluster-lease", "0.5"]);
    let mut publisher = cluster[0].v5("publisher");
    for number in 0..MESSAGES {
        let packet: Packet = Publish::new(&format!("r/{number}"), "kept").retain().into();
        publisher.send(packet);
    }
    publisher.publish_packet(Publish::new("last", "kept").qos(1, 1).retain());
    cluster.add();
    let mut client = cluster[1].v5("client");
    client.subscribe("last", 1);
    client.expect_message("last", "kept");
    for node in [&cluster[0], &cluster[1]] {
        let log = node.log();
        assert!(!log.contains("dead"), "{log}");
    }
}
