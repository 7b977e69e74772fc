//! How a log is opened.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use super::{RecoveryProgress, segment::SEGMENT_BYTES_DEFAULT};
use crate::StorageError;

/// When a write is acknowledged, and what survives then.
///
/// | mode | `Ok` means | process crash | power loss |
/// |---|---|---|---|
/// | `PerWrite` | written and synced, one record a sync | nothing lost | nothing lost |
/// | `PerBatch` | written and synced, sharing the sync with others | nothing lost | nothing lost |
/// | `Timer` | written; synced when the interval is over | nothing lost | at most the interval and one sync |
/// | `None` | written | nothing lost | back to the last sync |
///
/// After a power loss the survivors are always a prefix of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FsyncMode {
    /// One record a sync.
    PerWrite,
    /// All records that wait share a sync. There is no artificial delay: a record alone is synced at once.
    #[default]
    PerBatch,
    /// A sync so long after the first record that it covers, also when nothing more is written.
    Timer(Duration),
    /// A sync at the end of a segment, on [`sync`](crate::WalWriter::sync), and on shutdown only.
    None,
}

impl FsyncMode {
    /// Whether an acknowledgement waits for a sync.
    pub const fn syncs_before_acknowledging(self) -> bool {
        matches!(self, Self::PerWrite | Self::PerBatch)
    }
}

impl fmt::Display for FsyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerWrite => f.write_str("per-write"),
            Self::PerBatch => f.write_str("per-batch"),
            Self::Timer(interval) => write!(f, "timer={}ms", interval.as_millis()),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for FsyncMode {
    type Err = String;

    /// Reads `per-write`, `per-batch`, `timer=50ms`, `timer=2s` or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected per-write, per-batch, none or timer=INTERVAL (such as timer=50ms or timer=2s), got {text:?}"
            )
        };
        match text {
            "per-write" => Ok(Self::PerWrite),
            "per-batch" => Ok(Self::PerBatch),
            "none" => Ok(Self::None),
            _ => {
                let interval = text.strip_prefix("timer=").ok_or_else(expected)?;
                let (number, unit_ms) = match (interval.strip_suffix("ms"), interval.strip_suffix('s')) {
                    (Some(number), _) => (number, 1),
                    (None, Some(number)) => (number, 1000),
                    (None, None) => return Err(expected()),
                };
                let interval_ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
                match interval_ms {
                    Some(ms @ 1..=3_600_000) => Ok(Self::Timer(Duration::from_millis(ms))),
                    Some(_) | None => Err(format!("{}; the interval is 1ms to 3600s", expected())),
                }
            }
        }
    }
}

/// How much damage recovery tolerates. A torn tail is the unacknowledged end of a log that was cut off while it
/// was written; corruption is damage to what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryMode {
    /// None at all, not even a torn tail.
    Strict,
    /// A torn tail; corruption stops the opening.
    TornTail,
    /// Corrupted records are skipped, reported and kept in `quarantine/`, up to 1 % of all records (and 8 records
    /// in a small log, but never more than half). More stops the opening.
    #[default]
    SkipCorrupt,
}

impl fmt::Display for RecoveryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::TornTail => "torn-tail",
            Self::SkipCorrupt => "skip-corrupt",
        })
    }
}

impl FromStr for RecoveryMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "strict" => Ok(Self::Strict),
            "torn-tail" => Ok(Self::TornTail),
            "skip-corrupt" => Ok(Self::SkipCorrupt),
            _ => Err(format!("expected strict, torn-tail or skip-corrupt, got {text:?}")),
        }
    }
}

/// Called once, from the log's writer thread, when a failure has ended writing.
pub type FailureHook = Arc<dyn Fn(&StorageError) + Send + Sync>;

/// Called now and then while recovery reads.
pub type ProgressHook = Arc<dyn Fn(RecoveryProgress) + Send + Sync>;

/// Everything that can be chosen when a log is opened.
#[derive(Clone)]
pub struct WalOptions {
    /// What an acknowledgement promises.
    pub fsync: FsyncMode,
    /// How much damage is tolerated.
    pub recovery: RecoveryMode,
    /// The size at which a segment is full, in bytes. The segments of a small log are smaller.
    pub segment_bytes: u64,
    /// Whether a thread fills the next segment with zeros ahead. Without it each write grows its file, which makes
    /// a sync slower, and disk operations happen on the writer thread alone, which makes them repeatable.
    pub preallocate: bool,
    /// Told when a failure ends writing.
    pub on_failure: Option<FailureHook>,
    /// Told how far recovery is.
    pub on_progress: Option<ProgressHook>,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            fsync: FsyncMode::default(),
            recovery: RecoveryMode::default(),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            preallocate: true,
            on_failure: None,
            on_progress: None,
        }
    }
}

impl fmt::Debug for WalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalOptions")
            .field("fsync", &self.fsync)
            .field("recovery", &self.recovery)
            .field("segment_bytes", &self.segment_bytes)
            .field("preallocate", &self.preallocate)
            .finish_non_exhaustive()
    }
}
