//! The scenarios, over both protocol versions that rumqttc speaks.

use std::collections::HashMap;
use std::time::Duration;

use crate::client::{Client, Message, Properties, Settings, Version};
use crate::harness::{DEADLINE, Suite, expect_sequence};

const QUEUED: usize = 100;
const SESSION_TAKEN_OVER: u8 = 0x8E;

async fn join(port: u16, version: Version, id: &str) -> Client {
    Client::connect(port, version, Settings::new(id), false).await
}

async fn every_qos(port: u16, version: Version) {
    let mut sub = join(port, version, "sub").await;
    let mut publisher = join(port, version, "pub").await;
    for granted in 0..=2 {
        let topic = format!("qos/{granted}");
        sub.subscribe(&topic, granted).await;
        for published in 0..=2 {
            let payload = format!("published at {published}, ünïcödé ✓");
            publisher.publish(Message::new(&topic, &payload, published)).await;
            sub.expect(Message::new(&topic, &payload, published.min(granted))).await;
        }
    }
    sub.disconnect().await;
    publisher.disconnect().await;
}

async fn both_ways(port: u16, version: Version) {
    let mut client = join(port, version, "echo").await;
    for qos in 0..=2 {
        client.subscribe(&format!("echo/{qos}"), qos).await;
    }
    let numbers: Vec<u16> = (0..300).collect();
    for n in &numbers {
        let qos = (n % 3) as u8;
        client
            .start_publish(Message::new(&format!("echo/{qos}"), n.to_string(), qos))
            .await;
    }
    let mut echoed: HashMap<u8, Vec<u16>> = HashMap::new();
    for _ in &numbers {
        let message = client.message().await;
        assert_eq!(message.topic, format!("echo/{}", message.qos), "topic and QoS");
        echoed
            .entry(message.qos)
            .or_default()
            .push(message.text().parse().expect("a number"));
    }
    client.finish_publishing(DEADLINE).await;
    for qos in 0..=2 {
        let expected: Vec<u16> = (qos..300).step_by(3).collect();
        expect_sequence(&echoed[&(qos as u8)], &expected, &format!("order at QoS {qos}"));
    }
}

async fn sizes_of_payloads(port: u16, version: Version) {
    let mut client = join(port, version, "sizes").await;
    client.subscribe("payload", 1).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    for payload in [vec![], vec![0], all_bytes.repeat(2000)] {
        client.publish(Message::new("payload", &payload, 1)).await;
        assert!(
            client.message().await == Message::new("payload", &payload, 1),
            "payload of {} bytes",
            payload.len()
        );
    }
}

async fn retained(port: u16, version: Version) {
    let topic = "retained/state";
    let mut publisher = join(port, version, "pub").await;
    let mut live = join(port, version, "live").await;
    publisher.publish(Message::new(topic, "first", 1).retained()).await;
    live.subscribe("retained/#", 2).await;
    live.expect(Message::new(topic, "first", 1).retained()).await;
    publisher.publish(Message::new(topic, "second", 2).retained()).await;
    live.expect(Message::new(topic, "second", 2)).await;
    let mut late = join(port, version, "late").await;
    late.subscribe(topic, 1).await;
    late.expect(Message::new(topic, "second", 1).retained()).await;
    publisher.publish(Message::new(topic, "", 1).retained()).await;
    live.expect(Message::new(topic, "", 1)).await;
    let mut after = join(port, version, "after").await;
    after.subscribe(topic, 2).await;
    publisher.publish(Message::new(topic, "nothing was retained", 1)).await;
    after.expect(Message::new(topic, "nothing was retained", 1)).await;
}

async fn will(port: u16, version: Version) {
    let mut witness = join(port, version, "witness").await;
    witness.subscribe("will/#", 2).await;
    let last = |qos| Message::new(&format!("will/{qos}"), "gone", qos);
    for will in [last(0), last(1).retained(), last(2)] {
        victim(port, version, will.clone()).await.kill();
        witness.expect(Message { retain: false, ..will }).await;
    }
    victim(port, version, last(2)).await.disconnect().await;
    witness
        .publish(Message::new("will/end", "none after DISCONNECT", 1))
        .await;
    witness
        .expect(Message::new("will/end", "none after DISCONNECT", 1))
        .await;
    let mut late = join(port, version, "late").await;
    late.subscribe("will/1", 2).await;
    late.expect(last(1).retained()).await;
    witness.publish(Message::new("will/1", "", 1).retained()).await;
}

