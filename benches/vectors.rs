//! What the index of vectors finds and what that takes: recall of ten against an exact search in f32, and time.
//!
//! `cargo bench -p engram-core --bench vectors`; which vectors and how many, see `embeddings/mod.rs`.
//! `ENGRAM_BENCH_INDEX` says what is measured, as in `exact,int8,scan,ivf,ivf:0.95,hnsw` (with a recall target),
//! `ENGRAM_BENCH_FILTERS` under which filters besides none, as in `0.5,0.05` (the share that they let in).
//! `ENGRAM_BENCH_WRITE` names a directory that vectors and questions are written to, for `benches/peers.py`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a benchmark"
)]

#[path = "embeddings/mod.rs"]
mod embeddings;

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use engram_core::{
    Confidence, Episode, Filter, IndexMode, MemoryStore, Precision, Query, RecallTarget, Route,
    chrono::{DateTime, Utc},
};

use self::embeddings::{counts, nth, vectors};

fn main() {
    let (base, questions) = vectors();
    let parties = env::var("ENGRAM_BENCH_INDEX").unwrap_or_else(|_| "exact,int8,scan,ivf,hnsw".to_owned());
    let filters = env::var("ENGRAM_BENCH_FILTERS").unwrap_or_default();
    let filters = filters.split(',').filter_map(|share| share.parse().ok());
    let filters: Vec<f64> = [1.0].into_iter().chain(filters).collect();
    println!(
        "| memories | | filter | recall of 10 | other than int8 | not found by itself | ms a recall | recalls/s | made in s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for count in counts("10000,30000,100000") {
        if let Ok(directory) = env::var("ENGRAM_BENCH_WRITE") {
            write(&Path::new(&directory).join("base.f32"), (0..count).map(|n| nth(&base, n)));
            write(&Path::new(&directory).join("questions.f32"), questions.iter().cloned());
        }
        let bench = Bench { base: &base, questions: &questions, count };
        let exact = bench.store(Precision::F32, IndexMode::Scan, 0.99);
        let truths = filters.iter().map(|share| bench.answers(&exact, *share, false)).collect::<Vec<_>>();
        if parties.contains("exact") {
            bench.measure("exact, f32", &exact, &filters, &truths, false);
        }
        drop(exact);
        for (name, mode, target) in parties.split(',').filter_map(party) {
            let store = bench.store(Precision::Int8, mode, target);
            let index = store.status().index;
            let name = match index.route {
                Route::Ivf { probes } => format!("ivf, target {target}: {probes} of {} lists", index.lists),
                Route::Hnsw { ef } => format!("hnsw, target {target}: ef {ef}"),
                Route::Scan if name == "int8" => "exact, int8".to_owned(),
                route => route.name().to_owned(),
            };
            bench.measure(&name, &store, &filters, &truths, name == "exact, int8");
        }
    }
}

struct Bench<'a> {
    base: &'a [Vec<f32>],
    questions: &'a [Vec<f32>],
    count: usize,
}

impl Bench<'_> {
    fn measure(
        &self,
        name: &str,
        store: &MemoryStore,
        filters: &[f64],
        truths: &[Vec<Vec<String>>],
        exact: bool,
    ) {
        for (share, truth) in filters.iter().zip(truths) {
            let mut best = f64::MAX;
            let mut found = Vec::new();
            for _ in 0..3 {
                let began = seconds();
                found = self.answers(store, *share, exact);
                best = best.min((seconds() - began) / found.len() as f64);
            }
            let pairs = truth.iter().zip(&found);
            let hits: usize =
                pairs.map(|(truth, found)| truth.iter().filter(|id| found.contains(id)).count()).sum();
            let recall = hits as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64;
            let exactly = self.answers(store, *share, true);
            let (all, other) = (found.len(), exactly.iter().zip(&found).filter(|(a, b)| a != b).count());
            let made = store.status().index.trained.map_or(0.0, |(_, took)| took.as_secs_f64());
            let asked: Vec<usize> = (0..self.count).step_by((self.count / 1000).max(1)).collect();
            let itself = |n: &&usize| {
                let query = Query { exact, ..Query::embedding(nth(self.base, **n)) };
                !ids(store, &query).contains(&id(**n))
            };
            let missing = asked.iter().filter(itself).count();
            println!(
                "| {} | {name} | {share} | {recall:.4} | {other} of {all} | {missing} of {} | {:.3} | {:.0} | {made:.1} |",
                self.count,
                asked.len(),
                best * 1e3,
                1.0 / best
            );
        }
    }

    /// The ten best to each question, of the newest `share` of all.
    fn answers(&self, store: &MemoryStore, share: f64, exact: bool) -> Vec<Vec<String>> {
        let first = (self.count as f64 * (1.0 - share)).round() as usize;
        let filter = Filter { when_from: (share < 1.0).then(|| when(first)), ..Filter::default() };
        let query = |question: &Vec<f32>| Query {
            exact,
            ..Query::embedding(question.clone()).filter(filter.clone())
        };
        self.questions.iter().map(|question| ids(store, &query(question))).collect()
    }

    fn store(&self, precision: Precision, mode: IndexMode, target: f32) -> MemoryStore {
        let store = MemoryStore::new(self.count).with_dimension(self.base[0].len()).unwrap();
        let store = store.with_precision(precision).unwrap().with_index(mode).unwrap();
        let store = store.with_recall_target(RecallTarget::new(target).unwrap()).unwrap();
        for n in 0..self.count {
            let vector = nth(self.base, n);
            store.store(Episode::new(id(n), when(n), id(n), vector, Confidence::HIGH)).unwrap();
        }
        // Lists and graphs are made in the background; whether they are used depends on the vectors.
        while store.status().index.is_working {
            thread::sleep(Duration::from_millis(10));
        }
        store
    }
}

/// As in `ivf:0.95`: what finds the candidates, and its recall target. `int8` is a scan that is not asked.
fn party(name: &str) -> Option<(&str, IndexMode, f32)> {
    let (mode, target) = name.split_once(':').unwrap_or((name, ""));
    let target = target.parse().unwrap_or(RecallTarget::default().get());
    if mode == "int8" {
        Some((mode, IndexMode::Scan, target))
    } else {
        Some((mode, mode.parse().ok()?, target))
    }
}

fn ids(store: &MemoryStore, query: &Query) -> Vec<String> {
    let recall = store.recall(query).unwrap();
    recall.hits.iter().map(|hit| hit.memory.id().to_owned()).collect()
}

fn id(n: usize) -> String {
    n.to_string()
}

fn when(n: usize) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + n as i64, 0).unwrap()
}

/// Of this thread's work, where the system tells (Linux), so that other work on the machine counts less; otherwise of the
/// clock.
fn seconds() -> f64 {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|told| told.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| BEGAN.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn write(path: &Path, vectors: impl Iterator<Item = Vec<f32>>) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for vector in vectors {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
    }
    file.flush().unwrap();
}
