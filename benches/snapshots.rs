//! What a start takes from a log and from a snapshot, beside a bare read of the same bytes; what a memory takes on disk and
//! in memory; what the disk holds after many updates; and how long writes take while a snapshot is taken or an index made.
//!
//! `cargo bench -p engram-core --bench snapshots`. Memories have about 120 characters and 768 dimensions in int8.
//! `ENGRAM_BENCH_MEMORIES` says how many, as in `100000,1000000`; `ENGRAM_BENCH_UPDATES` how many updates (1000000).
//! `ENGRAM_BENCH_ONLY=starts`, `=writes` or `=capture` measures these alone.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a benchmark"
)]
#![expect(clippy::cast_sign_loss, reason = "small positive numbers")]

#[path = "sample/files.rs"]
mod files;
#[path = "sample/mod.rs"]
mod sample;

use std::{
    env, fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use engram_core::{FsyncMode, IndexMode, MemoryStore, Query, SnapshotPolicy};
use files::read_all;
use tempfile::TempDir;

fn main() {
    let only = env::var("ENGRAM_BENCH_ONLY").unwrap_or_default();
    if only.is_empty() || only == "starts" {
        starts();
    }
    if only.is_empty() || only == "writes" {
        writes();
    }
    if only.is_empty() || only == "capture" {
        capture();
    }
    if only.is_empty() {
        updates(env::var("ENGRAM_BENCH_UPDATES").map_or(1_000_000, |updates| updates.parse().unwrap()));
    }
}

fn starts() {
    let counts = env::var("ENGRAM_BENCH_MEMORIES").unwrap_or_else(|_| "100000".to_owned());
    println!(
        "| memories | read from | bytes a memory | bare read | ready | first recall | memories/s | times a bare read | CPU µs a memory | RAM a memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for count in counts.split(',').map(|count| count.parse::<usize>().unwrap()) {
        recovery(count);
    }
}

fn recovery(count: usize) {
    let directory = directory();
    let store = MemoryStore::new(count).with_wal(directory.path(), FsyncMode::None).unwrap();
    fill(&store, 0..count);
    store.close().unwrap();
    drop(store);
    start_of(count, "the log", directory.path());
    let store = MemoryStore::new(count).with_wal(directory.path(), FsyncMode::PerBatch).unwrap();
    let began = Instant::now();
    let report = store.snapshot().unwrap();
    let took = began.elapsed().as_secs_f64();
    drop(store);
    start_of(count, "a snapshot", directory.path());
    println!(
        "(the snapshot of {count}: {took:.2} s, {:.0} bytes a memory)",
        report.bytes as f64 / count as f64
    );
}

/// The best of three starts.
fn start_of(count: usize, from: &str, directory: &Path) {
    let (mut read, mut ready, mut recalled, mut cpu, mut ram) = (f64::MAX, f64::MAX, f64::MAX, f64::MAX, 0);
    let bytes = read_all(directory);
    for _ in 0..3 {
        let began = Instant::now();
        read_all(directory);
        read = read.min(began.elapsed().as_secs_f64());
        let (before, cpu_before) = (resident(), cpu_seconds());
        let began = Instant::now();
        let store = MemoryStore::new(count).with_wal(directory, FsyncMode::PerBatch).unwrap();
        ready = ready.min(began.elapsed().as_secs_f64());
        cpu = cpu.min(cpu_seconds() - cpu_before);
        let question = Query::embedding(sample::vector(7)).limit(1);
        assert_eq!(store.recall(&question).unwrap().hits[0].memory.id(), "memory-00000007");
        recalled = recalled.min(began.elapsed().as_secs_f64());
        assert_eq!(store.count(), count);
        ram = ram.max(resident().saturating_sub(before));
    }
    let (each, rate) = (bytes as f64 / count as f64, count as f64 / ready);
    println!(
        "| {count} | {from} | {each:.0} | {read:.3} s | {ready:.3} s | {recalled:.3} s | {rate:.0} | {:.1} | {:.1} | {} |",
        ready / read,
        cpu * 1e6 / count as f64,
        ram / count as u64
    );
}

/// Single writes of one thread while nothing else goes on, while a snapshot is taken, and while lists are made.
fn writes() {
    const MEMORIES: usize = 100_000;
    let directory = directory();
    let store = MemoryStore::new(10 * MEMORIES).with_index(IndexMode::Ivf).unwrap();
    let store = store.with_wal(directory.path(), FsyncMode::PerBatch).unwrap();
    fill(&store, 0..MEMORIES);
    println!(
        "\n| writes of one thread, per-batch, over {MEMORIES} | writes | p50 µs | p99 µs | max µs |\n|---|---|---|---|---|"
    );
    let mut next = MEMORIES;
    let mut measure = |name: &str, goes_on: &dyn Fn(usize) -> bool| {
        let mut times = Vec::new();
        while goes_on(times.len()) {
            let episode = sample::episode(next);
            let began = Instant::now();
            store.store(episode).unwrap();
            times.push(began.elapsed().as_secs_f64() * 1e6);
            next += 1;
        }
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("| {name} | {} | {:.0} | {:.0} | {:.0} |", times.len(), at(0.5), at(0.99), at(1.0));
    };
    measure("while lists are made", &|_| store.status().index.trained.is_none());
    measure("alone", &|done| done < 10_000);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..5).for_each(|_| drop(store.snapshot().unwrap()));
            is_done.store(true, Relaxed);
        });
        measure("while snapshots are taken", &|_| !is_done.load(Relaxed));
    });
    measure("alone", &|done| done < 10_000);
}