async fn victim(port: u16, version: Version, will: Message) -> Client {
    let settings = Settings {
        will: Some(will),
        ..Settings::new("victim")
    };
    Client::connect(port, version, settings, false).await
}

async fn queued_offline(port: u16, version: Version, qos: u8) {
    let (topic, id) = (format!("queued/{qos}"), format!("sleeper-{qos}"));
    let mut first = Client::connect(port, version, Settings::persistent(&id), false).await;
    first.subscribe(&topic, 2).await;
    first.disconnect().await;
    let expected: Vec<Message> = (0..QUEUED).map(|n| Message::new(&topic, n.to_string(), qos)).collect();
    let mut publisher = join(port, version, "pub").await;
    for message in &expected {
        publisher.publish(message.clone()).await;
    }
    let mut sub = Client::connect(port, version, Settings::persistent(&id), true).await;
    let mut got = Vec::new();
    while got.len() < QUEUED {
        got.push(sub.message().await);
    }
    expect_sequence(&got, &expected, "queued messages");
    publisher.publish(Message::new(&topic, "end", qos)).await;
    sub.expect(Message::new(&topic, "end", qos)).await;
    sub.disconnect().await;
    join(port, version, &id).await.disconnect().await;
}

async fn takeover(port: u16, version: Version) {
    let farewell = (version == Version::V5).then_some(SESSION_TAKEN_OVER);
    let mut publisher = join(port, version, "pub").await;
    let mut first = Client::connect(port, version, Settings::persistent("twin"), false).await;
    first.subscribe("takeover", 2).await;
    let mut second = Client::connect(port, version, Settings::persistent("twin"), true).await;
    assert_eq!(first.wait_lost().await, farewell, "DISCONNECT of the broker");
    publisher.publish(Message::new("takeover", "to the second", 2)).await;
    second.expect(Message::new("takeover", "to the second", 2)).await;
    assert!(
        first.received_nothing(),
        "the first client received a message after it was taken over"
    );
    let mut third = join(port, version, "twin").await;
    assert_eq!(second.wait_lost().await, farewell, "DISCONNECT of the broker");
    third.subscribe("takeover/end", 2).await;
    publisher
        .publish(Message::new(
            "takeover",
            "to nobody, the clean session has no such subscription",
            1,
        ))
        .await;
    publisher.publish(Message::new("takeover/end", "end", 1)).await;
    third.expect(Message::new("takeover/end", "end", 1)).await;
}

async fn shared(port: u16, version: Version) {
    let mut publisher = join(port, version, "pub").await;
    for qos in 0..=2 {
        let topic = format!("shared/{qos}");
        let mut members = [join(port, version, "one").await, join(port, version, "two").await];
        for member in &mut members {
            member.subscribe(&format!("$share/group/{topic}"), 2).await;
            member.subscribe(&format!("{topic}/end"), 2).await;
        }
        for n in 0..QUEUED {
            publisher.start_publish(Message::new(&topic, n.to_string(), qos)).await;
        }
        publisher.finish_publishing(DEADLINE).await;
        let shares = collect_shares(&mut members, &topic, qos).await;
        publisher.publish(Message::new(&format!("{topic}/end"), "end", 1)).await;
        for member in &mut members {
            member.expect(Message::new(&format!("{topic}/end"), "end", 1)).await;
        }
        expect_fair(&shares);
        for member in members {
            member.disconnect().await;
        }
    }
}

async fn collect_shares(members: &mut [Client; 2], topic: &str, qos: u8) -> [Vec<usize>; 2] {
    let mut shares = [Vec::new(), Vec::new()];
    let [one, two] = members;
    for _ in 0..QUEUED {
        let (index, message) = tokio::select! {
            message = one.message() => (0, message),
            message = two.message() => (1, message),
        };
        assert_eq!(message, Message::new(topic, &message.payload, qos), "message");
        shares[index].push(message.text().parse().expect("a number"));
    }
    shares
}

