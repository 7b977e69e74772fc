//! The bytes of a record: a header of 64 bytes, the payload, zeros up to the next multiple of 64.

use crate::wal::Lsn;

/// Length of a record's header in bytes, and the alignment of each record in its segment.
pub const HEADER_LEN: usize = 64;

/// The longest payload, in bytes. A longer length field is damage, whatever its checksum says.
pub const RECORD_LEN_MAX: usize = 16 << 20;

const _: () = assert!(RECORD_LEN_MAX < u32::MAX as usize, "lengths are stored in 32 bits");
const _: () = assert!(super::SECTOR_LEN.is_multiple_of(HEADER_LEN), "a header never crosses a sector");

const MAGIC: [u8; 4] = *b"eRec";
/// The version of the record format.
pub(super) const RECORD_VERSION: u8 = 1;
const CRC_AT: usize = HEADER_LEN - 4;

/// What a record is about. The log carries the number and, but for [`Seal`](Self::Seal) and [`Gap`](Self::Gap), does
/// not act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WalEntryType {
    /// A memory, new or changed, whole.
    MemoryStore,
    /// The end of a memory.
    MemoryForget,
    /// Properties of the store as a whole.
    StoreConfig,
    /// A space, new or with other properties.
    SpaceConfig,
    /// The end of a space and of all in it.
    SpaceDrop,
    /// The embedding of a memory that was stored without.
    MemoryEmbed,
    /// What a request was answered, so that its repetition is answered the same.
    RequestReceipt,
    /// Written by a repair: all records up to its number that are not there are lost, and known to be. What its payload
    /// holds is not looked at.
    Gap,
    /// Written by a clean stop: all records before it are durable. Has no payload and no number of its own.
    Seal,
}

impl WalEntryType {
    /// Whether it is the log's own, with no number of its own: no caller may append it.
    pub(super) const fn is_mark(self) -> bool {
        matches!(self, Self::Gap | Self::Seal)
    }

    const fn to_u8(self) -> u8 {
        match self {
            Self::MemoryStore => 1,
            Self::MemoryForget => 2,
            Self::StoreConfig => 3,
            Self::SpaceConfig => 4,
            Self::SpaceDrop => 5,
            Self::MemoryEmbed => 6,
            Self::RequestReceipt => 7,
            Self::Gap => 254,
            Self::Seal => 255,
        }
    }

    const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::MemoryStore),
            2 => Some(Self::MemoryForget),
            3 => Some(Self::StoreConfig),
            4 => Some(Self::SpaceConfig),
            5 => Some(Self::SpaceDrop),
            6 => Some(Self::MemoryEmbed),
            7 => Some(Self::RequestReceipt),
            254 => Some(Self::Gap),
            255 => Some(Self::Seal),
            _ => None,
        }
    }
}

/// What a caller appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalEntry {
    /// What it is about.
    pub entry_type: WalEntryType,
    /// At most [`RECORD_LEN_MAX`] bytes, opaque to the log.
    pub payload: Vec<u8>,
}

/// A record's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalEntryHeader {
    /// What the record is about.
    pub entry_type: WalEntryType,
    /// Its place in the log.
    pub lsn: Lsn,
    /// The promise: the last record known to be on stable storage when this one was written.
    pub synced_lsn: Lsn,
    /// The log that it belongs to: a random number, the same in all its segments.
    pub log_id: u64,
    /// When it was written, in microseconds since 1970 by the system's clock. Informational: clocks jump.
    pub time_us: u64,
    /// Length of the payload in bytes.
    pub payload_len: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
    /// `header_crc` of the record before it; 0 for the first.
    pub previous_crc: u32,
    /// Low 32 bits of the number of the segment that it was written to; in a snapshot those of its LSN, inverted.
    pub segment_low: u32,
    /// CRC32C of the 60 bytes before it.
    pub header_crc: u32,
}

