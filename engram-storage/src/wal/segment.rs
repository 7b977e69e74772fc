//! Segment files: their names, their header, and how one comes into being.

use std::fmt;

use super::{
    Lsn, SECTOR_LEN,
    record::{u32_at, u64_at},
    unnamed::Unnamed,
};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, DiskFile},
    planted::Defect,
};

/// The size at which a segment is full, in bytes, unless the options say otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// The size of the first segment of a process, and of a small log's segments: a small store pays no 64 MiB.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;

const MAGIC: [u8; 8] = *b"ENGRMWAL";
const FORMAT_VERSION: u32 = 1;
const CRC_AT: usize = SECTOR_LEN - 4;

/// What the names of segments begin with.
pub(super) const PREFIX: &str = "wal-";

/// No log gets there: a file with a greater number is none of ours.
const ID_MAX: u64 = 1 << 62;

/// Longer than any segment: one that is said to be longer is none of ours.
const END_MAX: u64 = 1 << 40;

/// The number of a segment, from 1 on, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(u64);

impl SegmentId {
    /// The first segment of a log.
    pub const FIRST: Self = Self(1);

    /// The segment with this number; nothing for a number that no log gets to.
    pub(super) const fn new(id: u64) -> Option<Self> {
        if id >= 1 && id <= ID_MAX { Some(Self(id)) } else { None }
    }

    /// As a plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number before this one; of the first, itself.
    pub(super) const fn previous(self) -> Self {
        if self.0 > 1 { Self(self.0 - 1) } else { self }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
    pub(super) const fn low(self) -> u32 {
        self.0 as u32
    }

    /// Fixed width: in order by name is in order by number.
    pub(super) fn file_name(self) -> String {
        format!("{PREFIX}{:020}.log", self.0)
    }

    /// The segment that a file name stands for; nothing for any other file.
    pub(super) fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(PREFIX)?.strip_suffix(".log")?;
        let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse().ok().filter(|&id| all_digits && (1..=ID_MAX).contains(&id)).map(Self)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name under which the next segment is made ready.
pub(super) const SPARE_NAME: &str = "wal-spare.tmp";

/// The first sector of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log_id: u64,
    pub(super) id: SegmentId,
    /// The first record of this segment. It cuts the segment before: what that holds from here on does not count,
    /// and all before here was durable before this header was.
    pub(super) first_lsn: Lsn,
    /// Where in the segment before its last record that counts ends; 0 in the first segment.
    pub(super) previous_end: u64,
    /// `header_crc` of the last record before this segment; 0 when there is none.
    pub(super) previous_crc: u32,
    pub(super) time_us: u64,
}

/// Why a sector is no segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SegmentHeaderError {
    Damaged,
    UnsupportedVersion(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SECTOR_LEN] {
        let mut bytes = [0; SECTOR_LEN];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.id.get().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_lsn.get().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_end.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.time_us.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.previous_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SegmentHeaderError> {
        let (u32_at, u64_at) = (|at| u32_at(bytes, at), |at| u64_at(bytes, at));
        // All format versions keep magic, version and checksum where they are: another version that passes the
        // checksum is another version, one that does not is damage.
        if bytes.len() < SECTOR_LEN
            || bytes[..8] != MAGIC
            || u32_at(CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT])
        {
            return Err(SegmentHeaderError::Damaged);
        }
        if u32_at(8) != FORMAT_VERSION {
            return Err(SegmentHeaderError::UnsupportedVersion(u32_at(8)));
        }
        if u64_at(32) > Lsn::READ_MAX.get() || u64_at(40) > END_MAX {
            return Err(SegmentHeaderError::Damaged);
        }
        Ok(Self {
            log_id: u64_at(16),
            id: SegmentId(u64_at(24)),
            first_lsn: Lsn::new(u64_at(32)),
            previous_end: u64_at(40),
            time_us: u64_at(48),
            previous_crc: u32_at(56),
        })
    }

    /// The error for a segment of a format that this build cannot read.
    pub(super) fn unsupported(disk: &dyn Disk, name: &str, found: u32) -> StorageError {
        StorageError::UnsupportedFormat {
            path: disk.path().join(name),
            what: "format version",
            found,
            supported: FORMAT_VERSION,
        }
    }
}

/// Makes a new segment part of the log: its bytes are durable before its name is, so a segment with a name has a whole
/// header.
pub(super) fn publish(unnamed: Unnamed, header: &SegmentHeader) -> StorageResult<Box<dyn DiskFile>> {
    // Invariant: header and contents are synced before the rename, the rename before the first acknowledgement.
    unnamed.write(&header.encode(), 0)?;
    unnamed.sync_unless(Defect::NamedBeforeSynced)?;
    unnamed.name(&header.id.file_name(), Defect::NoDirectorySync)
}
