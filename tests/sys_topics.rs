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
    let prefix = format!("$SYS/{}/", heartbeat(&mut aedes.v5("reader")));
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

/// The identifier of the broker, from two heartbeats of Aedes: at the interval, and not retained.
fn heartbeat(reader: &mut Client) -> String {
    reader.subscribe("$SYS/+/heartbeat", 1);
    let id = reader.message().text().to_owned();
    let beat = reader.message();
    assert_eq!((&*beat.topic, beat.text()), (&*format!("$SYS/{id}/heartbeat"), &*id));
    assert_eq!((beat.qos, beat.retain), (0, false));
    reader.send(Unsubscribe::new(1).filter("$SYS/+/heartbeat"));
    while !matches!(reader.recv(), Packet::Unsuback(_)) {}
    id
}

/// A client that is told what Aedes tells of clients.
struct Told {
    client: Client,
    prefix: String,
}

impl Told {
    fn by(broker: &Broker) -> Told {
        let mut client = broker.connect(Connect::v311("told"));
        let prefix = format!("$SYS/{}/", heartbeat(&mut client));
        let filters = [
            "new/clients",
            "new/subscribes",
            "new/unsubscribes",
            "disconnect/clients",
        ];
        let filter = |subscribe: Subscribe, name: &&str| subscribe.filter(&format!("{prefix}{name}"), 1);
        client.send(filters.iter().fold(Subscribe::new(2), filter));
        assert_eq!(client.recv_suback().codes, [1; 4]);
        let subs = filters.map(|name| format!(r#"{{"topic":"{prefix}{name}","qos":1}}"#));
        let mut told = Told { client, prefix };
        // It hears of its own SUBSCRIBE first.
        told.expect(
            "new/subscribes",
            &format!(r#"{{"clientId":"told","subs":[{}]}}"#, subs.join(",")),
        );
        told
    }

    /// The next event has this name and payload.
    fn expect(&mut self, name: &str, payload: &str) {
        let event = self.client.message();
        let topic = format!("{}{name}", self.prefix);
        assert_eq!((&*event.topic, event.text()), (&*topic, payload));
        assert_eq!((event.qos, event.retain), (0, false));
    }
}

const AEDES: [&str; 3] = ["--sys-interval", "0.1", "--aedes-sys-topics"];

/// Aedes tells which clients come and go, and not of those that are refused.
#[test]
fn aedes_tells_of_clients() {
    let broker = Broker::start(&AEDES);
    let mut told = Told::by(&broker);
    for version in Version::ALL {
        let mut first = broker.connect(Connect::new(version, "ann"));
        told.expect("new/clients", "ann");
        let second = broker.connect(Connect::new(version, "ann"));
        first.expect_cut(code::SESSION_TAKEN_OVER);
        told.expect("disconnect/clients", "ann");
        told.expect("new/clients", "ann");
        second.kill();
        told.expect("disconnect/clients", "ann");
    }
    broker.expect_refused(Connect::v5("bob").will(Will::new("$SYS/a", "x")), code::NOT_AUTHORIZED);
    broker.v5("cy").disconnect();
    told.expect("new/clients", "cy");
    told.expect("disconnect/clients", "cy");
}

/// Aedes tells of each SUBSCRIBE and UNSUBSCRIBE as JSON: options as the client sent them, the QoS as granted.
#[test]
fn aedes_tells_of_subscriptions() {
    let broker = Broker::start(&[&AEDES[..], &["--max-subscriptions", "5", "--max-qos", "1"]].concat());
    let mut told = Told::by(&broker);
    let mut client = broker.connect(Connect::v311("say \"a\\b\""));
    told.expect("new/clients", "say \"a\\b\"");
    client.send(Subscribe::new(1).filter("a/+", 0).filter("b\u{1}\n\u{e9}", 2));
    client.recv_suback();
    let subs = "[{\"topic\":\"a/+\",\"qos\":0},{\"topic\":\"b\\u0001\\n\u{e9}\",\"qos\":1}]";
    let name = r#"say \"a\\b\""#;
    told.expect("new/subscribes", &format!(r#"{{"clientId":"{name}","subs":{subs}}}"#));
    client.send(Unsubscribe::new(2).filter("a/+").filter("never"));
    client.recv_unsuback();
    told.expect(
        "new/unsubscribes",
        &format!(r#"{{"clientId":"{name}","subs":["a/+","never"]}}"#),
    );

    let mut client = broker.v5("v5");
    told.expect("new/clients", "v5");
    let options = 2 | Subscribe::NO_LOCAL | Subscribe::RETAIN_AS_PUBLISHED | Subscribe::RETAIN_NEVER;
    let subscribe = Subscribe::new(1).prop(Prop::subscription_id(300));
    client.send((0..6).fold(subscribe, |subscribe, n| subscribe.filter(&n.to_string(), options)));
    let codes = client.recv_suback().codes;
    assert_eq!(codes, [1, 1, 1, 1, 1, code::QUOTA_EXCEEDED]);
    let rest = r#""nl":true,"rap":true,"rh":2,"subscriptionIdentifier":300"#;
    let sub = |(n, qos)| format!(r#"{{"topic":"{n}","qos":{qos},{rest}}}"#);
    let subs: Vec<_> = (0..6).zip([1, 1, 1, 1, 1, 128]).map(sub).collect();
    told.expect(
        "new/subscribes",
        &format!(r#"{{"clientId":"v5","subs":[{}]}}"#, subs.join(",")),
    );
}

/// A session that ends with its connection ends its subscriptions, which Aedes tells; one that is kept does not.
#[test]
fn aedes_tells_which_subscriptions_end_with_the_connection() {
    let broker = Broker::start(&AEDES);
    let mut told = Told::by(&broker);
    for version in Version::ALL {
        for (connect, ends) in [
            (Connect::new(version, "ann"), true),
            (Connect::persistent(version, "ann"), false),
        ] {
            let mut client = broker.connect(connect);
            told.expect("new/clients", "ann");
            client.subscribe("a", 0);
            told.client.message();
            client.kill();
            told.expect("disconnect/clients", "ann");
            if ends {
                told.expect("new/unsubscribes", r#"{"clientId":"ann","subs":["a"]}"#);
            }
        }
    }
    broker.v5("last").disconnect();
    told.expect("new/clients", "last");
    told.expect("disconnect/clients", "last");
    broker.v5("without subscriptions").disconnect();
    told.expect("new/clients", "without subscriptions");
}

/// An event is no larger than what a client may send.
#[test]
fn what_aedes_tells_is_bounded() {
    let broker = Broker::start(&[&AEDES[..], &["--max-packet-size", "1000"]].concat());
    let mut told = Told::by(&broker);
    let mut client = broker.v5("client");
    told.expect("new/clients", "client");
    for count in [100, 1] {
        client.send((0..count).fold(Subscribe::new(1), |subscribe, _| subscribe.filter("a", 0)));
        client.recv_suback();
    }
    let one = r#"{"topic":"a","qos":0,"nl":false,"rap":false,"rh":0}"#;
    told.expect("new/subscribes", &format!(r#"{{"clientId":"client","subs":[{one}]}}"#));
}

/// Aedes tells nothing unless both the option and the interval ask for it.
#[test]
fn aedes_tells_only_on_request() {
    for options in [
        &["--sys-interval", "0.1"][..],
        &["--sys-interval", "0", "--aedes-sys-topics"],
    ] {
        let broker = Broker::start(options);
        let mut reader = broker.v5("reader");
        for filter in ["$SYS/+/heartbeat", "$SYS/+/new/#", "$SYS/+/disconnect/#"] {
            reader.subscribe(filter, 0);
        }
        broker.let_time_pass();
        let mut client = broker.v5("client");
        client.subscribe("a", 0);
        client.unsubscribe("a");
        reader.assert_nothing_from(&mut client);
    }
}
