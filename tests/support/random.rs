//! Random choices that can be repeated.

use std::hash::{BuildHasher as _, RandomState};

/// The seed that `ENGRAM_SEED` asks for, or a new one; printed either way.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("ENGRAM_SEED").map_or_else(|_| new_seed(), |seed| seed.parse().unwrap());
    println!("ENGRAM_SEED={seed}");
    seed
}

/// A seed that nobody asked for.
pub(crate) fn new_seed() -> u64 {
    RandomState::new().hash_one(0)
}

/// How often to try: as often as the variable says, or `default` times.
pub(crate) fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

/// Numbers that follow from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d) % bound
    }
}
