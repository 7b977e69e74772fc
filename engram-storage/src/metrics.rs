//! What the log counts, as plain atomics: the embedding program decides how to export them.

use std::time::Duration;

use crate::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    wal::{Lsn, QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX},
};

/// Upper bounds of the latency buckets, in microseconds. The last bucket has none.
const LATENCY_BOUNDS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600, 1_638_400,
    6_553_600, 30_000_000,
];

/// Upper bounds of the batch-size buckets, in records.
const BATCH_BOUNDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// Counters of one log. Share it with [`WalWriter::new`](crate::WalWriter::new) and read it at any time.
#[derive(Debug)]
pub struct StorageMetrics {
    pub(crate) appends: AtomicU64,
    pub(crate) payload_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) failed_appends: AtomicU64,
    pub(crate) rotations: AtomicU64,
    pub(crate) queue_depth: AtomicU64,
    pub(crate) queue_bytes: AtomicU64,
    pub(crate) written_lsn: AtomicU64,
    pub(crate) synced_lsn: AtomicU64,
    pub(crate) recovered_records: AtomicU64,
    pub(crate) skipped_records: AtomicU64,
    pub(crate) poisoned: AtomicBool,
    pub(crate) disk_full: AtomicBool,
    pub(crate) batch_sizes: Histogram,
    pub(crate) sync_latency_us: Histogram,
    pub(crate) commit_latency_us: Histogram,
}

impl StorageMetrics {
    /// All zero.
    pub fn new() -> Self {
        Self {
            appends: AtomicU64::new(0),
            payload_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            failed_appends: AtomicU64::new(0),
            rotations: AtomicU64::new(0),
            queue_depth: AtomicU64::new(0),
            queue_bytes: AtomicU64::new(0),
            written_lsn: AtomicU64::new(0),
            synced_lsn: AtomicU64::new(0),
            recovered_records: AtomicU64::new(0),
            skipped_records: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            batch_sizes: Histogram::new(&BATCH_BOUNDS),
            sync_latency_us: Histogram::of_latencies(),
            commit_latency_us: Histogram::of_latencies(),
        }
    }

    /// All counters as they are now. Each is exact, together they may be a few appends apart.
    pub fn snapshot(&self) -> MetricsSnapshot {
        MetricsSnapshot {
            appends: self.appends.load(Relaxed),
            payload_bytes: self.payload_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            failed_appends: self.failed_appends.load(Relaxed),
            rotations: self.rotations.load(Relaxed),
            queue_depth: self.queue_depth.load(Relaxed),
            queue_bytes: self.queue_bytes.load(Relaxed),
            // Read in this order, so that the lag is never taken for negative.
            synced_lsn: self.synced_lsn.load(Relaxed),
            written_lsn: self.written_lsn.load(Relaxed),
            recovered_records: self.recovered_records.load(Relaxed),
            skipped_records: self.skipped_records.load(Relaxed),
            poisoned: self.poisoned.load(Relaxed),
            disk_full: self.disk_full.load(Relaxed),
            batch_sizes: self.batch_sizes.snapshot(),
            sync_latency_us: self.sync_latency_us.snapshot(),
            commit_latency_us: self.commit_latency_us.snapshot(),
        }
    }

    /// The last record written: survives a process crash.
    pub fn written_lsn(&self) -> Lsn {
        Lsn::new(self.written_lsn.load(Relaxed))
    }

    /// The last record synced: survives power loss.
    pub fn synced_lsn(&self) -> Lsn {
        Lsn::new(self.synced_lsn.load(Relaxed))
    }

    /// Bytes written to segments since the log was opened.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Relaxed)
    }

    /// Whether the queue is half full or more: who appends now may soon have to wait for room. A hint for callers
    /// that must not block; it costs two loads.
    pub fn queue_is_crowded(&self) -> bool {
        self.queue_depth.load(Relaxed) >= QUEUE_RECORDS_MAX as u64 / 2
            || self.queue_bytes.load(Relaxed) >= QUEUE_BYTES_MAX as u64 / 2
    }
}

impl Default for StorageMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// Records committed, in the sense of the mode.
    pub appends: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Bytes written to segments: headers, payloads and padding.
    pub written_bytes: u64,
    /// Records refused by a failed write or sync.
    pub failed_appends: u64,
    /// Segments begun after the first of this process.
    pub rotations: u64,
    /// Records waiting for the writer thread.
    pub queue_depth: u64,
    /// Bytes of their payloads.
    pub queue_bytes: u64,
    /// The last record written: survives a process crash.
    pub written_lsn: u64,
    /// The last record synced: survives power loss.
    pub synced_lsn: u64,
    /// Records replayed when the log was opened.
    pub recovered_records: u64,
    /// Acknowledged records that recovery could not read.
    pub skipped_records: u64,
    /// Whether a failure has ended writing.
    pub poisoned: bool,
    /// Whether a write was refused for want of space, and none has succeeded since.
    pub disk_full: bool,
    /// Records a commit.
    pub batch_sizes: HistogramSnapshot,
    /// Time that each sync took, in microseconds.
    pub sync_latency_us: HistogramSnapshot,
    /// Time from when a record was submitted until it was acknowledged, in microseconds: of those that were.
    pub commit_latency_us: HistogramSnapshot,
}

impl MetricsSnapshot {
    /// Records written but not yet synced: what a power loss could take now.
    pub fn durable_lag(&self) -> u64 {
        self.written_lsn.saturating_sub(self.synced_lsn)
    }
}

/// A histogram with fixed upper bounds. Plain atomics: any number of threads may record at once.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one of times, in microseconds: from 50 µs to 30 s.
    pub fn of_latencies() -> Self {
        Self::new(&LATENCY_BOUNDS_US)
    }

    /// Takes in a time.
    pub fn record_latency(&self, took: Duration) {
        self.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// The histogram as it is now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed),
        }
    }
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Inclusive upper bounds, ascending.
    pub bounds: &'static [u64],
    /// Values in each bucket, not cumulative; one more than there are bounds, for what lies above the last.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}
