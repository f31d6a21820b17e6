//! Messages for sessions whose clients are away, and their return.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use super::account::{Arrival, Stamp, Tracker};
use super::bulk::{Bulk, Messages, PER_MESSAGE_RECEIVED, Receiver};
use super::clients::{self, Joining, Terms};
use super::net::Net;
use super::options::Common;
use super::report::Report;
use super::{Costs, Outcome};
use crate::client::{self, InboundPublish};
use crate::packet::QoS;

/// What has come out of the queues.
#[derive(Debug, Default)]
struct Queues {
    /// By connection.
    trackers: HashMap<usize, Tracker>,
    received: u64,
    faults: u64,
}

impl Receiver for Queues {
    fn receive(&mut self, connection: usize, publish: &InboundPublish<'_>) -> Result<(), String> {
        let stamp = Stamp::read(publish.payload).ok_or("a message that is not of this run has arrived")?;
        let tracker = self.trackers.entry(connection).or_default();
        self.received += 1;
        self.faults += u64::from(tracker.see(stamp.sequence) != Arrival::InOrder);
        Ok(())
    }
}

pub(super) fn run(prefix: &str, subscribers: usize, messages: u64, common: &Common) -> Result<Outcome, String> {
    let qos = common.qos().max(QoS::AtLeastOnce);
    let terms = Terms {
        qos,
        ..Terms::of(common)?
    };
    let mut net = Net::new(common.version(), common.layers()?)?;
    let mut bulk = Bulk::new(common, Queues::default());
    let topic = format!("{prefix}/queue");
    let all = |filters: &[String]| -> Vec<_> {
        let client = |number| Joining::new(prefix, format_args!("s{number}"), filters.to_vec());
        (0..subscribers).map(client).collect()
    };
    leave(
        &mut net,
        &mut bulk,
        &terms.persistent(),
        &all(std::slice::from_ref(&topic)),
    )?;

    let mut report = Report::default();
    report.text("shape", "offline");
    report.count("QoS", qos as u64);
    report.count("subscribers", subscribers as u64);
    report.count("messages", messages);
    let publisher = Joining::new(prefix, "p", Vec::new());
    let publisher = clients::join(&mut net, &mut bulk, &terms, &[publisher])?[0];
    let (costs, begun) = (Costs::now(common)?, Instant::now());
    publish_all(&mut net, &mut bulk, publisher, &topic, messages, common.payload, qos)?;
    report.measure("queued", messages as f64 / begun.elapsed().as_secs_f64(), "/s", 0);
    let names = ["broker CPU per message queued", "load generator CPU per message queued"];
    Costs::now(common)?.report(costs, messages, names, &mut report);

    let (costs, begun) = (Costs::now(common)?, Instant::now());
    let (known, total) = (bulk.joined.sessions_present, messages * subscribers as u64);
    let ids = clients::join(&mut net, &mut bulk, &terms.persistent(), &all(&[]))?;
    if bulk.joined.sessions_present - known != subscribers {
        return Err("the broker has forgotten a session".to_owned());
    }
    clients::wait(&mut net, &mut bulk, |bulk| bulk.receiver.received, total)?;
    report.measure("received", total as f64 / begun.elapsed().as_secs_f64(), "/s", 0);
    Costs::now(common)?.report(costs, total, PER_MESSAGE_RECEIVED, &mut report);
    let lost = bulk
        .receiver
        .trackers
        .values()
        .map(|tracker| tracker.lost(messages))
        .sum::<u64>();
    let faults = bulk.receiver.faults;
    report.count("messages lost", lost);
    report.count("messages twice or out of order", faults);
    clients::end_sessions(&mut net, &mut bulk, &terms, ids, &all(&[]))?;
    let fault = (lost + faults > 0).then(|| format!("{lost} messages were lost, {faults} came twice or out of order"));
    Ok(Outcome { report, fault })
}

/// Makes sessions, and leaves them.
fn leave(net: &mut Net, bulk: &mut Bulk<Queues>, terms: &Terms<'_>, clients: &[Joining]) -> Result<(), String> {
    for id in clients::join(net, bulk, terms, clients)? {
        client::disconnect(net.output(id));
        net.close(id);
    }
    Ok(())
}

fn publish_all(
    net: &mut Net,
    bulk: &mut Bulk<Queues>,
    connection: usize,
    topic: &str,
    count: u64,
    payload: usize,
    qos: QoS,
) -> Result<(), String> {
    let messages = Messages {
        count,
        qos,
        retain: false,
        payload: vec![b'o'; payload],
    };
    bulk.publish_all(net, connection, messages, |sequence, payload| {
        let stamp = Stamp {
            publisher: 0,
            sequence,
            sent: 0,
        };
        stamp.put(payload);
        Cow::Borrowed(topic)
    })
}
