//! The store against real servers: what it keeps, and what it does when they fail.

mod doctor;
mod faults;
mod measure;
mod model;
mod starting;
mod suite;
mod topologies;
