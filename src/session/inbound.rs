//! Incoming QoS 2 messages between their PUBLISH and their PUBREL.

use std::collections::HashSet;

/// The Packet Identifiers of QoS 2 messages that were accepted and not yet released: a PUBLISH with one of these is
/// acknowledged again and not delivered again [MQTT-4.3.3-10].
#[derive(Debug, Default)]
pub(crate) struct InboundQos2 {
    /// `None` while there are none, as for most clients at most times.
    identifiers: Option<Box<Identifiers>>,
}

type Identifiers = HashSet<u16, foldhash::fast::RandomState>;

impl InboundQos2 {
    pub(crate) fn contains(&self, identifier: u16) -> bool {
        let identifiers = self.identifiers.as_ref();
        identifiers.is_some_and(|identifiers| !identifiers.is_empty() && identifiers.contains(&identifier))
    }

    pub(crate) fn insert(&mut self, identifier: u16) {
        self.identifiers.get_or_insert_default().insert(identifier);
    }

    /// PUBREL: whether the identifier was known. It may be used for a new message from now on [MQTT-4.3.3-12].
    pub(crate) fn release(&mut self, identifier: u16) -> bool {
        let Some(identifiers) = &mut self.identifiers else {
            return false;
        };
        let known = identifiers.remove(&identifier);
        if known && identifiers.is_empty() && identifiers.capacity() > SMALL {
            self.identifiers = None;
        }
        known
    }

    pub(crate) fn len(&self) -> usize {
        self.identifiers.as_ref().map_or(0, |identifiers| identifiers.len())
    }
}

/// Identifiers for which an idle session may keep room.
const SMALL: usize = 64;
