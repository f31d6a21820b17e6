//! Small clusters in which everything is tried: each order in which the commands of all nodes reach Redis, and each place
//! between two of them where a node can die.
//!
//! Commands that only read are done when they are sent, and answers come at once; timers wait until nothing else happens.

use std::rc::Rc;

use crate::check::{self, Event};
use crate::client::{self, LONG, Plan};
use crate::guard::Guards;
use crate::ids::{Cid, Message, Pid, Qos, Time, Topic, Will};
use crate::net::{Connect, Kind, Socket, Up};
use crate::node::Node;
use crate::run::{note_retained, quiet};
use crate::world::{Chooser, Roughness, World};

/// How long it takes until nothing happens any more.
const LONG_ENOUGH: Time = 1500;

/// How often time passes while commands are under way.
const RESTS: usize = 2;

const TOPIC: Topic = 1;
const WILL_TOPIC: Topic = 9;
const SUBSCRIBER: Cid = 1;
const PUBLISHER: Cid = 2;

/// What happens at once, after a quiet beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Two connect while the client goes away.
    ClaimClaimRelease,
    /// Two connect while the client's node dies and is recovered.
    ClaimDeadRecover,
    /// A message is put into queues while its node dies and is recovered, and a will with it.
    AppendDeadForget,
    /// The same for QoS 2; the client comes back and repeats its PUBREL.
    PubrelKillRecover,
    /// A client is taken over while its messages are on their way.
    TakeoverInFlight,
    /// One subscribes, another one publishes on another node.
    SubscribePublish,
    /// A client unsubscribes, and is taken over and subscribes again.
    UnsubscribeTakeover,
    /// A node is declared dead that is not: it goes on serving a client that connects elsewhere.
    Zombie,
    /// A client is taken over while the record of a QoS 2 message is on its way, whose identifier is used again.
    ReceivedTakeover,
    /// A node joins, and is declared dead meanwhile.
    JoinDead,
}

impl Scene {
    pub const ALL: &[Scene] = &[
        Scene::ClaimClaimRelease,
        Scene::ClaimDeadRecover,
        Scene::AppendDeadForget,
        Scene::PubrelKillRecover,
        Scene::TakeoverInFlight,
        Scene::SubscribePublish,
        Scene::UnsubscribeTakeover,
        Scene::Zombie,
        Scene::ReceivedTakeover,
        Scene::JoinDead,
    ];
}

/// What came of all orders.
#[derive(Debug)]
pub struct Tried {
    pub runs: usize,
    /// None was left out.
    pub is_complete: bool,
    pub found: Vec<String>,
    pub steps: String,
}

/// Tries all orders of a scene, until something is found or there have been enough. Only the first choices, so many, are
/// tried in all ways.
pub fn try_all(scene: Scene, guards: Guards, depth: usize, most: usize) -> Tried {
    let mut script = Vec::new();
    for runs in 1.. {
        let (found, steps, made) = play(scene, guards, script.clone(), false);
        if !found.is_empty() {
            let (_, steps, _) = play(scene, guards, script, true);
            return Tried {
                runs,
                is_complete: false,
                found,
                steps,
            };
        }
        let next = next_script(&made, depth);
        let is_complete = next.is_none();
        script = match next {
            Some(next) if runs < most => next,
            _ => {
                return Tried {
                    runs,
                    is_complete,
                    found,
                    steps,
                };
            }
        };
    }
    unreachable!("there are not that many runs")
}

/// The next way to choose, in the order of a search in depth.
fn next_script(made: &[(usize, usize)], depth: usize) -> Option<Vec<usize>> {
    let tried = &made[..depth.min(made.len())];
    let last = tried.iter().rposition(|(choice, of)| choice + 1 < *of)?;
    let kept = tried[..last].iter().map(|(choice, _)| *choice);
    Some(kept.chain([tried[last].0 + 1]).collect())
}

type Played = (Vec<String>, String, Vec<(usize, usize)>);

fn play(scene: Scene, guards: Guards, script: Vec<usize>, is_tracing: bool) -> Played {
    let stage = Stage::new(guards, is_tracing);
    let world = Rc::clone(&stage.world);
    stage.prepare(scene);
    world.run_until(world.now() + LONG_ENOUGH);
    *world.chooser.borrow_mut() = Some(Chooser::new(script, RESTS));
    stage.begin(scene);
    world.run_until(world.now() + LONG_ENOUGH);
    let made = world
        .chooser
        .borrow_mut()
        .take()
        .map(|chooser| chooser.made)
        .unwrap_or_default();
    stage.after(scene);
    world.run_until(world.now() + LONG_ENOUGH * 2);
    note_retained(&world);
    let mut found = check::check(&world.history.borrow());
    found.extend(stage.left(scene));
    let steps = world.last_steps();
    world.end();
    (found, steps, made)
}

