//! Scenes that many tests begin or end with.

use super::{Ack, Broker, Client, Connect, Packet, Publish, Suback, Subscribe, Version};

impl Broker {
    /// A subscriber and a publisher, both with a clean session.
    pub fn pair(&self, version: Version) -> (Client, Client) {
        (
            self.connect(Connect::new(version, "subscriber")),
            self.connect(Connect::new(version, "publisher")),
        )
    }

    /// A subscriber whose session outlives its connection, with this subscription, and a publisher; and the CONNECT
    /// with which the subscriber comes back.
    pub fn lasting_pair(&self, version: Version, filter: &str, qos: u8) -> (Connect, Client, Client) {
        let connect = Connect::persistent(version, "subscriber");
        let mut subscriber = self.connect(connect.clone());
        let publisher = self.connect(Connect::new(version, "publisher"));
        subscriber.subscribe(filter, qos);
        (connect, subscriber, publisher)
    }

    /// Leaves a session with one subscription behind, whose client is not connected.
    pub fn offline_session(&self, version: Version, client_id: &str, filter: &str, qos: u8) {
        let mut client = self.connect(Connect::persistent(version, client_id));
        client.subscribe(filter, qos);
        client.disconnect();
    }

    /// Connects to a session that must exist (MQTT 3.1 does not say whether it does).
    pub fn resume(&self, connect: Connect) -> Client {
        let client = self.connect(connect.clean(false));
        let known = client.connack.session_present || client.version == Version::V31;
        assert!(known, "{}: the session is gone", client.name);
        client
    }
}

impl Client {
    /// Expects to be cut for an error to which the specification gives more than one code.
    pub fn expect_cut_with_any(&mut self, reasons: &[u8]) {
        if self.version.is_v5() {
            let disconnect = self.recv_disconnect();
            assert!(
                reasons.contains(&disconnect.reason),
                "{}: {disconnect:?}, not one of {reasons:02x?}",
                self.name
            );
        } else {
            self.expect_closed();
        }
    }

    /// Everything that is still to come because of what `publisher` has done, acknowledged.
    ///
    /// First what comes by itself, so that a full queue has room again; then what comes before a message that
    /// `publisher` sends now, at QoS 1, so that it waits behind others in the queue.
    pub fn all_messages_from(&mut self, publisher: &mut Client) -> Vec<Publish> {
        let mut messages = Vec::new();
        let mut silent = 0;
        while silent < 3 {
            let more = self.messages_until_ping_acknowledged();
            silent = if more.is_empty() { silent + 1 } else { 0 };
            messages.extend(more);
        }
        let (topic, id) = (format!("end/{}", self.name), self.next_id());
        self.send(Subscribe::new(id).filter(&topic, 1));
        messages.extend(self.messages(
            |message| message.topic == topic,
            |_| publisher.publish(&topic, "end", 1),
        ));
        let end = messages
            .iter()
            .position(|message| message.topic == topic)
            .expect("it was seen");
        messages.remove(end);
        self.unsubscribe(&topic);
        messages
    }

    fn messages_until_ping_acknowledged(&mut self) -> Vec<Publish> {
        self.send(Packet::Pingreq);
        let mut messages = Vec::new();
        let (mut unreleased, mut answered) = (0, false);
        while !answered || unreleased > 0 {
            match self.recv() {
                Packet::Pingresp => answered = true,
                Packet::Pubrel(ack) => {
                    self.send(Packet::Pubcomp(Ack::new(ack.id)));
                    unreleased -= 1;
                }
                Packet::Publish(message) => {
                    self.begin_ack(&message);
                    unreleased += u32::from(message.qos == 2);
                    messages.push(message);
                }
                other => panic!("{}: {other:?}", self.name),
            }
        }
        messages
    }

    /// The next `count` messages, acknowledged. Unlike [`Client::message`] this can be used while several messages of
    /// QoS 2 are under way.
    pub fn take(&mut self, count: usize) -> Vec<Publish> {
        let mut left = count;
        let last = |_: &Publish| {
            left -= 1;
            left == 0
        };
        self.messages(last, |suback| panic!("nobody has asked for {suback:?}"))
    }

    /// Messages up to the one for which `last` holds, with all their handshakes completed; more than that only if
    /// the broker sends more in the meantime.
    pub fn messages(
        &mut self,
        mut last: impl FnMut(&Publish) -> bool,
        mut on_suback: impl FnMut(Suback),
    ) -> Vec<Publish> {
        let (mut messages, mut unreleased, mut done) = (Vec::new(), 0, false);
        while !done || unreleased > 0 {
            match self.recv() {
                Packet::Suback(suback) => on_suback(suback),
                Packet::Pubrel(ack) => {
                    self.send(Packet::Pubcomp(Ack::new(ack.id)));
                    unreleased -= 1;
                }
                Packet::Publish(message) => {
                    self.begin_ack(&message);
                    unreleased += u32::from(message.qos == 2);
                    done = done || last(&message);
                    messages.push(message);
                }
                other => panic!("{}: {other:?}", self.name),
            }
        }
        messages
    }

    /// The first packet that acknowledges a PUBLISH: PUBACK or PUBREC.
    pub fn begin_ack(&mut self, message: &Publish) {
        match message.qos {
            1 => self.send(Packet::Puback(Ack::new(message.id))),
            2 => self.send(Packet::Pubrec(Ack::new(message.id))),
            _ => {}
        }
    }

    /// Publishes the numbers of this range as text, in order.
    pub fn publish_numbers(&mut self, topic: &str, numbers: std::ops::Range<u32>, qos: u8) {
        for number in numbers {
            self.publish(topic, number.to_string(), qos);
        }
    }

    /// Expects the numbers of this range, in order, and acknowledges them.
    pub fn expect_numbers(&mut self, numbers: std::ops::Range<u32>) {
        let messages = self.take(numbers.len());
        let texts: Vec<&str> = messages.iter().map(Publish::text).collect();
        assert_eq!(
            texts,
            numbers.map(|number| number.to_string()).collect::<Vec<_>>(),
            "{}",
            self.name
        );
    }

    /// Everything that the broker has sent before it answers a PINGREQ. It may answer before it sends a message that
    /// is on its way: this proves what must not come, not what must.
    pub fn packets_until_ping(&mut self) -> Vec<Packet> {
        self.send(Packet::Pingreq);
        let mut packets = Vec::new();
        loop {
            match self.recv() {
                Packet::Pingresp => return packets,
                packet => packets.push(packet),
            }
        }
    }

    /// As [`Client::packets_until_ping`], where only PUBLISH packets may come.
    pub fn messages_until_ping(&mut self) -> Vec<Publish> {
        self.packets_until_ping()
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => publish,
                other => panic!("{}: expected only PUBLISH, got {other:?}", self.name),
            })
            .collect()
    }
}

/// A connected client that exchanges messages with itself, to show that it is served.
pub struct Bystander(pub Client);

impl Bystander {
    pub fn new(broker: &Broker) -> Bystander {
        let mut client = broker.v5("bystander");
        client.subscribe("bystander", 1);
        Bystander(client)
    }

    pub fn is_served(&mut self) {
        self.0.publish("bystander", "x", 0);
        self.0.expect_message("bystander", "x");
    }
}
