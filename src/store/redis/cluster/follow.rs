//! The threads that tell the follower what others do, each over a connection of its own.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::life::Life;
use crate::store::redis::link::Link;
use crate::store::{RedisSettings, StoreError};

/// What is followed.
pub(super) trait Source: Send + 'static {
    /// In the name of the thread, and in the log.
    const NAME: &'static str;

    /// Tells what comes over a new connection, until that can't be used any more, or life is over.
    fn serve(&mut self, link: Link) -> Result<(), StoreError>;
}

/// When Redis last answered a source: all that had happened when that was asked has been told.
#[derive(Debug, Default)]
pub(super) struct Contact(Mutex<Option<Instant>>);

/// The threads that have been started.
#[derive(Debug)]
pub(super) struct Threads {
    settings: RedisSettings,
    life: Arc<Life>,
    /// Each thread has a clone of it.
    running: SyncSender<Infallible>,
    ended: Receiver<Infallible>,
}

/// How long a source waits for something at most: so long it may take to end.
const LONGEST_WAIT: Duration = Duration::from_millis(400);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(640);
/// A connection that has served so long had no fault of its own.
const IS_GOOD: Duration = Duration::from_secs(10);
/// How long the end of the threads is waited for. One that Redis does not answer ends later.
const LONGEST_END: Duration = Duration::from_secs(1);

impl Contact {
    pub(super) fn set(&self, asked: Instant) {
        *self.0.lock() = Some(asked);
    }

    pub(super) fn get(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

impl Threads {
    pub(super) fn new(settings: &RedisSettings, life: &Arc<Life>) -> Threads {
        let (running, ended) = sync_channel(0);
        Threads {
            settings: settings.clone(),
            life: Arc::clone(life),
            running,
            ended,
        }
    }

    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start<S: Source>(&self, source: S) -> Result<(), StoreError> {
        let (settings, life) = (self.settings.clone(), Arc::clone(&self.life));
        let running = self.running.clone();
        let thread = std::thread::Builder::new().name(format!("redis {}", S::NAME));
        let started = thread.spawn(move || {
            run(&settings, &life, source);
            drop(running);
        });
        let failed = |error| StoreError::Unavailable(format!("no thread for the {}: {error}", S::NAME));
        started.map(drop).map_err(failed)
    }

    /// Waits for the threads, whose life is over.
    pub(super) fn join(self) {
        drop(self.running);
        // Nothing is ever sent: it returns when all have dropped their ends.
        let _ = self.ended.recv_timeout(LONGEST_END);
    }
}

/// How long a command may wait for something to come, in milliseconds.
pub(super) fn wait_millis(settings: &RedisSettings) -> u64 {
    let most = LONGEST_WAIT.min(settings.timeout / 2);
    u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn run<S: Source>(settings: &RedisSettings, life: &Life, mut source: S) {
    let mut pause = SHORTEST_PAUSE;
    let mut said = None;
    while !life.is_over() {
        let begun = Instant::now();
        let served = Link::connect(settings).and_then(|link| source.serve(link));
        if begun.elapsed() > IS_GOOD {
            (pause, said) = (SHORTEST_PAUSE, None);
        }
        if let Err(error) = served
            && !life.is_over()
            && said.as_ref() != Some(&error)
        {
            tracing::warn!("the {} is read again: {error}", S::NAME);
            said = Some(error);
        }
        life.pause(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
