//! What recovery found.

use std::{fmt, time::Duration};

use super::{Lsn, SegmentId};

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

/// What opening a log found and did.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// Segments that were read.
    pub segments: u64,
    /// Records that were replayed.
    pub records: u64,
    /// Bytes of the log that count.
    pub bytes: u64,
    /// The last record of the log; new ones follow it.
    pub last_lsn: Lsn,
    /// Acknowledged records that could not be read.
    pub lost_records: u64,
    /// Records lost before, which a repair has declared to be.
    pub declared_lost: u64,
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
        self.damaged_ranges += 1;
        if self.damage.len() < DAMAGE_LISTED_MAX {
            self.damage.push(damage);
        }
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// Bytes of the log read.
    pub bytes_done: u64,
    /// Bytes of the log in all.
    pub bytes_total: u64,
}
