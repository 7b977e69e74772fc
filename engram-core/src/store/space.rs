//! One space of a store, and what is done in it.

use std::{collections::BTreeSet, sync::Arc};

use chrono::Utc;
use engram_storage::{Lsn, WalEntry};

use super::{
    MemoryStore, RequestKey, WriteOptions, encode,
    in_flight::{Flight, RequestFlight},
    options::check_request_key,
};
use crate::{
    Embedding, Episode, Filter, IndexStatus, ListQuery, Memory, Outcome, Page, Patch, Query, Recall, Receipt,
    ReceiptHandle, StoreError,
    episode::check_id,
    payload::{EmbedRecord, ForgetRecord, LoggedVector, ReceiptRecord, Record, Request, StoreRecord, Terms},
    state::{SpaceState, check_expected},
};

/// A space of a store: its memories are in no other, and neither are the statistics of its words. All share one log, and
/// so its syncs.
pub struct Space<'a> {
    pub(super) store: &'a MemoryStore,
    pub(super) state: Arc<SpaceState>,
}

/// A space at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct SpaceStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Memories stored.
    pub count: usize,
    /// The most that it takes, if it has a limit of its own.
    pub capacity: Option<u64>,
    /// About how many bytes of memory they take.
    pub memory_bytes: u64,
    /// The record that made it, or last changed its properties; zero for the space that is always there.
    pub lsn: Lsn,
    /// What finds the candidates of a recall by meaning.
    pub index: IndexStatus,
}

/// A change on its way.
struct Change {
    entry: WalEntry,
    flight: Flight,
    request: Option<RequestFlight>,
    /// What is answered for a record that changes no memory.
    unchanged: Option<Receipt>,
}

/// A change that passed all checks.
enum Checked {
    Answered(Receipt),
    Write(Change),
}

/// A request with a key, or without.
enum Begun {
    Answered(Receipt),
    New(Option<(RequestFlight, Request)>),
}

/// A memory as it is to be.
struct Wanted {
    episode: Episode,
    vector: Option<LoggedVector>,
}

