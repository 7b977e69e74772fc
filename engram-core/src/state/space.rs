//! A space: its memories in RAM, and what recall finds them by. Nothing of one space is in another, not even the
//! statistics of its words.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use chrono::{DateTime, Utc};
use engram_storage::Lsn;

use super::{
    capture::Captured,
    hot::{Entry, HotMemories},
    requests::{Answered, Requests},
    shared::Shared,
};
use crate::{
    Embedding, Filter, IndexStatus, ListQuery, Memory, Mode, Outcome, Page, Query, Recall, StoreError,
    footprint,
    fusion::{Found, Recency, fuse},
    index::{IndexSettings, Route},
    payload::Config,
    store::InFlight,
    timeline::Timeline,
    vector::{RowId, StoredVector, VectorArena},
    words::{DocId, Tokens, WordIndex},
};

pub(super) type Vectors = VectorArena<Arc<Memory>>;

pub(crate) struct SpaceState {
    name: Arc<str>,
    /// The record that it is as it is from; zero for the space that is always there.
    lsn: AtomicU64,
    /// The most memories that it takes; `u64::MAX` without a limit of its own.
    capacity: AtomicU64,
    memories: HotMemories,
    /// Another when the store gets embeddings of another form.
    vectors: RwLock<Arc<Vectors>>,
    /// Held for one change, or for one question by words.
    words: RwLock<WordIndex<Arc<Memory>>>,
    pub(super) timeline: Timeline,
    /// About how much memory the memories take.
    bytes: AtomicU64,
    requests: Mutex<Requests>,
    shared: Arc<Shared>,
    pub(crate) in_flight: Arc<InFlight>,
}

/// A memory, and its vector if it has one.
pub(crate) type WithVector = (Arc<Memory>, Option<StoredVector>);

/// A change is in the vectors and not yet among the memories, or the other way round.
pub(super) struct Halfway;