fn expect_fair(shares: &[Vec<usize>; 2]) {
    let mut union = shares.concat();
    union.sort_unstable();
    expect_sequence(&union, &(0..QUEUED).collect::<Vec<_>>(), "union of both members");
    for share in shares {
        assert!(!share.is_empty(), "one member received nothing");
        assert!(share.is_sorted(), "order within a member: {share:?}");
    }
}

fn all_properties() -> Properties {
    let pairs = [("z", "first"), ("a", "second"), ("z", "third"), ("", "")];
    Properties {
        user: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        content_type: Some("text/plain; ünïcödé".to_owned()),
        response_topic: Some("reply/here".to_owned()),
        correlation_data: Some((0..=255).collect()),
        payload_format: Some(1),
        ..Properties::default()
    }
}

async fn properties(port: u16) {
    let mut live = join(port, Version::V5, "live").await;
    let mut publisher = join(port, Version::V5, "pub").await;
    live.subscribe("properties/#", 2).await;
    for qos in 0..=2 {
        let message = Message::new(&format!("properties/{qos}"), "payload", qos).with(&all_properties());
        publisher.publish(message.clone().retained()).await;
        live.expect(message.clone()).await;
        let mut late = join(port, Version::V5, "late").await;
        late.subscribe(&message.topic, 2).await;
        late.expect(message.clone().retained()).await;
        publisher
            .publish(Message::new(&message.topic, "", qos).retained())
            .await;
        live.expect(Message::new(&message.topic, "", qos)).await;
    }
}

async fn properties_of_queued_messages(port: u16) {
    let mut first = Client::connect(port, Version::V5, Settings::persistent("reader"), false).await;
    first.subscribe("properties/queued", 2).await;
    first.disconnect().await;
    let message = Message::new("properties/queued", "payload", 1).with(&all_properties());
    join(port, Version::V5, "pub").await.publish(message.clone()).await;
    let mut sub = Client::connect(port, Version::V5, Settings::persistent("reader"), true).await;
    sub.expect(message).await;
}

async fn properties_of_a_will(port: u16) {
    let mut witness = join(port, Version::V5, "witness").await;
    witness.subscribe("properties/will", 2).await;
    let will = Message::new("properties/will", "gone", 1).with(&all_properties());
    victim(port, Version::V5, will.clone()).await.kill();
    witness.expect(will).await;
}

fn expiring(topic: &str, payload: &str, seconds: u32) -> Message {
    let properties = Properties {
        message_expiry: Some(seconds),
        ..Properties::default()
    };
    Message::new(topic, payload, 1).with(&properties)
}

async fn message_expiry(port: u16) {
    let mut first = Client::connect(port, Version::V5, Settings::persistent("late"), false).await;
    let mut publisher = join(port, Version::V5, "pub").await;
    first.subscribe("expiry/#", 2).await;
    publisher.publish(expiring("expiry/live", "at once", 100)).await;
    let left = first.message().await.properties.message_expiry;
    assert!(
        matches!(left, Some(99 | 100)),
        "expiry interval of a message sent on at once: {left:?}"
    );
    first.disconnect().await;
    publisher
        .publish(expiring("expiry/retained/short", "expires", 1).retained())
        .await;
    publisher
        .publish(expiring("expiry/retained/long", "stays", 100).retained())
        .await;
    publisher.publish(expiring("expiry/queued", "expires", 1)).await;
    publisher.publish(expiring("expiry/queued", "stays", 100)).await;
    publisher
        .publish(Message::new("expiry/queued", "has no expiry", 1))
        .await;
    // The rule is about elapsed time itself; there is no event to wait for.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut sub = Client::connect(port, Version::V5, Settings::persistent("late"), true).await;
    expect_counted_down(&mut sub, Message::new("expiry/retained/long", "stays", 1)).await;
    expect_counted_down(&mut sub, Message::new("expiry/queued", "stays", 1)).await;
    sub.expect(Message::new("expiry/queued", "has no expiry", 1)).await;
    let mut other = join(port, Version::V5, "other").await;
    other.subscribe("expiry/retained/#", 2).await;
    expect_counted_down(&mut other, Message::new("expiry/retained/long", "stays", 1).retained()).await;
    publisher.publish(Message::new("expiry/retained/end", "end", 1)).await;
    other.expect(Message::new("expiry/retained/end", "end", 1)).await;
    publisher
        .publish(Message::new("expiry/retained/long", "", 1).retained())
        .await;
}

