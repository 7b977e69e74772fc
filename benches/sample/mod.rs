//! Episodes to measure with: about 120 characters of words with natural frequencies, 768 dimensions.

#![expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]

use chrono::{DateTime, Utc};
use engram_core::{Confidence, Episode};

const DIMENSION: usize = 768;

/// Words of the language of the sample; the first are used most.
const WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "user", "was", "on", "with", "memory",
    "be", "by", "as", "agent", "prefers", "meeting", "project", "deadline", "moved", "monday", "said",
    "code", "review", "server", "deploy", "failed", "green", "tea", "morning", "city", "travel", "paris",
    "ticket", "budget", "invoice", "paid", "team", "design", "question", "answer", "note", "remember",
    "birthday", "june", "doctor", "call", "sister", "dog", "garden", "recipe", "python", "rust", "database",
    "index", "vector", "log", "disk", "power", "night",
];

/// The `n`-th episode; always the same for the same number.
pub(crate) fn episode(n: usize) -> Episode {
    let mut random = Random(n as u64);
    let mut content = String::with_capacity(128);
    while content.len() < 114 {
        // The product of two uniform numbers is small more often than not, as words are frequent.
        let word = random.below(64) * random.below(64) / 64;
        content.push_str(WORDS[word]);
        content.push(' ');
    }
    content += &n.to_string();
    let when = DateTime::<Utc>::from_timestamp(1_700_000_000 + n as i64, 0).unwrap_or_default();
    Episode::new(format!("memory-{n:08}"), when, content, vector(n as u64), Confidence::HIGH)
}

/// A vector of numbers between -1 and 1; always the same for the same seed.
pub(crate) fn vector(seed: u64) -> Vec<f32> {
    let mut random = Random(seed ^ 0x5eed);
    (0..DIMENSION).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
        ((mixed ^ (mixed >> 27)) % bound as u64) as usize
    }
}
