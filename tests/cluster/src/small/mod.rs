//! Small clusters in which everything is tried: each order in which the commands of all nodes reach Redis, and each place
//! between two of them where a node can die.
//!
//! Commands that only read are done when they are sent, and answers come at once; timers wait until nothing else happens.

mod scenes;
mod stage;

use std::rc::Rc;

use self::stage::Stage;
use crate::check;
use crate::guard::Guards;
use crate::ids::Time;
use crate::left::note_retained;
use crate::world::Chooser;

/// How long it takes until nothing happens any more.
const LONG_ENOUGH: Time = 1500;

/// How often time passes while commands are under way.
const RESTS: usize = 2;

/// What happens at once, after a quiet beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Two connect while the client goes away.
    ClaimClaimRelease,
    /// Two connect while the client's node dies and is recovered.
    ClaimDeadRecover,
    /// A message is put into queues while its node dies and is recovered, and a will with it.
    AppendDeadForget,
    /// The same for QoS 2; the client comes back and repeats its PUBREL.
    PubrelKillRecover,
    /// A client is taken over while its messages are on their way.
    TakeoverInFlight,
    /// One subscribes, another one publishes on another node.
    SubscribePublish,
    /// A client unsubscribes, and is taken over and subscribes again.
    UnsubscribeTakeover,
    /// A node is declared dead that is not: it goes on serving a client that connects elsewhere.
    Zombie,
    /// A client is taken over while the record of a QoS 2 message is on its way, whose identifier is used again.
    ReceivedTakeover,
    /// The node of a member of a group dies while messages are given to it.
    MemberEnds,
    /// A QoS 2 message is for a group, and its node dies; the client comes back and repeats its PUBREL.
    GroupPubrelKill,
    /// What an owner is told of its queue comes in any order.
    HintsRace,
    /// So it does while the client begins a new session on the same node.
    HintAfterEnd,
    /// A node leaves, and dies meanwhile, and its client connects elsewhere.
    LeaveDead,
    /// The answer is lost that a QoS 2 message is given to a member, and its session ends.
    LostAnswer,
    /// One subscribes on another node when a retained message is acknowledged.
    RetainSubscribe,
    /// A node dies when it has retained a will, another message of that topic is acknowledged, and the node is recovered.
    RetainDead,
    /// A node joins, and is declared dead meanwhile.
    JoinDead,
}

impl Scene {
    pub const ALL: &[Scene] = &[
        Scene::ClaimClaimRelease,
        Scene::ClaimDeadRecover,
        Scene::AppendDeadForget,
        Scene::PubrelKillRecover,
        Scene::TakeoverInFlight,
        Scene::SubscribePublish,
        Scene::UnsubscribeTakeover,
        Scene::Zombie,
        Scene::ReceivedTakeover,
        Scene::MemberEnds,
        Scene::GroupPubrelKill,
        Scene::HintsRace,
        Scene::HintAfterEnd,
        Scene::LeaveDead,
        Scene::LostAnswer,
        Scene::RetainSubscribe,
        Scene::RetainDead,
        Scene::JoinDead,
    ];
}

/// What came of all orders.
#[derive(Debug)]
pub struct Tried {
    pub runs: usize,
    /// None was left out.
    pub is_complete: bool,
    pub found: Vec<String>,
    pub steps: String,
}

/// Tries all orders of a scene, until something is found or there have been enough. Only the first choices, so many, are
/// tried in all ways.
pub fn try_all(scene: Scene, guards: Guards, depth: usize, most: usize) -> Tried {
    let mut script = Vec::new();
    for runs in 1.. {
        let (found, steps, made) = play(scene, guards, script.clone(), false);
        if !found.is_empty() {
            let (_, steps, _) = play(scene, guards, script, true);
            return Tried {
                runs,
                is_complete: false,
                found,
                steps,
            };
        }
        let next = next_script(&made, depth);
        let is_complete = next.is_none();
        script = match next {
            Some(next) if runs < most => next,
            _ => {
                return Tried {
                    runs,
                    is_complete,
                    found,
                    steps,
                };
            }
        };
    }
    unreachable!("there are not that many runs")
}

/// The next way to choose, in the order of a search in depth.
fn next_script(made: &[(usize, usize)], depth: usize) -> Option<Vec<usize>> {
    let tried = &made[..depth.min(made.len())];
    let last = tried.iter().rposition(|(choice, of)| choice + 1 < *of)?;
    let kept = tried[..last].iter().map(|(choice, _)| *choice);
    Some(kept.chain([tried[last].0 + 1]).collect())
}

type Played = (Vec<String>, String, Vec<(usize, usize)>);

fn play(scene: Scene, guards: Guards, script: Vec<usize>, is_tracing: bool) -> Played {
    let stage = Stage::new(guards, is_tracing);
    let world = Rc::clone(&stage.world);
    stage.prepare(scene);
    world.run_until(world.now() + LONG_ENOUGH);
    *world.chooser.borrow_mut() = Some(Chooser::new(script, RESTS));
    stage.begin(scene);
    world.run_until(world.now() + LONG_ENOUGH);
    let made = world
        .chooser
        .borrow_mut()
        .take()
        .map(|chooser| chooser.made)
        .unwrap_or_default();
    stage.after(scene);
    world.run_until(world.now() + LONG_ENOUGH * 2);
    note_retained(&world);
    let mut found = check::check(&world.history.borrow());
    found.extend(stage.left(scene));
    let steps = world.last_steps();
    world.end();
    (found, steps, made)
}
