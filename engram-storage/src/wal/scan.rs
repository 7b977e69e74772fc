//! Finds records in the bytes of one segment, whole or damaged, with bounded memory.

use std::{io, sync::Arc};

use super::{
    HEADER_LEN, RECORD_LEN_MAX, SECTOR_LEN,
    record::{HeaderError, WalEntryHeader},
};
use crate::{
    disk::DiskFile,
    planted::{Defect, planted},
};

const READ_LEN: usize = 1 << 20;

/// What lies at a place of a segment. `next` is where the scan goes on.
#[derive(Clone, Copy)]
pub(super) enum Found {
    /// A record whose header and payload pass their checksums. [`Scanner::payload`] has its bytes.
    Record { at: u64, next: u64, header: WalEntryHeader, padding_is_zero: bool },
    /// Zeros from the start of a sector on: never written, or wiped.
    Zeros { at: u64, next: u64 },
    /// No record of this segment.
    Damaged { at: u64, next: u64, reason: &'static str },
    /// A whole record that only another build can read.
    Unsupported { what: &'static str, found: u32 },
}

/// A scan over a range of one segment. After damage it tries each multiple of 64, where alone a record can start.
#[derive(Clone)]
pub(super) struct Scanner {
    window: Window,
    log_id: u64,
    segment_low: u32,
    at: u64,
    end: u64,
    /// The record that was found last, and the length of its payload.
    record: (u64, usize),
}

impl Scanner {
    /// Scans the file whose records name it by `segment_low`, from its first record up to `end`, or to the end of the
    /// file if that comes first.
    pub(super) fn new(file: Arc<dyn DiskFile>, log_id: u64, segment_low: u32, end: u64) -> Self {
        Self {
            window: Window::new(file, end),
            log_id,
            segment_low,
            at: SECTOR_LEN as u64,
            end,
            record: (0, 0),
        }
    }

    /// Where the scan is.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Goes back to a place where something was found.
    pub(super) fn rewind(&mut self, at: u64) {
        self.at = at;
    }

    /// Finds the next thing; nothing at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        let sector = SECTOR_LEN as u64;
        let (at, head) = loop {
            if self.at >= self.end {
                return Ok(None);
            }
            let block = self.window.bytes(self.at, HEADER_LEN)?;
            let Some(head) = block.first_chunk::<HEADER_LEN>() else {
                return Ok(self.cut_off());
            };
            let zero = head == &[0; HEADER_LEN];
            if !zero {
                break (self.at, *head);
            }
            if self.at.is_multiple_of(sector) {
                let at = self.at;
                self.at = self.skip_zeros(at)?;
                return Ok(Some(Found::Zeros { at, next: self.at }));
            }
            self.at += HEADER_LEN as u64; // the padding of a group
        };
        self.at += HEADER_LEN as u64;
        let damaged = |reason| Ok(Some(Found::Damaged { at, next: at + HEADER_LEN as u64, reason }));
        let ours = head[24..32] == self.log_id.to_le_bytes();
        let header = match WalEntryHeader::decode(&head) {
            Ok(header) => header,
            Err(HeaderError::Unsupported(what, found)) if ours => {
                return Ok(Some(Found::Unsupported { what, found }));
            }
            Err(HeaderError::Damaged(reason) | HeaderError::Unsupported(reason, _)) => {
                return damaged(reason);
            }
        };
        if !ours || header.segment_low != self.segment_low {
            return damaged("record of another log or segment");
        }
        let len = header.payload_len as usize;
        debug_assert!(len <= RECORD_LEN_MAX, "decode bounds the length, so the window is bounded");
        let next = at + ((HEADER_LEN + len).next_multiple_of(HEADER_LEN)) as u64;
        if at + (HEADER_LEN + len) as u64 > self.end {
            return damaged("record runs past the end of its segment");
        }
        self.at = next;
        let record = self.window.bytes(at, (HEADER_LEN + len).next_multiple_of(HEADER_LEN))?;
        let Some(payload) = record.get(HEADER_LEN..HEADER_LEN + len) else {
            return Ok(Some(Found::Damaged { at, next, reason: "file ends within a record" }));
        };
        if crc32c::crc32c(payload) != header.payload_crc && !planted(Defect::ChecksumUnchecked) {
            // The header is whole, so its length is right.
            return Ok(Some(Found::Damaged { at, next, reason: "payload checksum" }));
        }
        let padding_is_zero = record[HEADER_LEN + len..].iter().all(|&byte| byte == 0);
        self.record = (at, len);
        Ok(Some(Found::Record { at, next, header, padding_is_zero }))
    }

    /// Where the record that [`next`](Self::next) found last starts.
    pub(super) fn record_at(&self) -> u64 {
        self.record.0
    }

    /// The payload of the record that [`next`](Self::next) found last.
    pub(super) fn payload(&self) -> &[u8] {
        let (at, len) = self.record;
        self.window.held(at + HEADER_LEN as u64, len)
    }

    /// The file ends before a whole header: damage, unless nothing is there.
    fn cut_off(&mut self) -> Option<Found> {
        let at = std::mem::replace(&mut self.at, self.end);
        let rest = self.window.bytes(at, HEADER_LEN).unwrap_or_default();
        let next = at + rest.len() as u64;
        let blank = rest.iter().all(|&byte| byte == 0);
        (!blank).then_some(Found::Damaged { at, next, reason: "file ends within a record" })
    }

    /// The first block after `at` that is not zero, or the end.
    fn skip_zeros(&mut self, mut at: u64) -> io::Result<u64> {
        while at < self.end {
            let bytes = self.window.bytes(at, READ_LEN)?;
            let (blocks, rest) = bytes.as_chunks::<HEADER_LEN>();
            match blocks.iter().position(|block| block != &[0; HEADER_LEN]) {
                Some(block) => return Ok((at + (block * HEADER_LEN) as u64).min(self.end)),
                None if blocks.is_empty() => {
                    return Ok(if rest.iter().all(|&b| b == 0) { self.end } else { at });
                }
                None => at += (blocks.len() * HEADER_LEN) as u64,
            }
        }
        Ok(self.end)
    }
}

/// A part of a file in memory: one read-ahead, or one record where that is longer.
#[derive(Clone)]
struct Window {
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    start: u64,
    filled: usize,
    /// Where what is looked at ends.
    end: u64,
}

impl Window {
    fn new(file: Arc<dyn DiskFile>, end: u64) -> Self {
        Self { file, buffer: Vec::new(), start: 0, filled: 0, end }
    }

    /// `len` bytes at `at`; fewer only at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let inside = at >= self.start && at + len as u64 <= self.start + self.filled as u64;
        if !inside {
            // A log has many small segments: no more is read, nor room made for more, than there is.
            let ahead =
                usize::try_from(self.end.saturating_sub(at)).map_or(READ_LEN, |left| left.min(READ_LEN));
            self.buffer.resize(ahead.max(len), 0);
            self.start = at;
            self.filled = 0; // in case the read fails
            self.filled = self.file.read_full_at(&mut self.buffer, at)?;
        }
        Ok(self.held(at, len))
    }

    /// Those of `len` bytes at `at` that are in memory since [`bytes`](Self::bytes) was asked for them.
    fn held(&self, at: u64, len: usize) -> &[u8] {
        #[expect(clippy::cast_possible_truncation, reason = "within the buffer")]
        let offset = (at - self.start) as usize;
        &self.buffer[offset..(offset + len).min(self.filled)]
    }
}
