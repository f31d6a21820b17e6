//! A cluster under load: what is done to its nodes, to Redis, and to what lies between, and who takes a client over.

pub mod blow;
mod doctor;
mod fleet;
mod haproxy;
mod knock;
mod proxy;
pub mod race;
pub mod round;

pub use fleet::Setup;
