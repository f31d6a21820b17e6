//! Calls of a node: in order on each connection, numbered in each home, and sent again after a cut.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::Node;
use crate::exec::Mailbox;
use crate::guard::Guard;
use crate::home::call::Servers;
use crate::home::{Answer, Call, Envelope};
use crate::ids::Home;
use crate::net::{ConnId, FromRedis, Kind, Packet, shard_of};

/// One connection to one shard, over and over.
pub(super) struct Link {
    id: ConnId,
    inbound: Mailbox<FromRedis>,
    /// What has not been answered.
    waiting: RefCell<VecDeque<Waiting>>,
    tickets: Cell<u64>,
    /// The server that it was connected to.
    server: Cell<Option<u32>>,
    /// Nothing is sent: that server is another one, and what it has is not known.
    is_held: Cell<bool>,
}

struct Waiting {
    ticket: u64,
    attempt: u32,
    home: Home,
    envelope: Envelope,
    answer: Mailbox<Answer>,
}

/// How many numbered calls each home has had.
pub(super) type Numbers = RefCell<BTreeMap<Home, u64>>;

impl Link {
    pub(super) fn new(id: ConnId) -> Link {
        Link {
            id,
            inbound: Mailbox::default(),
            waiting: RefCell::default(),
            tickets: Cell::default(),
            server: Cell::default(),
            is_held: Cell::default(),
        }
    }

    fn transmit(&self, node: &Node, waiting: &Waiting) {
        let packet = Packet {
            ticket: waiting.ticket,
            attempt: waiting.attempt,
            home: waiting.home,
            envelope: waiting.envelope.clone(),
        };
        node.world.net.send(&node.world, self.id, packet);
    }

    /// Sends again what has not been answered: all of it, or that of one home.
    fn again(&self, node: &Node, home: Option<Home>, from: u64) {
        for waiting in self.waiting.borrow_mut().iter_mut() {
            if waiting.ticket >= from && home.is_none_or(|home| home == waiting.home) {
                waiting.attempt += 1;
                self.transmit(node, waiting);
            }
        }
    }

    async fn connect(&self, node: &Rc<Node>) {
        while !node.world.net.connect(&node.world, self.id, &self.inbound) {
            node.world.doze(5, 30).await;
        }
        let server = node.world.net.server(self.id.shard);
        let is_new = self.server.get().is_some_and(|before| before != server);
        if is_new {
            node.memory.borrow_mut().new_servers.insert(self.id.shard);
        }
        if is_new && self.id.kind == Kind::Write && node.has(Guard::NewServerIsAsked) {
            self.is_held.set(true);
            return node.spawn(Rc::clone(node).ask_new_server(self.id, server));
        }
        self.server.set(Some(server));
        self.again(node, None, 0);
    }

    fn answered(&self, node: &Node, ticket: u64, answer: Answer) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|waiting| waiting.ticket == ticket)
            && let Some(waiting) = waiting.remove(at)
        {
            if let Envelope {
                seq: Some(seq), call, ..
            } = &waiting.envelope
            {
                let now = node.world.now();
                node.memory.borrow_mut().confirm(now, waiting.home, *seq, call);
            }
            waiting.answer.push(answer);
        }
    }

    fn home_of(&self, ticket: u64, attempt: u32) -> Option<Home> {
        let waiting = self.waiting.borrow();
        let waiting = waiting.iter().find(|waiting| waiting.ticket == ticket)?;
        (waiting.attempt == attempt).then_some(waiting.home)
    }

    /// Whether a numbered call to this home has no answer.
    pub(super) fn waits_for(&self, home: Home) -> bool {
        let waiting = self.waiting.borrow();
        let mut numbered = waiting.iter().filter(|waiting| waiting.envelope.seq.is_some());
        numbered.any(|waiting| waiting.home == home)
    }

    /// The first call of the home behind this number.
    fn ticket_behind(&self, home: Home, number: u64) -> u64 {
        let waiting = self.waiting.borrow();
        let mut of_home = waiting.iter().filter(|waiting| waiting.home == home);
        let behind = of_home.find(|waiting| waiting.envelope.seq.is_some_and(|seq| seq > number));
        behind.map_or(u64::MAX, |waiting| waiting.ticket)
    }
}

