//! All memories in RAM, and the one way into them.
//!
//! **Invariant:** nothing changes the state but [`State::apply`], which takes a record of the log. Live commits and
//! recovery call it with the same bytes in the same order, so they end in the same state.

mod capture;
mod hot;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use engram_storage::{Lsn, WalEntryType, disk::Disk};

use self::{
    capture::Capture,
    hot::{Entry, HotMemories},
};
use crate::{
    Confidence, Embedding, IndexStatus, Memory, Metadata, Mode, Outcome, Query, Recall, StoreError,
    applied::Applied,
    footprint,
    fusion::{Found, Recency, fuse},
    index::{IndexSettings, Route},
    payload::{Config, StoreRecord},
    prepared::Prepared,
    timeline::Timeline,
    vector::{Checkpoints, RowId, StoredVector, VectorArena},
    words::{DocId, Tokens, WordIndex},
};

/// The space that memories are in; there is one so far.
pub(crate) const SPACE: &str = "default";

pub(crate) struct State {
    config: Config,
    index: IndexSettings,
    memories: HotMemories,
    vectors: VectorArena<Arc<Memory>>,
    /// Held for one change, or for one question by words.
    words: RwLock<WordIndex<Arc<Memory>>>,
    pub(crate) timeline: Timeline,
    /// About how much memory the memories take.
    bytes: AtomicU64,
    /// Held while a record is applied: one at a time. Taken before any other lock here. What a snapshot is collecting is
    /// protected by it, too.
    applying: Mutex<Option<Capture>>,
    /// The last record applied. Read before a question is answered: what it says was seen, was.
    applied: Applied,
    /// The first record that was applied without a log; `u64::MAX` when there is none.
    volatile_from: AtomicU64,
}

/// A memory, and its vector if it has one.
type WithVector = (Arc<Memory>, Option<StoredVector>);

/// A change is in the vectors and not yet among the memories, or the other way round.
struct Halfway;

impl State {
    pub(crate) fn new(config: Config, index: IndexSettings) -> Self {
        Self {
            config,
            index,
            memories: HotMemories::default(),
            vectors: VectorArena::new(config.dimension, config.precision, index),
            words: RwLock::new(WordIndex::new()),
            timeline: Timeline::default(),
            bytes: AtomicU64::new(0),
            applying: Mutex::new(None),
            applied: Applied::default(),
            volatile_from: AtomicU64::new(u64::MAX),
        }
    }

    /// Sets the form of the vectors, before the first of them.
    pub(crate) fn configure(&mut self, config: Config) {
        self.config = config;
        self.vectors = VectorArena::new(config.dimension, config.precision, self.index);
        self.vectors.hold_index();
    }

    /// Leaves the index of the vectors alone while a log is recovered.
    pub(crate) fn hold_index(&self) {
        self.vectors.hold_index();
    }

    /// Takes the index of the vectors from its file, if it is of this log, and keeps it there.
    pub(crate) fn open_index(&self, disk: Arc<dyn Disk>, log_id: u64, is_read_only: bool) {
        let checkpoints = Checkpoints { disk, log_id, name: newer_first };
        self.vectors.open_index(checkpoints, self.applied_lsn(), is_read_only);
    }

    /// Ends the work on the index of the vectors, and keeps what there is.
    pub(crate) fn close_index(&self) {
        self.vectors.close_index();
    }

    pub(crate) fn config(&self) -> Config {
        self.config
    }

    /// The index of the vectors as it is now.
    pub(crate) fn index_status(&self) -> IndexStatus {
        self.vectors.index_status()
    }

    pub(crate) fn count(&self) -> usize {
        self.memories.count()
    }

    /// About how many bytes of memory the memories take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }

    /// About how many bytes a memory of these takes.
    pub(crate) fn footprint(&self, id: &str, content: &str, metadata: &Metadata, has_embedding: bool) -> u64 {
        footprint::of(id, content, metadata, has_embedding, self.config)
    }

    pub(crate) fn footprint_of(&self, memory: &Memory) -> u64 {
        self.footprint(&memory.id, &memory.content, &memory.metadata, memory.has_embedding)
    }

    /// The last record that is in the state.
    pub(crate) fn applied_lsn(&self) -> Lsn {
        self.applied.lsn()
    }

