//! Connections that their clients have left open for another one. Until a CONNECT of the client succeeds elsewhere such a
//! connection may be its owner; from then on it is not.
//!
//! What it is given may have been on its way for long. So only this is wrong: what nobody could have given it before, since
//! it was published, or asked for, after the CONNACK of the other connection had been read.

use std::collections::HashSet;

use super::history::History;
use super::messages::Outbound;
use super::{Place, Rule, Violation};
use crate::event::{Ack, Name, Step};

pub struct Ghost {
    client: Name,
    /// Where the client was accepted on another connection.
    lost: Option<Place>,
    is_open: bool,
    /// What the client had on its way by this connection.
    outbound: Outbound,
    /// Packet Identifiers of its own messages, and of those for which it has sent PUBREC.
    sent: HashSet<u16>,
    recorded: HashSet<u16>,
}

impl History<'_> {
    /// A client leaves a connection.
    pub(super) fn left(&mut self, client: &Name, ghost: &Name) {
        let record = Ghost {
            client: client.clone(),
            lost: None,
            is_open: true,
            outbound: self.client(client).outbound.clone(),
            sent: HashSet::new(),
            recorded: HashSet::new(),
        };
        self.ghosts.insert(ghost.clone(), record);
    }

    /// A client is accepted: all connections that it has left have lost it.
    pub(super) fn loses(&mut self, place: Place, client: &Name) {
        let own = self.ghosts.values_mut().filter(|ghost| ghost.client == *client);
        own.for_each(|ghost| _ = ghost.lost.get_or_insert(place));
    }

    pub(super) fn ghost_sent(&mut self, place: Place, name: &Name, step: &Step) {
        match step {
            Step::Publish(publish) => {
                self.send(place, name, publish);
                self.ghost(name).sent.insert(publish.id);
            }
            Step::Ack(Ack::Pubrec, id, _) => _ = self.ghost(name).recorded.insert(*id),
            _ => {}
        }
    }

    pub(super) fn ghost_got(&mut self, place: Place, name: &Name, step: &Step) {
        let lost = self.ghost(name).lost;
        let may_not_know = lost.is_some_and(|lost| self.may_not_know(place, lost));
        let ghost = self.ghost(name);
        let wrong = match step {
            Step::Publish(publish) => {
                let message = self.labels.get(&publish.label).map(|index| &self.messages[*index]);
                message.is_some_and(|message| lost.is_some_and(|lost| message.first > lost)) && !may_not_know
            }
            Step::Ack(Ack::Pubrel, id, _) => ghost.recorded.contains(id) && !may_not_know,
            Step::Ack(_, id, _) => ghost.sent.contains(id) && !may_not_know,
            _ => false,
        };
        if wrong {
            self.fault(
                place,
                Rule::Owner,
                format!("{name} has lost its client, and gets {step}"),
            );
        } else if let Step::Ack(Ack::Puback | Ack::Pubcomp, id, _) = step
            && let Some(index) = self.ghost(name).outbound.message(*id)
        {
            self.messages[index].acked.get_or_insert(place);
        }
    }

    pub(super) fn ghost_ended(&mut self, name: &Name) {
        self.ghost(name).is_open = false;
    }

    /// In the end none is open.
    pub(super) fn ghosts_are_gone(&mut self, place: Place) {
        let open = self
            .ghosts
            .iter()
            .filter(|(_, ghost)| ghost.is_open && ghost.lost.is_some());
        let names: Vec<Name> = open.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.fault(
                place,
                Rule::Owner,
                format!("{name} has lost its client, and is open still"),
            );
        }
    }

    fn ghost(&mut self, name: &Name) -> &mut Ghost {
        self.ghosts.get_mut(name).expect("events of others come here not")
    }
}

/// [`Rule::Owner`]: what such a connection has published when it had lost its client.
pub(super) fn strays(history: &History<'_>, found: &mut Vec<Violation>) {
    for delivery in &history.deliveries {
        let Some(message) = delivery.message.map(|index| &history.messages[index]) else {
            continue;
        };
        let lost = history.ghosts.get(&message.publisher).and_then(|ghost| ghost.lost);
        if lost.is_some_and(|lost| message.first > lost && !history.may_not_know(message.first, lost)) {
            let text = format!(
                "{} got {} of a connection that had lost its client (at {} us)",
                delivery.client,
                message.label,
                history.at(delivery.place)
            );
            found.push(Violation {
                rule: Rule::Owner,
                text,
            });
        }
    }
}
