//! Puts the records of a log in order, and names what is missing between them.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Damage, HEADER_LEN, Lsn, RECORD_VERSION, SegmentId,
    layout::Layout,
    record::{WalEntryHeader, WalEntryType},
    scan::{Found, Scanner},
};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, DiskFile},
};

/// The last record of a segment, as its successor's header names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastRecord {
    pub(super) lsn: Lsn,
    /// Its header's checksum; 0 when that was not known.
    pub(super) crc: u32,
}

/// A segment and what counts of it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) file: Arc<dyn DiskFile>,
    /// Its first record.
    pub(super) start: Lsn,
    /// Where its last record ends.
    pub(super) end: u64,
    /// Its last record, where that is known for sure: it must be there.
    pub(super) last: Option<LastRecord>,
}

/// The next thing in a walk.
pub(super) enum Step {
    /// The next record; the walk's `payload` has its bytes.
    Record(WalEntryHeader),
    /// So many records from this one on, which a repair has declared lost.
    Gap(Lsn, u64),
    /// Bytes that are no record, or records that are not there, or both.
    Damage(Damage),
}

/// The last record that was delivered, and the checksum that the next one links to.
type Link = Option<(Lsn, u32)>;

/// A walk over what counts of one segment.
#[derive(Clone)]
pub(super) struct SegmentWalk {
    path: std::path::PathBuf,
    segment: Segment,
    scanner: Scanner,
    /// The record that comes next.
    pub(super) expected: Lsn,
    pub(super) previous: Link,
    /// The highest promise seen.
    pub(super) promise: Lsn,
    /// Whether the last whole thing was a seal.
    pub(super) sealed: bool,
    /// Where the last whole record or seal ends.
    pub(super) valid_end: u64,
    /// Where the last thing that is not zero ends.
    pub(super) seen_end: u64,
    /// Damage that was passed since the last record.
    pending: Option<(u64, &'static str)>,
}

impl SegmentWalk {
    pub(super) fn new(disk: &dyn Disk, log_id: u64, segment: Segment, previous: Link) -> Self {
        let scanner = Scanner::new(Arc::clone(&segment.file), log_id, segment.id.low(), segment.end);
        let start = scanner.position();
        Self {
            path: disk.path().join(segment.id.file_name()),
            expected: segment.start,
            segment,
            scanner,
            previous,
            promise: Lsn::ZERO,
            sealed: false,
            valid_end: start,
            seen_end: start,
            pending: None,
        }
    }

    /// The next record up to `limit`, or damage. Nothing at the end, and before a record beyond the limit.
    pub(super) fn next(&mut self, limit: Lsn) -> StorageResult<Option<Step>> {
        loop {
            let found = self.scanner.next().map_err(|e| StorageError::io("read", &self.path, e))?;
            match found {
                None => return Ok(self.finish().map(Step::Damage)),
                Some(Found::Zeros { at, next }) => {
                    // Zeros up to an end that nobody knew are the space that was never written.
                    if next < self.segment.end || self.segment.last.is_some() {
                        self.pending.get_or_insert((at, "zeros where records were"));
                    }
                }
                Some(Found::Damaged { at, next, reason }) => self.skip(at, next, reason),
                Some(Found::Unsupported { what, found }) => {
                    let path = self.path.clone();
                    return Err(StorageError::UnsupportedFormat {
                        path,
                        what,
                        found,
                        supported: RECORD_VERSION.into(),
                    });
                }
                Some(Found::Record { at, next, header, padding_is_zero }) => {
                    if let Some(reason) = self.misfit(&header) {
                        self.skip(at, next, reason);
                        continue;
                    }
                    let is_seal = header.entry_type == WalEntryType::Seal;
                    let missing_to = match header.entry_type {
                        WalEntryType::Seal => header.lsn,
                        WalEntryType::Gap => Lsn::ZERO,
                        _ => header.lsn.previous(),
                    };
                    if self.pending.is_some() || missing_to >= self.expected {
                        self.scanner.rewind(at);
                        return Ok(Some(Step::Damage(self.damage(at, missing_to))));
                    }
                    if header.lsn > limit {
                        self.scanner.rewind(at);
                        return Ok(None);
                    }
                    self.promise = self.promise.max(header.synced_lsn);
                    self.sealed = is_seal;
                    (self.valid_end, self.seen_end) = (next, next);
                    if !padding_is_zero {
                        let end = at + HEADER_LEN as u64 + u64::from(header.payload_len);
                        self.pending = Some((end, "padding after a record"));
                    }
                    if header.entry_type == WalEntryType::Gap {
                        let first = self.expected;
                        let declared = header.lsn.next().get().saturating_sub(first.get());
                        self.expected = first.max(header.lsn.next());
                        self.previous = None; // what comes next links to a record that is gone
                        return Ok(Some(Step::Gap(first, declared)));
                    }
                    if !is_seal {
                        self.expected = header.lsn.next();
                        self.previous = Some((header.lsn, header.header_crc));
                        return Ok(Some(Step::Record(header)));
                    }
                }
            }
        }
    }

    /// The payload of the record that [`next`](Self::next) returned last.
    pub(super) fn payload(&self) -> &[u8] {
        self.scanner.payload()
    }

    /// Where the record that [`next`](Self::next) returned last starts.
    pub(super) fn record_at(&self) -> u64 {
        self.scanner.record_at()
    }

    /// Where the walk is.
    pub(super) fn position(&self) -> u64 {
        self.scanner.position()
    }

