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
        // Nodes are stopped, and clients are wanted elsewhere.
        Guard::LeaseBeforeSend => Profile {
            rivals: 12,
            weights: [0, 1, 0, 0, 0, 0],
            faults: 10,
            ..usual
        },
        // Redis is away again and again.
        Guard::OwnReads => Profile {
            weights: [1, 2, 0, 0, 4, 0],
            faults: 12,
            ..usual
        },
        // Answers are lost, and sessions end.
        Guard::AskAfterDone | Guard::KnownIsNotGone => Profile {
            clean: 16,
            leaves: 60,
            weights: [1, 0, 8, 2, 1, 0],
            faults: 16,
            ..usual
        },
        // Clients come and go, and are on every node.
        Guard::InboxBeforeOpen => Profile {
            leaves: 100,
            faults: 0,
            ..usual
        },
        // A failover loses writes, while clients are away.
        Guard::UnusedEnds | Guard::AppendAgain => Profile {
            failovers: 1,
            faults: 2,
            weights: [0, 1, 3, 1, 0, 0],
            ..usual
        },
        // It does, and nodes die.
        Guard::TouchedEnd | Guard::LastOfDead | Guard::AdoptOrphans => Profile {
            failovers: 2,
            faults: 8,
            weights: [6, 0, 2, 1, 0, 0],
            ..usual
        },
        // One after the other does.
        Guard::NewServerIsAsked
        | Guard::CountersOfServer
        | Guard::GenerationEnds
        | Guard::SettleFirst
        | Guard::IncsGoOn => Profile {
            failovers: 3,
            faults: 2,
            leaves: 40,
            weights: [1, 1, 2, 2, 0, 0],
            roughness: Roughness {
                latency: (1, 12),
                ..roughness
            },
            ..usual
        },
        _ => usual,
    }
}
