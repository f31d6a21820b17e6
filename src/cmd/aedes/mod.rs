//! `broker passwd import`: the `credentials.json` of aedes-cli.
//!
//! ```json
//! { "ann": { "salt": "…", "hash": "…", "authorizePublish": "hello/*", "authorizeSubscribe": "**" } }
//! ```
//!
//! The hash is PBKDF2 with SHA-256 and 10,000 iterations, 256 bytes in hexadecimal; the salt is the text itself, not the
//! bytes that it stands for. The patterns are globs of minimatch.

mod globs;

use std::path::Path;

use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use serde_json::{Map, Value};

use super::passwd;
use crate::access::passwords::Hash;

/// As aedes-cli has it, in every version.
const ITERATIONS: u32 = 10_000;
/// The first block of a hash. The others say nothing about the password that this one does not, and cost as much each.
const BLOCK: usize = 32;
/// The pattern of aedes-cli that allows everything, also where there is none.
const EVERYTHING: &str = "**";
/// Bytes of the largest file that is read.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;
/// Bytes of the longest salt.
const LONGEST_SALT: usize = 1024;

/// What the file says of a user.
#[derive(Debug)]
struct User {
    name: String,
    /// As it stands in our file.
    hash: String,
    publish: String,
    subscribe: String,
}

/// Adds the users of the file to our file, and writes what they may do to a new access list. Either both are written, or
/// none is touched.
pub(super) fn import(credentials: &Path, users: &Path, acl: Option<&Path>) -> Result<(), String> {
    let found = read(credentials).map_err(|reason| format!("{}: {reason}", credentials.display()))?;
    let restricted = found
        .iter()
        .find(|user| user.publish != EVERYTHING || user.subscribe != EVERYTHING);
    if let (Some(user), None) = (restricted, acl) {
        return Err(format!(
            "{}: {:?} may not do everything: name a new file for the access list with --acl",
            credentials.display(),
            user.name
        ));
    }
    let added = found.iter().map(|user| (user.name.as_str(), user.hash.as_str()));
    let text = passwd::with_users(users, added)?;
    if let Some(path) = acl {
        let (list, notes) = access_list(credentials, &found);
        passwd::write_once(path, list.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))?;
        notes.iter().for_each(|note| eprintln!("{note}"));
    }
    let written = passwd::replace(users, text.as_bytes());
    written.map_err(|error| {
        // Without its users the list would be in the way of the next try.
        if let Some(path) = acl {
            let _ = std::fs::remove_file(path);
        }
        format!("{}: {error}", users.display())
    })
}

fn read(path: &Path) -> Result<Vec<User>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    if metadata.len() > LARGEST_FILE {
        return Err(format!("larger than {LARGEST_FILE} bytes"));
    }
    parse(&std::fs::read(path).map_err(|error| error.to_string())?)
}

fn parse(json: &[u8]) -> Result<Vec<User>, String> {
    let users: Map<String, Value> =
        serde_json::from_slice(json).map_err(|error| format!("it is no credentials.json of aedes-cli: {error}"))?;
    if users.is_empty() {
        return Err("there are no users in it".to_owned());
    }
    users.into_iter().map(|(name, value)| user(name, &value)).collect()
}

fn user(name: String, value: &Value) -> Result<User, String> {
    let error = |reason: &str| format!("user {name:?}: {reason}");
    passwd::check_name(&name).map_err(|reason| error(&reason))?;
    let fields = value.as_object().ok_or_else(|| error("there is no salt and no hash"))?;
    let text = |field: &str| match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(error(&format!("{field} is no text"))),
    };
    let needed = |field: &str| text(field)?.ok_or_else(|| error(&format!("there is no {field}")));
    let hash = hash(needed("salt")?, needed("hash")?).map_err(|reason| error(&reason))?;
    // An empty pattern is as good as none there.
    let pattern = |field: &str| {
        Ok::<_, String>(
            text(field)?
                .filter(|text| !text.is_empty())
                .unwrap_or(EVERYTHING)
                .to_owned(),
        )
    };
    Ok(User {
        publish: pattern("authorizePublish")?,
        subscribe: pattern("authorizeSubscribe")?,
        hash,
        name,
    })
}

/// In the form of our file.
fn hash(salt: &str, hash: &str) -> Result<String, String> {
    let damaged = || "the hash is damaged".to_owned();
    let bytes = HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).map_err(|_| damaged())?;
    let block = bytes.get(..BLOCK).ok_or_else(damaged)?;
    if salt.is_empty() || salt.len() > LONGEST_SALT {
        return Err("the salt is damaged".to_owned());
    }
    let (salt, hash) = (BASE64_NOPAD.encode(salt.as_bytes()), BASE64_NOPAD.encode(block));
    let text = format!("$pbkdf2-sha256$i={ITERATIONS}${salt}${hash}");
    Hash::parse(&text)?;
    Ok(text)
}

/// The access list in TOML, and what it could not say.
fn access_list(credentials: &Path, users: &[User]) -> (String, Vec<String>) {
    let mut notes = Vec::new();
    let mut list = String::from("# From aedes-cli, by `broker passwd import`. What no rule allows is denied.\n");
    for user in users {
        list += &format!("\n[[rule]]\nusers = [{}]\n", toml(&user.name));
        for (key, field, pattern) in [
            ("publish", "authorizePublish", &user.publish),
            ("subscribe", "authorizeSubscribe", &user.subscribe),
        ] {
            let filters = match key {
                "publish" => globs::to_publish(pattern),
                _ => globs::to_subscribe(pattern),
            };
            match filters {
                Ok(filters) => {
                    let filters: Vec<_> = filters.iter().map(|filter| toml(filter)).collect();
                    list += &format!("{key} = [{}]\n", filters.join(", "));
                }
                Err(reason) => {
                    list += &format!("# {field} {} is not translated: {reason}\n{key} = []\n", toml(pattern));
                    notes.push(format!(
                        "{}: user {:?}: {field} {pattern:?} is not translated, and nothing is allowed for it: {reason}",
                        credentials.display(),
                        user.name
                    ));
                }
            }
        }
    }
    (list, notes)
}

/// A basic string of TOML, which is one of JSON but for DEL.
fn toml(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests;