    pub(crate) fn is_volatile(&self, lsn: Lsn) -> bool {
        lsn.get() >= self.volatile_from.load(SeqCst)
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Memory>> {
        self.memories.get(id).map(|entry| entry.memory)
    }

    /// A memory and its vector, of the same version.
    pub(crate) fn get_with_vector(&self, id: &str) -> Option<WithVector> {
        self.read_with_vector(id).unwrap_or_else(|Halfway| {
            // While this is held no change is between the two.
            let _applying = self.applying();
            self.read_with_vector(id).unwrap_or(None)
        })
    }

    fn read_with_vector(&self, id: &str) -> Result<Option<WithVector>, Halfway> {
        let Some(entry) = self.memories.get(id) else { return Ok(None) };
        let Some(row) = entry.row else { return Ok(Some((entry.memory, None))) };
        match self.vectors.read(row) {
            Some((memory, vector)) if Arc::ptr_eq(&memory, &entry.memory) => Ok(Some((memory, Some(vector)))),
            _ => Err(Halfway),
        }
    }

    /// Applies a record of the log. A record that only another build can read is an error, and changes nothing.
    pub(crate) fn apply(
        &self,
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
    ) -> Result<Outcome, StoreError> {
        let prepared = Prepared::of(lsn, entry_type, payload, self.config)?;
        Ok(self.apply_prepared(lsn, prepared))
    }

    /// The same, of a record that was made ready before.
    pub(crate) fn apply_prepared(&self, lsn: Lsn, prepared: Prepared) -> Outcome {
        self.apply_next(&mut self.applying(), lsn, prepared)
    }

    /// Applies a record that no log has taken, under the next number.
    pub(crate) fn apply_volatile(
        &self,
        entry_type: WalEntryType,
        payload: &[u8],
    ) -> Result<(Lsn, Outcome), StoreError> {
        let mut applying = self.applying();
        let lsn = self.applied_lsn().next();
        let prepared = Prepared::of(lsn, entry_type, payload, self.config)?;
        self.volatile_from.fetch_min(lsn.get(), SeqCst);
        Ok((lsn, self.apply_next(&mut applying, lsn, prepared)))
    }

    fn applying(&self) -> MutexGuard<'_, Option<Capture>> {
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that the log holds was applied: readers see up to here, whatever its last record was.
    pub(crate) fn set_recovered(&self, lsn: Lsn) {
        self.applied.set(lsn);
    }

    /// Nothing in here fails: a record is applied whole.
    fn apply_next(&self, capture: &mut Option<Capture>, lsn: Lsn, prepared: Prepared) -> Outcome {
        let outcome = match prepared {
            Prepared::Store { record, when, confidence, words } => {
                let before = self.memories.get(&record.id);
                if let Some(entry) = &before {
                    self.keep(capture, &entry.memory);
                }
                self.apply_store(lsn, record, (when, confidence), &words, before.as_ref())
            }
            Prepared::Forget { id } => self.apply_forget(capture, &id),
            Prepared::Config => Outcome::Unchanged,
        };
        self.applied.set(lsn);
        outcome
    }

    fn apply_store(
        &self,
        lsn: Lsn,
        record: StoreRecord,
        (when, confidence): (DateTime<Utc>, Confidence),
        words: &Tokens,
        before: Option<&Entry>,
    ) -> Outcome {
        let memory = Arc::new(Memory {
            id: before.map_or_else(|| Arc::from(record.id), |entry| Arc::clone(&entry.memory.id)),
            lsn,
            when,
            content: record.content.into_boxed_str(),
            confidence,
            metadata: record.metadata,
            has_embedding: record.vector.is_some(),
        });
        let row = self.put_vector(before.and_then(|entry| entry.row), record.vector.as_ref(), &memory);
        let doc = self.put_words(before, words, &memory);
        if let Some(entry) = before
            && entry.memory.when != memory.when
        {
            self.timeline.remove(&entry.memory);
        }
        self.bytes.fetch_add(self.footprint_of(&memory), SeqCst);
        if let Some(entry) = before {
            self.bytes.fetch_sub(self.footprint_of(&entry.memory), SeqCst);
        }
        self.timeline.insert(Arc::clone(&memory));
        self.memories.insert(Entry { memory, row, doc });
        if before.is_some() { Outcome::Updated } else { Outcome::Created }
    }

    /// A memory keeps its row over updates, so that a scan beside it finds it exactly once.
    fn put_vector(
        &self,
        row: Option<RowId>,
        vector: Option<&StoredVector>,
        memory: &Arc<Memory>,
    ) -> Option<RowId> {
        match (row, vector) {
            (None, None) => None,
            (None, Some(vector)) => Some(self.vectors.insert(vector, Arc::clone(memory))),
            (Some(row), Some(vector)) => {
                self.vectors.replace(row, vector, Arc::clone(memory));
                Some(row)
            }
            (Some(row), None) => {
                self.vectors.remove(row);
                None
            }
        }
    }

    fn put_words(&self, before: Option<&Entry>, text: &Tokens, memory: &Arc<Memory>) -> DocId {
        if let Some(entry) = before
            && entry.memory.content == memory.content
        {
            self.words_mut().set_item(entry.doc, Arc::clone(memory));
            return entry.doc;
        }
        // Questions wait for changes of the index, not for what comes before.
        let old = before.map(|entry| (entry.doc, Tokens::of(&entry.memory.content)));
        let mut words = self.words_mut();
        if let Some((doc, old)) = old {
            words.remove(doc, &old);
        }
        words.insert(text, Arc::clone(memory))
    }

    fn words_mut(&self) -> RwLockWriteGuard<'_, WordIndex<Arc<Memory>>> {
        self.words.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_forget(&self, capture: &mut Option<Capture>, id: &str) -> Outcome {
        let Some(entry) = self.memories.get(id) else { return Outcome::Unchanged };
        self.keep(capture, &entry.memory);
        self.memories.remove(id);
        self.bytes.fetch_sub(self.footprint_of(&entry.memory), SeqCst);
        self.timeline.remove(&entry.memory);
        if let Some(row) = entry.row {
            self.vectors.remove(row);
        }
        let text = Tokens::of(&entry.memory.content);
        self.words_mut().remove(entry.doc, &text);
        Outcome::Deleted
    }

    /// The vector of an embedding, as the store would hold it.
    pub(crate) fn vector(&self, embedding: &Embedding) -> Result<StoredVector, StoreError> {
        Ok(StoredVector::from_embedding(embedding, self.config.dimension, self.config.precision)?)
    }

    /// Waits until readers see this change, and says whether they do.
    pub(crate) fn wait_for(&self, lsn: Lsn, at_most: Duration) -> bool {
        self.applied.wait_for(lsn, at_most)
    }

    pub(crate) fn recall(&self, query: &Query) -> Result<Recall, StoreError> {
        query.check()?;
        let lsn = self.applied_lsn();
        let candidates = query.candidates();
        let embedding = query.embedding_used();
        let by_vector = embedding.map(|it| self.by_vector(it, query, candidates)).transpose()?;
        let (by_vector, route) = by_vector.unzip();
        let by_words = query.words_used().map(|words| self.by_words(words, query, candidates));
        let mode = match (&by_vector, &by_words) {
            (Some(_), Some(_)) => Mode::Hybrid,
            (Some(_), None) => Mode::Vector,
            (None, _) => Mode::Words,
        };
        let lists = [&by_vector, &by_words];
        // A list that is shorter than it might be has all that match.
        let all_match = lists.into_iter().flatten().all(|found| found.len() < candidates);
        let recency = query.recency_half_life.map(|half_life| {
            let now = query.now.unwrap_or_else(Utc::now);
            Recency { half_life, now }
        });
        let hits = fuse(by_vector, by_words, recency, query.limit);
        Ok(Recall { complete: all_match || hits.len() == query.limit, hits, lsn, mode, route })
    }

    fn by_vector(
        &self,
        embedding: &Embedding,
        query: &Query,
        limit: usize,
    ) -> Result<(Found, Route), StoreError> {
        let prepared = self.vectors.query(embedding)?;
        let accept = |memory: &Arc<Memory>| query.filter.accepts(memory);
        Ok(self.vectors.search(&prepared, limit, query.exact, accept, newer_first))
    }

    fn by_words(&self, text: &str, query: &Query, limit: usize) -> Found {
        let words = self.words.read().unwrap_or_else(PoisonError::into_inner);
        words.search(text, limit, |memory| query.filter.accepts(memory), newer_first)
    }
}

/// Among equals.
fn newer_first(memory: &Arc<Memory>) -> u64 {
    memory.lsn.get()
}

/// Whether a memory of the log can be in a store of this form; its time and its confidence.
pub(crate) fn check(
    lsn: Lsn,
    record: &StoreRecord,
    config: Config,
) -> Result<(DateTime<Utc>, Confidence), StoreError> {
    let unreadable = |reason: String| StoreError::Record { lsn, reason };
    check_space(lsn, &record.space)?;
    if let Some(vector) = &record.vector {
        vector.check(config.dimension, config.precision).map_err(|e| unreadable(e.to_string()))?;
    }
    let when = DateTime::from_timestamp_micros(record.when_us)
        .ok_or_else(|| unreadable(format!("a time of {} µs since 1970", record.when_us)))?;
    Ok((when, Confidence::new(record.confidence).map_err(|e| unreadable(e.to_string()))?))
}

/// A store stays as it was made.
pub(crate) fn check_config(lsn: Lsn, config: Config, made_with: Config) -> Result<(), StoreError> {
    if config == made_with {
        return Ok(());
    }
    Err(StoreError::Record { lsn, reason: format!("the store changes to {config:?} here") })
}

pub(crate) fn check_space(lsn: Lsn, space: &str) -> Result<(), StoreError> {
    if space == SPACE {
        return Ok(());
    }
    Err(StoreError::Record { lsn, reason: format!("expected the space {SPACE:?}, got {space:?}") })
}
