//! What the embeddings of a store are from.

use std::{fmt, sync::Arc};

use engram_storage::Lsn;

use super::{MemoryStore, encode};
use crate::{
    Embedding, Memory, Precision, Receipt, StoreError,
    embedding::check_dimension,
    payload::{Config, EmbedRecord, Record},
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

/// Vectors of the model to come. They are put in when the store changes to it.
#[derive(Debug)]
pub struct Staging {
    dimension: usize,
    precision: Precision,
    /// The space, the id and the version of each memory that has one.
    memories: Vec<(Arc<str>, Arc<str>, Lsn)>,
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
    /// [`StoreError::Setting`] for 0 or more than [`DIMENSION_MAX`](crate::DIMENSION_MAX).
    pub fn begin_staging(&self, dimension: usize) -> Result<Staging, StoreError> {
        check_dimension(dimension).map_err(|reason| StoreError::Setting { reason })?;
        self.state.staged().clear();
        Ok(Staging { dimension, precision: self.state.config().precision, memories: Vec::new() })
    }

    /// Keeps the embedding that a memory of this version will have when the store changes to another model. In memory
    /// alone.
    ///
    /// # Errors
    /// [`StoreError::Embedding`] for one that no memory could have then.
    pub fn stage(
        &self,
        staging: &mut Staging,
        space: &str,
        memory: &Memory,
        embedding: &Embedding,
    ) -> Result<(), StoreError> {
        let vector = StoredVector::from_embedding(embedding, staging.dimension, staging.precision)?;
        self.state.staged().insert(memory.lsn, vector);
        staging.memories.push((Arc::from(space), Arc::clone(&memory.id), memory.lsn));
        Ok(())
    }

    /// Changes to another model, at one place of the log: what was staged takes the place of all embeddings, and memories
    /// without one are recalled by words until they get theirs. Then writes the new embeddings to the log; what a crash
    /// keeps from getting there is without an embedding after the next start.
    ///
    /// # Errors
    /// [`StoreError::Storage`] as [`store`](Self::store).
    pub fn change_model(&self, staging: &Staging, model: ModelIdentity) -> Result<Receipt, StoreError> {
        let former = self.state.config();
        let config = Config {
            dimension: staging.dimension,
            precision: staging.precision,
            model: Some(model),
            former: Some((former.dimension, former.precision)),
        };
        let receipt = self.write_config(config)?;
        for memories in staging.memories.chunks(LOGGED_TOGETHER) {
            self.log_embeddings(memories)?;
        }
        Ok(receipt)
    }

    fn log_embeddings(&self, memories: &[(Arc<str>, Arc<str>, Lsn)]) -> Result<(), StoreError> {
        let mut handles = Vec::new();
        for (space, id, of) in memories {
            let Some(state) = self.state.space(space) else { continue };
            let Some((memory, Some(vector))) = self.state.get_with_vector(&state, id) else { continue };
            if memory.lsn == *of {
                let (space, id) = (space.to_string(), id.to_string());
                let record = Record::Embed(EmbedRecord { space, id, of: *of, vector });
                handles.push(self.submit_entry(&memory.id, encode(record)?));
            }
        }
        for handle in handles {
            match handle.wait() {
                // Readers have it already: nothing is changed for them.
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_config(&self, config: Config) -> Result<Receipt, StoreError> {
        self.commit_entry("config", encode(Record::Config(config))?)
    }
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
