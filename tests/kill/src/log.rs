//! The log of a round while it is written.

use std::time::Instant;

use crate::event::{Event, Name, Step, What, World};

pub struct Log {
    start: Instant,
    pub events: Vec<Event>,
    /// Messages for which a publisher has received PUBACK or PUBCOMP.
    pub acked: usize,
    /// PUBLISH packets that clients have received.
    pub delivered: usize,
}

impl Log {
    pub fn new() -> Log {
        Log {
            start: Instant::now(),
            events: Vec::new(),
            acked: 0,
            delivered: 0,
        }
    }

    pub fn sent(&mut self, client: &Name, step: Step) {
        self.push(What::Sent(client.clone(), step));
    }

    pub fn got(&mut self, client: &Name, step: Step) {
        self.push(What::Got(client.clone(), step));
    }

    pub fn world(&mut self, world: World) {
        self.push(What::World(world));
    }

    pub fn push(&mut self, what: What) {
        let at = self.start.elapsed().as_micros() as u64;
        self.events.push(Event { at, what });
    }
}
