//! From a directory to a log that can be written.
//!
//! Nothing that was synced is rewritten or cut: each start opens a new segment, whose header says where the one
//! before it ends. The records at the end that no promise proves durable may be in the page cache alone (a failed
//! sync leaves such phantoms), so they are copied into the new segment and synced before anyone is shown them. A
//! crash in the middle leaves a temporary file, or a whole new segment: both are starting points like any other.

use std::{collections::BTreeSet, hash::BuildHasher as _, io, sync::Arc, time::Instant};

use super::{
    Lsn, RecoveryMode, RecoveryProgress, RecoveryReport, SECTOR_LEN, SegmentId, WalOptions,
    committer::{ActiveSegment, now_us},
    layout::Layout,
    record::{self, Place, WalEntryHeader, WalEntryType},
    report::SnapshotLoaded,
    segment::{self, SEGMENT_BYTES_MIN, SegmentHeader},
    snapshot::{self, SnapshotStep, SnapshotWalk},
    unnamed::{Unnamed, is_temporary},
    walk::{LogWalk, Step},
};
use crate::{
    StorageError, StorageResult,
    disk::Disk,
    planted::{Defect, planted},
};

/// Damaged segments are kept here, whatever becomes of them in the log.
pub(super) const QUARANTINE: &str = "quarantine";

/// In a small log, so many lost records are tolerated even if they are more than one in a hundred.
const LOST_RECORDS_TOLERATED: u64 = 8;

/// How often progress is told, in records.
const PROGRESS_RECORDS: u64 = 8192;

/// Copies are written in pieces of about this size.
const COPY_BYTES: usize = 1 << 20;

/// A recovered log, ready to be written.
pub(super) struct Recovered {
    pub(super) report: RecoveryReport,
    pub(super) log_id: u64,
    pub(super) next_lsn: Lsn,
    /// The last record that is proven to be on stable storage.
    pub(super) synced_lsn: Lsn,
    pub(super) last_crc: u32,
    pub(super) log_bytes: u64,
    /// The new segment, or why there is none: then the log can only be read.
    pub(super) segment: Result<ActiveSegment, StorageError>,
}

/// Reads the log in `disk`, hands each record to `replay`, those of the snapshot first and then those of the log in order,
/// and opens a new segment. The caller holds the
/// directory's lock.
pub(super) fn recover<E: From<StorageError>>(
    disk: &Arc<dyn Disk>,
    options: &WalOptions,
    mut replay: impl FnMut(&WalEntryHeader, &[u8]) -> Result<(), E>,
) -> Result<Recovered, E> {
    let started = Instant::now();
    let mut layout = Layout::read(&**disk)?;
    if planted(Defect::TailNotSynced) {
        layout.promise = layout.last_lsn;
    }
    let mut replaying = Replay::new(disk, options, &layout);
    replaying.load(&**disk, &layout, &mut replay)?;
    replaying.run(layout.promise, &mut replay)?;
    replaying.judge()?;
    let successor = Successor::new(disk, options, &layout, &replaying.walk);
    let segment = successor.make(replaying.walk.clone(), layout.last_lsn);
    let (segment, last_crc) = match segment {
        Ok((segment, last_crc)) => (Ok(segment), last_crc),
        // Without a log there is nothing to read.
        Err(error) if layout.newest.is_some() && only_reading_is_possible(&error) => {
            replaying.report.read_only = Some(error.to_string());
            (Err(error), 0)
        }
        Err(error) => return Err(error.into()),
    };
    let tail_records = layout.last_lsn.get() - layout.promise.get();
    let proven_records = replaying.report.records;
    replaying.run(layout.last_lsn, &mut replay)?;
    if segment.is_ok() {
        replaying.quarantine(&**disk);
        replaying.trim(&**disk, &layout);
    }
    let mut report = replaying.report;
    if report.records - proven_records != tail_records {
        return Err(successor.changed_while_read(layout.promise.next(), layout.last_lsn).into());
    }
    let synced_lsn = if segment.is_ok() {
        report.copied_records = tail_records;
        layout.last_lsn
    } else {
        report.unproven_records = tail_records;
        layout.promise
    };
    report.took = started.elapsed();
    Ok(Recovered {
        log_id: successor.header.log_id,
        next_lsn: if planted(Defect::LsnReused) { layout.last_lsn } else { layout.last_lsn.next() },
        synced_lsn,
        last_crc,
        log_bytes: report.bytes,
        report,
        segment,
    })
}

