//! That this node lives: said to the others, and known of itself.
//!
//! Others declare a node dead whose counter they have seen unchanged for a lease. So a node whose last heartbeat *that was answered* was
//! sent more than a lease ago may be dead without knowing it, and sends nothing that its successor may be sending.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Cluster;
use super::own_thread::OwnThread;
use crate::broker::core::Core;
use crate::store::StoreError;

/// See the module.
#[derive(Debug)]
pub(super) struct Heart {
    lease: Duration,
    /// When the last heartbeat was sent that has been answered.
    last: Mutex<Option<Instant>>,
    beaten: Notify,
}

impl Heart {
    pub(super) fn new(lease: Duration) -> Heart {
        Heart {
            lease,
            last: Mutex::new(None),
            beaten: Notify::new(),
        }
    }

    pub(super) fn is_stale(&self) -> bool {
        self.last.lock().is_none_or(|sent| sent.elapsed() >= self.lease)
    }

    /// Whether the store takes heartbeats: the last three have not all been missed.
    pub(super) fn is_heard(&self) -> bool {
        self.age().is_some_and(|age| age < self.lease * 2 / 3)
    }

    /// How old the last heartbeat is.
    pub(super) fn age(&self) -> Option<Duration> {
        self.last.lock().map(|sent| sent.elapsed())
    }

    /// A heartbeat was answered that was sent then; whether this node was stale until now, for however short a time.
    fn beaten(&self, sent: Instant) -> bool {
        let mut last = self.last.lock();
        let was_stale = last.is_none_or(|before| before.elapsed() >= self.lease);
        *last = Some(sent);
        drop(last);
        self.beaten.notify_waiters();
        was_stale
    }

    pub(super) async fn wait_until_young(&self) {
        loop {
            let beaten = self.beaten.notified();
            if !self.is_stale() {
                return;
            }
            beaten.await;
        }
    }
}

/// What a heartbeat has shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// This node lives. It may have been stale before, and connections wait for this.
    Lives {
        was_stale: bool,
    },
    /// The others have declared it dead, or it can't go on for another reason.
    Over,
    Unanswered,
}

/// One heartbeat. Blocks.
pub(super) fn beat_once(cluster: &Cluster) -> Beat {
    let sent = Instant::now();
    match cluster.store.beat() {
        Ok(true) => Beat::Lives {
            was_stale: cluster.heart.beaten(sent),
        },
        Ok(false) => {
            tracing::error!("the others have declared this node dead: nothing that it does has effect any more");
            Beat::Over
        }
        Err(StoreError::Refused(_)) => Beat::Over,
        Err(error) => {
            tracing::debug!(%error, "a heartbeat was not answered");
            Beat::Unanswered
        }
    }
}

/// Beats while something is done that blocks, and may take longer than a lease.
pub(super) fn beat_meanwhile<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> T {
    let pause = cluster.lease / 3;
    std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::sync_channel::<()>(0);
        scope.spawn(move || {
            while is_done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                beat_once(cluster);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Beats three times in a lease, on a thread of its own.
pub(super) async fn run(core: Arc<Core>, thread: OwnThread) {
    let Some(cluster) = core.cluster.clone() else { return };
    let mut is_isolated = false;
    loop {
        let own = Arc::clone(&cluster);
        match thread.run(move || beat_once(&own)).await {
            Ok(Beat::Lives { was_stale: true }) => {
                for outbox in core.registry.online_outboxes() {
                    outbox.signal(|signals| signals.kept = true);
                }
            }
            // Who has nothing to write would not learn of it.
            Ok(Beat::Over) => drop(cluster.settle()),
            _ => {}
        }
        let was_isolated = std::mem::replace(&mut is_isolated, cluster.is_isolated());
        if is_isolated {
            core.close_isolated(!was_isolated);
        }
        if cluster.store.owes() {
            drop(cluster.settle());
        }
        tokio::time::sleep(cluster.lease / 3).await;
    }
}

impl Cluster {
    /// Whether nothing was heard of the store for longer than clients are to be served without it.
    fn is_isolated(&self) -> bool {
        self.heart.age().is_some_and(|age| age >= self.isolation_limit)
    }
}

impl Core {
    /// Clients may find a node that has what this one has not: they are sent away. Others are refused by now.
    fn close_isolated(&self, is_news: bool) {
        let online = self.registry.online_outboxes();
        if is_news {
            tracing::error!(
                clients = online.len(),
                "Redis has not answered for the isolation limit (--isolation-limit): closing all connections"
            );
        }
        let reason = self.farewell_for_now();
        for outbox in online {
            outbox.signal(|signals| signals.close = Some(reason));
        }
    }
}
