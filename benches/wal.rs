//! What an append costs, by mode and by threads, beside a bare write and `fdatasync` of the same bytes.
//!
//! `cargo bench -p engram-storage --bench wal`. The files are in the target directory: put that on the disk that is
//! to be measured. Criterion's figures are means; the table at the end has the percentiles, taken in turns, so that
//! all rows saw the same disk.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use engram_storage::{FsyncMode, StorageMetrics, WalEntry, WalEntryType, WalWriter};
use tempfile::TempDir;

/// A memory with 120 characters of content and 768 dimensions in int8.
const PAYLOAD_LEN: usize = 1000;
/// What the log writes for it alone: header, payload, zeros up to the next sector.
const GROUP_LEN: usize = 1536;

const MODES: [FsyncMode; 4] =
    [FsyncMode::PerWrite, FsyncMode::PerBatch, FsyncMode::Timer(Duration::from_millis(50)), FsyncMode::None];

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn entry() -> WalEntry {
    WalEntry { entry_type: WalEntryType::MemoryStore, payload: vec![0x5a; PAYLOAD_LEN] }
}

fn open(directory: &Path, mode: FsyncMode) -> WalWriter {
    WalWriter::new(directory, mode, Arc::new(StorageMetrics::new())).unwrap()
}

/// The limit: the same bytes into a file of zeros that was written and synced before, or into one that grows.
struct Bare {
    file: File,
    at: u64,
    filled: u64,
}

impl Bare {
    const FILLED: u64 = 64 << 20;

    fn new(path: PathBuf, zero_filled: bool) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        let filled = if zero_filled { Self::FILLED } else { u64::MAX };
        if zero_filled {
            let zeros = vec![0; 1 << 20];
            (0..Self::FILLED >> 20).for_each(|i| file.write_all_at(&zeros, i << 20).unwrap());
        }
        file.sync_all().unwrap();
        Self { file, at: 0, filled }
    }

    fn append(&mut self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.at).unwrap();
        self.file.sync_data().unwrap();
        self.at = (self.at + bytes.len() as u64) % self.filled;
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append, one thread");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(4));
    for (name, zero_filled) in
        [("bare write+fdatasync, zero-filled file", true), ("bare write+fdatasync, growing file", false)]
    {
        let directory = directory();
        let mut bare = Bare::new(directory.path().join("bare"), zero_filled);
        let bytes = vec![0x5a; GROUP_LEN];
        group.bench_function(name, |b| b.iter(|| bare.append(black_box(&bytes))));
    }
    for mode in MODES {
        let directory = directory();
        let wal = open(directory.path(), mode);
        group.bench_function(mode.to_string(), |b| b.iter(|| wal.write(black_box(entry())).unwrap()));
    }
    group.finish();
}

fn threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("append per-batch, threads");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(4));
    for threads in [1, 4, 16, 64] {
        let directory = directory();
        let wal = open(directory.path(), FsyncMode::PerBatch);
        group.bench_function(BenchmarkId::from_parameter(threads), |b| {
            b.iter_custom(|appends| {
                let left = AtomicU64::new(appends);
                let take = || left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok();
                let started = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            while take() {
                                wal.write(entry()).unwrap();
                            }
                        });
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

/// One appending party of the table.
type Append = Box<dyn FnMut()>;

/// Percentiles of single appends; the parties take turns, so that a slow moment of the disk hits all of them.
fn percentiles() {
    const ROUNDS: usize = 20;
    const APPENDS: usize = 200;
    let directory = directory();
    let mut parties: Vec<(String, Append, Vec<Duration>)> = Vec::new();
    for (name, zero_filled) in [("bare, zero-filled", true), ("bare, growing", false)] {
        let mut bare = Bare::new(directory.path().join(name), zero_filled);
        let bytes = vec![0x5a; GROUP_LEN];
        parties.push((name.to_owned(), Box::new(move || bare.append(&bytes)), Vec::new()));
    }
    for (i, mode) in MODES.into_iter().enumerate() {
        let wal = open(&directory.path().join(i.to_string()), mode);
        let append = move || {
            black_box(wal.write(entry()).unwrap());
        };
        parties.push((mode.to_string(), Box::new(append), Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (_, append, took) in &mut parties {
            for _ in 0..APPENDS {
                let started = Instant::now();
                append();
                took.push(started.elapsed());
            }
        }
    }
    println!(
        "\nsingle appends of {PAYLOAD_LEN} bytes, one thread, in turns, µs; targets: overhead over bare < 1000,"
    );
    println!("p99 of per-batch < 10000");
    println!("{:<20} {:>8} {:>8} {:>8} {:>8} {:>14}", "", "p50", "p90", "p99", "max", "p50 / bare p50");
    let mut bare_p50 = None;
    for (name, _, took) in &mut parties {
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)].as_secs_f64() * 1e6;
        let ratio = at(50) / *bare_p50.get_or_insert(at(50));
        println!("{name:<20} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {ratio:>14.2}", at(50), at(90), at(99), at(100));
    }
}

criterion_group!(benches, append, threads);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    percentiles();
}
