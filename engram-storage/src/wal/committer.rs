//! The writer thread: one write and one sync a group, acknowledgements in the order of the log.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Commit, Durability, FsyncMode, Lsn, SECTOR_LEN, SegmentId,
    options::FailureHook,
    queue::{Queue, Request, Taken},
    record::{self, Place, WalEntry, WalEntryType},
    segment::{self, SEGMENT_BYTES_MIN, SPARE_NAME, SegmentHeader},
    snapshot::Point,
    spare::Spare,
    unnamed::Unnamed,
};
use crate::{
    StorageError, StorageMetrics, StorageResult,
    disk::{Disk, DiskFile},
    planted::{Defect, planted},
    sync::Instant,
};

/// How much space there must be for a disk not to be full any more.
const SPACE_PROBE_BYTES: usize = 64 << 10;

/// The segment that is written to.
pub(super) struct ActiveSegment {
    pub(super) id: SegmentId,
    pub(super) file: Box<dyn DiskFile>,
    /// Where the next group goes; a multiple of the sector length.
    pub(super) at: u64,
    /// The size at which it is full.
    pub(super) full_at: u64,
}

/// What the thread owns: nobody else writes, and nobody else knows where.
pub(super) struct Committer {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: Arc<StorageMetrics>,
    pub(super) on_failure: Option<FailureHook>,
    pub(super) spare: Option<Spare>,
    pub(super) mode: FsyncMode,
    pub(super) log_id: u64,
    pub(super) segment: ActiveSegment,
    /// The size of a full segment in a large log.
    pub(super) segment_bytes: u64,
    /// Bytes of the whole log, which the next segment's size follows.
    pub(super) log_bytes: u64,
    pub(super) next_lsn: Lsn,
    /// The last record on stable storage.
    pub(super) synced_lsn: Lsn,
    pub(super) last_crc: u32,
    /// When the oldest record that is not synced was written.
    pub(super) unsynced_since: Option<Instant>,
    /// The bytes of the group that is being written; kept for its allocation.
    pub(super) buffer: Vec<u8>,
}

impl Committer {
    /// Serves the queue until it is closed and empty, or a failure ends writing.
    ///
    /// # Errors
    /// The failure, or that of the last sync.
    pub(super) fn run(mut self) -> StorageResult<()> {
        let queue = Arc::clone(&self.queue);
        self.want_spare();
        let group_max = if self.mode == FsyncMode::PerWrite { 1 } else { usize::MAX };
        let mut group = Vec::new();
        loop {
            let result = match queue.take(group_max, self.sync_deadline(), &mut group) {
                Taken::Group => self.commit(&mut group),
                Taken::TimedOut => self.sync(),
                Taken::Closed => break,
            };
            if let Err(error) = result {
                return Err(self.poison(error, &mut group));
            }
        }
        self.end().map_err(|error| self.poison(error, &mut group))
    }

    /// Ends the log with a seal, in a segment of its own: that one's header says where the records end, so that
    /// nothing of them can go missing unnoticed.
    fn end(&mut self) -> StorageResult<()> {
        self.sync()?;
        self.spare = None;
        if self.segment.at > SECTOR_LEN as u64 {
            match self.rotate() {
                Ok(()) => {}
                Err(error) if error.is_disk_full() => {
                    tracing::warn!(%error, "no space for a segment that says where the log ends");
                }
                Err(error) => return Err(error),
            }
        }
        self.seal()
    }

