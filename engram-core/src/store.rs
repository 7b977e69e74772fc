//! The store: checks, the log, and the state behind it.

mod in_flight;
mod model;
mod opening;
mod options;
mod replay;
mod snapshots;
mod space;
mod spaces;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use engram_storage::{
    Lsn, MetricsSnapshot, RecoveryReport, SnapshotReport, StorageMetrics, WalEntry, WalWriter,
};

pub(crate) use self::in_flight::InFlight;
use self::snapshots::{Automatic, Snapshots};
pub use self::{
    model::{ModelChange, ModelIdentity, Staging},
    options::{Patch, RequestKey, WriteOptions},
    snapshots::{SnapshotPolicy, SnapshotStatus},
    space::{Space, SpaceStatus},
    spaces::Unembedded,
};
use crate::{
    ChangeHook, Durability, Embedding, Episode, FeedItem, IndexStatus, ListQuery, Memory, Outcome, Page,
    Precision, Query, Recall, Receipt, ReceiptHandle, StoreError,
    index::IndexSettings,
    payload::{self, Config, Record},
    state::State,
};

/// The dimension of a store that is not told another.
const DIMENSION_DEFAULT: usize = 768;

/// What becomes of writes when the log has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFailure {
    /// They are refused; reads go on.
    #[default]
    Refuse,
    /// They go on in memory alone, and each receipt says [`Volatile`](Durability::Volatile).
    Volatile,
}

/// All memories of one log, or of none. Shared by reference: any thread may use it.
pub struct MemoryStore {
    /// First of all, so that it ends before the log does.
    automatic: Option<Automatic>,
    snapshots: Option<Arc<Snapshots>>,
    /// Before the state, so that it is shut down before the state goes.
    log: Option<Arc<WalWriter>>,
    state: Arc<State>,
    metrics: Arc<StorageMetrics>,
    report: Option<RecoveryReport>,
    recovered: usize,
    capacity: usize,
    memory_limit: u64,
    dimension: Option<usize>,
    precision: Option<Precision>,
    index: IndexSettings,
    log_failure: LogFailure,
    snapshot_policy: SnapshotPolicy,
}

/// The store at one moment.
#[derive(Debug, Clone)]
pub struct StoreStatus {
    /// Memories stored, in all spaces.
    pub count: usize,
    /// How many spaces there are.
    pub spaces: usize,
    /// Memories without an embedding.
    pub unembedded: usize,
    /// The most that it holds.
    pub capacity: usize,
    /// About how many bytes of memory the memories take.
    pub memory_bytes: u64,
    /// How many they may take; `u64::MAX` without a limit.
    pub memory_limit: u64,
    /// The length of its embeddings.
    pub dimension: usize,
    /// The form of its embeddings.
    pub precision: Precision,
    /// What its embeddings are from, once that was said.
    pub model: Option<ModelIdentity>,
    /// Of the space that is always there: what finds the candidates of a recall by meaning.
    pub index: IndexStatus,
    /// The last change that readers see.
    pub applied_lsn: Lsn,
    /// Counters of the log; all zero without one.
    pub log: MetricsSnapshot,
    /// What was found when the log was opened.
    pub recovery: Option<RecoveryReport>,
    /// Whether a write would be acknowledged, and whether it would be durable.
    pub writes: Writes,
    /// What was done about snapshots.
    pub snapshots: SnapshotStatus,
}

/// What becomes of a write now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It is stored with the durability of the log's mode.
    Durable,
    /// It is stored in memory alone.
    Volatile,
    /// It is refused.
    Refused,
}

impl MemoryStore {
    /// An empty store for at most `capacity` memories, in memory alone until it gets a log. Its embeddings have
    /// 768 dimensions, kept as `int8`, unless it is told otherwise.
    pub fn new(capacity: usize) -> Self {
        let config = Config {
            dimension: DIMENSION_DEFAULT,
            precision: Precision::default(),
            model: None,
            generation: 0,
        };
        Self {
            automatic: None,
            snapshots: None,
            log: None,
            state: Arc::new(State::new(config, IndexSettings::default())),
            metrics: Arc::default(),
            report: None,
            recovered: 0,
            capacity,
            memory_limit: u64::MAX,
            dimension: None,
            precision: None,
            index: IndexSettings::default(),
            log_failure: LogFailure::default(),
            snapshot_policy: SnapshotPolicy::default(),
        }
    }

