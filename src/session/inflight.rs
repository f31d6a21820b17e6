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
//! Each lane is a ring in the order of sending, and the Packet Identifier follows from the place in the lane: identifiers
//! count up and wrap, so that finding the slot of an acknowledgement is one subtraction. Sessions that are kept in a store
//! have two lanes, each with identifiers of its own, since the place of a live message is fixed when it is put into the queue,
//! and retained messages are sent before those. All other sessions have one.

use std::collections::VecDeque;
use std::sync::Arc;

use super::delivery::Delivery;
use super::inquiry::Sent;
use crate::message::Message;
use crate::packet::QoS;
use crate::store::Lane;

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
    Finished(Finished),
    /// A QoS 2 message was received: answer with PUBREL. The payload is not needed any more.
    Release(Option<Finished>),
    /// PUBCOMP of a released message.
    Completed,
    /// No such Packet Identifier in flight.
    Unknown,
    /// The identifier belongs to a message that is not in the state for this acknowledgement.
    WrongState,
}

/// What is left to be told of a message that the client has: little, so that it is passed on in registers.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) message: Arc<Message>,
    /// See [`Delivery::charge`].
    pub(crate) charge: u32,
}

impl From<Delivery> for Finished {
    #[inline]
    fn from(delivery: Delivery) -> Finished {
        Finished {
            charge: delivery.charge,
            message: delivery.message,
        }
    }
}

/// The Packet Identifiers of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identifiers {
    first: u16,
    count: u16,
}

const ALL: Identifiers = Identifiers {
    first: 1,
    count: 65_535,
};
/// Of live messages, where retained ones have others.
pub(crate) const LIVE_IDENTIFIERS: u16 = 49_152;
/// Places that may be in flight from the first on. A third is spared: who is done with a message may use its identifier
/// again before that is known to be kept.
pub(crate) const IDENTIFIERS_AT_ONCE: u64 = LIVE_IDENTIFIERS as u64 / 3 * 2;
const LIVE: Identifiers = Identifiers {
    first: 1,
    count: LIVE_IDENTIFIERS,
};
const REPLAYED: Identifiers = Identifiers {
    first: LIVE_IDENTIFIERS + 1,
    count: 65_535 - LIVE_IDENTIFIERS,
};

/// The Packet Identifier of this place in the live lane of a session that is kept.
pub(crate) fn live_identifier(place: u64) -> u16 {
    LIVE.of(place)
}

/// The first place at or above `from` that has this Packet Identifier in the live lane of a session that is kept.
pub(crate) fn live_place(from: u64, identifier: u16) -> u64 {
    LIVE.place(from, identifier)
}

impl Identifiers {
    fn of(self, place: u64) -> u16 {
        self.first + (place % u64::from(self.count)) as u16
    }

    fn has(self, identifier: u16) -> bool {
        identifier >= self.first && identifier - self.first < self.count
    }

    fn place(self, from: u64, identifier: u16) -> u64 {
        let count = u64::from(self.count);
        let wanted = u64::from(identifier.saturating_sub(self.first));
        from + (wanted + count - from % count) % count
    }
}

/// The messages of a lane in flight.
#[derive(Debug)]
struct Ring<B> {
    /// Each with what is to be known about it besides.
    slots: VecDeque<(Slot, B)>,
    /// The place of the next one.
    next: u64,
    /// The same modulo the number of identifiers: acknowledgements are found without a division.
    next_offset: u16,
    /// Slots at and behind this index have not been sent on this connection.
    sent: u32,
    /// Slots before `sent` that are not done: what counts against the client's Receive Maximum.
    outstanding: u32,
    identifiers: Identifiers,
}

impl<B: Copy> Ring<B> {
    fn new(identifiers: Identifiers) -> Ring<B> {
        Ring {
            slots: VecDeque::new(),
            next: 0,
            next_offset: 0,
            sent: 0,
            outstanding: 0,
            identifiers,
        }
    }

