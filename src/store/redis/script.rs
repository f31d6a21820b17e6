//! The scripts: what must be one step is one of them.

use redis::{Cmd, Value};

use super::link::Link;
use super::reply::text;
use crate::store::StoreError;

pub(super) const COMMON: &str = include_str!("scripts/common.lua");
pub(super) const QUEUE: &str = include_str!("scripts/queue.lua");
const PAGE: &str = include_str!("scripts/page.lua");

/// Names of the scripts that Redis knows. It may forget the scripts, but their names stay.
#[derive(Clone, Debug)]
pub(super) struct Scripts {
    pub(super) page: String,
}

impl Scripts {
    pub(super) fn load(link: &mut Link) -> Result<Scripts, StoreError> {
        Ok(Scripts {
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

/// The same, for so many more arguments of this size in all.
pub(super) fn call_of_size(name: &str, key: &str, arguments: usize, size: usize) -> Cmd {
    const OTHERS: (usize, usize) = (8, 256);
    let mut command = Cmd::with_capacity(OTHERS.0 + arguments, OTHERS.1 + size);
    command.arg("EVALSHA").arg(name).arg(1).arg(key);
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
