//! Worlds in which single guards matter more often than in the usual one.

use crate::guard::Guard;
use crate::run::Profile;
use crate::world::Roughness;

/// A world in which the guard matters often.
pub fn world_for(guard: Guard) -> Profile {
    let usual = Profile::default();
    let roughness = usual.roughness.clone();
    match guard {
        // What a connection has gathered is sent when the next one has begun.
        Guard::Token => Profile {
            leaves: 80,
            faults: 0,
            roughness: Roughness {
                flush: 120,
                ..roughness
            },
            ..usual
        },
        // Mirrors are late, and many subscribe.
        Guard::OwnMirror => Profile {
            clean: 16,
            leaves: 80,
            roughness: Roughness { holds: 8, ..roughness },
            ..usual
        },
        // Redis is away again and again.
        Guard::OwnReads => Profile {
            weights: [1, 2, 0, 0, 4],
            faults: 12,
            ..usual
        },
        _ => usual,
    }
}
