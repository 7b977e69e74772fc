//! Bytes on disk for Engram: a write-ahead log, its recovery, and the disk seam under both.
//!
//! The log takes opaque payloads and gives each a log sequence number. An append returns when the
//! [`FsyncMode`]'s promise holds; opening a directory recovers everything that was acknowledged, tells a torn
//! tail from corruption, and never rewrites a synced byte.
//!
//! What it is **not**: it knows nothing of memories, of their encoding, of an async runtime, or of snapshots'
//! contents. It has one writer process a directory, and no replication.
//!
//! ```
//! use std::sync::Arc;
//! use engram_storage::{FsyncMode, StorageMetrics, WalEntry, WalEntryType, WalReader, WalWriter};
//!
//! # fn main() -> Result<(), engram_storage::StorageError> {
//! # let directory = tempfile::tempdir().expect("a temporary directory");
//! let wal = WalWriter::new(directory.path(), FsyncMode::PerBatch, Arc::new(StorageMetrics::new()))?;
//! let entry = WalEntry { entry_type: WalEntryType::MemoryStore, payload: b"what happened".to_vec() };
//! let commit = wal.write(entry)?; // on stable storage when this returns
//! assert_eq!(commit.lsn.get(), 1);
//! wal.shutdown()?;
//!
//! for record in WalReader::new(directory.path())?.iter() {
//!     assert_eq!(record?.payload, b"what happened");
//! }
//! # Ok(()) }
//! ```
//!
//! The format is in `docs/wal-format.md`, the fault model and the promises in `docs/durability.md`.
#![forbid(unsafe_code)]

pub mod disk;
mod error;
mod metrics;
#[doc(hidden)]
pub mod planted;
mod sync;
mod wal;

pub use error::{StorageError, StorageResult};
pub use metrics::{Histogram, HistogramSnapshot, MetricsSnapshot, StorageMetrics};
pub use wal::{
    Commit, CommitHandle, Completer, Completion, CompletionFuture, Damage, DamageInspection, Durability,
    FailureHook, FsyncMode, HEADER_LEN, Inspection, Lsn, ProgressHook, QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX,
    RECORD_LEN_MAX, RecoveryMode, RecoveryPlan, RecoveryProgress, RecoveryReport, RejectedSnapshot, Remains,
    RepairStep, SECTOR_LEN, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MIN, SegmentId, SegmentInspection,
    SnapshotDamage, SnapshotInspection, SnapshotLoaded, SnapshotReport, SnapshotRestore, SnapshotWriter,
    WalEntry, WalEntryHeader, WalEntryType, WalIterator, WalOptions, WalReader, WalRecord, WalRepair,
    WalWriter,
};
