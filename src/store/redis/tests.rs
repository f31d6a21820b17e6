//! The store against real servers: what it keeps, and what it does when they fail.

mod doctor;
mod faults;
mod model;
mod starting;
mod suite;
mod topologies;
