//! The store against real servers.

mod differential;
mod doctor;
mod faults;
mod groups;
mod keeping;
mod leaving;
mod losing;
mod moving;
mod operation;
mod proxy;
mod real;
mod rematch;
mod servers;
mod testing;
mod wills;
