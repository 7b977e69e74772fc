//! Engram's memories: a durable store of episodes, recalled by meaning, by words and by time.
//!
//! A [`MemoryStore`] keeps all memories in RAM and, with [`with_wal`](MemoryStore::with_wal), writes each change to
//! a write-ahead log first: what was acknowledged is there again after a crash. Live commits and recovery enter
//! memory through the same code, so the recovered state equals the live one.
//!
//! What it is **not**: it knows nothing of HTTP, of flags, or of how texts become embeddings. A missing embedding
//! is never invented: a memory without one is recalled by words.
//!
//! ```
//! use engram_core::{Confidence, Episode, FsyncMode, MemoryStore, Query};
//!
//! # fn main() -> Result<(), engram_core::StoreError> {
//! # let directory = tempfile::tempdir().expect("a temporary directory");
//! let store = MemoryStore::new(100_000).with_wal(directory.path(), FsyncMode::PerBatch)?;
//! let receipt = store.store(Episode::text("tea", "Ada prefers green tea in the morning"))?;
//! assert_eq!(receipt.durability, engram_core::Durability::Synced); // survives power loss
//!
//! let recall = store.recall(&Query::words("green tea"))?;
//! assert_eq!(recall.hits[0].memory.id(), "tea");
//! # Ok(()) }
//! ```

mod applied;
mod audit;
mod confidence;
mod embedding;
mod episode;
mod error;
mod filter;
mod footprint;
mod fusion;
mod index;
pub mod limits;
mod memory;
mod metadata;
mod payload;
mod prepared;
mod recall;
mod receipt;
mod state;
mod store;
mod timeline;
mod top_k;
mod vector;
mod words;

pub use audit::{Change, LogAudit};
/// The time type of this crate's API.
pub use chrono;
pub use confidence::{Confidence, InvalidConfidence};
pub use embedding::{
    DIMENSION_MAX, Embedding, EmbeddingError, InvalidPrecision, NORM_MAX, NORM_MIN, Precision,
};
/// The log's types that are part of this crate's API.
pub use engram_storage as storage;
pub use engram_storage::{FsyncMode, Lsn, RecoveryMode, StorageError};
pub use episode::Episode;
pub use error::StoreError;
pub use filter::{Condition, Field, Filter, Test};
pub use index::{IndexMode, IndexStatus, InvalidIndexMode, InvalidRecallTarget, RecallTarget, Route};
pub use memory::Memory;
pub use metadata::{MetaValue, Metadata};
pub use recall::{Explanation, Hit, Mode, Query, Recall};
pub use receipt::{Durability, Outcome, Receipt, ReceiptHandle};
pub use state::{ChangeHook, FeedEvent, FeedItem};
pub use store::{
    LogFailure, MemoryStore, ModelChange, ModelIdentity, Patch, RequestKey, SnapshotPolicy, SnapshotStatus,
    Space, SpaceStatus, Staging, StoreStatus, Unembedded, WriteOptions, Writes,
};
pub use timeline::{Cursor, ListQuery, Page};
