//! Writes that Redis has confirmed and lost: what is promised of that time, and what is not (tests/cluster/PROTOCOL.md, "When
//! Redis loses writes").

use super::history::History;
use super::messages::Message;
use super::subscriptions::Subscription;
use super::{Place, Rule};
use crate::event::{Event, Name, What, World};

/// From the first write that was lost to when all nodes have put that in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    from: Place,
    /// Where the server is killed that has confirmed it.
    struck: Place,
    to: Place,
    /// A node was killed, ended, or was declared dead meanwhile: what it had written and remembered is lost.
    is_total: bool,
}

/// Microseconds for which a node remembers who was connected to it: their sessions may end.
const AWHILE: u64 = 11_000_000;

impl Loss {
    /// That of a log, if there is one. Several are one, from the first to the order behind the last.
    pub(super) fn find(events: &[Event]) -> Option<Loss> {
        let worlds = || {
            let of = |(place, event): (Place, &Event)| match event.what {
                What::World(world) => Some((place, world)),
                _ => None,
            };
            events.iter().enumerate().filter_map(of)
        };
        let (from, _) = worlds().find(|(_, world)| *world == World::Loses)?;
        let mut kills = worlds().filter(|(place, world)| *place > from && *world == World::StoreKill);
        let struck = kills.next().map_or(from, |(place, _)| place);
        let last = kills.next_back().map_or(struck, |(place, _)| place);
        let is_order = |(place, world): &(Place, World)| *place > last && *world == World::Ready;
        let to = worlds().find(is_order).map_or(events.len(), |(place, _)| place);
        // Who was to end before may have written until its end.
        let is_rest = |(place, world): &(Place, World)| *place < from && *world == World::Ready;
        let rest = worlds().rfind(is_rest).map_or(0, |(place, _)| place);
        let takes_memory = |world| matches!(world, World::Kill | World::Term | World::Dead);
        let is_total = worlds().any(|(place, world)| (rest..to).contains(&place) && takes_memory(world));
        Some(Loss {
            from,
            struck,
            to,
            is_total,
        })
    }
}

impl History<'_> {
    /// Whether it was there before all was in order again: order, QoS 2 and wills once are promised for what comes behind that.
    pub(super) fn is_before_order(&self, place: Place) -> bool {
        self.loss.is_some_and(|loss| place < loss.to)
    }

    /// Whether something that was done here, and confirmed there, may be undone.
    pub(super) fn may_be_undone(&self, done: Place, confirmed: Option<Place>) -> bool {
        let is_kept = |loss: Loss| done > loss.to || confirmed.is_some_and(|place| place < loss.from);
        self.loss.is_some_and(|loss| !is_kept(loss))
    }

    /// Whether an acknowledged message is promised to a subscription that was granted there. Of what was acknowledged while
    /// writes were lost, to those that had been granted before; and not if a node has died meanwhile.
    pub(super) fn is_promised(&self, message: &Message, granted: Place) -> bool {
        let Some(Loss { from, to, is_total, .. }) = self.loss else {
            return true;
        };
        match self.may_be_undone(message.first, message.acked) {
            false => !is_total || !(from..to).contains(&granted),
            true => !is_total && granted < from,
        }
    }

    /// Whether a client may have its session as it was before, here: what it did last went with a node that has died.
    pub(super) fn may_be_older(&self, place: Place) -> bool {
        self.loss.is_some_and(|loss| loss.is_total && place > loss.struck)
    }

    /// Whether this client's session may have ended, as it was connected when writes were lost, or not long before.
    pub(super) fn may_have_ended(&self, place: Place, client: &Name) -> bool {
        let (Some(loss), Some(client)) = (self.loss, self.clients.get(client)) else {
            return false;
        };
        let life = &client.life;
        let was_told = life.accepted_at.is_some_and(|accepted| accepted > loss.to);
        let recent = |end: &Place| self.at(*end) + AWHILE > self.at(loss.from);
        place > loss.struck && !was_told && life.ends.iter().any(recent)
    }

    /// Whether the session that is present here may be a new one: a CONNECT has made it that had no answer.
    pub(super) fn may_be_another(&self, place: Place, client: &Name) -> bool {
        let unanswered = self.clients.get(client).and_then(|client| client.life.unanswered);
        let is_since = |loss: Loss| unanswered.is_some_and(|unanswered| unanswered > loss.struck);
        self.may_have_ended(place, client) && self.loss.is_some_and(is_since)
    }

    /// From here on nothing is expected of what the session had before.
    pub(super) fn take_for_another(&mut self, place: Place, client: &Name) {
        let client = self.client(client);
        client.inbound.new_session(true);
        let (session, recorded) = (client.life.session, client.outbound.recorded().collect::<Vec<_>>());
        recorded
            .into_iter()
            .for_each(|index| self.messages[index].is_doubtful = true);
        if let Some(session) = session {
            self.sessions[session].anew = Some(place);
        }
    }

    /// Where a subscription was granted that the session has for sure.
    pub(super) fn granted(&self, subscription: &Subscription) -> Option<Place> {
        let anew = subscription.session.and_then(|session| self.sessions[session].anew);
        subscription.granted_after(anew)
    }

    /// Whether a connection that has lost its client there may not know it here.
    pub(super) fn may_not_know(&self, place: Place, lost: Place) -> bool {
        self.loss.is_some_and(|loss| lost > loss.from && place < loss.to)
    }

    /// Whether a subscription had ended, or was granted again, when the message was sent, as its session had ended or may have.
    pub(super) fn is_known_to_be_over(&self, subscription: &Subscription, message: &Message) -> bool {
        let session = subscription.session.map(|session| &self.sessions[session]);
        let over = session.and_then(|session| session.anew.or(session.until.filter(|_| session.is_told)));
        over.is_some_and(|over| over < message.first)
    }

    /// What is wrong, unless it comes of a session that is as it was before.
    pub(super) fn fault_unless_older(&mut self, place: Place, since: Option<Place>, rule: Rule, text: String) {
        let is_old = since.is_none_or(|since| self.is_before_order(since));
        if !(is_old && self.may_be_older(place)) {
            self.fault(place, rule, text);
        }
    }
}
