//! Scenes that many tests begin or end with.

use super::{Broker, Client, Connect, Packet, Publish, Version};

impl Broker {
    /// A subscriber and a publisher, both with a clean session.
    pub fn pair(&self, version: Version) -> (Client, Client) {
        (self.connect(Connect::new(version, "subscriber")), self.connect(Connect::new(version, "publisher")))
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
            assert!(reasons.contains(&disconnect.reason), "{}: {disconnect:?}, not one of {reasons:02x?}", self.name);
        } else {
            self.expect_closed();
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
        for number in numbers {
            assert_eq!(self.message().text(), number.to_string(), "{}: out of order", self.name);
        }
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
