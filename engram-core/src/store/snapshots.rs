//! Snapshots of a store: on demand, and when its log has grown.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use engram_storage::{Lsn, RecoveryReport, SnapshotReport, StorageMetrics, WalWriter};

use super::encode;
use crate::{StoreError, payload::Record, state::State};

/// When a store takes a snapshot by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotPolicy {
    /// Never.
    #[default]
    OnDemand,
    /// In the background, when the log since the last snapshot has become longer than that, and than this many bytes; and
    /// when the store is closed with half as much.
    LogBytes(u64),
}

/// What was done about snapshots since the store was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The last one that was taken.
    pub last: Option<SnapshotReport>,
    /// How many were taken.
    pub taken: u64,
    /// How many could not be taken.
    pub failed: u64,
    /// Why the last of these could not.
    pub last_error: Option<String>,
    /// Bytes of log since the last one, read when the store was opened or written since.
    pub log_bytes: u64,
}

/// Takes snapshots of one store.
pub(super) struct Snapshots {
    log: Arc<WalWriter>,
    state: Arc<State>,
    metrics: Arc<StorageMetrics>,
    policy: SnapshotPolicy,
    /// Bytes of the log since the last snapshot when the store was opened, and bytes that were written at the last one;
    /// the sum of all written bytes less the second, plus the first, is the length of the log.
    log_bytes_at_opening: AtomicU64,
    written_at_last: AtomicU64,
    due: Arc<Due>,
    /// Held while one is taken: there is one at a time.
    taking: Mutex<()>,
    status: Mutex<SnapshotStatus>,
}

impl Snapshots {
    pub(super) fn new(
        log: Arc<WalWriter>,
        state: Arc<State>,
        metrics: Arc<StorageMetrics>,
        policy: SnapshotPolicy,
        report: &RecoveryReport,
    ) -> Self {
        let snapshots = Self {
            log,
            state,
            due: Arc::new(Due::never(Arc::clone(&metrics))),
            metrics,
            policy,
            log_bytes_at_opening: AtomicU64::new(report.bytes),
            written_at_last: AtomicU64::new(0),
            taking: Mutex::default(),
            status: Mutex::default(),
        };
        snapshots.due_after(report.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes));
        snapshots
    }

    /// While this is held, none is taken.
    pub(super) fn hold(&self) -> MutexGuard<'_, ()> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one now. Changes go on meanwhile.
    pub(super) fn take(&self) -> Result<SnapshotReport, StoreError> {
        let _taking = self.hold();
        let taken = self.write();
        let mut status = self.status();
        match &taken {
            Ok(report) => {
                tracing::info!(
                    lsn = report.lsn.get(),
                    records = report.records,
                    bytes = report.bytes,
                    removed_bytes = report.removed_bytes,
                    took = ?report.took,
                    "took a snapshot"
                );
                status.taken += 1;
                status.last = Some(report.clone());
                self.due_after(report.bytes);
            }
            Err(error) => {
                tracing::warn!(%error, "no snapshot was taken: the log is whole, and goes on growing");
                status.failed += 1;
                status.last_error = Some(error.to_string());
                self.due_after_more();
            }
        }
        taken
    }

    fn write(&self) -> Result<SnapshotReport, StoreError> {
        let (state, metrics) = (Arc::clone(&self.state), Arc::clone(&self.metrics));
        let (at_cut, cut) = oneshot::channel();
        let capturing = Capturing(&self.state);
        let mut snapshot = self.log.snapshot(move |lsn| {
            state.begin_capture(lsn);
            // Whoever waits for it is this thread, and it does not go away.
            drop(at_cut.send(metrics.written_bytes()));
        })?;
        let config = self.state.config();
        let generation = config.generation;
        let config = encode(Record::Config(config))?;
        if snapshot.lsn() > Lsn::ZERO {
            snapshot.append(Lsn::FIRST, &config)?;
        }
        while let Some(page) = self.state.capture_page() {
            for captured in page {
                let (lsn, entry) = captured.entry(generation)?;
                snapshot.append(lsn, &entry)?;
            }
        }
        drop(capturing);
        // Away from the first: nothing else in it says of which model the embeddings are.
        if snapshot.lsn() > Lsn::ZERO {
            snapshot.append(Lsn::FIRST, &config)?;
        }
        let report = snapshot.publish()?;
        self.log_bytes_at_opening.store(0, Relaxed);
        self.written_at_last.store(cut.try_recv().unwrap_or_default(), Relaxed);
        Ok(report)
    }

    /// Whether it is worth one when the store is closed: what the next start would read is half of what makes one due.
    pub(super) fn is_worth_it_at_the_end(&self) -> bool {
        match self.policy {
            SnapshotPolicy::OnDemand => false,
            SnapshotPolicy::LogBytes(bytes) => self.log_bytes() >= bytes / 2 && self.log.takes_writes(),
        }
    }

    fn due_after(&self, snapshot_bytes: u64) {
        if let SnapshotPolicy::LogBytes(bytes) = self.policy {
            self.due.after(bytes.max(snapshot_bytes).saturating_sub(self.log_bytes()));
        }
    }

    /// After a failure, not before the log has grown by another eighth.
    fn due_after_more(&self) {
        if let SnapshotPolicy::LogBytes(bytes) = self.policy {
            self.due.after(self.log_bytes().max(bytes) / 8);
        }
    }

    fn log_bytes(&self) -> u64 {
        let written = self.metrics.written_bytes().saturating_sub(self.written_at_last.load(Relaxed));
        self.log_bytes_at_opening.load(Relaxed) + written
    }

    pub(super) fn now(&self) -> SnapshotStatus {
        SnapshotStatus { log_bytes: self.log_bytes(), ..self.status().clone() }
    }

    fn status(&self) -> MutexGuard<'_, SnapshotStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends what was captured, however it ends.
