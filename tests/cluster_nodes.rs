//! Brokers that share a Redis are one broker. Promises C1 to C8 are those of `tests/cluster/PROTOCOL.md`.

mod common;
use common::*;
use std::time::Instant;

/// A message goes to subscribers on all nodes, whatever is kept of them, and comes once (C1).
#[test]
fn messages_reach_all_nodes() {
    let cluster = Cluster::start(3);
    for qos in 0..=2 {
        let topic = format!("t/{qos}");
        let mut volatile: Vec<_> = (0..3)
            .map(|node| cluster[node].v5(&format!("volatile-{qos}-{node}")))
            .collect();
        let kept = |node: usize| {
            let id = format!("kept-{qos}-{node}");
            cluster[node].connect(Connect::persistent(Version::V5, &id))
        };
        let mut kept: Vec<_> = (0..3).map(kept).collect();
        volatile
            .iter_mut()
            .chain(&mut kept)
            .for_each(|client| client.subscribe("t/+", 2));
        for node in 0..3 {
            let mut publisher = cluster[node].v5("");
            for text in ["a", "b"] {
                publisher.publish(&topic, format!("{text}{node}"), qos);
            }
            for client in volatile.iter_mut().chain(&mut kept) {
                for text in ["a", "b"] {
                    client.expect_message(&topic, format!("{text}{node}"));
                }
            }
        }
    }
}

/// A session goes on at another node: with its subscriptions, with what came while its client was away, and with what had not been
/// acknowledged, under the same Packet Identifiers (C3).
#[test]
fn sessions_move() {
    let cluster = Cluster::start(2);
    let mut publisher = cluster[0].v5("publisher");
    let mut client = cluster[0].connect(Connect::persistent(Version::V5, "mover"));
    client.subscribe("t", 2);
    publisher.publish("t", "first", 2);
    let first = client.recv_publish();
    client.kill();
    publisher.publish("t", "second", 1);
    let mut client = cluster[1].connect(Connect::persistent(Version::V5, "mover"));
    assert!(client.connack.session_present);
    let again = client.recv_publish();
    assert_eq!((again.text(), again.id, again.dup), ("first", first.id, true));
    client.ack(&again);
    client.expect_message("t", "second");
    publisher.publish("t", "third", 1);
    client.expect_message("t", "third");
}

/// With No Local a session that is kept does not get its own messages, whichever way they take: by the inbox of its node, too, as they do
/// if the subscription has QoS 0; those of others it gets [MQTT-3.8.3-3].
#[test]
fn no_local_holds_on_all_ways() {
    let cluster = Cluster::start(2);
    let mut client = cluster[0].connect(Connect::persistent(Version::V5, "client"));
    let mut other = cluster[1].v5("other");
    for granted in 0..=2 {
        let topic = format!("t/{granted}");
        client.subscribe(&topic, granted | Subscribe::NO_LOCAL);
        for qos in 0..=2 {
            client.publish(&topic, "own", qos);
            // Behind it, if it has come into the inbox or the queue.
            other.publish(&topic, "of another", qos);
            client.expect_message(&topic, "of another");
        }
    }
}

/// A long message for many sessions that are kept is more than is sent to Redis at a time, and comes to each of them whole (C1).
#[test]
fn a_long_message_comes_to_many_sessions() {
    let cluster = Cluster::start(1);
    let mut clients: Vec<_> = (0..20)
        .map(|number| cluster[0].connect(Connect::persistent(Version::V5, &format!("client {number}"))))
        .collect();
    clients.iter_mut().for_each(|client| client.subscribe("t", 1));
    let text = "x".repeat(1_000_000);
    let mut publisher = cluster[0].v5("publisher");
    publisher.publish("t", &text, 1);
    publisher.publish("t", "next", 1);
    for client in &mut clients {
        client.expect_message("t", &text);
        client.expect_message("t", "next");
    }
}

