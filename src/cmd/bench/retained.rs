//! Retained messages: how fast they are set, and how fast a new subscriber gets them.

use std::time::Instant;

use super::clients::{self, Host, Joined, Joining, Step, Terms};
use super::net::{Handler, Net};
use super::options::Common;
use super::report::Report;
use super::{Costs, Outcome};
use crate::client::{self, Inbound};
use crate::codec::encode::{self, PublishFrame};
use crate::packet::{QoS, Version};

/// Publishes with QoS 1, so that it knows what has arrived, and counts what comes back.
struct Retainer {
    version: Version,
    joined: Joined,
    acknowledged: u64,
    received: u64,
    first: Option<Instant>,
}

impl Handler for Retainer {
    fn packet(&mut self, _: usize, packet: Inbound<'_>, output: &mut Vec<u8>) -> Result<(), String> {
        match packet {
            Inbound::Publish(publish) if publish.retain => {
                self.received += 1;
                self.first.get_or_insert_with(Instant::now);
                clients::acknowledge(output, self.version, &publish);
            }
            other => match clients::go_on(output, self.version, &other)? {
                Step::Acknowledged => self.acknowledged += 1,
                Step::UnderWay => {}
                Step::None => {
                    self.joined.see(&other)?;
                }
            },
        }
        Ok(())
    }
}

impl Host for Retainer {
    fn joined(&mut self) -> &mut Joined {
        &mut self.joined
    }
}

pub(super) fn run(prefix: &str, topics: u64, common: &Common) -> Result<Outcome, String> {
    let terms = Terms::of(common)?;
    let mut net = Net::new(common.version())?;
    let mut retainer = Retainer {
        version: common.version(),
        joined: Joined::default(),
        acknowledged: 0,
        received: 0,
        first: None,
    };
    let client_id = |kind| format!("{}-{kind}", prefix.replace('/', "-"));
    let joining = |kind| Joining {
        client_id: client_id(kind),
        filters: Vec::new(),
    };
    let mut report = Report::default();
    report.text("shape", "retained");
    report.count("topics", topics);
    let publisher = clients::join(&mut net, &mut retainer, &terms, &[joining("p")])?[0];
    let costs = Costs::now(common)?;
    publish_all(
        &mut net,
        &mut retainer,
        publisher,
        prefix,
        topics,
        common,
        common.payload,
    )?;
    let names = ["broker CPU per message set", "load generator CPU per message set"];
    Costs::now(common)?.report(costs, topics, names, &mut report);

    let subscriber = clients::join(&mut net, &mut retainer, &terms, &[joining("s")])?[0];
    let (costs, begun) = (Costs::now(common)?, Instant::now());
    let filter = format!("{prefix}/#");
    client::subscribe(net.output(subscriber), terms.version, 1, &filter, terms.qos);
    clients::wait(&mut net, &mut retainer, |retainer| retainer.received, topics)?;
    let took = begun.elapsed();
    if let Some(first) = retainer.first {
        report.measure("first message after", (first - begun).as_secs_f64() * 1000.0, "ms", 2);
    }
    report.measure("all messages after", took.as_secs_f64() * 1000.0, "ms", 1);
    let names = [
        "broker CPU per message received",
        "load generator CPU per message received",
    ];
    Costs::now(common)?.report(costs, topics, names, &mut report);
    report.count("messages received", retainer.received);
    let fault = (retainer.received != topics).then(|| "a retained message is missing, or came twice".to_owned());
    retainer.acknowledged = 0;
    net.close(subscriber);
    publish_all(&mut net, &mut retainer, publisher, prefix, topics, common, 0)?;
    Ok(Outcome { report, fault })
}

/// Sets all of them; with an empty payload, clears them.
fn publish_all(
    net: &mut Net,
    retainer: &mut Retainer,
    connection: usize,
    prefix: &str,
    topics: u64,
    common: &Common,
    payload: usize,
) -> Result<(), String> {
    let payload = vec![b'r'; payload];
    let size = (connection, topics, common.window);
    clients::publish_all(
        net,
        retainer,
        size,
        |retainer| retainer.acknowledged,
        |output, number| {
            let topic = format!("{prefix}/site{}/line{number}/state", number % 100);
            let frame = PublishFrame {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: true,
                topic: &topic,
                packet_id: clients::packet_id(number),
                topic_alias: None,
                message_expiry_interval: None,
                subscription_identifiers: &[],
                properties: &[],
                payload: &payload,
            };
            encode::publish(output, common.version(), &frame);
        },
    )
}