/// What a start would find and do.
#[derive(Debug, Clone)]
pub struct RecoveryPlan {
    /// As the start would report it: [`copied_records`](RecoveryReport::copied_records) would be copied, and so on.
    pub report: RecoveryReport,
    /// Why it would refuse to start, in this mode.
    pub refused: Option<String>,
    /// The segment that it would begin.
    pub new_segment: SegmentId,
    /// The first record that it would copy into that segment or write to it.
    pub first_lsn: Lsn,
}

/// What [`recover`] would do, without doing it and without the directory's lock.
pub(super) fn plan(disk: &Arc<dyn Disk>, options: &WalOptions) -> StorageResult<RecoveryPlan> {
    let started = Instant::now();
    let layout = Layout::read(&**disk)?;
    let mut replaying = Replay::new(disk, options, &layout);
    let mut ignore = |_: &WalEntryHeader, _: &[u8]| Ok::<(), StorageError>(());
    replaying.load(&**disk, &layout, &mut ignore)?;
    replaying.run(layout.promise, &mut ignore)?;
    let refused = match replaying.judge() {
        Ok(()) => None,
        Err(StorageError::RecoveryRefused { reason, .. }) => Some(reason),
        Err(error) => return Err(error),
    };
    let proven_records = replaying.report.records;
    replaying.run(layout.last_lsn, &mut ignore)?;
    let mut report = replaying.report;
    report.copied_records = report.records - proven_records;
    report.quarantined = replaying.damaged.iter().map(|id| id.file_name()).collect();
    report.took = started.elapsed();
    let new_segment = layout.newest.map_or(SegmentId::FIRST, SegmentId::next);
    Ok(RecoveryPlan { report, refused, new_segment, first_lsn: layout.promise.next() })
}

/// The pass over all records.
struct Replay<'o> {
    walk: LogWalk,
    report: RecoveryReport,
    /// Of the snapshot and the log.
    bytes_total: u64,
    damaged: BTreeSet<SegmentId>,
    options: &'o WalOptions,
}

impl<'o> Replay<'o> {
    fn new(disk: &Arc<dyn Disk>, options: &'o WalOptions, layout: &Layout) -> Self {
        let mut replay = Self {
            walk: LogWalk::new(disk, layout),
            report: RecoveryReport {
                segments: layout.segments.len() as u64,
                bytes: layout.bytes(),
                last_lsn: layout.last_lsn,
                torn_bytes: layout.torn_bytes,
                clean: layout.sealed,
                rejected_snapshots: layout.base.rejected.clone(),
                ..RecoveryReport::default()
            },
            bytes_total: layout.bytes() + layout.base.snapshot.as_ref().map_or(0, |it| it.header.end),
            damaged: BTreeSet::new(),
            options,
        };
        for rejected in &layout.base.rejected {
            tracing::warn!(file = rejected.file, reason = rejected.reason, "a snapshot is passed over");
        }
        layout.damage.iter().cloned().for_each(|damage| replay.note(damage));
        replay
    }