    /// Stores an episode, in place of what has its id. Returns when the log's mode promises that it is kept; whoever
    /// asks then, on any thread, finds it.
    ///
    /// # Errors
    /// A refusal ([`StoreError::Id`], [`Content`](StoreError::Content), [`Metadata`](StoreError::Metadata),
    /// [`Embedding`](StoreError::Embedding), [`CapacityReached`](StoreError::CapacityReached),
    /// [`MemoryLimitReached`](StoreError::MemoryLimitReached)) has changed nothing.
    /// [`StoreError::Storage`]: the log did not acknowledge it; see [`WalWriter::write`] for what to do.
    pub fn store(&self, episode: Episode) -> Result<Receipt, StoreError> {
        self.submit(episode).wait()
    }

    /// Stores an episode: as [`store`](Self::store), with a handle to wait on or to await. Episodes submitted by one
    /// thread are stored in that order. Blocks while the log's queue is full.
    pub fn submit(&self, episode: Episode) -> ReceiptHandle {
        self.default_space().submit(episode, &WriteOptions::default())
    }

    /// Whether [`submit`](Self::submit) may block now, since the log's queue is half full or more. A hint for callers
    /// that must not block: they submit elsewhere then.
    pub fn submit_may_block(&self) -> bool {
        self.metrics.queue_is_crowded()
    }

    /// Forgets a memory. It is gone from recall when this returns, and stays so as far as the log's mode promises.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none; [`StoreError::Storage`] as [`store`](Self::store).
    pub fn forget(&self, id: &str) -> Result<Receipt, StoreError> {
        self.submit_forget(id).wait()
    }

    /// Forgets a memory: as [`forget`](Self::forget), with a handle to wait on or to await.
    pub fn submit_forget(&self, id: &str) -> ReceiptHandle {
        self.default_space().submit_forget(id, &WriteOptions::default())
    }

    fn durability_of(&self, lsn: Lsn) -> Durability {
        if self.log.is_none() || self.state.is_volatile(lsn) {
            Durability::Volatile
        } else if self.metrics.synced_lsn() >= lsn {
            Durability::Synced
        } else {
            Durability::Written
        }
    }