async fn expect_counted_down(sub: &mut Client, expected: Message) {
    let got = sub.message().await;
    let left = got.properties.message_expiry;
    assert!(
        left.is_some_and(|left| (80..=98).contains(&left)),
        "expiry interval left: {left:?}"
    );
    assert_eq!(got.with(&Properties::default()), expected, "message");
}

fn aliased(topic: &str, payload: &str) -> Message {
    let properties = Properties {
        topic_alias: Some(3),
        ..Properties::default()
    };
    Message::new(topic, payload, 1).with(&properties)
}

async fn topic_alias_from_the_client(port: u16) {
    let mut sub = join(port, Version::V5, "sub").await;
    let mut publisher = join(port, Version::V5, "pub").await;
    sub.subscribe("alias/#", 2).await;
    let published = [
        ("alias/one", "names"),
        ("", "alias only"),
        ("alias/two", "renames"),
        ("", "the new"),
    ];
    for (topic, payload) in published {
        publisher.publish(aliased(topic, payload)).await;
    }
    for (topic, payload) in [
        ("one", "names"),
        ("one", "alias only"),
        ("two", "renames"),
        ("two", "the new"),
    ] {
        sub.expect(Message::new(&format!("alias/{topic}"), payload, 1)).await;
    }
}

async fn topic_alias_from_the_broker(port: u16) {
    let settings = Settings {
        topic_alias_maximum: Some(2),
        ..Settings::new("sub")
    };
    let mut sub = Client::connect(port, Version::V5, settings, false).await;
    let mut publisher = join(port, Version::V5, "pub").await;
    sub.subscribe("alias/out/+", 2).await;
    let topic = |n: usize| format!("alias/out/{}", n % 3);
    for n in 0..12 {
        publisher.publish(Message::new(&topic(n), n.to_string(), 1)).await;
    }
    // rumqttc shows the message as it was on the wire, so that the scenario resolves the alias.
    let (mut names, mut by_alias_only) = (HashMap::new(), 0);
    for n in 0..12 {
        let mut message = sub.message().await;
        if let Some(alias) = message.properties.topic_alias.take() {
            assert!(matches!(alias, 1 | 2), "topic alias {alias} is above the maximum of 2");
            if message.topic.is_empty() {
                by_alias_only += 1;
                message.topic = names.get(&alias).cloned().expect("an alias that was set before");
            } else {
                names.insert(alias, message.topic.clone());
            }
        }
        assert_eq!(message, Message::new(&topic(n), n.to_string(), 1), "message");
    }
    assert!(
        by_alias_only > 0,
        "the broker used no topic alias though the client allows two"
    );
}

pub fn suites() -> Vec<Suite> {
    [(Version::V4, "v3.1.1"), (Version::V5, "v5")]
        .map(|(version, name)| suite(version, name))
        .into()
}

fn suite(version: Version, name: &str) -> Suite {
    let mut suite = Suite::new(format!("rumqttc {name}"));
    suite.add("every QoS published to every QoS subscribed", move |port| {
        every_qos(port, version)
    });
    suite.add("every QoS both ways on one connection", move |port| {
        both_ways(port, version)
    });
    suite.add("empty, binary and long payloads", move |port| {
        sizes_of_payloads(port, version)
    });
    suite.add("retained message set, replaced and cleared", move |port| {
        retained(port, version)
    });
    suite.add("will of a killed socket, none after DISCONNECT", move |port| {
        will(port, version)
    });
    for qos in [1, 2] {
        let name = format!("{QUEUED} messages queued offline at QoS {qos} and resumed in order");
        suite.add(&name, move |port| queued_offline(port, version, qos));
    }
    suite.add("takeover", move |port| takeover(port, version));
    suite.add("shared subscription of two members", move |port| shared(port, version));
    if version == Version::V5 {
        suite.add("properties, live and retained", properties);
        suite.add("properties of queued messages", properties_of_queued_messages);
        suite.add("properties of a will", properties_of_a_will);
        suite.add("message expiry counted down and expired", message_expiry);
        suite.add("topic alias from the client", topic_alias_from_the_client);
        suite.add("topic alias from the broker", topic_alias_from_the_broker);
    }
    suite
}
