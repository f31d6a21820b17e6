//! The broker's own topics.

mod common;
use common::*;
use std::collections::BTreeMap;

/// Reads retained messages below `filter` until `count` topics are known.
fn read(broker: &Broker, filter: &str, count: usize) -> BTreeMap<String, String> {
    let mut reader = broker.v5("");
    reader.subscribe(filter, 0);
    let mut values = BTreeMap::new();
    while values.len() < count {
        let message = reader.message();
        values.insert(message.topic.clone(), message.text().to_owned());
    }
    reader.send(Disconnect::new(0));
    reader.drain_until_closed();
    values
}

/// The value of one topic below `$SYS/broker/`.
fn value(broker: &Broker, name: &str) -> String {
    read(broker, &format!("$SYS/broker/{name}"), 1)
        .into_values()
        .next()
        .expect("one value")
}

/// Every name that people watch in Mosquitto is there, retained, with a value of its kind.
#[test]
fn names_of_mosquitto() {
    let broker = Broker::start(&["--sys-interval", "0.2"]);
    assert!(value(&broker, "version").contains("version"));
    assert!(value(&broker, "uptime").ends_with(" seconds"));
    for name in [
        "clients/total",
        "clients/connected",
        "clients/disconnected",
        "clients/active",
        "clients/inactive",
        "clients/maximum",
        "clients/expired",
        "messages/received",
        "messages/sent",
        "messages/stored",
        "publish/messages/received",
        "publish/messages/sent",
        "publish/messages/dropped",
        "publish/bytes/received",
        "publish/bytes/sent",
        "bytes/received",
        "bytes/sent",
        "retained messages/count",
        "store/messages/count",
        "store/messages/bytes",
        "subscriptions/count",
        "shared_subscriptions/count",
    ] {
        let value = value(&broker, name);
        assert!(value.parse::<u64>().is_ok(), "{name}: {value}");
    }
    for name in [
        "messages/received",
        "messages/sent",
        "publish/sent",
        "bytes/received",
        "sockets",
        "connections",
    ] {
        for minutes in ["1min", "5min", "15min"] {
            let value = value(&broker, &format!("load/{name}/{minutes}"));
            assert!(value.parse::<f64>().is_ok(), "load/{name}/{minutes}: {value}");
        }
    }
    let mut reader = broker.v5("reader");
    reader.subscribe("$SYS/broker/version", 2);
    assert!(reader.message().retain);
}

/// The `$SYS` topics as a client that subscribes to all of them sees them change.
struct Monitor {
    client: Client,
    values: BTreeMap<String, String>,
}

impl Monitor {
    fn new(broker: &Broker) -> Monitor {
        let mut client = broker.v5("monitor");
        client.subscribe("$SYS/broker/#", 0);
        Monitor {
            client,
            values: BTreeMap::new(),
        }
    }

    /// Receives until the condition holds; fails when nothing comes any more.
    fn until(&mut self, condition: impl Fn(&BTreeMap<String, String>) -> bool) {
        while !condition(&self.values) {
            let message = self.client.message();
            let text = message.text().to_owned();
            self.values.insert(message.topic.clone(), text);
        }
    }

    fn until_is(&mut self, name: &str, value: usize) {
        let (topic, value) = (format!("$SYS/broker/{name}"), value.to_string());
        self.until(|values| values.get(&topic) == Some(&value));
    }
}

/// The numbers are right and follow what happens.
#[test]
fn numbers_follow() {
    let broker = Broker::start(&["--sys-interval", "0.1"]);
    let absent = broker.connect(Connect::persistent(Version::V311, "absent"));
    absent.kill();
    let mut monitor = Monitor::new(&broker);
    let mut client = broker.v5("client");
    client.subscribe("a", 0);
    client.subscribe("b/#", 0);
    client.subscribe("$share/g/c", 0);
    // The monitor is a client with a subscription as well.
    monitor.until_is("clients/connected", 2);
    monitor.until_is("clients/disconnected", 1);
    monitor.until_is("clients/total", 3);
    monitor.until_is("subscriptions/count", 4);
    monitor.until_is("shared_subscriptions/count", 1);

    (0..7).for_each(|number| client.publish(&format!("x/{number}"), "12345", 1));
    client.publish_packet(Publish::new("kept", "x").retain());
    monitor.until_is("publish/messages/received", 8);
    monitor.until_is("publish/bytes/received", 36);
    // Each of the topics is a retained message, and there is one more.
    monitor.until(|values| values.get("$SYS/broker/retained messages/count") == Some(&(values.len() + 1).to_string()));
    client.disconnect();
    monitor.until_is("clients/connected", 1);
    monitor.until_is("subscriptions/count", 1);
}

