//! What is in a log, segment by segment, without changing it and without its lock.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Damage, Lsn, ProgressHook, RecoveryProgress, SegmentId,
    layout::Layout,
    record::{HEADER_LEN, WalEntryHeader},
    scan::{Found, Scanner},
    snapshot::{RejectedSnapshot, SnapshotInspection},
    unnamed::is_temporary,
    walk::{LogWalk, Segment, Step},
};
use crate::{StorageError, StorageResult, disk::Disk};

/// A log that is being written is looked at again when it seems damaged: what was read at two moments may not fit.
const LOOKS_MAX: usize = 4;

/// How often progress is told, in records.
const PROGRESS_RECORDS: u64 = 8192;

/// What a look at a whole log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The log's random number; 0 when there is no segment.
    pub log_id: u64,
    /// The snapshot that the log is read on, if there is one.
    pub snapshot: Option<SnapshotInspection>,
    /// Newer snapshots that cannot be used.
    pub rejected_snapshots: Vec<RejectedSnapshot>,
    /// The segments that count, in order.
    pub segments: Vec<SegmentInspection>,
    /// Segments that should be there by their numbers and are not: the first and the last of each run of them.
    pub missing: Vec<(SegmentId, SegmentId)>,
    /// All damage, in the order of the log.
    pub damage: Vec<DamageInspection>,
    /// Records of the log that can be read.
    pub records: u64,
    /// Acknowledged records that cannot, of the snapshot and of the log.
    pub lost_records: u64,
    /// Records lost before, which a repair has declared to be.
    pub declared_lost: u64,
    /// The last record.
    pub last_lsn: Lsn,
    /// The last record that the log itself proves to be durable.
    pub proven_lsn: Lsn,
    /// Bytes at the end that were cut off while they were written, or are being written, and were never acknowledged.
    pub torn_bytes: u64,
    /// Whether the log ends with a seal, as after a clean stop.
    pub sealed: bool,
    /// Files that have not come into being as segments: left by a crash, or made ahead by who writes the log now.
    pub temporary: Vec<String>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInspection {
    /// Its number.
    pub id: SegmentId,
    /// The name of its file.
    pub file: String,
    /// The length of its file in bytes.
    pub file_bytes: u64,
    /// Bytes that count, its header included.
    pub used_bytes: u64,
    /// Its first record, or the one that would be.
    pub first_lsn: Lsn,
    /// Its last record that can be read; before `first_lsn` when it holds none.
    pub last_lsn: Lsn,
    /// Records that can be read.
    pub records: u64,
    /// When its first and last record were written, in microseconds since 1970 by the clock of then.
    pub time_us: Option<(u64, u64)>,
    /// Whether a later segment says where it ends.
    pub closed: bool,
    /// How many places of it are damaged.
    pub damaged_ranges: u64,
}

/// Damage, and what is known of what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageInspection {
    /// Where, and which records it took.
    pub damage: Damage,
    /// When the last record before it was written, in microseconds since 1970.
    pub after_us: Option<u64>,
    /// When the first record after it was written.
    pub before_us: Option<u64>,
    /// Records in it of which the header is whole: number, kind and time are right, the payload is not.
    pub remains: Vec<Remains>,
}

/// What is left of a damaged record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Its header, which passes its checksum.
    pub header: WalEntryHeader,
    /// Its payload as it is now, which does not; shorter where the file ends.
    pub payload: Vec<u8>,
}