struct Capturing<'a>(&'a State);

impl Drop for Capturing<'_> {
    fn drop(&mut self) {
        self.0.end_capture();
    }
}

/// When the next snapshot is due. What is committed looks at it, so it owns nothing of the log.
pub(super) struct Due {
    metrics: Arc<StorageMetrics>,
    /// From so many written bytes on; `u64::MAX` when it was said already, or never.
    at: AtomicU64,
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    is_due: bool,
    is_stopped: bool,
}

impl Due {
    fn never(metrics: Arc<StorageMetrics>) -> Self {
        let at = AtomicU64::new(u64::MAX);
        Self { metrics, at, wanted: Mutex::default(), changed: Condvar::new() }
    }

    /// When so many more bytes will have been written.
    fn after(&self, bytes: u64) {
        self.at.store(self.metrics.written_bytes().saturating_add(bytes), Relaxed);
    }

    /// Wakes the thread when a snapshot is due. Costs two loads when none is.
    pub(super) fn look(&self) {
        if self.metrics.written_bytes() >= self.at.load(Relaxed) {
            self.at.store(u64::MAX, Relaxed);
            self.wanted().is_due = true;
            self.changed.notify_all();
        }
    }

    /// Waits until one is due; false when none will be taken any more.
    fn wait(&self) -> bool {
        let mut wanted = self.wanted();
        while !wanted.is_due && !wanted.is_stopped {
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
        wanted.is_due = false;
        !wanted.is_stopped
    }

    fn stop(&self) {
        self.wanted().is_stopped = true;
        self.changed.notify_all();
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that takes snapshots when they are due. It ends with the store.
pub(super) struct Automatic {
    due: Arc<Due>,
    thread: Option<JoinHandle<()>>,
}

impl Automatic {
    pub(super) fn start(snapshots: Arc<Snapshots>) -> Result<Self, StoreError> {
        let due = Arc::clone(&snapshots.due);
        due.look();
        let work = move || {
            while snapshots.due.wait() {
                // What goes wrong was logged and counted; the log has all.
                drop(snapshots.take());
                snapshots.due.look();
            }
        };
        let thread = thread::Builder::new().name("engram-snapshot".to_owned()).spawn(work);
        let thread = thread.map_err(|e| StoreError::Setting {
            reason: format!("cannot start the thread that takes snapshots: {e}"),
        })?;
        Ok(Self { due, thread: Some(thread) })
    }

    pub(super) fn due(&self) -> Arc<Due> {
        Arc::clone(&self.due)
    }
}

impl Drop for Automatic {
    fn drop(&mut self) {
        self.due.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that takes snapshots has panicked");
        }
    }
}

#[cfg(test)]
mod tests;
