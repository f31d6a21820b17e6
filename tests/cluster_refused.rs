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

fn is_failing(node: &Broker) -> bool {
    let url = format!("http://{}/metrics", node.addr_of("http"));
    let metrics = Command::new("curl").args(["-sS", &url]).output().expect("curl");
    String::from_utf8_lossy(&metrics.stdout).contains("\nmqtt_broker_store_failing 1\n")
}

/// While Redis refuses changes, for more than a lease, nobody is declared dead, nothing is acknowledged, CONNECT is refused, QoS 0 goes on,
/// and afterwards all goes on where it was (C4, C7).
#[test]
fn nobody_dies_while_changes_are_refused() {
    let lease = CLUSTER_LEASE.as_secs_f64().to_string();
    let cluster = Cluster::with_options(2, &["--cluster-lease", &lease, "--http-port", "0"]);
    let mut subscriber = cluster[1].connect(Connect::persistent(Version::V5, "subscriber"));
    subscriber.subscribe("t", 1);
    let (mut publisher, mut other) = (cluster[0].v5("publisher"), cluster[0].v5("other"));
    publisher.subscribe("qos0", 0);
    publisher.publish("t", "before", 1);
    subscriber.expect_message("t", "before");
    assert!(!is_failing(&cluster[0]));
    config_set("min-replicas-to-write", "1");
    let id = publisher.next_id();
    publisher.send(Publish::new("t", "meanwhile").qos(1, id));
    eventually("changes are refused", || is_failing(&cluster[0]));
    std::thread::sleep(3 * CLUSTER_LEASE);
    assert!(is_failing(&cluster[0]));
    cluster[0].expect_refused(Connect::v5("late"), code::SERVER_UNAVAILABLE);
    // What comes first is no PUBACK.
    other.publish("qos0", "goes on", 0);
    publisher.expect_message("qos0", "goes on");
    config_set("min-replicas-to-write", "0");
    assert_eq!(publisher.recv_puback().id, id);
    subscriber.expect_message("t", "meanwhile");
    for node in [&cluster[0], &cluster[1]] {
        let log = node.log();
        assert!(!log.contains("dead"), "{log}");
    }
}
