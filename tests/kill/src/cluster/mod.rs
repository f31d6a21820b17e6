//! A cluster under load: what is done to its nodes, to Redis, and to what lies between, and who takes a client over.

mod arrivals;
pub mod blow;
pub mod crowd;
mod doctor;
mod fleet;
mod haproxy;
mod knock;
mod proxy;
pub mod race;
pub mod round;
mod runner;
mod vitals;

pub use fleet::Setup;
