//! Clients: they keep what MQTT asks a client to keep, connect anywhere, and go away at any time.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use crate::cast::RETAINED_TOPIC;
use crate::check::Event;
use crate::ids::{Cid, Filter, Group, Index, Message, Pid, Qos, Time, Topic, Will};
use crate::net::{Connect, Down, Socket, Up};
use crate::world::{LEASE, World};

/// The expiry of a session that lasts for the whole run.
pub const LONG: Time = 1_000_000;

/// How long a client waits for an answer.
const PATIENCE: Time = LEASE * 5;

/// Messages that a client has on the way at once.
const WINDOW: usize = 3;

/// What a client does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cid: Cid,
    /// 0 if its session ends with its connection.
    pub expiry: Time,
    /// Percent of connections that begin with Clean Start.
    pub clean: u64,
    pub subs: Vec<Filter>,
    /// In this order.
    pub publishes: VecDeque<Message>,
    pub pause: (Time, Time),
    /// Each connection has a will of its own, on this topic, after this delay.
    pub will: Option<(Topic, Time)>,
    /// Of 1,000 moments, in how many it goes away.
    pub leaves: u64,
    /// Percent of those in which it says so.
    pub says_so: u64,
    /// The node that it connects to, at once; any if there is none.
    pub at: Option<u32>,
    /// It does not come back when it is thrown out.
    pub is_rival: bool,
    /// How long it stays away.
    pub away: (Time, Time),
    /// Of 1,000 moments, in how many it unsubscribes, and subscribes again.
    pub toggles: u64,
}

/// A message that is not finished.
struct Sending {
    pid: Pid,
    message: Message,
    has_pubrec: bool,
}

struct Client {
    world: Rc<World>,
    plan: Plan,
    /// In order.
    sending: VecDeque<Sending>,
    next_pid: Pid,
    /// QoS 2 messages that it has and that are not released.
    received: BTreeSet<Index>,
    wanted: BTreeSet<Filter>,
    subscribed: BTreeSet<Filter>,
    /// Where it has unsubscribed, for a while.
    given_up: Option<Filter>,
    is_finished: bool,
    /// It has asked for a new session, and does not know whether it got it.
    must_be_clean: bool,
    /// When it was last connected.
    last_seen: Time,
}

/// Identifiers of messages that are wills: by the connection.
pub const WILLS: u32 = 1_000_000;

pub fn spawn(world: &Rc<World>, plan: Plan) {
    let proc = world.new_proc();
    let wanted = plan.subs.iter().copied().collect();
    let client = Client {
        world: Rc::clone(world),
        plan,
        sending: VecDeque::new(),
        next_pid: 0,
        received: BTreeSet::new(),
        wanted,
        subscribed: BTreeSet::new(),
        given_up: None,
        is_finished: false,
        must_be_clean: false,
        last_seen: 0,
    };
    world.exec.spawn(proc, client.run());
}

impl Client {
    async fn run(mut self) {
        if self.plan.at.is_none() {
            self.world.doze(1, self.plan.pause.1.max(20)).await;
        }
        while !self.is_finished {
            if let Some((socket, present)) = self.connect().await {
                self.begin(&socket, present);
                self.talk(&socket).await;
                self.last_seen = self.world.now();
                if self.plan.is_rival {
                    return;
                }
            }
            let (least, most) = self.plan.away;
            let away = if self.world.is_calm.get() {
                (1, 30)
            } else {
                (least, most)
            };
            self.world.doze(away.0, away.1).await;
        }
    }

    async fn connect(&mut self) -> Option<(Rc<Socket>, bool)> {
        let slots: Vec<_> = self.world.slots.borrow().keys().copied().collect();
        if slots.is_empty() {
            return None;
        }
        let slot = self
            .plan
            .at
            .unwrap_or_else(|| slots[self.world.random.index(slots.len())]);
        let socket = self.world.net.dial(&self.world, slot)?;
        let closing = self.world.is_closing.get();
        let will = self.plan.will.filter(|_| !closing);
        let will = will.map(|(topic, delay)| Will {
            message: Message {
                id: WILLS + socket.id as u32,
                topic,
                qos: Qos::Two,
                retain: topic == RETAINED_TOPIC,
            },
            delay,
        });
        // It can't know whether a session that is there is the one that it had.
        self.must_be_clean |= self.world.now() >= self.last_seen + self.plan.expiry;
        self.must_be_clean |= closing || (!self.world.is_calm.get() && self.world.random.percent(self.plan.clean));
        let expiry = if closing { 0 } else { self.plan.expiry };
        let connect = Connect {
            cid: self.plan.cid,
            clean: self.must_be_clean,
            expiry,
            will,
        };
        self.world.trace(|| format!("socket {}: {connect:?}", socket.id));
        socket.to_node(&self.world, Up::Connect(connect));
        loop {
            match socket.down.next_or(self.world.sleep(PATIENCE)).await {
                Some(Down::Connack { present, .. }) => {
                    self.must_be_clean = false;
                    return Some((socket, present));
                }
                Some(Down::Closed) => return None,
                Some(_) => {}
                None => {
                    socket.to_node(&self.world, Up::Closed);
                    return None;
                }
            }
        }
    }

    fn begin(&mut self, socket: &Socket, present: bool) {
        if !present {
            self.received.clear();
            self.subscribed.clear();
            // What was on its way is given up, as the state of the session is.
            self.sending.clear();
        }
        if self.plan.expiry == 0 {
            self.sending.clear();
        }
        self.given_up = None;
        for filter in self.wanted.clone() {
            if !self.subscribed.contains(&filter) {
                self.subscribe(socket, filter);
            }
        }
        for sending in &self.sending {
            self.send(socket, sending);
        }
    }

