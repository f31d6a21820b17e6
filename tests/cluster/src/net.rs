//! Connections: of nodes to shards of Redis, and of clients to nodes. Each is in order; each can be cut, and then what was
//! under way is lost from some point on, in both directions.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::exec::{Mailbox, Proc};
use crate::home::{Answer, Envelope};
use crate::ids::{Cid, Filter, Group, Home, Inc, Index, Message, Pid, Time, Will};
use crate::world::{LEASE, World};

/// Shards of Redis.
pub const SHARDS: u8 = 2;

/// What a connection to Redis is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Write,
    Read,
    Heart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId {
    pub proc: Proc,
    pub shard: u8,
    pub kind: Kind,
}

/// What comes from a connection to Redis.
#[derive(Debug)]
pub enum FromRedis {
    Answer { ticket: u64, attempt: u32, answer: Answer },
    Cut,
}

struct Conn {
    epoch: u32,
    is_up: bool,
    last_up: Time,
    last_down: Time,
    /// Bytes are held back until then.
    held: Time,
    /// Until when what was sent before a cut still arrives.
    ghosts: BTreeMap<u32, Time>,
    inbound: Mailbox<FromRedis>,
}

#[derive(Default)]
pub struct Net {
    conns: RefCell<BTreeMap<ConnId, Conn>>,
    down: RefCell<BTreeMap<u8, bool>>,
    /// Which server a shard has.
    servers: RefCell<BTreeMap<u8, u32>>,
    sockets: Cell<u64>,
    open: RefCell<BTreeMap<u64, Rc<Socket>>>,
}

/// Where a home is.
pub fn shard_of(home: Home) -> u8 {
    match home {
        Home::Global => 0,
        Home::Bucket(bucket) => bucket % SHARDS,
    }
}

/// What is sent on a connection to Redis.
pub struct Packet {
    pub ticket: u64,
    pub attempt: u32,
    pub home: Home,
    pub envelope: Envelope,
}

fn lane(id: ConnId, epoch: u32) -> Option<u64> {
    let kind = id.kind as u64;
    Some((u64::from(id.proc) << 32) | (u64::from(epoch) << 16) | (u64::from(id.shard) << 4) | kind)
}

impl Net {
    /// Whether it is connected now.
    pub fn connect(&self, world: &World, id: ConnId, inbound: &Mailbox<FromRedis>) -> bool {
        if self.is_down(id.shard) {
            return false;
        }
        let mut conns = self.conns.borrow_mut();
        let conn = conns.entry(id).or_insert_with(|| Conn {
            epoch: 0,
            is_up: false,
            last_up: 0,
            last_down: 0,
            held: 0,
            ghosts: BTreeMap::new(),
            inbound: inbound.clone(),
        });
        conn.is_up = conn.held <= world.now();
        conn.last_up = 0;
        conn.last_down = 0;
        conn.is_up
    }

    pub fn server(&self, shard: u8) -> u32 {
        self.servers.borrow().get(&shard).copied().unwrap_or(0)
    }

    /// Another server takes over: what was under way to the one before is lost.
    pub fn change_server(&self, world: &World, shard: u8) {
        *self.servers.borrow_mut().entry(shard).or_default() += 1;
        let ids: Vec<_> = self
            .conns
            .borrow()
            .keys()
            .filter(|id| id.shard == shard)
            .copied()
            .collect();
        for id in ids {
            self.cut(world, id, 0);
            if let Some(conn) = self.conns.borrow_mut().get_mut(&id) {
                conn.ghosts.clear();
            }
        }
    }

