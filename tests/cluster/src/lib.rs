//! A cluster of brokers on Redis, simulated: nodes, homes in Redis, clients, and what can go wrong between any two
//! commands. `PROTOCOL.md` beside it describes the protocol; this is it in a form that runs.
//!
//! All that happens follows from a seed. Nodes and clients are tasks of a small executor on simulated time; a checker that
//! shares nothing with them reads what was seen from outside.

mod cast;
pub mod check;
pub mod client;
pub mod exec;
mod faults;
pub mod guard;
pub mod home;
pub mod ids;
mod left;
pub mod net;
pub mod node;
pub mod random;
pub mod run;
pub mod small;
pub mod world;
pub mod worlds;
