//! What can go wrong, and what the caller can do about it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::wal::{Lsn, RecoveryReport};

/// The result of every storage call.
pub type StorageResult<T> = Result<T, StorageError>;

/// A storage failure. A variant exists where the caller acts differently.
///
/// Cloneable, since one failed sync is the answer to every record of its batch.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// An operation of the file system failed. On the write path the log is poisoned after it.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb phrase.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// No room for this batch. The records in it were not stored; the log goes on when space returns.
    #[error("no space left to {operation} {}: {source}; free some space and store again", path.display())]
    DiskFull {
        /// What was attempted.
        operation: &'static str,
        /// The file that could not grow.
        path: PathBuf,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// An earlier failure ended writing. Stored records can be read; a restart recovers them.
    #[error(
        "the log takes no more writes after a failure ({cause}); restart to recover from what is on disk"
    )]
    Poisoned {
        /// The first failure.
        cause: Arc<StorageError>,
    },
    /// The log could be opened for reading only. It takes writes after a restart with the cause removed.
    #[error("the log is open for reading only ({cause}); remove the cause and restart")]
    ReadOnly {
        /// Why no new segment could be made.
        cause: Arc<StorageError>,
    },
    /// The log's writer thread panicked: a defect. What was acknowledged is safe, and recovered by a restart.
    #[error("the log's writer thread panicked")]
    WriterPanicked,
    /// The log was shut down before this record was committed; the record was not acknowledged.
    #[error("the log is closed")]
    Closed,
    /// Another writer has the directory open, in this process or another.
    #[error("the log directory {} is in use{}; stop who uses it, or choose another directory",
        path.display(), holder.as_ref().map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Locked {
        /// The log's directory.
        path: PathBuf,
        /// The holder's process id, where it could be read.
        holder: Option<String>,
    },
    /// The directory of the log cannot be used; nothing was created.
    #[error("{} cannot be the log's directory: {reason}", path.display())]
    BadDirectory {
        /// The directory that was asked for.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A payload beyond the limit. Nothing was written.
    #[error("a payload of {len} bytes is over the limit of {max} bytes")]
    RecordTooLarge {
        /// The payload's length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Seals and gaps are the log's own. Nothing was written.
    #[error("a seal or a gap is written by the log alone: append a record of another type")]
    ReservedType,
    /// A file that is no snapshot. Nothing was changed.
    #[error("{} is no snapshot: {reason}", path.display())]
    NoSnapshot {
        /// The file.
        path: PathBuf,
        /// What was expected, and what came.
        reason: String,
    },
    /// Damage that a repair has no way to close. Nothing was changed.
    #[error("{} cannot be repaired: {reason}", path.display())]
    Unrepairable {
        /// The segment.
        path: PathBuf,
        /// What is in the way.
        reason: String,
    },
    /// A whole and valid file of another format version: use the version of Engram that wrote it.
    #[error("{} has {what} {found}, this build reads {supported}: open it with the version of Engram that wrote it",
        path.display())]
    UnsupportedFormat {
        /// The segment.
        path: PathBuf,
        /// Which number differs.
        what: &'static str,
        /// The number in the file.
        found: u32,
        /// The number that this build reads.
        supported: u32,
    },
    /// Acknowledged bytes are damaged.
    #[error("{} is damaged at byte {offset} ({reason}): {}", path.display(), lsn_range(*first_lsn, *last_lsn))]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the damage starts.
        offset: u64,
        /// First record lost.
        first_lsn: Lsn,
        /// Last record lost; before `first_lsn` when none was.
        last_lsn: Lsn,
        /// What did not hold.
        reason: &'static str,
    },
    /// Recovery found more damage than its mode tolerates. Nothing was changed.
    #[error("recovery stopped: {reason}. {report}")]
    RecoveryRefused {
        /// Which rule was broken.
        reason: String,
        /// Everything that was found.
        report: Box<RecoveryReport>,
    },
}

fn lsn_range(first: Lsn, last: Lsn) -> String {
    if last < first { "no record is lost".to_owned() } else { format!("records {first} to {last} are lost") }
}

impl StorageError {
    /// For a directory that [`RealDisk`](crate::disk::RealDisk) could not open or make.
    pub fn bad_directory(path: impl AsRef<Path>, reason: &io::Error) -> Self {
        Self::BadDirectory { path: path.as_ref().to_path_buf(), reason: reason.to_string() }
    }

    /// Wraps the operating system's error with what was attempted on which file.
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { operation, path: path.as_ref().to_path_buf(), source: Arc::new(source) }
    }

    /// As [`io`](Self::io), where a full disk leaves the log whole: bytes that nothing counts on yet.
    pub(crate) fn write(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        if is_disk_full(&source) {
            Self::DiskFull { operation, path: path.as_ref().to_path_buf(), source: Arc::new(source) }
        } else {
            Self::io(operation, path, source)
        }
    }

    /// Whether this batch alone failed for want of space.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether a failure has ended writing in this process, so that each later write gets the same answer.
    pub fn ended_writing(&self) -> bool {
        matches!(self, Self::Poisoned { .. } | Self::ReadOnly { .. })
    }
}

/// Full disk, full quota, or a file-size limit: other files or other sizes may still fit.
fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