/// A subscription that begins with a wildcard does not match them [MQTT-4.7.2-1] [MQTT3-4.7.2-1]; one that begins with
/// `$SYS/` does.
#[test]
fn wildcards_do_not_match() {
    let broker = Broker::start(&["--sys-interval", "0.1"]);
    for version in Version::ALL {
        let mut reader = broker.connect(Connect::new(version, "reader"));
        for filter in ["#", "+/broker/version", "+/#", "+/broker/#"] {
            reader.subscribe(filter, 0);
        }
        broker.let_time_pass();
        let mut other = broker.v5("other");
        other.publish("mine", "x", 0);
        reader.expect_message("mine", "x");
    }
    for filter in ["$SYS/#", "$SYS/broker/#", "$SYS/+/version"] {
        assert!(!read(&broker, filter, 1).is_empty());
    }
}

/// Clients may not publish there: 0x87 in MQTT 5.0, without effect in all; also not with a will.
#[test]
fn clients_may_not_publish_there() {
    let broker = Broker::start(&[]);
    let mut watcher = broker.v5("watcher");
    watcher.subscribe("$SYS/#", 1);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "client"));
        client.send(Publish::new("$SYS/broker/version", "mine").retain());
        client.send(Publish::new("$SYS/broker/uptime", "mine").qos(1, 1).retain());
        let ack = client.recv_puback();
        assert_eq!(ack.reason, if version.is_v5() { code::NOT_AUTHORIZED } else { 0 });
        client.send(Publish::new("$SYS/x", "mine").qos(2, 2));
        assert_eq!(
            client.recv_pubrec().reason,
            if version.is_v5() { code::NOT_AUTHORIZED } else { 0 }
        );
        client.ping();
        let mut doomed = broker.open(version);
        doomed.send(Connect::new(version, "doomed").will(Will::new("$SYS/broker/will", "mine").retain()));
        let answer = doomed.recv_connack();
        if answer.code == 0 {
            doomed.kill();
        } else {
            assert!(!version.is_v5() || answer.code == code::NOT_AUTHORIZED);
            doomed.expect_closed();
        }
    }
    let mut other = broker.v5("other");
    watcher.assert_nothing_from(&mut other);
    other.subscribe("$SYS/#", 0);
    other.assert_silent_until_ping();
}

/// Other topics that begin with `$` are the clients' own [MQTT-4.7.2-1] [MQTT3-4.7.2-1].
#[test]
fn other_dollar_topics_are_free() {
    let broker = Broker::start(&[]);
    for version in Version::ALL {
        let mut client = broker.connect(Connect::new(version, "client"));
        client.subscribe("$mine/#", 0);
        client.subscribe("$SYSTEM", 0);
        client.publish("$mine/a", "x", 0);
        client.expect_message("$mine/a", "x");
        client.publish("$SYSTEM", "x", 0);
        client.expect_message("$SYSTEM", "x");
    }
}

/// `--sys-interval 0` turns them off; `--aedes-sys-topics` adds those of Aedes, below the broker's identifier.
#[test]
fn options() {
    let off = Broker::start(&[]);
    off.let_time_pass();
    let mut reader = off.v5("reader");
    reader.subscribe("$SYS/#", 0);
    reader.assert_silent_until_ping();

    let aedes = Broker::start(&["--sys-interval", "0.1", "--aedes-sys-topics"]);
    let mut reader = aedes.v5("reader");
    reader.subscribe("$SYS/+/clients/connected", 0);
    let topic = loop {
        let topic = reader.message().topic;
        if topic != "$SYS/broker/clients/connected" {
            break topic;
        }
    };
    let prefix = topic.trim_end_matches("clients/connected");
    for name in [
        "version",
        "uptime",
        "clients/connected",
        "clients/disconnected",
        "retained/messages/count",
    ] {
        read(&aedes, &format!("{prefix}{name}"), 1);
    }
}
