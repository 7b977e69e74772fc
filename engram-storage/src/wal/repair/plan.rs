//! What it takes to make a damaged log sound.

use super::{QUARANTINE, RepairStep};
use crate::{
    StorageError, StorageResult,
    disk::Disk,
    wal::{
        Damage, Inspection, Lsn, RECORD_LEN_MAX, SECTOR_LEN, SEGMENT_BYTES_DEFAULT, SegmentId,
        committer::now_us,
        layout::Layout,
        record::{self, HEADER_LEN, Place, WalEntryType},
        segment::SegmentHeader,
        snapshot::{RejectedSnapshot, Snapshot, SnapshotInspection},
        walk::Segment,
    },
};

const HEADER_BYTES: u64 = HEADER_LEN as u64;
const SECTOR_BYTES: u64 = SECTOR_LEN as u64;

/// What is closed by a gap is as long as it was, but not longer than segments are.
const GAP_BYTES_MAX: u64 = 4 * SEGMENT_BYTES_DEFAULT;

#[derive(Debug)]
pub(super) struct Step {
    pub(super) public: RepairStep,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    /// Copies the segment with this header, and closes the gaps.
    Copy { source: Segment, header: SegmentHeader, gaps: Vec<Gap> },
    /// Makes a segment that is missing: a header and a gap. Without a gap it holds nothing.
    Make { header: SegmentHeader, gap: Option<Gap> },
    /// Takes away a segment that was begun and holds nothing (its header is damaged), or a snapshot that cannot be used.
    Remove,
    /// Writes the snapshot anew, with what of it is whole.
    Rewrite(Snapshot),
}

/// The bytes from `start` to `end` become a gap that ends with the record `lsn`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) start: u64,
    end: u64,
    lsn: Lsn,
}

impl Gap {
    /// Zeros up to where a record can start, and gap records up to the end.
    pub(super) fn bytes(&self, log_id: u64, segment: SegmentId) -> Vec<u8> {
        let place = Place {
            log_id,
            segment_low: segment.low(),
            lsn: self.lsn,
            synced_lsn: self.lsn,
            time_us: now_us(),
            previous_crc: 0, // what it follows may be gone, too
        };
        let begins = self.start.next_multiple_of(HEADER_BYTES).min(self.end);
        let (mut left, mut bytes) = (self.end - begins, Vec::new());
        while left >= HEADER_BYTES {
            let payload = usize::try_from(left - HEADER_BYTES).unwrap_or(usize::MAX).min(RECORD_LEN_MAX);
            record::encode(&mut bytes, &place, WalEntryType::Gap, &vec![0; payload]);
            left = left.saturating_sub((HEADER_LEN + payload.next_multiple_of(HEADER_LEN)) as u64);
        }
        let zeros = usize::try_from(begins - self.start).unwrap_or_default();
        bytes.splice(0..0, std::iter::repeat_n(0, zeros));
        bytes
    }
}

/// Works out the steps.
pub(super) struct Planner<'a> {
    disk: &'a dyn Disk,
    layout: &'a Layout,
    snapshot: Option<&'a SnapshotInspection>,
    /// In the segments in which it is mended.
    damage: Vec<Damage>,
}

impl<'a> Planner<'a> {
    /// Records that are missing before a segment are declared lost at the end of the one before, where there is one: there
    /// is room for that, and none in front of the first record that is whole.
    pub(super) fn new(disk: &'a dyn Disk, layout: &'a Layout, inspection: &'a Inspection) -> Self {
        let mut planner = Self { disk, layout, snapshot: inspection.snapshot.as_ref(), damage: Vec::new() };
        for found in &inspection.damage {
            let damage = found.damage.clone();
            let before =
                planner.segment(damage.segment.previous()).filter(|before| before.id < damage.segment);
            let Some((before, at)) = before.filter(|_| damage.end == 0).map(|before| (before.id, before.end))
            else {
                planner.damage.push(damage);
                continue;
            };
            match planner.damage.iter_mut().find(|d| d.segment == before && d.end > 0 && d.end >= at) {
                Some(last) => last.last_lsn = damage.last_lsn,
                None => planner.damage.push(Damage { segment: before, offset: at, end: at, ..damage }),
            }
        }
        planner
    }

