//! Sets of homes: groups of keys that one server has.

use std::fmt;

use crate::wire::{Malformed, Reader};

/// Some of the homes: the global one, and buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Homes {
    is_global: bool,
    buckets: [u64; 4],
}

const BITS: u8 = 64;

impl Homes {
    #[cfg(test)]
    pub(crate) fn all() -> Homes {
        Homes {
            is_global: true,
            buckets: [u64::MAX; 4],
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Homes::default()
    }

    pub(crate) fn len(self) -> usize {
        usize::from(self.is_global) + self.buckets().count()
    }

    pub(crate) fn insert_global(&mut self) {
        self.is_global = true;
    }

    pub(crate) fn insert_bucket(&mut self, bucket: u8) {
        self.buckets[usize::from(bucket / BITS)] |= 1 << (bucket % BITS);
    }

    pub(crate) fn has_global(self) -> bool {
        self.is_global
    }

    pub(crate) fn has_bucket(self, bucket: u8) -> bool {
        self.buckets[usize::from(bucket / BITS)] >> (bucket % BITS) & 1 == 1
    }

    pub(crate) fn union(self, other: Homes) -> Homes {
        let mut both = self;
        both.is_global |= other.is_global;
        for (mine, others) in both.buckets.iter_mut().zip(other.buckets) {
            *mine |= others;
        }
        both
    }

    pub(crate) fn buckets(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |bucket| self.has_bucket(*bucket))
    }

    pub(crate) fn write(self, to: &mut Vec<u8>) {
        to.push(u8::from(self.is_global));
        self.buckets
            .iter()
            .for_each(|some| to.extend_from_slice(&some.to_be_bytes()));
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Homes, Malformed> {
        let is_global = from.u8()? != 0;
        let buckets = [from.u64()?, from.u64()?, from.u64()?, from.u64()?];
        Ok(Homes { is_global, buckets })
    }
}

/// For people: `g 0-7 12`.
impl fmt::Display for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.is_global.then(|| "g".to_owned()));
        let mut buckets = self.buckets().peekable();
        while let Some(first) = buckets.next() {
            let mut last = first;
            while let Some(next) = buckets.next_if(|next| u16::from(*next) == u16::from(last) + 1) {
                last = next;
            }
            parts.push(match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            });
        }
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Homes {
        let mut homes = Homes::default();
        [0, 63, 64, 65, 255]
            .into_iter()
            .for_each(|bucket| homes.insert_bucket(bucket));
        homes
    }

    #[test]
    fn what_was_put_in_is_there() {
        let mut homes = some();
        assert_eq!((homes.len(), homes.has_global()), (5, false));
        homes.insert_global();
        assert_eq!((homes.len(), homes.has_global()), (6, true));
        assert!(homes.has_bucket(64) && !homes.has_bucket(66));
        assert_eq!(homes.buckets().collect::<Vec<_>>(), [0, 63, 64, 65, 255]);
        assert_eq!(homes.union(Homes::all()), Homes::all());
        assert_eq!((Homes::all().len(), Homes::default().is_empty()), (257, true));
    }

    #[test]
    fn what_is_written_is_read() {
        for homes in [Homes::default(), some(), Homes::all()] {
            let mut bytes = Vec::new();
            homes.write(&mut bytes);
            assert_eq!(Homes::read(&mut Reader::new(&bytes)), Ok(homes));
        }
    }

    #[test]
    fn people_read_which() {
        assert_eq!(some().to_string(), "0 63-65 255");
        assert_eq!(Homes::all().to_string(), "g 0-255");
        assert_eq!(Homes::default().to_string(), "");
    }
}
