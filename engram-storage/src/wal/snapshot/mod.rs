//! Snapshots: everything that is live at one place of the log, so that the log before that place can go.
//!
//! A snapshot is one file: a header, records in the frames of the log, each with the number that it has there, and the
//! header once more. It says which segment the log goes on in. `write` makes one, `read` reads it, `base` says which one
//! a log is read on, `restore` makes a log of one alone.

mod base;
mod read;
mod restore;
mod write;

use std::sync::Arc;

pub(super) use base::Base;
pub use base::RejectedSnapshot;
pub use read::{SnapshotDamage, SnapshotInspection};
pub(super) use read::{SnapshotStep, SnapshotWalk};
pub use restore::SnapshotRestore;
pub(super) use write::{Point, trim};
pub use write::{SnapshotReport, SnapshotWriter};

use super::{
    Lsn, SECTOR_LEN, SegmentId,
    record::{u32_at, u64_at},
};
use crate::{StorageError, StorageResult, disk::DiskFile};

const MAGIC: [u8; 8] = *b"ENGRMSNP";
const FORMAT_VERSION: u32 = 1;
const CRC_AT: usize = SECTOR_LEN - 4;
/// What the names of snapshots begin with.
pub(super) const PREFIX: &str = "snapshot-";
const SUFFIX: &str = ".snap";

/// Longer than any snapshot: one that is said to be longer is none of ours.
const END_MAX: u64 = 1 << 48;

/// The first sector of a snapshot, and its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotHeader {
    /// Of the log that it was taken of.
    pub(super) log_id: u64,
    /// Holds what all records up to this one have come to.
    pub(super) lsn: Lsn,
    /// The segment that begins with the record after it.
    pub(super) segment: SegmentId,
    /// How many records it has.
    pub(super) records: u64,
    /// Where its records end, and the header comes once more.
    pub(super) end: u64,
    /// `header_crc` of its last record; 0 when it has none.
    pub(super) last_crc: u32,
    /// Records that were damaged, and that a repair has left out.
    pub(super) left_out: u64,
    pub(super) time_us: u64,
}

/// A snapshot whose header was read.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) header: SnapshotHeader,
}

impl SnapshotHeader {
    fn encode(&self) -> [u8; SECTOR_LEN] {
        let mut bytes = [0; SECTOR_LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.lsn.get().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.segment.get().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.records.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.end.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.time_us.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.last_crc.to_le_bytes());
        bytes[68..76].copy_from_slice(&self.left_out.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `Err` with the version of a whole header that only another build can read; nothing where there is no header.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, u32> {
        let (u32_at, u64_at) = (|at| u32_at(bytes, at), |at| u64_at(bytes, at));
        if bytes.len() < SECTOR_LEN
            || bytes[..8] != MAGIC
            || u32_at(CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT])
        {
            return Ok(None);
        }
        if u32_at(8) != FORMAT_VERSION {
            return Err(u32_at(8));
        }
        let Some(segment) = SegmentId::new(u64_at(32)) else { return Ok(None) };
        let end = u64_at(48);
        if u64_at(24) > Lsn::READ_MAX.get() || !(SECTOR_LEN as u64..=END_MAX).contains(&end) {
            return Ok(None);
        }
        Ok(Some(Self {
            log_id: u64_at(16),
            lsn: Lsn::new(u64_at(24)),
            segment,
            records: u64_at(40),
            end,
            last_crc: u32_at(64),
            left_out: u64_at(68),
            time_us: u64_at(56),
        }))
    }

    fn unsupported(path: std::path::PathBuf, found: u32) -> StorageError {
        StorageError::UnsupportedFormat { path, what: "snapshot version", found, supported: FORMAT_VERSION }
    }

    /// What stands in its records for the segment: no record of a segment is taken for one of a snapshot.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
    fn segment_low(&self) -> u32 {
        !(self.lsn.get() as u32)
    }
}

/// Fixed width: in order by name is in order by number.
fn file_name(lsn: Lsn) -> String {
    format!("{PREFIX}{:020}{SUFFIX}", lsn.get())
}

/// The place in the log of a snapshot with this name; nothing for any other file.
pub(super) fn lsn_of(name: &str) -> Option<Lsn> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&lsn| all_digits && lsn <= Lsn::READ_MAX.get()).map(Lsn::new)
}

/// The header of a snapshot, from its first sector or its last.
fn read_header(file: &dyn DiskFile, path: &std::path::Path) -> StorageResult<Option<SnapshotHeader>> {
    let read = |e| StorageError::io("read", path, e);
    let mut sector = [0; SECTOR_LEN];
    let size = file.size().map_err(read)?;
    for at in [0, size.saturating_sub(SECTOR_LEN as u64)] {
        let len = file.read_full_at(&mut sector, at).map_err(read)?;
        match SnapshotHeader::decode(&sector[..len]) {
            Ok(Some(header)) => return Ok(Some(header)),
            Ok(None) => {}
            Err(found) => return Err(SnapshotHeader::unsupported(path.to_path_buf(), found)),
        }
    }
    Ok(None)
}