    pub fn send(&self, world: &World, id: ConnId, packet: Packet) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get_mut(&id).filter(|conn| conn.is_up) else {
            return;
        };
        let mut time = world.now() + world.latency();
        if world.random.percent(world.roughness.borrow().holds) {
            time += world.random.between(LEASE / 3, LEASE * 2);
        }
        conn.last_up = time.max(conn.last_up).max(conn.held);
        let epoch = conn.epoch;
        let lane = if id.kind == Kind::Write { lane(id, epoch) } else { None };
        world.at(conn.last_up, lane, move |world| {
            world.net.arrive(world, id, epoch, packet)
        });
    }

    fn arrive(&self, world: &World, id: ConnId, epoch: u32, packet: Packet) {
        if self.is_down(id.shard) {
            return self.cut(world, id, 0);
        }
        match self.is_current(world, id, epoch) {
            Some(true) => {
                let answer = self.execute(world, &packet);
                let (ticket, attempt) = (packet.ticket, packet.attempt);
                self.answer(
                    world,
                    id,
                    FromRedis::Answer {
                        ticket,
                        attempt,
                        answer,
                    },
                );
            }
            Some(false) => {
                world.trace(|| "from a connection that was cut:".to_owned());
                drop(self.execute(world, &packet));
            }
            None => {}
        }
    }

    /// `Some(false)` is for a connection that was cut after this was sent.
    fn is_current(&self, world: &World, id: ConnId, epoch: u32) -> Option<bool> {
        let conns = self.conns.borrow();
        let conn = conns.get(&id)?;
        if conn.epoch == epoch {
            return conn.is_up.then_some(true);
        }
        let until = conn.ghosts.get(&epoch).copied()?;
        (world.now() <= until).then_some(false)
    }

    fn execute(&self, world: &World, packet: &Packet) -> Answer {
        if packet.envelope.seq.is_some() && world.random.percent(world.roughness.borrow().refuses) {
            world.trace(|| format!("refused: {:?}", packet.envelope));
            return Answer::Refused;
        }
        world.execute(packet.home, &packet.envelope)
    }

    fn answer(&self, world: &World, id: ConnId, answer: FromRedis) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get_mut(&id) else { return };
        let epoch = conn.epoch;
        let inbound = conn.inbound.clone();
        if world.chooser.borrow().is_some() {
            return inbound.push(answer);
        }
        conn.last_down = (world.now() + world.latency()).max(conn.last_down).max(conn.held);
        world.at(conn.last_down, None, move |world| {
            if world.net.is_current(world, id, epoch) == Some(true) {
                inbound.push(answer);
            }
        });
    }

    /// Loses what is under way; some of it may still arrive, with nobody there for the answer. No new connection for a time.
    pub fn cut(&self, world: &World, id: ConnId, time: Time) {
        let mut conns = self.conns.borrow_mut();
        let Some(conn) = conns.get_mut(&id) else { return };
        conn.held = conn.held.max(world.now() + time);
        if !conn.is_up {
            return;
        }
        world.trace(|| format!("cut: {id:?}"));
        let reaches = [0, LEASE / 10, LEASE, LEASE * 4];
        // When all orders are tried, what is late is as late as can be.
        let is_chosen = world.chooser.borrow().is_some();
        let reach = if is_chosen {
            LEASE * 1000
        } else {
            reaches[world.random.index(4)]
        };
        conn.ghosts.insert(conn.epoch, world.now() + reach);
        conn.epoch += 1;
        conn.is_up = false;
        conn.inbound.push(FromRedis::Cut);
    }

    /// Holds back everything on a connection.
    pub fn hold(&self, world: &World, id: ConnId, time: Time) {
        if let Some(conn) = self.conns.borrow_mut().get_mut(&id) {
            conn.held = conn.held.max(world.now() + time);
        }
    }

    pub fn conns_of(&self, proc: Proc) -> Vec<ConnId> {
        self.conns
            .borrow()
            .keys()
            .filter(|id| id.proc == proc)
            .copied()
            .collect()
    }

    pub fn is_down(&self, shard: u8) -> bool {
        self.down.borrow().get(&shard).copied().unwrap_or(false)
    }

    /// A server ends, and its connections with it, or is back.
    pub fn set_down(&self, world: &World, shard: u8, is_down: bool) {
        self.down.borrow_mut().insert(shard, is_down);
        if is_down {
            let ids: Vec<_> = self
                .conns
                .borrow()
                .keys()
                .filter(|id| id.shard == shard)
                .copied()
                .collect();
            ids.into_iter().for_each(|id| self.cut(world, id, 0));
        }
    }
}

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Connect {
    pub cid: Cid,
    pub clean: bool,
    pub expiry: Time,
    pub will: Option<Will>,
}