/// Memory beside what the memories take, while all of them are replaced as fast as the log takes it: without a snapshot, and
/// with one under way, which has to keep what is replaced before its turn.
fn capture() {
    const MEMORIES: usize = 100_000;
    let directory = directory();
    let store = MemoryStore::new(MEMORIES).with_wal(directory.path(), FsyncMode::PerBatch).unwrap();
    fill(&store, 0..MEMORIES);
    for name in ["no snapshot", "a snapshot", "no snapshot", "a snapshot"] {
        let before = resident();
        let is_done = AtomicBool::new(false);
        let began = Instant::now();
        let (most, snapshot, updated) = thread::scope(|scope| {
            let updates = scope.spawn(|| {
                // From the last on: what the snapshot comes to last.
                (0..MEMORIES / 500).rev().for_each(|n| fill(&store, 500 * n..500 * (n + 1)));
                let took = began.elapsed();
                is_done.store(true, Relaxed);
                took
            });
            let snapshot = scope.spawn(|| (name == "a snapshot").then(|| store.snapshot().unwrap().took));
            let mut most = 0;
            while !is_done.load(Relaxed) || !snapshot.is_finished() {
                most = most.max(resident());
            }
            (most, snapshot.join().unwrap(), updates.join().unwrap())
        });
        println!(
            "{MEMORIES} updates beside {name}: {:.2} s, {} MB more at most{}",
            updated.as_secs_f64(),
            most.saturating_sub(before) >> 20,
            snapshot.map_or(String::new(), |took| format!(", the snapshot {:.2} s", took.as_secs_f64()))
        );
    }
}

fn updates(updates: usize) {
    const MEMORIES: usize = 1_000;
    let directory = directory();
    let store = MemoryStore::new(MEMORIES).with_snapshots(SnapshotPolicy::LogBytes(16 << 20)).unwrap();
    let store = store.with_wal(directory.path(), FsyncMode::PerBatch).unwrap();
    let (mut handles, mut most) = (Vec::new(), 0);
    let began = Instant::now();
    for n in 0..updates {
        let mut episode = sample::episode(n);
        episode.id = format!("memory {}", n % MEMORIES);
        handles.push(store.submit(episode));
        if handles.len() == 500 {
            handles.drain(..).for_each(|handle| drop(handle.wait().unwrap()));
            if n % 20_000 < 500 {
                most = most.max(held(directory.path()));
            }
        }
    }
    handles.drain(..).for_each(|handle| drop(handle.wait().unwrap()));
    let took = began.elapsed().as_secs_f64();
    let status = store.status();
    let (written, now) = (status.log.written_bytes, held(directory.path()));
    println!(
        "\n{updates} updates of {MEMORIES} memories in {took:.1} s: {written} bytes of log written, {} snapshots; the disk holds {now} \
         bytes, {most} at most of all looks",
        status.snapshots.taken
    );
    (0..MEMORIES / 2).for_each(|n| drop(store.forget(&format!("memory {n}")).unwrap()));
    store.snapshot().unwrap();
    let now = held(directory.path());
    store.close().unwrap();
    drop(store);
    let closed = held(directory.path());
    println!(
        "half of them forgotten, and a snapshot: {now} bytes, {closed} after a stop ({} a memory)",
        closed / (MEMORIES as u64 / 2)
    );
}

fn fill(store: &MemoryStore, numbers: std::ops::Range<usize>) {
    let mut handles = Vec::new();
    for n in numbers {
        handles.push(store.submit(sample::episode(n)));
        if handles.len() == 500 {
            handles.drain(..).for_each(|handle| drop(handle.wait().unwrap()));
        }
    }
    handles.drain(..).for_each(|handle| drop(handle.wait().unwrap()));
}

/// Bytes of all files.
fn held(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|it| it.len()).sum()
}

/// Bytes of memory that the process has, where the system tells (Linux).
fn resident() -> u64 {
    thread::sleep(Duration::from_millis(1)); // what was dropped may still be on its way back
    let told = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = told.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

/// Time that all threads of the process have had on a core, in steps of 10 ms, where the system tells (Linux).
fn cpu_seconds() -> f64 {
    let told = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = told.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = after_name.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    ticks.sum::<u64>() as f64 / 100.0
}

fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}
