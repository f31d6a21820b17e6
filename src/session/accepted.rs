//! QoS 2 messages that were accepted, and are published at their PUBREL [MQTT-4.3.3-7].

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::Message;

/// The messages, by their Packet Identifiers, and how many bytes they take.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    messages: HashMap<u16, Arc<Message>>,
    bytes: usize,
}

impl Accepted {
    /// Whether they take no more than so many bytes with this one. A client could make its session grow without end.
    pub(crate) fn has_room(&self, message: &Message, bound: usize) -> bool {
        self.bytes + message.size() <= bound
    }

    pub(crate) fn insert(&mut self, packet_id: u16, message: Arc<Message>) {
        self.bytes += message.size();
        if let Some(before) = self.messages.insert(packet_id, message) {
            self.bytes -= before.size();
        }
    }

    pub(crate) fn remove(&mut self, packet_id: u16) -> Option<Arc<Message>> {
        let message = self.messages.remove(&packet_id)?;
        self.bytes -= message.size();
        Some(message)
    }
}

impl FromIterator<(u16, Arc<Message>)> for Accepted {
    fn from_iter<T: IntoIterator<Item = (u16, Arc<Message>)>>(all: T) -> Accepted {
        let mut accepted = Accepted::default();
        all.into_iter()
            .for_each(|(packet_id, message)| accepted.insert(packet_id, message));
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Publication;
    use crate::packet::QoS;

    #[test]
    fn it_counts_its_bytes() {
        let message = |payload: &[u8]| {
            Arc::new(Message::new(&Publication {
                topic: "t",
                payload,
                properties: &[],
                expires_at: None,
                qos: QoS::ExactlyOnce,
                retain: false,
            }))
        };
        let (one, two) = (message(b"123"), message(&[7; 1000]));
        let bound = one.size() + two.size();
        let mut accepted: Accepted = [(1, one)].into_iter().collect();
        assert!(accepted.has_room(&two, bound) && !accepted.has_room(&two, bound - 1));
        accepted.insert(2, Arc::clone(&two));
        assert!(!accepted.has_room(&message(b""), bound));
        accepted.insert(1, message(b""));
        assert!(
            accepted
                .remove(2)
                .is_some_and(|removed| removed.payload().len() == 1000)
        );
        assert!(accepted.remove(2).is_none());
        assert!(accepted.has_room(&two, bound));
    }
}