/// From a client.
#[derive(Clone, Debug)]
pub enum Up {
    Connect(Connect),
    Publish(Pid, Message),
    Pubrel(Pid, u32),
    Puback(Index),
    Pubrec(Index),
    Pubcomp(Index),
    Subscribe(Filter),
    Unsubscribe(Filter),
    Disconnect,
    Closed,
}

/// To a client.
#[derive(Clone, Debug)]
pub enum Down {
    Connack {
        present: bool,
        conn: u64,
    },
    /// A Subscription Identifier tells the client whether it is for a group.
    Publish(Index, Message, Option<Group>),
    Pubrel(Index),
    Puback(Pid),
    Pubrec(Pid),
    Pubcomp(Pid),
    Suback(Filter),
    Unsuback(Filter),
    Closed,
}

/// A connection of a client.
pub struct Socket {
    pub id: u64,
    /// The node.
    pub proc: Proc,
    pub up: Mailbox<Up>,
    pub down: Mailbox<Down>,
    is_open: Cell<bool>,
    /// The node has been told that the client is gone.
    is_gone: Rc<Cell<bool>>,
    last_up: Cell<Time>,
    last_down: Cell<Time>,
}

impl Net {
    /// Opens a connection to the node in this place, if there is one.
    pub fn dial(&self, world: &World, slot: u32) -> Option<Rc<Socket>> {
        let node = world.slots.borrow().get(&slot).cloned()?;
        let id = self.sockets.get() + 1;
        self.sockets.set(id);
        let socket = Rc::new(Socket {
            id,
            proc: node.proc,
            up: Mailbox::default(),
            down: Mailbox::default(),
            is_open: Cell::new(true),
            is_gone: Rc::default(),
            last_up: Cell::default(),
            last_down: Cell::default(),
        });
        self.open.borrow_mut().insert(id, Rc::clone(&socket));
        node.accepted.push(Rc::clone(&socket));
        Some(socket)
    }

    /// A process has ended: its connections with it.
    pub fn process_ended(&self, world: &World, proc: Proc) {
        self.conns_of(proc)
            .into_iter()
            .for_each(|id| self.cut(world, id, LEASE * 1000));
        let sockets: Vec<_> = self
            .open
            .borrow()
            .values()
            .filter(|socket| socket.proc == proc)
            .cloned()
            .collect();
        for socket in sockets {
            socket.to_client(world, Down::Closed);
            self.open.borrow_mut().remove(&socket.id);
        }
    }
}

impl Socket {
    pub fn to_node(&self, world: &World, packet: Up) {
        if !self.is_open.get() {
            return;
        }
        let time = (world.now() + world.latency()).max(self.last_up.get());
        self.last_up.set(time);
        if matches!(packet, Up::Closed) {
            self.close(world);
        }
        let (up, is_gone) = (self.up.clone(), Rc::clone(&self.is_gone));
        world.at(time, None, move |_| {
            is_gone.set(matches!(packet, Up::Closed | Up::Disconnect));
            up.push(packet);
        });
    }

    pub fn to_client(&self, world: &World, packet: Down) {
        if !self.is_open.get() {
            return;
        }
        let time = (world.now() + world.latency()).max(self.last_down.get());
        self.last_down.set(time);
        if matches!(packet, Down::Closed) {
            self.close(world);
        }
        let down = self.down.clone();
        world.at(time, None, move |_| down.push(packet));
    }

    fn close(&self, world: &World) {
        self.is_open.set(false);
        world.net.open.borrow_mut().remove(&self.id);
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }
}

/// The incarnation that a call of nobody carries.
pub const NOBODY: Inc = 0;
