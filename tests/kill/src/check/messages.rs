//! Messages, from both sides: what publishers have sent and had acknowledged, and what subscribers have received.

use std::collections::HashMap;

use super::history::History;
use super::{Place, Rule};
use crate::event::{Ack, Name, Publish};

/// What a client has published.
pub struct Message {
    pub label: Name,
    pub topic: Name,
    pub qos: u8,
    pub retain: bool,
    /// Without a payload.
    pub empty: bool,
    pub publisher: Name,
    /// Counts the messages of the publisher in the order in which they were first sent.
    pub order: usize,
    pub first: Place,
    /// Each PUBLISH, the first included.
    pub sent: Vec<Place>,
    /// Where PUBACK or PUBCOMP was received.
    pub acked: Option<Place>,
    /// Its PUBREC may have been one of a session before: then PUBCOMP says nothing.
    pub is_doubtful: bool,
}

/// A PUBLISH that a client has received.
pub struct Delivery {
    pub place: Place,
    pub client: Name,
    /// Counts the sessions of the client as the broker has told: a CONNACK without Session Present begins a new one.
    pub receipt: usize,
    /// The session as the client expects it.
    pub session: Option<usize>,
    pub publish: Publish,
    /// What it is a copy of, if it is known.
    pub message: Option<usize>,
    /// Not a repetition under the same Packet Identifier: the application is given it.
    pub fresh: bool,
}

/// Messages on their way from a client, by their Packet Identifiers.
#[derive(Clone, Default)]
pub(super) struct Outbound(HashMap<u16, Leaving>);

#[derive(Clone)]
struct Leaving {
    message: usize,
    recorded: bool,
}

/// Messages on their way to a client, by their Packet Identifiers.
#[derive(Default)]
pub(super) struct Inbound {
    slots: HashMap<u16, Slot>,
    /// See [`Delivery::receipt`].
    receipt: usize,
    /// The session may be the one before all the same.
    pub(super) is_doubtful: bool,
}

struct Slot {
    label: Name,
    /// Where it came first.
    since: Place,
    qos: u8,
    /// The client has sent PUBREC.
    recorded: bool,
    /// Where the client has sent PUBACK or PUBCOMP.
    done: Option<Place>,
}

impl Message {
    pub(super) fn new(publish: &Publish, publisher: &Name, order: usize, place: Place) -> Message {
        Message {
            label: publish.label.clone(),
            topic: publish.topic.clone(),
            qos: publish.qos,
            retain: publish.retain,
            empty: publish.empty,
            publisher: publisher.clone(),
            order,
            first: place,
            sent: Vec::new(),
            acked: None,
            is_doubtful: false,
        }
    }

    /// Whether it may have been on its way between these places.
    pub(super) fn is_moving(&self, from: Place, to: Place) -> bool {
        self.sent.iter().any(|sent| (from..to).contains(sent))
    }
}

impl Outbound {
    pub(super) fn sent(&mut self, id: u16, message: usize) {
        self.0.insert(
            id,
            Leaving {
                message,
                recorded: false,
            },
        );
    }

    /// The session is a new one.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The message that has this identifier.
    pub(super) fn message(&self, id: u16) -> Option<usize> {
        self.0.get(&id).map(|leaving| leaving.message)
    }

    /// Messages that had PUBREC.
    pub(super) fn recorded(&self) -> impl Iterator<Item = usize> {
        let recorded = self.0.values().filter(|leaving| leaving.recorded);
        recorded.map(|leaving| leaving.message)
    }

    /// Messages that wait for their acknowledgement.
    pub(super) fn waiting(&self) -> impl Iterator<Item = usize> {
        self.0.values().map(|leaving| leaving.message)
    }
}

impl Inbound {
    pub(super) fn record(&mut self, id: u16) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.recorded = true;
        }
    }

    pub(super) fn finish(&mut self, ack: Ack, id: u16, place: Place) {
        let qos = if ack == Ack::Puback { 1 } else { 2 };
        if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.qos == qos) {
            slot.done = Some(place);
        }
    }

    pub(super) fn new_session(&mut self, is_doubtful: bool) {
        self.slots.clear();
        self.receipt += 1;
        self.is_doubtful = is_doubtful;
    }
}

