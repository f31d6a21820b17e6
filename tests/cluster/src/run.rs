//! One run: a cluster, its clients, faults that follow from the seed, then calm, then everything is taken down.

use std::rc::Rc;

use crate::cast::cast;
use crate::check::{self, Event};
use crate::faults::{plan_fault, redis_is_back};
use crate::guard::Guards;
use crate::ids::Time;
use crate::left::{left, note_retained};
use crate::net::SHARDS;
use crate::node::Node;
use crate::world::{LEASE, Roughness, World};

/// What kind of world a run has.
#[derive(Clone, Debug)]
pub struct Profile {
    pub nodes: u32,
    pub faults: u64,
    pub roughness: Roughness,
    pub busy: Time,
    /// How often each kind of fault is chosen: kill, pause, cut, hold, Redis restarts, leave.
    pub weights: [u64; 6],
    /// Percent of connections of persistent clients with Clean Start.
    pub clean: u64,
    /// Of 1,000 moments.
    pub leaves: u64,
    pub rivals: u64,
    /// Of 1,000 moments of a client that does so, in how many it unsubscribes.
    pub toggles: u64,
    /// How often a server takes over that lacks the last writes.
    pub failovers: u64,
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
                forgets: 10,
                flush: 3,
            },
            busy: LEASE * 10,
            weights: [3, 3, 4, 2, 1, 3],
            clean: 5,
            leaves: 25,
            rivals: 4,
            toggles: 15,
            failovers: 0,
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
    /// How many nodes have left with nothing to recover.
    pub left: usize,
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
    for _ in 0..profile.failovers {
        let shard = world.random.between(0, u64::from(SHARDS) - 1) as u8;
        let lag = world.random.between(5, LEASE / 2);
        let at = begin + world.random.between(0, profile.busy / 3);
        world.at(at, None, move |world| world.fail_over(shard, lag));
    }
    world.run_until(begin + profile.busy);
    calm_down(&world, profile);
    world.run_until(world.now() + LEASE * 14);
    note_retained(&world);
    let mut found = check::check(&world.history.borrow());
    let count = |is_one: fn(&Event) -> bool| world.history.borrow().iter().filter(|(_, event)| is_one(event)).count();
    let acknowledged = count(|event| matches!(event, Event::Acked { .. }));
    let has_left = count(|event| matches!(event, Event::NodeLeft { .. }));
    world.is_closing.set(true);
    world.run_until(world.now() + LEASE * 9);
    found.extend(left(&world));
    let steps = world.last_steps();
    world.end();
    Outcome {
        found,
        steps,
        acknowledged,
        left: has_left,
    }
}

fn calm_down(world: &Rc<World>, profile: &Profile) {
    world.is_calm.set(true);
    *world.roughness.borrow_mut() = Roughness {
        latency: (1, 3),
        refuses: 0,
        holds: 0,
        forgets: 0,
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
