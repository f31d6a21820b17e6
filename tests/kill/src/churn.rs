//! Subscribing and unsubscribing without a pause.

use crate::client::{Filter, Wish};
use crate::packet::Version;
use crate::random::Random;

pub struct Churn {
    /// Topics of the client begin so.
    prefix: String,
    random: Random,
    /// Topics so far.
    topics: usize,
    steps: usize,
    pub paused: bool,
}

/// Requests that wait for their answer.
const WINDOW: usize = 3;
/// Acknowledged messages of the publishers for each step.
const PACE: usize = 30;
const MOST: usize = 300;

impl Churn {
    pub fn new(prefix: &str, random: Random) -> Churn {
        Churn {
            prefix: prefix.to_owned(),
            random,
            topics: 0,
            steps: 0,
            paused: false,
        }
    }

    /// Wishes as much as the load of the publishers allows.
    pub fn act(&mut self, filters: &mut Vec<Filter>, version: Version, load: usize) {
        let settled = |filter: &&Filter| matches!(filter.state, Wish::Granted | Wish::Left);
        let mut waiting = filters.len() - filters.iter().filter(settled).count();
        while !self.paused && waiting < WINDOW && self.steps < (WINDOW + load / PACE).min(MOST) {
            self.steps += 1;
            waiting += 1;
            self.step(filters, version);
        }
    }

    fn step(&mut self, filters: &mut Vec<Filter>, version: Version) {
        let own = |filter: &Filter| filter.name.starts_with(&*self.prefix) && filter.state == Wish::Granted;
        let granted: Vec<usize> = (0..filters.len()).filter(|at| own(&filters[*at])).collect();
        let chance = self.random.between(1, 100);
        if chance > 40 || granted.is_empty() {
            let name = format!("{}/{}", self.prefix, self.topics).into();
            self.topics += 1;
            let sid = if version.is_v5() { 1000 + self.topics as u32 } else { 0 };
            filters.push(Filter {
                name,
                qos: 1 + self.random.index(2) as u8,
                sid,
                state: Wish::New,
            });
            return;
        }
        let filter = &mut filters[granted[self.random.index(granted.len())]];
        if chance > 15 {
            filter.state = Wish::Unwanted;
        } else {
            // With other options.
            filter.qos = 3 - filter.qos;
            filter.state = Wish::New;
        }
    }
}
