//! How a store is set up, and how its log is opened.

use std::{path::Path, sync::Arc};

use engram_storage::{
    Lsn, StorageError, WalOptions, WalWriter,
    disk::{Disk, RealDisk},
};

use super::{
    LogFailure, MemoryStore, SnapshotPolicy, encode,
    replay::Replay,
    snapshots::{Automatic, Snapshots},
};
use crate::{
    FsyncMode, IndexMode, Precision, RecallTarget, StoreError,
    embedding::check_dimension,
    payload::{self, Config, Record},
    state::State,
};

impl MemoryStore {
    /// With embeddings of another length. A log that was made with yet another is refused later.
    ///
    /// # Errors
    /// [`StoreError::Setting`] for 0 or more than [`DIMENSION_MAX`](crate::DIMENSION_MAX), or when the store is in use.
    pub fn with_dimension(mut self, dimension: usize) -> Result<Self, StoreError> {
        check_dimension(dimension).map_err(|reason| StoreError::Setting { reason })?;
        self.dimension = Some(dimension);
        self.set_up(Config { dimension, ..self.state.config() })?;
        Ok(self)
    }

    /// With embeddings in another form. A log that was made with another is refused later.
    ///
    /// # Errors
    /// [`StoreError::Setting`] when the store is in use.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self, StoreError> {
        self.precision = Some(precision);
        self.set_up(Config { precision, ..self.state.config() })?;
        Ok(self)
    }

    /// With another way to find the candidates of a recall by meaning. It is no property of the log: a store may be
    /// opened with another one each time.
    ///
    /// # Errors
    /// [`StoreError::Setting`] when the store is in use.
    pub fn with_index(mut self, mode: IndexMode) -> Result<Self, StoreError> {
        self.index.mode = mode;
        self.set_up(self.state.config())?;
        Ok(self)
    }

    /// With a graph of the vectors (HNSW) to find the candidates of a recall by meaning: [`IndexMode::Hnsw`].
    ///
    /// # Errors
    /// As [`with_index`](Self::with_index).
    pub fn with_hnsw_index(self) -> Result<Self, StoreError> {
        self.with_index(IndexMode::Hnsw)
    }

    /// With another share of what a scan finds that an index must find, too; 0.99 unless it is told. An index that
    /// cannot is not used.
    ///
    /// # Errors
    /// [`StoreError::Setting`] when the store is in use.
    pub fn with_recall_target(mut self, target: RecallTarget) -> Result<Self, StoreError> {
        self.index.recall_target = target;
        self.set_up(self.state.config())?;
        Ok(self)
    }

    /// With snapshots that are taken by themselves.
    ///
    /// # Errors
    /// [`StoreError::Setting`] when the store is in use.
    pub fn with_snapshots(mut self, policy: SnapshotPolicy) -> Result<Self, StoreError> {
        self.snapshot_policy = policy;
        self.set_up(self.state.config())?;
        Ok(self)
    }

    /// With a limit to the memory that memories take, in bytes, by an estimate that errs to the safe side. What would go
    /// beyond it is refused. A log that holds more is opened all the same.
    #[must_use]
    pub fn with_memory_limit(self, bytes: u64) -> Self {
        Self { memory_limit: bytes, ..self }
    }

    /// What becomes of writes when the log fails.
    #[must_use]
    pub fn on_log_failure(self, log_failure: LogFailure) -> Self {
        Self { log_failure, ..self }
    }

    fn set_up(&mut self, config: Config) -> Result<(), StoreError> {
        if self.log.is_some() || self.state.applied_lsn() > Lsn::ZERO {
            let reason =
                "a store is set up before its log is opened and before anything is stored".to_owned();
            return Err(StoreError::Setting { reason });
        }
        self.state = Arc::new(State::new(config, self.index));
        Ok(())
    }

    /// With the log in `directory`, which is made when its parent exists. All memories in it are recovered: they can
    /// be recalled when this returns, and what is stored from now on is logged first.
    ///
    /// # Errors
    /// As [`with_log`](Self::with_log).
    pub fn with_wal(self, directory: impl AsRef<Path>, mode: FsyncMode) -> Result<Self, StoreError> {
        let disk = RealDisk::create(&directory).map_err(|e| StorageError::bad_directory(&directory, &e))?;
        self.with_log(Arc::new(disk), WalOptions { fsync: mode, ..WalOptions::default() })
    }

    /// With the log on `disk`: as [`with_wal`](Self::with_wal), with all options.
    ///
    /// # Errors
    /// [`StoreError::Storage`] as [`WalWriter::recover`]; [`StoreError::SettingMismatch`] when the log was made with
    /// another dimension or precision than asked for; [`StoreError::Record`] for a log of a later build;
    /// [`StoreError::Setting`] when something was stored already. What was in the log has not changed then.
    pub fn with_log(self, disk: Arc<dyn Disk>, options: WalOptions) -> Result<Self, StoreError> {
        let mut store = self;
        store.set_up(store.state.config())?;
        let mut configured = false;
        let metrics = Arc::clone(&store.metrics);
        let mut replay = None;
        store.state.hold_index();
        let (log, report) = WalWriter::recover(Arc::clone(&disk), options, metrics, |header, payload| {
            let record = payload::decode(header.entry_type, payload);
            let record = record.map_err(|reason| StoreError::Record { lsn: header.lsn, reason })?;
            // From here on the state is shared with the thread that applies.
            let replay = replay.get_or_insert_with(|| Replay::start(&store.state));
            // The first record of a log says how the store was made; should that one be lost, the first vector does.
            if !configured && let Some(config) = Config::of_first(&record) {
                store.check_form(&config)?;
                replay.configure(header.lsn, config);
                configured = true;
            }
            replay.push(header.lsn, record)
        })?;
        let refused = replay.map(Replay::finish).unwrap_or_default();
        if report.has_lost() {
            refused.apply_after_loss(&store.state, &report);
        }
        let snapshot = report.snapshot.as_ref().map_or(Lsn::ZERO, |snapshot| snapshot.lsn);
        store.state.set_recovered(report.last_lsn, snapshot);
        store.state.open_index(disk, log.log_id(), report.read_only.is_some());
        let log = Arc::new(log);
        let (state, metrics) = (Arc::clone(&store.state), Arc::clone(&store.metrics));
        let snapshots =
            Arc::new(Snapshots::new(Arc::clone(&log), state, metrics, store.snapshot_policy, &report));
        store.log = Some(log);
        store.report = Some(report);
        store.recovered = store.state.count();
        store.begin_log()?;
        if store.snapshot_policy != SnapshotPolicy::OnDemand {
            store.automatic = Some(Automatic::start(Arc::clone(&snapshots))?);
        }
        store.snapshots = Some(snapshots);
        Ok(store)
    }

    /// Whether a log of this form may be opened as this store.
    fn check_form(&self, config: &Config) -> Result<(), StoreError> {
        let mismatch = |setting, stored: String, requested: String| {
            Err(StoreError::SettingMismatch { setting, stored, requested })
        };
        match (self.dimension, self.precision) {
            (Some(requested), _) if requested != config.dimension => {
                mismatch("dimension", config.dimension.to_string(), requested.to_string())
            }
            (_, Some(requested)) if requested != config.precision => {
                mismatch("embedding precision", config.precision.to_string(), requested.to_string())
            }
            _ => Ok(()),
        }
    }

    /// A new log begins with how the store was made.
    fn begin_log(&self) -> Result<(), StoreError> {
        let Some(log) = &self.log else { return Ok(()) };
        let read_only = self.report.as_ref().is_some_and(|report| report.read_only.is_some());
        if read_only || self.metrics.written_lsn() > Lsn::ZERO {
            return Ok(());
        }
        let entry = encode(Record::Config(self.state.config()))?;
        let commit = log.write(entry.clone())?;
        self.state.apply(commit.lsn, entry.entry_type, &entry.payload).map(drop)
    }

    /// How many memories were recovered when the log was opened; 0 without a log. It recovers nothing itself: that is
    /// part of opening the log, so that nothing can be stored beside a log that was not read.
    ///
    /// # Errors
    /// None: an error of recovery is one of [`with_wal`](Self::with_wal).
    pub fn recover_from_wal(&self) -> Result<usize, StoreError> {
        Ok(self.recovered)
    }
}