    fn skip(&mut self, at: u64, next: u64, reason: &'static str) {
        self.pending.get_or_insert((at, reason));
        self.seen_end = next;
    }

    /// Why a whole record is not the next one.
    fn misfit(&self, header: &WalEntryHeader) -> Option<&'static str> {
        if header.entry_type.is_mark() {
            return (header.lsn < self.expected.previous()).then_some("seal of an earlier record");
        }
        if header.lsn < self.expected {
            return Some("record out of order");
        }
        // 0: who wrote it did not know the record before it.
        let follows = header.previous_crc == 0
            || self.previous.is_none_or(|(lsn, crc)| lsn.next() != header.lsn || crc == header.previous_crc);
        (!follows).then_some("record does not link to the one before it")
    }

    /// The damage that lies before `at`, with the records up to `missing_to` lost.
    fn damage(&mut self, at: u64, missing_to: Lsn) -> Damage {
        let (offset, reason) = self.pending.take().unwrap_or((at, "records are missing"));
        let first_lsn = self.expected;
        self.expected = first_lsn.max(missing_to.next());
        Damage { segment: self.segment.id, offset, end: at, first_lsn, last_lsn: missing_to, reason }
    }

    /// At the end of a segment whose last record is known, that record must have come.
    fn finish(&mut self) -> Option<Damage> {
        let known = self.segment.last;
        let missing_to = known.map_or(Lsn::ZERO, |last| last.lsn);
        if let (Some(last), Some((lsn, crc))) = (known, self.previous)
            && lsn == last.lsn
            && !matches!(last.crc, 0) // not known to the one who wrote it
            && last.crc != crc
        {
            self.pending.get_or_insert((self.segment.end, "not the records that the next segment follows"));
            self.segment.last = None; // say it once
        }
        if missing_to >= self.expected {
            self.pending.get_or_insert((self.valid_end, "records are missing"));
        }
        self.pending.is_some().then(|| self.damage(self.scanner.position(), missing_to))
    }
}

/// A walk over all segments of a log, from where its snapshot ends.
#[derive(Clone)]
pub(super) struct LogWalk {
    disk: Arc<dyn Disk>,
    log_id: u64,
    ahead: VecDeque<Segment>,
    current: Option<SegmentWalk>,
    expected: Lsn,
    previous: Link,
    bytes_before: u64,
}

impl LogWalk {
    pub(super) fn new(disk: &Arc<dyn Disk>, layout: &Layout) -> Self {
        Self {
            disk: Arc::clone(disk),
            log_id: layout.log_id,
            ahead: layout.segments.iter().cloned().collect(),
            current: None,
            expected: layout.base.lsn.next(),
            previous: None,
            bytes_before: 0,
        }
    }

    /// The next record up to `limit`, or damage. Nothing at the end, and before a record beyond the limit: a later
    /// call with a higher limit goes on there.
    pub(super) fn next(&mut self, limit: Lsn) -> StorageResult<Option<Step>> {
        loop {
            let Some(walk) = &mut self.current else {
                let Some(segment) = self.ahead.pop_front() else { return Ok(None) };
                if let Some(damage) = self.enter(segment) {
                    return Ok(Some(Step::Damage(damage)));
                }
                continue;
            };
            let step = walk.next(limit)?;
            (self.expected, self.previous) = (self.expected.max(walk.expected), walk.previous);
            if step.is_some() {
                return Ok(step);
            }
            if walk.position() < walk.segment.end || self.ahead.is_empty() {
                return Ok(None); // before the limit, or at the very end
            }
            self.bytes_before += walk.position();
            self.current = None;
        }
    }

    /// Begins a segment. The records between it and the one before are lost.
    fn enter(&mut self, segment: Segment) -> Option<Damage> {
        let (id, start) = (segment.id, segment.start);
        let first_lsn = self.expected;
        self.expected = first_lsn.max(start);
        let mut walk = SegmentWalk::new(&*self.disk, self.log_id, segment, self.previous);
        walk.expected = self.expected; // a forged start further back delivers nothing twice
        self.current = Some(walk);
        let reason = "the records before this segment are missing";
        (start > first_lsn).then(|| Damage {
            segment: id,
            offset: 0,
            end: 0,
            first_lsn,
            last_lsn: start.previous(),
            reason,
        })
    }

    /// The payload of the record that [`next`](Self::next) returned last.
    pub(super) fn payload(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], SegmentWalk::payload)
    }

    /// Where the record that [`next`](Self::next) returned last starts: its segment, and bytes from that one's start.
    pub(super) fn record_at(&self) -> Option<(SegmentId, u64)> {
        self.current.as_ref().map(|walk| (walk.segment.id, walk.record_at()))
    }

    /// The segment that the walk is in, and where in it: what was delivered lies before that.
    pub(super) fn position(&self) -> Option<(SegmentId, u64)> {
        self.current.as_ref().map(|walk| (walk.segment.id, walk.position()))
    }

    /// The checksum of the record `lsn`, if that was the last one delivered; 0 if not.
    pub(super) fn crc_of(&self, lsn: Lsn) -> u32 {
        self.previous.filter(|(previous, _)| *previous == lsn).map_or(0, |(_, crc)| crc)
    }

    /// Bytes of the log that lie behind.
    pub(super) fn bytes_done(&self) -> u64 {
        self.bytes_before + self.current.as_ref().map_or(0, SegmentWalk::position)
    }
}