    /// Slots that may be added: all identifiers of those that are there differ [MQTT-2.2.1-4]. Where not all identifiers are
    /// of one lane, the session is kept, and a third is spared: who is done with a message may use its identifier again
    /// before that is known to be kept.
    fn free(&self) -> usize {
        let count = usize::from(self.identifiers.count);
        let most = if self.identifiers == ALL { count } else { count / 3 * 2 };
        most.saturating_sub(self.slots.len())
    }

    fn has_unsent(&self) -> bool {
        (self.sent as usize) < self.slots.len()
    }

    fn first(&self) -> u64 {
        self.next - self.slots.len() as u64
    }

    fn next_identifier(&self) -> u16 {
        self.identifiers.first + self.next_offset
    }

    fn go_on_at(&mut self, place: u64) {
        self.next = place;
        self.next_offset = self.identifiers.of(place) - self.identifiers.first;
    }

    fn push(&mut self, slot: Slot, besides: B, is_sent: bool) -> u16 {
        let identifier = self.next_identifier();
        self.next += 1;
        self.next_offset = if self.next_offset + 1 == self.identifiers.count {
            0
        } else {
            self.next_offset + 1
        };
        let is_done = matches!(slot, Slot::Done);
        self.slots.push_back((slot, besides));
        if is_sent {
            self.sent += 1;
            self.outstanding += u32::from(!is_done);
        }
        if is_done {
            self.trim();
        }
        identifier
    }

    fn skip_to(&mut self, place: u64, besides: B, is_sent: bool) {
        if self.slots.is_empty() && self.next < place {
            self.go_on_at(place);
        }
        while self.next < place {
            self.push(Slot::Done, besides, is_sent);
        }
    }

    fn place(&self, identifier: u16) -> Option<u64> {
        Some(self.first() + self.index(identifier)? as u64)
    }

    fn delivery(&self, identifier: u16) -> Option<&Delivery> {
        match &self.slots[self.index(identifier)?].0 {
            Slot::Publish(delivery) => Some(delivery),
            Slot::Released | Slot::Done => None,
        }
    }

    fn index(&self, identifier: u16) -> Option<usize> {
        let offset = u32::from(identifier.checked_sub(self.identifiers.first)?);
        let (count, next) = (u32::from(self.identifiers.count), u32::from(self.next_offset));
        let len = self.slots.len();
        // How far it is behind the next one; all that are as many as there are identifiers is the same one again.
        let back = if offset < next {
            next - offset
        } else {
            next + count - offset
        } as usize;
        (offset < count && back <= len).then(|| len - back)
    }

    fn slot(&mut self, identifier: u16) -> Option<(usize, &mut Slot)> {
        let index = self.index(identifier)?;
        Some((index, &mut self.slots[index].0))
    }

    fn puback(&mut self, identifier: u16) -> Acked {
        match self.slot(identifier) {
            Some((index, Slot::Publish(delivery))) if delivery.qos == QoS::AtLeastOnce => self.finish(index),
            Some((_, Slot::Publish(_) | Slot::Released)) => Acked::WrongState,
            Some((_, Slot::Done)) | None => Acked::Unknown,
        }
    }

    fn pubrec(&mut self, identifier: u16, refused: bool) -> Acked {
        match self.slot(identifier) {
            Some((index, Slot::Publish(delivery))) if delivery.qos == QoS::ExactlyOnce && refused => self.finish(index),
            Some((_, slot @ Slot::Publish(_))) => match std::mem::replace(slot, Slot::Released) {
                Slot::Publish(delivery) if delivery.qos == QoS::ExactlyOnce => Acked::Release(Some(delivery.into())),
                other => {
                    *slot = other;
                    Acked::WrongState
                }
            },
            Some((_, Slot::Released)) => Acked::Release(None),
            Some((_, Slot::Done)) | None => Acked::Unknown,
        }
    }

    fn pubcomp(&mut self, identifier: u16) -> Acked {
        match self.slot(identifier) {
            Some((index, Slot::Released)) => self.finish(index),
            Some((_, Slot::Publish(_))) => Acked::WrongState,
            Some((_, Slot::Done)) | None => Acked::Unknown,
        }
    }

    fn discard(&mut self, identifier: u16) -> Acked {
        self.index(identifier)
            .map_or(Acked::Unknown, |index| self.finish(index))
    }

