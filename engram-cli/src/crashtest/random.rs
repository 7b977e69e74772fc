//! Random choices that can be repeated.

use std::hash::{BuildHasher as _, RandomState};

/// Numbers that follow from a seed.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The choices of one part of a run: they do not depend on how many the other parts made.
    pub(super) fn of_part(seed: u64, round: u64, part: u64) -> Self {
        let round = Self(seed).next() ^ round;
        Self(Self(round).next() ^ part)
    }

    /// A number below `bound`, which is above 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index of something that has `len` elements, which is above 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// `SplitMix64`, which has no bad seed.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A seed that nobody has chosen; short, since people copy it, and exact in every reader of JSON.
pub(super) fn new_seed() -> u64 {
    RandomState::new().hash_one(0) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices_and_each_part_has_its_own() {
        let choices = |mut random: Random| [random.below(1000), random.below(1000), random.below(1000)];
        assert_eq!(choices(Random::new(7)), choices(Random::new(7)));
        assert_eq!(choices(Random::of_part(7, 1, 2)), choices(Random::of_part(7, 1, 2)));
        for other in [Random::of_part(7, 2, 1), Random::of_part(8, 1, 2), Random::of_part(7, 1, 3)] {
            assert_ne!(choices(Random::of_part(7, 1, 2)), choices(other));
        }
    }
}
