//! What the store remembers.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{Confidence, Lsn, Metadata};

/// A stored episode. Never changes: an update puts another one in its place.
///
/// Its embedding lies with all others, where recall scans it: see
/// [`MemoryStore::get_with_embedding`](crate::MemoryStore::get_with_embedding).
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    pub(crate) id: Arc<str>,
    pub(crate) lsn: Lsn,
    pub(crate) when: DateTime<Utc>,
    pub(crate) content: Box<str>,
    pub(crate) confidence: Confidence,
    pub(crate) metadata: Metadata,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) has_embedding: bool,
}

impl Memory {
    /// Its id, unique in the store.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The position in the log of the record that it is from: its version.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// When it happened.
    pub fn when(&self) -> DateTime<Utc> {
        self.when
    }

    /// What happened.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// How sure it is.
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }

    /// What else is known.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// When it ends by itself, if it does. Readers do not see it from then on.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.expires_at
    }

    pub(crate) fn has_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether it can be recalled by an embedding.
    pub fn has_embedding(&self) -> bool {
        self.has_embedding
    }
}
