//! Questions, and what they bring back.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{Confidence, Embedding, Lsn, Memory, StoreError, limits};

/// A question: by words or by meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What to look for.
    pub by: QueryBy,
    /// The most results: up to [`RECALL_LIMIT_MAX`](limits::RECALL_LIMIT_MAX). So many come back unless fewer
    /// memories match.
    pub limit: usize,
    /// Which memories count. Applied before candidates are cut, so it never thins out the results.
    pub filter: Filter,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum QueryBy {
    /// Memories with these words, by BM25: a score above 0, higher for rarer and more frequent words.
    Words(String),
    /// Memories that mean the same, by cosine over the stored vectors: a score from -1 to 1.
    Embedding(Embedding),
}

impl Query {
    /// The ten best by words.
    pub fn words(query: impl Into<String>) -> Self {
        Self::by(QueryBy::Words(query.into()))
    }

    /// The ten best by meaning.
    pub fn embedding(embedding: impl Into<Embedding>) -> Self {
        Self::by(QueryBy::Embedding(embedding.into()))
    }

    fn by(by: QueryBy) -> Self {
        Self { by, limit: 10, filter: Filter::default() }
    }

    /// With another limit.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// With a filter.
    #[must_use]
    pub fn filter(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let refuse = |reason| Err(StoreError::Query { reason });
        if self.limit > limits::RECALL_LIMIT_MAX {
            return refuse(format!(
                "expected a limit up to {}, got {}",
                limits::RECALL_LIMIT_MAX,
                self.limit
            ));
        }
        match &self.by {
            QueryBy::Words(words) if words.len() > limits::QUERY_BYTES_MAX => {
                let max = limits::QUERY_BYTES_MAX;
                refuse(format!("expected a query of up to {max} bytes, got {}", words.len()))
            }
            QueryBy::Words(_) | QueryBy::Embedding(_) => Ok(()),
        }
    }
}

/// Which memories count. Without conditions, all.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Filter {
    /// Those that happened then or later.
    pub when_from: Option<DateTime<Utc>>,
    /// Those that happened before.
    pub when_before: Option<DateTime<Utc>>,
    /// Those that are at least so sure.
    pub confidence_min: Option<Confidence>,
}

impl Filter {
    /// Whether `memory` counts.
    pub fn accepts(&self, memory: &Memory) -> bool {
        self.when_from.is_none_or(|from| memory.when >= from)
            && self.when_before.is_none_or(|before| memory.when < before)
            && self.confidence_min.is_none_or(|min| memory.confidence >= min)
    }
}

/// A memory that answers a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The memory.
    pub memory: Arc<Memory>,
    /// How well it answers; comparable within one recall.
    pub score: f32,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Recall {
    /// The best first; the newer first among equals.
    pub hits: Vec<Hit>,
    /// All changes up to here were seen.
    pub lsn: Lsn,
}
