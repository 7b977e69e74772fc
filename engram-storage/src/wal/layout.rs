//! Which bytes of which segment count.
//!
//! A segment's header says where the segment before it ends. The last one has no such witness, nor has one whose
//! successor's header is damaged: these are probed, and the promises in their records tell a torn tail, which was
//! never acknowledged, from damage to what was.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Damage, Lsn, SECTOR_LEN, SegmentId,
    report::RecoveryReport,
    scan::{Found, Scanner},
    segment::{SegmentHeader, SegmentHeaderError},
    snapshot::Base,
    walk::{LastRecord, Segment, SegmentWalk, Step},
};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, DiskFile},
    planted::{Defect, planted},
};

/// A log's segments, in order, and what comes before them.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// 0 when there is no segment.
    pub(super) log_id: u64,
    /// Segments before it do not count: they wait to be removed.
    pub(super) base: Base,
    pub(super) segments: Vec<Segment>,
    /// The highest number that a segment has; one that holds nothing may not be among `segments`.
    pub(super) newest: Option<SegmentId>,
    /// The last record that is proven durable. Those after it are at most one group in the modes that sync.
    pub(super) promise: Lsn,
    /// The last record of the log.
    pub(super) last_lsn: Lsn,
    /// Bytes after that, never acknowledged.
    pub(super) torn_bytes: u64,
    /// Whether the log ends with a seal.
    pub(super) sealed: bool,
    /// Damaged segment headers.
    pub(super) damage: Vec<Damage>,
}

/// How often a directory is looked at whose files vanish while they are.
const LOOKS_MAX: usize = 4;

/// A file that has the name of a segment.
struct Candidate {
    id: SegmentId,
    file: Arc<dyn DiskFile>,
    header: Option<SegmentHeader>,
}

/// What a look at all of a segment finds that nothing bounds.
struct Probe {
    last: Lsn,
    end: u64,
    promise: Lsn,
    torn_bytes: u64,
    sealed: bool,
}

impl Layout {
    /// Reads the headers of all segments and the records of the last one, and chooses the snapshot. Changes nothing.
    pub(super) fn read(disk: &dyn Disk) -> StorageResult<Self> {
        let mut read = Self::look(disk);
        for _ in 1..LOOKS_MAX {
            if !read.as_ref().is_err_and(is_missing) {
                break;
            }
            read = Self::look(disk); // who writes the log has removed what a snapshot stands for
        }
        read
    }

    fn look(disk: &dyn Disk) -> StorageResult<Self> {
        let names = disk.list().map_err(|e| StorageError::io("list", disk.path(), e))?;
        let mut candidates = candidates(disk, &names)?;
        let ids: Vec<SegmentId> = candidates.iter().map(|candidate| candidate.id).collect();
        let headers = candidates.iter().filter_map(|c| c.header.filter(|header| header.id == c.id));
        let ours = common_log_id(headers.map(|header| header.log_id));
        let base = Base::choose(disk, &names, &ids, ours)?;
        candidates.retain(|candidate| candidate.id >= base.segment);
        let Some(newest) = candidates.last().map(|candidate| candidate.id) else {
            return Ok(Self::default());
        };
        let Some(log_id) = ours.or(base.snapshot.as_ref().map(|snapshot| snapshot.header.log_id)) else {
            return Err(StorageError::RecoveryRefused {
                reason: format!(
                    "the headers of the {} segments are unreadable, or do not agree on the log they are of",
                    candidates.len()
                ),
                report: Box::new(RecoveryReport { segments: candidates.len() as u64, ..Default::default() }),
            });
        };
        let (promise, last_lsn) = (base.lsn, base.lsn);
        let mut layout = Self { log_id, base, newest: Some(newest), promise, last_lsn, ..Self::default() };
        for candidate in &mut candidates {
            let foreign = candidate.header.is_some_and(|h| h.id != candidate.id || h.log_id != log_id);
            if foreign {
                candidate.header = None;
            }
            if candidate.header.is_none() {
                let reason =
                    if foreign { "header of another log or segment" } else { "segment header checksum" };
                let (first_lsn, last_lsn) = (Lsn::FIRST, Lsn::ZERO); // what is lost shows when it is walked
                let (segment, end) = (candidate.id, SECTOR_LEN as u64);
                layout.damage.push(Damage { segment, offset: 0, end, first_lsn, last_lsn, reason });
            }
        }
        // From the last to the first, since each is bounded by the one after it.
        let mut successor: Option<(SegmentId, Option<SegmentHeader>)> = None;
        let mut following: Option<Lsn> = None;
        for candidate in candidates.into_iter().rev() {
            let (id, header) = (candidate.id, candidate.header);
            let bound = successor.and_then(|(next, header)| header.filter(|_| next == id.next()));
            successor = Some((id, header));
            let segment = match bound {
                Some(next) => bounded(disk, log_id, candidate, &next)?,
                None => match probed(disk, log_id, candidate, following)? {
                    None => continue,
                    Some((segment, probe)) => {
                        if layout.segments.is_empty() {
                            (layout.promise, layout.last_lsn) = (probe.promise, probe.last);
                            (layout.torn_bytes, layout.sealed) = (probe.torn_bytes, probe.sealed);
                        }
                        segment
                    }
                },
            };
            following = Some(segment.start);
            layout.segments.push(segment);
        }
        layout.segments.reverse();
        Ok(layout)
    }

