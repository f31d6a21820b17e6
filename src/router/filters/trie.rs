//! The trie of the Topic Filters with wildcards.
//!
//! Nodes are numbers in one vector, and all edges with a literal level are in one hash map keyed by (node, level). So
//! a node is 20 bytes, whether it has no child or a million, and a trie of any depth is dropped without recursion.

use std::hash::{Hash, Hasher};

use foldhash::HashMap;

use super::levels::Levels;
use super::shrink;
use super::slab::{Id, Slab};
use crate::topic;

/// Invariants: both roots always exist; every other node has a child or a value, for `remove` takes away those that
/// have not; each edge uses its level once in `levels`; each value belongs to exactly one node.
#[derive(Debug)]
pub(super) struct Trie<V> {
    nodes: Slab<Node>,
    edges: HashMap<Edge, Id>,
    levels: Levels,
    values: Slab<V>,
}

/// A sequence of levels that some filter begins with.
#[derive(Debug, Default)]
struct Node {
    /// The child for the level `+`.
    single: Option<Id>,
    /// How many children there are in `Trie::edges`.
    literals: u32,
    /// The value of the filter that ends here.
    exact: Option<Id>,
    /// The value of the filter that ends with `#` below this node.
    multi: Option<Id>,
}

/// From which node, and by which level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edge(Id, Id);

impl Hash for Edge {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0.number()) << 32 | u64::from(self.1.number())); // Once is faster than twice.
    }
}

/// Where filters start whose first character is not `$`.
const ROOT: Id = Id::FIRST;
/// Where filters start whose first character is `$`. No wildcard starts here [MQTT-4.7.2-1].
const DOLLAR_ROOT: Id = Id::SECOND;

fn root_of(filter_or_topic: &str) -> Id {
    if filter_or_topic.starts_with('$') {
        DOLLAR_ROOT
    } else {
        ROOT
    }
}

/// A filter as the trie sees it: the levels that lead to a node, and which of its two values is meant.
#[derive(Clone, Copy)]
struct Path<'a> {
    /// `None` for the filter `#`, which ends at the root.
    levels: Option<&'a str>,
    ends_with_multi: bool,
}

impl<'a> Path<'a> {
    fn of(filter: &'a str) -> Self {
        match filter.strip_suffix('#') {
            Some("") => Path {
                levels: None,
                ends_with_multi: true,
            },
            Some(rest) if rest.ends_with('/') => Path {
                levels: Some(&rest[..rest.len() - 1]),
                ends_with_multi: true,
            },
            _ => Path {
                levels: Some(filter),
                ends_with_multi: false,
            },
        }
    }

    fn iter(self) -> impl DoubleEndedIterator<Item = &'a str> {
        self.levels.into_iter().flat_map(|levels| levels.split('/'))
    }

    fn value_of(self, node: &Node) -> Option<Id> {
        if self.ends_with_multi { node.multi } else { node.exact }
    }

    fn value_of_mut(self, node: &mut Node) -> &mut Option<Id> {
        if self.ends_with_multi {
            &mut node.multi
        } else {
            &mut node.exact
        }
    }
}

impl Node {
    const fn is_unused(&self) -> bool {
        self.single.is_none() && self.literals == 0 && self.exact.is_none() && self.multi.is_none()
    }

    /// Whether filters may match here that are neither seen yet nor end with `#` here.
    const fn leads_on(&self) -> bool {
        self.single.is_some() || self.literals > 0 || self.exact.is_some()
    }
}

