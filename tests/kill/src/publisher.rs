//! What a publisher sends.

use crate::event::Name;
use crate::random::Random;

/// A message on its way to the broker, kept until it is acknowledged.
pub struct Outgoing {
    pub id: u16,
    pub message: Message,
    pub stage: Stage,
    /// It was sent again.
    pub again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// PUBLISH was sent.
    Sent,
    /// PUBREL was.
    Released,
}

pub struct Message {
    pub label: Name,
    pub topic: Name,
    pub qos: u8,
    pub retain: bool,
    /// Without a payload.
    pub empty: bool,
}

/// Publishes to its topics, in no order, with a window.
pub struct Publisher {
    pub topics: Vec<Topic>,
    /// How many messages may wait for their acknowledgement.
    pub window: usize,
    /// How many messages are still to be sent.
    pub budget: usize,
    random: Random,
    count: usize,
    /// Each topic once and in order.
    pub in_turn: bool,
    /// It sends nothing that is retained.
    pub is_hushed: bool,
}

pub struct Topic {
    pub name: Name,
    /// 1 or 2, or none for both in turns.
    pub qos: Option<u8>,
    pub retain: bool,
    /// Percentage of messages without a payload.
    pub empty: u64,
}

impl Outgoing {
    pub fn new(id: u16, message: Message) -> Outgoing {
        Outgoing {
            id,
            message,
            stage: Stage::Sent,
            again: false,
        }
    }
}

impl Topic {
    pub fn new(name: &str, qos: Option<u8>, retain: bool) -> Topic {
        Topic {
            name: name.into(),
            qos,
            retain,
            empty: 0,
        }
    }
}

impl Publisher {
    /// One that has nothing to send yet.
    pub fn new(topics: Vec<Topic>, window: usize, random: Random) -> Publisher {
        Publisher {
            topics,
            window,
            budget: 0,
            random,
            count: 0,
            in_turn: false,
            is_hushed: false,
        }
    }

    /// One that sends one message to each topic.
    pub fn once(topics: Vec<Topic>, window: usize, random: Random) -> Publisher {
        Publisher {
            budget: topics.len(),
            in_turn: true,
            ..Publisher::new(topics, window, random)
        }
    }

    fn any_topic(&mut self) -> usize {
        let may = |at: &usize| !(self.is_hushed && self.topics[*at].retain);
        let topics: Vec<usize> = (0..self.topics.len()).filter(may).collect();
        topics[self.random.index(topics.len())]
    }

    /// The next message, if there is one for which the window has room beside those that are on their way.
    pub fn next(&mut self, client: &str, on_their_way: usize) -> Option<Message> {
        if on_their_way >= self.window || self.budget == 0 {
            return None;
        }
        self.budget -= 1;
        self.count += 1;
        let at = match self.in_turn {
            true => self.topics.len() - 1 - self.budget,
            false => self.any_topic(),
        };
        let topic = &self.topics[at];
        let either = 1 + (self.count % 2) as u8;
        let empty = self.random.percent(topic.empty.max(1)) && topic.empty > 0;
        Some(Message {
            label: format!("{client}-{}", self.count).into(),
            topic: topic.name.clone(),
            qos: topic.qos.unwrap_or(either),
            retain: topic.retain,
            empty,
        })
    }
}
