//! Choices that follow from a seed (SplitMix64).

use std::cell::Cell;

#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(Cell::new(seed.wrapping_mul(0xD129_0B26_9C1F_7E35)))
    }

    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From `least` to `most`, both included.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    pub fn index(&self, length: usize) -> usize {
        (self.next() % length as u64) as usize
    }

    pub fn percent(&self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }
}