impl<V> Trie<V> {
    pub(super) fn new() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::default());
        nodes.insert(Node::default());
        Trie {
            nodes,
            edges: HashMap::default(),
            levels: Levels::new(),
            values: Slab::new(),
        }
    }

    /// The number of filters.
    pub(super) const fn len(&self) -> usize {
        self.values.len()
    }

    /// The number of nodes without the roots.
    pub(super) const fn node_count(&self) -> usize {
        self.nodes.len() - 2
    }

    pub(super) fn get(&self, filter: &str) -> Option<&V> {
        Some(&self.values[self.find(filter)?])
    }

    pub(super) fn get_mut(&mut self, filter: &str) -> Option<&mut V> {
        let id = self.find(filter)?;
        Some(&mut self.values[id])
    }

    fn find(&self, filter: &str) -> Option<Id> {
        let path = Path::of(filter);
        let node = path
            .iter()
            .try_fold(root_of(filter), |node, level| self.child(node, level))?;
        path.value_of(&self.nodes[node])
    }

    fn child(&self, parent: Id, level: &str) -> Option<Id> {
        if level == "+" {
            return self.nodes[parent].single;
        }
        self.edges.get(&Edge(parent, self.levels.get(level)?)).copied()
    }

    pub(super) fn entry(&mut self, filter: &str) -> &mut V
    where
        V: Default,
    {
        let path = Path::of(filter);
        let node = path
            .iter()
            .fold(root_of(filter), |node, level| self.child_or_new(node, level));
        let values = &mut self.values;
        let id = *path
            .value_of_mut(&mut self.nodes[node])
            .get_or_insert_with(|| values.insert(V::default()));
        &mut self.values[id]
    }

    fn child_or_new(&mut self, parent: Id, level: &str) -> Id {
        if let Some(child) = self.child(parent, level) {
            return child;
        }
        let child = self.nodes.insert(Node::default());
        if level == "+" {
            self.nodes[parent].single = Some(child);
        } else {
            let edge = Edge(parent, self.levels.acquire(level));
            self.edges.insert(edge, child);
            self.nodes[parent].literals += 1;
        }
        child
    }

    pub(super) fn remove(&mut self, filter: &str) -> Option<V> {
        let path = Path::of(filter);
        let mut trail = vec![root_of(filter)];
        let mut node = trail[0];
        for level in path.iter() {
            node = self.child(node, level)?;
            trail.push(node);
        }
        let id = path.value_of_mut(&mut self.nodes[node]).take()?;
        let value = self.values.remove(id);
        self.prune(path, &trail);
        self.compact_if_sparse();
        value
    }

    /// Removes the nodes at the end of `trail` (root first, a node for each level of `path`) that nothing uses.
    fn prune(&mut self, path: Path<'_>, trail: &[Id]) {
        for (level, link) in path.iter().rev().zip(trail.windows(2).rev()) {
            let &[parent, node] = link else { return };
            if !self.nodes[node].is_unused() {
                return;
            }
            self.nodes.remove(node);
            self.unlink(parent, level);
        }
    }

    fn unlink(&mut self, parent: Id, level: &str) {
        if level == "+" {
            self.nodes[parent].single = None;
            return;
        }
        let Some(id) = self.levels.get(level) else { return };
        self.edges.remove(&Edge(parent, id));
        self.nodes[parent].literals -= 1;
        self.levels.release(level);
    }

    /// Gives memory back when three quarters of it are unused. That many removals have paid for the work, which is why
    /// the three are taken together: else a client could make a large trie be renumbered by using up a few levels.
    fn compact_if_sparse(&mut self) {
        let used = self.nodes.len() + self.values.len() + self.levels.len();
        let places = self.nodes.places() + self.values.places() + self.levels.places();
        if places > 256 && used < places / 4 {
            self.compact();
        } else {
            shrink(&mut self.edges);
        }
    }

    pub(super) fn compact(&mut self) {
        let values = self.values.compact();
        let levels = self.levels.compact();
        // The roots are the first two nodes and stay that, for compacting keeps the order.
        let nodes = self.nodes.compact();
        for node in self.nodes.iter_mut() {
            node.single = node.single.map(|id| nodes.of(id));
            node.exact = node.exact.map(|id| values.of(id));
            node.multi = node.multi.map(|id| values.of(id));
        }
        let edges = std::mem::take(&mut self.edges).into_iter();
        self.edges = edges
            .map(|(Edge(parent, level), child)| (Edge(nodes.of(parent), levels.of(level)), nodes.of(child)))
            .collect();
    }

    /// Goes through the topic level by level, with all nodes that the levels so far lead to.
    pub(super) fn for_each_match<'a>(&'a self, topic: &str, mut f: impl FnMut(&'a V)) {
        if self.values.len() == 0 {
            return;
        }
        let (mut here, mut next) = (&mut Frontier::new(), &mut Frontier::new());
        self.enter(root_of(topic), here, &mut f);
        for level in topic::split(topic) {
            if here.is_empty() {
                return;
            }
            next.clear();
            self.step(level, here, next, &mut f);
            std::mem::swap(&mut here, &mut next);
        }
        for value in here.iter().filter_map(|node| self.nodes[node].exact) {
            f(&self.values[value]);
        }
    }

    fn step<'a>(&'a self, level: &str, here: &Frontier, next: &mut Frontier, f: &mut impl FnMut(&'a V)) {
        let mut id = None;
        for parent in here.iter() {
            let node = &self.nodes[parent];
            if let Some(child) = node.single {
                self.enter(child, next, f);
            }
            if node.literals == 0 {
                continue;
            }
            // A level that no filter has leads nowhere from any node.
            let Some(level) = *id.get_or_insert_with(|| self.levels.get(level)) else {
                continue;
            };
            if let Some(&child) = self.edges.get(&Edge(parent, level)) {
                self.enter(child, next, f);
            }
        }
    }

    /// A `#` below a node matches the node's own level too, hence already here: `sport/#` matches `sport`.
    fn enter<'a>(&'a self, id: Id, frontier: &mut Frontier, f: &mut impl FnMut(&'a V)) {
        let node = &self.nodes[id];
        if let Some(value) = node.multi {
            f(&self.values[value]);
        }
        if node.leads_on() {
            frontier.push(id);
        }
    }
}

