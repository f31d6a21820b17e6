//! The broker's core: sessions and who owns them, routing, wills, timers, `$SYS`.

mod addresses;
mod aedes;
pub(crate) mod cluster;
mod core;
mod endings;
mod gauge;
mod glob;
pub(crate) mod inspect;
mod kept;
pub(crate) mod memory;
pub(crate) mod metrics;
mod ownership;
mod partials;
pub(crate) mod policy;
pub(crate) mod program;
mod registry;
pub(crate) mod sys;
mod timers;
mod trace;

pub(crate) use self::aedes::AedesEvent;
pub(crate) use self::core::{Core, Origin, RouteScratch};
pub(crate) use ownership::{Claimed, Owned};
pub(crate) use timers::{Due, TimerKey};
pub use trace::TraceTargets;