impl Space<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        self.state.name()
    }

    /// Stores an episode: see [`MemoryStore::store`].
    ///
    /// # Errors
    /// As [`MemoryStore::store`].
    pub fn store(&self, episode: Episode) -> Result<Receipt, StoreError> {
        self.submit(episode, &WriteOptions::default()).wait()
    }

    /// Stores an episode under these terms: see [`MemoryStore::submit`].
    pub fn submit(&self, episode: Episode, options: &WriteOptions) -> ReceiptHandle {
        self.commit_checked(self.prepare_episode(episode, options))
    }

    /// Changes what a patch names of a memory, and leaves the rest as it is.
    ///
    /// # Errors
    /// [`StoreError::VersionMismatch`] when another change came in between, too: repeat it. The others are those of
    /// [`MemoryStore::store`], and [`StoreError::NotFound`].
    pub fn patch(&self, id: &str, patch: Patch, options: &WriteOptions) -> Result<Receipt, StoreError> {
        self.submit_patch(id, patch, options).wait()
    }

    /// The same, with a handle to wait on or to await.
    pub fn submit_patch(&self, id: &str, patch: Patch, options: &WriteOptions) -> ReceiptHandle {
        self.commit_checked(self.prepare_patch(id, patch, options))
    }

    /// Forgets a memory: see [`MemoryStore::forget`].
    ///
    /// # Errors
    /// As [`MemoryStore::forget`].
    pub fn forget(&self, id: &str) -> Result<Receipt, StoreError> {
        self.submit_forget(id, &WriteOptions::default()).wait()
    }

    /// Forgets a memory under these terms: see [`MemoryStore::submit_forget`].
    pub fn submit_forget(&self, id: &str, options: &WriteOptions) -> ReceiptHandle {
        self.commit_checked(self.prepare_forget(id, options, |id| self.state.get(id)))
    }

    /// The same of a memory whose time is over, which is there for nobody else.
    pub(super) fn submit_forget_expired(&self, id: &str, options: &WriteOptions) -> ReceiptHandle {
        self.commit_checked(self.prepare_forget(id, options, |id| self.state.get_any(id)))
    }

    /// What the request with this key was answered, if it came before.
    ///
    /// # Errors
    /// [`StoreError::RequestKeyReused`] when it was another request.
    pub fn answered(&self, request: &RequestKey) -> Result<Option<Receipt>, StoreError> {
        self.repeated(&request.key, request.fingerprint)
    }

    /// Gives a memory that has none its embedding. It stays the same version; where it is another one by then, or has got
    /// an embedding, nothing is changed.
    pub fn submit_embedding(&self, id: &str, of: Lsn, embedding: &Embedding) -> ReceiptHandle {
        self.commit_checked(self.prepare_embedding(id, of, embedding))
    }

    fn commit_checked(&self, checked: Result<Checked, StoreError>) -> ReceiptHandle {
        match checked {
            Ok(Checked::Answered(receipt)) => ReceiptHandle::ready(Ok(receipt)),
            Ok(Checked::Write(Change { entry, flight, request, unchanged })) => {
                let id = Arc::clone(&flight.id);
                self.store.submit_change(id, entry, unchanged, (flight, request))
            }
            Err(error) => ReceiptHandle::ready(Err(error)),
        }
    }

    fn prepare_episode(&self, episode: Episode, options: &WriteOptions) -> Result<Checked, StoreError> {
        episode.check()?;
        let vector = episode.embedding.as_ref().map(|it| self.store.state.vector(it)).transpose()?;
        self.prepare(Wanted { episode, vector }, options)
    }

    fn prepare_patch(
        &self,
        id: &str,
        mut patch: Patch,
        options: &WriteOptions,
    ) -> Result<Checked, StoreError> {
        check_id(id)?;
        // Before the memory is read: it may have changed, or be gone, since the request was answered.
        if let Some(RequestKey { key, fingerprint }) = &options.request
            && let Some(receipt) = self.repeated(key, *fingerprint)?
        {
            return Ok(Checked::Answered(receipt));
        }
        let now = Utc::now();
        let before = self.store.state.get_with_vector(&self.state, id);
        let before = before.filter(|(memory, _)| !memory.has_expired(now));
        let Some((memory, vector)) = before else { return Err(StoreError::NotFound { id: id.to_owned() }) };
        let expected = options.expected.unwrap_or(memory.lsn());
        check_expected(id, Some(expected), Some(&memory))?;
        let new_embedding = patch.embedding.take();
        let keeps_vector = patch.content.as_deref().is_none_or(|content| content == memory.content());
        let episode = patch.apply_to(&memory);
        episode.check()?;
        let vector = match new_embedding {
            Some(embedding) => embedding.as_ref().map(|it| self.store.state.vector(it)).transpose()?,
            // What was said before means something else.
            None => vector.filter(|_| keeps_vector),
        };
        let options = WriteOptions { expected: Some(expected), ..options.clone() };
        self.prepare(Wanted { episode, vector }, &options)
    }

    /// Makes the record of a memory, unless it is the same already.
    fn prepare(&self, wanted: Wanted, options: &WriteOptions) -> Result<Checked, StoreError> {
        let Wanted { episode, vector } = wanted;
        let (flight_of_request, request) = match self.begin(options)? {
            Begun::Answered(receipt) => return Ok(Checked::Answered(receipt)),
            Begun::New(request) => request.unzip(),
        };
        let Episode { id, when, content, embedding: _, confidence, metadata, expires_at } = episode;
        let (when_us, confidence) = (when.timestamp_micros(), confidence.get());
        let expires_us = expires_at.map(|at| at.timestamp_micros());
        // Looked at before the memory is: a change that lands between the two is seen by one of them.
        let is_changing = self.state.in_flight.touches(&id);
        let before = self.store.state.get_with_vector(&self.state, &id);
        let mut expected = options.expected;
        if !is_changing {
            // What has expired is there for nobody, although it is forgotten only a moment later.
            let (now, memory) = (Utc::now(), before.as_ref().map(|(memory, _)| &**memory));
            check_expected(&id, expected, memory.filter(|memory| !memory.has_expired(now)))?;
            if let Some(memory) = memory.filter(|_| expected == Some(Lsn::ZERO)) {
                expected = Some(memory.lsn());
            }
        }
        let vector = match &before {
            Some((memory, stored)) if vector.is_none() && options.keeps_embedding && !is_changing => {
                stored.clone().filter(|_| memory.content() == content)
            }
            _ => vector,
        };
        if let Some((memory, stored)) = &before
            && !is_changing
            && (memory.when().timestamp_micros(), memory.content()) == (when_us, &*content)
            && memory.confidence().get().to_bits() == confidence.to_bits()
            && memory.expires_at().map(|at| at.timestamp_micros()) == expires_us
            && (memory.metadata(), stored) == (&metadata, &vector)
        {
            let (lsn, outcome) = (memory.lsn(), Outcome::Unchanged);
            let receipt = Receipt { id, lsn, outcome, durability: self.store.durability_of(lsn) };
            return match (flight_of_request, request) {
                (Some(flight), Some(request)) => self.note_unchanged(flight, request, receipt),
                _ => Ok(Checked::Answered(receipt)),
            };
        }
        // One that is being stored has its place already.
        let is_new = before.is_none() && !is_changing;
        let flight = self.state.in_flight.take_off(&id, is_new);
        if is_new {
            self.check_capacity()?;
        }
        let space = self.name().to_owned();
        let terms = Terms { expected, request };
        let record =
            StoreRecord { space, id, when_us, content, confidence, metadata, vector, expires_us, terms };
        self.check_memory(&record, before.as_ref().map(|(memory, _)| &**memory))?;
        let entry = encode(Record::Store(record))?;
        Ok(Checked::Write(Change { entry, flight, request: flight_of_request, unchanged: None }))
    }

    fn prepare_forget(
        &self,
        id: &str,
        options: &WriteOptions,
        memory: impl FnOnce(&str) -> Option<Arc<Memory>>,
    ) -> Result<Checked, StoreError> {
        check_id(id)?;
        let (flight_of_request, request) = match self.begin(options)? {
            Begun::Answered(receipt) => return Ok(Checked::Answered(receipt)),
            Begun::New(request) => request.unzip(),
        };
        // One that is being stored can be forgotten: the log decides which comes first.
        let is_changing = self.state.in_flight.touches(id);
        let memory = memory(id);
        if memory.is_none() && !is_changing {
            return Err(StoreError::NotFound { id: id.to_owned() });
        }
        if !is_changing {
            check_expected(id, options.expected, memory.as_deref())?;
        }
        let terms = Terms { expected: options.expected, request };
        let record = ForgetRecord { space: self.name().to_owned(), id: id.to_owned(), terms };
        let entry = encode(Record::Forget(record))?;
        let flight = self.state.in_flight.take_off(id, false);
        Ok(Checked::Write(Change { entry, flight, request: flight_of_request, unchanged: None }))
    }

    fn prepare_embedding(&self, id: &str, of: Lsn, embedding: &Embedding) -> Result<Checked, StoreError> {
        check_id(id)?;
        let vector = self.store.state.vector(embedding)?;
        let memory = self.state.get_any(id);
        if memory.is_none_or(|memory| memory.lsn() != of || memory.has_embedding()) {
            return Err(StoreError::NotFound { id: id.to_owned() });
        }
        let (space, id) = (self.name().to_owned(), id.to_owned());
        let flight = self.state.in_flight.take_off(&id, false);
        let entry = encode(Record::Embed(EmbedRecord { space, id, of, vector }))?;
        Ok(Checked::Write(Change { entry, flight, request: None, unchanged: None }))
    }

    /// A request that changes nothing is kept all the same: its repetition must change nothing either, whatever comes
    /// in between.
    fn note_unchanged(
        &self,
        request_flight: RequestFlight,
        request: Request,
        receipt: Receipt,
    ) -> Result<Checked, StoreError> {
        let Receipt { id, lsn, outcome, .. } = receipt.clone();
        let flight = self.state.in_flight.take_off(&id, false);
        let (space, outcome) = (self.name().to_owned(), outcome.to_u8());
        let entry = encode(Record::Receipt(ReceiptRecord { space, request, id, lsn, outcome }))?;
        let (request, unchanged) = (Some(request_flight), Some(receipt));
        Ok(Checked::Write(Change { entry, flight, request, unchanged }))
    }

    /// Whether the request with this key, if there is a key, was answered before; if not, it is in flight from now on.
    fn begin(&self, options: &WriteOptions) -> Result<Begun, StoreError> {
        let Some(RequestKey { key, fingerprint }) = &options.request else { return Ok(Begun::New(None)) };
        check_request_key(key)?;
        // Taken before it is looked up: a repetition that is answered meanwhile is seen by one of the two.
        let flight = self.state.in_flight.take_off_request(key)?;
        if let Some(receipt) = self.repeated(key, *fingerprint)? {
            return Ok(Begun::Answered(receipt));
        }
        let at_us = Utc::now().timestamp_micros();
        let request = Request { key: key.clone(), fingerprint: *fingerprint, at_us };
        Ok(Begun::New(Some((flight, request))))
    }

    /// What the request was answered the first time, if it came before.
    fn repeated(&self, key: &str, fingerprint: u128) -> Result<Option<Receipt>, StoreError> {
        let Some(answered) = self.state.answered(key) else { return Ok(None) };
        if answered.request.fingerprint != fingerprint {
            return Err(StoreError::RequestKeyReused { key: key.to_owned() });
        }
        let (id, lsn, outcome) = (answered.id.to_string(), answered.lsn, answered.outcome);
        Ok(Some(Receipt { id, lsn, outcome, durability: self.store.durability_of(lsn) }))
    }

    /// The change is among those that are in flight when they are counted, and none of them leaves before it counts as a
    /// memory: between the two it may count twice, never not at all.
    fn check_capacity(&self) -> Result<(), StoreError> {
        let (count, capacity) = (self.store.count(), self.store.capacity);
        if count + self.store.state.new_memories() > capacity {
            return Err(StoreError::CapacityReached { space: None, capacity, count });
        }
        let Some(capacity) = self.state.capacity() else { return Ok(()) };
        let (count, capacity) = (self.state.count(), usize::try_from(capacity).unwrap_or(usize::MAX));
        if count + self.state.in_flight.new_memories() > capacity {
            let space = Some(self.name().to_owned());
            return Err(StoreError::CapacityReached { space, capacity, count });
        }
        Ok(())
    }

    fn check_memory(&self, record: &StoreRecord, before: Option<&Memory>) -> Result<(), StoreError> {
        let grows = self.store.state.footprint(record);
        let shrinks = before.map_or(0, |memory| self.state.footprint_of(memory));
        let (bytes, limit) = (self.store.state.bytes(), self.store.memory_limit);
        if grows > shrinks && bytes.saturating_add(grows - shrinks) > limit {
            return Err(StoreError::MemoryLimitReached { limit, bytes });
        }
        Ok(())
    }

    /// The memory with this id.
    pub fn get(&self, id: &str) -> Option<Arc<Memory>> {
        self.state.get(id)
    }

    /// The memory with this id and its embedding: see [`MemoryStore::get_with_embedding`].
    pub fn get_with_embedding(&self, id: &str) -> Option<(Arc<Memory>, Option<Embedding>)> {
        let (memory, vector) = self.store.state.get_with_vector(&self.state, id)?;
        if memory.has_expired(Utc::now()) {
            return None;
        }
        Some((memory, vector.map(|logged| Embedding::from(logged.vector.to_f32()))))
    }

    /// The memories that answer a question best: see [`MemoryStore::recall`].
    ///
    /// # Errors
    /// As [`MemoryStore::recall`].
    pub fn recall(&self, query: &Query) -> Result<Recall, StoreError> {
        self.store.state.recall(&self.state, query)
    }

    /// A page of all memories: see [`MemoryStore::list`].
    ///
    /// # Errors
    /// As [`MemoryStore::list`].
    pub fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.state.list(query)
    }

    /// The ids of all memories that a filter accepts, each once, as they happened: what is there all the time is among
    /// them, whatever changes meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Query`] for a filter that cannot be.
    pub fn ids(&self, filter: &Filter) -> Result<Vec<Arc<str>>, StoreError> {
        filter.check()?;
        loop {
            let begun = self.store.state.applied_lsn();
            let mut ids = self.state.ids(filter);
            // What was moved while the pages were read may be in two of them, or in none.
            let Ok(told) = self.store.state.settled_changes(begun) else { continue };
            let here = told.into_iter().filter(|change| change.space == *self.state.name());
            let changed: BTreeSet<Arc<str>> = here.filter_map(|change| change.event.into_id()).collect();
            ids.retain(|id| !changed.contains(id));
            let accepted = |id: &Arc<str>| self.get(id).is_some_and(|memory| filter.accepts(&memory));
            ids.extend(changed.into_iter().filter(accepted));
            return Ok(ids);
        }
    }

    /// How many memories there are.
    pub fn count(&self) -> usize {
        self.state.count()
    }

    /// The space as it is now.
    pub fn status(&self) -> SpaceStatus {
        SpaceStatus {
            name: Arc::clone(self.state.name()),
            count: self.state.count(),
            capacity: self.state.capacity(),
            memory_bytes: self.state.bytes(),
            lsn: self.state.lsn(),
            index: self.state.index_status(),
        }
    }
}
