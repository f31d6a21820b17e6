//! A number of messages that a client publishes and another one receives later: what the shapes `retained` and `offline`
//! have in common.

use std::borrow::Cow;

use super::clients::{self, Host, Joined, Step};
use super::net::{Handler, Net};
use super::options::Common;
use crate::client::{Inbound, InboundPublish};
use crate::codec::encode::{self, PublishFrame};
use crate::packet::{QoS, Version};

/// Looks at what comes back.
pub(super) trait Receiver {
    /// # Errors
    /// Ends the run.
    fn receive(&mut self, connection: usize, publish: &InboundPublish<'_>) -> Result<(), String>;
}

/// All clients of the run.
#[derive(Debug)]
pub(super) struct Bulk<R> {
    pub(super) joined: Joined,
    pub(super) receiver: R,
    version: Version,
    window: u64,
    acknowledged: u64,
}

/// What is published.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) count: u64,
    /// 1 or 2, so that it is known what has arrived.
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
}

/// The names of what a message costs that comes back.
pub(super) const PER_MESSAGE_RECEIVED: [&str; 2] = [
    "broker CPU per message received",
    "load generator CPU per message received",
];

impl<R: Receiver> Bulk<R> {
    pub(super) fn new(common: &Common, receiver: R) -> Bulk<R> {
        Bulk {
            joined: Joined::default(),
            receiver,
            version: common.version(),
            window: common.window,
            acknowledged: 0,
        }
    }

    /// Sends the messages and waits for all acknowledgements. `prepare` is given the number and the payload of each and
    /// says its topic.
    pub(super) fn publish_all<'t>(
        &mut self,
        net: &mut Net,
        connection: usize,
        mut messages: Messages,
        mut prepare: impl FnMut(u64, &mut [u8]) -> Cow<'t, str>,
    ) -> Result<(), String> {
        self.acknowledged = 0;
        let mut sent = 0;
        while sent < messages.count {
            let known = self.acknowledged;
            while sent < messages.count && sent < known + self.window {
                let topic = prepare(sent, &mut messages.payload);
                messages.append(net.output(connection), self.version, &topic, sent);
                sent += 1;
            }
            clients::wait(net, self, |bulk| bulk.acknowledged, known + 1)?;
        }
        clients::wait(net, self, |bulk| bulk.acknowledged, messages.count)
    }
}

impl Messages {
    fn append(&self, output: &mut Vec<u8>, version: Version, topic: &str, number: u64) {
        let frame = PublishFrame {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic,
            packet_id: clients::packet_id(number),
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: &[],
            properties: &[],
            payload: &self.payload,
        };
        encode::publish(output, version, &frame);
    }
}

impl<R: Receiver> Handler for Bulk<R> {
    fn packet(&mut self, id: usize, packet: Inbound<'_>, output: &mut Vec<u8>) -> Result<(), String> {
        if let Inbound::Publish(publish) = packet {
            clients::acknowledge(output, self.version, &publish);
            return self.receiver.receive(id, &publish);
        }
        match clients::go_on(output, self.version, &packet)? {
            Step::Acknowledged => self.acknowledged += 1,
            Step::UnderWay => {}
            Step::None => {
                self.joined.see(&packet)?;
            }
        }
        Ok(())
    }
}

impl<R: Receiver> Host for Bulk<R> {
    fn joined(&mut self) -> &mut Joined {
        &mut self.joined
    }
}
