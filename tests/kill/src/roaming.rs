//! How clients find their way about a cluster: when they come back after a connection has ended, and when they give one up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::random::Random;

pub struct Roaming {
    pub random: Random,
    lease: Duration,
    plans: HashMap<usize, Plan>,
}

/// What a client does next if nothing happens.
struct Plan {
    /// Connects, at the earliest.
    back: Instant,
    /// How long it waits for an answer.
    patience: Duration,
}

/// What a client is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Stay,
    Come,
    /// To another connection, since this one gives no answers.
    Leave,
}

impl Roaming {
    pub fn new(lease: Duration, random: Random) -> Roaming {
        Roaming {
            random,
            lease,
            plans: HashMap::new(),
        }
    }

    pub fn next(&mut self, at: usize, client: &Client) -> Move {
        if !client.wanted {
            return Move::Stay;
        }
        let plan = self.plan(at);
        if client.link.is_none() {
            return if Instant::now() >= plan.back {
                Move::Come
            } else {
                Move::Stay
            };
        }
        if client.is_waiting() && client.heard.elapsed() > plan.patience {
            return Move::Leave;
        }
        Move::Stay
    }

    /// A client has tried to connect: what it does if that fails, or its answer does not come.
    pub fn tried(&mut self, at: usize) {
        let pause = Duration::from_millis(self.random.between(10, 120));
        let patience = self.lease.mul_f64(1.0 + 3.0 * self.random.share());
        let plan = Plan {
            back: Instant::now() + pause,
            patience,
        };
        self.plans.insert(at, plan);
    }

    fn plan(&mut self, at: usize) -> &Plan {
        self.plans.entry(at).or_insert(Plan {
            back: Instant::now(),
            patience: self.lease * 2,
        })
    }
}
