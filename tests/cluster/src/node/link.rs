//! Calls of a node: in order on each connection, numbered in each home, and sent again after a cut.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::Node;
use crate::exec::Mailbox;
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
        self.again(node, None, 0);
    }

    fn answered(&self, ticket: u64, answer: Answer) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|waiting| waiting.ticket == ticket)
            && let Some(waiting) = waiting.remove(at)
        {
            waiting.answer.push(answer);
        }
    }

    fn home_of(&self, ticket: u64, attempt: u32) -> Option<Home> {
        let waiting = self.waiting.borrow();
        let waiting = waiting.iter().find(|waiting| waiting.ticket == ticket)?;
        (waiting.attempt == attempt).then_some(waiting.home)
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
        link.transmit(self, &waiting);
        link.waiting.borrow_mut().push_back(waiting);
        answer
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
            answer => link.answered(ticket, answer),
        }
    }
}
