//! Whether what is under a prefix is laid out as this version does it.

use super::keys::{BUCKETS, Keys, SCHEMA};
#[cfg(any(feature = "cli", test))]
use super::keys::{Home, SCHEMA_BEFORE};
use super::link::Link;
#[cfg(any(feature = "cli", test))]
use super::reply::bytes_or_none;
use crate::store::StoreError;

/// The schema of a store that is being imported: nobody knows it.
#[cfg(any(feature = "cli", test))]
pub(super) const UNFINISHED: &str = "0";

/// The schema of what is under the prefix, whatever that is.
#[cfg(any(feature = "cli", test))]
pub(super) fn found_schema(link: &mut Link, keys: &Keys) -> Result<Option<String>, StoreError> {
    Ok(meta(link, keys, "schema")?.map(|schema| String::from_utf8_lossy(&schema).into_owned()))
}

/// Whether what is there can be read.
#[cfg(any(feature = "cli", test))]
pub(super) fn is_known(schema: &str) -> bool {
    [SCHEMA_BEFORE, SCHEMA].iter().any(|known| known.to_string() == schema)
}

#[cfg(any(feature = "cli", test))]
fn meta(link: &mut Link, keys: &Keys, field: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut command = redis::cmd("HGET");
    command.arg(keys.of(Home::Global, "meta")).arg(field);
    bytes_or_none(link.ask(command)?)
}

/// Whether there is anything under the prefix.
///
/// # Errors
/// If Redis can't be reached, or what is there is of another schema.
#[cfg(any(feature = "cli", test))]
pub(super) fn is_there(link: &mut Link, keys: &Keys) -> Result<bool, StoreError> {
    let Some(schema) = found_schema(link, keys)? else {
        return Ok(false);
    };
    if schema == UNFINISHED {
        return Err(StoreError::Refused(format!(
            "an import to the prefix {} in Redis at {} was not finished: import again, with --replace",
            keys.prefix(),
            link.address()
        )));
    }
    let buckets = meta(link, keys, "buckets")?.unwrap_or_default();
    let buckets = String::from_utf8_lossy(&buckets).into_owned();
    match is_known(&schema) && buckets == BUCKETS.to_string() {
        true => Ok(true),
        false => Err(other_schema(link, keys, &schema, &buckets)),
    }
}

/// Whoever looks into a store wants one that is there.
///
/// # Errors
/// As [`is_there`], or if nothing is under the prefix.
#[cfg(any(feature = "cli", test))]
pub(super) fn expect_there(link: &mut Link, keys: &Keys) -> Result<(), StoreError> {
    match is_there(link, keys)? {
        true => Ok(()),
        false => Err(StoreError::Refused(format!(
            "there is nothing of a broker under the prefix {} in Redis at {}",
            keys.prefix(),
            link.address()
        ))),
    }
}

/// What is there is not for this version.
pub(super) fn other_schema(link: &Link, keys: &Keys, schema: &str, buckets: &str) -> StoreError {
    StoreError::Refused(format!(
        "what is under the prefix {} in Redis at {} has schema {schema} with {buckets} buckets, and this broker knows schema \
         {SCHEMA} with {BUCKETS}: use the version that made it, or another prefix",
        keys.prefix(),
        link.address(),
    ))
}
