//! One run: a cluster, its clients, faults that follow from the seed, then calm, then everything is taken down.

use std::rc::Rc;

use crate::check::{self, Event};
use crate::client::{self, LONG, Plan};
use crate::guard::Guards;
use crate::home::State;
use crate::ids::{Cid, Home, Message, Qos, Time, Topic};
use crate::net::SHARDS;
use crate::node::Node;
use crate::world::{LEASE, Roughness, World};

/// Messages go here; wills; retained messages; and QoS 1 for a client that has rivals.
const TOPICS: [Topic; 2] = [1, 2];
const WILL_TOPIC: Topic = 9;
const RETAINED_TOPIC: Topic = 5;
const CONTESTED_TOPIC: Topic = 3;
/// Nobody subscribes to this one.
const UNHEARD_TOPIC: Topic = 7;

/// What kind of world a run has.
#[derive(Clone, Debug)]
pub struct Profile {
    pub nodes: u32,
    pub faults: u64,
    pub roughness: Roughness,
    pub busy: Time,
    /// How often each kind of fault is chosen: kill, pause, cut, hold, Redis restarts.
    pub weights: [u64; 5],
    /// Percent of connections of persistent clients with Clean Start.
    pub clean: u64,
    /// Of 1,000 moments.
    pub leaves: u64,
    pub rivals: u64,
    /// Of 1,000 moments of a client that does so, in how many it unsubscribes.
    pub toggles: u64,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            nodes: 3,
            faults: 8,
            roughness: Roughness {
                latency: (1, 4),
                refuses: 1,
                holds: 1,
                flush: 3,
            },
            busy: LEASE * 10,
            weights: [3, 3, 4, 2, 1],
            clean: 5,
            leaves: 25,
            rivals: 4,
            toggles: 15,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    pub found: Vec<String>,
    pub steps: String,
    /// How many messages were acknowledged.
    pub acknowledged: usize,
}

/// Runs one seed. If something is found, it is run again to tell the steps.
pub fn run(seed: u64, profile: &Profile, guards: Guards) -> Outcome {
    let outcome = run_once(seed, profile, guards, false);
    if outcome.found.is_empty() {
        return outcome;
    }
    run_once(seed, profile, guards, true)
}

/// Runs seeds until one shows something.
pub fn first_found(seeds: std::ops::Range<u64>, profile: &Profile, guards: Guards) -> Option<(u64, Vec<String>)> {
    seeds.into_iter().find_map(|seed| {
        let outcome = run_once(seed, profile, guards, false);
        (!outcome.found.is_empty()).then_some((seed, outcome.found))
    })
}

fn run_once(seed: u64, profile: &Profile, guards: Guards, is_tracing: bool) -> Outcome {
    let world = World::new(seed, guards, profile.roughness.clone(), is_tracing);
    for slot in 0..profile.nodes {
        Node::start(&world, slot);
        world.run_until(world.now() + world.random.between(0, 20));
    }
    cast(&world, profile);
    let begin = world.now() + 50;
    for _ in 0..profile.faults {
        plan_fault(&world, profile, begin + world.random.between(0, profile.busy));
    }
    world.run_until(begin + profile.busy);
    calm_down(&world, profile);
    world.run_until(world.now() + LEASE * 14);
    note_retained(&world);
    let mut found = check::check(&world.history.borrow());
    let acknowledged = world
        .history
        .borrow()
        .iter()
        .filter(|(_, event)| matches!(event, Event::Acked { .. }))
        .count();
    world.is_closing.set(true);
    world.run_until(world.now() + LEASE * 9);
    found.extend(left(&world));
    let steps = world.last_steps();
    world.end();
    Outcome {
        found,
        steps,
        acknowledged,
    }
}

fn calm_down(world: &Rc<World>, profile: &Profile) {
    world.is_calm.set(true);
    *world.roughness.borrow_mut() = Roughness {
        latency: (1, 3),
        refuses: 0,
        holds: 0,
        flush: 3,
    };
    (0..SHARDS).for_each(|shard| redis_is_back(world, shard));
    for slot in 0..profile.nodes {
        let node = world.slots.borrow().get(&slot).cloned();
        match node {
            Some(node) => world.exec.resume(node.proc),
            None => drop(Node::start(world, slot)),
        }
    }
}

fn messages(
    world: &World,
    first: u32,
    count: u32,
    topics: &[Topic],
    qos: &[Qos],
) -> std::collections::VecDeque<Message> {
    // Messages of different QoS on one topic have no order.
    let retained_qos = qos[world.random.index(qos.len())];
    let message = |n| {
        let topic = topics[world.random.index(topics.len())];
        let retain = topic == RETAINED_TOPIC;
        let qos = if retain {
            retained_qos
        } else {
            qos[world.random.index(qos.len())]
        };
        Message {
            id: first + n,
            topic,
            qos,
            retain,
        }
    };
    (0..count).map(message).collect()
}