    /// Bytes of the segments that count.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }
}

/// Whether a file that was listed was not there any longer.
fn is_missing(error: &StorageError) -> bool {
    matches!(error, StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// The log that most segments with a right name are of; nothing when there is none, or not one.
fn common_log_id(log_ids: impl Iterator<Item = u64>) -> Option<u64> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    log_ids.for_each(|log_id| *counts.entry(log_id).or_default() += 1);
    let most = counts.values().copied().max()?;
    let mut leaders = counts.into_iter().filter(|(_, count)| *count == most);
    leaders.next().filter(|_| leaders.next().is_none()).map(|(log_id, _)| log_id)
}

/// The files with a segment's name, in order, their headers read.
fn candidates(disk: &dyn Disk, names: &[String]) -> StorageResult<Vec<Candidate>> {
    let mut ids: Vec<SegmentId> = names.iter().filter_map(|name| SegmentId::from_file_name(name)).collect();
    ids.sort_unstable();
    ids.into_iter().map(|id| Candidate::read(disk, id)).collect()
}

impl Candidate {
    fn read(disk: &dyn Disk, id: SegmentId) -> StorageResult<Self> {
        let name = id.file_name();
        let error = |operation| {
            let path = disk.path().join(&name);
            move |e| StorageError::io(operation, path, e)
        };
        let file: Arc<dyn DiskFile> = disk.open(&name).map_err(error("open"))?.into();
        let mut sector = [0; SECTOR_LEN];
        let len = file.read_full_at(&mut sector, 0).map_err(error("read"))?;
        let header = match SegmentHeader::decode(&sector[..len]) {
            Ok(header) => Some(header),
            Err(SegmentHeaderError::Damaged) => None,
            Err(SegmentHeaderError::UnsupportedVersion(found)) => {
                return Err(SegmentHeader::unsupported(disk, &name, found));
            }
        };
        Ok(Self { id, file, header })
    }
}

/// A segment whose end its successor's header names.
fn bounded(disk: &dyn Disk, log_id: u64, this: Candidate, next: &SegmentHeader) -> StorageResult<Segment> {
    let Candidate { id, file, header } = this;
    let last = LastRecord { lsn: next.first_lsn.previous(), crc: next.previous_crc };
    let start = match header {
        Some(header) => header.first_lsn,
        // Its first whole record stands in for its header; what lies before that shows as missing.
        None => first_record(disk, log_id, id, &file, next.previous_end)?.unwrap_or(next.first_lsn),
    };
    Ok(Segment { id, file, start, end: next.previous_end, last: Some(last) })
}

/// A segment that nothing bounds but the first record of what follows, if anything does. Nothing when it is empty
/// and its header is damaged: then it holds no more than a start that came to nothing.
fn probed(
    disk: &dyn Disk,
    log_id: u64,
    this: Candidate,
    following: Option<Lsn>,
) -> StorageResult<Option<(Segment, Probe)>> {
    let Candidate { id, file, header } = this;
    let size = file.size().map_err(|e| StorageError::io("measure", disk.path().join(id.file_name()), e))?;
    let start = match header {
        Some(header) => header.first_lsn,
        None => match (first_record(disk, log_id, id, &file, size)?, following) {
            (Some(lsn), _) | (None, Some(lsn)) => lsn,
            (None, None) if is_begun(disk, id, &file, size)? => return Ok(None),
            (None, None) => {
                let report = RecoveryReport { segments: id.get(), ..Default::default() };
                return Err(StorageError::RecoveryRefused {
                    reason: format!(
                        "nothing of {} can be read, and no later segment tells what it held; \
                         restore it, or move it elsewhere to go on without its records",
                        disk.path().join(id.file_name()).display()
                    ),
                    report: Box::new(report),
                });
            }
        },
    };
    let segment = Segment { id, file, start, end: size, last: None };
    let probe = Probe::run(disk, log_id, segment.clone(), following)?;
    // A last record that was promised must be there, whatever became of it.
    let last = (probe.promise >= probe.last).then_some(LastRecord { lsn: probe.last, crc: 0 });
    Ok(Some((Segment { end: probe.end, last, ..segment }, probe)))
}

/// Whether a segment has a header, if a damaged one, and nothing after it.
fn is_begun(disk: &dyn Disk, id: SegmentId, file: &Arc<dyn DiskFile>, size: u64) -> StorageResult<bool> {
    let read = |e| StorageError::io("read", disk.path().join(id.file_name()), e);
    let mut sector = [0; SECTOR_LEN];
    file.read_full_at(&mut sector, 0).map_err(read)?;
    let mut scanner = Scanner::new(Arc::clone(file), 0, id.low(), size);
    let blank = match scanner.next().map_err(read)? {
        None => true,
        Some(Found::Zeros { next, .. }) => next >= size,
        Some(Found::Record { .. } | Found::Damaged { .. } | Found::Unsupported { .. }) => false,
    };
    // A header whose checksum is gone was wiped, and perhaps not it alone.
    Ok(blank && !sector.ends_with(&[0; 4]))
}

/// The first whole record of a segment.
fn first_record(
    disk: &dyn Disk,
    log_id: u64,
    id: SegmentId,
    file: &Arc<dyn DiskFile>,
    end: u64,
) -> StorageResult<Option<Lsn>> {
    let mut scanner = Scanner::new(Arc::clone(file), log_id, id.low(), end);
    loop {
        match scanner.next() {
            // A mark has the number of the record before it.
            Ok(Some(Found::Record { header, .. })) if header.entry_type.is_mark() => {
                return Ok(Some(header.lsn.next()));
            }
            Ok(Some(Found::Record { header, .. })) => return Ok(Some(header.lsn)),
            Ok(Some(Found::Zeros { .. } | Found::Damaged { .. } | Found::Unsupported { .. })) => {}
            Ok(None) => return Ok(None),
            Err(e) => return Err(StorageError::io("read", disk.path().join(id.file_name()), e)),
        }
    }
}

impl Probe {
    fn run(disk: &dyn Disk, log_id: u64, segment: Segment, following: Option<Lsn>) -> StorageResult<Self> {
        let limit = following.map_or(Lsn::new(u64::MAX), Lsn::previous);
        // A named segment proves that all before it was durable.
        let start = segment.start.previous();
        let mut walk = SegmentWalk::new(disk, log_id, segment, None);
        // Gaps, each with whether a seal stood before it.
        let mut gaps: Vec<(Damage, bool)> = Vec::new();
        while let Some(step) = walk.next(limit)? {
            match step {
                Step::Damage(damage) if damage.lost_records() > 0 => gaps.push((damage, walk.sealed)),
                Step::Damage(_) | Step::Gap(..) | Step::Record(_) => {}
            }
        }
        let (next, valid_end, seen_end) = (walk.expected, walk.valid_end, walk.seen_end);
        let sealed_at_end = walk.sealed;
        // What lies beyond the limit does not count, but what it promises about what lies before does.
        while following.is_some() && walk.next(Lsn::new(u64::MAX))?.is_some() {}
        let promise = start.max(walk.promise.min(limit));
        // The first gap that no promise covers, or the part of it: there the log was torn.
        let torn =
            gaps.into_iter().find(|(gap, _)| gap.last_lsn > promise || planted(Defect::DamageTakenForTorn));
        let (last, end, sealed) = match torn {
            Some((gap, sealed)) if planted(Defect::DamageTakenForTorn) => {
                (gap.first_lsn.previous(), gap.offset, sealed)
            }
            Some((gap, sealed)) => (gap.first_lsn.previous().max(promise), gap.offset, sealed),
            // What is promised and does not come is missing: no writer promises more than it has written.
            None => (next.previous().max(promise), valid_end, sealed_at_end),
        };
        // What follows a seal was refused, and cut off by it: nothing was torn.
        let torn_bytes = if sealed { 0 } else { seen_end.saturating_sub(end) };
        Ok(Self { last, end, promise, torn_bytes, sealed })
    }
}
