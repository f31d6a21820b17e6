//! Shared Subscriptions in a cluster (promise C5 of `tests/cluster/PROTOCOL.md`): each message goes to one member, wherever that is, and
//! to another one if the first is gone without having acknowledged it.

mod common;
use common::*;
use std::sync::mpsc;
use std::thread;

const SHARED: &str = "$share/g/s";

/// Acknowledges and reports all messages until one says `stop`.
fn read(mut member: Client, got: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        loop {
            let text = member.message().text().to_owned();
            if text == "stop" {
                return;
            }
            got.send(text).expect("the test goes on");
        }
    })
}

/// Publishes `stop` until all members have had it: what comes twice comes before.
fn stop(publisher: &mut Client, topic: &str, members: Vec<thread::JoinHandle<()>>, qos: u8) {
    eventually("all members are reached", || {
        publisher.publish(topic, "stop", qos);
        members.iter().all(thread::JoinHandle::is_finished)
    });
    members.into_iter().for_each(|member| member.join().expect("a member"));
}

fn sorted(got: &mpsc::Receiver<String>, count: usize) -> Vec<usize> {
    let next = || got.recv_timeout(DEADLINE).expect("a message is missing");
    let mut numbers: Vec<_> = (0..count).map(|_| next().parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

/// Each message goes to one member, whatever is kept of them, and whatever the QoS; and all of them get some
/// [MQTT-4.8.2-4], [MQTT-4.8.2-6].
#[test]
fn shared_subscriptions_have_one_receiver() {
    let cluster = Cluster::start(3);
    for kept in [false, true] {
        for qos in 0..=2 {
            let connect = |node: usize| match kept {
                true => Connect::persistent(Version::V5, &format!("kept-{node}-{qos}")),
                false => Connect::v5(&format!("member-{node}-{qos}")),
            };
            let mut members: Vec<_> = (0..3).map(|node| cluster[node].connect(connect(node))).collect();
            let topic = format!("s/{kept}/{qos}");
            let shared = format!("$share/g/{topic}");
            members.iter_mut().for_each(|member| member.subscribe(&shared, 2));
            let (sender, got) = mpsc::channel();
            let members: Vec<_> = members.into_iter().map(|member| read(member, sender.clone())).collect();
            let mut publisher = cluster[0].v5("publisher");
            let count = 30;
            (0..count).for_each(|text| publisher.publish(&topic, text.to_string(), qos));
            assert_eq!(sorted(&got, count), (0..count).collect::<Vec<_>>());
            stop(&mut publisher, &topic, members, qos);
            assert_eq!(got.try_recv(), Err(mpsc::TryRecvError::Empty), "a message came twice");
        }
    }
}

/// A member whose client is connected comes before one that is away, also if it is connected to another node.
#[test]
fn members_that_are_connected_come_first() {
    let cluster = Cluster::start(2);
    let mut away = cluster[0].connect(Connect::persistent(Version::V5, "away"));
    away.subscribe(SHARED, 1);
    away.disconnect();
    away.expect_closed();
    let mut here = cluster[1].connect(Connect::persistent(Version::V5, "here"));
    here.subscribe(SHARED, 1);
    let mut publisher = cluster[0].v5("publisher");
    for text in ["a", "b", "c"] {
        publisher.publish("s", text, 1);
        here.expect_message("s", text);
    }
    let mut away = cluster[0].connect(Connect::persistent(Version::V5, "away"));
    assert!(away.connack.session_present);
    away.assert_nothing_from_itself();
}

/// What a member has not acknowledged when its session ends goes to another one at QoS 1, and not at QoS 2 [MQTT-4.8.2-5].
#[test]
fn messages_move_when_a_session_ends() {
    let cluster = Cluster::start(2);
    let mut first = cluster[0].v5("first");
    first.subscribe(SHARED, 2);
    let mut publisher = cluster[0].v5("publisher");
    publisher.publish("s", "one", 1);
    publisher.publish("s", "two", 2);
    publisher.publish("s", "three", 1);
    let texts: Vec<_> = (0..3).map(|_| first.recv_publish().text().to_owned()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    let mut second = cluster[1].v5("second");
    second.subscribe(SHARED, 2);
    first.disconnect();
    second.expect_message("s", "one");
    second.expect_message("s", "three");
    publisher.publish("s", "four", 2);
    second.expect_message("s", "four");
}

/// The same when the node of the member is killed.
#[test]
fn messages_move_when_a_node_dies() {
    let mut cluster = Cluster::start(3);
    let mut first = cluster[1].v5("first");
    first.subscribe(SHARED, 1);
    let mut publisher = cluster[0].v5("publisher");
    publisher.publish("s", "one", 1);
    publisher.publish("s", "two", 1);
    let message = first.recv_publish();
    first.ack(&message);
    assert_eq!(first.recv_publish().text(), "two");
    // The node has taken the acknowledgement, and it is kept before this is answered.
    first.publish("else", "", 1);
    let mut second = cluster[2].v5("second");
    second.subscribe(SHARED, 1);
    cluster.kill(1);
    second.expect_message("s", "two");
    second.assert_nothing_from_itself();
}

/// A subscription of its own and a Shared Subscription of the same session are two [MQTT-4.8.2-3].
#[test]
fn a_session_may_have_both() {
    let cluster = Cluster::start(2);
    let mut both = cluster[1].v5("both");
    both.subscribe(SHARED, 1);
    both.subscribe("s", 1);
    let mut publisher = cluster[0].v5("publisher");
    publisher.publish("s", "twice", 1);
    both.expect_message("s", "twice");
    both.expect_message("s", "twice");
    both.unsubscribe(SHARED);
    // This is behind that in the log: the publisher's node has heard of it.
    publisher.subscribe("other", 0);
    publisher.publish("s", "once", 1);
    both.expect_message("s", "once");
    both.assert_nothing_from_elsewhere(&mut publisher);
}
