//! Incoming QoS 2 messages between their PUBLISH and their PUBREL.

use std::collections::HashSet;

/// The Packet Identifiers of QoS 2 messages that were accepted and not yet released: a PUBLISH with one of these is
/// acknowledged again and not delivered again [MQTT-4.3.3-10].
#[derive(Debug, Default)]
pub(crate) struct InboundQos2 {
    identifiers: HashSet<u16, foldhash::fast::RandomState>,
}

impl InboundQos2 {
    pub(crate) fn contains(&self, identifier: u16) -> bool {
        !self.identifiers.is_empty() && self.identifiers.contains(&identifier)
    }

    pub(crate) fn insert(&mut self, identifier: u16) {
        self.identifiers.insert(identifier);
    }

    /// PUBREL: whether the identifier was known. It may be used for a new message from now on [MQTT-4.3.3-12].
    pub(crate) fn release(&mut self, identifier: u16) -> bool {
        let known = self.identifiers.remove(&identifier);
        if known && self.identifiers.is_empty() && self.identifiers.capacity() > SMALL {
            self.identifiers.shrink_to(0);
        }
        known
    }

    pub(crate) fn len(&self) -> usize {
        self.identifiers.len()
    }
}

/// Identifiers for which an idle session may keep room.
const SMALL: usize = 64;