    pub(super) fn steps(&self) -> StorageResult<Vec<Step>> {
        let mut steps = self.snapshots();
        let mut damaged: Vec<SegmentId> = self.damage().map(|damage| damage.segment).collect();
        damaged.sort_unstable();
        damaged.dedup();
        for id in damaged {
            let missing_before = self.damage().find(|damage| damage.segment == id && damage.end == 0);
            let absent = missing_before
                .filter(|_| id != self.layout.base.segment && self.segment(id.previous()).is_none());
            let mut made_end = None;
            if let Some(damage) = absent {
                let (step, end) = self.make(id, damage)?;
                steps.push(step);
                made_end = Some(end);
            }
            match self.segment(id) {
                // A snapshot is of use only with a segment that goes on after it.
                None if self.layout.base.snapshot.is_some() && self.layout.segments.is_empty() => {
                    let header = self.header(id, self.layout.base.lsn.next(), None)?;
                    steps.push(Self::step(id, 0, true, Action::Make { header, gap: None }));
                }
                None => steps.push(Self::step(id, 0, true, Action::Remove)),
                Some(segment) => {
                    steps.extend(self.copy(
                        segment,
                        missing_before.filter(|_| absent.is_none()),
                        made_end,
                    )?);
                }
            }
        }
        Ok(steps)
    }

    /// What is done about snapshots: before the segments, since the log is read on one of them.
    fn snapshots(&self) -> Vec<Step> {
        let kept = |file: &str| Some(format!("{QUARANTINE}/{file}.{}", now_us()));
        let remove = |rejected: &RejectedSnapshot| {
            let file = rejected.file.clone();
            Step { public: RepairStep { kept: kept(&file), file, declared_lost: 0 }, action: Action::Remove }
        };
        let damaged = self.snapshot.iter().filter(|snapshot| !snapshot.damage.is_empty());
        let rewrite = damaged.zip(&self.layout.base.snapshot).map(|(found, snapshot)| Step {
            public: RepairStep {
                file: found.file.clone(),
                kept: kept(&found.file),
                declared_lost: found.lost_records,
            },
            action: Action::Rewrite(snapshot.clone()),
        });
        self.layout.base.rejected.iter().map(remove).chain(rewrite).collect()
    }

    fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.damage.iter()
    }

    fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.layout.segments.iter().find(|segment| segment.id == id)
    }

    fn step(segment: SegmentId, declared_lost: u64, is_there: bool, action: Action) -> Step {
        let file = segment.file_name();
        let kept = is_there.then(|| format!("{QUARANTINE}/{file}.{}", now_us()));
        Step { public: RepairStep { file, kept, declared_lost }, action }
    }

    /// A copy of a segment, where there is something to close in it.
    /// `made_end` is where the segment before it ends, where that one is made.
    fn copy(
        &self,
        segment: &Segment,
        missing_before: Option<&Damage>,
        made_end: Option<u64>,
    ) -> StorageResult<Option<Step>> {
        let id = segment.id;
        let inside: Vec<&Damage> = self.damage().filter(|d| d.segment == id && d.end > 0).collect();
        if inside.is_empty() && missing_before.is_none() {
            return Ok(None);
        }
        let first_lsn = missing_before.map_or(segment.start, |damage| damage.first_lsn.min(segment.start));
        let header = match self.whole_header(segment)? {
            Some(header) => header,
            None => self.header(id, first_lsn, made_end)?,
        };
        let mut gaps = Vec::new();
        for damage in inside.iter().filter(|damage| damage.offset >= SECTOR_BYTES) {
            gaps.push(self.gap(segment, damage)?);
        }
        let is_room =
            gaps.first().is_some_and(|gap| gap.start == SECTOR_BYTES) && header.first_lsn == first_lsn;
        if missing_before.is_some() && !is_room {
            return Err(
                self.unrepairable(id, "records are missing before its first, and there is no room to say so")
            );
        }
        let declared_lost = inside.iter().copied().chain(missing_before).map(Damage::lost_records).sum();
        Ok(Some(Self::step(id, declared_lost, true, Action::Copy { source: segment.clone(), header, gaps })))
    }

    /// The bytes of a damaged range, from one sector to the other of what is whole.
    fn gap(&self, segment: &Segment, damage: &Damage) -> StorageResult<Gap> {
        let next = self.segment(segment.id.next());
        let is_bounded = next.map_or(Ok(None), |next| self.whole_header(next))?.is_some();
        let lsn = if damage.lost_records() > 0 { damage.last_lsn } else { damage.first_lsn.previous() };
        let begins = damage.offset.next_multiple_of(HEADER_BYTES);
        let mut end = damage.end.max(begins);
        if damage.end >= segment.end && !is_bounded {
            // No header says where it ends, or one that is made anew: there is room behind.
            end = end.max(begins + HEADER_BYTES).next_multiple_of(HEADER_BYTES);
        }
        if damage.lost_records() > 0 && end < begins + HEADER_BYTES {
            let reason = "records are missing between two that are whole, and there is no room to say so";
            return Err(self.unrepairable(segment.id, reason));
        }
        self.check_len(segment.id, end - damage.offset)?;
        Ok(Gap { start: damage.offset, end, lsn })
    }

    /// The segment that is missing before `id`, and where it will end.
    fn make(&self, id: SegmentId, damage: &Damage) -> StorageResult<(Step, u64)> {
        let header = self.segment(id).map_or(Ok(None), |segment| self.whole_header(segment))?;
        let named_end = header.map(|header| header.previous_end);
        let (made, end) = match named_end {
            // The one before held nothing: what is missing was before it.
            Some(end) if end <= SECTOR_BYTES => (id.previous().previous(), 2 * SECTOR_BYTES),
            Some(end) => (id.previous(), end),
            None => (id.previous(), 2 * SECTOR_BYTES),
        };
        self.check_len(id, end)?;
        if made >= id || made < self.layout.base.segment || self.segment(made).is_some() {
            return Err(self.unrepairable(id, "records before it are missing, and no segment that held them"));
        }
        let gap = Gap { start: SECTOR_BYTES, end, lsn: damage.last_lsn };
        let header = self.header(made, damage.first_lsn, None)?;
        Ok((Self::step(made, damage.lost_records(), false, Action::Make { header, gap: Some(gap) }), end))
    }

    /// The header of a segment, if it is whole and this segment's.
    fn whole_header(&self, segment: &Segment) -> StorageResult<Option<SegmentHeader>> {
        let mut sector = [0; SECTOR_LEN];
        let read = |e| StorageError::io("read", self.disk.path().join(segment.id.file_name()), e);
        segment.file.read_full_at(&mut sector, 0).map_err(read)?;
        let whole = SegmentHeader::decode(&sector).ok();
        Ok(whole.filter(|header| header.id == segment.id && header.log_id == self.layout.log_id))
    }

    /// A header that replaces one that is lost. It says where the segment before ends when that is repaired, too.
    fn header(&self, id: SegmentId, first_lsn: Lsn, made_end: Option<u64>) -> StorageResult<SegmentHeader> {
        let before = self.segment(id.previous()).filter(|before| before.id < id);
        let previous_end = match (made_end, before) {
            (Some(end), _) => end,
            (None, Some(before)) => self.repaired_end(before)?,
            (None, None) if id == self.layout.base.segment => 0,
            (None, None) => SECTOR_BYTES,
        };
        Ok(SegmentHeader {
            log_id: self.layout.log_id,
            id,
            first_lsn,
            previous_end,
            previous_crc: 0,
            time_us: now_us(),
        })
    }

    /// Where a segment ends with the gaps that are closed in it.
    fn repaired_end(&self, segment: &Segment) -> StorageResult<u64> {
        let inside =
            self.damage().filter(|d| d.segment == segment.id && d.end > 0 && d.offset >= SECTOR_BYTES);
        let ends = inside.map(|damage| self.gap(segment, damage).map(|gap| gap.end));
        ends.collect::<StorageResult<Vec<u64>>>().map(|ends| ends.into_iter().fold(segment.end, u64::max))
    }

    fn check_len(&self, id: SegmentId, bytes: u64) -> StorageResult<()> {
        if bytes <= GAP_BYTES_MAX {
            return Ok(());
        }
        Err(self.unrepairable(id, &format!("what is missing there is said to be {bytes} bytes long")))
    }

    fn unrepairable(&self, id: SegmentId, reason: &str) -> StorageError {
        StorageError::Unrepairable { path: self.disk.path().join(id.file_name()), reason: reason.to_owned() }
    }
}
