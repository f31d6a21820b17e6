//! What a client must not be told before it is kept in the store.
//!
//! Answers that rest on a change of the session state, or of others' queues, are held until the batch of the journal that has
//! the change is durable; and since answers keep their order [MQTT-4.6.0-2], so is what comes behind them. Messages are held
//! in the queue (`session/outbox/kept.rs`), so that QoS 0 goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Client;
use crate::broker::RouteScratch;
use crate::session::{Acked, Delivery, Inflight};
use crate::store::{Journal, Lane, Op, Uid};
use crate::topic::TopicFilter;

/// Answers that wait.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// From which byte on which batch is to be waited for.
    gates: VecDeque<(u64, usize)>,
    /// The last batch of which the session will be told.
    told: u64,
    /// The last batch that has a retained message which is among the bytes.
    replayed: u64,
}

/// Answers that may wait before nothing more is read from the client.
const HELD_LIMIT: usize = 256 * 1024;
/// What may stay allocated while nothing waits.
const SMALL: usize = 4096;

impl Held {
    fn gate(&mut self, batch: u64) {
        if self.gates.back().is_none_or(|(last, _)| *last < batch) {
            self.gates.push_back((batch, self.bytes.len()));
        }
    }

    /// How many bytes need not wait any more.
    fn release(&mut self, durable: u64) -> usize {
        while self.gates.front().is_some_and(|(batch, _)| *batch <= durable) {
            self.gates.pop_front();
        }
        self.gates.front().map_or(self.bytes.len(), |(_, start)| *start)
    }

    fn take(&mut self, end: usize, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.bytes[..end]);
        self.bytes.drain(..end);
        self.gates.iter_mut().for_each(|(_, start)| *start -= end);
        if self.bytes.is_empty() {
            self.bytes.shrink_to(SMALL);
        }
    }
}

impl Client {
    fn journal(&self) -> Option<&Arc<Journal>> {
        self.core.journal.as_ref()
    }

    /// The last batch that is durable.
    pub(super) fn durable(&self) -> u64 {
        self.journal().map_or(0, |journal| journal.durable())
    }

    /// Where an answer goes: to the output, or to those that wait.
    pub(super) fn answers(&mut self) -> &mut Vec<u8> {
        let Some(journal) = &self.core.journal else {
            return &mut self.output;
        };
        let gate = self.session.gate;
        let is_free = self.held.as_ref().is_none_or(|held| held.bytes.is_empty());
        if is_free && gate <= journal.durable() {
            return &mut self.output;
        }
        let held = self.held.get_or_insert_default();
        held.gate(gate);
        &mut held.bytes
    }

    /// Moves answers to the output that need not wait any more.
    pub(crate) fn release_answers(&mut self) {
        let (Some(held), Some(journal)) = (&mut self.held, &self.core.journal) else {
            return;
        };
        if !held.bytes.is_empty() {
            let end = held.release(journal.durable());
            held.take(end, &mut self.output);
        }
    }

    /// Whether some of what waits need not any more.
    pub(crate) fn can_release_answers(&self) -> bool {
        let (Some(held), Some(journal)) = (&self.held, &self.core.journal) else {
            return false;
        };
        let durable = journal.durable();
        !held.bytes.is_empty()
            && held
                .gates
                .front()
                .is_none_or(|(batch, start)| *batch <= durable || *start > 0)
    }

