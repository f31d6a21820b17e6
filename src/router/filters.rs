//! Which Topic Filters match a Topic Name.
//!
//! A filter without wildcards matches one Topic Name: a hash look-up finds it. Filters with wildcards are in a trie
//! of their levels. The index knows nothing of sessions: it maps the text of a filter to a value.

mod levels;
mod slab;
mod trie;

use std::sync::Arc;

use foldhash::HashMap;
use trie::Trie;

use crate::topic::has_wildcard;

/// A map from Topic Filters to values that can be asked for all filters that match a Topic Name.
///
/// Filters are given without `$share/ShareName/`, and must be valid (see [`crate::topic::TopicFilter`]); one that is
/// not does no harm, but may not match what it seems to.
///
/// A filter with wildcards has a node for each of its levels that no other filter begins with, which is some 50 bytes:
/// a filter of 65,535 bytes can cost 3 MB. Hence a broker limits the levels of filters.
#[derive(Debug)]
pub struct FilterIndex<V> {
    literal: HashMap<Arc<str>, V>,
    wildcard: Trie<V>,
}

impl<V> FilterIndex<V> {
    /// An index without filters.
    #[must_use]
    pub fn new() -> Self {
        FilterIndex {
            literal: HashMap::default(),
            wildcard: Trie::new(),
        }
    }

    /// The value of exactly this filter.
    #[must_use]
    pub fn get(&self, filter: &str) -> Option<&V> {
        if has_wildcard(filter) {
            self.wildcard.get(filter)
        } else {
            self.literal.get(filter)
        }
    }

    /// The value of exactly this filter.
    #[must_use]
    pub fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        if has_wildcard(filter) {
            self.wildcard.get_mut(filter)
        } else {
            self.literal.get_mut(filter)
        }
    }

    /// The value of this filter, which is added with a default value if it is not there.
    pub fn entry(&mut self, filter: &str) -> &mut V
    where
        V: Default,
    {
        if has_wildcard(filter) {
            self.wildcard.entry(filter)
        } else {
            self.shared_entry(&Arc::from(filter))
        }
    }

    /// [`entry`](FilterIndex::entry) for a text that the caller keeps, too: without wildcards it is not copied.
    pub fn shared_entry(&mut self, filter: &Arc<str>) -> &mut V
    where
        V: Default,
    {
        if has_wildcard(filter) {
            self.wildcard.entry(filter)
        } else {
            self.literal.entry(Arc::clone(filter)).or_default()
        }
    }

    /// Removes this filter and gives back its value.
    pub fn remove(&mut self, filter: &str) -> Option<V> {
        if has_wildcard(filter) {
            return self.wildcard.remove(filter);
        }
        let value = self.literal.remove(filter)?;
        shrink(&mut self.literal);
        Some(value)
    }

    /// The number of filters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.literal.len() + self.wildcard.len()
    }

    /// Whether there is no filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nodes that hold the filters: one for each filter without wildcards, and those of the trie. 0 when empty.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.literal.len() + self.wildcard.node_count()
    }

    /// Calls `f` once for the value of each filter that matches this Topic Name, in no particular order.
    ///
    /// Each level of the topic is hashed once. A node of the trie is reached by one path only, hence the work is
    /// bounded by the number of nodes, as well as by 2^(levels + 1), whatever filters and topics look like. Neither
    /// the call stack nor, with up to 32 nodes per level, the heap grows.
    pub fn for_each_match<'a>(&'a self, topic: &str, mut f: impl FnMut(&'a V)) {
        if let Some(value) = self.literal.get(topic) {
            f(value);
        }
        self.wildcard.for_each_match(topic, f);
    }
}

impl<V> Default for FilterIndex<V> {
    fn default() -> Self {
        FilterIndex::new()
    }
}

/// Gives memory back when most of a map is unused; the removals since then have paid for moving what is left.
pub(super) fn shrink<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 64 && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests;
