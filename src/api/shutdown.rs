//! The end of the broker.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{interval, timeout};

use super::Broker;
use crate::broker::Core;
use crate::events::Event;

/// Clients that are told in a second, in a cluster: those that come to the other nodes at once are no more than that.
const USUAL_RATE: NonZeroU32 = NonZeroU32::new(1000).expect("it is not 0");
/// Between those that are told together.
const STEP: Duration = Duration::from_millis(20);

impl Broker {
    /// Ends the broker: no new connections; the wills of the connected clients are published while all of them are
    /// still there to receive them; MQTT 5.0 clients are told [`ReasonCode::ServerShuttingDown`](crate::ReasonCode), or to use
    /// [`Config::server_reference`](crate::Config::server_reference), so many in a second as
    /// [`Config::drain_rate`](crate::Config::drain_rate) says; what is queued is flushed for at most
    /// [`Config::drain_timeout`](crate::Config::drain_timeout); then the program's own subscriptions end, and the store is closed.
    pub async fn shutdown(&self) {
        let core = &self.core;
        let limit = core.config().drain_timeout;
        core.stopping.send_replace(true);
        match &core.cluster {
            None => drop(timeout(limit, publish_wills(core)).await),
            Some(cluster) => cluster.begin_to_leave(),
        }
        let closed = async {
            tell_clients(core, limit / 2).await;
            all_closed(core).await;
        };
        let _ = timeout(limit, closed).await;
        if let Some(cluster) = &core.cluster {
            // Else the others find that this node is gone.
            let _ = timeout(limit, cluster.leave()).await;
        }
        if self.subscriptions.end() {
            core.events.emit(|| Event::Closed);
        }
        if let Some(journal) = core.journal.clone() {
            // It fails only if the runtime ends, and the journal's thread goes on by itself then.
            let _ = tokio::task::spawn_blocking(move || journal.close()).await;
        }
    }
}

/// Asks every connection to publish its will, and waits until they have.
async fn publish_wills(core: &Core) {
    let (done, mut all_done) = mpsc::channel(1);
    for outbox in core.registry.online_outboxes() {
        outbox.signal(|signals| signals.drain = Some(done.clone()));
    }
    drop(done);
    // Nobody sends anything: the channel closes when the last connection has dropped its end.
    let _ = all_done.recv().await;
}

/// Asks every connection to close, as fast as they may be, and faster if that would take longer than this.
async fn tell_clients(core: &Arc<Core>, within: Duration) {
    let outboxes = core.registry.online_outboxes();
    let usual = core.cluster.as_ref().map(|_| USUAL_RATE);
    let Pace { together, pause } = match core.config().drain_rate.or(usual) {
        Some(rate) => Pace::of(outboxes.len(), rate, within),
        None => Pace::at_once(outboxes.len()),
    };
    let reason = core.farewell();
    let mut ticks = interval(pause);
    for part in outboxes.chunks(together) {
        ticks.tick().await;
        for outbox in part {
            outbox.signal(|signals| signals.close = Some(reason));
        }
    }
}

/// How many clients are told together, and how long after the ones before.
#[derive(Debug, PartialEq, Eq)]
struct Pace {
    together: usize,
    pause: Duration,
}

impl Pace {
    fn of(clients: usize, rate: NonZeroU32, within: Duration) -> Pace {
        let wanted = clients as f64 / f64::from(rate.get());
        let time = wanted.min(within.as_secs_f64());
        let steps = time / STEP.as_secs_f64();
        if steps < 1.0 {
            return Pace::at_once(clients);
        }
        let together = (clients as f64 / steps).ceil();
        Pace {
            together: together as usize,
            pause: Duration::from_secs_f64(time * together / clients as f64),
        }
    }

    fn at_once(clients: usize) -> Pace {
        Pace {
            together: clients.max(1),
            pause: STEP,
        }
    }
}

async fn all_closed(core: &Core) {
    while core.connections.load(Ordering::Acquire) > 0 {
        core.connection_closed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_told_in_time() {
        let rate = NonZeroU32::new(100).expect("it is not 0");
        let pace = |clients, within| Pace::of(clients, rate, Duration::from_secs(within));
        for clients in [0, 1] {
            assert_eq!(pace(clients, 5), Pace::at_once(clients));
        }
        assert_eq!(pace(100, 0), Pace::at_once(100));
        for (clients, within, together, millis) in [(40, 5, 2, 20), (100, 5, 2, 20), (10_000, 5, 40, 20)] {
            let pause = Duration::from_millis(millis);
            assert_eq!(pace(clients, within), Pace { together, pause }, "{clients}");
        }
        let slow = NonZeroU32::new(4).expect("it is not 0");
        let pause = Duration::from_millis(250);
        assert_eq!(Pace::of(8, slow, Duration::from_secs(5)), Pace { together: 1, pause });
    }
}
