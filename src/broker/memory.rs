//! The memory of the process, where it has a bound: near it, what can be spared goes before the kernel ends everything.
//!
//! * **Short**, from nine tenths of the bound: QoS 0 does not wait for slow clients any more, and what waits is discarded.
//!   Clients that have no session yet are refused. Those that have one may come, since they take what is there.
//! * **Full**, from the bound: messages of QoS 1 and 2 are not accepted. A message that is not acknowledged is still with
//!   its publisher; one that is acknowledged has to be kept.
//!
//! At any time, [`Partials`] have a part of what is left.
//!
//! What has been freed is free although the process keeps it: see [`Gauge`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::Core;
use super::gauge::Gauge;
use super::partials::Partials;

/// How much there is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Pressure {
    #[default]
    None = 0,
    Short = 1,
    Full = 2,
}

/// What is looked up for each message.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pressure: AtomicU8,
    pub(crate) partials: Partials,
}

impl Memory {
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.pressure.load(Ordering::Relaxed) >= Pressure::Short as u8
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.pressure.load(Ordering::Relaxed) >= Pressure::Full as u8
    }

    pub(super) fn set(&self, pressure: Pressure) {
        self.pressure.store(pressure as u8, Ordering::Relaxed);
    }
}

/// The longest time between two looks, where the bound is far away.
const INTERVAL: Duration = Duration::from_millis(100);
/// The shortest.
const SHORT_INTERVAL: Duration = Duration::from_millis(5);
/// How fast a broker may grow: what one client publishes waits for several.
const BYTES_A_MILLISECOND: usize = 2 << 20;
/// A look may take one part in so many of the time.
const SHARE_OF_TIME: u32 = 20;

/// Looks after the bound, if there is one. Never returns.
pub(crate) async fn watch(core: Arc<Core>) {
    watch_by(core, resident_bytes).await;
}

async fn watch_by(core: Arc<Core>, mut resident: impl FnMut() -> Option<usize>) {
    let mut watch = Watch::new(resident().unwrap_or_default());
    loop {
        let Some(bound) = core.config().max_memory else {
            watch.let_go(&core);
            core.reconfigured.notified().await;
            continue;
        };
        let begun = Instant::now();
        let left = watch.look(&core, bound, resident());
        tokio::time::sleep(pause(left).max(begun.elapsed() * SHARE_OF_TIME)).await;
    }
}

/// Until the next look: before the broker can have grown by so much.
fn pause(left: usize) -> Duration {
    let time = Duration::from_millis((left / BYTES_A_MILLISECOND) as u64);
    time.clamp(SHORT_INTERVAL, INTERVAL)
}

/// What is remembered from one look to the next.
#[derive(Debug)]
struct Watch {
    gauge: Gauge,
    told: Pressure,
    is_blind: bool,
}

impl Watch {
    fn new(base: usize) -> Watch {
        Watch {
            gauge: Gauge::new(base),
            told: Pressure::None,
            is_blind: false,
        }
    }

    /// There is no bound any more.
    fn let_go(&mut self, core: &Core) {
        self.gauge.forget();
        self.told = Pressure::None;
        core.memory.set(Pressure::None);
        core.memory.partials.set_room(None);
        core.outbox_limits.hold_short(false);
    }

    /// Looks, and does what is to be done; how much the broker may still grow before something is.
    fn look(&mut self, core: &Core, bound: usize, resident: Option<usize>) -> usize {
        let Some(resident) = resident else {
            if !self.is_blind {
                tracing::error!(
                    "the system does not tell how much memory the broker takes: until it does, the bound is not looked after"
                );
            }
            self.is_blind = true;
            return bound;
        };
        self.is_blind = false;
        let mut used = match resident < bound / 2 {
            // Far away: nothing needs to be counted.
            true => {
                self.gauge.forget();
                resident
            }
            false => self.gauge.used(resident, counted_bytes(core)),
        };
        let is_short = pressure(used, bound) >= Pressure::Short;
        core.outbox_limits.hold_short(is_short);
        if is_short {
            core.registry.shed_qos0();
            used = self.gauge.used(resident, counted_bytes(core));
        }
        // Nothing else is refused for what QoS 0 has taken: that is gone now.
        let now = pressure(used, bound);
        core.memory.set(now);
        core.memory
            .partials
            .set_room(Some(room_for_partials(core, used, bound)));
        let told = now.max(if is_short { Pressure::Short } else { Pressure::None });
        if told != self.told {
            tell(told, used, bound);
            self.told = told;
        }
        short_from(bound).saturating_sub(used)
    }
}

