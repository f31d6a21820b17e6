//! A vector whose places keep their number while others come and go.

use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// The number of a place in a [`Slab`], plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(NonZeroU32);

impl Id {
    pub(super) const FIRST: Id = Id(NonZeroU32::MIN);
    pub(super) const SECOND: Id = Id(NonZeroU32::MIN.saturating_add(1));

    /// # Panics
    ///
    /// With more than 2^32 - 1 things in one slab, which would take more than 100 GB.
    fn of(index: usize) -> Id {
        let id = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Id(id.expect("fewer than 2^32 things in a slab"))
    }

    pub(super) const fn number(self) -> u32 {
        self.0.get()
    }

    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Things with numbers. A free place holds the number of the next free one.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Option<Id>,
    len: usize,
}

#[derive(Debug)]
enum Place<T> {
    Used(T),
    Free(Option<Id>),
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Slab {
            places: Vec::new(),
            free: None,
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, thing: T) -> Id {
        self.len += 1;
        let Some(id) = self.free else {
            self.places.push(Place::Used(thing));
            return Id::of(self.places.len() - 1);
        };
        if let Place::Free(next) = std::mem::replace(&mut self.places[id.index()], Place::Used(thing)) {
            self.free = next;
        }
        id
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let place = self.places.get_mut(id.index())?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let Place::Used(thing) = std::mem::replace(place, Place::Free(self.free)) else {
            return None;
        };
        self.free = Some(id);
        self.len -= 1;
        Some(thing)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter_map(|place| match place {
            Place::Used(thing) => Some(thing),
            Place::Free(_) => None,
        })
    }

    /// Places in use and free ones.
    pub(super) const fn places(&self) -> usize {
        self.places.len()
    }

    /// Moves the things together and gives the memory of the free places back. Numbers change, order does not.
    pub(super) fn compact(&mut self) -> Renumbering {
        let mut packed = Vec::with_capacity(self.len);
        let mut new_ids = Vec::with_capacity(self.places.len());
        for place in std::mem::take(&mut self.places) {
            new_ids.push(Id::of(packed.len()));
            if let Place::Used(_) = place {
                packed.push(place);
            }
        }
        self.places = packed;
        self.free = None;
        Renumbering(new_ids)
    }
}

impl<T> Index<Id> for Slab<T> {
    type Output = T;

    fn index(&self, id: Id) -> &T {
        match &self.places[id.index()] {
            Place::Used(thing) => thing,
            Place::Free(_) => unreachable!("a number outlived its place"),
        }
    }
}

impl<T> IndexMut<Id> for Slab<T> {
    fn index_mut(&mut self, id: Id) -> &mut T {
        match &mut self.places[id.index()] {
            Place::Used(thing) => thing,
            Place::Free(_) => unreachable!("a number outlived its place"),
        }
    }
}

/// What became of the numbers in [`Slab::compact`].
pub(super) struct Renumbering(Vec<Id>);

impl Renumbering {
    pub(super) fn of(&self, old: Id) -> Id {
        self.0[old.index()]
    }
}

#[cfg(test)]
impl<T> Slab<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| match place {
            Place::Used(thing) => Some(thing),
            Place::Free(_) => None,
        })
    }

    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }
}
