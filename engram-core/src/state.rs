//! All memories in RAM, and the one way into them.
//!
//! **Invariant:** nothing changes the state but [`State::apply`], which takes a record of the log. Live commits and
//! recovery call it with the same bytes in the same order, so they end in the same state.

mod apply;
mod capture;
mod feed;
mod hot;
mod requests;
mod shared;
mod space;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use engram_storage::{Lsn, disk::Disk};

pub use self::feed::{FeedEvent, FeedItem};
pub(crate) use self::{
    apply::{check, check_expected},
    requests::Answered,
    space::SpaceState,
};
use self::{capture::Capture, feed::Feed, shared::Shared, space::newer_first};
use crate::{
    Embedding, Memory, Query, Recall, StoreError,
    applied::Applied,
    footprint,
    index::IndexSettings,
    payload::{Config, LoggedVector, StoreRecord},
    vector::{Checkpoints, StoredVector},
};

/// The space that is always there.
pub(crate) const DEFAULT_SPACE: &str = "default";

pub(crate) struct State {
    config: RwLock<Config>,
    index: IndexSettings,
    shared: Arc<Shared>,
    /// The one that is always there is among them.
    spaces: RwLock<BTreeMap<Arc<str>, Arc<SpaceState>>>,
    default: Arc<SpaceState>,
    /// Held while a record is applied: one at a time. Taken before any other lock here. What a snapshot is collecting is
    /// protected by it, too.
    applying: Mutex<Option<Capture>>,
    /// The last record applied. Read before a question is answered: what it says was seen, was.
    applied: Applied,
    /// The first record that was applied without a log; `u64::MAX` when there is none.
    volatile_from: AtomicU64,
    feed: Feed,
    /// Whether the indexes are left alone, since a log is being recovered.
    is_recovering: AtomicBool,
    /// Vectors of the form to come, for the moment when it does.
    staged: Mutex<Staged>,
    /// About how much memory such vectors take, from when they are made on.
    staged_bytes: Arc<AtomicU64>,
    on_change: OnceLock<ChangeHook>,
}

/// Told of each change that readers see from now on, by the thread that applies it: it is to return at once.
pub type ChangeHook = Arc<dyn Fn(Lsn) + Send + Sync>;

/// Vectors by the version of the memory that they belong to.
pub(crate) type Staged = HashMap<Lsn, StoredVector>;

impl State {
    pub(crate) fn new(config: Config, index: IndexSettings) -> Self {
        let shared = Arc::default();
        let default = Arc::new(SpaceState::new(DEFAULT_SPACE, &config, index, &shared));
        Self {
            config: RwLock::new(config),
            index,
            shared,
            spaces: RwLock::new(BTreeMap::from([(Arc::clone(default.name()), Arc::clone(&default))])),
            default,
            applying: Mutex::new(None),
            applied: Applied::default(),
            volatile_from: AtomicU64::new(u64::MAX),
            feed: Feed::default(),
            is_recovering: AtomicBool::new(false),
            staged: Mutex::default(),
            staged_bytes: Arc::default(),
            on_change: OnceLock::new(),
        }
    }

    /// Leaves the indexes of the vectors alone while a log is recovered.
    pub(crate) fn hold_index(&self) {
        self.is_recovering.store(true, Relaxed);
        self.default.vectors().hold_index();
    }

    /// Takes the index of the vectors from its file, if it is of this log, and keeps it there. Only the space that is
    /// always there has a file; those of the others are made anew.
    pub(crate) fn open_index(&self, disk: Arc<dyn Disk>, log_id: u64, is_read_only: bool) {
        self.is_recovering.store(false, Relaxed);
        for space in self.spaces() {
            if !Arc::ptr_eq(&space, &self.default) {
                space.vectors().release_index();
            }
        }
        let checkpoints = Checkpoints { disk, log_id, name: newer_first };
        self.default.vectors().open_index(checkpoints, self.applied_lsn(), is_read_only);
    }

    /// Ends the work on the indexes of the vectors, and keeps what there is.
    pub(crate) fn close_index(&self) {
        for space in self.spaces() {
            space.vectors().close_index();
        }
    }

    pub(crate) fn config(&self) -> Config {
        self.config_ref().clone()
    }

