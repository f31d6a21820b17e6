//! Whether the subscribers of a Topic Name may have changed since they were looked up.
//!
//! One counter for all subscriptions would make every publisher look up its topic again whenever anybody subscribes.
//! So there are many, by what filters have in common with the topics that they match, and a topic depends on four.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::topic::{self, TopicFilter};

/// See the module.
#[derive(Debug)]
pub(super) struct Changes {
    hasher: foldhash::fast::RandomState,
    /// Filters without wildcards, by the whole filter.
    literal: [AtomicU64; PLACES],
    /// Filters whose first two levels have no wildcard, by these.
    two_levels: [AtomicU64; PLACES],
    /// Filters of which that is true of the first level only, by that.
    one_level: [AtomicU64; PLACES],
    /// Filters that begin with a wildcard.
    any: AtomicU64,
}

const PLACES: usize = 256;
// A stamp has a byte for each place.
const _: () = assert!(PLACES <= 256);

/// What had changed when a Topic Name was looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    places: [u8; 3],
    seen: [u64; 4],
}

impl Changes {
    pub(super) fn new() -> Changes {
        let counters = || std::array::from_fn(|_| AtomicU64::new(0));
        Changes {
            hasher: foldhash::fast::RandomState::default(),
            literal: counters(),
            two_levels: counters(),
            one_level: counters(),
            any: AtomicU64::new(0),
        }
    }

    /// The subscribers of this filter have changed. To be called after the change, and before anybody is told of it.
    pub(super) fn note(&self, filter: &TopicFilter) {
        let text = filter.filter();
        let [one, two] = prefixes(text);
        let counter = if !filter.has_wildcard() {
            &self.literal[self.place(text)]
        } else if topic::has_wildcard(one) {
            &self.any
        } else if topic::has_wildcard(two) {
            &self.one_level[self.place(one)]
        } else {
            &self.two_levels[self.place(two)]
        };
        counter.fetch_add(1, Ordering::Release);
    }

    /// To be taken before the topic is looked up.
    pub(super) fn stamp(&self, topic: &str) -> Stamp {
        let [one, two] = prefixes(topic);
        let places = [self.place(topic) as u8, self.place(two) as u8, self.place(one) as u8];
        Stamp {
            places,
            seen: self.read(places),
        }
    }

    /// Whether nothing has changed since.
    #[inline]
    pub(super) fn is_current(&self, stamp: &Stamp) -> bool {
        self.read(stamp.places) == stamp.seen
    }

    #[inline]
    fn read(&self, [literal, two, one]: [u8; 3]) -> [u64; 4] {
        [
            self.literal[literal as usize].load(Ordering::Acquire),
            self.two_levels[two as usize].load(Ordering::Acquire),
            self.one_level[one as usize].load(Ordering::Acquire),
            self.any.load(Ordering::Acquire),
        ]
    }

    fn place(&self, text: &str) -> usize {
        self.hasher.hash_one(text) as usize % PLACES
    }
}

/// The first level, and the first two.
fn prefixes(text: &str) -> [&str; 2] {
    let bytes = text.as_bytes();
    let slash_behind = |start: usize| {
        let found = bytes[start..].iter().position(|byte| *byte == b'/');
        found.map_or(bytes.len(), |place| start + place)
    };
    let one = slash_behind(0);
    let two = if one < bytes.len() { slash_behind(one + 1) } else { one };
    [&text[..one], &text[..two]]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever matches a topic makes it be looked up again.
    #[test]
    fn a_change_of_a_matching_filter_is_seen() {
        for (topic, filters) in [
            ("a", &["a", "+", "#", "a/#", "$share/g/a", "$share/g/#"][..]),
            ("a/b", &["a/b", "a/+", "+/b", "a/#", "a/b/#", "#", "$share/g/a/+"]),
            (
                "a/b/c",
                &["a/b/c", "a/b/+", "a/+/c", "+/b/c", "a/b/#", "a/b/c/#", "a/#", "+/#"],
            ),
            ("/", &["/", "/+", "/#", "+/+", "//#", "#"]),
            ("a//c", &["a//c", "a//+", "a//#", "a/+/c"]),
        ] {
            let changes = Changes::new();
            for filter in filters {
                let stamp = changes.stamp(topic);
                assert!(changes.is_current(&stamp));
                changes.note(&TopicFilter::parse(filter).expect("valid"));
                assert!(!changes.is_current(&stamp), "{filter} matches {topic}");
            }
        }
    }

    /// Other devices come and go: that costs this one little.
    #[test]
    fn most_other_changes_are_not_seen() {
        let others = Changes::new();
        let stamps: Vec<_> = (0..100)
            .map(|number| others.stamp(&format!("devices/{number}/state")))
            .collect();
        others.note(&TopicFilter::parse("devices/x/+").expect("valid"));
        let current = stamps.iter().filter(|stamp| others.is_current(stamp)).count();
        assert!(current > 80, "{current} of 100");
    }
}
