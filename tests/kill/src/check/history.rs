//! Reads a log into what the rules are about: messages, sessions, subscriptions, deliveries and wills.
//!
//! What only a client's own exchange of packets shows is found here at once: wrong Session Present, wrong Packet
//! Identifiers, wrong acknowledgements.

use std::collections::{BTreeMap, HashMap};

use super::ghosts::Ghost;
use super::loss::Loss;
use super::messages::{Delivery, Inbound, Message, Outbound};
use super::session::{Life, Session};
use super::subscriptions::{Asked, Subscription};
use super::wills::WillRecord;
use super::{Place, Rule, Violation};
use crate::event::{Ack, Event, Name, Publish, Step, What, World};

pub struct History<'a> {
    pub events: &'a [Event],
    pub messages: Vec<Message>,
    pub labels: HashMap<Name, usize>,
    pub sessions: Vec<Session>,
    pub subscriptions: Vec<Subscription>,
    pub deliveries: Vec<Delivery>,
    pub wills: Vec<WillRecord>,
    /// What reading has found.
    pub found: Vec<Violation>,
    pub(super) clients: BTreeMap<Name, Client>,
    /// When the broker, or its store, was stopped or killed, or was to end.
    pub(super) faults: Vec<(Place, World)>,
    /// Where the broker began to serve.
    pub(super) starts: Vec<Place>,
    /// The broker is a cluster.
    pub(super) is_cluster: bool,
    /// Writes that Redis has lost.
    pub(super) loss: Option<Loss>,
    /// Connections that their clients have left open, by their names.
    pub(super) ghosts: BTreeMap<Name, Ghost>,
    /// How many messages each client has published.
    published: HashMap<Name, usize>,
}

/// What is known of a client at a place in the log.
#[derive(Default)]
pub(super) struct Client {
    pub(super) life: Life,
    pub(super) outbound: Outbound,
    pub(super) inbound: Inbound,
    pub(super) asked: Asked,
    /// The will of this connection.
    pub(super) will: Option<usize>,
    /// That of an earlier one, until the client is accepted again.
    pub(super) last_will: Option<usize>,
}