    /// Writes a group, syncs it as the mode says, and answers its requests. Those that an error leaves in `group`
    /// are the caller's to answer.
    fn commit(&mut self, group: &mut Vec<Request>) -> StorageResult<()> {
        if let [Request::Cut { .. }] = group[..] {
            return self.cut(group);
        }
        let first_lsn = self.next_lsn;
        let (mut appends, mut sync_asked) = (0, false);
        for request in group.iter() {
            match request {
                Request::Append { .. } => appends += 1,
                Request::Sync { .. } => sync_asked = true,
                Request::Cut { .. } => {} // is alone
            }
        }
        if planted(Defect::AckBeforeWrite) {
            self.answer_early(group);
        }
        let written = if appends == 0 { Ok(()) } else { self.write_group(group) };
        let disk_full = match written {
            Ok(()) => None,
            Err(error) if error.is_disk_full() => Some(error),
            Err(error) => return Err(error),
        };
        if let Some(error) = &disk_full {
            if !self.metrics.disk_full.swap(true, Relaxed) {
                tracing::warn!(%error, "the disk is full: writes are refused until there is space");
            }
            // The failed group may have left valid records, which must not come back. A seal over the first of them and
            // a new segment cut them off; where there is no room for one now, the next group tries again.
            if self.segment.full_at != 0 {
                self.sync()?;
                self.seal()?;
                self.segment.full_at = 0;
            }
            self.rotate().or_else(|error| if error.is_disk_full() { Ok(()) } else { Err(error) })?;
        }
        if self.mode.syncs_before_acknowledging() || sync_asked || self.sync_is_due() {
            self.sync()?;
        }
        if self.metrics.disk_full.load(Relaxed) && disk_full.is_none() && (appends > 0 || self.has_space()?) {
            self.metrics.disk_full.store(false, Relaxed);
            tracing::info!("there is space again: writes are taken");
        }
        self.answer(group, first_lsn, disk_full.as_ref());
        Ok(())
    }

    /// Ends the segment, unless it is empty, so that what comes next begins one.
    fn cut(&mut self, group: &mut Vec<Request>) -> StorageResult<()> {
        let began_at = SECTOR_LEN as u64;
        // The log before here is to go: what comes is as small as a new log.
        let log_bytes = std::mem::replace(&mut self.log_bytes, began_at);
        let is_empty = self.segment.at == began_at && self.segment.full_at != 0;
        let cut = if is_empty { Ok(()) } else { self.rotate_to(self.next_segment_bytes()) };
        let outcome = match cut {
            Ok(()) => {
                let (log_id, segment) = (self.log_id, self.segment.id);
                Ok(Point { log_id, lsn: self.next_lsn.previous(), segment })
            }
            Err(error) if error.is_disk_full() => {
                self.log_bytes = log_bytes;
                Err(error)
            }
            Err(error) => return Err(error),
        };
        for request in group.drain(..) {
            match (request, &outcome) {
                (Request::Cut { done }, Ok(point)) => done(Ok(*point)),
                (request, Err(error)) => request.fail(error.clone()),
                (request, Ok(_)) => request.fail(StorageError::Closed), // is alone
            }
        }
        Ok(())
    }

    /// Answers in the order of the log: whoever sees an answer sees all before it.
    fn answer(&self, group: &mut Vec<Request>, mut lsn: Lsn, disk_full: Option<&StorageError>) {
        let durability =
            if self.mode.syncs_before_acknowledging() { Durability::Synced } else { Durability::Written };
        for request in group.drain(..) {
            match (request, disk_full) {
                (Request::Sync { done }, _) => done(Ok(())),
                (request @ Request::Cut { .. }, _) => request.fail(StorageError::Closed), // is alone
                (Request::Append { entry, done, .. }, Some(error)) => {
                    self.metrics.failed_appends.fetch_add(1, Relaxed);
                    done(&entry, Err(error.clone()));
                }
                (Request::Append { entry, submitted, done }, None) => {
                    self.metrics.appends.fetch_add(1, Relaxed);
                    self.metrics.payload_bytes.fetch_add(entry.payload.len() as u64, Relaxed);
                    done(&entry, Ok(Commit { lsn, durability }));
                    // With what the answer has done, which those after it wait for, too.
                    self.metrics.commit_latency_us.record_latency(submitted.elapsed());
                    lsn = lsn.next();
                }
            }
        }
    }

    /// What [`Defect::AckBeforeWrite`] does: everybody is answered, and what is written is a copy.
    fn answer_early(&self, group: &mut Vec<Request>) {
        let copies = group.iter().map(|request| match request {
            Request::Append { entry, submitted, .. } => {
                let (entry, submitted) = (entry.clone(), *submitted);
                Request::Append { entry, submitted, done: Box::new(|_, _| {}) }
            }
            Request::Sync { .. } | Request::Cut { .. } => Request::Sync { done: Box::new(|_| {}) },
        });
        let mut originals = std::mem::replace(group, copies.collect());
        self.answer(&mut originals, self.next_lsn, None);
    }