impl SpaceState {
    pub(super) fn new(name: &str, config: &Config, index: IndexSettings, shared: &Arc<Shared>) -> Self {
        Self {
            name: Arc::from(name),
            lsn: AtomicU64::new(0),
            capacity: AtomicU64::new(u64::MAX),
            memories: HotMemories::default(),
            vectors: RwLock::new(Arc::new(arena(config, index))),
            words: RwLock::new(WordIndex::new()),
            timeline: Timeline::default(),
            bytes: AtomicU64::new(0),
            requests: Mutex::default(),
            shared: Arc::clone(shared),
            in_flight: Arc::new(InFlight::new(Arc::clone(&shared.new_memories))),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn lsn(&self) -> Lsn {
        Lsn::new(self.lsn.load(SeqCst))
    }

    /// The most memories that it takes, if it has a limit of its own.
    pub(crate) fn capacity(&self) -> Option<u64> {
        Some(self.capacity.load(SeqCst)).filter(|capacity| *capacity < u64::MAX)
    }

    pub(super) fn configure(&self, lsn: Lsn, capacity: Option<u64>) {
        self.capacity.store(capacity.unwrap_or(u64::MAX), SeqCst);
        self.lsn.store(lsn.get(), SeqCst);
    }

    pub(super) fn vectors(&self) -> Arc<Vectors> {
        Arc::clone(&self.vectors.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn index_status(&self) -> IndexStatus {
        self.vectors().index_status()
    }

    pub(crate) fn count(&self) -> usize {
        self.memories.count()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }

    /// What becomes of all its memories together when it is dropped.
    pub(super) fn leave_shared(&self) {
        self.shared.count.fetch_sub(self.count(), SeqCst);
        self.shared.bytes.fetch_sub(self.bytes(), SeqCst);
        self.shared.forget_space(&self.name);
    }

    /// About how many bytes a memory of the space takes.
    pub(crate) fn footprint_of(&self, memory: &Memory) -> u64 {
        let (dimension, precision) = self.vectors.read().unwrap_or_else(PoisonError::into_inner).form();
        footprint::of(
            &memory.id,
            &memory.content,
            &memory.metadata,
            memory.has_embedding,
            dimension,
            precision,
        )
    }

    /// A memory, as readers see it: not when its time is over.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Memory>> {
        self.get_any(id).filter(|memory| !memory.has_expired(Utc::now()))
    }

    /// A memory as it is stored, its time over or not.
    pub(crate) fn get_any(&self, id: &str) -> Option<Arc<Memory>> {
        self.memories.get(id).map(|entry| entry.memory)
    }

    pub(super) fn entry(&self, id: &str) -> Option<Entry> {
        self.memories.get(id)
    }

    pub(super) fn read_with_vector(&self, id: &str) -> Result<Option<WithVector>, Halfway> {
        let Some(entry) = self.memories.get(id) else { return Ok(None) };
        let Some(row) = entry.row else { return Ok(Some((entry.memory, None))) };
        match self.vectors().read(row) {
            Some((memory, vector)) if Arc::ptr_eq(&memory, &entry.memory) => Ok(Some((memory, Some(vector)))),
            _ => Err(Halfway),
        }
    }

    /// A memory with its vector; no change is under way.
    pub(super) fn captured(&self, memory: &Arc<Memory>) -> Captured {
        let row = self.memories.get(memory.id()).and_then(|entry| entry.row);
        let vector = row.and_then(|row| self.vectors().read(row)).map(|(_, vector)| vector);
        Captured::Memory { space: Arc::clone(&self.name), memory: Arc::clone(memory), vector }
    }

    pub(super) fn apply_store(
        &self,
        memory: &mut Arc<Memory>,
        (vector, words): (Option<&StoredVector>, &Tokens),
        before: Option<&Entry>,
    ) -> Outcome {
        // An id is kept once for all versions; nobody else has this one yet.
        if let (Some(entry), Some(memory)) = (before, Arc::get_mut(memory)) {
            memory.id = Arc::clone(&entry.memory.id);
        }
        let memory = &*memory;
        let row = self.put_vector(before.and_then(|entry| entry.row), vector, memory);
        let doc = self.put_words(before, words, memory);
        if let Some(entry) = before {
            if entry.memory.when != memory.when {
                self.timeline.remove(&entry.memory);
            }
            self.count_less(&entry.memory);
        }
        self.count_more(memory);
        self.timeline.insert(Arc::clone(memory));
        self.insert(Entry { memory: Arc::clone(memory), row, doc });
        if before.is_some() { Outcome::Updated } else { Outcome::Created }
    }

    /// Gives a memory that has none its vector. It stays the same version.
    pub(super) fn apply_embed(&self, of: Lsn, id: &str, vector: &StoredVector) -> Option<Arc<Memory>> {
        let entry = self.memories.get(id)?;
        if entry.memory.lsn != of || entry.memory.has_embedding {
            return None;
        }
        let memory = Arc::new(Memory { has_embedding: true, ..(*entry.memory).clone() });
        let row = Some(self.vectors().insert(vector, Arc::clone(&memory)));
        self.exchange(&entry, &memory, row);
        Some(memory)
    }

    /// Takes all vectors away, and makes room for others of another form. Readers find every memory by its words.
    pub(super) fn apply_form(&self, vectors: Vectors) {
        self.timeline.each(|memory| {
            if memory.has_embedding
                && let Some(entry) = self.memories.get(memory.id())
            {
                let without = Arc::new(Memory { has_embedding: false, ..(**memory).clone() });
                self.exchange(&entry, &without, None);
            }
        });
        vectors.keep_index_as(&self.vectors());
        // Only now: what a memory takes is counted by the form that it has.
        *self.vectors.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(vectors);
    }

    /// The same version of a memory, with another row.
    fn exchange(&self, entry: &Entry, memory: &Arc<Memory>, row: Option<RowId>) {
        self.words_mut().set_item(entry.doc, Arc::clone(memory));
        self.count_less(&entry.memory);
        self.count_more(memory);
        self.timeline.insert(Arc::clone(memory));
        self.insert(Entry { memory: Arc::clone(memory), row, doc: entry.doc });
    }

    pub(super) fn apply_forget(&self, entry: &Entry) {
        if self.memories.remove(&entry.memory.id) {
            self.shared.count.fetch_sub(1, SeqCst);
        }
        self.count_less(&entry.memory);
        self.timeline.remove(&entry.memory);
        if let Some(row) = entry.row {
            self.vectors().remove(row);
        }
        let text = Tokens::of(&entry.memory.content);
        self.words_mut().remove(entry.doc, &text);
    }

    fn insert(&self, entry: Entry) {
        if self.memories.insert(entry) {
            self.shared.count.fetch_add(1, SeqCst);
        }
    }

    fn count_more(&self, memory: &Arc<Memory>) {
        let bytes = self.footprint_of(memory);
        self.bytes.fetch_add(bytes, SeqCst);
        self.shared.bytes.fetch_add(bytes, SeqCst);
        self.shared.note(&self.name, memory);
    }

    fn count_less(&self, memory: &Memory) {
        let bytes = self.footprint_of(memory);
        self.bytes.fetch_sub(bytes, SeqCst);
        self.shared.bytes.fetch_sub(bytes, SeqCst);
        self.shared.forget(&self.name, memory);
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
            (None, Some(vector)) => Some(self.vectors().insert(vector, Arc::clone(memory))),
            (Some(row), Some(vector)) => {
                self.vectors().replace(row, vector, Arc::clone(memory));
                Some(row)
            }
            (Some(row), None) => {
                self.vectors().remove(row);
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

    /// What a request with this key was answered.
    pub(crate) fn answered(&self, key: &str) -> Option<Arc<Answered>> {
        self.requests().get(key)
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        query.check()?;
        Ok(self.timeline.page(query, Utc::now()))
    }

    /// The ids of the memories that a filter accepts; what changes meanwhile may be missing, or there twice.
    pub(crate) fn ids(&self, filter: &Filter) -> Vec<Arc<str>> {
        let now = Utc::now();
        let mut ids = Vec::new();
        self.timeline.each(|memory| {
            if !memory.has_expired(now) && filter.accepts(memory) {
                ids.push(Arc::clone(&memory.id));
            }
        });
        ids
    }

    pub(super) fn recall(&self, lsn: Lsn, query: &Query) -> Result<Recall, StoreError> {
        query.check()?;
        let now = Utc::now();
        let candidates = query.candidates();
        let embedding = query.embedding_used();
        let by_vector = embedding.map(|it| self.by_vector(it, query, candidates, now)).transpose()?;
        let (by_vector, route) = by_vector.unzip();
        let by_words = query.words_used().map(|words| self.by_words(words, &query.filter, candidates, now));
        let mode = match (&by_vector, &by_words) {
            (Some(_), Some(_)) => Mode::Hybrid,
            (Some(_), None) => Mode::Vector,
            (None, _) => Mode::Words,
        };
        let lists = [&by_vector, &by_words];
        // A list that is shorter than it might be has all that match.
        let all_match = lists.into_iter().flatten().all(|found| found.len() < candidates);
        let recency =
            query.recency_half_life.map(|half_life| Recency { half_life, now: query.now.unwrap_or(now) });
        let hits = fuse(by_vector, by_words, recency, query.limit);
        Ok(Recall { complete: all_match || hits.len() == query.limit, hits, lsn, mode, route })
    }

    fn by_vector(
        &self,
        embedding: &Embedding,
        query: &Query,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<(Found, Route), StoreError> {
        let vectors = self.vectors();
        let prepared = vectors.query(embedding)?;
        let accept = |memory: &Arc<Memory>| !memory.has_expired(now) && query.filter.accepts(memory);
        let is_wide = query.filter == Filter::default();
        Ok(vectors.search(&prepared, limit, query.exact, is_wide, accept, newer_first))
    }

    fn by_words(&self, text: &str, filter: &Filter, limit: usize, now: DateTime<Utc>) -> Found {
        let words = self.words.read().unwrap_or_else(PoisonError::into_inner);
        let accept = |memory: &Arc<Memory>| !memory.has_expired(now) && filter.accepts(memory);
        words.search(text, limit, accept, newer_first)
    }
}

pub(super) fn arena(config: &Config, index: IndexSettings) -> Vectors {
    VectorArena::new(config.dimension, config.precision, index)
}

/// Among equals.
pub(super) fn newer_first(memory: &Arc<Memory>) -> u64 {
    memory.lsn.get()
}
