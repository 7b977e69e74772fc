//! How long after a restart the index of vectors serves, with its file and without; and what a write and a recall take
//! while it is made.
//!
//! `cargo bench -p engram-core --bench restart`; which vectors and how many, see `embeddings/mod.rs`. By the clock.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

#[path = "embeddings/mod.rs"]
mod embeddings;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use engram_core::{Confidence, Episode, FsyncMode, IndexMode, MemoryStore, Query, chrono::Utc};

use self::embeddings::{counts, nth, vectors};

fn main() {
    let (base, questions) = vectors();
    println!("| memories | index | file | recovered after | index serves after | file bytes |");
    println!("|---|---|---|---|---|---|");
    for count in counts("100000") {
        for mode in [IndexMode::Ivf, IndexMode::Hnsw] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("index.cache");
            let store = open(directory.path(), base[0].len(), mode);
            (0..count).for_each(|n| drop(store.store(episode(&base, n)).unwrap()));
            await_index(&store, mode);
            store.close().unwrap();
            drop(store);
            let bytes = fs::metadata(&file).unwrap().len();
            for name in ["with", "without"] {
                if name == "without" {
                    fs::remove_file(&file).unwrap();
                }
                let began = Instant::now();
                let store = open(directory.path(), base[0].len(), mode);
                let recovered = began.elapsed();
                await_index(&store, mode);
                println!(
                    "| {count} | {mode} | {name} | {recovered:.1?} | {:.1?} | {bytes} |",
                    began.elapsed()
                );
            }
        }
    }
    println!();
    println!("| memories | index | meanwhile | store p50 | store p99 | recall p50 | recall p99 |");
    println!("|---|---|---|---|---|---|---|");
    for count in counts("100000") {
        for (mode, meanwhile) in
            [(IndexMode::Scan, "nothing"), (IndexMode::Ivf, "making it"), (IndexMode::Hnsw, "making it")]
        {
            latencies(&base, &questions, count, mode, meanwhile);
        }
    }
}

/// Of stores and recalls in turn, from the moment that all are stored.
fn latencies(base: &[Vec<f32>], questions: &[Vec<f32>], count: usize, mode: IndexMode, meanwhile: &str) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), base[0].len(), mode);
    (0..count).for_each(|n| drop(store.store(episode(base, n)).unwrap()));
    let (mut stores, mut recalls) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for n in 0.. {
        let episode = episode(base, count + n);
        let before = Instant::now();
        store.store(episode).unwrap();
        stores.push(before.elapsed());
        let query = Query::embedding(questions[n % questions.len()].clone());
        let before = Instant::now();
        store.recall(&query).unwrap();
        recalls.push(before.elapsed());
        let is_over = began.elapsed() > Duration::from_secs(10);
        if is_over || (mode != IndexMode::Scan && is_made(&store, mode)) {
            break;
        }
    }
    let of = |times: &mut Vec<Duration>, share: f64| {
        times.sort_unstable();
        times[((times.len() - 1) as f64 * share) as usize]
    };
    println!(
        "| {count} | {mode} | {meanwhile} | {:.1?} | {:.1?} | {:.1?} | {:.1?} |",
        of(&mut stores, 0.5),
        of(&mut stores, 0.99),
        of(&mut recalls, 0.5),
        of(&mut recalls, 0.99),
    );
}

fn open(directory: &Path, dimension: usize, mode: IndexMode) -> MemoryStore {
    let store = MemoryStore::new(10_000_000).with_dimension(dimension).unwrap().with_index(mode).unwrap();
    store.with_wal(directory, FsyncMode::None).unwrap()
}

fn episode(base: &[Vec<f32>], n: usize) -> Episode {
    Episode::new(n.to_string(), Utc::now(), n.to_string(), nth(base, n), Confidence::HIGH)
}

fn is_made(store: &MemoryStore, mode: IndexMode) -> bool {
    let index = store.status().index;
    if mode == IndexMode::Hnsw { index.nodes > 0 } else { index.lists > 0 }
}

fn await_index(store: &MemoryStore, mode: IndexMode) {
    while !is_made(store, mode) {
        thread::sleep(Duration::from_millis(1));
    }
}
