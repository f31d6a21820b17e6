//! Whether the endpoint answers: when it has not for some times, it is left alone for a while, and then tried by one.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::NoAnswer;
use crate::access::Origin;

/// Failures in a row after which the endpoint is left alone.
const MOST_FAILURES: usize = 3;
/// For how long.
const PAUSE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Questions in a row that had no answer at all.
    unanswered: usize,
    /// Whose questions the last ones were that the endpoint failed over.
    errors: VecDeque<Origin>,
    /// Until when nobody asks.
    pause: Option<Instant>,
    /// Whether somebody asks to find out.
    is_probing: bool,
}

/// How a question ends without an answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is none.
    NoAnswer(Box<str>),
    /// The endpoint says that it has failed. It may have failed over this question alone.
    Error(Box<str>),
}

/// One question. If it is given up soon, it says nothing of the endpoint.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    circuit: &'a Circuit,
    is_probe: bool,
    origin: Origin,
    /// From then on, to be given up means that there was no answer.
    late: Instant,
    has_ended: bool,
}

impl State {
    /// One address can make the endpoint fail as often as it likes, and that must not keep the others out.
    fn is_down(&self) -> bool {
        let has_failed = self.errors.len() >= MOST_FAILURES;
        let are_many = self.errors.iter().any(|origin| Some(origin) != self.errors.front());
        self.unanswered >= MOST_FAILURES || has_failed && are_many
    }

    fn count(&mut self, origin: Origin, failure: &Failure) {
        match failure {
            Failure::NoAnswer(_) => self.unanswered = self.unanswered.saturating_add(1),
            Failure::Error(_) => {
                self.unanswered = 0;
                self.errors.push_back(origin);
                if self.errors.len() > MOST_FAILURES {
                    self.errors.pop_front();
                }
            }
        }
        self.pause = self.is_down().then(|| Instant::now() + PAUSE);
    }
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

    /// Begins a question of this address. To be given up after this time means that there was no answer.
    pub(super) fn enter(&self, origin: Origin, patience: Duration) -> Result<Attempt<'_>, NoAnswer> {
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
            origin,
            late: Instant::now() + patience,
            has_ended: false,
        })
    }
}

impl Attempt<'_> {
    /// There was an answer, whatever it says to the client.
    pub(super) fn succeeded(mut self) {
        self.has_ended = true;
        let mut state = self.circuit.0.lock();
        state.unanswered = 0;
        state.errors.clear();
        let was_down = state.pause.take().is_some();
        drop(state);
        if was_down {
            tracing::info!("the HTTP endpoint for authentication answers again");
        }
    }

    pub(super) fn failed(mut self, failure: &Failure) {
        self.fail(failure);
    }

    fn fail(&mut self, failure: &Failure) {
        self.has_ended = true;
        let mut state = self.circuit.0.lock();
        let was_down = state.pause.is_some();
        state.count(self.origin, failure);
        let is_down = state.pause.is_some();
        drop(state);
        let (Failure::NoAnswer(reason) | Failure::Error(reason)) = failure;
        match (was_down, is_down) {
            (false, true) => tracing::error!(
                reason,
                "the HTTP endpoint for authentication is down: clients that it would \
                decide are refused"
            ),
            (true, false) => tracing::info!(reason, "the HTTP endpoint for authentication answers again"),
            _ => tracing::debug!(reason, "no answer from the HTTP endpoint for authentication"),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_ended && Instant::now() >= self.late {
            self.fail(&Failure::NoAnswer("the client has not waited for it".into()));
        }
        if self.is_probe {
            self.circuit.0.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn enter(circuit: &Circuit, host: u8) -> Result<Attempt<'_>, NoAnswer> {
        circuit.enter(Some([10, 0, 0, host].into()), PATIENCE)
    }

    fn no_answer() -> Failure {
        Failure::NoAnswer("test".into())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_left_alone_and_then_tried_by_one() {
        let circuit = Circuit::default();
        for _ in 0..MOST_FAILURES {
            enter(&circuit, 1).expect("up").failed(&no_answer());
        }
        assert_eq!(circuit.check(), Err(NoAnswer::Down));
        enter(&circuit, 1).expect_err("down");
        tokio::time::advance(PAUSE).await;
        let probe = enter(&circuit, 1).expect("one may try");
        assert_eq!(circuit.check(), Err(NoAnswer::Down));
        enter(&circuit, 1).expect_err("one is enough");
        // Its client has gone.
        drop(probe);
        enter(&circuit, 1).expect("another may try").failed(&no_answer());
        enter(&circuit, 1).expect_err("still down");
        tokio::time::advance(PAUSE).await;
        enter(&circuit, 1).expect("one may try").succeeded();
        let both = (enter(&circuit, 1).expect("up"), enter(&circuit, 1).expect("up"));
        drop(both);
        enter(&circuit, 1).expect("up").failed(&no_answer());
        enter(&circuit, 1).expect("one failure is none");
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_does_not_take_it_down() {
        let circuit = Circuit::default();
        let fail = |host| {
            let attempt = enter(&circuit, host).expect("up");
            attempt.failed(&Failure::Error("test".into()));
        };
        (0..10).for_each(|_| fail(1));
        assert_eq!(circuit.check(), Ok(()));
        fail(2);
        assert_eq!(circuit.check(), Err(NoAnswer::Down));
        // Nor does it keep it down, as the one that finds out.
        for _ in 0..MOST_FAILURES - 1 {
            tokio::time::advance(PAUSE).await;
            fail(2);
        }
        assert_eq!(circuit.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_are_given_up_late_had_no_answer() {
        let circuit = Circuit::default();
        for _ in 0..MOST_FAILURES {
            drop(enter(&circuit, 1).expect("up"));
        }
        assert_eq!(circuit.check(), Ok(()));
        for _ in 0..MOST_FAILURES {
            let attempt = enter(&circuit, 1).expect("up");
            tokio::time::advance(PATIENCE).await;
            drop(attempt);
        }
        assert_eq!(circuit.check(), Err(NoAnswer::Down));
    }
}
