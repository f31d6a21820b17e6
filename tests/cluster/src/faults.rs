//! What goes wrong in a random run.

use std::rc::Rc;

use crate::check::Event;
use crate::ids::Time;
use crate::net::SHARDS;
use crate::node::Node;
use crate::run::Profile;
use crate::world::{LEASE, World};

/// One fault, of a kind that the profile has.
pub(crate) fn plan_fault(world: &Rc<World>, profile: &Profile, at: Time) {
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
        Some(5) => world.at(at, None, move |world| leave(world, slot, time)),
        _ => world.at(at, None, move |world| restart_redis(world, time)),
    }
}

fn kill(world: &Rc<World>, slot: u32, time: Time) {
    let Some(node) = world.slots.borrow().get(&slot).cloned() else {
        return;
    };
    world.note(Event::Killed);
    node.kill();
    world.at(world.now() + time, None, move |world| {
        if !world.slots.borrow().contains_key(&slot) {
            Node::start(world, slot);
        }
    });
}

/// It is killed if it takes too long.
fn leave(world: &Rc<World>, slot: u32, time: Time) {
    let Some(node) = world.slots.borrow().get(&slot).cloned() else {
        return;
    };
    node.leave();
    world.at(world.now() + time, None, move |world| {
        if world.slots.borrow().get(&slot).is_some_and(|now| now.proc == node.proc) {
            world.note(Event::Killed);
            node.kill();
        }
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

pub(crate) fn redis_is_back(world: &Rc<World>, shard: u8) {
    if world.net.is_down(shard) {
        world.net.set_down(world, shard, false);
        if shard == 0 {
            world.note(Event::RedisUp);
        }
    }
}
