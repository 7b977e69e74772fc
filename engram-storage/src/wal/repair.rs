//! Makes a damaged log sound again, when an operator says that what is lost is lost.
//!
//! A start skips what is damaged, and says so each time. A repair writes down that it is lost: each damaged segment is
//! copied, with a *gap* record over each damaged range that names the numbers that are gone, and the copy takes the
//! segment's name. What stood there keeps a name in `quarantine/`. Each segment changes at one moment, by a rename, so
//! a repair that is interrupted has repaired some of them, and is run again.

use std::sync::Arc;

use super::{
    Damage, Inspection, Lsn, RECORD_LEN_MAX, SECTOR_LEN, SegmentId,
    committer::now_us,
    layout::Layout,
    record::{self, HEADER_LEN, Place, WalEntryType},
    recovery::QUARANTINE,
    segment::{SegmentHeader, Unnamed},
    walk::Segment,
};
use crate::{
    StorageError, StorageResult,
    disk::{Disk, DiskLock},
};

const COPY_BYTES: usize = 1 << 20;
const HEADER_BYTES: u64 = HEADER_LEN as u64;
const SECTOR_BYTES: u64 = SECTOR_LEN as u64;

/// A damaged log, with what it takes to make it sound. Holds the directory's lock.
#[derive(Debug)]
pub struct WalRepair {
    disk: Arc<dyn Disk>,
    inspection: Inspection,
    steps: Vec<Step>,
    log_id: u64,
    lock: Lock,
}

struct Lock(#[expect(dead_code, reason = "held, not used")] DiskLock);

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lock")
    }
}

/// What is done to one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairStep {
    /// The segment.
    pub segment: SegmentId,
    /// The name of its file.
    pub file: String,
    /// The name that its damaged bytes keep; none when the file is missing.
    pub kept: Option<String>,
    /// How many records are declared lost by it.
    pub declared_lost: u64,
}

#[derive(Debug)]
struct Step {
    public: RepairStep,
    action: Action,
}

#[derive(Debug)]
enum Action {
    /// Copies the segment with this header, and closes the gaps.
    Copy { source: Segment, header: SegmentHeader, gaps: Vec<Gap> },
    /// Makes a segment that is missing: a header and a gap.
    Make { header: SegmentHeader, gap: Gap },
    /// Takes away a segment that was begun and holds nothing: its header is damaged.
    Remove,
}

/// The bytes from `start` to `end` become a gap that ends with the record `lsn`.
#[derive(Debug, Clone, Copy)]
struct Gap {
    start: u64,
    end: u64,
    lsn: Lsn,
}

impl WalRepair {
    /// Looks at the log on `disk` and works out what it takes. Changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when a server has the log open; as [`inspect`](super::WalReader::inspect);
    /// [`StorageError::Unrepairable`].
    pub fn new(disk: Arc<dyn Disk>) -> StorageResult<Self> {
        let lock = Lock(super::writer::lock(&*disk)?);
        let inspection = Inspection::of(&disk, None)?;
        let layout = Layout::read(&*disk)?;
        let steps = Planner { disk: &*disk, layout: &layout, inspection: &inspection }.steps()?;
        Ok(Self { disk, inspection, steps, log_id: layout.log_id, lock })
    }

    /// What is in the log before the repair.
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What will be done, in this order; nothing when the log is sound.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &RepairStep> {
        self.steps.iter().map(|step| &step.public)
    }

    /// Does it. Returns what the log looks like then; all of it is on stable storage.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::DiskFull`]: the steps before were done, and the log is as good as before or
    /// better; repair it again when the cause is gone.
    pub fn run(self) -> StorageResult<Inspection> {
        for step in &self.steps {
            if let Some(kept) = &step.public.kept {
                let io = |e| StorageError::write("keep a second name of", self.disk.path().join(kept), e);
                self.disk.link(&step.public.file, kept).map_err(io)?;
            }
            self.act(&step.action, &step.public)?;
        }
        let after = Inspection::of(&self.disk, None)?;
        drop(self.lock);
        Ok(after)
    }

