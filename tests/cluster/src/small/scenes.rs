//! How each scene begins, what happens at once, and what comes after it.

use std::rc::Rc;

use super::stage::{
    MEMBER, PUBLISHER, SHARED, SUBSCRIBER, Stage, TOPIC, WILL_TOPIC, bury, message, subscriber, unheard,
    when_acknowledged,
};
use super::{LONG_ENOUGH, Scene};
use crate::cast::quiet;
use crate::check::{Event, Seen};
use crate::client::{self, LONG, Plan};
use crate::ids::{Message, Qos, Will};
use crate::net::{Kind, Up};
use crate::node::Node;

impl Stage {
    pub(super) fn prepare(&self, scene: Scene) {
        let subs = vec![TOPIC.into(), WILL_TOPIC.into()];
        let subscriber = Plan {
            subs,
            at: Some(2),
            ..quiet(SUBSCRIBER)
        };
        match scene {
            Scene::UnsubscribeTakeover | Scene::HintAfterEnd => {
                self.connect_hand(SUBSCRIBER, 0, None);
                self.subscribe_hand(SUBSCRIBER, TOPIC.into());
            }
            Scene::SubscribePublish | Scene::RetainSubscribe => {}
            Scene::MemberEnds => {
                self.subscriber(SUBSCRIBER, 2, SHARED);
                self.connect_for(0, MEMBER, 0, None);
                self.subscribe_hand(MEMBER, SHARED);
            }
            Scene::HintsRace => {
                self.world.hints_race.set(true);
                self.subscriber(SUBSCRIBER, 2, TOPIC.into());
            }
            Scene::GroupPubrelKill | Scene::LostAnswer => {
                self.subscriber(SUBSCRIBER, 2, SHARED);
                self.subscriber(MEMBER, 1, SHARED);
                let expiry = if scene == Scene::LostAnswer { 0 } else { LONG };
                self.connect_for(expiry, PUBLISHER, 0, None);
            }
            _ => {
                client::spawn(&self.world, subscriber);
                let will = Message {
                    id: 99,
                    topic: WILL_TOPIC,
                    qos: Qos::Two,
                    retain: scene == Scene::RetainDead,
                };
                let has_will = matches!(
                    scene,
                    Scene::ClaimDeadRecover | Scene::AppendDeadForget | Scene::LeaveDead | Scene::RetainDead
                );
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
        if matches!(
            scene,
            Scene::PubrelKillRecover | Scene::GroupPubrelKill | Scene::LostAnswer
        ) {
            self.publish(1, message(1, Qos::Two));
        }
    }

    pub(super) fn begin(&self, scene: Scene) {
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
            Scene::PubrelKillRecover | Scene::GroupPubrelKill => {
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
                self.subscriber(SUBSCRIBER, 1, TOPIC.into());
                self.publisher(0, (1..4).map(|id| message(id, Qos::One)));
            }
            Scene::RetainSubscribe => {
                let retain = true;
                let message = |id| Message {
                    retain,
                    ..message(id, Qos::One)
                };
                self.publisher(0, (1..3).map(message));
                when_acknowledged(&self.world, |world| subscriber(world, SUBSCRIBER, 1, TOPIC.into()));
            }
            Scene::RetainDead => {
                self.lose_hand();
                self.kill_retain_and_bury();
            }
            Scene::LostAnswer => {
                self.send(Up::Pubrel(1, 1));
                self.lose_answers();
                self.new_session(SUBSCRIBER, 2);
            }
            Scene::LeaveDead => {
                self.publish(1, message(1, Qos::One));
                self.nodes[0].leave();
                self.kill_and_bury(1);
                self.rival(2, 0);
            }
            Scene::HintAfterEnd => {
                self.world.hints_race.set(true);
                self.publisher(1, [message(1, Qos::One)]);
                self.lose_hand();
                self.new_session(SUBSCRIBER, 0);
            }
            Scene::HintsRace => self.publisher(1, (1..4).map(|id| message(id, Qos::Two))),
            Scene::MemberEnds => {
                self.publisher(1, (1..3).map(|id| message(id, Qos::One)));
                self.kill_and_bury(2);
            }
            Scene::UnsubscribeTakeover => {
                self.world.note(Event::UnsubSent {
                    cid: SUBSCRIBER,
                    filter: TOPIC.into(),
                });
                self.send(Up::Unsubscribe(TOPIC.into()));
                self.lose_hand();
                self.subscriber(SUBSCRIBER, 1, TOPIC.into());
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

    /// The first node dies somewhere. If its will has been retained by then, it is not the last message of its topic when the node is
    /// recovered.
    fn kill_retain_and_bury(&self) {
        let node = Rc::clone(&self.nodes[0]);
        let dead = node.inc.get();
        self.stimulus(1, move |world| {
            node.kill();
            let is_retained = |(_, event): &Seen| matches!(event, Event::Retains { .. });
            if !world.history.borrow().iter().any(is_retained) {
                return bury(world, 1, dead);
            }
            let later = Message {
                topic: WILL_TOPIC,
                retain: true,
                ..message(1, Qos::One)
            };
            let plan = Plan {
                publishes: [later].into(),
                at: Some(1),
                pause: (1, 1),
                ..quiet(PUBLISHER + 1)
            };
            client::spawn(world, plan);
            when_acknowledged(world, move |world| bury(world, 1, dead));
        });
    }

    /// The client comes back elsewhere, with the same message and then another one under the same identifier.
    fn taken_over_with_messages(&self) {
        self.publisher(1, (1..8).map(|id| message(id, Qos::Two)));
    }

    pub(super) fn after(&self, scene: Scene) {
        match scene {
            Scene::PubrelKillRecover | Scene::GroupPubrelKill => {
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
            Scene::AppendDeadForget | Scene::RetainDead => self.connect_hand(PUBLISHER, 2, None),
            Scene::MemberEnds => self.connect_hand(MEMBER, 2, None),
            Scene::Zombie => unheard(&self.world, self.hand.borrow().as_deref(), 51),
            _ => {}
        }
    }

    /// What is in Redis and should not be.
    pub(super) fn left(&self, scene: Scene) -> Vec<String> {
        match scene {
            Scene::JoinDead | Scene::LeaveDead => crate::left::left_of_dead(&self.world),
            _ => Vec::new(),
        }
    }
}
