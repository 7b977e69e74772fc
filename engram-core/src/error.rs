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
    #[error("{field}: {reason}")]
    When {
        /// Which of its times.
        field: &'static str,
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
    /// The memory is not of the version that the change is for: another change came first. Read it, and decide anew.
    #[error("the memory {id:?} {}", mismatch(*expected, *actual))]
    VersionMismatch {
        /// Its id.
        id: String,
        /// The version that was expected; zero for a memory that there must not be.
        expected: Lsn,
        /// The version that there is; zero when there is none.
        actual: Lsn,
    },
    /// There is no such space. One is made before anything is stored in it.
    #[error("there is no space {space:?}")]
    SpaceNotFound {
        /// Its name.
        space: String,
    },
    /// No space can have this name or these properties.
    #[error("{reason}")]
    Space {
        /// What was expected, and what came.
        reason: String,
    },
    /// A request with this key came before, and asked for something else.
    #[error("the key {key:?} is of another request: a key is used again only to repeat the same request")]
    RequestKeyReused {
        /// The key.
        key: String,
    },
    /// A request with this key is being answered right now. Repeat it a moment later.
    #[error("a request with the key {key:?} is being answered: repeat it a moment later")]
    RequestInFlight {
        /// The key.
        key: String,
    },
    /// No request can have this key.
    #[error(
        "expected a key of 1 to {} bytes without control characters, {reason}",
        limits::REQUEST_KEY_BYTES_MAX
    )]
    RequestKey {
        /// What came.
        reason: String,
    },
    /// These changes are not kept any more. Read the memories as they are, and follow from there on.
    #[error("the changes after LSN {after} are not kept any more, only those after {oldest}")]
    ChangesGone {
        /// Where it was to go on.
        after: Lsn,
        /// The first place where it can.
        oldest: Lsn,
    },
    /// No change is so far yet: whoever asks has followed another store, or this one before it was restored, or lost what
    /// was not synced.
    #[error(
        "expected changes after LSN {applied} or before, the last there is, got {after}: this log has no such change"
    )]
    ChangesAhead {
        /// Where it was to go on.
        after: Lsn,
        /// The last change.
        applied: Lsn,
    },
    /// The store is full. Nothing is dropped to make room: forget memories, or raise the capacity.
    #[error("{} holds {count} memories, its capacity is {capacity}", space.as_ref().map_or_else(|| "the store".to_owned(), |space| format!("the space {space:?}")))]
    CapacityReached {
        /// The space, if it is its own capacity.
        space: Option<String>,
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

fn mismatch(expected: Lsn, actual: Lsn) -> String {
    match (expected, actual) {
        (_, Lsn::ZERO) => format!("is not there; expected was its version {expected}"),
        (Lsn::ZERO, _) => format!("is there, as version {actual}; expected was that it is not"),
        _ => format!("is at version {actual}; expected was version {expected}"),
    }
}
