//! The log as its writers see it.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
};

use super::{
    Commit, CommitHandle, Completion, FsyncMode, Lsn, RECORD_LEN_MAX, RecoveryReport, WalOptions,
    committer::Committer,
    queue::{Queue, Request},
    record::{WalEntry, WalEntryHeader},
    recovery::{Recovered, recover},
    snapshot::{Point, SnapshotWriter},
    spare::Spare,
};
use crate::{
    StorageError, StorageMetrics, StorageResult,
    disk::{Disk, DiskLock, RealDisk},
    sync::{
        Instant, Mutex,
        thread::{self, JoinHandle},
    },
};

/// A log that is open for writing, by this process alone. Shared by reference: any thread may write.
///
/// Dropping it shuts it down.
pub struct WalWriter {
    disk: Arc<dyn Disk>,
    log_id: u64,
    queue: Arc<Queue>,
    /// The writer thread and the directory's lock, until shutdown. The lock outlives the thread.
    running: Mutex<Option<Running>>,
}

struct Running {
    thread: Option<JoinHandle<StorageResult<()>>>,
    _lock: DiskLock,
}

impl WalWriter {
    /// Opens the log in `directory`, which is made when its parent exists, and recovers what is in it.
    ///
    /// # Errors
    /// As [`recover`](Self::recover); [`StorageError::BadDirectory`] when it cannot be the log's directory.
    pub fn new(
        directory: impl AsRef<Path>,
        mode: FsyncMode,
        metrics: Arc<StorageMetrics>,
    ) -> StorageResult<Self> {
        let disk = open_directory(directory.as_ref())?;
        let options = WalOptions { fsync: mode, ..WalOptions::default() };
        Ok(Self::open(disk, options, metrics)?.0)
    }

    /// Opens the log on `disk`, and tells what was found there.
    ///
    /// # Errors
    /// As [`recover`](Self::recover).
    pub fn open(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        metrics: Arc<StorageMetrics>,
    ) -> StorageResult<(Self, RecoveryReport)> {
        Self::recover(disk, options, metrics, |_, _| Ok(()))
    }

    /// Opens the log on `disk` and hands each record in it to `replay`, in order. All of them survive power loss
    /// when this returns, unless the report says that the log could be opened for reading only.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process has the log; [`StorageError::RecoveryRefused`] when there is
    /// more damage than the mode tolerates; [`StorageError::UnsupportedFormat`]; [`StorageError::Io`]; or what
    /// `replay` returned. In all these cases nothing that was in the log has changed.
    pub fn recover<E: From<StorageError>>(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        metrics: Arc<StorageMetrics>,
        replay: impl FnMut(&WalEntryHeader, &[u8]) -> Result<(), E>,
    ) -> Result<(Self, RecoveryReport), E> {
        let lock = lock(&*disk)?;
        let recovered = recover(&disk, &options, replay)?;
        let in_snapshot = recovered.report.snapshot.as_ref().map_or(0, |snapshot| snapshot.records);
        metrics.recovered_records.store(in_snapshot + recovered.report.records, Relaxed);
        metrics.skipped_records.store(recovered.report.lost_records, Relaxed);
        metrics.written_lsn.store(recovered.next_lsn.previous().get(), Relaxed);
        metrics.synced_lsn.store(recovered.synced_lsn.get(), Relaxed);
        let queue = Arc::new(Queue::new(Arc::clone(&metrics)));
        let log_id = recovered.log_id;
        let report = recovered.report.clone();
        let thread = start(Arc::clone(&disk), options, metrics, &queue, recovered)?;
        let running = Mutex::new(Some(Running { thread, _lock: lock }));
        Ok((Self { disk, log_id, queue, running }, report))
    }

    /// Tells this log from any other: a random number, the same in all its segments and records. What is kept beside the
    /// log can say with it which one it belongs to.
    pub fn log_id(&self) -> u64 {
        self.log_id
    }

    /// Appends a record. Returns when the mode's promise holds for it.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`]: this record was not stored, later ones may be. [`StorageError::RecordTooLarge`].
    /// [`StorageError::Poisoned`], [`StorageError::ReadOnly`], [`StorageError::Closed`]: nothing is stored any more
    /// in this process. A record that was refused may still be found by a later recovery, whole, when the failure
    /// came after it was written.
    pub fn write(&self, entry: WalEntry) -> StorageResult<Commit> {
        self.submit(entry).wait()
    }

    /// Appends a record and returns at once (or when the queue has room) with a handle to wait on or to await.
    /// Records submitted by one thread are in the log in the order of their submission.
    pub fn submit(&self, entry: WalEntry) -> CommitHandle {
        let (completer, completion) = Completion::channel();
        self.submit_with(entry, move |_, outcome| completer.complete(outcome));
        completion
    }

    /// Appends a record and calls `on_commit` when the mode's promise holds, or with the error. It is called once,
    /// on the log's writer thread and in the order of the log (or at once, on this thread, when the log takes no
    /// records): the place to apply what is now durable. It must not block, nor own this writer.
    pub fn submit_with(
        &self,
        entry: WalEntry,
        on_commit: impl FnOnce(&WalEntry, StorageResult<Commit>) + Send + 'static,
    ) {
        let len = entry.payload.len();
        if len > RECORD_LEN_MAX {
            return on_commit(&entry, Err(StorageError::RecordTooLarge { len, max: RECORD_LEN_MAX }));
        }
        if entry.entry_type.is_mark() {
            return on_commit(&entry, Err(StorageError::ReservedType));
        }
        let append = Request::Append { entry, submitted: Instant::now(), done: Box::new(on_commit) };
        if let Err((request, reason)) = self.queue.push(append) {
            request.fail(reason);
        }
    }

