//! Clients whose connections have ended lately. If Redis loses what was in their queues, they may have been sent what is not there
//! any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Touched(Mutex<VecDeque<(Instant, Arc<str>)>>);

/// Somewhat more than a failover may lose.
const LONGEST: Duration = Duration::from_secs(10);
/// However many come and go.
const MOST: usize = 200_000;

impl Touched {
    pub(super) fn note(&self, client_id: &Arc<str>) {
        let now = Instant::now();
        let mut touched = self.0.lock();
        touched.push_back((now, Arc::clone(client_id)));
        while touched.len() > MOST || touched.front().is_some_and(|(at, _)| now.duration_since(*at) > LONGEST) {
            touched.pop_front();
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<str>> {
        self.0
            .lock()
            .iter()
            .filter(|(at, _)| at.elapsed() <= LONGEST)
            .map(|(_, client_id)| Arc::clone(client_id))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let touched = Touched::default();
        for number in 0..=MOST {
            touched.note(&number.to_string().into());
        }
        let all = touched.all();
        assert_eq!((all.len(), &*all[0]), (MOST, "1"));
    }
}
