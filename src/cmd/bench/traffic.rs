//! Publishers and subscribers at work: a closed loop by window, or an open one by rate.

use std::time::Instant;

use super::account::{Account, Arrival, STAMP_SIZE, Stamp, Tracker};
use super::clients::{self, Host, Joined, Step};
use super::histogram::Histogram;
use super::net::{Handler, Net};
use super::plan::Plan;
use crate::client::{Inbound, InboundPublish};
use crate::codec::encode::{self, PublishFrame};
use crate::packet::{QoS, Version};
use crate::properties::PropertiesBuilder;

/// A PUBLISH that is ready but for its Packet Identifier and its stamp.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    packet_id_at: usize,
    stamp_at: usize,
}

#[derive(Debug)]
struct Publisher {
    connection: usize,
    topics: std::ops::Range<usize>,
    next_topic: usize,
    /// Groups that listen to it.
    groups: u64,
    sent: u64,
    acknowledged: u64,
    delivered: u64,
    /// In `Traffic::ready`.
    ready: bool,
}

#[derive(Debug)]
struct Group {
    first_publisher: usize,
    trackers: Vec<Tracker>,
    several_members: bool,
}

#[derive(Debug)]
enum Role {
    Other,
    Publisher(usize),
    Subscriber {
        group: usize,
        /// What a member of several has last seen of each publisher, plus one.
        last: Vec<u64>,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Traffic {
    version: Version,
    qos: QoS,
    window: u64,
    templates: Vec<Template>,
    publishers: Vec<Publisher>,
    groups: Vec<Group>,
    /// By connection.
    roles: Vec<Role>,
    /// Publishers that may have something to send.
    ready: Vec<usize>,
    joined: Joined,
    start: Instant,
    /// Nanoseconds since the start, as of the last read.
    now: u64,
    pub(super) latencies: Histogram,
    pub(super) account: Account,
}

/// Output of a publisher above which it waits.
const UNSENT_LIMIT: usize = 256 * 1024;
/// As many messages as there are Packet Identifiers.
const IDENTIFIERS: u64 = 65_535;

impl Traffic {
    pub(super) fn new(plan: &Plan, version: Version, qos: QoS, window: u64, payload: usize, properties: u8) -> Traffic {
        let template = |topic: &String| Template::new(topic, version, qos, payload, properties);
        Traffic {
            version,
            qos,
            window,
            templates: plan.topics.iter().map(template).collect(),
            publishers: Vec::new(),
            groups: plan.groups.iter().map(Group::new).collect(),
            roles: Vec::new(),
            ready: Vec::new(),
            joined: Joined::default(),
            start: Instant::now(),
            now: 0,
            latencies: Histogram::new(),
            account: Account::default(),
        }
    }

    fn role(&mut self, connection: usize) -> &mut Role {
        while self.roles.len() <= connection {
            self.roles.push(Role::Other);
        }
        &mut self.roles[connection]
    }

    pub(super) fn add_subscriber(&mut self, connection: usize, group: usize) {
        let of = &self.groups[group];
        let last = if of.several_members {
            vec![0; of.trackers.len()]
        } else {
            Vec::new()
        };
        *self.role(connection) = Role::Subscriber { group, last };
    }

    pub(super) fn add_publisher(&mut self, connection: usize, plan: &Plan) {
        let number = self.publishers.len();
        let topics = plan.publishers[number].clone();
        let listening = plan.groups.iter().filter(|group| group.publishers.contains(&number));
        self.publishers.push(Publisher {
            connection,
            // Publishers that share their topics begin at different ones.
            next_topic: topics.start + number * 7919 % topics.len(),
            topics,
            groups: listening.count() as u64,
            sent: 0,
            acknowledged: 0,
            delivered: 0,
            ready: true,
        });
        self.ready.push(number);
        *self.role(connection) = Role::Publisher(number);
    }

    /// Forgets what was measured, for what counts begins now. The account goes on.
    pub(super) fn start_measuring(&mut self) {
        self.latencies = Histogram::new();
    }

    /// Lets the publishers send what their windows allow.
    pub(super) fn publish_window(&mut self, net: &mut Net) {
        self.now = self.elapsed();
        let mut ready = std::mem::take(&mut self.ready);
        for number in ready.drain(..) {
            self.publishers[number].ready = false;
            while self.publishers[number].has_room(self.qos, self.window)
                && net.unsent(self.publishers[number].connection) < UNSENT_LIMIT
            {
                self.publish(net, number, self.now);
            }
        }
        self.ready = ready;
    }

    /// Whether the publisher has a Packet Identifier that is free [MQTT-2.2.1-3], and its socket takes what it sends.
    pub(super) fn can_publish(&self, net: &Net, number: usize) -> bool {
        let publisher = &self.publishers[number];
        publisher.has_identifier(self.qos) && net.unsent(publisher.connection) < UNSENT_LIMIT
    }

    /// Publishes the next message, which should have been sent at `due`, in nanoseconds since the start.
    pub(super) fn publish(&mut self, net: &mut Net, number: usize, due: u64) {
        let publisher = &mut self.publishers[number];
        let template = &self.templates[publisher.next_topic];
        publisher.next_topic += 1;
        if publisher.next_topic == publisher.topics.end {
            publisher.next_topic = publisher.topics.start;
        }
        let output = net.output(publisher.connection);
        let start = output.len();
        output.extend_from_slice(&template.bytes);
        let frame = &mut output[start..];
        if self.qos != QoS::AtMostOnce {
            let packet_id = clients::packet_id(publisher.sent);
            frame[template.packet_id_at..][..2].copy_from_slice(&packet_id.to_be_bytes());
        }
        let stamp = Stamp {
            publisher: number as u32,
            sequence: publisher.sent,
            sent: due,
        };
        stamp.put(&mut frame[template.stamp_at..]);
        publisher.sent += 1;
        self.account.sent += 1;
    }

    pub(super) fn publishers(&self) -> usize {
        self.publishers.len()
    }

    /// Nanoseconds since the start.
    pub(super) fn elapsed(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Whether all that was sent has been delivered and acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.publishers
            .iter()
            .all(|publisher| publisher.outstanding(self.qos) == 0)
    }

    /// The account, with what is missing now.
    pub(super) fn final_account(&self) -> Account {
        let lost = |group: &Group| {
            let sent = self.publishers[group.first_publisher..]
                .iter()
                .map(|publisher| publisher.sent);
            group
                .trackers
                .iter()
                .zip(sent)
                .map(|(tracker, sent)| tracker.lost(sent))
                .sum::<u64>()
        };
        Account {
            lost: self.groups.iter().map(lost).sum(),
            ..self.account
        }
    }

    fn receive(&mut self, id: usize, publish: &InboundPublish<'_>, output: &mut Vec<u8>) -> Result<(), String> {
        let Some(Role::Subscriber { group, last }) = self.roles.get_mut(id) else {
            return Ok(());
        };
        let stamp = Stamp::read(publish.payload).ok_or("a message that is not of this run has arrived")?;
        let group = &mut self.groups[*group];
        let place = (stamp.publisher as usize).wrapping_sub(group.first_publisher);
        let (Some(tracker), Some(publisher)) = (
            group.trackers.get_mut(place),
            self.publishers.get_mut(stamp.publisher as usize),
        ) else {
            return Err("a message that this subscriber should not get has arrived".to_owned());
        };
        let arrival = tracker.see(stamp.sequence);
        let late = match last.get_mut(place) {
            Some(last) => std::mem::replace(last, stamp.sequence + 1) > stamp.sequence,
            None => arrival == Arrival::Late,
        };
        self.account.delivered += 1;
        if arrival == Arrival::Duplicate {
            self.account.duplicated += 1;
        } else {
            self.account.out_of_order += u64::from(late);
            publisher.delivered += 1;
        }
        self.latencies.add(self.now.saturating_sub(stamp.sent));
        if !publisher.ready {
            publisher.ready = true;
            self.ready.push(stamp.publisher as usize);
        }
        clients::acknowledge(output, self.version, publish);
        Ok(())
    }

    fn acknowledged(&mut self, id: usize) {
        let Some(&Role::Publisher(number)) = self.roles.get(id) else {
            return;
        };
        let publisher = &mut self.publishers[number];
        publisher.acknowledged += 1;
        if !publisher.ready {
            publisher.ready = true;
            self.ready.push(number);
        }
    }
}

impl Host for Traffic {
    fn joined(&mut self) -> &mut Joined {
        &mut self.joined
    }
}

impl Handler for Traffic {
    fn batch(&mut self) {
        self.now = self.elapsed();
    }

    fn packet(&mut self, id: usize, packet: Inbound<'_>, output: &mut Vec<u8>) -> Result<(), String> {
        match packet {
            Inbound::Publish(publish) => return self.receive(id, &publish, output),
            other => match clients::go_on(output, self.version, &other)? {
                Step::Acknowledged => self.acknowledged(id),
                Step::UnderWay => {}
                Step::None => {
                    self.joined.see(&other)?;
                }
            },
        }
        Ok(())
    }
}

impl Publisher {
    /// Messages that some group has not received or, above QoS 0, the broker has not acknowledged.
    fn outstanding(&self, qos: QoS) -> u64 {
        let undelivered = self.sent - (self.delivered / self.groups).min(self.sent);
        match qos {
            QoS::AtMostOnce => undelivered,
            _ => undelivered.max(self.sent - self.acknowledged.min(self.sent)),
        }
    }

    /// They are used in turn, and brokers acknowledge messages in the order in which they were sent.
    fn has_identifier(&self, qos: QoS) -> bool {
        qos == QoS::AtMostOnce || self.sent - self.acknowledged.min(self.sent) < IDENTIFIERS
    }

    fn has_room(&self, qos: QoS, window: u64) -> bool {
        self.outstanding(qos) < window
    }
}

impl Group {
    fn new(plan: &super::plan::Group) -> Group {
        Group {
            first_publisher: plan.publishers.start,
            trackers: plan.publishers.clone().map(|_| Tracker::default()).collect(),
            several_members: plan.members.len() > 1,
        }
    }
}

impl Template {
    fn new(topic: &str, version: Version, qos: QoS, payload: usize, properties: u8) -> Template {
        let mut builder = PropertiesBuilder::new();
        for number in 0..properties {
            builder = builder
                .user_property(&format!("property-{number}"), "value")
                .expect("a short property is valid");
        }
        let properties = if version.is_v5() {
            builder.into_raw()
        } else {
            Vec::new()
        };
        let payload: Vec<u8> = (0..payload).map(|place| b'a' + (place % 26) as u8).collect();
        let frame = PublishFrame {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: 1,
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: &[],
            properties: &properties,
            payload: &payload,
        };
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, version, &frame);
        let stamp_at = bytes.len() - payload.len();
        let behind_identifier = encode_length(version, &properties);
        debug_assert!(payload.len() >= STAMP_SIZE);
        Template {
            packet_id_at: stamp_at - behind_identifier - 2,
            stamp_at,
            bytes,
        }
    }
}

/// Bytes of the properties with their length.
fn encode_length(version: Version, properties: &[u8]) -> usize {
    if version.is_v5() {
        crate::wire::varint_len(properties.len() as u32) + properties.len()
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::*;
    use crate::client;
    use crate::codec::frame;

    /// The Packet Identifiers of the messages that wait to be sent.
    fn packet_ids(output: &[u8]) -> Vec<u16> {
        let mut ids = Vec::new();
        let mut rest = output;
        while let Some(frame) = frame::parse(rest, u32::MAX).expect("valid") {
            match client::parse(Version::V311, &frame) {
                Ok(Inbound::Publish(publish)) => ids.push(publish.packet_id),
                other => panic!("no PUBLISH: {other:?}"),
            }
            rest = &rest[frame.size..];
        }
        ids
    }

    /// A new message has a Packet Identifier that is not in use (section 2.2.1).
    #[test]
    fn no_packet_identifier_is_used_twice_at_a_time() {
        let plan = Plan::p2p("b", 1);
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let mut net = Net::new(Version::V311, Default::default()).expect("there is a poll");
        let id = net.connect(listener.local_addr().expect("it is bound")).expect("begun");
        let mut traffic = Traffic::new(&plan, Version::V311, QoS::AtLeastOnce, 1, 20, 0);
        traffic.add_publisher(id, &plan);
        while traffic.publishers[0].has_identifier(QoS::AtLeastOnce) {
            traffic.publish(&mut net, 0, 0);
        }
        let ids = packet_ids(net.output(id));
        let different: HashSet<_> = ids.iter().copied().collect();
        assert_eq!((ids.len(), different.len()), (65_535, 65_535));
        assert!(!different.contains(&0));

        // It has not been sent.
        assert!(!traffic.can_publish(&net, 0));
        net.output(id).clear();
        assert!(!traffic.can_publish(&net, 0));
        let puback = Inbound::Puback {
            packet_id: ids[0],
            reason: 0,
        };
        traffic.packet(id, puback, &mut Vec::new()).expect("expected");
        assert!(traffic.can_publish(&net, 0));
        traffic.publish(&mut net, 0, 0);
        assert_eq!(packet_ids(net.output(id)), ids[..1]);
        assert!(!traffic.can_publish(&net, 0));
    }
}
