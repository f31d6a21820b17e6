//! A store in Redis or Valkey, which brokers share.
//!
//! What is kept is divided into homes (`keys.rs`), each of which is changed by one script. Here is what is true of any server and of what
//! lies there: [connections](link), [checks](check), [names](keys), [forms](entry), [reading](read). How nodes write, and what they tell
//! each other, is in [`cluster`]. The keys and their fields are described in `docs/redis.md`.

mod arguments;
mod attempt;
mod check;
mod cluster;
mod connect;
#[cfg(any(feature = "cli", test))]
mod doctor;
mod entry;
mod keys;
mod link;
mod read;
mod readers;
mod reply;
mod schema;
mod script;
mod slots;
mod target;

#[cfg(test)]
mod testing;

pub(crate) use cluster::open;
#[cfg(any(feature = "cli", test))]
pub(crate) use cluster::{load, open_to_read, store_is_there};
#[cfg(any(feature = "cli", test))]
pub(crate) use doctor::doctor;