    /// Writes the group's records with one write. Takes their numbers only when that worked.
    fn write_group(&mut self, group: &[Request]) -> StorageResult<()> {
        if self.is_segment_full() {
            self.rotate()?;
        }
        let entries = group.iter().filter_map(|request| match request {
            Request::Append { entry, .. } => Some(entry),
            Request::Sync { .. } | Request::Cut { .. } => None,
        });
        self.buffer.clear();
        let time_us = now_us();
        let (mut lsn, mut crc, mut records) = (self.next_lsn, self.last_crc, 0);
        for WalEntry { entry_type, payload } in entries {
            let place = self.place(lsn, crc, time_us);
            crc = record::encode(&mut self.buffer, &place, *entry_type, payload);
            lsn = lsn.next();
            records += 1;
        }
        self.write_buffer("write")?;
        (self.next_lsn, self.last_crc) = (lsn, crc);
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.metrics.written_lsn.store(lsn.previous().get(), Relaxed);
        self.metrics.batch_sizes.record(records);
        Ok(())
    }

    /// Whether the disk takes a little more, after it was full: zeros made ahead, which count for nothing. So who asks
    /// for a sync learns of new space without a write.
    fn has_space(&mut self) -> StorageResult<bool> {
        let tried = if self.segment.full_at == 0 { self.rotate() } else { Ok(()) };
        let tried = tried.and_then(|()| {
            let zeros = vec![0; SPACE_PROBE_BYTES];
            let written = self.segment.file.write_all_at(&zeros, self.segment.at);
            written.map_err(|e| StorageError::write("write ahead in", self.segment_path(), e))
        });
        match tried {
            Ok(()) => Ok(true),
            Err(error) if error.is_disk_full() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn place(&self, lsn: Lsn, previous_crc: u32, time_us: u64) -> Place {
        let synced_lsn = if planted(Defect::PromiseStuck) { Lsn::ZERO } else { self.synced_lsn };
        let (log_id, segment_low) = (self.log_id, self.segment.id.low());
        Place { log_id, segment_low, lsn, synced_lsn, time_us, previous_crc }
    }

    /// Writes the buffer, up to the next sector, as a group of its own.
    fn write_buffer(&mut self, operation: &'static str) -> StorageResult<()> {
        if !planted(Defect::SectorShared) {
            self.buffer.resize(self.buffer.len().next_multiple_of(SECTOR_LEN), 0);
        }
        let (file, at) = (&self.segment.file, self.segment.at);
        file.write_all_at(&self.buffer, at)
            .map_err(|e| StorageError::write(operation, self.segment_path(), e))?;
        let len = self.buffer.len() as u64;
        self.segment.at += len;
        self.log_bytes += len;
        self.metrics.written_bytes.fetch_add(len, Relaxed);
        Ok(())
    }

    /// Makes everything written durable. A failure is final.
    fn sync(&mut self) -> StorageResult<()> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        let started = Instant::now();
        self.sync_file()?;
        self.metrics.sync_latency_us.record_latency(started.elapsed());
        self.unsynced_since = None;
        self.synced_lsn = self.next_lsn.previous();
        self.metrics.synced_lsn.store(self.synced_lsn.get(), Relaxed);
        Ok(())
    }

    fn sync_file(&self) -> StorageResult<()> {
        if planted(Defect::NoFsync) {
            return Ok(());
        }
        let mut synced = self.segment.file.sync();
        if planted(Defect::FsyncRetried) {
            synced = synced.or_else(|_| self.segment.file.sync());
        }
        if planted(Defect::ErrorSwallowed) {
            synced = Ok(());
        }
        synced.map_err(|e| StorageError::io("sync", self.segment_path(), e))
    }

    fn sync_deadline(&self) -> Option<Instant> {
        match self.mode {
            FsyncMode::Timer(interval) => self.unsynced_since?.checked_add(interval),
            FsyncMode::PerWrite | FsyncMode::PerBatch | FsyncMode::None => None,
        }
    }

    fn sync_is_due(&self) -> bool {
        self.sync_deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether the next group belongs into a new segment. One that is full goes on growing while the next one is
    /// still being filled, up to twice its size: growing costs a slower sync, waiting would stop all writers.
    fn is_segment_full(&self) -> bool {
        let (at, full_at) = (self.segment.at, self.segment.full_at);
        let spare_coming = self.spare.as_ref().is_some_and(|spare| !spare.is_ready());
        at >= full_at
            && (!spare_coming || at >= full_at.max(self.segment_bytes).saturating_mul(2) || full_at == 0)
    }

    /// Goes on in a new segment.
    fn rotate(&mut self) -> StorageResult<()> {
        self.rotate_to(u64::MAX)
    }

    /// Goes on in a new segment; in the one made ready, if that is not longer.
    fn rotate_to(&mut self, bytes_max: u64) -> StorageResult<()> {
        // Invariant: all before the new segment's first record is durable before its header is.
        self.sync()?;
        let id = self.segment.id.next();
        let (unnamed, full_at) = match self.spare.as_ref().and_then(|spare| spare.take(bytes_max)) {
            Some(filled) => (Unnamed::from_file(&self.disk, SPARE_NAME, filled.file), filled.bytes),
            None => (Unnamed::create(&self.disk, &id.file_name())?, self.next_segment_bytes()),
        };
        let file = segment::publish(
            unnamed,
            &SegmentHeader {
                log_id: self.log_id,
                id,
                first_lsn: self.next_lsn,
                previous_end: self.segment.at,
                previous_crc: self.last_crc,
                time_us: now_us(),
            },
        )?;
        self.segment = ActiveSegment { id, file, at: SECTOR_LEN as u64, full_at };
        self.log_bytes += SECTOR_LEN as u64;
        self.metrics.rotations.fetch_add(1, Relaxed);
        self.want_spare();
        Ok(())
    }

    /// Segments grow with the log.
    fn next_segment_bytes(&self) -> u64 {
        self.log_bytes
            .next_power_of_two()
            .clamp(SEGMENT_BYTES_MIN.min(self.segment_bytes), self.segment_bytes)
    }

    fn want_spare(&self) {
        if let Some(spare) = &self.spare {
            spare.want(self.next_segment_bytes());
        }
    }

    /// Ends the log with the proof that all of it is durable.
    fn seal(&mut self) -> StorageResult<()> {
        self.buffer.clear();
        let place = self.place(self.next_lsn.previous(), self.last_crc, now_us());
        record::encode(&mut self.buffer, &place, WalEntryType::Seal, &[]);
        match self.write_buffer("seal") {
            Ok(()) => self.sync_file(),
            Err(error) if error.is_disk_full() => {
                // All records are synced: the seal only helps to tell later damage from a torn tail.
                tracing::warn!(%error, "no space for a seal");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Ends writing: the group and all that waits get the error, nothing is acknowledged any more.
    fn poison(&mut self, cause: StorageError, group: &mut Vec<Request>) -> StorageError {
        let poisoned = StorageError::Poisoned { cause: Arc::new(cause) };
        tracing::error!(error = %poisoned, "the log has failed");
        self.metrics.poisoned.store(true, Relaxed);
        self.metrics.failed_appends.fetch_add(group.len() as u64, Relaxed);
        // Who comes meanwhile waits until all before are answered: answers stay in the order of submission.
        let waiting = self.queue.hold();
        for request in group.drain(..).chain(waiting) {
            request.fail(poisoned.clone());
        }
        self.queue.fail(&poisoned);
        if let Some(on_failure) = &self.on_failure {
            on_failure(&poisoned);
        }
        poisoned
    }

    fn segment_path(&self) -> std::path::PathBuf {
        self.disk.path().join(self.segment.id.file_name())
    }
}

/// The system's clock, in microseconds since 1970.
pub(super) fn now_us() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}
