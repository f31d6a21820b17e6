//! All orders of the first commands of small scenes.

use std::sync::atomic::{AtomicUsize, Ordering};

use cluster_sim::guard::Guards;
use cluster_sim::small::{Scene, try_all};

/// Choices that are made in all ways; what comes behind them happens in one order.
const DEPTH: usize = 8;
/// Orders of one scene at most.
const MOST: usize = 9000;

#[test]
fn all_orders_keep_the_promises() {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(scene) = Scene::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    keeps_the_promises(*scene);
                }
            });
        }
    });
}

fn keeps_the_promises(scene: Scene) {
    let tried = try_all(scene, Guards::all(), DEPTH, MOST);
    assert!(tried.found.is_empty(), "{}\n{scene:?}: {:#?}", tried.steps, tried.found);
    println!("{scene:?}: {} orders", tried.runs);
    assert!(tried.is_complete, "{scene:?} has more orders than {MOST}");
    assert!(tried.runs > 50, "{scene:?} has only {} orders", tried.runs);
}
