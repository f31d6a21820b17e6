//! A connection that its client has left open behind it, to see what it is still given.

use std::time::{Duration, Instant};

use crate::event::{Ack, Name, Publish, Step, What};
use crate::link::Link;
use crate::log::Log;
use crate::packet::{self, Packet};
use crate::payload;

pub struct Ghost {
    /// In the log.
    pub name: Name,
    /// Index of the client.
    pub client: usize,
    pub link: Option<Link>,
    /// The client has been accepted on another connection.
    pub has_lost: bool,
    /// Packet Identifiers of QoS 2 messages for which it has not sent PUBREC.
    owed: Vec<u16>,
    tries: u16,
    next: Instant,
}

/// How often it tries to publish what must not be taken.
const TRIES: u16 = 4;
const PAUSE: Duration = Duration::from_millis(120);
/// Its Packet Identifiers begin here; no client of the cast gets so far.
const FIRST_ID: u16 = 60_000;

impl Ghost {
    pub fn new(name: Name, client: usize, link: Link, owed: Vec<u16>) -> Ghost {
        Ghost {
            name,
            client,
            link: Some(link),
            has_lost: false,
            owed,
            tries: 0,
            next: Instant::now(),
        }
    }

    /// Tries to do what is no longer its to do.
    pub fn act(&mut self, log: &mut Log) {
        if !self.has_lost || self.link.is_none() || self.tries == TRIES || Instant::now() < self.next {
            return;
        }
        self.tries += 1;
        self.next = Instant::now() + PAUSE;
        for id in std::mem::take(&mut self.owed) {
            self.send(
                log,
                &Packet::Pubrec(packet::Ack::new(id)),
                Step::Ack(Ack::Pubrec, id, 0),
            );
        }
        let id = FIRST_ID + self.tries;
        let (topic, label) = (format!("ghost/{}", self.name), format!("{}-{}", self.name, self.tries));
        let packet = packet::Publish::new(&topic, payload::of(&label)).qos(1, id);
        let step = Publish {
            id,
            qos: 1,
            retain: false,
            dup: false,
            topic: topic.into(),
            label: label.into(),
            empty: false,
            sids: Vec::new(),
        };
        self.send(log, &packet.into(), Step::Publish(step));
    }

    /// Takes what the socket has.
    pub fn receive(&mut self, log: &mut Log) {
        let Some(link) = &mut self.link else {
            return;
        };
        let (packets, ended) = link.read();
        for packet in packets {
            self.handle(log, packet);
        }
        if ended {
            self.link = None;
            log.push(What::Closed(self.name.clone()));
        }
    }

    fn handle(&mut self, log: &mut Log, packet: Packet) {
        let step = match packet {
            Packet::Publish(publish) => {
                if publish.qos == 2 {
                    self.owed.push(publish.id);
                }
                Step::Publish(Publish {
                    id: publish.id,
                    qos: publish.qos,
                    retain: publish.retain,
                    dup: publish.dup,
                    topic: publish.topic.as_str().into(),
                    label: payload::label(&publish.payload),
                    empty: publish.payload.is_empty(),
                    sids: publish.props.subscription_ids(),
                })
            }
            Packet::Puback(ack) => Step::Ack(Ack::Puback, ack.id, ack.reason),
            Packet::Pubrec(ack) => Step::Ack(Ack::Pubrec, ack.id, ack.reason),
            Packet::Pubrel(ack) => Step::Ack(Ack::Pubrel, ack.id, ack.reason),
            Packet::Pubcomp(ack) => Step::Ack(Ack::Pubcomp, ack.id, ack.reason),
            Packet::Disconnect(disconnect) => Step::Disconnect {
                code: disconnect.reason,
                expiry: None,
            },
            _ => return,
        };
        log.got(&self.name, step);
    }

    fn send(&mut self, log: &mut Log, packet: &Packet, step: Step) {
        if let Some(link) = &mut self.link {
            link.send(packet);
            log.sent(&self.name, step);
        }
    }
}