pub(crate) fn quiet(cid: Cid) -> Plan {
    Plan {
        cid,
        expiry: LONG,
        clean: 0,
        subs: Vec::new(),
        publishes: Default::default(),
        pause: (10, 90),
        will: None,
        leaves: 0,
        says_so: 40,
        at: None,
        is_rival: false,
        away: (1, LEASE),
        toggles: 0,
    }
}

/// Who takes part.
fn cast(world: &Rc<World>, profile: &Profile) {
    let both = [Qos::One, Qos::Two];
    let leaves = profile.leaves;
    let all = [TOPICS[0], TOPICS[1], WILL_TOPIC];
    client::spawn(
        world,
        Plan {
            subs: all.to_vec(),
            leaves,
            ..quiet(1)
        },
    );
    client::spawn(
        world,
        Plan {
            subs: [TOPICS[0], WILL_TOPIC].to_vec(),
            expiry: 0,
            leaves: leaves / 3,
            ..quiet(2)
        },
    );
    let delay = [0, LEASE / 2, LEASE * 2][world.random.index(3)];
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 1000, 12, &TOPICS, &both),
            will: Some((WILL_TOPIC, delay)),
            clean: profile.clean,
            leaves,
            ..quiet(3)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 2000, 12, &TOPICS, &both),
            leaves,
            ..quiet(4)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 3000, 12, &[TOPICS[0], RETAINED_TOPIC], &both),
            expiry: 0,
            will: Some((WILL_TOPIC, 0)),
            leaves: leaves / 2,
            ..quiet(5)
        },
    );
    client::spawn(
        world,
        Plan {
            subs: [TOPICS[0], RETAINED_TOPIC].to_vec(),
            clean: profile.clean * 6,
            leaves,
            toggles: profile.toggles,
            ..quiet(6)
        },
    );
    client::spawn(
        world,
        Plan {
            subs: [CONTESTED_TOPIC].to_vec(),
            leaves: leaves / 5,
            ..quiet(8)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 4000, 16, &[CONTESTED_TOPIC], &[Qos::One]),
            pause: (5, 40),
            ..quiet(9)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 5000, 24, &[UNHEARD_TOPIC], &[Qos::One]),
            pause: (20, 200),
            ..quiet(11)
        },
    );
    let expiry = world.random.between(LEASE, LEASE * 3);
    client::spawn(
        world,
        Plan {
            subs: [TOPICS[1]].to_vec(),
            will: Some((WILL_TOPIC, LEASE)),
            expiry,
            leaves,
            away: (LEASE, LEASE * 4),
            ..quiet(10)
        },
    );
    rivals(world, profile);
}

fn rivals(world: &Rc<World>, profile: &Profile) {
    for _ in 0..profile.rivals {
        let cid = [4, 8, 11][world.random.index(3)];
        let time = world.random.between(50, profile.busy);
        let plan = Plan {
            is_rival: true,
            pause: (1, 5),
            ..quiet(cid)
        };
        world.at(time, None, move |world| client::spawn(world, plan));
    }
}

fn plan_fault(world: &Rc<World>, profile: &Profile, at: Time) {
    let mut choice = world.random.between(1, profile.weights.iter().sum::<u64>().max(1));
    let kind = profile.weights.iter().position(|weight| {
        let is_this = choice <= *weight;
        choice = choice.saturating_sub(*weight);
        is_this
    });
    let slot = world.random.between(0, u64::from(profile.nodes) - 1) as u32;
    let time = match world.random.percent(50) {
        true => world.random.between(5, LEASE / 2),
        false => world.random.between(LEASE / 2, LEASE * 4),
    };
    match kind {
        Some(0) => world.at(at, None, move |world| kill(world, slot, time)),
        Some(1) => world.at(at, None, move |world| pause(world, slot, time)),
        Some(2) => world.at(at, None, move |world| cut(world, slot, time)),
        Some(3) => world.at(at, None, move |world| hold(world, slot, time)),
        _ => world.at(at, None, move |world| restart_redis(world, time)),
    }
}

fn kill(world: &Rc<World>, slot: u32, time: Time) {
    let Some(node) = world.slots.borrow().get(&slot).cloned() else {
        return;
    };
    node.kill();
    world.at(world.now() + time, None, move |world| {
        if !world.slots.borrow().contains_key(&slot) {
            Node::start(world, slot);
        }
    });
}

fn pause(world: &Rc<World>, slot: u32, time: Time) {
    let Some(node) = world.slots.borrow().get(&slot).cloned() else {
        return;
    };
    world.trace(|| format!("pause node {slot} for {time}"));
    world.exec.pause(node.proc);
    let proc = node.proc;
    world.at(world.now() + time, None, move |world| {
        world.trace(|| format!("node {slot} goes on"));
        world.exec.resume(proc);
    });
}

