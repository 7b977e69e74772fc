//! What the index of vectors finds and what that takes: recall of ten against an exact search in f32, and time.
//!
//! `cargo bench -p engram-core --bench vectors`. `ENGRAM_VECTORS_FILE` names a file of vectors to measure with: rows of
//! `ENGRAM_VECTORS_DIMENSION` (768) half-precision numbers, little-endian; its last 500 are the questions. More memories
//! than it has rows are mixtures of two of them. Without it the vectors are made up, in a thousand clusters.
//! `ENGRAM_BENCH_MEMORIES` says how many memories, as in `10000,100000`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

use std::{
    env, fs,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use engram_core::{
    Confidence, Episode, IndexMode, MemoryStore, Precision, Query, RecallTarget, Route, chrono::Utc,
};

fn main() {
    let dimension = env::var("ENGRAM_VECTORS_DIMENSION").map_or(768, |dimension| dimension.parse().unwrap());
    let asked = env::var("ENGRAM_BENCH_QUESTIONS").map_or(500, |count| count.parse().unwrap());
    let mut base = env::var("ENGRAM_VECTORS_FILE")
        .map_or_else(|_| made_up(20_000 + asked, dimension), |path| read(&path, dimension));
    let questions = base.split_off(base.len() - asked);
    let counts = env::var("ENGRAM_BENCH_MEMORIES").unwrap_or_else(|_| "10000,30000,100000".to_owned());
    let parties = env::var("ENGRAM_BENCH_INDEX").unwrap_or_else(|_| "exact,scan,ivf,ivf:0.95".to_owned());
    println!(
        "| memories | | recall of 10 | other than int8 | not found by itself | ms a recall | recalls/s |"
    );
    println!("|---|---|---|---|---|---|---|");
    for count in counts.split(',').map(|count| count.parse::<usize>().unwrap()) {
        let exact = store(&base, count, Precision::F32, IndexMode::Scan, 0.99);
        let truth: Vec<Vec<String>> = questions.iter().map(|question| ten(&exact, question)).collect();
        if parties.contains("exact") {
            measure(&format!("| {count} | exact, f32 "), &exact, &base, &questions, &truth, count);
        }
        drop(exact);
        for (mode, target) in parties.split(',').filter_map(party) {
            let store = store(&base, count, Precision::Int8, mode, target);
            let index = store.status().index;
            let name = match index.route {
                Route::Ivf { probes } => format!("ivf, target {target}: {probes} of {} lists", index.lists),
                Route::Hnsw { ef } => format!("hnsw, target {target}: ef {ef}"),
                route => route.name().to_owned(),
            };
            measure(&format!("| {count} | {name} "), &store, &base, &questions, &truth, count);
        }
    }
}

fn measure(
    name: &str,
    store: &MemoryStore,
    base: &[Vec<f32>],
    questions: &[Vec<f32>],
    truth: &[Vec<String>],
    count: usize,
) {
    let mut hits = 0;
    let mut best = f64::MAX;
    for _ in 0..3 {
        let began = seconds();
        let found: Vec<_> = questions.iter().map(|question| ten(store, question)).collect();
        best = best.min((seconds() - began) / found.len() as f64);
        let pairs = truth.iter().zip(&found);
        hits = pairs.map(|(truth, found)| truth.iter().filter(|id| found.contains(id)).count()).sum();
    }
    let recall = f64::from(hits as u32) / (10 * truth.len()) as f64;
    let exactly =
        |question: &Vec<f32>| ids(store, &Query { exact: true, ..Query::embedding(question.clone()) });
    let other = questions.iter().filter(|question| exactly(question) != ten(store, question)).count();
    let asked = (0..count).step_by((count / 1000).max(1));
    let missing = asked.clone().filter(|n| !ten(store, &nth(base, *n)).contains(&id(*n))).count();
    let asked = asked.count();
    let all = questions.len();
    println!(
        "{name}| {recall:.4} | {other} of {all} | {missing} of {asked} | {:.3} | {:.0} |",
        best * 1e3,
        1.0 / best
    );
}

/// Of this thread's work, where the system tells (Linux), so that other work on the machine counts less; otherwise of the
/// clock.
fn seconds() -> f64 {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| BEGAN.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn store(base: &[Vec<f32>], count: usize, precision: Precision, mode: IndexMode, target: f32) -> MemoryStore {
    let store = MemoryStore::new(count).with_dimension(base[0].len()).unwrap();
    let store = store.with_precision(precision).unwrap().with_index(mode).unwrap();
    let store = store.with_recall_target(RecallTarget::new(target).unwrap()).unwrap();
    for n in 0..count {
        store.store(Episode::new(id(n), Utc::now(), id(n), nth(base, n), Confidence::HIGH)).unwrap();
    }
    // Lists are made in the background; whether they are used depends on the vectors.
    let is_made = || {
        let index = store.status().index;
        match mode {
            IndexMode::Ivf => index.trained.is_some(),
            IndexMode::Hnsw => index.nodes > 0,
            _ => true,
        }
    };
    while precision == Precision::Int8 && !is_made() {
        thread::sleep(Duration::from_millis(10));
    }
    store
}

fn id(n: usize) -> String {
    n.to_string()
}

/// As in `ivf:0.95`: what finds the candidates, and its recall target.
fn party(name: &str) -> Option<(IndexMode, f32)> {
    let (mode, target) = name.split_once(':').unwrap_or((name, ""));
    let target = target.parse().unwrap_or(RecallTarget::default().get());
    Some((mode.parse().ok()?, target))
}

fn ten(store: &MemoryStore, vector: &[f32]) -> Vec<String> {
    ids(store, &Query::embedding(vector.to_vec()))
}

fn ids(store: &MemoryStore, query: &Query) -> Vec<String> {
    let recall = store.recall(query).unwrap();
    recall.hits.iter().map(|hit| hit.memory.id().to_owned()).collect()
}

/// The vector of a memory; always the same for the same number.
fn nth(base: &[Vec<f32>], n: usize) -> Vec<f32> {
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
