//! On what terms a change is made, and changes of a part of a memory.

use chrono::{DateTime, Utc};
use engram_storage::Lsn;

use crate::{
    Confidence, Embedding, Episode, Memory, MetaValue, StoreError, episode::check_plain,
    limits::REQUEST_KEY_BYTES_MAX,
};

/// On what terms a change is made. By default on none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteOptions {
    /// The version that the memory must have: the LSN of its receipt. [`Lsn::ZERO`] for a memory that there must not be.
    /// It holds at the change's place in the log: no other change comes in between.
    pub expected: Option<Lsn>,
    /// What makes the request safe to repeat.
    pub request: Option<RequestKey>,
    /// That an episode without an embedding leaves the memory the one that it has, as long as its content stays the same:
    /// for a store that gets embeddings from somewhere else.
    pub keeps_embedding: bool,
}

/// The key of a request, which its client makes up. A request that comes again under its key, also after a crash, changes
/// nothing and gets the receipt of the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// 1 to [`REQUEST_KEY_BYTES_MAX`] bytes, no control characters.
    pub key: String,
    /// A digest of what is asked for: under the same key there is the same request.
    pub fingerprint: u128,
}

/// What is to change of a memory. What is not named stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Patch {
    /// Another content. The memory loses its embedding unless it gets another.
    pub content: Option<String>,
    /// Another time.
    pub when: Option<DateTime<Utc>>,
    /// Another confidence.
    pub confidence: Option<Confidence>,
    /// Another embedding, or none.
    pub embedding: Option<Option<Embedding>>,
    /// Keys of the metadata with another value, or that are to go.
    pub metadata: Vec<(String, Option<MetaValue>)>,
    /// Another end, or none.
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

impl Patch {
    /// The memory as it is to be, without its embedding.
    pub(super) fn apply_to(self, memory: &Memory) -> Episode {
        let mut metadata = memory.metadata().clone();
        for (key, value) in self.metadata {
            match value {
                Some(value) => metadata.insert(key, value),
                None => metadata.remove(&key),
            };
        }
        Episode {
            id: memory.id().to_owned(),
            when: self.when.unwrap_or(memory.when()),
            content: self.content.unwrap_or_else(|| memory.content().to_owned()),
            embedding: None,
            confidence: self.confidence.unwrap_or(memory.confidence()),
            metadata,
            expires_at: self.expires_at.unwrap_or(memory.expires_at()),
        }
    }
}

/// Refuses a key that no request can have.
pub(super) fn check_request_key(key: &str) -> Result<(), StoreError> {
    check_plain(key, REQUEST_KEY_BYTES_MAX).map_err(|reason| StoreError::RequestKey { reason })
}
