//! Making a snapshot, and letting go of the log before it.

use std::{path::PathBuf, sync::Arc, time::Instant};

use super::{Snapshot, SnapshotDamage, SnapshotHeader, SnapshotStep, SnapshotWalk, file_name, lsn_of};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, DiskFile},
    planted::{Defect, planted},
    wal::{
        Lsn, SECTOR_LEN, SegmentId, WalEntry, WalEntryType,
        committer::now_us,
        record::{self, Place},
        unnamed::Unnamed,
    },
};

/// Written and synced in pieces of this size, so that no commit's sync has to wait for more than one of them.
const PIECE_BYTES: usize = 256 << 10;

/// A place in the log where one segment ends and the next begins: all before it is durable.
#[derive(Debug, Clone, Copy)]
pub(in crate::wal) struct Point {
    pub(in crate::wal) log_id: u64,
    pub(in crate::wal) lsn: Lsn,
    pub(in crate::wal) segment: SegmentId,
}

/// A snapshot that is being written. Dropped before it is published, it is removed; the log stays as it is.
#[derive(Debug)]
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    header: SnapshotHeader,
    unnamed: Unnamed,
    buffer: Vec<u8>,
    at: u64,
    memories: u64,
    began: Instant,
}

/// What a snapshot came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReport {
    /// It holds what all records up to this one have come to.
    pub lsn: Lsn,
    /// Its file.
    pub path: PathBuf,
    /// Records in it: one a memory, and those of spaces, of requests and of the store as a whole.
    pub records: u64,
    /// Memories in it, each a record.
    pub memories: u64,
    /// The length of its file.
    pub bytes: u64,
    /// Segments and snapshots before it that were removed.
    pub removed_files: u64,
    /// Their length.
    pub removed_bytes: u64,
    /// How long it took.
    pub took: std::time::Duration,
}

impl SnapshotWriter {
    pub(in crate::wal) fn create(disk: Arc<dyn Disk>, point: Point) -> StorageResult<Self> {
        let Point { log_id, lsn, segment } = point;
        let header = SnapshotHeader {
            log_id,
            lsn,
            segment,
            records: 0,
            end: SECTOR_LEN as u64,
            last_crc: 0,
            left_out: 0,
            time_us: now_us(),
        };
        let unnamed = Unnamed::create_anew(&disk, &file_name(lsn))?;
        let at = SECTOR_LEN as u64;
        Ok(Self { disk, header, unnamed, buffer: Vec::new(), at, memories: 0, began: Instant::now() })
    }

    /// The place in the log that it is of: records up to this one go into it.
    pub fn lsn(&self) -> Lsn {
        self.header.lsn
    }

    /// Takes in a record that is live at [`lsn`](Self::lsn), with the number that it has in the log. The order is the
    /// caller's.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`], [`StorageError::Io`]: the snapshot is of no use, the log is as it was.
    pub fn append(&mut self, lsn: Lsn, entry: &WalEntry) -> StorageResult<()> {
        self.append_payload(lsn, entry.entry_type, &entry.payload)
    }

    /// Takes in all whole records of another snapshot of the same place, and how many are not; damage is shown to
    /// `on_damage`.
    pub(in crate::wal) fn copy(
        &mut self,
        disk: &dyn Disk,
        from: &Snapshot,
        on_damage: impl Fn(SnapshotDamage) -> StorageResult<()>,
    ) -> StorageResult<()> {
        let mut walk = SnapshotWalk::new(disk, from);
        while let Some(step) = walk.next()? {
            match step {
                SnapshotStep::Record(header) => {
                    self.append_payload(header.lsn, header.entry_type, walk.payload())?;
                }
                SnapshotStep::Damage(damage) => on_damage(damage)?,
            }
        }
        self.header.left_out += from.header.left_out.saturating_add(walk.lost_records());
        Ok(())
    }

    fn append_payload(&mut self, lsn: Lsn, entry_type: WalEntryType, payload: &[u8]) -> StorageResult<()> {
        debug_assert!(lsn <= self.header.lsn && !entry_type.is_mark());
        let place = Place {
            log_id: self.header.log_id,
            segment_low: self.header.segment_low(),
            lsn,
            synced_lsn: self.header.lsn,
            time_us: self.header.time_us,
            previous_crc: self.header.last_crc,
        };
        self.header.last_crc = record::encode(&mut self.buffer, &place, entry_type, payload);
        self.header.records += 1;
        self.memories += u64::from(entry_type == WalEntryType::MemoryStore);
        if self.buffer.len() >= PIECE_BYTES {
            self.write_piece()?;
        }
        Ok(())
    }

