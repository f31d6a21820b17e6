//! Retained messages by Topic Name.
//!
//! A hash map finds the message of a topic. Beside it the topics are in order, and a Topic Filter is matched by a walk
//! that jumps over stretches where nothing can match. All topics with a given beginning are neighbours there, so a
//! subtree such as `sport/…` is the range from `sport/` to `sport0` (`0` is the character after `/`). Compared with a
//! trie, a topic of 65,535 `/` costs one entry and not 65,536 nodes, nothing is recursive, and a walk can stop at any
//! topic and go on later.

use std::collections::{BTreeSet, btree_set};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::HashMap;

use super::filters::shrink;
use crate::topic;

/// A map from Topic Names to messages that can be asked for all topics that match a Topic Filter.
///
/// Invariant: both collections hold the same topics.
#[derive(Debug)]
pub struct RetainedTree<M> {
    messages: HashMap<Arc<str>, M>,
    order: BTreeSet<Arc<str>>,
}

impl<M> RetainedTree<M> {
    /// A tree without messages.
    #[must_use]
    pub fn new() -> Self {
        RetainedTree {
            messages: HashMap::default(),
            order: BTreeSet::new(),
        }
    }

    /// Puts a message in place of the one with this topic, which is given back.
    ///
    /// Replacing costs one look-up; removing first and inserting again costs ten times that.
    pub fn insert(&mut self, topic: &str, message: M) -> Option<M> {
        match self.messages.get_mut(topic) {
            Some(old) => Some(std::mem::replace(old, message)),
            None => self.add(Arc::from(topic), message),
        }
    }

    /// Does the same as [`RetainedTree::insert`] without a copy of the topic.
    pub fn insert_shared(&mut self, topic: &Arc<str>, message: M) -> Option<M> {
        match self.messages.get_mut(topic) {
            Some(old) => Some(std::mem::replace(old, message)),
            None => self.add(Arc::clone(topic), message),
        }
    }

    fn add(&mut self, topic: Arc<str>, message: M) -> Option<M> {
        self.order.insert(Arc::clone(&topic));
        self.messages.insert(topic, message)
    }

    /// Removes the message with this topic and gives it back.
    pub fn remove(&mut self, topic: &str) -> Option<M> {
        let message = self.messages.remove(topic)?;
        self.order.remove(topic);
        shrink(&mut self.messages);
        Some(message)
    }

    /// The message with this topic.
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<&M> {
        self.messages.get(topic)
    }

    /// The number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Removes all messages that `keep` says `false` of.
    pub fn retain(&mut self, mut keep: impl FnMut(&M) -> bool) {
        let order = &mut self.order;
        self.messages.retain(|topic, message| {
            let stays = keep(message);
            if !stays {
                order.remove(topic);
            }
            stays
        });
        shrink(&mut self.messages);
    }

    /// Does a part of [`RetainedTree::retain`]: starts at the topic `from` (`""` at first), asks `keep` about `budget`
    /// messages, and gives back where to go on, or `None` at the end.
    pub fn retain_some(&mut self, from: &str, budget: usize, mut keep: impl FnMut(&M) -> bool) -> Option<Arc<str>> {
        let mut walk = self.range_from(from);
        let mut goes = |topic: &&Arc<str>| self.messages.get(*topic).is_some_and(|message| !keep(message));
        let gone: Vec<_> = walk.by_ref().take(budget.max(1)).filter(&mut goes).cloned().collect();
        let next = walk.next().cloned();
        gone.iter().for_each(|topic| _ = self.remove(topic));
        next
    }

    /// Calls `f` with topic and message for each topic that matches this valid filter, in the order of the topics.
    pub fn for_each_match<'a>(&'a self, filter: &str, f: impl FnMut(&'a str, &'a M)) {
        self.for_some_matches(filter, "", usize::MAX, f);
    }

    /// Does a part of [`RetainedTree::for_each_match`]: starts at the topic `from` (`""` at first), makes no more than
    /// `budget` steps, and gives back where to go on, or `None` when nothing is left. Each match is a step, and each
    /// stretch that is jumped over; a step looks at no more than nine topics and searches once.
    ///
    /// So the lock around the tree needs not be held for the whole of a walk through millions of topics. Topics that
    /// are in the tree during all of the parts are seen exactly once.
    pub fn for_some_matches<'a>(
        &'a self,
        filter: &str,
        from: &str,
        budget: usize,
        mut f: impl FnMut(&'a str, &'a M),
    ) -> Option<Arc<str>> {
        let mut found = |topic: &str| {
            if let Some((topic, message)) = self.messages.get_key_value(topic) {
                f(topic, message);
            }
        };
        if !topic::has_wildcard(filter) {
            found(filter);
            return None;
        }
        let mut target = String::from(from.max(fixed_beginning(filter)));
        let mut walk = self.range_from(&target);
        let mut next = walk.next();
        for _ in 0..budget.max(1) {
            let topic = next?;
            next = match judge(filter, topic) {
                Verdict::Match => {
                    found(topic);
                    walk.next()
                }
                Verdict::Miss => walk.next(),
                Verdict::Jump(jump) => {
                    jump.write_target(topic, &mut target);
                    walk.by_ref().take(NEAR).find(|topic| ***topic >= *target).or_else(|| {
                        walk = self.range_from(&target);
                        walk.next()
                    })
                }
                Verdict::End => return None,
            };
        }
        next.cloned()
    }

    fn range_from(&self, from: &str) -> btree_set::Range<'_, Arc<str>> {
        self.order.range::<str, _>((Bound::Included(from), Bound::Unbounded))
    }
}