/// Some or all connections of a node to Redis.
fn cut(world: &Rc<World>, slot: u32, time: Time) {
    let Some(node) = world.slots.borrow().get(&slot).cloned() else {
        return;
    };
    let all = world.random.percent(50);
    for conn in world.net.conns_of(node.proc) {
        if all || world.random.percent(40) {
            world.net.cut(world, conn, time);
        }
    }
}

fn hold(world: &Rc<World>, slot: u32, time: Time) {
    let Some(node) = world.slots.borrow().get(&slot).cloned() else {
        return;
    };
    world.trace(|| format!("bytes of node {slot} are held back for {time}"));
    for conn in world.net.conns_of(node.proc) {
        if world.random.percent(50) {
            world.net.hold(world, conn, time);
        }
    }
}

fn restart_redis(world: &Rc<World>, time: Time) {
    let shard = world.random.between(0, u64::from(SHARDS) - 1) as u8;
    if world.net.is_down(shard) {
        return;
    }
    if shard == 0 {
        world.note(Event::RedisDown);
    }
    world.trace(|| format!("shard {shard} is down for {time}"));
    world.net.set_down(world, shard, true);
    world.at(world.now() + time, None, move |world| redis_is_back(world, shard));
}

fn redis_is_back(world: &Rc<World>, shard: u8) {
    if world.net.is_down(shard) {
        world.net.set_down(world, shard, false);
        if shard == 0 {
            world.note(Event::RedisUp);
        }
    }
}

pub(crate) fn note_retained(world: &World) {
    let retained = match world.homes.borrow().get(&Home::Global) {
        Some(State::Global(global)) => global.retained.clone(),
        _ => Default::default(),
    };
    for message in retained.values() {
        world.note(Event::Retained {
            on: None,
            topic: message.topic,
            id: message.id,
        });
    }
    for node in world.slots.borrow().values().filter(|node| node.is_ready()) {
        for message in node.retained() {
            world.note(Event::Retained {
                on: Some(node.inc.get()),
                topic: message.topic,
                id: message.id,
            });
        }
    }
}

/// Which incarnations may write to buckets and are no nodes.
pub(crate) fn left_of_dead(world: &World) -> Vec<String> {
    let homes = world.homes.borrow();
    let Some(State::Global(global)) = homes.get(&Home::Global) else {
        return Vec::new();
    };
    let unknown = |(home, state): (&Home, &State)| {
        let State::Bucket(bucket) = state else { return None };
        let unknown: Vec<_> = bucket
            .hw
            .last
            .keys()
            .filter(|inc| !global.nodes.contains_key(inc))
            .collect();
        (!unknown.is_empty()).then(|| format!("C8: {home:?}: hw of {unknown:?}"))
    };
    homes.iter().filter_map(unknown).collect()
}

/// What is left in Redis after all clients have taken their sessions down.
fn left(world: &World) -> Vec<String> {
    let homes = world.homes.borrow();
    let Some(State::Global(global)) = homes.get(&Home::Global) else {
        return Vec::new();
    };
    let mut left = Vec::new();
    let mut note = |home: &Home, is_empty: bool, what: String| {
        if !is_empty {
            left.push(format!("C8: {home:?}: {what}"));
        }
    };
    for (home, state) in homes.iter() {
        match state {
            State::Global(global) => {
                let (rec, routes) = (&global.recoverers, &global.routes);
                note(
                    home,
                    rec.is_empty() && routes.is_empty(),
                    format!("recoverers {rec:?}, routes {routes:?}"),
                );
            }
            State::Bucket(bucket) => {
                let unknown: Vec<_> = bucket
                    .hw
                    .last
                    .keys()
                    .filter(|inc| !global.nodes.contains_key(inc))
                    .collect();
                note(home, unknown.is_empty(), format!("hw of {unknown:?}"));
                note(home, bucket.clients.is_empty(), format!("clients {:?}", bucket.clients));
                note(
                    home,
                    bucket.sessions.is_empty(),
                    format!("sessions {:?}", bucket.sessions),
                );
                note(home, bucket.owned.is_empty(), format!("own {:?}", bucket.owned));
                note(home, bucket.jobs.is_empty(), format!("jobs {:?}", bucket.jobs));
                let lost: Vec<_> = bucket
                    .inboxes
                    .keys()
                    .filter(|inc| !global.nodes.contains_key(inc))
                    .collect();
                note(home, lost.is_empty(), format!("inboxes of {lost:?}"));
                note(home, bucket.once.is_empty(), format!("m2 {:?}", bucket.once));
            }
        }
    }
    left
}