/// The nodes that the levels of a topic up to some point lead to: few, as a rule, and then not on the heap.
struct Frontier {
    first: [Id; Frontier::INLINE],
    len: usize,
    more: Vec<Id>,
}

impl Frontier {
    const INLINE: usize = 32;

    const fn new() -> Self {
        Frontier {
            first: [ROOT; Frontier::INLINE],
            len: 0,
            more: Vec::new(),
        }
    }

    const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, node: Id) {
        match self.first.get_mut(self.len) {
            Some(place) => {
                *place = node;
                self.len += 1;
            }
            None => self.more.push(node),
        }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.more.clear();
    }

    fn iter(&self) -> impl Iterator<Item = Id> {
        self.first[..self.len].iter().chain(&self.more).copied()
    }
}

#[cfg(test)]
impl<V> Trie<V> {
    /// Asserts the invariants.
    pub(super) fn check(&self) {
        let count = |of: fn(&Node) -> usize| self.nodes.iter().map(of).sum::<usize>();
        assert_eq!(count(|node| node.literals as usize), self.edges.len());
        assert_eq!(
            self.node_count(),
            self.edges.len() + count(|node| node.single.is_some().into())
        );
        assert_eq!(
            self.len(),
            count(|node| usize::from(node.exact.is_some()) + usize::from(node.multi.is_some()))
        );
        assert!(self.nodes.iter().skip(2).all(|node| !node.is_unused()));
        assert_eq!(self.levels.uses(), self.edges.len());
        let dollar = &self.nodes[DOLLAR_ROOT];
        assert!(dollar.single.is_none() && dollar.multi.is_none());
    }

    /// Numbers given to levels, those included that are free again.
    pub(super) fn level_places(&self) -> usize {
        self.levels.places()
    }

    /// Things that there is memory for.
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity() + self.values.capacity() + self.edges.capacity() + self.levels.capacity()
    }
}
