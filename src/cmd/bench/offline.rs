//! Messages for a session whose client is away, and its return.

use std::time::Instant;

use super::account::{Arrival, Stamp, Tracker};
use super::clients::{self, Host, Joined, Joining, Step, Terms};
use super::net::{Handler, Net};
use super::options::Common;
use super::report::Report;
use super::{Costs, Outcome};
use crate::client::{self, Inbound};
use crate::codec::encode::{self, PublishFrame};
use crate::packet::{QoS, Version};

struct Queue {
    version: Version,
    joined: Joined,
    acknowledged: u64,
    tracker: Tracker,
    received: u64,
    faults: u64,
}

impl Handler for Queue {
    fn packet(&mut self, _: usize, packet: Inbound<'_>, output: &mut Vec<u8>) -> Result<(), String> {
        match packet {
            Inbound::Publish(publish) => {
                clients::acknowledge(output, self.version, &publish);
                let stamp = Stamp::read(publish.payload).ok_or("a message that is not of this run has arrived")?;
                self.received += 1;
                self.faults += u64::from(self.tracker.see(stamp.sequence) != Arrival::InOrder);
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

impl Host for Queue {
    fn joined(&mut self) -> &mut Joined {
        &mut self.joined
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
    let mut net = Net::new(common.version())?;
    let mut queue = Queue {
        version: common.version(),
        joined: Joined::default(),
        acknowledged: 0,
        tracker: Tracker::default(),
        received: 0,
        faults: 0,
    };
    let topic = format!("{prefix}/queue");
    let joining = |kind: &str, filters: &[&String]| Joining {
        client_id: format!("{}-{kind}", prefix.replace('/', "-")),
        filters: filters.iter().map(|filter| (*filter).clone()).collect(),
    };
    leave(&mut net, &mut queue, &away, &joining("s", &[&topic]))?;

    let mut report = Report::default();
    report.text("shape", "offline");
    report.count("QoS", qos as u64);
    report.count("messages", messages);
    let publisher = clients::join(&mut net, &mut queue, &terms, &[joining("p", &[])])?[0];
    let (costs, begun) = (Costs::now(common)?, Instant::now());
    publish_all(&mut net, &mut queue, publisher, &topic, messages, common, qos)?;
    report.measure("queued", messages as f64 / begun.elapsed().as_secs_f64(), "/s", 0);
    let names = ["broker CPU per message queued", "load generator CPU per message queued"];
    Costs::now(common)?.report(costs, messages, names, &mut report);

    let (costs, begun) = (Costs::now(common)?, Instant::now());
    let subscriber = clients::join(&mut net, &mut queue, &away, &[joining("s", &[])])?[0];
    if !queue.joined.session_present {
        return Err("the broker has forgotten the session".to_owned());
    }
    clients::wait(&mut net, &mut queue, |queue| queue.received, messages)?;
    report.measure("received", messages as f64 / begun.elapsed().as_secs_f64(), "/s", 0);
    let names = [
        "broker CPU per message received",
        "load generator CPU per message received",
    ];
    Costs::now(common)?.report(costs, messages, names, &mut report);
    let (lost, faults) = (queue.tracker.lost(messages), queue.faults);
    report.count("messages lost", lost);
    report.count("messages twice or out of order", faults);
    // A session that ends with its connection takes its place.
    net.close(subscriber);
    clients::join(&mut net, &mut queue, &terms, &[joining("s", &[])])?;
    let fault = (lost + faults > 0).then(|| format!("{lost} messages were lost, {faults} came twice or out of order"));
    Ok(Outcome { report, fault })
}

/// Makes a session, and leaves.
fn leave(net: &mut Net, queue: &mut Queue, terms: &Terms<'_>, client: &Joining) -> Result<(), String> {
    let id = clients::join(net, queue, terms, std::slice::from_ref(client))?[0];
    client::disconnect(net.output(id));
    net.close(id);
    Ok(())
}

fn publish_all(
    net: &mut Net,
    queue: &mut Queue,
    connection: usize,
    topic: &str,
    messages: u64,
    common: &Common,
    qos: QoS,
) -> Result<(), String> {
    let mut payload = vec![b'o'; common.payload];
    let size = (connection, messages, common.window);
    clients::publish_all(
        net,
        queue,
        size,
        |queue| queue.acknowledged,
        |output, sequence| {
            let stamp = Stamp {
                publisher: 0,
                sequence,
                sent: 0,
            };
            stamp.put(&mut payload);
            let frame = PublishFrame {
                dup: false,
                qos,
                retain: false,
                topic,
                packet_id: clients::packet_id(sequence),
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
