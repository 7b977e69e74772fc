//! What the embeddings of a store are from.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use engram_storage::Lsn;

use super::{MemoryStore, encode};
use crate::{
    Embedding, Memory, Precision, Receipt, ReceiptHandle, StoreError,
    embedding::check_dimension,
    footprint,
    payload::{Config, EmbedRecord, Record},
    state::Staged,
    vector::StoredVector,
};

/// What makes embeddings comparable: those of another model, or of texts with another prefix, mean nothing beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIdentity {
    /// The model's name.
    pub name: String,
    /// What was put before each content.
    pub document_prefix: String,
    /// What is put before each question.
    pub query_prefix: String,
}

/// Vectors of the model to come. They are put in when the store changes to it; until then nobody sees them. Their memory
/// counts as that of the memories does.
#[derive(Debug)]
pub struct Staging {
    dimension: usize,
    precision: Precision,
    vectors: Staged,
    /// By space and id, the version of each memory that has one.
    versions: HashMap<Box<str>, HashMap<Arc<str>, Lsn>>,
    taken: Taken,
}

/// Memory that is taken, and given back at the end.
#[derive(Debug)]
struct Taken {
    bytes: u64,
    of_all: Arc<AtomicU64>,
}

impl Taken {
    fn change_to(&mut self, bytes: u64) {
        self.of_all.fetch_add(bytes, SeqCst);
        self.of_all.fetch_sub(self.bytes, SeqCst);
        self.bytes = bytes;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.change_to(0);
    }
}

impl Staging {
    /// How many memories have their vectors here.
    pub fn count(&self) -> usize {
        self.vectors.len()
    }

    /// Whether a memory of this version has its vector here.
    pub fn has(&self, memory: &Memory) -> bool {
        self.vectors.contains_key(&memory.lsn)
    }

    fn count_bytes(&mut self) {
        let bytes = self.vectors.len() as u64 * footprint::of_staged(self.dimension, self.precision);
        self.taken.change_to(bytes);
    }
}

/// The right to change to another model. While there is it, no snapshot is taken: one would have vectors of both.
#[derive(Debug)]
pub struct ModelChange<'a> {
    store: &'a MemoryStore,
    _no_snapshot: Option<MutexGuard<'a, ()>>,
}

/// Embeddings that are written to the log together.
const LOGGED_TOGETHER: usize = 1024;

impl MemoryStore {
    /// Notes what the embeddings are from, where that was not said before. A change to another model is
    /// [`change_model`](Self::change_model).
    ///
    /// # Errors
    /// [`StoreError::SettingMismatch`] when they are from another model; [`StoreError::Storage`] as
    /// [`store`](Self::store).
    pub fn set_model(&self, model: ModelIdentity) -> Result<(), StoreError> {
        let config = self.state.config();
        match &config.model {
            Some(stored) if *stored == model => Ok(()),
            Some(stored) => Err(StoreError::SettingMismatch {
                setting: "embedding model",
                stored: stored.to_string(),
                requested: model.to_string(),
            }),
            None => self.write_config(Config { model: Some(model), ..config }).map(drop),
        }
    }

    /// Makes ready for embeddings of another length: see [`stage`](Self::stage).
    ///
    /// # Errors
    /// [`StoreError::Setting`] for 0 or more than [`DIMENSION_MAX`](crate::DIMENSION_MAX);
    /// [`StoreError::MemoryLimitReached`] when those of all memories would take more memory than there may be taken.
    pub fn begin_staging(&self, dimension: usize) -> Result<Staging, StoreError> {
        check_dimension(dimension).map_err(|reason| StoreError::Setting { reason })?;
        let precision = self.state.config().precision;
        self.check_staged(self.count() as u64 * footprint::of_staged(dimension, precision))?;
        let taken = Taken { bytes: 0, of_all: Arc::clone(self.state.staged_bytes()) };
        Ok(Staging { dimension, precision, vectors: Staged::new(), versions: HashMap::new(), taken })
    }

    /// Keeps the embedding that a memory of this version will have when the store changes to another model, in place of
    /// that of an earlier version. In memory alone.
    ///
    /// # Errors
    /// [`StoreError::Embedding`] for one that no memory could have then; [`StoreError::MemoryLimitReached`].
    pub fn stage(
        &self,
        staging: &mut Staging,
        space: &str,
        memory: &Memory,
        embedding: &Embedding,
    ) -> Result<(), StoreError> {
        let vector = StoredVector::from_embedding(embedding, staging.dimension, staging.precision)?;
        self.check_staged(footprint::of_staged(staging.dimension, staging.precision))?;
        let id = Arc::clone(&memory.id);
        let former = match staging.versions.get_mut(space) {
            Some(versions) => versions.insert(id, memory.lsn),
            None => staging.versions.entry(space.into()).or_default().insert(id, memory.lsn),
        };
        if let Some(former) = former {
            staging.vectors.remove(&former);
        }
        staging.vectors.insert(memory.lsn, vector);
        staging.count_bytes();
        Ok(())
    }

