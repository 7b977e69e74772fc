//! The write-ahead log. `docs/wal-format.md` has its bytes, `docs/durability.md` its promises.
//!
//! From the bottom up: `record` and `segment` are the bytes; `scan` finds records in a segment, `walk` puts them
//! in order and names what is missing, `layout` says which bytes of which segment count; `recovery` turns a
//! directory into a log that can be written; `inspect` looks at all of it, `repair` makes a damaged one sound; `snapshot` is what lets the log be cut; `unnamed` is how files come into being;
//! `queue`, `committer` and `spare` are the writing side, `writer` and
//! `reader` what callers see.

mod committer;
mod completion;
mod inspect;
mod layout;
mod options;
mod queue;
mod reader;
mod record;
mod recovery;
mod repair;
mod report;
mod scan;
mod segment;
mod snapshot;
mod spare;
#[cfg(test)]
mod tests;
mod unnamed;
mod walk;
mod writer;

use std::fmt;

pub use completion::{Commit, CommitHandle, Completer, Completion, CompletionFuture, Durability};
pub use inspect::{DamageInspection, Inspection, Remains, SegmentInspection};
pub use options::{FailureHook, FsyncMode, ProgressHook, RecoveryMode, WalOptions};
pub use queue::{QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX};
pub use reader::{WalIterator, WalReader, WalRecord};
use record::RECORD_VERSION;
pub use record::{HEADER_LEN, RECORD_LEN_MAX, WalEntry, WalEntryHeader, WalEntryType};
pub use recovery::RecoveryPlan;
pub use repair::{RepairStep, WalRepair};
pub use report::{Damage, RecoveryProgress, RecoveryReport, SnapshotLoaded};
pub use segment::{SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MIN, SegmentId};
pub use snapshot::{
    RejectedSnapshot, SnapshotDamage, SnapshotInspection, SnapshotReport, SnapshotRestore, SnapshotWriter,
};
pub use writer::WalWriter;

/// The unit in which a disk writes, in bytes. A commit group starts on a sector of its own, so that a power cut in
/// the middle of a write cannot touch what was acknowledged before.
pub const SECTOR_LEN: usize = 512;

/// A log sequence number: the position of a record in the log, from 1 on, dense, and never given to two
/// acknowledged records. 0 stands for the beginning, before all records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Before all records.
    pub const ZERO: Self = Self(0);
    /// The first record.
    pub const FIRST: Self = Self(1);

    /// The number `lsn`.
    pub const fn new(lsn: u64) -> Self {
        Self(lsn)
    }

    /// No log gets there, at a record each nanosecond for a hundred years: a greater number in a log is damage,
    /// whatever its checksum says. So counting on from a number that was read never overflows.
    pub(crate) const READ_MAX: Self = Self(1 << 62);

    /// As a plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number before this one; [`ZERO`](Self::ZERO) has none and stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
