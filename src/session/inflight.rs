//! Outgoing QoS 1 and QoS 2 messages between their PUBLISH and their last acknowledgement.
//!
//! ```text
//!            push                    PUBACK (QoS 1), PUBREC >= 0x80
//!  (queue) -------->  Publish  -------------------------------------->  Done
//!                        |                                               ^
//!                        | PUBREC (QoS 2)                                | PUBCOMP
//!                        +---------------->  Released  ------------------+
//! ```
//!
//! The ring is in the order of sending, and the Packet Identifier follows from the place in it: identifiers count up
//! from 1 and wrap at 65,535, so that finding the slot of an acknowledgement is one subtraction.

use std::collections::VecDeque;

use super::delivery::Delivery;
use crate::packet::QoS;

/// Slots that may be in the ring at once: as many as there are identifiers, so that none is used twice
/// [MQTT-2.2.1-4].
const MAX_SPAN: usize = IDENTIFIERS as usize;

#[derive(Debug)]
enum Slot {
    Publish(Delivery),
    Released,
    Done,
}

/// Something to send again after a reconnect [MQTT-4.4.0-1].
#[derive(Debug)]
pub(crate) enum Resend {
    Publish(u16, Delivery),
    Pubrel(u16),
}

/// What an acknowledgement did.
#[derive(Debug)]
pub(crate) enum Acked {
    /// The message is finished; its bytes no longer count.
    Finished(Delivery),
    /// A QoS 2 message was received: answer with PUBREL. The payload is not needed any more.
    Release(Option<Delivery>),
    /// PUBCOMP of a released message.
    Completed,
    /// No such Packet Identifier in flight.
    Unknown,
    /// The identifier belongs to a message that is not in the state for this acknowledgement.
    WrongState,
}

/// The ring of messages in flight.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    slots: VecDeque<Slot>,
    /// Messages pushed since the session began, modulo 65,535: the place of the next one.
    next: u16,
    /// Slots at and behind this index have not been sent on this connection.
    sent: usize,
    /// Slots before `sent` that are not done: what counts against the client's Receive Maximum.
    outstanding: usize,
}

const IDENTIFIERS: u32 = 65_535;

impl Inflight {
    /// How many further messages may be sent with this Receive Maximum [MQTT-3.3.4-9].
    ///
    /// Zero while messages of an earlier connection wait to be sent again, since those go first [MQTT-4.6.0-1].
    pub(crate) fn room(&self, receive_maximum: usize) -> usize {
        if self.sent < self.slots.len() {
            return 0;
        }
        receive_maximum
            .saturating_sub(self.outstanding)
            .min(MAX_SPAN.saturating_sub(self.slots.len()))
    }

    /// The Packet Identifier of the message that is [pushed](Inflight::push) next.
    pub(crate) fn next_identifier(&self) -> u16 {
        // `next` is below 65,535.
        self.next.saturating_add(1)
    }

    /// Takes a message into flight and gives it its Packet Identifier. To be called only while there is [room].
    ///
    /// [room]: Inflight::room
    pub(crate) fn push(&mut self, delivery: Delivery) -> u16 {
        debug_assert!(self.sent == self.slots.len() && self.slots.len() < MAX_SPAN && delivery.qos > QoS::AtMostOnce);
        let identifier = self.next_identifier();
        self.next = ((u32::from(self.next) + 1) % IDENTIFIERS) as u16;
        self.slots.push_back(Slot::Publish(delivery));
        self.sent += 1;
        self.outstanding += 1;
        identifier
    }

    /// PUBACK.
    pub(crate) fn puback(&mut self, identifier: u16) -> Acked {
        let Some(index) = self.index(identifier) else {
            return Acked::Unknown;
        };
        match &self.slots[index] {
            Slot::Publish(delivery) if delivery.qos == QoS::AtLeastOnce => self.finish(index),
            Slot::Publish(_) | Slot::Released => Acked::WrongState,
            Slot::Done => Acked::Unknown,
        }
    }

    /// PUBREC; `refused` if its Reason Code is 0x80 or above, which ends the delivery [MQTT-4.4.0-2].
    pub(crate) fn pubrec(&mut self, identifier: u16, refused: bool) -> Acked {
        let Some(index) = self.index(identifier) else {
            return Acked::Unknown;
        };
        match &self.slots[index] {
            Slot::Publish(delivery) if delivery.qos == QoS::ExactlyOnce && refused => self.finish(index),
            Slot::Publish(delivery) if delivery.qos == QoS::ExactlyOnce => {
                match std::mem::replace(&mut self.slots[index], Slot::Released) {
                    Slot::Publish(delivery) => Acked::Release(Some(delivery)),
                    Slot::Released | Slot::Done => Acked::Release(None),
                }
            }
            Slot::Publish(_) => Acked::WrongState,
            Slot::Released => Acked::Release(None),
            Slot::Done => Acked::Unknown,
        }
    }

