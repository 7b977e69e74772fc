//! What a recall takes over 10,000 and 100,000 memories, by vector, by words and by both, and what a store takes on top of
//! its log.
//!
//! `cargo bench -p engram-core --bench recall`. Vectors of 768 dimensions in int8, ten results, one thread.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[path = "sample/mod.rs"]
mod sample;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engram_core::{Filter, FsyncMode, MemoryStore, Query};
use tempfile::TempDir;

fn recall(c: &mut Criterion) {
    let mut group = c.benchmark_group("recall of 10");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for memories in [10_000, 100_000] {
        let store = MemoryStore::new(memories);
        (0..memories).for_each(|n| drop(store.store(sample::episode(n)).unwrap()));
        let words = "what did the user say of the meeting on monday";
        let episode = sample::episode(memories / 2);
        let (middle, vector) = (episode.when, sample::vector(7));
        let half = Filter { when_from: Some(middle), ..Filter::default() };
        let queries = [
            ("vector", Query::embedding(vector.clone())),
            ("vector, filter of 50 %", Query::embedding(vector.clone()).filter(half)),
            ("words, rare", Query::words((memories / 3).to_string())),
            ("words, common", Query::words(words)),
            ("both", Query::hybrid(words, vector.clone())),
            ("both, exact", Query { exact: true, ..Query::hybrid(words, vector) }),
        ];
        for (name, query) in queries {
            group.bench_function(BenchmarkId::new(name, memories), |b| {
                b.iter(|| store.recall(black_box(&query)).unwrap());
            });
        }
    }
    group.finish();
}

fn store(c: &mut Criterion) {
    let mut group = c.benchmark_group("store, one thread");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(4));
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let logged = MemoryStore::new(10_000_000).with_wal(directory.path(), FsyncMode::PerBatch).unwrap();
    let volatile = MemoryStore::new(10_000_000);
    for (name, store) in [("no log", volatile), ("log, per-batch", logged)] {
        let mut n = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                store.store(sample::episode(n)).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, recall, store);
criterion_main!(benches);