impl History<'_> {
    /// PUBACK, PUBREC or PUBCOMP.
    pub(super) fn answered(&mut self, place: Place, client: &Name, ack: Ack, id: u16, code: u8) {
        let name = ack.name();
        let outbound = &mut self.client(client).outbound.0;
        let Some(leaving) = outbound.get_mut(&id) else {
            return self.fault(
                place,
                Rule::Answer,
                format!("{client}: {name} for {id}, which is not in use"),
            );
        };
        let index = leaving.message;
        let was_recorded = std::mem::replace(&mut leaving.recorded, ack == Ack::Pubrec);
        if ack != Ack::Pubrec {
            outbound.remove(&id);
            self.messages[index].acked = Some(place);
        }
        let Message { label, qos, .. } = &self.messages[index];
        let fits = if ack == Ack::Puback { *qos == 1 } else { *qos == 2 };
        let refused = code >= 0x80 && ack != Ack::Pubcomp;
        if !fits || refused || (ack == Ack::Pubcomp && !was_recorded) {
            let text = format!("{client}: {label}, QoS {qos}, is answered by {name} with code {code:#04x}");
            self.fault(place, Rule::Answer, text);
        }
    }

    /// A PUBLISH to a client.
    pub(super) fn delivered(&mut self, place: Place, client: &Name, publish: &Publish) {
        let (receipt, fresh) = match publish.qos {
            0 => (self.client(client).inbound.receipt, true),
            _ => self.take_place(place, client, publish),
        };
        let message = self.labels.get(&publish.label).copied();
        let session = self.client(client).life.session;
        self.deliveries.push(Delivery {
            place,
            client: client.clone(),
            receipt,
            session,
            publish: publish.clone(),
            message,
            fresh,
        });
    }

    /// Puts a message in the place of its Packet Identifier; whether it is a new one.
    fn take_place(&mut self, place: Place, client: &Name, publish: &Publish) -> (usize, bool) {
        let inbound = &mut self.client(client).inbound;
        let receipt = inbound.receipt;
        let slot = inbound.slots.get(&publish.id);
        let (open, done) = (slot.filter(|slot| slot.done.is_none()), slot.and_then(|slot| slot.done));
        let is_same = slot.is_some_and(|slot| slot.label == publish.label && slot.qos == publish.qos);
        // An identifier comes again only after all others have been used, with another message.
        let fresh = match publish.qos {
            2 => open.is_none(),
            _ => !is_same,
        };
        if let Some(slot) = open.filter(|_| !is_same) {
            let text = format!(
                "{client}: {} has {}, which {} has still",
                publish.label, publish.id, slot.label
            );
            let since = Some(slot.since);
            self.fault_unless_older(place, since, Rule::Identifier, text);
        } else if open.is_none() {
            let slot = Slot {
                label: publish.label.clone(),
                since: place,
                qos: publish.qos,
                recorded: false,
                done: None,
            };
            inbound.slots.insert(publish.id, slot);
        }
        if let Some(done) = done.filter(|_| is_same && publish.qos == 1) {
            self.comes_again(place, client, done, &format!("{}, which had PUBACK", publish.label));
        }
        (receipt, fresh)
    }

    /// A PUBREL to a client.
    pub(super) fn released(&mut self, place: Place, client: &Name, id: u16) {
        let inbound = &self.client(client).inbound;
        match inbound.slots.get(&id) {
            Some(Slot { done: Some(done), .. }) => {
                let done = *done;
                self.comes_again(place, client, done, &format!("PUBREL for {id}, which had PUBCOMP"));
            }
            Some(slot) if slot.qos == 2 && slot.recorded => {}
            None if inbound.is_doubtful => {}
            slot => {
                let since = slot.map(|slot| slot.since);
                let text = format!("{client}: PUBREL for {id}, which had no PUBREC");
                self.fault_unless_older(place, since, Rule::Identifier, text);
            }
        }
    }

    /// Something that the client has finished comes again. It may, if the broker may have missed that.
    fn comes_again(&mut self, place: Place, client: &Name, done: Place, what: &str) {
        let faults = self.faults.iter().map(|(at, _)| *at);
        let breaks = faults.chain(self.clients[client].life.ends.iter().copied());
        let first = breaks.filter(|at| *at > done && *at < place).min();
        let is_known = first.is_none_or(|at| self.at(at) > self.at(done) + self.long());
        if is_known && !self.is_troubled(done) {
            let before = self.at(place) - self.at(done);
            let text = format!("{client}: {what} {before} us before");
            self.fault_unless_older(place, Some(done), Rule::Repeat, text);
        }
    }
}
