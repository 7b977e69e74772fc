//! The store: checks, the log, and the state behind it.

mod in_flight;
mod opening;
mod replay;
mod snapshots;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use engram_storage::{
    Lsn, MetricsSnapshot, RecoveryReport, SnapshotReport, StorageMetrics, WalEntry, WalWriter,
};

pub use self::snapshots::{SnapshotPolicy, SnapshotStatus};
use self::{
    in_flight::{Flight, InFlight},
    snapshots::{Automatic, Snapshots},
};
use crate::{
    Durability, Embedding, Episode, IndexStatus, ListQuery, Memory, Outcome, Page, Precision, Query, Recall,
    Receipt, ReceiptHandle, StoreError,
    episode::check_id,
    index::IndexSettings,
    payload::{self, Config, Record, StoreRecord},
    state::{SPACE, State},
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
    in_flight: Arc<InFlight>,
    dimension: Option<usize>,
    precision: Option<Precision>,
    index: IndexSettings,
    log_failure: LogFailure,
    snapshot_policy: SnapshotPolicy,
}

/// The store at one moment.
#[derive(Debug, Clone)]
pub struct StoreStatus {
    /// Memories stored.
    pub count: usize,
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
    /// What finds the candidates of a recall by meaning.
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
        let config = Config { dimension: DIMENSION_DEFAULT, precision: Precision::default() };
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
            in_flight: Arc::default(),
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
        match self.prepare(episode) {
            Ok(Checked::Unchanged(receipt)) => ReceiptHandle::ready(Ok(receipt)),
            Ok(Checked::Write { flight, entry }) => self.commit(flight, entry),
            Err(error) => ReceiptHandle::ready(Err(error)),
        }
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
        let id = id.to_owned();
        let prepared = check_id(&id).and_then(|()| {
            // One that is being stored can be forgotten: the log decides which comes first.
            if self.state.get(&id).is_none() && !self.in_flight.touches(&id) {
                return Err(StoreError::NotFound { id: id.clone() });
            }
            encode(Record::Forget { space: SPACE.to_owned(), id: id.clone() })
        });
        match prepared {
            Ok(entry) => self.commit(self.in_flight.take_off(&id, false), entry),
            Err(error) => ReceiptHandle::ready(Err(error)),
        }
    }

    /// Checks an episode and makes its record.
    fn prepare(&self, episode: Episode) -> Result<Checked, StoreError> {
        episode.check()?;
        let vector = episode.embedding.as_ref().map(|embedding| self.state.vector(embedding)).transpose()?;
        let Episode { id, when, content, embedding: _, confidence, metadata } = episode;
        let (when_us, confidence) = (when.timestamp_micros(), confidence.get());
        // Looked at before the memory is: a change that lands between the two is seen by one of them.
        let is_changing = self.in_flight.touches(&id);
        let before = self.state.get_with_vector(&id);
        if let Some((memory, stored)) = &before
            && !is_changing
            && (memory.when().timestamp_micros(), memory.content()) == (when_us, &*content)
            && memory.confidence().get().to_bits() == confidence.to_bits()
            && (memory.metadata(), stored) == (&metadata, &vector)
        {
            let (lsn, outcome) = (memory.lsn(), Outcome::Unchanged);
            return Ok(Checked::Unchanged(Receipt { id, lsn, outcome, durability: self.durability_of(lsn) }));
        }
        // One that is being stored has its place already.
        let is_new = before.is_none() && !is_changing;
        let flight = self.in_flight.take_off(&id, is_new);
        // This one is among those that are in flight when they are counted, and none of them leaves before it counts
        // as a memory: between the two it may count twice, never not at all.
        let count = self.count();
        if is_new && count + self.in_flight.new_memories() > self.capacity {
            return Err(StoreError::CapacityReached { capacity: self.capacity, count });
        }
        let has_embedding = vector.is_some();
        let grows = self.state.footprint(&id, &content, &metadata, has_embedding);
        let shrinks = before.as_ref().map_or(0, |(memory, _)| self.state.footprint_of(memory));
        let bytes = self.state.bytes();
        if grows > shrinks && bytes.saturating_add(grows - shrinks) > self.memory_limit {
            return Err(StoreError::MemoryLimitReached { limit: self.memory_limit, bytes });
        }
        let space = SPACE.to_owned();
        let record = StoreRecord { space, id, when_us, content, confidence, metadata, vector };
        Ok(Checked::Write { flight, entry: encode(Record::Store(record))? })
    }

    /// Logs a change, and applies it when it is committed: on the log's thread, in the order of the log, before the
    /// receipt is given.
    fn commit(&self, flight: Flight, entry: WalEntry) -> ReceiptHandle {
        let (completer, handle) = ReceiptHandle::channel();
        let Some(log) = &self.log else {
            completer.complete(apply_volatile(&self.state, &flight.id, &entry));
            return handle;
        };
        let (state, log_failure) = (Arc::clone(&self.state), self.log_failure);
        let due = self.automatic.as_ref().map(Automatic::due);
        log.submit_with(entry, move |entry, outcome| {
            let receipt = match outcome {
                Ok(commit) => state
                    .apply(commit.lsn, entry.entry_type, &entry.payload)
                    .and_then(|outcome| receipt(&flight.id, commit.lsn, outcome, commit.durability.into())),
                Err(error) if log_failure == LogFailure::Volatile && error.ended_writing() => {
                    apply_volatile(&state, &flight.id, entry)
                }
                Err(error) => Err(error.into()),
            };
            drop(flight);
            completer.complete(receipt);
            if let Some(due) = due {
                due.look();
            }
        });
        handle
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
        self.state.get(id)
    }

    /// The memory with this id and its embedding as the store holds it: the numbers that recall compares with, which
    /// in `int8` are not quite those that came in.
    pub fn get_with_embedding(&self, id: &str) -> Option<(Arc<Memory>, Option<Embedding>)> {
        let (memory, vector) = self.state.get_with_vector(id)?;
        Some((memory, vector.map(|vector| Embedding::from(vector.to_f32()))))
    }

    /// The memories that answer a question best.
    ///
    /// # Errors
    /// [`StoreError::Query`] for a limit or a query over its limit; [`StoreError::Embedding`] for an embedding that
    /// no memory here could have.
    pub fn recall(&self, query: &Query) -> Result<Recall, StoreError> {
        self.state.recall(query)
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

    /// A page of all memories, from the oldest on.
    ///
    /// # Errors
    /// [`StoreError::Query`] for a limit of 0 or over [`LIST_LIMIT_MAX`](crate::limits::LIST_LIMIT_MAX).
    pub fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.state.timeline.page(query)
    }

    /// How many memories there are.
    pub fn count(&self) -> usize {
        self.state.count()
    }

    /// The store as it is now.
    pub fn status(&self) -> StoreStatus {
        let Config { dimension, precision } = self.state.config();
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
            capacity: self.capacity,
            memory_bytes: self.state.bytes(),
            memory_limit: self.memory_limit,
            dimension,
            precision,
            index: self.state.index_status(),
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

/// An episode that passed all checks.
enum Checked {
    Unchanged(Receipt),
    Write { flight: Flight, entry: WalEntry },
}

fn apply_volatile(state: &State, id: &str, entry: &WalEntry) -> Result<Receipt, StoreError> {
    let (lsn, outcome) = state.apply_volatile(entry.entry_type, &entry.payload)?;
    receipt(id, lsn, outcome, Durability::Volatile)
}

fn receipt(id: &str, lsn: Lsn, outcome: Outcome, durability: Durability) -> Result<Receipt, StoreError> {
    let id = id.to_owned();
    match outcome {
        // What it was to forget was forgotten by a change before it.
        Outcome::Unchanged => Err(StoreError::NotFound { id }),
        Outcome::Created | Outcome::Updated | Outcome::Deleted => {
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