    /// Hands out what is in the snapshot.
    fn load<E: From<StorageError>>(
        &mut self,
        disk: &dyn Disk,
        layout: &Layout,
        replay: &mut impl FnMut(&WalEntryHeader, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(snapshot) = &layout.base.snapshot else { return Ok(()) };
        let mut walk = SnapshotWalk::new(disk, snapshot);
        let mut loaded = SnapshotLoaded::new(snapshot);
        while let Some(step) = walk.next()? {
            match step {
                SnapshotStep::Record(header) => {
                    replay(&header, walk.payload())?;
                    loaded.records += 1;
                    if loaded.records.is_multiple_of(PROGRESS_RECORDS) {
                        self.tell(loaded.records, walk.position());
                    }
                }
                SnapshotStep::Damage(damage) => {
                    tracing::warn!(%damage, "the snapshot is damaged");
                    loaded.damage.push(damage);
                }
            }
        }
        loaded.lost_records = walk.lost_records();
        loaded.left_out = snapshot.header.left_out;
        self.report.declared_lost += loaded.left_out;
        self.report.lost_records += loaded.lost_records;
        self.report.snapshot = Some(loaded);
        Ok(())
    }

    fn run<E: From<StorageError>>(
        &mut self,
        limit: Lsn,
        replay: &mut impl FnMut(&WalEntryHeader, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(step) = self.walk.next(limit)? {
            match step {
                Step::Damage(damage) => self.note(damage),
                Step::Gap(first, records) => {
                    self.report.declared_lost += records;
                    self.report.add_lost(first, records);
                }
                Step::Record(header) => {
                    replay(&header, self.walk.payload())?;
                    self.report.records += 1;
                    if self.report.records.is_multiple_of(PROGRESS_RECORDS) {
                        let (records, bytes) =
                            self.report.snapshot.as_ref().map_or((0, 0), |it| (it.records, it.bytes));
                        self.tell(records + self.report.records, bytes + self.walk.bytes_done());
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&self, records: u64, bytes_done: u64) {
        if let Some(on_progress) = &self.options.on_progress {
            on_progress(RecoveryProgress { records, bytes_done, bytes_total: self.bytes_total });
        }
    }

    fn note(&mut self, damage: super::Damage) {
        if planted(Defect::DamageUnreported) {
            return;
        }
        tracing::warn!(
            segment = damage.segment.get(),
            offset = damage.offset,
            first_lsn = damage.first_lsn.get(),
            last_lsn = damage.last_lsn.get(),
            lost_records = damage.lost_records(),
            reason = damage.reason,
            "the log is damaged"
        );
        self.damaged.insert(damage.segment);
        self.report.add(damage);
    }

    /// Whether the mode tolerates what was found.
    fn judge(&self) -> StorageResult<()> {
        let (mode, report) = (self.options.recovery, &self.report);
        // What there would be: of the records that a snapshot stands for, those that it has.
        let snapshot = report.snapshot.as_ref().map_or(0, |it| it.records + it.lost_records);
        let base = report.snapshot.as_ref().map_or(Lsn::ZERO, |it| it.lsn);
        let (lost, total) = (report.lost_records, snapshot + report.last_lsn.get() - base.get());
        let is_whole = report.damaged_ranges == 0
            && report.rejected_snapshots.is_empty()
            && report.snapshot.as_ref().is_none_or(|snapshot| snapshot.damage.is_empty());
        let reason = match mode {
            RecoveryMode::Strict if !is_whole || report.torn_bytes > 0 => {
                "the log is damaged or torn, which mode strict does not tolerate".to_owned()
            }
            RecoveryMode::TornTail if lost > 0 => {
                format!("{lost} acknowledged records are damaged, which mode torn-tail does not tolerate")
            }
            RecoveryMode::SkipCorrupt
                if lost > (total / 100).max(LOST_RECORDS_TOLERATED) || lost.saturating_mul(2) > total =>
            {
                format!("{lost} of {total} records are damaged, more than mode skip-corrupt tolerates")
            }
            RecoveryMode::Strict | RecoveryMode::TornTail | RecoveryMode::SkipCorrupt => return Ok(()),
        };
        Err(StorageError::RecoveryRefused { reason, report: Box::new(report.clone()) })
    }

    /// Gives each damaged segment a second name, so that nothing that later cuts the log can remove its bytes.
    fn quarantine(&mut self, disk: &dyn Disk) {
        let damaged = self.damaged.iter().map(|id| id.file_name());
        let rejected = self.report.rejected_snapshots.iter().map(|rejected| rejected.file.clone());
        let snapshot = self.report.snapshot.iter().filter(|it| !it.damage.is_empty());
        let names: Vec<String> = damaged.chain(rejected).chain(snapshot.map(|it| it.file.clone())).collect();
        for name in names {
            match disk.link(&name, &format!("{QUARANTINE}/{name}")) {
                Ok(()) => self.report.quarantined.push(name),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {} // a segment that is missing
                // The segment itself stays where it is: this is no loss, and no reason not to start.
                Err(error) => {
                    tracing::warn!(%error, segment = name, "a damaged segment is not in quarantine");
                }
            }
        }
    }
}

impl Replay<'_> {
    /// Removes what a crash left between the making of a snapshot and the removal of what it stands for.
    fn trim(&self, disk: &dyn Disk, layout: &Layout) {
        let Some(base) = &layout.base.snapshot else { return };
        let is_whole = self.report.snapshot.as_ref().is_some_and(|snapshot| snapshot.damage.is_empty());
        if is_whole && let Err(error) = snapshot::trim(disk, &base.header) {
            tracing::warn!(%error, "files that a snapshot stands for are left");
        }
    }
}

/// The segment to make.
struct Successor<'d> {
    disk: &'d Arc<dyn Disk>,
    header: SegmentHeader,
    segment_bytes: u64,
}

impl<'d> Successor<'d> {
    /// It begins after the last record that is proven durable, where `walk` stands.
    fn new(disk: &'d Arc<dyn Disk>, options: &WalOptions, layout: &Layout, walk: &LogWalk) -> Self {
        let header = match layout.newest {
            None => SegmentHeader {
                log_id: random_log_id(),
                id: SegmentId::FIRST,
                first_lsn: Lsn::FIRST,
                previous_end: 0,
                previous_crc: 0,
                time_us: now_us(),
            },
            Some(newest) => SegmentHeader {
                log_id: layout.log_id,
                id: newest.next(),
                first_lsn: layout.promise.next(),
                // A newest segment that the walk did not come to holds nothing.
                previous_end: walk
                    .position()
                    .filter(|(id, _)| *id == newest)
                    .map_or(SECTOR_LEN as u64, |(_, position)| position),
                previous_crc: walk.crc_of(layout.promise),
                time_us: now_us(),
            },
        };
        Self { disk, header, segment_bytes: options.segment_bytes.min(SEGMENT_BYTES_MIN) }
    }

    /// Makes it, with a copy of the records up to `last_lsn`, and a seal that says that they are durable: by the
    /// time it can be read, they are. Returns the link of the next record, too.
    fn make(&self, mut walk: LogWalk, last_lsn: Lsn) -> StorageResult<(ActiveSegment, u32)> {
        let header = &self.header;
        self.clean_up()?;
        let unnamed = Unnamed::create(self.disk, &header.id.file_name())?;
        let (mut at, mut crc, mut copied) = (SECTOR_LEN as u64, header.previous_crc, 0);
        let mut buffer = Vec::new();
        let mut place = Place {
            log_id: header.log_id,
            segment_low: header.id.low(),
            lsn: header.first_lsn,
            synced_lsn: header.first_lsn.previous(),
            time_us: header.time_us,
            previous_crc: crc,
        };
        while let Some(step) = walk.next(last_lsn)? {
            // Damage that took no record is left behind. Where records are gone, the count below says so.
            let Step::Record(original) = step else { continue };
            copied += 1;
            place = Place { lsn: original.lsn, time_us: original.time_us, previous_crc: crc, ..place };
            crc = record::encode(&mut buffer, &place, original.entry_type, walk.payload());
            if buffer.len() >= COPY_BYTES {
                unnamed.write(&buffer, at)?;
                at += buffer.len() as u64;
                buffer.clear();
            }
        }
        if copied != last_lsn.next().get() - header.first_lsn.get() {
            return Err(self.changed_while_read(header.first_lsn, last_lsn));
        }
        if last_lsn >= header.first_lsn {
            place = Place { lsn: last_lsn, synced_lsn: last_lsn, previous_crc: crc, ..place };
            record::encode(&mut buffer, &place, WalEntryType::Seal, &[]);
        }
        let end = (at + buffer.len() as u64).next_multiple_of(SECTOR_LEN as u64);
        let full_at = end.max(self.segment_bytes);
        buffer.resize(usize::try_from(full_at - at).unwrap_or(buffer.len()), 0);
        unnamed.write(&buffer, at)?;
        let file = segment::publish(unnamed, header)?;
        Ok((ActiveSegment { id: header.id, file, at: end, full_at }, crc))
    }

    /// What was there a moment ago is gone: the cache has let go of bytes that a failed sync left in it alone. They were
    /// never acknowledged, and shown to nobody: the next start finds a log without them.
    fn changed_while_read(&self, first_lsn: Lsn, last_lsn: Lsn) -> StorageError {
        let reason = "the end of the log changed while it was read: start again";
        StorageError::Corrupt { path: self.disk.path().to_path_buf(), offset: 0, first_lsn, last_lsn, reason }
    }

    /// Removes what a crash left half made. It counts for nothing; its space may be what a full disk needs.
    fn clean_up(&self) -> StorageResult<()> {
        let disk = &**self.disk;
        let names = disk.list().map_err(|e| StorageError::io("list", disk.path(), e))?;
        for name in names.iter().filter(|name| is_temporary(name)) {
            if let Err(error) = disk.remove(name) {
                // Not a file, or not to be removed: it counts for nothing all the same.
                tracing::warn!(%error, name, "a temporary file is left");
            }
        }
        Ok(())
    }
}

/// Whether the directory can still be read: it is full, or not to be written to.
fn only_reading_is_possible(error: &StorageError) -> bool {
    match error {
        StorageError::DiskFull { .. } => true,
        StorageError::Io { source, .. } => {
            matches!(source.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
        }
        _ => false,
    }
}

/// Tells this log's records from those of any other. Not a secret, and not 0.
pub(super) fn random_log_id() -> u64 {
    // The standard library seeds each hasher from the operating system's random numbers.
    std::hash::RandomState::new().hash_one(now_us()) | 1
}