fn tell(pressure: Pressure, used: usize, bound: usize) {
    match pressure {
        Pressure::None => tracing::info!(used, bound, "there is enough memory again"),
        Pressure::Short => tracing::warn!(
            used,
            bound,
            "memory is short: QoS 0 does not wait, new clients are refused"
        ),
        Pressure::Full => tracing::error!(used, bound, "memory is full: messages of QoS 1 and 2 are not accepted"),
    }
}

fn pressure(used: usize, bound: usize) -> Pressure {
    if used >= bound {
        Pressure::Full
    } else if used >= short_from(bound) {
        Pressure::Short
    } else {
        Pressure::None
    }
}

fn short_from(bound: usize) -> usize {
    bound / 10 * 9
}

/// Half of what the rest leaves: it may fill between two looks.
fn room_for_partials(core: &Core, used: usize, bound: usize) -> usize {
    let others = used.saturating_sub(core.memory.partials.bytes());
    (bound.saturating_sub(others) / 2).max(bound / 8)
}

/// What is there, and about what it takes: see docs/bench.md.
fn counted_bytes(core: &Core) -> usize {
    let waiting = core.registry.queued_messages().1 + core.router.retained.bytes();
    let sessions = core.registry.online() + core.registry.offline();
    let connections = core.connections.load(Ordering::Relaxed);
    waiting
        + core.memory.partials.bytes()
        + connections * CONNECTION
        + sessions * SESSION
        + core.router.subscriptions() * SUBSCRIPTION
}

const CONNECTION: usize = 1024;
const SESSION: usize = 900;
const SUBSCRIPTION: usize = 300;

/// Bytes of the process that are in memory, if the system tells.
pub(crate) fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::policy::Policy;

    #[test]
    fn pressure_rises_in_steps() {
        assert_eq!(pressure(89, 100), Pressure::None);
        assert_eq!(pressure(90, 100), Pressure::Short);
        assert_eq!(pressure(100, 100), Pressure::Full);
    }

    #[test]
    fn looks_are_frequent_where_there_is_little_left() {
        assert_eq!(pause(0), SHORT_INTERVAL);
        assert_eq!(pause(40 << 20), Duration::from_millis(20));
        assert_eq!(pause(usize::MAX), INTERVAL);
    }

    #[tokio::test]
    async fn one_look_in_vain_is_not_the_last() {
        let core = Arc::new(Core::new(Policy::default(), None, None));
        bound(&core, Some(1000));
        let mut looks = [None, None, Some(1000)].into_iter();
        let watch = tokio::spawn(watch_by(Arc::clone(&core), move || looks.next().unwrap_or(Some(1000))));
        until(|| core.memory.is_full()).await;
        watch.abort();
    }

    #[tokio::test]
    async fn without_a_bound_nothing_is_held_short() {
        let core = Arc::new(Core::new(Policy::default(), None, None));
        bound(&core, Some(1000));
        let watch = tokio::spawn(watch_by(Arc::clone(&core), || Some(1000)));
        until(|| core.outbox_limits.is_short() && core.memory.is_full()).await;
        bound(&core, None);
        until(|| !core.memory.is_short()).await;
        assert!(!core.outbox_limits.is_short());
        watch.abort();
    }

    fn bound(core: &Core, bytes: Option<usize>) {
        core.reconfigure(|set| Arc::make_mut(&mut set.default.config).max_memory = bytes);
    }

    async fn until(mut is_so: impl FnMut() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .expect("in time");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells() {
        let bytes = resident_bytes().expect("told");
        assert!((1 << 20..1 << 34).contains(&bytes), "{bytes}");
    }
}