    /// The memory with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Memory>> {
        self.default_space().get(id)
    }

    /// The memory with this id and its embedding as the store holds it: the numbers that recall compares with, which
    /// in `int8` are not quite those that came in.
    pub fn get_with_embedding(&self, id: &str) -> Option<(Arc<Memory>, Option<Embedding>)> {
        self.default_space().get_with_embedding(id)
    }

    /// The memories that answer a question best.
    ///
    /// # Errors
    /// [`StoreError::Query`] for a limit or a query over its limit; [`StoreError::Embedding`] for an embedding that
    /// no memory here could have.
    pub fn recall(&self, query: &Query) -> Result<Recall, StoreError> {
        self.default_space().recall(query)
    }

    /// Waits until readers see the change `lsn`, which a receipt of this store has named: a question that is asked then
    /// sees it, whoever asks.
    ///
    /// # Errors
    /// [`StoreError::NotYet`] when it is not seen after `at_most`.
    pub fn wait_for(&self, lsn: Lsn, at_most: Duration) -> Result<(), StoreError> {
        if self.state.wait_for(lsn, at_most) {
            return Ok(());
        }
        Err(StoreError::NotYet { lsn, applied: self.state.applied_lsn(), waited: at_most })
    }

    /// The changes after `after` that readers see, of all spaces, the first `limit` of them: those of the log, and none twice.
    ///
    /// # Errors
    /// [`StoreError::ChangesGone`] when they are not kept any more, [`StoreError::ChangesAhead`] when `after` is none of
    /// this log.
    pub fn changes(&self, after: Lsn, limit: usize) -> Result<Vec<FeedItem>, StoreError> {
        self.state.changes(after, limit)
    }

    /// Has `hook` told of each change that readers see from now on. There is one hook for the life of a store.
    ///
    /// # Errors
    /// [`StoreError::Setting`] when there is one already.
    pub fn on_change(&self, hook: ChangeHook) -> Result<(), StoreError> {
        if self.state.set_change_hook(hook) {
            return Ok(());
        }
        Err(StoreError::Setting { reason: "expected one hook for changes, got a second".to_owned() })
    }

    /// Forgets memories whose time was over by `now`, the first `limit` of them, which readers do not see any more anyway.
    /// Their room is only free after that. Says how many there were.
    ///
    /// # Errors
    /// [`StoreError::Storage`] as [`store`](Self::store).
    pub fn forget_expired(&self, now: DateTime<Utc>, limit: usize) -> Result<usize, StoreError> {
        let expired = self.state.expired(now, limit);
        let mut handles = Vec::new();
        for (space, id) in &expired {
            let Some(space) = self.find_space(space) else { continue };
            let memory = space.state.get_any(id).filter(|memory| memory.has_expired(now));
            let Some(memory) = memory else { continue };
            let options = WriteOptions { expected: Some(memory.lsn()), ..WriteOptions::default() };
            handles.push(space.submit_forget_expired(id, &options));
        }
        for handle in handles {
            match handle.wait() {
                // Somebody else was there first.
                Ok(_) | Err(StoreError::NotFound { .. } | StoreError::VersionMismatch { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(expired.len())
    }

    /// A page of all memories, from the oldest on.
    ///
    /// # Errors
    /// [`StoreError::Query`] for a limit of 0 or over [`LIST_LIMIT_MAX`](crate::limits::LIST_LIMIT_MAX), or a filter over a
    /// limit.
    pub fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.default_space().list(query)
    }

    /// How many memories there are, in all spaces.
    pub fn count(&self) -> usize {
        self.state.count()
    }

    /// The store as it is now.
    pub fn status(&self) -> StoreStatus {
        let Config { dimension, precision, model, .. } = self.state.config();
        let log = self.metrics.snapshot();
        let read_only = self.report.as_ref().is_some_and(|report| report.read_only.is_some());
        let has_failed = read_only || log.poisoned;
        let writes = match &self.log {
            Some(log) if log.takes_writes() => Writes::Durable,
            Some(_) if !has_failed || self.log_failure == LogFailure::Refuse => Writes::Refused,
            Some(_) | None => Writes::Volatile,
        };
        StoreStatus {
            count: self.count(),
            spaces: self.state.spaces().len(),
            unembedded: self.state.unembedded_count(),
            capacity: self.capacity,
            memory_bytes: self.state.bytes(),
            memory_limit: self.memory_limit,
            dimension,
            precision,
            model,
            index: self.state.default_space().index_status(),
            applied_lsn: self.state.applied_lsn(),
            log,
            recovery: self.report.clone(),
            writes,
            snapshots: self.snapshots.as_ref().map(|snapshots| snapshots.now()).unwrap_or_default(),
        }
    }

    /// Makes everything acknowledged so far survive power loss, in any mode. After the disk was full it also finds out
    /// whether there is space again. Does nothing without a log.
    ///
    /// # Errors
    /// [`StoreError::Storage`] when the log cannot promise that.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.log.as_ref().map_or(Ok(()), |log| Ok(log.sync()?))
    }

    /// Takes a snapshot: a file of all memories as they are now, after which the log before it is removed, and with it
    /// whatever was forgotten or replaced. Changes go on meanwhile, and wait for no more than the end of a segment. The
    /// file is a backup, too.
    ///
    /// # Errors
    /// [`StoreError::Setting`] without a log; [`StoreError::Storage`] when it could not be written: the log is whole then.
    pub fn snapshot(&self) -> Result<SnapshotReport, StoreError> {
        let Some(snapshots) = &self.snapshots else {
            let reason = "a store without a log has nothing to take a snapshot of".to_owned();
            return Err(StoreError::Setting { reason });
        };
        snapshots.take()
    }

    /// Commits what was submitted, syncs the log and closes it. Later changes are refused; reads go on. Dropping the
    /// store does the same, and only logs an error.
    ///
    /// # Errors
    /// [`StoreError::Storage`] when the last records could not be synced, or the log had failed before.
    pub fn close(&self) -> Result<(), StoreError> {
        let Some(log) = &self.log else { return Ok(()) };
        // While the directory is still this process's own.
        self.state.close_index();
        if let Some(snapshots) = self.snapshots.as_ref().filter(|it| it.is_worth_it_at_the_end()) {
            drop(snapshots.take()); // what goes wrong was logged: the log has all
        }
        Ok(log.shutdown()?)
    }
}

fn apply_volatile(
    state: &State,
    id: &str,
    unchanged: Option<Receipt>,
    entry: &WalEntry,
) -> Result<Receipt, StoreError> {
    let (lsn, outcome) = state.apply_volatile(entry.entry_type, &entry.payload)?;
    receipt(id, unchanged, lsn, outcome, Durability::Volatile)
}

/// What a change is answered; `unchanged` for one that changes no memory.
fn receipt(
    id: &str,
    unchanged: Option<Receipt>,
    lsn: Lsn,
    outcome: Outcome,
    durability: Durability,
) -> Result<Receipt, StoreError> {
    let id = id.to_owned();
    match (outcome, unchanged) {
        (_, Some(receipt)) => Ok(Receipt { durability, ..receipt }),
        // What it was to forget was forgotten by a change before it.
        (Outcome::Unchanged, None) => Err(StoreError::NotFound { id }),
        (Outcome::Created | Outcome::Updated | Outcome::Deleted, None) => {
            Ok(Receipt { id, lsn, outcome, durability })
        }
    }
}

fn encode(record: Record) -> Result<WalEntry, StoreError> {
    // Everything is within limits far below the record's: only a defect gets here.
    payload::encode(record).map_err(|reason| StoreError::Setting { reason })
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("count", &self.count())
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}