    /// PUBCOMP.
    pub(crate) fn pubcomp(&mut self, identifier: u16) -> Acked {
        let Some(index) = self.index(identifier) else {
            return Acked::Unknown;
        };
        match &self.slots[index] {
            Slot::Released => {
                self.settle(index);
                Acked::Completed
            }
            Slot::Publish(_) => Acked::WrongState,
            Slot::Done => Acked::Unknown,
        }
    }

    /// Starts over on a new connection: nothing of the ring has been sent on it yet.
    pub(crate) fn restart(&mut self) {
        self.sent = 0;
        self.outstanding = 0;
    }

    /// The next thing to send again, oldest first, or `None` when all was sent or the Receive Maximum is reached.
    ///
    /// A PUBREL is sent whatever the quota [MQTT-4.9.0-3].
    pub(crate) fn next_resend(&mut self, receive_maximum: usize) -> Option<Resend> {
        while let Some(slot) = self.slots.get(self.sent) {
            let identifier = self.identifier(self.sent);
            let resend = match slot {
                Slot::Done => None,
                Slot::Publish(_) if self.outstanding >= receive_maximum => return None,
                Slot::Publish(delivery) => Some(Resend::Publish(identifier, delivery.clone())),
                Slot::Released => Some(Resend::Pubrel(identifier)),
            };
            self.sent += 1;
            if resend.is_some() {
                self.outstanding += 1;
                return resend;
            }
        }
        None
    }

    /// Whether [`next_resend`](Inflight::next_resend) would yield something.
    pub(crate) fn can_resend(&self, receive_maximum: usize) -> bool {
        let next = self
            .slots
            .iter()
            .skip(self.sent)
            .find(|slot| !matches!(slot, Slot::Done));
        match next {
            Some(Slot::Publish(_)) => self.outstanding < receive_maximum,
            Some(Slot::Released) => true,
            Some(Slot::Done) | None => false,
        }
    }

    /// Whether messages of an earlier connection wait to be sent again.
    pub(crate) fn is_resending(&self) -> bool {
        self.sent < self.slots.len()
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Gives up a message that can't be sent to this client, as if it had been acknowledged [MQTT-3.1.2-25].
    pub(crate) fn discard(&mut self, identifier: u16) -> Option<Delivery> {
        let index = self.index(identifier)?;
        match self.finish(index) {
            Acked::Finished(delivery) => Some(delivery),
            _ => None,
        }
    }

    /// Slots that are not done.
    #[cfg(test)]
    pub(crate) fn unsettled(&self) -> usize {
        self.slots.iter().filter(|slot| !matches!(slot, Slot::Done)).count()
    }

    /// The messages whose acknowledgement is still due, in the order of sending.
    pub(crate) fn into_unacknowledged(self) -> impl Iterator<Item = Delivery> {
        self.slots.into_iter().filter_map(|slot| match slot {
            Slot::Publish(delivery) => Some(delivery),
            Slot::Released | Slot::Done => None,
        })
    }

    fn index(&self, identifier: u16) -> Option<usize> {
        let place = u32::from(identifier.checked_sub(1)?);
        let first = (u32::from(self.next) + IDENTIFIERS - self.slots.len() as u32) % IDENTIFIERS;
        let index = ((place + IDENTIFIERS - first) % IDENTIFIERS) as usize;
        (index < self.slots.len()).then_some(index)
    }

    fn identifier(&self, index: usize) -> u16 {
        let back = (self.slots.len() - index) as u32;
        ((u32::from(self.next) + IDENTIFIERS - back) % IDENTIFIERS) as u16 + 1
    }

    fn finish(&mut self, index: usize) -> Acked {
        match std::mem::replace(&mut self.slots[index], Slot::Done) {
            Slot::Publish(delivery) => {
                self.settle(index);
                Acked::Finished(delivery)
            }
            Slot::Released => {
                self.settle(index);
                Acked::Completed
            }
            Slot::Done => Acked::Unknown,
        }
    }

    /// Ends the slot and takes finished ones off the front of the ring.
    fn settle(&mut self, index: usize) {
        self.slots[index] = Slot::Done;
        if index < self.sent {
            self.outstanding -= 1;
        }
        while matches!(self.slots.front(), Some(Slot::Done)) {
            self.slots.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        if self.slots.is_empty() && self.slots.capacity() > SMALL_RING {
            self.slots = VecDeque::new();
        }
    }
}

/// Slots that an idle session may keep allocated.
const SMALL_RING: usize = 32;

#[cfg(test)]
#[path = "inflight_tests.rs"]
mod tests;