struct Stage {
    world: Rc<World>,
    nodes: Vec<Rc<Node>>,
    /// A connection that the scene uses.
    hand: std::cell::RefCell<Option<Rc<Socket>>>,
}

impl Stage {
    fn new(guards: Guards, is_tracing: bool) -> Stage {
        let roughness = Roughness {
            latency: (1, 1),
            refuses: 0,
            holds: 0,
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

    fn prepare(&self, scene: Scene) {
        let subs = vec![TOPIC, WILL_TOPIC];
        let subscriber = Plan {
            subs,
            at: Some(2),
            ..quiet(SUBSCRIBER)
        };
        match scene {
            Scene::UnsubscribeTakeover => {
                self.connect_hand(SUBSCRIBER, 0, None);
                self.send(Up::Subscribe(TOPIC));
                self.world.note(Event::SubSent {
                    cid: SUBSCRIBER,
                    conn: self.hand_id(),
                    topic: TOPIC,
                });
            }
            Scene::SubscribePublish => {}
            _ => {
                client::spawn(&self.world, subscriber);
                let will = Message {
                    id: 99,
                    topic: WILL_TOPIC,
                    qos: Qos::Two,
                    retain: false,
                };
                let has_will = matches!(scene, Scene::ClaimDeadRecover | Scene::AppendDeadForget);
                self.connect_hand(
                    PUBLISHER,
                    0,
                    has_will.then_some(Will {
                        message: will,
                        delay: 0,
                    }),
                );
            }
        }
        if matches!(scene, Scene::PubrelKillRecover) {
            self.publish(1, message(1, Qos::Two));
        }
    }

    fn begin(&self, scene: Scene) {
        match scene {
            Scene::ClaimClaimRelease => {
                self.lose_hand();
                self.rival(1, 0);
                self.rival(2, 0);
            }
            Scene::ClaimDeadRecover => {
                self.kill_and_bury(1);
                self.rival(1, 0);
                self.rival(2, 0);
            }
            Scene::AppendDeadForget => {
                self.publish(1, message(1, Qos::One));
                self.publish(2, message(2, Qos::One));
                self.kill_and_bury(1);
            }
            Scene::PubrelKillRecover => {
                self.send(Up::Pubrel(1, 1));
                self.kill_and_bury(1);
            }
            Scene::TakeoverInFlight => {
                self.publish(
                    1,
                    Message {
                        topic: TOPIC,
                        ..message(1, Qos::One)
                    },
                );
                self.publish(2, message(2, Qos::One));
                self.rival(1, 1);
            }
            Scene::SubscribePublish => {
                let subs = vec![TOPIC];
                client::spawn(
                    &self.world,
                    Plan {
                        subs,
                        at: Some(1),
                        ..quiet(SUBSCRIBER)
                    },
                );
                let publishes = (1..4).map(|id| message(id, Qos::One)).collect();
                client::spawn(
                    &self.world,
                    Plan {
                        publishes,
                        at: Some(0),
                        pause: (1, 1),
                        ..quiet(PUBLISHER)
                    },
                );
            }
            Scene::UnsubscribeTakeover => {
                self.world.note(Event::UnsubSent {
                    cid: SUBSCRIBER,
                    topic: TOPIC,
                });
                self.send(Up::Unsubscribe(TOPIC));
                self.lose_hand();
                let plan = Plan {
                    subs: vec![TOPIC],
                    at: Some(1),
                    ..quiet(SUBSCRIBER)
                };
                client::spawn(&self.world, plan);
            }
            Scene::Zombie => {
                let dead = self.nodes[0].inc.get();
                // It hears nothing of that, for a while.
                let conns = self.world.net.conns_of(self.nodes[0].proc);
                for conn in conns.into_iter().filter(|conn| conn.kind == Kind::Read) {
                    self.world.net.cut(&self.world, conn, LONG_ENOUGH * 2);
                }
                self.stimulus(1, move |world| bury(world, 1, dead));
                self.rival(1, 0);
                let socket = self.hand.borrow().clone();
                // Between any two commands the old connection publishes what nobody gets.
                self.stimulus(2, move |world| unheard(world, socket.as_deref(), 50));
            }
            Scene::ReceivedTakeover => {
                self.publish(1, message(1, Qos::Two));
                self.lose_hand();
                self.taken_over_with_messages();
            }
            Scene::JoinDead => {
                let world = Rc::clone(&self.world);
                let node = Node::start(&world, 3);
                self.stimulus(1, move |world| {
                    world
                        .net
                        .conns_of(node.proc)
                        .into_iter()
                        .for_each(|id| world.net.cut(world, id, 0));
                });
                self.stimulus(2, |world| bury(world, 1, 4));
            }
        }
    }

    /// The client comes back elsewhere, with the same message and then another one under the same identifier.
    fn taken_over_with_messages(&self) {
        let publishes = (1..8).map(|id| message(id, Qos::Two)).collect();
        client::spawn(
            &self.world,
            Plan {
                publishes,
                at: Some(1),
                pause: (1, 1),
                ..quiet(PUBLISHER)
            },
        );
    }

    fn after(&self, scene: Scene) {
        match scene {
            Scene::PubrelKillRecover => {
                self.connect_hand(PUBLISHER, 2, None);
                self.send(Up::Pubrel(1, 1));
            }
            Scene::UnsubscribeTakeover => {
                let publishes = [message(1, Qos::One)].into();
                client::spawn(
                    &self.world,
                    Plan {
                        publishes,
                        at: Some(2),
                        ..quiet(PUBLISHER + 1)
                    },
                );
            }
            Scene::AppendDeadForget => self.connect_hand(PUBLISHER, 2, None),
            Scene::Zombie => unheard(&self.world, self.hand.borrow().as_deref(), 51),
            _ => {}
        }
    }

    /// What is in Redis and should not be.
    fn left(&self, scene: Scene) -> Vec<String> {
        match scene {
            Scene::JoinDead => crate::run::left_of_dead(&self.world),
            _ => Vec::new(),
        }
    }

    fn connect_hand(&self, cid: Cid, slot: u32, will: Option<Will>) {
        let Some(socket) = self.world.net.dial(&self.world, slot) else {
            return;
        };
        socket.to_node(
            &self.world,
            Up::Connect(Connect {
                cid,
                clean: false,
                expiry: LONG,
                will,
            }),
        );
        *self.hand.borrow_mut() = Some(socket);
        self.world.run_until(self.world.now() + 300);
    }

    fn hand_id(&self) -> u64 {
        self.hand.borrow().as_ref().map_or(0, |socket| socket.id)
    }

    fn send(&self, packet: Up) {
        if let Some(socket) = self.hand.borrow().as_ref() {
            socket.to_node(&self.world, packet);
        }
    }

    fn publish(&self, pid: Pid, message: Message) {
        self.world.note(Event::Sent {
            cid: PUBLISHER,
            message,
        });
        self.send(Up::Publish(pid, message));
    }

    fn lose_hand(&self) {
        if let Some(socket) = self.hand.borrow().clone() {
            self.stimulus(3, move |world| {
                world.note(Event::Lost { conn: socket.id });
                socket.to_node(world, Up::Closed);
            });
        }
    }

    /// The same client on another node; it publishes so many messages.
    fn rival(&self, slot: u32, publishes: u32) {
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

    /// The first node dies somewhere; afterwards another one recovers it.
    fn kill_and_bury(&self, by: u32) {
        let node = Rc::clone(&self.nodes[0]);
        let dead = node.inc.get();
        self.stimulus(1, move |_| node.kill());
        self.stimulus(1, move |world| bury(world, by, dead));
    }

    /// Something that can happen between any two commands; those of one lane in their order.
    fn stimulus(&self, lane: u64, action: impl FnOnce(&Rc<World>) + 'static) {
        self.world.at(self.world.now(), Some(u64::MAX - lane), action);
    }
}

fn message(id: u32, qos: Qos) -> Message {
    Message {
        id,
        topic: TOPIC,
        qos,
        retain: false,
    }
}

fn bury(world: &Rc<World>, slot: u32, dead: u32) {
    let node = world.slots.borrow().get(&slot).cloned();
    if let Some(node) = node {
        node.bury(dead);
    }
}

/// A message without subscribers.
fn unheard(world: &World, socket: Option<&Socket>, id: u32) {
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