/// Why 64 bytes are no header of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// Damage, or something that never was a header.
    Damaged(&'static str),
    /// A whole header with a number that this build does not know.
    Unsupported(&'static str, u32),
}

/// What a record takes from the log that it is written to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) log_id: u64,
    /// Low bits of the number of the segment.
    pub(super) segment_low: u32,
    pub(super) lsn: Lsn,
    pub(super) synced_lsn: Lsn,
    pub(super) time_us: u64,
    pub(super) previous_crc: u32,
}

/// Appends a whole record to `buf`, whose length is a multiple of 64. Returns its header's checksum, the link of
/// the next one.
pub(super) fn encode(buf: &mut Vec<u8>, place: &Place, entry_type: WalEntryType, payload: &[u8]) -> u32 {
    debug_assert!(buf.len().is_multiple_of(HEADER_LEN) && payload.len() <= RECORD_LEN_MAX);
    #[expect(clippy::cast_possible_truncation, reason = "bounded by RECORD_LEN_MAX before it came here")]
    let len = payload.len() as u32;
    let mut header = WalEntryHeader {
        entry_type,
        lsn: place.lsn,
        synced_lsn: place.synced_lsn,
        log_id: place.log_id,
        time_us: place.time_us,
        payload_len: len,
        payload_crc: crc32c::crc32c(payload),
        previous_crc: place.previous_crc,
        segment_low: place.segment_low,
        header_crc: 0,
    };
    buf.extend_from_slice(&header.encode());
    buf.extend_from_slice(payload);
    buf.resize(buf.len().next_multiple_of(HEADER_LEN), 0);
    header.header_crc
}

impl WalEntryHeader {
    /// The 64 bytes, with `header_crc` computed and set.
    fn encode(&mut self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC);
        bytes[4] = RECORD_VERSION;
        bytes[5] = self.entry_type.to_u8();
        // Bytes 6 and 7 are flags, none of which is in use.
        bytes[8..16].copy_from_slice(&self.lsn.get().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced_lsn.get().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.time_us.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_len.to_le_bytes());
        // Stored and raw length are the same as long as nothing compresses.
        bytes[44..48].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.segment_low.to_le_bytes());
        self.header_crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&self.header_crc.to_le_bytes());
        bytes
    }

    /// Checks and decodes 64 bytes.
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let (u32_at, u64_at) = (|at| u32_at(bytes, at), |at| u64_at(bytes, at));
        if bytes[..4] != MAGIC {
            return Err(HeaderError::Damaged("no record starts here"));
        }
        let header_crc = u32_at(CRC_AT);
        if header_crc != crc32c::crc32c(&bytes[..CRC_AT]) {
            return Err(HeaderError::Damaged("record header checksum"));
        }
        if bytes[4] != RECORD_VERSION {
            return Err(HeaderError::Unsupported("record version", u32::from(bytes[4])));
        }
        let Some(entry_type) = WalEntryType::from_u8(bytes[5]) else {
            return Err(HeaderError::Unsupported("record kind", u32::from(bytes[5])));
        };
        let (flags, payload_len) = (u32_at(4) >> 16, u32_at(40));
        if flags != 0 || payload_len != u32_at(44) {
            return Err(HeaderError::Unsupported("record flags", flags));
        }
        if payload_len as usize > RECORD_LEN_MAX {
            return Err(HeaderError::Damaged("record length over the limit"));
        }
        if u64_at(8).max(u64_at(16)) > Lsn::READ_MAX.get() {
            return Err(HeaderError::Damaged("record number over the limit"));
        }
        Ok(Self {
            entry_type,
            lsn: Lsn::new(u64_at(8)),
            synced_lsn: Lsn::new(u64_at(16)),
            log_id: u64_at(24),
            time_us: u64_at(32),
            payload_len,
            payload_crc: u32_at(48),
            previous_crc: u32_at(52),
            segment_low: u32_at(56),
            header_crc,
        })
    }
}

/// The little-endian number at `at`, which is within `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The little-endian number at `at`, which is within `bytes`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
