//! What recovery found.

use std::{fmt, time::Duration};

use super::{
    Lsn, SegmentId,
    snapshot::{RejectedSnapshot, Snapshot, SnapshotDamage},
};

/// The most damage that a report lists one by one; all of it is counted.
const DAMAGE_LISTED_MAX: usize = 100;

/// A range of bytes that did not hold what the log had put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentId,
    /// Where the damage starts, in bytes from the start of the segment's file.
    pub offset: u64,
    /// Where it ends; at `offset` when no bytes are there at all.
    pub end: u64,
    /// The first record that is lost.
    pub first_lsn: Lsn,
    /// The last record that is lost; before `first_lsn` when none is.
    pub last_lsn: Lsn,
    /// What did not hold.
    pub reason: &'static str,
}

impl Damage {
    /// How many acknowledged records it took.
    pub fn lost_records(&self) -> u64 {
        (self.last_lsn.get() + 1).saturating_sub(self.first_lsn.get())
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} at byte {}: {}, ", self.segment, self.offset, self.reason)?;
        match self.lost_records() {
            0 => f.write_str("no record lost"),
            1 => write!(f, "record {} lost", self.first_lsn),
            _ => write!(f, "records {} to {} lost", self.first_lsn, self.last_lsn),
        }
    }
}

/// The snapshot that a log was read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotLoaded {
    /// The name of its file.
    pub file: String,
    /// It stands for all records up to this one.
    pub lsn: Lsn,
    /// When it was taken, in microseconds since 1970 by the clock of then.
    pub time_us: u64,
    /// Records in it that were replayed.
    pub records: u64,
    /// Bytes of it that were read.
    pub bytes: u64,
    /// Records in it that could not be read.
    pub lost_records: u64,
    /// Records that could not be read before, and that a repair has left out.
    pub left_out: u64,
    /// Where and why.
    pub damage: Vec<SnapshotDamage>,
}

impl SnapshotLoaded {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let header = &snapshot.header;
        Self {
            file: snapshot.name.clone(),
            lsn: header.lsn,
            time_us: header.time_us,
            records: 0,
            bytes: header.end,
            lost_records: 0,
            left_out: 0,
            damage: Vec::new(),
        }
    }
}

/// What opening a log found and did.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// The snapshot that the log was read on, if it was.
    pub snapshot: Option<SnapshotLoaded>,
    /// Newer snapshots that could not be used.
    pub rejected_snapshots: Vec<RejectedSnapshot>,
    /// Segments that were read.
    pub segments: u64,
    /// Records of the log that were replayed.
    pub records: u64,
    /// Bytes of the segments that count.
    pub bytes: u64,
    /// The last record of the log; new ones follow it.
    pub last_lsn: Lsn,
    /// Acknowledged records that could not be read, of the snapshot and of the log.
    pub lost_records: u64,
    /// Records lost before, which a repair has declared to be.
    pub declared_lost: u64,
    /// The first and the last of each range of records of the log that are lost, in order.
    pub lost: Vec<(Lsn, Lsn)>,
    /// Where and why, for the first hundred damaged ranges.
    pub damage: Vec<Damage>,
    /// How many damaged ranges there are in all.
    pub damaged_ranges: u64,
    /// Bytes at the end that were cut off while they were written, and never acknowledged.
    pub torn_bytes: u64,
    /// Records at the end that nothing proved durable: copied into the new segment and synced.
    pub copied_records: u64,
    /// The same, where no new segment could be made: they can be read now, and may vanish with the machine's power.
    pub unproven_records: u64,
    /// Whether the log ended with a seal, which proves all of it durable: after a clean stop, or a refusal on a full disk.
    pub clean: bool,
    /// Segments with damage, kept in `quarantine/` from now on.
    pub quarantined: Vec<String>,
    /// Why the log was opened for reading only.
    pub read_only: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl RecoveryReport {
    pub(super) fn add(&mut self, damage: Damage) {
        self.lost_records += damage.lost_records();
        self.add_lost(damage.first_lsn, damage.lost_records());
        self.damaged_ranges += 1;
        if self.damage.len() < DAMAGE_LISTED_MAX {
            self.damage.push(damage);
        }
    }

    pub(super) fn add_lost(&mut self, first: Lsn, records: u64) {
        if records > 0 {
            self.lost.push((first, Lsn::new(first.get().saturating_add(records - 1))));
        }
    }

    /// Whether anything is lost that was acknowledged, now or before.
    pub fn has_lost(&self) -> bool {
        self.lost_records + self.declared_lost > 0
    }

    /// Whether a record of the log is known to be lost.
    pub fn is_lost(&self, lsn: Lsn) -> bool {
        self.lost.iter().any(|(first, last)| (*first..=*last).contains(&lsn))
    }

    /// Whether any record of the log between these two is known to be lost.
    pub fn is_lost_between(&self, after: Lsn, before: Lsn) -> bool {
        self.lost.iter().any(|(first, last)| after < *last && *first < before)
    }

    /// Whether what a record has come to may be lost with a part of the snapshot.
    pub fn may_be_lost_with_snapshot(&self, lsn: Lsn) -> bool {
        self.snapshot.as_ref().is_some_and(|it| lsn <= it.lsn && it.lost_records + it.left_out > 0)
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(snapshot) = &self.snapshot {
            write!(f, "a snapshot of {} records up to {}, ", snapshot.records, snapshot.lsn)?;
        }
        write!(f, "{} records in {} segments ({} bytes)", self.records, self.segments, self.bytes)?;
        if self.lost_records > 0 {
            write!(f, ", {} acknowledged records lost", self.lost_records)?;
        }
        if self.damaged_ranges > 0 {
            write!(f, ", {} damaged ranges", self.damaged_ranges)?;
            for damage in self.damage.iter().take(3) {
                write!(f, "; {damage}")?;
            }
        }
        for damage in self.snapshot.iter().flat_map(|snapshot| &snapshot.damage).take(3) {
            write!(f, "; {damage}")?;
        }
        for rejected in &self.rejected_snapshots {
            write!(f, "; {} was passed over: {}", rejected.file, rejected.reason)?;
        }
        if self.torn_bytes > 0 {
            write!(f, ", torn tail of {} bytes cut off", self.torn_bytes)?;
        }
        Ok(())
    }
}

/// How far recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Records replayed.
    pub records: u64,
    /// Bytes of the snapshot and the log read.
    pub bytes_done: u64,
    /// Bytes of both.
    pub bytes_total: u64,
}
