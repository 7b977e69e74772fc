//! Texts and questions to measure words with.
//!
//! `ENGRAM_TEXTS_FILE` names a file with a text a line; texts are mixed of it. Without it they are made of made-up words
//! with natural frequencies.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::{env, fs};

/// Of which texts are mixed.
pub(crate) struct Texts {
    /// The words of one line after the other.
    words: Vec<String>,
}

impl Texts {
    pub(crate) fn read() -> Self {
        let text = env::var("ENGRAM_TEXTS_FILE")
            .map_or_else(|_| made_up(), |path| fs::read_to_string(path).unwrap_or_default());
        let words = text.split_whitespace().map(str::to_owned).collect();
        Self { words }
    }

    /// About 120 characters: a dozen words from one place, as many from another, and a number that no other text has.
    pub(crate) fn nth(&self, n: usize) -> String {
        let mut random = Random(n as u64);
        let mut text = String::with_capacity(160);
        for length in [60, 112] {
            let mut at = random.below(self.words.len());
            while text.len() < length {
                text.push_str(&self.words[at % self.words.len()]);
                text.push(' ');
                at += 1;
            }
        }
        text + &n.to_string()
    }

    /// Three words that stand beside each other in one of the first `count` texts.
    pub(crate) fn phrase(&self, n: usize, count: usize) -> String {
        let mut random = Random(0x5eed + n as u64);
        let text = self.nth(random.below(count));
        let words: Vec<_> = text.split(' ').collect();
        let at = random.below(words.len() - 3);
        words[at..at + 3].join(" ")
    }
}

/// Common in any English text.
pub(crate) const NINE_COMMON: &str = "what has been done for the people of our";

/// 200,000 words out of 30,000, the n-th of them about as frequent as 1/n.
fn made_up() -> String {
    let mut random = Random(1);
    let mut text = String::new();
    let common: Vec<_> = NINE_COMMON.split(' ').collect();
    for _ in 0..200_000 {
        // The exponent is even over its range: natural frequencies.
        let rank = 30_000_f64.powf(random.below(1 << 24) as f64 / 16_777_216.0) as usize;
        match common.get(rank.saturating_sub(1)) {
            Some(word) => text.push_str(word),
            None => (0..2 + rank % 3).for_each(|at| text.push_str(SYLLABLES[(rank >> (4 * at)) % 16])),
        }
        text.push(' ');
    }
    text
}

const SYLLABLES: [&str; 16] =
    ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "ve"];

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
