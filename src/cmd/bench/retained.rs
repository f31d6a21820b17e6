//! Retained messages: how fast they are set, and how fast a new subscriber gets them.

use std::borrow::Cow;
use std::time::Instant;

use super::bulk::{Bulk, Messages, PER_MESSAGE_RECEIVED, Receiver};
use super::clients::{self, Joining, Terms};
use super::net::Net;
use super::options::Common;
use super::report::Report;
use super::{Costs, Outcome};
use crate::client::{self, InboundPublish};
use crate::packet::QoS;

/// Counts what comes back.
#[derive(Debug, Default)]
struct Retained {
    received: u64,
    first: Option<Instant>,
}

impl Receiver for Retained {
    fn receive(&mut self, _: usize, publish: &InboundPublish<'_>) -> Result<(), String> {
        if publish.retain {
            self.received += 1;
            self.first.get_or_insert_with(Instant::now);
        }
        Ok(())
    }
}

pub(super) fn run(prefix: &str, topics: u64, common: &Common) -> Result<Outcome, String> {
    let terms = Terms::of(common)?;
    let mut net = Net::new(common.version(), common.layers()?)?;
    let mut bulk = Bulk::new(common, Retained::default());
    let joining = |name| Joining::new(prefix, name, Vec::new());
    let mut report = Report::default();
    report.text("shape", "retained");
    report.count("topics", topics);
    let publisher = clients::join(&mut net, &mut bulk, &terms, &[joining("p")])?[0];
    let costs = Costs::now(common)?;
    publish_all(&mut net, &mut bulk, publisher, prefix, topics, common.payload)?;
    let names = ["broker CPU per message set", "load generator CPU per message set"];
    Costs::now(common)?.report(costs, topics, names, &mut report);

    let subscriber = clients::join(&mut net, &mut bulk, &terms, &[joining("s")])?[0];
    let (costs, begun) = (Costs::now(common)?, Instant::now());
    let filter = format!("{prefix}/#");
    client::subscribe(net.output(subscriber), terms.version, 1, &filter, terms.qos);
    clients::wait(&mut net, &mut bulk, |bulk| bulk.receiver.received, topics)?;
    let took = begun.elapsed();
    if let Some(first) = bulk.receiver.first {
        report.measure("first message after", (first - begun).as_secs_f64() * 1000.0, "ms", 2);
    }
    report.measure("all messages after", took.as_secs_f64() * 1000.0, "ms", 1);
    Costs::now(common)?.report(costs, topics, PER_MESSAGE_RECEIVED, &mut report);
    let received = bulk.receiver.received;
    report.count("messages received", received);
    let fault = (received != topics).then(|| "a retained message is missing, or came twice".to_owned());
    net.close(subscriber);
    publish_all(&mut net, &mut bulk, publisher, prefix, topics, 0)?;
    Ok(Outcome { report, fault })
}

/// Sets all of them; with an empty payload, clears them.
fn publish_all(
    net: &mut Net,
    bulk: &mut Bulk<Retained>,
    connection: usize,
    prefix: &str,
    topics: u64,
    payload: usize,
) -> Result<(), String> {
    let messages = Messages {
        count: topics,
        qos: QoS::AtLeastOnce,
        retain: true,
        payload: vec![b'r'; payload],
    };
    bulk.publish_all(net, connection, messages, |number, _| {
        Cow::Owned(format!("{prefix}/site{}/line{number}/state", number % 100))
    })
}
