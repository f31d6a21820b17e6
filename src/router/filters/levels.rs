//! The texts of levels, each kept once.

use foldhash::HashMap;

use super::shrink;
use super::slab::{Id, Renumbering, Slab};

/// Gives each distinct text of a level a number for as long as an edge of the trie uses it.
///
/// So `temperature` below a million devices costs its bytes once, and matching hashes a level of a topic once, not
/// once for each node that it is compared with.
#[derive(Debug)]
pub(super) struct Levels {
    ids: HashMap<Box<str>, Id>,
    /// How many edges use the level.
    uses: Slab<u32>,
}

impl Levels {
    pub(super) fn new() -> Self {
        Levels {
            ids: HashMap::default(),
            uses: Slab::new(),
        }
    }

    pub(super) fn get(&self, level: &str) -> Option<Id> {
        self.ids.get(level).copied()
    }

    /// The number of this level, used by one more edge.
    pub(super) fn acquire(&mut self, level: &str) -> Id {
        if let Some(&id) = self.ids.get(level) {
            self.uses[id] += 1;
            return id;
        }
        let id = self.uses.insert(1);
        self.ids.insert(Box::from(level), id);
        id
    }

    /// One edge less uses this level: what [`Levels::acquire`] did is undone.
    pub(super) fn release(&mut self, level: &str) {
        let Some(id) = self.get(level) else { return };
        self.uses[id] -= 1;
        if self.uses[id] == 0 {
            self.uses.remove(id);
            self.ids.remove(level);
            shrink(&mut self.ids);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Numbers in use and free ones.
    pub(super) const fn places(&self) -> usize {
        self.uses.places()
    }

    pub(super) fn compact(&mut self) -> Renumbering {
        let new = self.uses.compact();
        self.ids.values_mut().for_each(|id| *id = new.of(*id));
        new
    }
}

#[cfg(test)]
impl Levels {
    pub(super) fn uses(&self) -> usize {
        assert_eq!(self.ids.len(), self.uses.len());
        self.ids.values().map(|&id| self.uses[id] as usize).sum()
    }

    pub(super) fn capacity(&self) -> usize {
        self.ids.capacity() + self.uses.capacity()
    }
}