/// A node may die between the record of a session, which has no subscription any more, and the log, which tells that to the others. Whoever
/// has the client then can be asked again to end it [MQTT-3.10.4-2].
#[test]
fn an_unsubscribe_that_was_cut_off_can_be_repeated() {
    let mut cluster = Cluster::start(1);
    let mut publisher = cluster[0].v5("publisher");
    let connect = || Connect::persistent(Version::V5, "client");
    let mut client = cluster[0].connect(connect());
    client.subscribe("gone", 1);
    client.subscribe("t", 1);
    client.disconnect();
    let mut keys = cluster.keys().into_iter();
    let record = keys.find(|key| key.contains("}:s:")).expect("a session");
    let record = format!("{}:{record}", cluster.option("--redis-prefix"));
    assert_eq!(cluster.redis_cli(&["HDEL", &record, "sub:gone"]).trim(), "1");
    // It reads the records, and not the log of before.
    cluster.add();
    let mut client = cluster[1].connect(connect());
    assert!(client.connack.session_present);
    publisher.publish("gone", "before", 1);
    client.expect_message("gone", "before");
    assert_eq!(client.unsubscribe("gone").codes, [code::NO_SUBSCRIPTION_EXISTED]);
    publisher.publish("gone", "after", 1);
    publisher.publish("t", "next", 1);
    client.expect_message("t", "next");
}

/// A later CONNECT wins, on whichever node it is (C2).
#[test]
fn one_node_has_a_client() {
    let cluster = Cluster::start(2);
    for persistent in [false, true] {
        let connect = || match persistent {
            true => Connect::persistent(Version::V5, "twin"),
            false => Connect::v5("twin"),
        };
        let mut older = cluster[0].connect(connect());
        for round in 0..10 {
            let mut newer = cluster[(round + 1) % 2].connect(connect());
            older.expect_cut(code::SESSION_TAKEN_OVER);
            newer.ping();
            older = newer;
        }
    }
}

/// When a node is killed, the others publish the wills of its clients, and its sessions go on elsewhere, with the lease that is the
/// default, within twice that time (C4).
#[test]
fn a_dead_node_is_replaced() {
    let mut cluster = Cluster::with_options(3, &[]);
    let mut watcher = cluster[0].v5("watcher");
    watcher.subscribe("will/#", 1);
    let mut publisher = cluster[0].v5("publisher");
    let mut kept =
        cluster[2].connect(Connect::persistent(Version::V5, "kept").will(Will::new("will/kept", "gone").qos(1)));
    kept.subscribe("t", 1);
    let volatile = cluster[2].connect(Connect::v5("volatile").will(Will::new("will/volatile", "gone").qos(1)));
    let started = Instant::now();
    cluster.kill(2);
    publisher.publish("t", "while away", 1);
    let mut wills = [watcher.message(), watcher.message()].map(|message| message.topic.clone());
    wills.sort();
    assert_eq!(wills, ["will/kept", "will/volatile"]);
    let mut kept = cluster[1].connect(Connect::persistent(Version::V5, "kept"));
    assert!(kept.connack.session_present);
    kept.expect_message("t", "while away");
    println!("wills and session after {:?} with a lease of 3 s", started.elapsed());
    // Some more, for a machine that does much else.
    assert_elapsed(started, 2.0, 2.0 * 3.0 + 3.0);
    watcher.assert_nothing_from_elsewhere(&mut publisher);
    drop(volatile);
}

/// A new subscription gets the retained message that was acknowledged last, on every node, also on one that joins later (C6).
#[test]
fn retained_messages_are_alike() {
    let mut cluster = Cluster::start(2);
    let mut publishers = [cluster[0].v5("one"), cluster[1].v5("other")];
    for round in 0..20 {
        let text = round.to_string();
        publishers[round % 2].publish_packet(Publish::new("r", &text).qos(1, 0).retain());
    }
    cluster.add();
    for node in 0..3 {
        let mut client = cluster[node].v5("");
        client.subscribe("r", 1);
        client.expect_message("r", "19");
    }
}

/// A client that comes back before its Will Delay Interval ends has no will published, also if it comes back elsewhere, and
/// also if its node has died [MQTT-3.1.3-9].
#[test]
fn wills_wait_for_their_clients() {
    let mut cluster = Cluster::start(3);
    let mut watcher = cluster[0].v5("watcher");
    watcher.subscribe("will/#", 1);
    let connect = |id: &str, delay: u32| {
        let will = Will::new(&format!("will/{id}"), "gone").qos(1).delay(delay);
        Connect::persistent(Version::V5, id).will(will)
    };
    let comes = cluster[1].connect(connect("comes", 600));
    let goes = cluster[1].connect(connect("goes", 1));
    let survives = cluster[2].connect(connect("survives", 600));
    comes.kill();
    goes.kill();
    let _comes = cluster[0].connect(connect("comes", 600));
    assert_eq!(watcher.message().topic, "will/goes");
    cluster.kill(2);
    let mut survives_on = cluster[1].connect(connect("survives", 600));
    assert!(survives_on.connack.session_present);
    watcher.assert_nothing_from_elsewhere(&mut survives_on);
    drop(survives);
}