impl Node {
    /// Sends a numbered call now; its answer comes later.
    pub(super) fn post(&self, home: Home, call: Call) -> Mailbox<Answer> {
        let mut numbers = self.numbers.borrow_mut();
        let number = numbers.entry(home).or_default();
        *number += 1;
        self.send(Kind::Write, home, Some(*number), call)
    }

    pub(super) async fn call(&self, home: Home, call: Call) -> Answer {
        self.post(home, call).next().await
    }

    /// Behind all calls that have been sent to the same shard.
    pub(super) fn post_read(&self, home: Home, call: Call) -> Mailbox<Answer> {
        self.send(Kind::Write, home, None, call)
    }

    pub(super) async fn read(&self, home: Home, call: Call) -> Answer {
        self.send(Kind::Read, home, None, call).next().await
    }

    pub(super) async fn beat_call(&self, call: Call) -> Answer {
        self.send(Kind::Heart, Home::Global, None, call).next().await
    }

    fn send(&self, kind: Kind, home: Home, seq: Option<u64>, call: Call) -> Mailbox<Answer> {
        let answer = Mailbox::default();
        if self.is_fenced.get() {
            return answer;
        }
        let link = &self.links[&(kind, shard_of(home))];
        let ticket = link.tickets.get() + 1;
        link.tickets.set(ticket);
        let waiting = Waiting {
            ticket,
            attempt: 0,
            home,
            envelope: Envelope {
                inc: self.inc.get(),
                seq,
                call,
            },
            answer: answer.clone(),
        };
        if !link.is_held.get() {
            link.transmit(self, &waiting);
        }
        link.waiting.borrow_mut().push_back(waiting);
        answer
    }

    /// Another server has taken over. If it lacks what was confirmed, this incarnation is over, and all others are.
    async fn ask_new_server(self: Rc<Self>, id: ConnId, server: u32) {
        let link = &self.links[&(id.kind, id.shard)];
        if self.inc.get() > 0 {
            let homes = std::iter::once(Home::Global).chain(Home::buckets());
            let homes: Vec<_> = homes
                .filter(|home| shard_of(*home) == id.shard && self.entered.borrow().contains(home))
                .collect();
            let memory = self.memory.borrow().clone();
            let lost = self.lost_writes(self.inc.get(), &memory, &homes).await;
            let missing = self.lost_reads(&homes).await;
            if !lost.is_empty() || !missing.is_empty() {
                self.memory.borrow_mut().missing.extend(missing);
                return self.fence();
            }
        }
        // Another one yet has been found meanwhile, and is asked.
        if self.world.net.server(id.shard) != server {
            return;
        }
        link.is_held.set(false);
        link.server.set(Some(server));
        link.again(&self, None, 0);
    }

    /// The server whose heartbeats this node looks at.
    pub(super) fn watched_server(&self) -> Option<u32> {
        self.links[&(Kind::Heart, shard_of(Home::Global))].server.get()
    }

    /// Those that have all that this node has written.
    pub(super) fn servers(&self) -> Servers {
        let writing = self.links.iter().filter(|((kind, _), _)| *kind == Kind::Write);
        let server = |((_, shard), link): (&(Kind, u8), &Link)| Some((*shard, link.server.get()?));
        writing.filter_map(server).collect()
    }

    pub(super) async fn keep_link(self: Rc<Self>, kind: Kind, shard: u8) {
        let link = &self.links[&(kind, shard)];
        link.connect(&self).await;
        loop {
            match link.inbound.next().await {
                FromRedis::Cut => {
                    self.world.doze(2, 30).await;
                    link.connect(&self).await;
                }
                FromRedis::Answer {
                    ticket,
                    attempt,
                    answer,
                } => self.on_answer(link, ticket, attempt, answer).await,
            }
        }
    }

    async fn on_answer(self: &Rc<Self>, link: &Link, ticket: u64, attempt: u32, answer: Answer) {
        match answer {
            Answer::Refused => {
                if let Some(home) = link.home_of(ticket, attempt) {
                    self.world.doze(1, 5).await;
                    link.again(self, Some(home), ticket);
                }
            }
            Answer::Gap(last) => {
                if let Some(home) = link.home_of(ticket, attempt) {
                    link.again(self, Some(home), link.ticket_behind(home, last));
                }
            }
            Answer::Fenced => self.fence(),
            answer => link.answered(self, ticket, answer),
        }
    }
}
