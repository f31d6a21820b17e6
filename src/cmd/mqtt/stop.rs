//! What ends a command from outside: a signal, or a limit of time.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Waits for SIGINT, SIGTERM, or the end of the time.
#[derive(Debug)]
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    until: Option<Instant>,
}

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Signal,
    Timeout,
}

impl Stop {
    /// The time begins now.
    pub(crate) fn after(time: Option<Duration>) -> Result<Stop, String> {
        let fault = |error| format!("can't listen for signals: {error}");
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt()).map_err(fault)?,
            terminate: signal(SignalKind::terminate()).map_err(fault)?,
            until: time.and_then(|time| Instant::now().checked_add(time)),
        })
    }

    pub(crate) async fn wait(&mut self) -> Stopped {
        let end = async {
            match self.until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Stopped::Signal,
            _ = self.terminate.recv() => Stopped::Signal,
            () = end => Stopped::Timeout,
        }
    }
}