    fn subscribe(&self, socket: &Socket, filter: Filter) {
        self.world.note(Event::SubSent {
            cid: self.plan.cid,
            conn: socket.id,
            filter,
        });
        socket.to_node(&self.world, Up::Subscribe(filter));
    }

    fn send(&self, socket: &Socket, sending: &Sending) {
        let packet = match sending.has_pubrec {
            true => Up::Pubrel(sending.pid, sending.message.id),
            false => Up::Publish(sending.pid, sending.message),
        };
        socket.to_node(&self.world, packet);
    }

    /// Until the connection is over.
    async fn talk(&mut self, socket: &Rc<Socket>) {
        let mut last = self.world.now();
        let mut next_publish = self.world.now();
        loop {
            if self.world.is_closing.get() {
                return self.close_down(socket).await;
            }
            let random = if self.world.is_calm.get() {
                60
            } else {
                self.world.random.between(5, 25)
            };
            match socket.down.next_or(self.world.sleep(random)).await {
                Some(Down::Closed) => return,
                Some(packet) => {
                    last = self.world.now();
                    self.on_packet(socket, packet);
                    continue;
                }
                None => {}
            }
            let waits = !self.sending.is_empty() || self.subscribed.len() < self.wanted.len();
            if waits && self.world.now() > last + PATIENCE {
                return socket.to_node(&self.world, Up::Closed);
            }
            if self.leaves(socket) {
                return;
            }
            self.toggle(socket);
            if self.world.now() >= next_publish && self.sending.len() < WINDOW {
                next_publish = self.world.now() + self.world.random.between(self.plan.pause.0, self.plan.pause.1);
                last = if self.sending.is_empty() {
                    self.world.now()
                } else {
                    last
                };
                self.publish(socket);
            }
        }
    }

    /// Takes the session down, and comes once more without one.
    async fn close_down(&mut self, socket: &Rc<Socket>) {
        self.world.note(Event::CleanEnd { conn: socket.id });
        socket.to_node(&self.world, Up::Disconnect);
        self.world.doze(20, 40).await;
        self.plan.expiry = 0;
        if let Some((socket, _)) = self.connect().await {
            self.world.note(Event::CleanEnd { conn: socket.id });
            socket.to_node(&self.world, Up::Disconnect);
            self.is_finished = true;
        }
    }

    fn leaves(&self, socket: &Socket) -> bool {
        if self.world.is_calm.get() || self.world.random.between(1, 1000) > self.plan.leaves {
            return false;
        }
        if self.world.random.percent(self.plan.says_so) {
            self.world.note(Event::CleanEnd { conn: socket.id });
            socket.to_node(&self.world, Up::Disconnect);
        } else {
            self.world.note(Event::Lost { conn: socket.id });
            socket.to_node(&self.world, Up::Closed);
        }
        true
    }

    /// Unsubscribes, or subscribes again.
    fn toggle(&mut self, socket: &Socket) {
        let is_calm = self.world.is_calm.get();
        if let Some(filter) = self.given_up
            && (is_calm || self.world.random.percent(40))
        {
            self.given_up = None;
            return self.subscribe(socket, filter);
        }
        if is_calm || self.given_up.is_some() || self.world.random.between(1, 1000) > self.plan.toggles {
            return;
        }
        if let Some(filter) = self.subscribed.pop_first() {
            self.world.note(Event::UnsubSent {
                cid: self.plan.cid,
                filter,
            });
            self.given_up = Some(filter);
            socket.to_node(&self.world, Up::Unsubscribe(filter));
        }
    }

    fn publish(&mut self, socket: &Socket) {
        let Some(message) = self.plan.publishes.pop_front() else {
            return;
        };
        let pid = self.free_pid();
        let sending = Sending {
            pid,
            message,
            has_pubrec: false,
        };
        self.world.note(Event::Sent {
            cid: self.plan.cid,
            message,
        });
        self.send(socket, &sending);
        self.sending.push_back(sending);
    }

    /// Packet Identifiers are used again soon.
    fn free_pid(&mut self) -> Pid {
        loop {
            self.next_pid = self.next_pid % 5 + 1;
            if self.sending.iter().all(|sending| sending.pid != self.next_pid) {
                return self.next_pid;
            }
        }
    }

    fn on_packet(&mut self, socket: &Socket, packet: Down) {
        match packet {
            Down::Publish(index, message, group) => self.on_publish(socket, index, message, group),
            Down::Pubrel(index) => {
                self.received.remove(&index);
                socket.to_node(&self.world, Up::Pubcomp(index));
            }
            Down::Puback(pid) | Down::Pubcomp(pid) => self.sending.retain(|sending| sending.pid != pid),
            Down::Pubrec(pid) => {
                if let Some(sending) = self.sending.iter_mut().find(|sending| sending.pid == pid) {
                    sending.has_pubrec = true;
                    let id = sending.message.id;
                    socket.to_node(&self.world, Up::Pubrel(pid, id));
                }
            }
            Down::Suback(filter) => drop(self.subscribed.insert(filter)),
            Down::Connack { .. } | Down::Unsuback(_) | Down::Closed => {}
        }
    }

    fn on_publish(&mut self, socket: &Socket, index: Index, message: Message, group: Option<Group>) {
        let is_new = message.qos == Qos::One || self.received.insert(index);
        if is_new {
            self.world.note(Event::Delivered {
                cid: self.plan.cid,
                conn: socket.id,
                message,
                group,
            });
        }
        match message.qos {
            Qos::One => socket.to_node(&self.world, Up::Puback(index)),
            Qos::Two => socket.to_node(&self.world, Up::Pubrec(index)),
        }
    }
}
