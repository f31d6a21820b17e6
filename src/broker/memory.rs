//! The memory of the process, where it has a bound: near it, what can be spared goes before the kernel ends everything.
//!
//! * **Short**, from nine tenths of the bound: QoS 0 does not wait for slow clients any more, and what waits is discarded.
//!   Clients that have no session yet are refused. Those that have one may come, since they take what is there.
//! * **Full**, from the bound: messages of QoS 1 and 2 are not accepted. A message that is not acknowledged is still with
//!   its publisher; one that is acknowledged has to be kept.
//!
//! The allocator keeps most of what is freed, and uses it again. So what has been freed since the process was largest counts
//! as free, as far as it is known: queues and retained messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::Core;

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
pub(crate) struct Memory(AtomicU8);

impl Memory {
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Pressure::Short as u8
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Pressure::Full as u8
    }

    fn set(&self, pressure: Pressure) {
        self.0.store(pressure as u8, Ordering::Relaxed);
    }
}

/// Time between two looks: a broker that gets a gigabyte a second grows by a tenth of that meanwhile.
const INTERVAL: Duration = Duration::from_millis(100);

/// Looks after the bound, if there is one. Never returns.
pub(crate) async fn watch(core: Arc<Core>) {
    let mut gauge = Gauge::default();
    let mut before = Pressure::None;
    loop {
        let Some(bound) = core.config().max_memory else {
            core.memory.set(Pressure::None);
            core.reconfigured.notified().await;
            continue;
        };
        let Some(resident) = resident_bytes() else {
            tracing::error!(
                "this system does not tell how much memory the broker takes: its bound is not looked after"
            );
            core.reconfigured.notified().await;
            continue;
        };
        let mut used = match resident < bound / 2 {
            // Far away: what waits needs not be counted.
            true => resident,
            false => gauge.used(resident, waiting_bytes(&core)),
        };
        let is_short = pressure(used, bound) >= Pressure::Short;
        core.outbox_limits.hold_short(is_short);
        if is_short {
            core.registry.shed_qos0();
            used = gauge.used(resident, waiting_bytes(&core));
        }
        // Nothing else is refused for what QoS 0 has taken: that is gone now.
        let now = pressure(used, bound);
        core.memory.set(now);
        let told = now.max(if is_short { Pressure::Short } else { Pressure::None });
        if told != before {
            tell(told, used, bound);
            before = told;
        }
        tokio::time::sleep(INTERVAL).await;
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
    } else if used >= bound / 10 * 9 {
        Pressure::Short
    } else {
        Pressure::None
    }
}

fn waiting_bytes(core: &Core) -> usize {
    core.registry.queued_messages().1 + core.router.retained.bytes()
}

/// The process at its largest, and what waited then.
#[derive(Debug, Default)]
struct Gauge {
    largest: usize,
    waiting: usize,
}

impl Gauge {
    /// What is taken, without what the allocator has for use again.
    fn used(&mut self, resident: usize, waiting: usize) -> usize {
        // Given back to the system, or grown: what waits now is in what is resident.
        let is_another = resident > self.largest || resident < self.largest / 20 * 19;
        if is_another {
            *self = Gauge {
                largest: resident,
                waiting,
            };
        }
        self.waiting = self.waiting.max(waiting);
        resident.saturating_sub(self.waiting - waiting)
    }
}

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

    #[test]
    fn what_was_freed_is_free_although_the_process_keeps_it() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.used(1000, 600), 1000);
        assert_eq!(gauge.used(1000, 100), 500);
        // Used again, from what was free.
        assert_eq!(gauge.used(1000, 400), 800);
        assert_eq!(gauge.used(1000, 700), 1000);
        // It has grown by other things.
        assert_eq!(gauge.used(1500, 100), 1500);
        // The system has got it back.
        assert_eq!(gauge.used(700, 50), 700);
        assert_eq!(gauge.used(700, 0), 650);
    }

    #[test]
    fn pressure_rises_in_steps() {
        assert_eq!(pressure(89, 100), Pressure::None);
        assert_eq!(pressure(90, 100), Pressure::Short);
        assert_eq!(pressure(100, 100), Pressure::Full);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells() {
        let bytes = resident_bytes().expect("told");
        assert!((1 << 20..1 << 34).contains(&bytes), "{bytes}");
    }
}
