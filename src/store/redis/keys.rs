//! Where things are in Redis: the names of the keys, and the homes into which clients are divided.
//!
//! A home is a group of keys with the same hash tag, and so in one slot of a Redis Cluster: `{g}` for what is there once,
//! and the buckets `{0}` to `{255}` for what belongs to clients.

use crate::store::cluster::Homes;
use crate::store::{StoreError, Uid};

/// Buckets into which clients are divided. Part of the schema.
pub(super) const BUCKETS: u16 = 256;

/// How what is kept is laid out.
pub(super) const SCHEMA: u32 = 3;
/// The one before is laid out alike, without what is noted when writes were lost. Nodes that know no other must not be at work beside those that do.
pub(super) const SCHEMA_BEFORE: u32 = 2;

/// One home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Home {
    Bucket(u8),
    Global,
}

impl Home {
    /// All homes; the global one is the first.
    pub(super) fn all() -> impl Iterator<Item = Home> {
        std::iter::once(Home::Global).chain(Home::buckets())
    }

    pub(super) fn buckets() -> impl Iterator<Item = Home> {
        (0..=u8::MAX).map(Home::Bucket)
    }

    /// What is between the braces of its keys.
    pub(super) fn name(self) -> String {
        match self {
            Home::Bucket(bucket) => bucket.to_string(),
            Home::Global => "g".to_owned(),
        }
    }

    pub(super) fn named(name: &str) -> Option<Home> {
        match name {
            "g" => Some(Home::Global),
            _ => name.parse().ok().map(Home::Bucket),
        }
    }

    pub(super) fn insert_into(self, homes: &mut Homes) {
        match self {
            Home::Bucket(bucket) => homes.insert_bucket(bucket),
            Home::Global => homes.insert_global(),
        }
    }

    pub(super) fn is_in(self, homes: Homes) -> bool {
        match self {
            Home::Bucket(bucket) => homes.has_bucket(bucket),
            Home::Global => homes.has_global(),
        }
    }

    /// A place in a list of all homes.
    pub(super) fn index(self) -> usize {
        match self {
            Home::Bucket(bucket) => usize::from(bucket),
            Home::Global => usize::from(BUCKETS),
        }
    }
}

/// Names keys, all with one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Box<str>,
}

impl Keys {
    /// # Errors
    /// If keys with this prefix would not have the hash tags of their homes.
    pub(super) fn new(prefix: &str) -> Result<Keys, StoreError> {
        if prefix.is_empty() || prefix.len() > 200 || prefix.contains(['{', '}', '*', '?', '[', ']', '\\']) {
            return Err(StoreError::Refused(format!(
                "{prefix:?} can't be a prefix of keys in Redis: it needs 1 to 200 bytes, without any of {{}}*?[]\\"
            )));
        }
        Ok(Keys { prefix: prefix.into() })
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn of(&self, home: Home, name: &str) -> String {
        match home {
            Home::Bucket(bucket) => format!("{}:{{{bucket}}}:{name}", self.prefix),
            Home::Global => format!("{}:{{g}}:{name}", self.prefix),
        }
    }

    pub(super) fn session(&self, home: Home, uid: Uid) -> String {
        self.of(home, &format!("s:{uid}"))
    }

    #[cfg(any(feature = "cli", test))]
    /// What of a key comes behind the prefix: its home and its name, if it is one of ours.
    pub(super) fn parse<'k>(&self, key: &'k str) -> Option<(Home, &'k str)> {
        let rest = key.strip_prefix(&*self.prefix)?.strip_prefix(":{")?;
        let (home, name) = rest.split_once("}:")?;
        Home::named(home).map(|home| (home, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_home() {
        let keys = Keys::new("broker").expect("a prefix");
        assert_eq!(keys.session(Home::Bucket(7), 12), "broker:{7}:s:12");
        assert_eq!(keys.parse("broker:{7}:s:12"), Some((Home::Bucket(7), "s:12")));
        assert_eq!(keys.parse("broker:{g}:ret"), Some((Home::Global, "ret")));
        assert_eq!(keys.parse("broker:{256}:ret"), None);
        assert_eq!(keys.parse("other:{g}:ret"), None);
        assert_eq!(Home::all().count(), 257);
        assert!(Home::all().all(|home| Home::named(&home.name()) == Some(home)));
    }

    #[test]
    fn a_prefix_that_would_break_the_hash_tags_is_refused() {
        for prefix in ["", "a{b", "a}b", "a*"] {
            assert!(matches!(Keys::new(prefix), Err(StoreError::Refused(_))), "{prefix}");
        }
    }
}
