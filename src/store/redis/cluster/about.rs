//! What nodes say of themselves, and the cluster as it is, for people.

#[cfg(any(feature = "cli", test))]
use std::time::Duration;

use redis::Value;

use crate::store::StoreError;
use crate::store::cluster::{About, Incarnation, Overview};
use crate::store::redis::keys::{Home, Keys};
use crate::store::redis::link::Link;
use crate::store::redis::reply::{bytes, bytes_or_none, list, number, parse};
use crate::store::redis::script;

/// It is little: whoever looks after a Redis that is full wants to see it, too.
const ANNOUNCE: &str = concat!(
    "#!lua flags=allow-oom\n",
    include_str!("../scripts/cluster/announce.lua")
);
const OVERVIEW: &str = concat!(
    "#!lua flags=no-writes\n",
    include_str!("../scripts/cluster/overview.lua")
);

/// Says it of this node, if it is one still; the position of the log.
pub(super) fn announce(
    link: &mut Link,
    keys: &Keys,
    incarnation: Incarnation,
    about: &About,
) -> Result<u64, StoreError> {
    let mut command = script::eval(
        ANNOUNCE,
        &names(keys, ["nodes", "about", "meta"]).each_ref().map(|key| &**key),
    );
    command.arg(incarnation).arg(about.write());
    position(link.ask(command)?)
}

/// See [`Shared::overview`](crate::store::cluster::Shared::overview).
pub(super) fn overview(link: &mut Link, keys: &Keys) -> Result<Overview, StoreError> {
    let names = names(keys, ["nodes", "rec", "about", "meta", "log", "f", "ret"]);
    let command = script::eval(OVERVIEW, &names.each_ref().map(|key| &**key));
    let mut reply = list(link.ask(command)?)?.into_iter();
    let mut next = || reply.next().unwrap_or(Value::Nil);
    let mut overview = Overview {
        nodes: pairs(next(), |state| applied(&state).map(Some))?,
        recoverers: pairs(next(), |by| parse(&by).map(Some))?,
        // What is not understood, as a later version may write it, is not there.
        about: pairs(next(), |about| Ok(About::read(&about).ok()))?,
        position: position(next())?,
        log_entries: number(next())?,
        routes: number(next())?,
        retained: number(next())?,
    };
    overview.nodes.sort_unstable();
    overview.recoverers.sort_unstable();
    Ok(overview)
}

/// The longest lease that a node says it has.
#[cfg(any(feature = "cli", test))]
pub(super) fn longest_lease(link: &mut Link, keys: &Keys) -> Result<Option<Duration>, StoreError> {
    let mut command = redis::cmd("HGETALL");
    command.arg(keys.of(Home::Global, "about"));
    let abouts = pairs(link.ask(command)?, |about| Ok(About::read(&about).ok()))?;
    Ok(abouts.into_iter().filter_map(|(_, about)| about.lease).max())
}

fn names<const N: usize>(keys: &Keys, names: [&str; N]) -> [String; N] {
    names.map(|name| keys.of(Home::Global, name))
}

/// There is none before the first entry.
fn position(value: Value) -> Result<u64, StoreError> {
    bytes_or_none(value)?.map_or(Ok(0), |position| parse(&position))
}

/// Up to where a node has applied the log, of what it has written of itself.
fn applied(state: &[u8]) -> Result<u64, StoreError> {
    let text = state.split(|byte| *byte == b':').nth(1);
    parse(text.unwrap_or_default())
}

/// The fields of a hash whose names are incarnations.
fn pairs<T>(
    fields: Value,
    value: impl Fn(Vec<u8>) -> Result<Option<T>, StoreError>,
) -> Result<Vec<(Incarnation, T)>, StoreError> {
    let mut pairs = Vec::new();
    for [name, of] in list(fields)?.as_chunks::<2>().0 {
        let name = number(name.clone())?;
        pairs.extend(value(bytes(of.clone())?)?.map(|value| (name, value)));
    }
    Ok(pairs)
}
