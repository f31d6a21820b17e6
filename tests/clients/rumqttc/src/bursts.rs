//! 5,000 messages in one burst to rumqttc with its default Receive Maximum.

use crate::client::{Client, Message, Settings, Version};
use crate::harness::{BURST_DEADLINE, Suite, expect_sequence};

const BURST: usize = 5000;

async fn burst(port: u16, version: Version, qos: u8) {
    let topic = format!("burst/{qos}");
    let mut sub = Client::connect(port, version, Settings::new("sub"), false).await;
    let mut publisher = Client::connect(port, version, Settings::new("pub"), false).await;
    sub.subscribe(&topic, 2).await;
    let expected: Vec<Message> = (0..BURST)
        .map(|n| Message::new(&topic, format!("{n} of a burst"), qos))
        .collect();
    let end = Message::new(&topic, "end", qos);
    for message in expected.iter().chain([&end]) {
        publisher.start_publish(message.clone()).await;
    }
    // "end" is published last on the same topic, so that an extra copy of any message comes before it.
    let mut got = Vec::new();
    loop {
        let message = sub.message().await;
        if message == end {
            break;
        }
        got.push(message);
    }
    expect_sequence(&got, &expected, "burst");
    publisher.finish_publishing(BURST_DEADLINE).await;
    sub.disconnect().await;
    publisher.disconnect().await;
}

pub fn suites() -> Vec<Suite> {
    [(Version::V4, "v3.1.1"), (Version::V5, "v5")]
        .map(|(version, name)| suite(version, name))
        .into()
}

fn suite(version: Version, name: &str) -> Suite {
    let mut suite = Suite::new(format!("rumqttc bursts {name}"));
    for qos in 0..=2 {
        suite.add(&format!("5,000 from rumqttc at QoS {qos}"), move |port| {
            burst(port, version, qos)
        });
    }
    suite
}