    fn restart(&mut self) {
        self.sent = 0;
        self.outstanding = 0;
    }

    /// The next slot to be sent again, with its place. Those that are done are left out.
    fn next_unsent(&self) -> Option<(u64, &Slot, B)> {
        let mut unsent = self.slots.iter().enumerate().skip(self.sent as usize);
        let (index, (slot, besides)) = unsent.find(|(_, (slot, _))| !matches!(slot, Slot::Done))?;
        Some((self.first() + index as u64, slot, *besides))
    }

    /// Sends it again.
    fn resend(&mut self) -> Option<Resend> {
        let (place, slot, _) = self.next_unsent()?;
        let identifier = self.identifiers.of(place);
        let resend = match slot {
            Slot::Done => return None,
            Slot::Publish(delivery) => Resend::Publish(identifier, delivery.clone()),
            Slot::Released => Resend::Pubrel(identifier),
        };
        self.sent = (place - self.first()) as u32 + 1;
        self.outstanding += 1;
        self.pass_finished();
        Some(resend)
    }

    #[inline]
    fn finish(&mut self, index: usize) -> Acked {
        let acked = match std::mem::replace(&mut self.slots[index].0, Slot::Done) {
            Slot::Publish(delivery) => Acked::Finished(delivery.into()),
            Slot::Released => Acked::Completed,
            Slot::Done => return Acked::Unknown,
        };
        if index < self.sent as usize {
            self.outstanding -= 1;
        } else {
            self.pass_finished();
        }
        if index == 0 {
            self.trim();
        }
        acked
    }

    /// What is done needs no sending: so there is something unsent only if there is something to be sent.
    fn pass_finished(&mut self) {
        while matches!(self.slots.get(self.sent as usize), Some((Slot::Done, _))) {
            self.sent += 1;
        }
    }

    /// Takes finished slots off the front.
    #[inline]
    fn trim(&mut self) {
        while matches!(self.slots.front(), Some((Slot::Done, _))) {
            self.slots.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        if self.slots.is_empty() && self.slots.capacity() > SMALL_RING {
            self.slots = VecDeque::new();
        }
    }

    fn into_unacknowledged(self) -> impl Iterator<Item = Delivery> {
        self.slots.into_iter().filter_map(|(slot, _)| match slot {
            Slot::Publish(delivery) => Some(delivery),
            Slot::Released | Slot::Done => None,
        })
    }
}

/// All that is in flight.
#[derive(Debug)]
pub(crate) struct Inflight {
    live: Ring<()>,
    /// Retained messages, each with the place of the live message before which it was sent. Only of sessions that are kept.
    replayed: Option<Box<Ring<u64>>>,
}

impl Default for Inflight {
    fn default() -> Inflight {
        Inflight {
            live: Ring::new(ALL),
            replayed: None,
        }
    }
}

impl Inflight {
    /// The session is kept in a store. To be called before anything is in flight.
    pub(crate) fn keep(&mut self) {
        debug_assert!(self.is_empty() && self.live.next == 0);
        self.live.identifiers = LIVE;
    }

    /// Live messages that are not done, by their places.
    pub(crate) fn sent(&self) -> impl Iterator<Item = (u64, Sent)> {
        let slots = (self.live.first()..).zip(&self.live.slots);
        slots.filter_map(|(place, (slot, ()))| match slot {
            Slot::Publish(delivery) => {
                let share = delivery.any_share().cloned();
                Some((place, Some((Arc::clone(&delivery.message), share))))
            }
            Slot::Released => Some((place, None)),
            Slot::Done => None,
        })
    }

    /// Goes on where a session was that had been stored.
    pub(crate) fn restore_next(&mut self, live: u64, replayed: u64) {
        self.keep();
        self.live.go_on_at(live);
        if replayed > 0 {
            self.replays().go_on_at(replayed);
        }
    }

