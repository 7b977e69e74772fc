//! What a log is read on: a snapshot, or nothing.

use std::sync::Arc;

use super::{Snapshot, SnapshotWalk, lsn_of, read_header};
use crate::{
    StorageError, StorageResult,
    disk::Disk,
    wal::{Lsn, RecoveryReport, SegmentId},
};

/// Where a log begins.
#[derive(Debug)]
pub(in crate::wal) struct Base {
    /// The last record that the snapshot stands for; 0 without one.
    pub(in crate::wal) lsn: Lsn,
    /// The first segment that counts.
    pub(in crate::wal) segment: SegmentId,
    pub(in crate::wal) snapshot: Option<Snapshot>,
    /// Newer snapshots that could not be taken.
    pub(in crate::wal) rejected: Vec<RejectedSnapshot>,
}

/// A snapshot that a log is not read on, since it is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedSnapshot {
    /// The name of its file.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Default for Base {
    fn default() -> Self {
        Self { lsn: Lsn::ZERO, segment: SegmentId::FIRST, snapshot: None, rejected: Vec::new() }
    }
}

impl Base {
    /// The newest snapshot whose records are whole and after which the log goes on. Where nothing else is left, the
    /// newest of which the header is whole: what is damaged in it is the caller's to judge. Never a beginning after
    /// which the log does not go on.
    pub(in crate::wal) fn choose(
        disk: &dyn Disk,
        names: &[String],
        segments: &[SegmentId],
        log_id: Option<u64>,
    ) -> StorageResult<Self> {
        let mut lsns: Vec<Lsn> = names.iter().filter_map(|name| lsn_of(name)).collect();
        lsns.sort_unstable();
        // Without its first segment, a log does not begin at its beginning.
        let begins = lsns.is_empty() || segments.first() == Some(&SegmentId::FIRST);
        let mut rejected = Vec::new();
        let mut usable = Vec::new();
        for lsn in lsns.into_iter().rev() {
            let name = super::file_name(lsn);
            let path = disk.path().join(&name);
            let file = disk.open(&name).map_err(|e| StorageError::io("open", &path, e))?;
            let reason = match read_header(&*file, &path)? {
                None => "neither of its headers can be read",
                Some(header) if header.lsn != lsn => "it has the name of another one",
                Some(header) if log_id.is_some_and(|log_id| log_id != header.log_id) => {
                    "it is of another log"
                }
                Some(header) if !segments.iter().any(|segment| *segment >= header.segment) => {
                    "the log after it is missing; `engram restore` makes a data directory of a snapshot alone"
                }
                Some(header) => {
                    usable.push(Snapshot { name, file: Arc::from(file), header });
                    continue;
                }
            };
            rejected.push(RejectedSnapshot { file: name, reason: reason.to_owned() });
        }
        let mut usable = usable.into_iter().peekable();
        while let Some(snapshot) = usable.next() {
            // Read twice only where there is a choice: after a crash between two snapshots.
            if (begins || usable.peek().is_some())
                && let Some(damage) = SnapshotWalk::new(disk, &snapshot).first_damage()?
            {
                rejected.push(RejectedSnapshot { file: snapshot.name, reason: damage.to_string() });
                continue;
            }
            let (lsn, segment) = (snapshot.header.lsn, snapshot.header.segment);
            return Ok(Self { lsn, segment, snapshot: Some(snapshot), rejected });
        }
        if begins {
            return Ok(Self { rejected, ..Self::default() });
        }
        let why: Vec<String> = rejected.iter().map(|it| format!("{}: {}", it.file, it.reason)).collect();
        Err(StorageError::RecoveryRefused {
            reason: format!("no snapshot can be used, and the log before it is gone ({})", why.join("; ")),
            report: Box::new(RecoveryReport { rejected_snapshots: rejected, ..Default::default() }),
        })
    }
}
