//! Whether the endpoint answers: when it has not for some times, it is left alone for a while, and then tried by one.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::NoAnswer;

/// Failures in a row after which the endpoint is left alone.
const MOST_FAILURES: u32 = 3;
/// For how long.
const PAUSE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when nobody asks.
    pause: Option<Instant>,
    /// Whether somebody asks to find out.
    is_probing: bool,
}

/// One question. If it is given up, it says nothing of the endpoint.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    circuit: &'a Circuit,
    is_probe: bool,
}

impl Circuit {
    /// Whether it makes sense to wait for one's turn.
    pub(super) fn check(&self) -> Result<(), NoAnswer> {
        let state = self.0.lock();
        match state.pause {
            Some(pause) if pause > Instant::now() || state.is_probing => Err(NoAnswer::Down),
            _ => Ok(()),
        }
    }

    pub(super) fn enter(&self) -> Result<Attempt<'_>, NoAnswer> {
        let mut state = self.0.lock();
        let is_probe = state.pause.is_some();
        if state
            .pause
            .is_some_and(|pause| pause > Instant::now() || state.is_probing)
        {
            return Err(NoAnswer::Down);
        }
        state.is_probing = is_probe;
        drop(state);
        Ok(Attempt {
            circuit: self,
            is_probe,
        })
    }
}

impl Attempt<'_> {
    pub(super) fn succeeded(self) {
        let mut state = self.circuit.0.lock();
        state.failures = 0;
        let was_down = state.pause.take().is_some();
        drop(state);
        if was_down {
            tracing::info!("the HTTP endpoint for authentication answers again");
        }
    }

    pub(super) fn failed(self, reason: &str) {
        let mut state = self.circuit.0.lock();
        state.failures = state.failures.saturating_add(1);
        let goes_down = state.failures >= MOST_FAILURES && state.pause.is_none();
        if state.failures >= MOST_FAILURES {
            state.pause = Some(Instant::now() + PAUSE);
        }
        drop(state);
        match goes_down {
            true => tracing::error!(
                reason,
                "the HTTP endpoint for authentication is down: clients that it would \
                decide are refused"
            ),
            false => tracing::debug!(reason, "no answer from the HTTP endpoint for authentication"),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.circuit.0.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_left_alone_and_then_tried_by_one() {
        let circuit = Circuit::default();
        for _ in 0..MOST_FAILURES {
            circuit.enter().expect("up").failed("test");
        }
        assert_eq!(circuit.check(), Err(NoAnswer::Down));
        circuit.enter().expect_err("down");
        tokio::time::advance(PAUSE).await;
        let probe = circuit.enter().expect("one may try");
        assert_eq!(circuit.check(), Err(NoAnswer::Down));
        circuit.enter().expect_err("one is enough");
        // Its client has gone.
        drop(probe);
        circuit.enter().expect("another may try").failed("test");
        circuit.enter().expect_err("still down");
        tokio::time::advance(PAUSE).await;
        circuit.enter().expect("one may try").succeeded();
        let both = (circuit.enter().expect("up"), circuit.enter().expect("up"));
        drop(both);
        circuit.enter().expect("up").failed("test");
        circuit.enter().expect("one failure is none");
    }
}
