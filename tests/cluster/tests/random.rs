//! Thousands of clusters, each with faults of its own.
//!
//! `SIM_SEED` and `SIM_COUNT` choose other seeds, `SIM_WORLD` the world of a guard, and with `SIM_FULL_TRACE` a failure shows
//! all its steps.

use std::env;

use cluster_sim::guard::{Guard, Guards};
use cluster_sim::run::{Profile, run};
use cluster_sim::worlds::world_for;

/// Seeds of each world.
const SEEDS: u64 = 2000;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn keeps_all_promises(profile: &Profile, seeds: std::ops::Range<u64>) {
    let mut acknowledged = 0;
    let mut left = 0;
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = run(seed, profile, Guards::all());
        acknowledged += outcome.acknowledged as u64;
        left += outcome.left as u64;
        assert!(
            outcome.found.is_empty(),
            "{}\nseed {seed}: {:#?}",
            outcome.steps,
            outcome.found
        );
    }
    assert!(
        acknowledged > count * 20,
        "only {acknowledged} messages were acknowledged"
    );
    let leaves = profile.faults > 0 && profile.weights[5] > 0;
    assert!(!leaves || left > count / 10, "only {left} nodes have left");
}

#[test]
fn in_the_usual_world() {
    let first = number("SIM_SEED", 1);
    let name = env::var("SIM_WORLD").unwrap_or_default();
    let guard = Guard::ALL.iter().find(|guard| format!("{guard:?}") == name);
    let profile = guard.map_or_else(Profile::default, |guard| world_for(*guard));
    keeps_all_promises(&profile, first..first + number("SIM_COUNT", SEEDS));
}

#[test]
fn when_writes_are_lost() {
    for guard in [Guard::AppendAgain, Guard::AdoptOrphans, Guard::IncsGoOn] {
        keeps_all_promises(&world_for(guard), 1..number("SIM_COUNT", SEEDS) / 4 + 1);
    }
}

#[test]
fn in_worlds_that_are_hard_for_one_guard() {
    for guard in [Guard::Token, Guard::LeaseBeforeSend, Guard::AskAfterDone] {
        keeps_all_promises(&world_for(guard), 1..number("SIM_COUNT", SEEDS) / 4 + 1);
    }
}
