//! Messages for a session whose client is away, and its return.

use std::borrow::Cow;
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

/// What has come out of the queue.
#[derive(Debug, Default)]
struct Queue {
    tracker: Tracker,
    received: u64,
    faults: u64,
}

impl Receiver for Queue {
    fn receive(&mut self, publish: &InboundPublish<'_>) -> Result<(), String> {
        let stamp = Stamp::read(publish.payload).ok_or("a message that is not of this run has arrived")?;
        self.received += 1;
        self.faults += u64::from(self.tracker.see(stamp.sequence) != Arrival::InOrder);
        Ok(())
    }
}

pub(super) fn run(prefix: &str, messages: u64, common: &Common) -> Result<Outcome, String> {
    let qos = common.qos().max(QoS::AtLeastOnce);
    let terms = Terms {
        qos,
        ..Terms::of(common)?
    };
    // As long as the run can take; MQTT 3.1.1 has only "clean" or not.
    let away = Terms {
        clean: false,
        session_expiry_interval: 3600,
        ..terms
    };
    let mut net = Net::new(common.version(), common.layers()?)?;
    let mut bulk = Bulk::new(common, Queue::default());
    let topic = format!("{prefix}/queue");
    let joining = |name, filters: &[&String]| Joining::new(prefix, name, filters.iter().copied().cloned().collect());
    leave(&mut net, &mut bulk, &away, &joining("s", &[&topic]))?;

    let mut report = Report::default();
    report.text("shape", "offline");
    report.count("QoS", qos as u64);
    report.count("messages", messages);
    let publisher = clients::join(&mut net, &mut bulk, &terms, &[joining("p", &[])])?[0];
    let (costs, begun) = (Costs::now(common)?, Instant::now());
    publish_all(&mut net, &mut bulk, publisher, &topic, messages, common.payload, qos)?;
    report.measure("queued", messages as f64 / begun.elapsed().as_secs_f64(), "/s", 0);
    let names = ["broker CPU per message queued", "load generator CPU per message queued"];
    Costs::now(common)?.report(costs, messages, names, &mut report);

    let (costs, begun) = (Costs::now(common)?, Instant::now());
    let subscriber = clients::join(&mut net, &mut bulk, &away, &[joining("s", &[])])?[0];
    if !bulk.joined.session_present {
        return Err("the broker has forgotten the session".to_owned());
    }
    clients::wait(&mut net, &mut bulk, |bulk| bulk.receiver.received, messages)?;
    report.measure("received", messages as f64 / begun.elapsed().as_secs_f64(), "/s", 0);
    Costs::now(common)?.report(costs, messages, PER_MESSAGE_RECEIVED, &mut report);
    let (lost, faults) = (bulk.receiver.tracker.lost(messages), bulk.receiver.faults);
    report.count("messages lost", lost);
    report.count("messages twice or out of order", faults);
    // A session that ends with its connection takes its place.
    net.close(subscriber);
    clients::join(&mut net, &mut bulk, &terms, &[joining("s", &[])])?;
    let fault = (lost + faults > 0).then(|| format!("{lost} messages were lost, {faults} came twice or out of order"));
    Ok(Outcome { report, fault })
}

/// Makes a session, and leaves.
fn leave(net: &mut Net, bulk: &mut Bulk<Queue>, terms: &Terms<'_>, client: &Joining) -> Result<(), String> {
    let id = clients::join(net, bulk, terms, std::slice::from_ref(client))?[0];
    client::disconnect(net.output(id));
    net.close(id);
    Ok(())
}

fn publish_all(
    net: &mut Net,
    bulk: &mut Bulk<Queue>,
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