    /// How many further messages may be sent with this Receive Maximum [MQTT-3.3.4-9].
    ///
    /// Zero while messages of an earlier connection wait to be sent again, since those go first [MQTT-4.6.0-1].
    pub(crate) fn room(&self, receive_maximum: usize) -> usize {
        if self.is_resending() {
            return 0;
        }
        let free = self.live.free();
        let free = self
            .replayed
            .as_ref()
            .map_or(free, |replayed| free.min(replayed.free()));
        receive_maximum.saturating_sub(self.outstanding()).min(free)
    }

    fn outstanding(&self) -> usize {
        let replayed = self.replayed.as_ref().map_or(0, |replayed| replayed.outstanding);
        (self.live.outstanding + replayed) as usize
    }

    /// The Packet Identifier of the message that is [pushed](Inflight::push) next.
    pub(crate) fn next_identifier(&self) -> u16 {
        self.live.next_identifier()
    }

    /// The place from which on live messages would have an identifier that is in flight, or nearly.
    pub(crate) fn below(&self) -> u64 {
        match self.live.identifiers == ALL {
            true => u64::MAX,
            false => self.live.first() + IDENTIFIERS_AT_ONCE,
        }
    }

    /// All live places below this one are finished.
    pub(crate) fn first_place(&self) -> u64 {
        self.live.first()
    }

    /// The live message with this Packet Identifier, if the client has not confirmed it.
    pub(crate) fn delivery(&self, identifier: u16) -> Option<&Delivery> {
        self.live.delivery(identifier)
    }

    /// Whether no live message is in flight.
    pub(crate) fn has_no_live(&self) -> bool {
        self.live.slots.is_empty()
    }

    /// The place of the next live message.
    pub(crate) fn next_place(&self) -> u64 {
        self.live.next
    }

    /// Takes a message into flight and gives it its Packet Identifier. To be called only while there is [room].
    ///
    /// [room]: Inflight::room
    pub(crate) fn push(&mut self, delivery: Delivery) -> u16 {
        debug_assert!(!self.live.has_unsent() && delivery.qos > QoS::AtMostOnce);
        self.live.push(Slot::Publish(delivery), (), true)
    }

    /// The places up to this one are finished without having been in flight.
    pub(crate) fn skip_to(&mut self, place: u64) {
        self.live.skip_to(place, (), true);
    }

    /// The place and the Packet Identifier of the retained message that is [pushed](Inflight::push_replayed) next.
    pub(crate) fn next_replayed(&self) -> (u64, u16) {
        let next = self
            .replayed
            .as_ref()
            .map(|replayed| (replayed.next, replayed.next_identifier()));
        next.unwrap_or((0, REPLAYED.first))
    }

    /// Takes a retained message into flight, for a session that is kept.
    pub(crate) fn push_replayed(&mut self, delivery: Delivery) {
        let before = self.live.next;
        self.replays().push(Slot::Publish(delivery), before, true);
    }

    fn replays(&mut self) -> &mut Ring<u64> {
        self.replayed.get_or_insert_with(|| Box::new(Ring::new(REPLAYED)))
    }

    /// Puts back a message of a session that had been stored: `None` if it was released. It counts as not sent.
    pub(crate) fn restore(&mut self, lane: Lane, place: u64, before: u64, delivery: Option<Delivery>) {
        let slot = delivery.map_or(Slot::Released, Slot::Publish);
        match lane {
            Lane::Live => {
                self.live.skip_to(place, (), false);
                self.live.push(slot, (), false);
            }
            Lane::Replayed => {
                let ring = self.replays();
                ring.skip_to(place, before, false);
                ring.push(slot, before, false);
            }
        }
    }

    /// Where the message with this Packet Identifier is, if it is in flight.
    pub(crate) fn place(&self, identifier: u16) -> Option<(Lane, u64)> {
        if let Some(replayed) = self.replayed.as_ref().filter(|ring| ring.identifiers.has(identifier)) {
            return replayed.place(identifier).map(|place| (Lane::Replayed, place));
        }
        self.live.place(identifier).map(|place| (Lane::Live, place))
    }

    /// PUBACK.
    pub(crate) fn puback(&mut self, identifier: u16) -> Acked {
        match &mut self.replayed {
            Some(replayed) if replayed.identifiers.has(identifier) => replayed.puback(identifier),
            _ => self.live.puback(identifier),
        }
    }

