//! All memories in RAM, and the one way into them.
//!
//! **Invariant:** nothing changes the state but [`State::apply`], which takes a record of the log. Live commits and
//! recovery call it with the same bytes in the same order, so they end in the same state.

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
use engram_storage::{Lsn, WalEntryType, disk::Disk};

pub use self::feed::{FeedEvent, FeedItem};
use self::{capture::Capture, feed::Feed, shared::Shared, space::newer_first};
pub(crate) use self::{requests::Answered, space::SpaceState};
use crate::{
    Confidence, Embedding, Memory, Outcome, Query, Recall, StoreError,
    applied::Applied,
    footprint,
    index::IndexSettings,
    payload::{Config, ForgetRecord, ReceiptRecord, Request, SpaceRecord, StoreRecord, Terms},
    prepared::Prepared,
    vector::{Checkpoints, StoredVector},
    words::Tokens,
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
            on_change: OnceLock::new(),
        }
    }

    /// Sets the form of the vectors, before the first of them.
    pub(crate) fn configure(&self, config: Config) {
        self.set_form(&config);
        self.set_config(config);
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

    /// About how many bytes of memory the memories take, of all spaces.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(SeqCst)
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
        self.feed.after(after, limit)
    }

    /// A memory and its vector, of the same version.
    pub(crate) fn get_with_vector(&self, space: &SpaceState, id: &str) -> Option<space::WithVector> {
        space.read_with_vector(id).unwrap_or_else(|space::Halfway| {
            // While this is held no change is between the two.
            let _applying = self.applying();
            space.read_with_vector(id).unwrap_or(None)
        })
    }

    /// Applies a record of the log. A record that only another build can read is an error, and changes nothing; so is one
    /// whose terms do not hold at its place.
    pub(crate) fn apply(
        &self,
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
    ) -> Result<Outcome, StoreError> {
        let mut prepared = Prepared::of(lsn, entry_type, payload, &self.config_ref(), None)?;
        self.apply_prepared(lsn, &mut prepared)
    }

    /// The same, of a record that was made ready before. What is left of it is of no use but for its memory.
    pub(crate) fn apply_prepared(&self, lsn: Lsn, prepared: &mut Prepared) -> Result<Outcome, StoreError> {
        self.apply_next(&mut self.applying(), lsn, prepared)
    }

    /// Applies a memory of a damaged log that was not applied in its turn, if that is for want of what is lost. Says whether
    /// it was.
    pub(crate) fn apply_after_loss(&self, lsn: Lsn, prepared: &mut Prepared) -> bool {
        let Prepared::Store { space, memory, terms, .. } = prepared else { return false };
        let mut applying = self.applying();
        if self.space(space).is_none() {
            self.apply_space(lsn, &SpaceRecord { space: space.clone(), capacity: None });
        }
        let there = self.space(space).and_then(|space| space.entry(memory.id()));
        let there = there.map_or(Lsn::ZERO, |entry| entry.memory.lsn);
        if terms.expected.take().is_some_and(|expected| there >= expected) {
            return false;
        }
        self.apply_next(&mut applying, lsn, prepared).is_ok()
    }

    /// Applies a record that no log has taken, under the next number.
    pub(crate) fn apply_volatile(
        &self,
        entry_type: WalEntryType,
        payload: &[u8],
    ) -> Result<(Lsn, Outcome), StoreError> {
        let mut applying = self.applying();
        let lsn = self.applied_lsn().next();
        let mut prepared = Prepared::of(lsn, entry_type, payload, &self.config_ref(), None)?;
        self.volatile_from.fetch_min(lsn.get(), SeqCst);
        Ok((lsn, self.apply_next(&mut applying, lsn, &mut prepared)?))
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

    /// A record is applied whole, or its terms do not hold and nothing is changed.
    fn apply_next(
        &self,
        capture: &mut Option<Capture>,
        lsn: Lsn,
        prepared: &mut Prepared,
    ) -> Result<Outcome, StoreError> {
        let outcome = match prepared {
            Prepared::Store { space, memory, vector, words, terms } => {
                self.apply_store(capture, space, memory, (vector.as_ref(), words), terms)
            }
            Prepared::Forget(record) => self.apply_forget(capture, lsn, record),
            Prepared::Embed(record) => Ok(self.space(&record.space).map_or(Outcome::Unchanged, |space| {
                let Some(memory) = space.apply_embed(record.of, &record.id, &record.vector) else {
                    return Outcome::Unchanged;
                };
                self.tell(lsn, &space, FeedEvent::Embedded(Arc::clone(&memory.id)));
                Outcome::Updated
            })),
            Prepared::Receipt(record) => {
                let ReceiptRecord { space, request, id, lsn: of, outcome } = record;
                if let Some(space) = self.space(space) {
                    let (request, id, outcome) =
                        (request.clone(), Arc::from(id.as_str()), Outcome::from_u8(*outcome));
                    let answered = Answered { request, id, lsn: *of, outcome };
                    space.requests().insert(lsn, answered);
                }
                Ok(Outcome::Unchanged)
            }
            Prepared::Space(record) => Ok(self.apply_space(lsn, record)),
            Prepared::DropSpace { space } => Ok(self.apply_drop(lsn, space)),
            Prepared::Config(config) => Ok(self.apply_config(config.clone())),
            Prepared::Former => Ok(Outcome::Unchanged),
        };
        self.applied.set(lsn);
        if let Some(hook) = self.on_change.get() {
            hook(lsn);
        }
        outcome
    }

    /// Says whether it is the first one; there is only one.
    pub(crate) fn set_change_hook(&self, hook: ChangeHook) -> bool {
        self.on_change.set(hook).is_ok()
    }

    fn apply_store(
        &self,
        capture: &mut Option<Capture>,
        space: &str,
        memory: &mut Arc<Memory>,
        vector_and_words: (Option<&StoredVector>, &Tokens),
        terms: &mut Terms,
    ) -> Result<Outcome, StoreError> {
        let Some(space) = self.space(space) else {
            return Err(StoreError::SpaceNotFound { space: space.to_owned() });
        };
        let before = space.entry(memory.id());
        check_expected(memory.id(), terms.expected, before.as_ref().map(|entry| &*entry.memory))?;
        let Terms { request, .. } = std::mem::take(terms);
        if let Some(entry) = &before {
            keep(capture, &space, &entry.memory);
        }
        let outcome = space.apply_store(memory, vector_and_words, before.as_ref());
        note_answer(&space, memory.lsn, request, &memory.id, outcome);
        self.tell(memory.lsn, &space, FeedEvent::Stored(Arc::clone(&memory.id)));
        Ok(outcome)
    }

    fn apply_forget(
        &self,
        capture: &mut Option<Capture>,
        lsn: Lsn,
        record: &mut ForgetRecord,
    ) -> Result<Outcome, StoreError> {
        let ForgetRecord { space, id, terms } = record;
        let Some(space) = self.space(space) else {
            return Err(StoreError::SpaceNotFound { space: space.clone() });
        };
        let Some(entry) = space.entry(id) else { return Ok(Outcome::Unchanged) };
        let Terms { expected, request } = std::mem::take(terms);
        check_expected(id, expected, Some(&entry.memory))?;
        keep(capture, &space, &entry.memory);
        space.apply_forget(&entry);
        note_answer(&space, lsn, request, &entry.memory.id, Outcome::Deleted);
        self.tell(lsn, &space, FeedEvent::Forgotten(Arc::clone(&entry.memory.id)));
        Ok(Outcome::Deleted)
    }

    fn apply_space(&self, lsn: Lsn, record: &SpaceRecord) -> Outcome {
        let (space, outcome) = if let Some(space) = self.space(&record.space) {
            (space, Outcome::Updated)
        } else {
            let space = SpaceState::new(&record.space, &self.config_ref(), self.index, &self.shared);
            if self.is_recovering.load(Relaxed) {
                space.vectors().hold_index();
            }
            let space = Arc::new(space);
            let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
            spaces.insert(Arc::clone(space.name()), Arc::clone(&space));
            (space, Outcome::Created)
        };
        space.configure(lsn, record.capacity);
        self.tell(lsn, &space, FeedEvent::SpaceConfigured);
        outcome
    }

    /// A snapshot that is collecting it goes on: what it has is as it was.
    fn apply_drop(&self, lsn: Lsn, name: &str) -> Outcome {
        if name == DEFAULT_SPACE {
            return Outcome::Unchanged;
        }
        let space = self.spaces.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(space) = space else { return Outcome::Unchanged };
        space.leave_shared();
        self.tell(lsn, &space, FeedEvent::SpaceDropped);
        Outcome::Deleted
    }

    /// Embeddings of another form, or of another model, take the place of all there are.
    fn apply_config(&self, config: Config) -> Outcome {
        let before = self.config();
        let is_other_model = before.model.is_some() && before.model != config.model;
        if before == config {
            return Outcome::Unchanged;
        }
        if is_other_model || !before.has_form_of(&config) {
            self.set_form(&config);
            let staged = std::mem::take(&mut *self.staged());
            for space in self.spaces() {
                space.apply_staged(&staged);
            }
        }
        self.set_config(config);
        Outcome::Updated
    }

    fn set_form(&self, config: &Config) {
        for space in self.spaces() {
            let vectors = space::arena(config, self.index);
            if self.is_recovering.load(Relaxed) {
                vectors.hold_index();
            }
            space.apply_form(vectors);
        }
    }

    fn tell(&self, lsn: Lsn, space: &SpaceState, event: FeedEvent) {
        self.feed.push(FeedItem { lsn, space: Arc::clone(space.name()), event });
    }

    /// The vectors that a switch of the form begins with.
    pub(crate) fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vector of an embedding, as the store would hold it.
    pub(crate) fn vector(&self, embedding: &Embedding) -> Result<StoredVector, StoreError> {
        let config = self.config_ref();
        Ok(StoredVector::from_embedding(embedding, config.dimension, config.precision)?)
    }

    /// Waits until readers see this change, and says whether they do.
    pub(crate) fn wait_for(&self, lsn: Lsn, at_most: Duration) -> bool {
        self.applied.wait_for(lsn, at_most)
    }

    pub(crate) fn recall(&self, space: &SpaceState, query: &Query) -> Result<Recall, StoreError> {
        space.recall(self.applied_lsn(), query)
    }
}

