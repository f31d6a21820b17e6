//! A Redis that can be read and takes no changes. This file has a Redis of its own, as all its brokers feel that.

mod common;
use common::*;
use std::process::Command;

fn config_set(name: &str, value: &str) {
    let port = persistence::redis().port().to_string();
    let set = Command::new("redis-cli")
        .args(["-p", &port, "config", "set", name, value])
        .output();
    assert_eq!(set.expect("redis-cli").stdout, b"OK\n");
}

/// While Redis refuses changes, for more than a lease, nobody is declared dead, nothing is acknowledged, and afterwards all goes on where it
/// was (C4, C7).
#[test]
fn nobody_dies_while_changes_are_refused() {
    let cluster = Cluster::start(2);
    let mut subscriber = cluster[1].connect(Connect::persistent(Version::V5, "subscriber"));
    subscriber.subscribe("t", 1);
    let mut publisher = cluster[0].v5("publisher");
    publisher.publish("t", "before", 1);
    subscriber.expect_message("t", "before");
    config_set("min-replicas-to-write", "1");
    let id = publisher.next_id();
    publisher.send(Publish::new("t", "meanwhile").qos(1, id));
    std::thread::sleep(3 * CLUSTER_LEASE);
    config_set("min-replicas-to-write", "0");
    assert_eq!(publisher.recv_puback().id, id);
    subscriber.expect_message("t", "meanwhile");
    for node in [&cluster[0], &cluster[1]] {
        let log = node.log();
        assert!(!log.contains("dead"), "{log}");
    }
}
