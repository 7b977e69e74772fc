//! Reading a snapshot.

use std::{path::PathBuf, sync::Arc};

use super::{Snapshot, SnapshotHeader};
use crate::{
    StorageError, StorageResult,
    disk::Disk,
    wal::{
        Lsn, RECORD_VERSION, SECTOR_LEN, SegmentId,
        record::WalEntryHeader,
        scan::{Found, Scanner},
    },
};

/// Bytes of a snapshot that are no record of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDamage {
    /// The file.
    pub file: String,
    /// Where the damage starts, in bytes.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
    /// What did not hold.
    pub reason: &'static str,
}

impl SnapshotDamage {
    pub(super) fn error(self, disk: &dyn Disk) -> StorageError {
        StorageError::Corrupt {
            path: disk.path().join(self.file),
            offset: self.offset,
            first_lsn: Lsn::FIRST,
            last_lsn: Lsn::ZERO,
            reason: self.reason,
        }
    }
}

impl std::fmt::Display for SnapshotDamage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.reason)
    }
}

/// The next thing in a snapshot.
pub(in crate::wal) enum SnapshotStep {
    /// A record; the walk's `payload` has its bytes.
    Record(WalEntryHeader),
    Damage(SnapshotDamage),
}

/// A walk over the records of a snapshot.
pub(in crate::wal) struct SnapshotWalk {
    path: PathBuf,
    name: String,
    header: SnapshotHeader,
    scanner: Scanner,
    /// The checksum that the next record links to; not known after damage.
    previous_crc: Option<u32>,
    records: u64,
    /// Damage that was passed since the last record.
    pending: Option<(u64, u64, &'static str)>,
    /// Whether damage was told: it is why records are missing then.
    damaged: bool,
    ended: bool,
}

impl SnapshotWalk {
    pub(in crate::wal) fn new(disk: &dyn Disk, snapshot: &Snapshot) -> Self {
        let Snapshot { name, file, header } = snapshot;
        Self {
            path: disk.path().join(name),
            name: name.clone(),
            header: *header,
            scanner: Scanner::new(Arc::clone(file), header.log_id, header.segment_low(), header.end),
            previous_crc: Some(0),
            records: 0,
            pending: None,
            damaged: false,
            ended: false,
        }
    }

    /// The next record, or damage; nothing at the end.
    pub(in crate::wal) fn next(&mut self) -> StorageResult<Option<SnapshotStep>> {
        loop {
            let found = self.scanner.next().map_err(|e| StorageError::io("read", &self.path, e))?;
            match found {
                None => return Ok(self.finish().map(SnapshotStep::Damage)),
                Some(Found::Zeros { at, next }) => self.skip(at, next, "zeros where records were"),
                Some(Found::Damaged { at, next, reason }) => self.skip(at, next, reason),
                Some(Found::Unsupported { what, found }) => {
                    let (path, supported) = (self.path.clone(), RECORD_VERSION.into());
                    return Err(StorageError::UnsupportedFormat { path, what, found, supported });
                }
                Some(Found::Record { at, next, header, padding_is_zero }) => {
                    if self.previous_crc.is_some_and(|crc| crc != header.previous_crc) {
                        self.skip(at, at, "records are missing");
                    }
                    if header.entry_type.is_mark() || header.lsn > self.header.lsn {
                        self.skip(at, next, "no record of a snapshot");
                        continue;
                    }
                    if self.pending.is_some() {
                        self.scanner.rewind(at);
                        self.previous_crc = None; // said once
                        return Ok(self.damage().map(SnapshotStep::Damage));
                    }
                    if !padding_is_zero {
                        self.skip(at, next, "padding after a record");
                    }
                    self.previous_crc = Some(header.header_crc);
                    self.records += 1;
                    return Ok(Some(SnapshotStep::Record(header)));
                }
            }
        }
    }

    /// The payload of the record that [`next`](Self::next) returned last.
    pub(in crate::wal) fn payload(&self) -> &[u8] {
        self.scanner.payload()
    }

    /// Bytes that lie behind.
    pub(in crate::wal) fn position(&self) -> u64 {
        self.scanner.position()
    }

    /// How many records have not come, once the walk has ended.
    pub(in crate::wal) fn lost_records(&self) -> u64 {
        self.header.records.saturating_sub(self.records)
    }

    /// Reads all of it; the first damage, if there is any.
    pub(in crate::wal) fn first_damage(mut self) -> StorageResult<Option<SnapshotDamage>> {
        while let Some(step) = self.next()? {
            if let SnapshotStep::Damage(damage) = step {
                return Ok(Some(damage));
            }
        }
        Ok(None)
    }

    fn skip(&mut self, at: u64, next: u64, reason: &'static str) {
        let (_, end, _) = self.pending.get_or_insert((at, next, reason));
        *end = next;
    }

    fn damage(&mut self) -> Option<SnapshotDamage> {
        let (offset, end, reason) = self.pending.take()?;
        self.damaged = true;
        Some(SnapshotDamage { file: self.name.clone(), offset, end, reason })
    }

    /// At the end, as many records must have come as the header says, and the last of them.
    fn finish(&mut self) -> Option<SnapshotDamage> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let ends_right = self.previous_crc.is_none_or(|crc| crc == self.header.last_crc);
        let some_are_missing = self.records != self.header.records && !self.damaged;
        if some_are_missing || !ends_right {
            let end = self.header.end;
            self.pending.get_or_insert((self.scanner.position().min(end), end, "records are missing"));
        }
        self.damage()
    }
}

/// A snapshot, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInspection {
    /// The name of its file.
    pub file: String,
    /// The length of its file.
    pub file_bytes: u64,
    /// It holds what all records up to this one have come to.
    pub lsn: Lsn,
    /// The segment that the log goes on in.
    pub segment: SegmentId,
    /// When it was taken, in microseconds since 1970 by the clock of then.
    pub time_us: u64,
    /// Records that can be read.
    pub records: u64,
    /// Records that cannot.
    pub lost_records: u64,
    /// All damage.
    pub damage: Vec<SnapshotDamage>,
}

impl SnapshotInspection {
    pub(in crate::wal) fn of(disk: &dyn Disk, snapshot: &Snapshot) -> StorageResult<Self> {
        let SnapshotHeader { lsn, segment, time_us, end, .. } = snapshot.header;
        let mut walk = SnapshotWalk::new(disk, snapshot);
        let (mut records, mut damage) = (0, Vec::new());
        while let Some(step) = walk.next()? {
            match step {
                SnapshotStep::Record(_) => records += 1,
                SnapshotStep::Damage(found) => damage.push(found),
            }
        }
        let (file, file_bytes, lost_records) =
            (snapshot.name.clone(), end + SECTOR_LEN as u64, walk.lost_records());
        Ok(Self { file, file_bytes, lsn, segment, time_us, records, lost_records, damage })
    }
}