/// Keeps a memory that is about to go, if it is collected and its turn has not come.
fn keep(capture: &mut Option<Capture>, space: &SpaceState, memory: &Arc<Memory>) {
    if let Some(capture) = capture.as_mut().filter(|capture| capture.misses(space, memory)) {
        capture.set_aside(space.captured(memory));
    }
}

fn note_answer(space: &SpaceState, lsn: Lsn, request: Option<Request>, id: &Arc<str>, outcome: Outcome) {
    if let Some(request) = request {
        let answered = Answered { request, id: Arc::clone(id), lsn, outcome };
        space.requests().insert(lsn, answered);
    }
}

/// Whether a memory is of the version that a change is made for.
pub(crate) fn check_expected(
    id: &str,
    expected: Option<Lsn>,
    memory: Option<&Memory>,
) -> Result<(), StoreError> {
    let Some(expected) = expected else { return Ok(()) };
    let actual = memory.map_or(Lsn::ZERO, Memory::lsn);
    if actual == expected {
        return Ok(());
    }
    Err(StoreError::VersionMismatch { id: id.to_owned(), expected, actual })
}

/// Whether a memory of the log can be in a store of this form; its time and its confidence.
pub(crate) fn check(
    lsn: Lsn,
    record: &StoreRecord,
    config: &Config,
) -> Result<(DateTime<Utc>, Confidence), StoreError> {
    let unreadable = |reason: String| StoreError::Record { lsn, reason };
    if let Some(vector) = &record.vector {
        vector.check(config.dimension, config.precision).map_err(|e| unreadable(e.to_string()))?;
    }
    let time = |us: i64| {
        DateTime::from_timestamp_micros(us).ok_or_else(|| unreadable(format!("a time of {us} µs since 1970")))
    };
    record.expires_us.map(time).transpose()?;
    Ok((time(record.when_us)?, Confidence::new(record.confidence).map_err(|e| unreadable(e.to_string()))?))
}
