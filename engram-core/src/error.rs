//! What can go wrong, and what the caller can do about it.

use std::time::Duration;

use engram_storage::{Lsn, StorageError};

use crate::{EmbeddingError, limits};

/// A refusal or a failure. What was refused has changed nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No memory can have this id.
    #[error("expected an id of 1 to {} bytes without control characters, {reason}", limits::ID_BYTES_MAX)]
    Id {
        /// What came.
        reason: String,
    },
    /// No memory can have this content.
    #[error("expected a content of 1 to {} bytes, got {got}", limits::CONTENT_BYTES_MAX)]
    Content {
        /// How many bytes came.
        got: usize,
    },
    /// No memory can have this time.
    #[error("when: {reason}")]
    When {
        /// What was expected, and what came.
        reason: String,
    },
    /// No memory can have this metadata.
    #[error("metadata: {reason}")]
    Metadata {
        /// What was expected, and what came.
        reason: String,
    },
    /// The store cannot hold this embedding.
    #[error("embedding: {0}")]
    Embedding(#[from] EmbeddingError),
    /// A question that cannot be answered.
    #[error("{reason}")]
    Query {
        /// What was expected, and what came.
        reason: String,
    },
    /// Readers do not see this change yet. Wait longer; a change that this store never acknowledged is never seen.
    #[error("expected LSN {lsn} to be seen within {} ms, but the store is at LSN {applied}", waited.as_millis())]
    NotYet {
        /// The change that was waited for.
        lsn: Lsn,
        /// The last change that readers see.
        applied: Lsn,
        /// How long was waited.
        waited: Duration,
    },
    /// There is no such memory.
    #[error("there is no memory with the id {id:?}")]
    NotFound {
        /// The id that was asked for.
        id: String,
    },
    /// The store is full. Nothing is dropped to make room: forget memories, or raise the capacity.
    #[error("the store holds {count} memories, its capacity is {capacity}")]
    CapacityReached {
        /// The most memories that it takes.
        capacity: usize,
        /// The memories that it holds, or is about to.
        count: usize,
    },
    /// The memories take as much memory as they may. Nothing is dropped to make room: forget memories, or raise the limit.
    #[error("the memories take about {bytes} bytes of memory, and may take {limit}")]
    MemoryLimitReached {
        /// What they may take, in bytes.
        limit: u64,
        /// What they take, by an estimate.
        bytes: u64,
    },
    /// The store cannot be set up like this.
    #[error("{reason}")]
    Setting {
        /// What was expected, and what came.
        reason: String,
    },
    /// The store in the log was made with another setting.
    #[error(
        "the store was made with {setting} {stored}, asked for is {requested}: open it with {setting} {stored}, or make a new store elsewhere"
    )]
    SettingMismatch {
        /// Which setting.
        setting: &'static str,
        /// What the store has.
        stored: String,
        /// What was asked for.
        requested: String,
    },
    /// A whole record that this build cannot read: open the store with the version of Engram that wrote it.
    #[error("record {lsn} of the log cannot be read by this build: {reason}")]
    Record {
        /// The record.
        lsn: Lsn,
        /// What was expected, and what came.
        reason: String,
    },
    /// The log refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
