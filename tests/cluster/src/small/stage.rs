//! What a scene has: three nodes, a connection of its own, and things that can happen between any two commands.

use std::cell::RefCell;
use std::rc::Rc;

use super::LONG_ENOUGH;
use crate::cast::quiet;
use crate::check::Event;
use crate::client::{self, LONG, Plan};
use crate::guard::Guards;
use crate::ids::{Cid, Filter, Message, Pid, Qos, Time, Topic, Will};
use crate::net::{Connect, Kind, Socket, Up};
use crate::node::Node;
use crate::world::{Roughness, World};

pub(super) const TOPIC: Topic = 1;
pub(super) const WILL_TOPIC: Topic = 9;
pub(super) const SUBSCRIBER: Cid = 1;
pub(super) const PUBLISHER: Cid = 2;
pub(super) const MEMBER: Cid = 4;
pub(super) const SHARED: Filter = Filter {
    topic: TOPIC,
    group: Some(1),
};

pub(super) struct Stage {
    pub(super) world: Rc<World>,
    pub(super) nodes: Vec<Rc<Node>>,
    /// A connection that the scene uses.
    pub(super) hand: RefCell<Option<Rc<Socket>>>,
}

impl Stage {
    pub(super) fn new(guards: Guards, is_tracing: bool) -> Stage {
        let roughness = Roughness {
            latency: (1, 1),
            refuses: 0,
            holds: 0,
            forgets: 0,
            flush: 3,
        };
        let world = World::new(1, guards, roughness, is_tracing);
        world.has_clockwork.set(false);
        world.is_calm.set(true);
        let nodes = (0..3).map(|slot| {
            let node = Node::start(&world, slot);
            world.run_until(world.now() + 100);
            node
        });
        let nodes = nodes.collect();
        Stage {
            world,
            nodes,
            hand: Default::default(),
        }
    }

    pub(super) fn connect_hand(&self, cid: Cid, slot: u32, will: Option<Will>) {
        self.connect_for(LONG, cid, slot, will);
    }

    pub(super) fn connect_for(&self, expiry: Time, cid: Cid, slot: u32, will: Option<Will>) {
        let Some(socket) = self.world.net.dial(&self.world, slot) else {
            return;
        };
        socket.to_node(
            &self.world,
            Up::Connect(Connect {
                cid,
                clean: false,
                expiry,
                will,
            }),
        );
        *self.hand.borrow_mut() = Some(socket);
        self.world.run_until(self.world.now() + 300);
    }

    pub(super) fn subscribe_hand(&self, cid: Cid, filter: Filter) {
        let conn = self.hand.borrow().as_ref().map_or(0, |socket| socket.id);
        self.world.note(Event::SubSent { cid, conn, filter });
        self.send(Up::Subscribe(filter));
    }

    /// A client that stays.
    pub(super) fn subscriber(&self, cid: Cid, slot: u32, filter: Filter) {
        subscriber(&self.world, cid, slot, filter);
    }

    /// A client that begins with Clean Start.
    pub(super) fn new_session(&self, cid: Cid, slot: u32) {
        let plan = Plan {
            at: Some(slot),
            // It was away for longer than that.
            expiry: 1,
            is_rival: true,
            ..quiet(cid)
        };
        client::spawn(&self.world, plan);
    }

    pub(super) fn publisher(&self, slot: u32, publishes: impl IntoIterator<Item = Message>) {
        let plan = Plan {
            publishes: publishes.into_iter().collect(),
            at: Some(slot),
            pause: (1, 1),
            ..quiet(PUBLISHER)
        };
        client::spawn(&self.world, plan);
    }

    pub(super) fn send(&self, packet: Up) {
        if let Some(socket) = self.hand.borrow().as_ref() {
            socket.to_node(&self.world, packet);
        }
    }

    pub(super) fn publish(&self, pid: Pid, message: Message) {
        self.world.note(Event::Sent {
            cid: PUBLISHER,
            message,
        });
        self.send(Up::Publish(pid, message));
    }

    pub(super) fn lose_hand(&self) {
        if let Some(socket) = self.hand.borrow().clone() {
            self.stimulus(3, move |world| {
                world.note(Event::Lost { conn: socket.id });
                socket.to_node(world, Up::Closed);
            });
        }
    }

    /// The same client on another node; it publishes so many messages.
    pub(super) fn rival(&self, slot: u32, publishes: u32) {
        let publishes = (0..publishes).map(|n| message(10 + n, Qos::One)).collect();
        client::spawn(
            &self.world,
            Plan {
                publishes,
                at: Some(slot),
                is_rival: true,
                ..quiet(PUBLISHER)
            },
        );
    }

    /// The connections of the first node are cut, once what it has sent has arrived or before, and not soon connected again.
    pub(super) fn lose_answers(&self) {
        let proc = self.nodes[0].proc;
        self.stimulus(1, move |world| {
            let conns = world.net.conns_of(proc).into_iter();
            let writing = conns.filter(|conn| conn.kind == Kind::Write);
            writing.for_each(|conn| world.net.cut(world, conn, LONG_ENOUGH / 2));
        });
    }

    /// The first node dies somewhere; afterwards another one recovers it.
    pub(super) fn kill_and_bury(&self, by: u32) {
        let node = Rc::clone(&self.nodes[0]);
        let dead = node.inc.get();
        self.stimulus(1, move |_| node.kill());
        self.stimulus(1, move |world| bury(world, by, dead));
    }

    /// Something that can happen between any two commands; those of one lane in their order.
    pub(super) fn stimulus(&self, lane: u64, action: impl FnOnce(&Rc<World>) + 'static) {
        self.world.at(self.world.now(), Some(u64::MAX - lane), action);
    }
}

pub(super) fn message(id: u32, qos: Qos) -> Message {
    Message {
        id,
        topic: TOPIC,
        qos,
        retain: false,
    }
}

pub(super) fn subscriber(world: &Rc<World>, cid: Cid, slot: u32, filter: Filter) {
    let plan = Plan {
        subs: vec![filter],
        at: Some(slot),
        ..quiet(cid)
    };
    client::spawn(world, plan);
}

pub(super) fn when_acknowledged(world: &Rc<World>, action: impl FnOnce(&Rc<World>) + 'static) {
    let is_acknowledged = |world: &World| {
        let history = world.history.borrow();
        history.iter().any(|(_, event)| matches!(event, Event::Acked { .. }))
    };
    world.exec.spawn(world.new_proc(), {
        let world = Rc::clone(world);
        async move {
            while !is_acknowledged(&world) {
                world.sleep(1).await;
            }
            action(&world);
        }
    });
}

pub(super) fn bury(world: &Rc<World>, slot: u32, dead: u32) {
    let node = world.slots.borrow().get(&slot).cloned();
    if let Some(node) = node {
        node.bury(dead);
    }
}

/// A message without subscribers.
pub(super) fn unheard(world: &World, socket: Option<&Socket>, id: u32) {
    let message = Message {
        topic: 7,
        ..message(id, Qos::One)
    };
    world.note(Event::Sent {
        cid: PUBLISHER,
        message,
    });
    if let Some(socket) = socket {
        socket.to_node(world, Up::Publish(id as Pid, message));
    }
}