    /// Whether answers wait.
    pub(crate) fn holds_answers(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.bytes.is_empty())
    }

    /// Whether retained messages wait, which go before all that is live.
    pub(super) fn holds_messages(&self) -> bool {
        let (Some(held), Some(journal)) = (&self.held, &self.core.journal) else {
            return false;
        };
        held.replayed > journal.durable()
    }

    /// Whether nothing more should be read from the client: too much waits, its own or everybody's.
    pub(crate) fn is_held_back(&self) -> bool {
        let Some(journal) = &self.core.journal else {
            return false;
        };
        let answers = self.held.as_ref().map_or(0, |held| held.bytes.len());
        answers > HELD_LIMIT || (journal.is_full() && self.session.gate > journal.durable())
    }

    /// Answers from here on rest on all that was written by now.
    pub(super) fn wait_for_writes(&mut self, scratch: &mut RouteScratch) {
        let Some(batch) = scratch.pen().batch() else { return };
        self.session.gate = self.session.gate.max(batch);
        let held = self.held.get_or_insert_default();
        if held.told < batch {
            held.told = batch;
            scratch.pen().tell(Arc::clone(&self.session.outbox) as _);
        }
    }

    /// A retained message is among the answers that wait for what was just written.
    pub(super) fn hold_message(&mut self) {
        let gate = self.session.gate;
        self.held.get_or_insert_default().replayed = gate;
    }

    /// Writes down a change of the session, if the session is kept. Nothing waits for it.
    pub(super) fn note<'a>(&self, scratch: &mut RouteScratch, op: impl FnOnce(Uid) -> Op<'a>) {
        if let Some(journal) = self.journal().filter(|_| self.session.kept) {
            let uid = self.session.outbox.key;
            scratch.pen().write(journal, &op(uid));
        }
    }

    /// Writes down a change of the session, if the session is kept. Answers wait for it.
    pub(super) fn record<'a>(&mut self, scratch: &mut RouteScratch, op: impl FnOnce(Uid) -> Op<'a>) {
        self.note(scratch, op);
        self.wait_for_writes(scratch);
    }

    /// Retained messages wait to be sent: no live one is before they have been.
    pub(super) fn note_replays(&mut self, scratch: &mut RouteScratch) {
        if let Some(journal) = self
            .journal()
            .filter(|_| self.session.kept && self.session.is_replaying())
        {
            scratch.pen().write(journal, &Op::Session(self.session.record(None)));
        }
    }

    /// All retained messages have been sent. Live ones are, as soon as it is known that they may have been.
    pub(super) fn record_end_of_replays(&mut self, scratch: &mut RouteScratch) {
        if let Some(journal) = self.journal().filter(|_| self.session.kept) {
            scratch.pen().write(journal, &Op::Session(self.session.record(None)));
            self.wait_for_writes(scratch);
            self.hold_message();
        }
    }

    pub(super) fn note_unsubscribed(&self, filter: &TopicFilter, scratch: &mut RouteScratch) {
        let filter = filter.as_str();
        self.note(scratch, |uid| Op::Unsubscribe { uid, filter });
    }

    /// Lets an acknowledgement work on what is in flight, and writes down what it has changed. PUBREL, the answer to a
    /// PUBREC, waits: whoever has released the message has forgotten that it had it.
    pub(super) fn acknowledged(
        &mut self,
        scratch: &mut RouteScratch,
        identifier: u16,
        acknowledge: impl FnOnce(&mut Inflight) -> Acked,
    ) -> Acked {
        if self.session.membership.is_some() {
            return self.acknowledged_by_member(scratch, identifier, acknowledge);
        }
        let place = if self.session.kept {
            self.session.inflight.place(identifier)
        } else {
            None
        };
        let before = self.session.inflight.first_place();
        let acked = acknowledge(&mut self.session.inflight);
        let Some((lane, index)) = place else { return acked };
        match &acked {
            Acked::Finished(_) | Acked::Completed => {
                self.note(scratch, |uid| Op::Done { uid, lane, index });
                self.note_finished(scratch, before);
            }
            Acked::Release(Some(_)) => self.record(scratch, |uid| Op::Released { uid, lane, index }),
            Acked::Release(None) | Acked::Unknown | Acked::WrongState => {}
        }
        acked
    }

    /// The client has a message: if that came by the queue of its Shared Subscriptions, nobody else is to get it.
    #[cold]
    fn acknowledged_by_member(
        &mut self,
        scratch: &mut RouteScratch,
        identifier: u16,
        acknowledge: impl FnOnce(&mut Inflight) -> Acked,
    ) -> Acked {
        let delivery = self.session.inflight.delivery(identifier);
        let place = delivery.and_then(Delivery::member_place);
        let acked = acknowledge(&mut self.session.inflight);
        if let (Some(place), Acked::Finished(_) | Acked::Release(_)) = (place, &acked) {
            self.note_done_by_member(scratch, place);
        }
        acked
    }

    /// The message at this place of the queue of its Shared Subscriptions is finished.
    pub(super) fn note_done_by_member(&self, scratch: &mut RouteScratch, index: u64) {
        if let (Some(journal), Some(membership)) = (self.journal(), &self.session.membership) {
            let (uid, lane) = (membership.queue.key, Lane::Live);
            scratch.pen().write(journal, &Op::Done { uid, lane, index });
        }
    }

    /// The identifier of what was just finished is used again when that is durable.
    fn note_finished(&mut self, scratch: &mut RouteScratch, before: u64) {
        let durable = self.durable();
        if let Some(batch) = scratch.pen().batch()
            && self.session.finished_in(before, batch, durable)
        {
            scratch.pen().tell(Arc::clone(&self.session.outbox) as _);
        }
    }

    /// A message has been given up that was in flight, or was to be next.
    pub(super) fn note_done(&self, scratch: &mut RouteScratch, lane: Lane, index: u64) {
        self.note(scratch, |uid| Op::Done { uid, lane, index });
    }
}
