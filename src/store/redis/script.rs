//! The scripts: what must be one step is one of them.

use redis::{Cmd, Value};

use super::link::Link;
use super::reply::text;
use crate::store::StoreError;

pub(super) const COMMON: &str = include_str!("scripts/common.lua");
pub(super) const QUEUE: &str = include_str!("scripts/queue.lua");
const WRITE: &str = include_str!("scripts/write.lua");
const PAGE: &str = include_str!("scripts/page.lua");

/// Begins an incarnation. It has to be possible also when Redis has no memory left: else nothing could free any.
pub(super) const JOIN: &str = concat!("#!lua flags=allow-oom\n", include_str!("scripts/join.lua"));
/// Makes an incarnation the only one of a home.
pub(super) const TAKE: &str = concat!("#!lua flags=allow-oom\n", include_str!("scripts/take.lua"));

/// Names of the scripts that Redis knows. It may forget the scripts, but their names stay.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    /// Refused as a whole when there is no memory left.
    pub(super) write: String,
    /// The same for changes that only free memory.
    pub(super) free: String,
    pub(super) page: String,
}

impl Scripts {
    pub(super) fn load(link: &mut Link) -> Result<Scripts, StoreError> {
        Ok(Scripts {
            write: load(link, &format!("#!lua\n{COMMON}{QUEUE}{WRITE}"))?,
            free: load(link, &format!("#!lua flags=allow-oom\n{COMMON}{QUEUE}{WRITE}"))?,
            page: load(link, &format!("#!lua flags=no-writes\n{COMMON}{PAGE}"))?,
        })
    }
}

pub(super) fn load(link: &mut Link, script: &str) -> Result<String, StoreError> {
    let mut command = redis::cmd("SCRIPT");
    command.arg("LOAD").arg(script);
    let names = link.ask_each(&command)?;
    text(names.into_iter().next().unwrap_or(Value::Nil))
}

/// A call of a script by its name.
pub(super) fn call(name: &str, key: &str) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(name).arg(1).arg(key);
    command
}

/// A call of a script by its text.
pub(super) fn eval(script: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len()).arg(keys);
    command
}

/// Whether a script was not known.
pub(super) fn is_unknown(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
