//! What a caller wants remembered.

use chrono::{DateTime, Datelike as _, Utc};
use uuid::Uuid;

use crate::{Confidence, Embedding, Metadata, StoreError, limits, metadata};

/// Something that happened: what is stored under an id, whole. Storing another one under the same id replaces it.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// 1 to [`ID_BYTES_MAX`](limits::ID_BYTES_MAX) bytes, no control characters.
    pub id: String,
    /// When it happened, in the years 0 to 9999; kept to the microsecond.
    pub when: DateTime<Utc>,
    /// What happened, in words: 1 to [`CONTENT_BYTES_MAX`](limits::CONTENT_BYTES_MAX) bytes.
    pub content: String,
    /// What it means, as many finite numbers as the store has dimensions; nothing when there is none.
    pub embedding: Option<Embedding>,
    /// How sure it is.
    pub confidence: Confidence,
    /// What else is known.
    pub metadata: Metadata,
    /// When it ends by itself, in the years 0 to 9999, kept to the microsecond; nothing for what is kept until it is
    /// forgotten.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Episode {
    /// An episode with an embedding: a `[f32; 768]`, a `Vec<f32>` or an [`Embedding`].
    pub fn new(
        id: impl Into<String>,
        when: DateTime<Utc>,
        content: impl Into<String>,
        embedding: impl Into<Embedding>,
        confidence: Confidence,
    ) -> Self {
        let embedding = Some(embedding.into());
        Self { when, embedding, confidence, ..Self::text(id, content) }
    }

    /// An episode that happened now, is certain, and has no embedding: it is recalled by words.
    pub fn text(id: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            when: Utc::now(),
            content: content.into(),
            embedding: None,
            confidence: Confidence::CERTAIN,
            metadata: Metadata::new(),
            expires_at: None,
        }
    }

    /// A new id for an episode that has none: a `UUIDv7`, so that ids sort by the time they were made.
    pub fn new_id() -> String {
        Uuid::now_v7().to_string()
    }

    /// Refuses what is over a limit. The embedding is checked where its form is known.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        check_id(&self.id)?;
        if self.content.is_empty() || self.content.len() > limits::CONTENT_BYTES_MAX {
            return Err(StoreError::Content { got: self.content.len() });
        }
        check_time("when", self.when)?;
        if let Some(at) = self.expires_at {
            check_time("expires_at", at)?;
        }
        metadata::check(&self.metadata)
    }
}

/// RFC 3339 has no other years: what is in one could be stored and not be read back.
fn check_time(field: &'static str, time: DateTime<Utc>) -> Result<(), StoreError> {
    if (0..=9999).contains(&time.year()) {
        return Ok(());
    }
    Err(StoreError::When { field, reason: format!("expected a year from 0 to 9999, got {time}") })
}

/// Refuses an id that no memory can have.
pub(crate) fn check_id(id: &str) -> Result<(), StoreError> {
    check_plain(id, limits::ID_BYTES_MAX).map_err(|reason| StoreError::Id { reason })
}

/// Whether a text has something in it, up to so many bytes, and no control characters; if not, what came.
pub(crate) fn check_plain(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > bytes_max {
        Err(format!("got {} bytes", text.len()))
    } else if let Some(control) = text.chars().find(|c| c.is_control()) {
        Err(format!("got the control character {control:?}"))
    } else {
        Ok(())
    }
}
