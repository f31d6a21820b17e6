//! Each guard is needed: without it, the checker finds something within a few runs, and with it nothing in the same run.

use std::sync::atomic::{AtomicUsize, Ordering};

use cluster_sim::guard::{Guard, Guards};
use cluster_sim::run::{first_found, run};
use cluster_sim::small::{Scene, try_all};
use cluster_sim::worlds::world_for;

/// How many runs it may take.
const SEEDS: u64 = 3000;

/// The scene in which all orders are tried, for guards that matter too seldom in random runs.
fn scene_for(guard: Guard) -> Option<Scene> {
    match guard {
        Guard::LogBeforeRelease => Some(Scene::UnsubscribeTakeover),
        Guard::OwnMirror => Some(Scene::RetainSubscribe),
        Guard::SharedQos2HasMid => Some(Scene::LostAnswer),
        Guard::RetainOnce => Some(Scene::RetainDead),
        Guard::HintUid => Some(Scene::HintAfterEnd),
        _ => None,
    }
}

#[test]
fn each_guard_is_needed() {
    let next = AtomicUsize::new(0);
    let missed: Vec<Guard> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(|| missed_guards(&next))).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("no panic"))
            .collect()
    });
    assert!(missed.is_empty(), "nothing shows that these are missing: {missed:?}");
}

/// Takes guards until none is left.
fn missed_guards(next: &AtomicUsize) -> Vec<Guard> {
    let mut missed = Vec::new();
    while let Some(guard) = Guard::ALL.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
        let found = match scene_for(guard) {
            Some(scene) => found_in_scene(scene, guard),
            None => found_at_random(guard),
        };
        match found {
            Some(found) => println!("{guard:?}: {found}"),
            None => missed.push(guard),
        }
    }
    missed
}

fn found_at_random(guard: Guard) -> Option<String> {
    let (seed, found) = first_found(1..SEEDS, &world_for(guard), Guards::without(guard))?;
    let with_it = run(seed, &world_for(guard), Guards::all());
    assert!(
        with_it.found.is_empty(),
        "{}\nseed {seed} of {guard:?}: {:?}",
        with_it.steps,
        with_it.found
    );
    Some(format!("seed {seed}: {}", found[0]))
}

fn found_in_scene(scene: Scene, guard: Guard) -> Option<String> {
    let tried = try_all(scene, Guards::without(guard), 14, 2000);
    let found = tried.found.first()?;
    Some(format!("{scene:?}, order {}: {found}", tried.runs))
}
