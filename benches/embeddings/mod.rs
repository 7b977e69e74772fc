//! Embeddings to measure with: of a file, or made up.

use std::{env, fs};

/// The vectors that memories are made of, and those of questions, which are others.
///
/// `ENGRAM_VECTORS_FILE` names a file of vectors: rows of `ENGRAM_VECTORS_DIMENSION` (768) half-precision numbers,
/// little-endian; its last 500 (`ENGRAM_BENCH_QUESTIONS`) are the questions. Without it they are made up, in a thousand
/// clusters.
pub(crate) fn vectors() -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let dimension = env::var("ENGRAM_VECTORS_DIMENSION").map_or(768, |dimension| dimension.parse().unwrap());
    let asked = env::var("ENGRAM_BENCH_QUESTIONS").map_or(500, |count| count.parse().unwrap());
    let mut base = env::var("ENGRAM_VECTORS_FILE")
        .map_or_else(|_| made_up(20_000 + asked, dimension), |path| read(&path, dimension));
    let questions = base.split_off(base.len() - asked);
    (base, questions)
}

/// How many memories, as in `ENGRAM_BENCH_MEMORIES=10000,100000`.
pub(crate) fn counts(default: &str) -> Vec<usize> {
    let counts = env::var("ENGRAM_BENCH_MEMORIES").unwrap_or_else(|_| default.to_owned());
    counts.split(',').map(|count| count.parse().unwrap()).collect()
}

/// The vector of a memory: more than there are are mixtures of two. Always the same for the same number.
pub(crate) fn nth(base: &[Vec<f32>], n: usize) -> Vec<f32> {
    let first = &base[n % base.len()];
    if n < base.len() {
        return first.clone();
    }
    let mut random = Random(n as u64);
    let second = &base[(random.next() * base.len() as f32) as usize % base.len()];
    let share = 0.15 + 0.35 * random.next();
    let noise = 0.3 / (first.len() as f32).sqrt();
    first.iter().zip(second).map(|(a, b)| a + share * b + noise * (random.next() - 0.5)).collect()
}

fn made_up(count: usize, dimension: usize) -> Vec<Vec<f32>> {
    let vector = |seed: u64| {
        let mut random = Random(seed);
        (0..dimension).map(move |_| random.next() - 0.5)
    };
    let near = |n: u64| {
        let cluster = vector(n.wrapping_mul(0x9e37_79b9) % 1000);
        cluster.zip(vector(1_000_000 + n)).map(|(middle, own)| middle + 0.9 * own).collect()
    };
    (0..count as u64).map(near).collect()
}

fn read(path: &str, dimension: usize) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let numbers = |row: &[u8]| row.as_chunks::<2>().0.iter().map(|half| widened(*half)).collect();
    bytes.chunks_exact(2 * dimension).map(numbers).collect()
}

/// A half-precision number.
fn widened(half: [u8; 2]) -> f32 {
    let half = u16::from_le_bytes(half);
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 1023) / 1024.0);
    let size =
        if exponent == 0 { fraction * 2_f32.powi(-14) } else { (1.0 + fraction) * 2_f32.powi(exponent - 15) };
    if half >> 15 == 1 { -size } else { size }
}

struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / 16_777_216.0
    }
}