    fn check_staged(&self, more: u64) -> Result<(), StoreError> {
        let (bytes, limit) = (self.state.bytes(), self.memory_limit);
        if bytes.saturating_add(more) > limit {
            return Err(StoreError::MemoryLimitReached { limit, bytes });
        }
        Ok(())
    }

    /// Changes to another model, at one place of the log: what was staged takes the place of all embeddings, and memories
    /// without one are recalled by words until they get theirs. Then writes the new embeddings to the log: see
    /// [`log_staged`](Self::log_staged).
    ///
    /// # Errors
    /// [`StoreError::Storage`] as [`store`](Self::store).
    pub fn change_model(&self, mut staging: Staging, model: ModelIdentity) -> Result<Receipt, StoreError> {
        let receipt = self.begin_change().make(&mut staging, model)?;
        self.log_staged(&staging)?;
        Ok(receipt)
    }

    /// Waits until no snapshot is being taken, and lets none begin until the model is changed.
    pub fn begin_change(&self) -> ModelChange<'_> {
        ModelChange { store: self, _no_snapshot: self.snapshots.as_ref().map(|snapshots| snapshots.hold()) }
    }

    /// Writes the embeddings that a change of the model has put in to the log. What a crash keeps from getting there is
    /// without an embedding after the next start.
    ///
    /// # Errors
    /// [`StoreError::Storage`] as [`store`](Self::store).
    pub fn log_staged(&self, staging: &Staging) -> Result<(), StoreError> {
        for (space, versions) in &staging.versions {
            let mut handles = Vec::new();
            for (id, of) in versions {
                handles.extend(self.log_embedding(space, id, *of)?);
                if handles.len() == LOGGED_TOGETHER {
                    wait_for(&mut handles)?;
                }
            }
            wait_for(&mut handles)?;
        }
        // Once more, away from the first: should that be damaged, each embedding still says that the model has changed,
        // and this record to which.
        self.write_config(self.state.config()).map(drop)
    }

    /// Writes the embedding of a memory to the log, if it is still of this version.
    fn log_embedding(&self, space: &str, id: &str, of: Lsn) -> Result<Option<ReceiptHandle>, StoreError> {
        let Some(state) = self.state.space(space) else { return Ok(None) };
        let Some((memory, Some(vector))) = self.state.get_with_vector(&state, id) else { return Ok(None) };
        if memory.lsn != of {
            return Ok(None);
        }
        let (space, id) = (space.to_owned(), id.to_owned());
        let record = Record::Embed(EmbedRecord { space, id, of, vector });
        Ok(Some(self.submit_entry(&memory.id, encode(record)?)))
    }

    fn write_config(&self, config: Config) -> Result<Receipt, StoreError> {
        self.commit_entry("config", encode(Record::Config(config))?)
    }
}

impl ModelChange<'_> {
    /// Changes to another model, at one place of the log: what was staged takes the place of all embeddings when this
    /// returns. [`log_staged`](MemoryStore::log_staged) is to follow.
    ///
    /// Who submits a change meanwhile that brings an embedding, or keeps one, must not count on either model.
    ///
    /// # Errors
    /// [`StoreError::Storage`] as [`store`](MemoryStore::store): nothing is changed then, and all is still staged.
    pub fn make(self, staging: &mut Staging, model: ModelIdentity) -> Result<Receipt, StoreError> {
        let state = &self.store.state;
        let config = Config {
            dimension: staging.dimension,
            precision: staging.precision,
            model: Some(model),
            generation: state.config().generation.saturating_add(1),
        };
        *state.staged() = std::mem::take(&mut staging.vectors);
        let receipt = self.store.write_config(config);
        // What was put in is gone from here; what could not be is as it was.
        staging.vectors = std::mem::take(&mut *state.staged());
        staging.count_bytes();
        receipt
    }
}

fn wait_for(handles: &mut Vec<ReceiptHandle>) -> Result<(), StoreError> {
    for handle in handles.drain(..) {
        match handle.wait() {
            // Readers have it already: nothing is changed for them.
            Ok(_) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl fmt::Display for ModelIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.document_prefix.is_empty() || !self.query_prefix.is_empty() {
            write!(f, " (prefixes {:?} and {:?})", self.document_prefix, self.query_prefix)?;
        }
        Ok(())
    }
}
