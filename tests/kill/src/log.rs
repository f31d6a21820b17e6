//! The log of a round while it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::event::{Event, Name, Step, What, World};

pub struct Log {
    start: Instant,
    pub events: Vec<Event>,
    /// Messages for which a publisher has received PUBACK or PUBCOMP.
    pub acked: usize,
    /// PUBLISH packets that clients have received.
    pub delivered: usize,
    /// Set just before the broker is killed, by a thread that does that at its own time. Noted with the next event.
    pub killer: Option<Arc<AtomicBool>>,
}

impl Log {
    pub fn new() -> Log {
        Log {
            start: Instant::now(),
            events: Vec::new(),
            acked: 0,
            delivered: 0,
            killer: None,
        }
    }

    /// Whether there is a killer that has not done its work yet. Notes it otherwise.
    pub fn is_killer_awaited(&mut self) -> bool {
        if self.killer.as_ref().is_some_and(|killer| killer.load(Ordering::SeqCst)) {
            self.killer = None;
            self.world(World::Kill);
        }
        self.killer.is_some()
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

    pub fn note(&mut self, text: String) {
        self.push(What::Note(text));
    }

    /// Notes what is known only now, and was so when there were so many events.
    pub fn insert(&mut self, place: usize, world: World) {
        let at = self
            .events
            .get(place)
            .or(self.events.last())
            .map_or(0, |event| event.at);
        let what = What::World(world);
        self.events.insert(place, Event { at, what });
    }

    pub fn push(&mut self, what: What) {
        self.is_killer_awaited();
        let at = self.start.elapsed().as_micros() as u64;
        self.events.push(Event { at, what });
    }
}
