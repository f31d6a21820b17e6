//! What a run leaves behind.

use crate::check::Event;
use crate::home::State;
use crate::ids::Home;
use crate::world::World;

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
pub(crate) fn left(world: &World) -> Vec<String> {
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
                note(home, global.once.is_empty(), format!("m2 {:?}", global.once));
            }
            State::Bucket(bucket) => {
                let unknown: Vec<_> = bucket
                    .hw
                    .last
                    .keys()
                    .filter(|inc| !global.nodes.contains_key(inc))
                    .collect();
                note(home, unknown.is_empty(), format!("hw of {unknown:?}"));
                let fenced = &bucket.hw.fenced;
                note(home, fenced.is_empty(), format!("hw of dead {fenced:?}"));
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
                note(home, bucket.rests.is_empty(), format!("rests {:?}", bucket.rests));
                note(home, bucket.once.is_empty(), format!("m2 {:?}", bucket.once));
            }
        }
    }
    left
}
