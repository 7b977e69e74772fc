//! How fast a log is recovered, beside a bare read of its bytes, and what a memory takes on disk.
//!
//! `cargo bench -p engram-core --bench recovery`. Each figure is over 100,000 memories with about 120 characters of
//! content and 768 dimensions in int8. Target: more than 10,000 a second.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

#[path = "sample/files.rs"]
mod files;
#[path = "sample/mod.rs"]
mod sample;

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engram_core::{
    FsyncMode, MemoryStore, StorageError,
    storage::{WalOptions, WalReader, WalWriter, disk::RealDisk},
};
use files::read_all;
use tempfile::TempDir;

const MEMORIES: usize = 100_000;

fn log_of(directory: &Path, batch: usize) -> u64 {
    let store = MemoryStore::new(MEMORIES).with_wal(directory, FsyncMode::None).unwrap();
    let mut handles = Vec::new();
    for n in 0..MEMORIES {
        handles.push(store.submit(sample::episode(n)));
        if handles.len() == batch {
            handles.drain(..).for_each(|handle| drop(handle.wait().unwrap()));
        }
    }
    handles.drain(..).for_each(|handle| drop(handle.wait().unwrap()));
    let written = store.status().log.written_bytes;
    store.close().unwrap();
    written
}

fn recovery(c: &mut Criterion) {
    for (name, batch) in [("stored one by one", 1), ("stored in batches", 500)] {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let written = log_of(directory.path(), batch);
        println!(
            "{name}: {:.0} bytes of log a memory (target: about 1 KB)",
            written as f64 / MEMORIES as f64
        );
        let mut group = c.benchmark_group(format!("recovery of 100,000, {name}"));
        group.throughput(Throughput::Elements(MEMORIES as u64)).sample_size(10);
        group.measurement_time(Duration::from_secs(8));
        group.bench_function("bare read", |b| b.iter(|| read_all(directory.path())));
        group.bench_function("log: reader", |b| {
            b.iter(|| {
                WalReader::new(directory.path())
                    .unwrap()
                    .iter()
                    .map(|r| r.unwrap().payload.len())
                    .sum::<usize>()
            });
        });
        group.bench_function("log: writer opened", |b| {
            b.iter(|| {
                let disk = Arc::new(RealDisk::open(directory.path()).unwrap());
                let replay = |_: &_, payload: &[u8]| {
                    black_box(payload);
                    Ok::<_, StorageError>(())
                };
                WalWriter::recover(disk, WalOptions::default(), Arc::default(), replay).unwrap()
            });
        });
        group.bench_function("store, ready to recall", |b| {
            b.iter_with_large_drop(|| {
                let store =
                    MemoryStore::new(MEMORIES).with_wal(directory.path(), FsyncMode::PerBatch).unwrap();
                assert_eq!(store.count(), MEMORIES);
                store.close().unwrap();
                store
            });
        });
        group.finish();
    }
}

criterion_group!(benches, recovery);
criterion_main!(benches);