impl Inspection {
    /// Whether nothing that was acknowledged is damaged or missing, nor a snapshot. A torn tail is sound.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
            && self.rejected_snapshots.is_empty()
            && self.snapshot.as_ref().is_none_or(|snapshot| snapshot.damage.is_empty())
    }

    pub(super) fn of(disk: &Arc<dyn Disk>, on_progress: Option<&ProgressHook>) -> StorageResult<Self> {
        let mut before = None;
        for _ in 1..LOOKS_MAX {
            let now = Self::look(disk, on_progress);
            let agrees = match (&before, &now) {
                (_, Ok(now)) if now.is_sound() => true,
                (Some(Ok(before)), Ok(now)) => Self::damage_of(before) == Self::damage_of(now),
                (_, Ok(_)) | (None | Some(Ok(_)), Err(_)) => false,
                (Some(Err(_)), Err(_)) => true,
            };
            if agrees {
                return now;
            }
            before = Some(now);
        }
        Self::look(disk, on_progress)
    }

    fn damage_of(&self) -> Vec<&Damage> {
        self.damage.iter().map(|found| &found.damage).collect()
    }

    fn look(disk: &Arc<dyn Disk>, on_progress: Option<&ProgressHook>) -> StorageResult<Self> {
        let names = disk.list().map_err(|e| StorageError::io("list", disk.path(), e))?;
        let mut temporary: Vec<String> = names.into_iter().filter(|name| is_temporary(name)).collect();
        temporary.sort_unstable();
        let layout = Layout::read(&**disk)?;
        let snapshot = layout.base.snapshot.as_ref().map(|it| SnapshotInspection::of(&**disk, it));
        let snapshot = snapshot.transpose()?;
        let mut inspection = Self {
            log_id: layout.log_id,
            lost_records: snapshot.as_ref().map_or(0, |snapshot| snapshot.lost_records),
            declared_lost: layout.base.snapshot.as_ref().map_or(0, |snapshot| snapshot.header.left_out),
            last_lsn: layout.last_lsn,
            proven_lsn: layout.promise,
            torn_bytes: layout.torn_bytes,
            sealed: layout.sealed,
            temporary,
            missing: missing(layout.base.segment, &layout.segments),
            snapshot,
            rejected_snapshots: layout.base.rejected.clone(),
            ..Self::default()
        };
        let mut segments = BTreeMap::new();
        for segment in &layout.segments {
            segments.insert(segment.id, SegmentInspection::new(disk, segment, layout.newest)?);
        }
        for damage in &layout.damage {
            inspection.note(&mut segments, damage.clone(), None, Vec::new());
        }
        inspection.walk(disk, &layout, &mut segments, on_progress)?;
        inspection.segments = segments.into_values().collect();
        Ok(inspection)
    }

    fn walk(
        &mut self,
        disk: &Arc<dyn Disk>,
        layout: &Layout,
        segments: &mut BTreeMap<SegmentId, SegmentInspection>,
        on_progress: Option<&ProgressHook>,
    ) -> StorageResult<()> {
        let bytes_total = layout.bytes();
        let mut walk = LogWalk::new(disk, layout);
        let (mut last_time, mut waiting) = (None, self.damage.len());
        while let Some(step) = walk.next(layout.last_lsn)? {
            match step {
                Step::Record(header) => {
                    self.records += 1;
                    last_time = Some(header.time_us);
                    for found in &mut self.damage[waiting..] {
                        found.before_us = last_time;
                    }
                    waiting = self.damage.len();
                    if let Some((id, _)) = walk.position()
                        && let Some(segment) = segments.get_mut(&id)
                    {
                        segment.add(&header);
                    }
                    if let Some(tell) = on_progress.filter(|_| self.records.is_multiple_of(PROGRESS_RECORDS))
                    {
                        let bytes_done = walk.bytes_done();
                        tell(RecoveryProgress { records: self.records, bytes_done, bytes_total });
                    }
                }
                Step::Gap(_, records) => self.declared_lost += records,
                Step::Damage(damage) => {
                    let remains = layout
                        .segments
                        .iter()
                        .find(|segment| segment.id == damage.segment)
                        .map_or(Ok(Vec::new()), |segment| remains(disk, layout.log_id, segment, &damage))?;
                    self.note(segments, damage, last_time, remains);
                }
            }
        }
        Ok(())
    }

    fn note(
        &mut self,
        segments: &mut BTreeMap<SegmentId, SegmentInspection>,
        damage: Damage,
        after_us: Option<u64>,
        remains: Vec<Remains>,
    ) {
        self.lost_records += damage.lost_records();
        if let Some(segment) = segments.get_mut(&damage.segment) {
            segment.damaged_ranges += 1;
        }
        self.damage.push(DamageInspection { damage, after_us, before_us: None, remains });
    }
}

impl SegmentInspection {
    fn new(disk: &Arc<dyn Disk>, segment: &Segment, newest: Option<SegmentId>) -> StorageResult<Self> {
        let file = segment.id.file_name();
        let measure = |e| StorageError::io("measure", disk.path().join(&file), e);
        Ok(Self {
            id: segment.id,
            file_bytes: segment.file.size().map_err(measure)?,
            file,
            used_bytes: segment.end,
            first_lsn: segment.start,
            last_lsn: segment.start.previous(),
            records: 0,
            time_us: None,
            closed: newest != Some(segment.id),
            damaged_ranges: 0,
        })
    }

    fn add(&mut self, header: &WalEntryHeader) {
        self.records += 1;
        self.last_lsn = header.lsn;
        self.time_us = Some((self.time_us.map_or(header.time_us, |(first, _)| first), header.time_us));
    }
}

/// The runs of numbers between those of segments that are there.
fn missing(first: SegmentId, segments: &[Segment]) -> Vec<(SegmentId, SegmentId)> {
    let mut missing = Vec::new();
    let mut next = first;
    for segment in segments {
        if next < segment.id {
            missing.push((next, segment.id.previous()));
        }
        next = segment.id.next();
    }
    missing
}

/// The records in a damaged range of which the header is whole.
fn remains(
    disk: &Arc<dyn Disk>,
    log_id: u64,
    segment: &Segment,
    damage: &Damage,
) -> StorageResult<Vec<Remains>> {
    let read = |e| StorageError::io("read", disk.path().join(segment.id.file_name()), e);
    let mut scanner = Scanner::new(Arc::clone(&segment.file), log_id, segment.id.low(), damage.end);
    scanner.rewind(damage.offset.next_multiple_of(HEADER_LEN as u64));
    let mut remains = Vec::new();
    while let Some(found) = scanner.next().map_err(read)? {
        let Found::Damaged { at, .. } = found else { continue };
        let mut bytes = [0; HEADER_LEN];
        segment.file.read_full_at(&mut bytes, at).map_err(read)?;
        let Ok(header) = WalEntryHeader::decode(&bytes) else { continue };
        if header.log_id != log_id || header.segment_low != segment.id.low() {
            continue;
        }
        let mut payload = vec![0; header.payload_len as usize];
        let len = segment.file.read_full_at(&mut payload, at + HEADER_LEN as u64).map_err(read)?;
        payload.truncate(len);
        remains.push(Remains { header, payload });
    }
    Ok(remains)
}