    /// Makes it durable, reads it again, gives it its name, makes that durable, and only then removes the segments and
    /// snapshots that it stands for, the oldest first.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`StorageError::Corrupt`] when it does not read back as it was written. The log is
    /// whole then, with or without the snapshot.
    pub fn publish(mut self) -> StorageResult<SnapshotReport> {
        self.write_piece()?;
        self.header.end = self.at;
        let Self { disk, header, unnamed, memories, began, .. } = self;
        unnamed.write(&header.encode(), header.end)?;
        unnamed.write(&header.encode(), 0)?;
        // Invariant: bytes before name, name before anything that it stands for is removed.
        unnamed.sync_unless(Defect::SnapshotNotSynced)?;
        // Before it has a name, which another one may have: of the same place, and whole.
        if !planted(Defect::SnapshotNotVerified) {
            verify(&*disk, unnamed.temporary(), &header)?;
        }
        let name = file_name(header.lsn);
        unnamed.name(&name, Defect::SnapshotDirectoryNotSynced)?;
        let (removed_files, removed_bytes) = trim(&*disk, &header)?;
        Ok(SnapshotReport {
            lsn: header.lsn,
            path: disk.path().join(name),
            records: header.records,
            memories,
            bytes: header.end + SECTOR_LEN as u64,
            removed_files,
            removed_bytes,
            took: began.elapsed(),
        })
    }

    fn write_piece(&mut self) -> StorageResult<()> {
        self.unnamed.write(&self.buffer, self.at)?;
        self.unnamed.sync_unless(Defect::SnapshotNotSynced)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Point {
    /// The place of a snapshot, in the log with this id.
    pub(in crate::wal) fn of(snapshot: &Snapshot, log_id: u64) -> Self {
        let SnapshotHeader { lsn, segment, .. } = snapshot.header;
        Self { log_id, lsn, segment }
    }
}

/// Reads a snapshot as a start would, both of its headers too.
fn verify(disk: &dyn Disk, name: &str, header: &SnapshotHeader) -> StorageResult<()> {
    let open = |e| StorageError::io("open", disk.path().join(name), e);
    let file: Arc<dyn DiskFile> = Arc::from(disk.open(name).map_err(open)?);
    let snapshot = Snapshot { name: name.to_owned(), file, header: *header };
    for at in [0, header.end] {
        let mut sector = [0; SECTOR_LEN];
        let read = |e| StorageError::io("read", disk.path().join(name), e);
        snapshot.file.read_full_at(&mut sector, at).map_err(read)?;
        if sector != header.encode() {
            let (file, end) = (name.to_owned(), at + SECTOR_LEN as u64);
            let damage = SnapshotDamage { file, offset: at, end, reason: "snapshot header" };
            return Err(damage.error(disk));
        }
    }
    match SnapshotWalk::new(disk, &snapshot).first_damage()? {
        None => Ok(()),
        Some(damage) => Err(damage.error(disk)),
    }
}

/// Removes what a durable, whole snapshot stands for: the snapshots before it, then the segments before it, the oldest
/// first. How many files, and how many bytes. A crash in between leaves files that no start looks at, and the next trim
/// removes.
pub(in crate::wal) fn trim(disk: &dyn Disk, header: &SnapshotHeader) -> StorageResult<(u64, u64)> {
    let mut names = disk.list().map_err(|e| StorageError::io("list", disk.path(), e))?;
    names.sort_unstable(); // snapshots come before segments, each in order
    let is_older = |name: &str| match (lsn_of(name), SegmentId::from_file_name(name)) {
        (Some(lsn), _) => lsn < header.lsn,
        (None, Some(segment)) => segment < header.segment,
        (None, None) => false,
    };
    let (mut files, mut bytes) = (0, 0);
    for name in names.iter().filter(|name| is_older(name)) {
        let size = disk.open(name).and_then(|file| file.size()).unwrap_or_default();
        match disk.remove(name) {
            Ok(()) => (files, bytes) = (files + 1, bytes + size),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(StorageError::io("remove", disk.path().join(name), e)),
        }
    }
    if files > 0 {
        disk.sync_dir().map_err(|e| StorageError::io("sync the directory", disk.path(), e))?;
    }
    Ok((files, bytes))
}
