//! Asks which server has which homes: after a failover, or a restart, it is another one.

use redis::Value;

use crate::store::StoreError;
use crate::store::cluster::{Homes, Serving};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::text;

/// Those that this link leads to, by the names that they have given themselves when they were started.
pub(super) fn read(link: &mut Link, keys: &Keys) -> Result<Serving, StoreError> {
    let mut command = redis::cmd("INFO");
    command.arg("server");
    let replies = link.ask_each(&command)?;
    let mut homes = vec![Homes::default(); replies.len()];
    for home in Home::all() {
        home.insert_into(&mut homes[link.server_of(&keys.of(home, "hw"))]);
    }
    let mut serving = Serving::default();
    for (reply, homes) in replies.into_iter().zip(homes) {
        if let Some(run_id) = run_id(reply)? {
            serving.insert(&run_id, homes);
        }
    }
    Ok(serving)
}

fn run_id(information: Value) -> Result<Option<String>, StoreError> {
    let information = text(information)?;
    let mut lines = information.lines();
    Ok(lines.find_map(|line| line.strip_prefix("run_id:").map(str::to_owned)))
}