    fn act(&self, action: &Action, step: &RepairStep) -> StorageResult<()> {
        match action {
            Action::Copy { source, header, gaps } => {
                let unnamed = self.begin(step.segment)?;
                self.copy(source, &unnamed)?;
                for gap in gaps {
                    unnamed.write(&gap.bytes(self.log_id, step.segment), gap.start)?;
                }
                unnamed.publish(header).map(drop)
            }
            Action::Make { header, gap } => {
                let unnamed = self.begin(step.segment)?;
                unnamed.write(&gap.bytes(self.log_id, step.segment), gap.start)?;
                unnamed.publish(header).map(drop)
            }
            Action::Remove => {
                let removed = self.disk.remove(&step.file).and_then(|()| self.disk.sync_dir());
                removed.map_err(|e| StorageError::io("remove", self.disk.path().join(&step.file), e))
            }
        }
    }

    fn begin(&self, id: SegmentId) -> StorageResult<Unnamed> {
        // What an interrupted repair left.
        drop(self.disk.remove(&Unnamed::temporary_name(id)));
        Unnamed::create(&self.disk, id)
    }

    fn copy(&self, source: &Segment, unnamed: &Unnamed) -> StorageResult<()> {
        let read = |e| StorageError::io("read", self.disk.path().join(source.id.file_name()), e);
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            let len = source.file.read_full_at(&mut buffer, at).map_err(read)?;
            if len == 0 {
                return Ok(());
            }
            unnamed.write(&buffer[..len], at)?;
            at += len as u64;
        }
    }
}

impl Gap {
    /// Zeros up to where a record can start, and gap records up to the end.
    fn bytes(&self, log_id: u64, segment: SegmentId) -> Vec<u8> {
        let place = Place {
            log_id,
            segment,
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
struct Planner<'a> {
    disk: &'a dyn Disk,
    layout: &'a Layout,
    inspection: &'a Inspection,
}

impl Planner<'_> {
    fn steps(&self) -> StorageResult<Vec<Step>> {
        let mut steps = Vec::new();
        let mut damaged: Vec<SegmentId> = self.damage().map(|damage| damage.segment).collect();
        damaged.sort_unstable();
        damaged.dedup();
        for id in damaged {
            let missing_before = self.damage().find(|damage| damage.segment == id && damage.end == 0);
            let absent =
                missing_before.filter(|_| id != SegmentId::FIRST && self.segment(id.previous()).is_none());
            if let Some(damage) = absent {
                steps.push(self.make(id, damage)?);
            }
            match self.segment(id) {
                None => steps.push(Self::step(id, 0, true, Action::Remove)),
                Some(segment) => {
                    steps.extend(self.copy(segment, missing_before.filter(|_| absent.is_none()))?);
                }
            }
        }
        Ok(steps)
    }

    fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.inspection.damage.iter().map(|found| &found.damage)
    }

    fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.layout.segments.iter().find(|segment| segment.id == id)
    }

    fn step(segment: SegmentId, declared_lost: u64, is_there: bool, action: Action) -> Step {
        let file = segment.file_name();
        let kept = is_there.then(|| format!("{QUARANTINE}/{file}.{}", now_us()));
        Step { public: RepairStep { segment, file, kept, declared_lost }, action }
    }

    /// A copy of a segment, where there is something to close in it.
    fn copy(&self, segment: &Segment, missing_before: Option<&Damage>) -> StorageResult<Option<Step>> {
        let id = segment.id;
        let inside: Vec<&Damage> = self.damage().filter(|d| d.segment == id && d.end > 0).collect();
        if inside.is_empty() && missing_before.is_none() {
            return Ok(None);
        }
        let mut sector = [0; SECTOR_LEN];
        let read = |e| StorageError::io("read", self.disk.path().join(id.file_name()), e);
        segment.file.read_full_at(&mut sector, 0).map_err(read)?;
        let whole = SegmentHeader::decode(&sector).ok();
        let whole = whole.filter(|header| header.id == id && header.log_id == self.layout.log_id);
        let first_lsn = missing_before.map_or(segment.start, |damage| damage.first_lsn.min(segment.start));
        let header = whole.unwrap_or_else(|| self.header(id, first_lsn));
        let mut gaps = Vec::new();
        for damage in inside.iter().filter(|damage| damage.offset >= SECTOR_BYTES) {
            gaps.push(self.gap(segment, damage)?);
        }
        if missing_before.is_some() && (gaps.is_empty() || header.first_lsn != first_lsn) {
            return Err(
                self.unrepairable(id, "records are missing before its first, and there is no room to say so")
            );
        }
        let declared_lost = inside.iter().copied().chain(missing_before).map(Damage::lost_records).sum();
        Ok(Some(Self::step(id, declared_lost, true, Action::Copy { source: segment.clone(), header, gaps })))
    }

    /// The bytes of a damaged range, from one sector to the other of what is whole.
    fn gap(&self, segment: &Segment, damage: &Damage) -> StorageResult<Gap> {
        let is_last = self.layout.segments.last().is_some_and(|last| last.id == segment.id);
        let lsn = if damage.lost_records() > 0 { damage.last_lsn } else { damage.first_lsn.previous() };
        let begins = damage.offset.next_multiple_of(HEADER_BYTES);
        let mut end = damage.end.max(begins);
        if damage.end >= segment.end && is_last {
            // The log ends here: there is room behind.
            end = end.max(begins + HEADER_BYTES).next_multiple_of(HEADER_BYTES);
        }
        if damage.lost_records() > 0 && end < begins + HEADER_BYTES {
            let reason = "records are missing between two that are whole, and there is no room to say so";
            return Err(self.unrepairable(segment.id, reason));
        }
        Ok(Gap { start: damage.offset, end, lsn })
    }

    /// The segment that is missing before `id`.
    fn make(&self, id: SegmentId, damage: &Damage) -> StorageResult<Step> {
        let named_end = self.segment(id).and_then(|segment| {
            let mut sector = [0; SECTOR_LEN];
            segment.file.read_full_at(&mut sector, 0).ok()?;
            let header = SegmentHeader::decode(&sector).ok()?;
            (header.id == id && header.log_id == self.layout.log_id).then_some(header.previous_end)
        });
        let (made, end) = match named_end {
            // The one before held nothing: what is missing was before it.
            Some(end) if end <= SECTOR_BYTES => (id.previous().previous(), 2 * SECTOR_BYTES),
            Some(end) => (id.previous(), end),
            None => (id.previous(), 2 * SECTOR_BYTES),
        };
        if made >= id || self.segment(made).is_some() {
            return Err(self.unrepairable(id, "records before it are missing, and no segment that held them"));
        }
        let gap = Gap { start: SECTOR_BYTES, end, lsn: damage.last_lsn };
        let header = self.header(made, damage.first_lsn);
        Ok(Self::step(made, damage.lost_records(), false, Action::Make { header, gap }))
    }

    /// A header that replaces one that is lost.
    fn header(&self, id: SegmentId, first_lsn: Lsn) -> SegmentHeader {
        let before = self.segment(id.previous()).filter(|before| before.id < id);
        let previous_end = before.map_or(if id == SegmentId::FIRST { 0 } else { SECTOR_BYTES }, |s| s.end);
        SegmentHeader {
            log_id: self.layout.log_id,
            id,
            first_lsn,
            previous_end,
            previous_crc: 0,
            time_us: now_us(),
        }
    }

    fn unrepairable(&self, id: SegmentId, reason: &str) -> StorageError {
        StorageError::Unrepairable { path: self.disk.path().join(id.file_name()), reason: reason.to_owned() }
    }
}