impl<'a> History<'a> {
    pub fn read(events: &'a [Event]) -> History<'a> {
        let mut history = History {
            events,
            messages: Vec::new(),
            labels: HashMap::new(),
            sessions: Vec::new(),
            subscriptions: Vec::new(),
            deliveries: Vec::new(),
            wills: Vec::new(),
            found: Vec::new(),
            clients: BTreeMap::new(),
            faults: Vec::new(),
            starts: Vec::new(),
            is_cluster: false,
            loss: Loss::find(events),
            ghosts: BTreeMap::new(),
            published: HashMap::new(),
        };
        for (place, event) in events.iter().enumerate() {
            history.event(place, &event.what);
        }
        history
    }

    pub fn at(&self, place: Place) -> u64 {
        self.events[place].at
    }

    /// The time of the first fault behind this place, if there is one.
    pub(super) fn next_fault(&self, place: Place) -> Option<u64> {
        let mut all = self.faults.iter().map(|(at, _)| *at);
        all.find(|at| *at > place).map(|at| self.at(at))
    }

    /// Whether what was sent here may not have been taken, because of a fault soon after; or because of one before, if a
    /// cluster had not come to rest.
    pub(super) fn is_doubtful(&self, place: Place) -> bool {
        let next = self.next_fault(place);
        self.is_troubled(place) || next.is_some_and(|at| at < self.at(place) + self.long())
    }

    /// Whether not all nodes of a cluster served here.
    pub(super) fn is_troubled(&self, place: Place) -> bool {
        let fault = self.faults.iter().rev().find(|(at, _)| *at < place);
        let is_mended = |fault: Place| self.starts.iter().any(|start| (fault..place).contains(start));
        self.is_cluster && fault.is_some_and(|(fault, _)| !is_mended(*fault))
    }

    /// See [`super::LONG`]. The nodes of a cluster and its Redis share one machine in a test.
    pub(super) fn long(&self) -> u64 {
        if self.is_cluster { 5 * super::LONG } else { super::LONG }
    }

    pub(super) fn fault(&mut self, place: Place, rule: Rule, text: String) {
        let text = format!("{text} (at {} us)", self.at(place));
        self.found.push(Violation { rule, text });
    }

    pub(super) fn client(&mut self, name: &Name) -> &mut Client {
        if !self.clients.contains_key(name) {
            self.clients.insert(name.clone(), Client::default());
        }
        self.clients.get_mut(name).expect("it has just been put there")
    }

    fn event(&mut self, place: Place, what: &What) {
        match what {
            What::Sent(ghost, step) if self.ghosts.contains_key(ghost) => self.ghost_sent(place, ghost, step),
            What::Got(ghost, step) if self.ghosts.contains_key(ghost) => self.ghost_got(place, ghost, step),
            What::Closed(ghost) | What::Dropped(ghost) if self.ghosts.contains_key(ghost) => self.ghost_ended(ghost),
            What::Sent(client, step) => self.sent(place, client, step),
            What::Got(client, step) => self.got(place, client, step),
            What::Closed(client) => {
                self.expect_close(place, client);
                self.ended(place, client);
            }
            What::Dropped(client) => self.ended(place, client),
            What::Left(client, ghost) => {
                self.left(client, ghost);
                self.ended(place, client);
            }
            What::Note(_) => {}
            What::World(World::Cluster) => self.is_cluster = true,
            What::World(World::Ready) => self.starts.push(place),
            What::World(World::End) => self.end(place),
            What::World(World::Cont | World::StoreReady | World::Loses | World::Dead) => {}
            What::World(world) => self.faults.push((place, *world)),
        }
    }

    fn sent(&mut self, place: Place, client: &Name, step: &Step) {
        match step {
            Step::Connect(connect) => self.connect(place, client, connect),
            Step::Publish(publish) => self.send(place, client, publish),
            Step::Subscribe(subscribe) => self.subscribe(place, client, subscribe),
            Step::Unsubscribe { id, filter } => self.unsubscribe(place, client, *id, filter),
            Step::Disconnect { code, expiry } => self.goodbye(place, client, *code, *expiry),
            Step::Ack(ack @ (Ack::Puback | Ack::Pubcomp), id, _) => {
                self.client(client).inbound.finish(*ack, *id, place)
            }
            Step::Ack(Ack::Pubrec, id, _) => self.client(client).inbound.record(*id),
            _ => {}
        }
    }

    fn got(&mut self, place: Place, client: &Name, step: &Step) {
        match step {
            Step::Connack { present, code } => self.connack(place, client, *present, *code),
            Step::Publish(publish) => self.delivered(place, client, publish),
            Step::Ack(Ack::Pubrel, id, _) => self.released(place, client, *id),
            Step::Ack(ack, id, code) => self.answered(place, client, *ack, *id, *code),
            Step::Suback { id, code } => self.suback(place, client, *id, *code),
            Step::Unsuback { id, code } => self.unsuback(place, client, *id, *code),
            Step::Disconnect { code, .. } => {
                let text = format!("{client} is sent DISCONNECT {code:#04x}");
                if self.client(client).life.may_be_closed(&[]) && !self.is_excused(place, client) {
                    self.fault(place, Rule::Closed, text);
                }
                self.told(place, client, *code);
            }
            Step::Connect(_) | Step::Subscribe(_) | Step::Unsubscribe { .. } => {
                self.fault(place, Rule::Answer, format!("{client} is sent {step}"));
            }
        }
    }

    /// Whether the broker may close a connection here, or refuse one: it is ending, or a cluster is not at rest, was not
    /// a moment ago, or was not since the connection was opened.
    pub(super) fn is_excused(&self, place: Place, client: &Name) -> bool {
        let opened = self.clients.get(client).and_then(|client| client.life.opened);
        let since = self
            .faults
            .iter()
            .any(|(at, _)| opened.is_none_or(|opened| *at > opened));
        let rested = self.starts.last().map_or(0, |start| self.at(*start));
        let recent = !self.faults.is_empty() && self.at(place) < rested + self.long();
        self.is_ending() || (self.is_cluster && (self.is_troubled(place) || since || recent))
    }

    /// Whether the broker was asked to end, and has not been started again.
    pub(super) fn is_ending(&self) -> bool {
        let last = self.faults.last().filter(|(_, world)| *world == World::Term);
        last.is_some_and(|(place, _)| self.starts.last().is_none_or(|start| start < place))
    }

    /// A PUBLISH of a client.
    pub(super) fn send(&mut self, place: Place, client: &Name, publish: &Publish) {
        let index = match self.labels.get(&publish.label) {
            Some(index) => *index,
            None => self.new_message(place, client, publish),
        };
        self.messages[index].sent.push(place);
        self.client(client).outbound.sent(publish.id, index);
    }

    fn new_message(&mut self, place: Place, client: &Name, publish: &Publish) -> usize {
        let order = self.published.entry(client.clone()).or_default();
        *order += 1;
        let index = self.messages.len();
        self.messages.push(Message::new(publish, client, *order, place));
        self.labels.insert(publish.label.clone(), index);
        index
    }
}
