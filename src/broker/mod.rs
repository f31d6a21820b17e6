//! The broker's core: sessions and who owns them, routing, wills, timers, `$SYS`.

mod api;
mod core;
mod ownership;
mod program;
mod registry;
mod sys;
mod timers;

pub use api::{Broker, Builder};
pub use program::{PublishError, ReceivedMessage, SubscribeError, Subscription};

pub(crate) use self::core::{Core, Origin, RouteScratch};
pub(crate) use ownership::{Claimed, Owned};
pub(crate) use timers::{Due, TimerKey};