impl<M> Default for RetainedTree<M> {
    fn default() -> Self {
        RetainedTree::new()
    }
}

/// So many neighbours are looked at before a search from the top: they are cheaper than that.
const NEAR: usize = 8;

/// What every topic that matches this filter with a wildcard begins with.
fn fixed_beginning(filter: &str) -> &str {
    match filter.find(['+', '#']) {
        None => filter,
        // `sport/#` matches `sport` too.
        Some(end) if filter[end..].starts_with('#') => filter[..end].strip_suffix('/').unwrap_or_default(),
        Some(end) => &filter[..end],
    }
}

/// What a filter says of a topic.
enum Verdict<'a> {
    Match,
    /// No match, and one of the next topics may.
    Miss,
    /// No match, and no topic before the target of the jump can match.
    Jump(Jump<'a>),
    /// No match, and no later topic can.
    End,
}

/// A target: the first `keep` bytes of the topic jumped from, then `level`, then `end`.
struct Jump<'a> {
    keep: usize,
    level: &'a str,
    end: &'static str,
}

impl Jump<'_> {
    fn write_target(&self, topic: &str, target: &mut String) {
        target.clear();
        target.push_str(&topic[..self.keep]);
        target.push_str(self.level);
        target.push_str(self.end);
    }
}

/// Compares a topic with a filter and finds out how far the walk can jump.
fn judge<'a>(filter: &'a str, topic: &str) -> Verdict<'a> {
    // [MQTT-4.7.2-1]; `%` is the character after `$`.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return Verdict::Jump(Jump {
            keep: 0,
            level: "",
            end: "%",
        });
    }
    let (mut filter, mut start) = (Some(filter), Some(0)); // What is left of the filter, and of the topic.
    let mut free = None; // The end of the last level that a `+` stands for.
    while let Some((wanted, more)) = filter.map(topic::split_first) {
        if wanted == "#" {
            return Verdict::Match;
        }
        let Some(begin) = start else { return Verdict::Miss };
        let (level, rest) = topic::split_first(&topic[begin..]);
        let end = begin + level.len();
        if wanted == "+" {
            free = Some(end);
        } else if wanted != level {
            return mismatch(wanted, more, topic, begin, free);
        }
        start = rest.map(|_| end + 1);
        filter = more;
    }
    if start.is_none() { Verdict::Match } else { leave(free) }
}

/// The topic is as the filter wants it up to `begin`, but there it has not the level `wanted`.
fn mismatch<'a>(wanted: &'a str, more: Option<&str>, topic: &str, begin: usize, free: Option<usize>) -> Verdict<'a> {
    let rest = &topic[begin..];
    // With this beginning, the topics that can match are the one that ends with `wanted` and those that go on after it.
    let may_end = more.is_none_or(|more| more == "#");
    if may_end && rest < wanted {
        Verdict::Jump(Jump {
            keep: begin,
            level: wanted,
            end: "",
        })
    } else if more.is_some() && rest.bytes().lt(wanted.bytes().chain([b'/'])) {
        Verdict::Jump(Jump {
            keep: begin,
            level: wanted,
            end: "/",
        })
    } else {
        leave(free)
    }
}

/// All that can match with this text in the place of the last `+` was before: to the next text in that place. Without
/// a `+`, there is none.
fn leave<'a>(free: Option<usize>) -> Verdict<'a> {
    match free {
        // `0` is the character after `/`.
        Some(end) => Verdict::Jump(Jump {
            keep: end,
            level: "",
            end: "0",
        }),
        None => Verdict::End,
    }
}

#[cfg(test)]
mod tests;