    /// PUBREC; `refused` if its Reason Code is 0x80 or above, which ends the delivery [MQTT-4.4.0-2].
    pub(crate) fn pubrec(&mut self, identifier: u16, refused: bool) -> Acked {
        match &mut self.replayed {
            Some(replayed) if replayed.identifiers.has(identifier) => replayed.pubrec(identifier, refused),
            _ => self.live.pubrec(identifier, refused),
        }
    }

    /// PUBCOMP.
    pub(crate) fn pubcomp(&mut self, identifier: u16) -> Acked {
        match &mut self.replayed {
            Some(replayed) if replayed.identifiers.has(identifier) => replayed.pubcomp(identifier),
            _ => self.live.pubcomp(identifier),
        }
    }

    /// Starts over on a new connection: nothing that is in flight has been sent on it yet.
    pub(crate) fn restart(&mut self) {
        self.live.restart();
        if let Some(replayed) = &mut self.replayed {
            replayed.restart();
        }
    }

    /// The next thing to send again, oldest first, or `None` when all was sent or the Receive Maximum is reached.
    ///
    /// A PUBREL is sent whatever the quota [MQTT-4.9.0-3].
    pub(crate) fn next_resend(&mut self, receive_maximum: usize) -> Option<Resend> {
        if !self.can_resend(receive_maximum) {
            return None;
        }
        match (self.next_unsent().map(|(lane, _)| lane), &mut self.replayed) {
            (Some(Lane::Replayed), Some(replayed)) => replayed.resend(),
            _ => self.live.resend(),
        }
    }

    /// Whether [`next_resend`](Inflight::next_resend) would yield something.
    pub(crate) fn can_resend(&self, receive_maximum: usize) -> bool {
        match self.next_unsent() {
            Some((_, Slot::Released)) => true,
            Some(_) => self.outstanding() < receive_maximum,
            None => false,
        }
    }

    /// What was sent first of what is to be sent again.
    fn next_unsent(&self) -> Option<(Lane, &Slot)> {
        let live = self.live.next_unsent();
        let replayed = self.replayed.as_ref().and_then(|replayed| replayed.next_unsent());
        match (live, replayed) {
            (Some((place, slot, ())), Some((_, _, before))) if before > place => Some((Lane::Live, slot)),
            (_, Some((_, slot, _))) => Some((Lane::Replayed, slot)),
            (Some((_, slot, ())), None) => Some((Lane::Live, slot)),
            (None, None) => None,
        }
    }

    /// Whether messages of an earlier connection wait to be sent again.
    pub(crate) fn is_resending(&self) -> bool {
        self.live.has_unsent() || self.replayed.as_ref().is_some_and(|replayed| replayed.has_unsent())
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.slots.is_empty() && self.replayed.as_ref().is_none_or(|replayed| replayed.slots.is_empty())
    }

    /// Gives up a message that can't be sent to this client, as if it had been acknowledged [MQTT-3.1.2-25].
    pub(crate) fn discard(&mut self, identifier: u16) -> Acked {
        match &mut self.replayed {
            Some(replayed) if replayed.identifiers.has(identifier) => replayed.discard(identifier),
            _ => self.live.discard(identifier),
        }
    }

    /// Slots that are not done.
    #[cfg(test)]
    pub(crate) fn unsettled(&self) -> usize {
        let live = self.live.slots.iter().map(|(slot, ())| slot);
        let replayed = self
            .replayed
            .iter()
            .flat_map(|ring| ring.slots.iter().map(|(slot, _)| slot));
        live.chain(replayed).filter(|slot| !matches!(slot, Slot::Done)).count()
    }

    /// The messages whose acknowledgement is still due, in the order of sending within each lane.
    pub(crate) fn into_unacknowledged(self) -> impl Iterator<Item = Delivery> {
        let replayed = self.replayed.into_iter();
        replayed
            .flat_map(|ring| ring.into_unacknowledged())
            .chain(self.live.into_unacknowledged())
    }
}

/// Slots that an idle session may keep allocated.
const SMALL_RING: usize = 32;

#[cfg(test)]
#[path = "inflight_tests.rs"]
mod tests;
