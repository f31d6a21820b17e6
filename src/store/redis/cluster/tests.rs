//! The store against real servers.

mod differential;
mod faults;
mod keeping;
mod proxy;
mod real;
mod rematch;
mod testing;