    fn config_ref(&self) -> RwLockReadGuard<'_, Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub(crate) fn default_space(&self) -> &Arc<SpaceState> {
        &self.default
    }

    pub(crate) fn space(&self, name: &str) -> Option<Arc<SpaceState>> {
        if name == DEFAULT_SPACE {
            return Some(Arc::clone(&self.default));
        }
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them, in the order of their names.
    pub(crate) fn spaces(&self) -> Vec<Arc<SpaceState>> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Of all spaces.
    pub(crate) fn count(&self) -> usize {
        self.shared.count.load(SeqCst)
    }

    /// About how many bytes of memory the memories take, of all spaces, with the vectors that are made ahead.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(SeqCst) + self.staged_bytes.load(SeqCst)
    }

    pub(crate) fn staged_bytes(&self) -> &Arc<AtomicU64> {
        &self.staged_bytes
    }

    /// Changes in flight that may become new memories, of all spaces.
    pub(crate) fn new_memories(&self) -> usize {
        self.shared.new_memories.load(SeqCst)
    }

    /// About how many bytes the memory of a record takes.
    pub(crate) fn footprint(&self, record: &StoreRecord) -> u64 {
        let StoreRecord { id, content, metadata, vector, .. } = record;
        let config = self.config_ref();
        footprint::of(id, content, metadata, vector.is_some(), config.dimension, config.precision)
    }

    /// The last record that is in the state.
    pub(crate) fn applied_lsn(&self) -> Lsn {
        self.applied.lsn()
    }

    pub(crate) fn is_volatile(&self, lsn: Lsn) -> bool {
        lsn.get() >= self.volatile_from.load(SeqCst)
    }

    /// The memories without an embedding, of all spaces, in the order of their versions.
    pub(crate) fn unembedded(&self, after: Lsn, limit: usize) -> Vec<(Arc<str>, Arc<Memory>)> {
        self.shared.unembedded(after, limit)
    }

    pub(crate) fn unembedded_count(&self) -> usize {
        self.shared.unembedded_count()
    }

    /// The spaces and ids of memories whose time is over.
    pub(crate) fn expired(&self, now: DateTime<Utc>, limit: usize) -> Vec<(Arc<str>, Arc<str>)> {
        self.shared.expired(now, limit)
    }

    /// The changes after `after`: see [`Feed::after`].
    pub(crate) fn changes(&self, after: Lsn, limit: usize) -> Result<Vec<FeedItem>, StoreError> {
        let applied = self.applied_lsn();
        // A change is told a moment before it counts as applied.
        if after > applied && after > self.feed.last() {
            return Err(StoreError::ChangesAhead { after, applied });
        }
        self.feed.after(after, limit)
    }

    /// All changes after `after` of which something can be seen already: none is applied halfway.
    pub(crate) fn settled_changes(&self, after: Lsn) -> Result<Vec<FeedItem>, StoreError> {
        let _applying = self.applying();
        self.feed.after(after, usize::MAX)
    }

    /// A memory and its vector, of the same version.
    pub(crate) fn get_with_vector(
        &self,
        space: &SpaceState,
        id: &str,
    ) -> Option<(Arc<Memory>, Option<LoggedVector>)> {
        // First, so that one that was put in since is taken for one of before at worst, and embedded again.
        let generation = self.config_ref().generation;
        let found = space.read_with_vector(id).unwrap_or_else(|space::Halfway| {
            // While this is held no change is between the two.
            let _applying = self.applying();
            space.read_with_vector(id).unwrap_or(None)
        });
        found.map(|(memory, vector)| (memory, vector.map(|vector| LoggedVector { generation, vector })))
    }

    fn applying(&self) -> MutexGuard<'_, Option<Capture>> {
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that the log holds was applied: readers see up to here, whatever its last record was. What came up to
    /// `snapshot` was no change.
    pub(crate) fn set_recovered(&self, lsn: Lsn, snapshot: Lsn) {
        self.feed.begin_after(snapshot);
        self.applied.set(lsn);
    }

    /// Says whether it is the first one; there is only one.
    pub(crate) fn set_change_hook(&self, hook: ChangeHook) -> bool {
        self.on_change.set(hook).is_ok()
    }

    /// The vectors that a switch of the form begins with.
    pub(crate) fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vector of an embedding, as the store would hold it.
    pub(crate) fn vector(&self, embedding: &Embedding) -> Result<LoggedVector, StoreError> {
        let Config { dimension, precision, generation, .. } = *self.config_ref();
        Ok(LoggedVector {
            generation,
            vector: StoredVector::from_embedding(embedding, dimension, precision)?,
        })
    }

    /// Waits until readers see this change, and says whether they do.
    pub(crate) fn wait_for(&self, lsn: Lsn, at_most: Duration) -> bool {
        self.applied.wait_for(lsn, at_most)
    }

    pub(crate) fn recall(&self, space: &SpaceState, query: &Query) -> Result<Recall, StoreError> {
        space.recall(self.applied_lsn(), query)
    }
}
