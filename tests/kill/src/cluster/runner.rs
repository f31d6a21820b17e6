//! A client of which the log knows nothing: one connection, which is answered as MQTT has it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::arrivals::Arrival;
use crate::link::Link;
use crate::packet::{self, Packet, Prop, Version};

/// Longest time until a client has what it waits for.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at what there is.
pub const PAUSE: Duration = Duration::from_micros(300);

/// A connection, and what it has been given.
pub struct Runner {
    pub link: Option<Link>,
    pub accepted: Option<packet::Connack>,
    /// What was asked has been answered: SUBSCRIBE, or PINGREQ.
    pub answered: bool,
    pub arrivals: Vec<Arrival>,
}

impl Runner {
    pub fn connect(addr: SocketAddr, name: &str, clean: bool) -> Result<Runner, String> {
        let link = Link::open(addr, Version::V5).map_err(|error| error.to_string())?;
        let mut runner = Runner {
            link: Some(link),
            accepted: None,
            answered: false,
            arrivals: Vec::new(),
        };
        let mut connect = packet::Connect::v5(name).clean(clean);
        if !clean {
            connect = connect.prop(Prop::SessionExpiry(3600));
        }
        runner.send(connect.into());
        runner.turn();
        Ok(runner)
    }

    pub fn send(&mut self, packet: Packet) {
        if let Some(link) = &mut self.link {
            link.send(&packet);
        }
    }

    /// Whether a message has come.
    pub fn has(&self, label: &str) -> bool {
        self.arrivals.iter().any(|arrival| arrival.label == label)
    }

    /// Writes, reads and answers what there is.
    pub fn turn(&mut self) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.flush();
        let (packets, ended) = link.read();
        packets.into_iter().for_each(|packet| self.handle(packet));
        match &mut self.link {
            Some(link) if !ended => link.flush(),
            _ => self.link = None,
        }
    }

    pub fn run_until(&mut self, condition: impl Fn(&Runner) -> bool) -> Result<(), String> {
        let start = Instant::now();
        while !condition(self) {
            if start.elapsed() > PATIENCE || self.link.is_none() {
                return Err("a connection has ended, or is not answered".into());
            }
            self.turn();
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn handle(&mut self, packet: Packet) {
        match packet {
            Packet::Connack(connack) => self.accepted = Some(connack),
            Packet::Suback(_) | Packet::Pingresp => self.answered = true,
            Packet::Pubrec(ack) => self.send(Packet::Pubrel(packet::Ack::new(ack.id))),
            Packet::Pubrel(ack) => {
                let open = self.arrivals.iter_mut().rfind(|one| one.qos == 2 && one.id == ack.id);
                open.into_iter().for_each(|one| one.is_released = true);
                self.send(Packet::Pubcomp(packet::Ack::new(ack.id)));
            }
            Packet::Publish(publish) => self.message(&publish),
            _ => {}
        }
    }

    fn message(&mut self, publish: &packet::Publish) {
        let ack = packet::Ack::new(publish.id);
        self.send(match publish.qos {
            1 => Packet::Puback(ack),
            _ => Packet::Pubrec(ack),
        });
        self.arrivals.push(Arrival {
            label: String::from_utf8_lossy(&publish.payload).into_owned(),
            qos: publish.qos,
            id: publish.id,
            dup: publish.dup,
            is_released: false,
        });
    }
}