    /// Makes everything that was acknowledged before survive power loss, in any mode. After the disk was full it also
    /// finds out whether there is space again.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn sync(&self) -> StorageResult<()> {
        let (completer, completion) = Completion::channel();
        let done = Box::new(move |outcome| completer.complete(outcome));
        if let Err((request, reason)) = self.queue.push(Request::Sync { done }) {
            request.fail(reason);
        }
        completion.wait()
    }

    /// Begins a snapshot of everything committed so far. `at_cut` is called with the number of its last record, on the
    /// log's writer thread, when all before was applied and nothing after: there the caller notes what is live. It must
    /// not block. The segment ends here, which writers wait for as they do at the end of each segment.
    ///
    /// # Errors
    /// [`StorageError::DiskFull`]: there is no snapshot, and the log goes on. Otherwise as [`write`](Self::write).
    pub fn snapshot(&self, at_cut: impl FnOnce(Lsn) + Send + 'static) -> StorageResult<SnapshotWriter> {
        let (completer, completion) = Completion::channel();
        let done = move |cut: StorageResult<_>| {
            if let Ok(point) = &cut {
                let point: &Point = point;
                at_cut(point.lsn);
            }
            completer.complete(cut);
        };
        if let Err((request, reason)) = self.queue.push(Request::Cut { done: Box::new(done) }) {
            request.fail(reason);
        }
        SnapshotWriter::create(Arc::clone(&self.disk), completion.wait()?)
    }

    /// Commits what was submitted, syncs, seals the log and lets go of its directory. Later writes are refused; a
    /// second call does nothing.
    ///
    /// # Errors
    /// The failure that ended writing, now or earlier.
    pub fn shutdown(&self) -> StorageResult<()> {
        self.queue.close();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        match running.and_then(|mut running| running.thread.take().map(JoinHandle::join)) {
            None => Ok(()),
            Some(outcome) => outcome.unwrap_or(Err(StorageError::WriterPanicked)),
        }
    }

    /// Whether writes are taken: not after shutdown, not after a failure, not when it could be opened for reading only.
    pub fn takes_writes(&self) -> bool {
        self.queue.is_open()
    }

    /// The log's directory.
    pub fn wal_directory(&self) -> &Path {
        self.disk.path()
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        if let Err(error) = self.shutdown() {
            tracing::error!(%error, "the log was not closed cleanly");
        }
    }
}

impl fmt::Debug for WalWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalWriter").field("directory", &self.disk.path()).finish_non_exhaustive()
    }
}

fn open_directory(path: &Path) -> StorageResult<Arc<dyn Disk>> {
    match RealDisk::create(path) {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(e) => Err(StorageError::bad_directory(path, &e)),
    }
}

pub(super) fn lock(disk: &dyn Disk) -> StorageResult<DiskLock> {
    disk.lock().map_err(|e| {
        if e.kind() == io::ErrorKind::WouldBlock {
            let holder = e.get_ref().map(ToString::to_string).filter(|pid| !pid.is_empty());
            StorageError::Locked { path: disk.path().to_path_buf(), holder }
        } else {
            StorageError::io("lock", disk.path(), e)
        }
    })
}

/// Starts the writer thread; none when the log can only be read.
fn start(
    disk: Arc<dyn Disk>,
    options: WalOptions,
    metrics: Arc<StorageMetrics>,
    queue: &Arc<Queue>,
    recovered: Recovered,
) -> StorageResult<Option<JoinHandle<StorageResult<()>>>> {
    let segment = match recovered.segment {
        Ok(segment) => segment,
        Err(cause) => {
            queue.fail(&StorageError::ReadOnly { cause: Arc::new(cause) });
            return Ok(None);
        }
    };
    let directory = disk.path().to_path_buf();
    let no_thread = |e| StorageError::io("start a thread for", &directory, e);
    let spare =
        if options.preallocate { Some(Spare::start(Arc::clone(&disk)).map_err(no_thread)?) } else { None };
    let committer = Committer {
        disk,
        queue: Arc::clone(queue),
        metrics: Arc::clone(&metrics),
        on_failure: options.on_failure.clone(),
        spare,
        mode: options.fsync,
        log_id: recovered.log_id,
        segment,
        segment_bytes: options.segment_bytes,
        log_bytes: recovered.log_bytes,
        next_lsn: recovered.next_lsn,
        synced_lsn: recovered.synced_lsn,
        last_crc: recovered.last_crc,
        unsynced_since: None,
        buffer: Vec::new(),
    };
    let queue = Arc::clone(queue);
    let body = move || {
        catch_unwind(AssertUnwindSafe(|| committer.run())).unwrap_or_else(|_| {
            // A completion panicked, with its record committed but not applied: only a restart makes log and memory
            // agree again. Who waits is answered by the dropping of what waits.
            metrics.poisoned.store(true, Relaxed);
            let poisoned = StorageError::Poisoned { cause: Arc::new(StorageError::WriterPanicked) };
            queue.fail(&poisoned);
            if let Some(on_failure) = &options.on_failure {
                on_failure(&poisoned);
            }
            Err(StorageError::WriterPanicked)
        })
    };
    thread::Builder::new().name("engram-wal".to_owned()).spawn(body).map(Some).map_err(no_thread)
}
