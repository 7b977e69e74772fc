//! Questions, and what they bring back.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{Embedding, Filter, Lsn, Memory, Route, StoreError, limits};

/// A question: by words, by meaning, or by both.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Memories with these words, by BM25: a score above 0, higher for rarer and more frequent words.
    pub words: Option<String>,
    /// Memories that mean the same, by cosine over the stored vectors: a score from -1 to 1.
    pub embedding: Option<Embedding>,
    /// Which of the two to use.
    pub mode: Mode,
    /// The most results: up to [`RECALL_LIMIT_MAX`](limits::RECALL_LIMIT_MAX), 10 by default. So many come back unless fewer
    /// memories match.
    pub limit: usize,
    /// Which memories count. Applied before candidates are cut, so it never thins out the results.
    pub filter: Filter,
    /// Halves the score of a memory for each such time that has passed since it happened. The best by words and by
    /// meaning, ten times as many as are asked for and 200 at least, are ranked anew by it.
    pub recency_half_life: Option<Duration>,
    /// The moment that ages are counted from; the present when there is none.
    pub now: Option<DateTime<Utc>>,
    /// Compares with every vector, whatever index there is.
    pub exact: bool,
}

/// What a question is answered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By whatever the question has: both are fused.
    #[default]
    Auto,
    /// By meaning alone.
    Vector,
    /// By words alone.
    Words,
    /// By both, fused by reciprocal rank: a score of at most 2/61.
    Hybrid,
}

/// How many candidates of each kind are looked at when they are ranked anew.
const CANDIDATES_MIN: usize = 200;
const CANDIDATES_PER_RESULT: usize = 10;

impl Default for Query {
    /// Asks for ten, and for nothing yet.
    fn default() -> Self {
        Self {
            words: None,
            embedding: None,
            mode: Mode::default(),
            limit: 10,
            filter: Filter::default(),
            recency_half_life: None,
            now: None,
            exact: false,
        }
    }
}

impl Query {
    /// The ten best by words.
    pub fn words(query: impl Into<String>) -> Self {
        Self { words: Some(query.into()), ..Self::default() }
    }

    /// The ten best by meaning.
    pub fn embedding(embedding: impl Into<Embedding>) -> Self {
        Self { embedding: Some(embedding.into()), ..Self::default() }
    }

    /// The ten best by both.
    pub fn hybrid(query: impl Into<String>, embedding: impl Into<Embedding>) -> Self {
        Self { words: Some(query.into()), ..Self::embedding(embedding) }
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

    /// With what is recent before what is not.
    #[must_use]
    pub fn recency_half_life(self, half_life: Duration) -> Self {
        Self { recency_half_life: Some(half_life), ..self }
    }

    /// The words to look for, if it is to be by words.
    pub(crate) fn words_used(&self) -> Option<&str> {
        self.words.as_deref().filter(|_| self.mode != Mode::Vector)
    }

    /// The embedding to look for, if it is to be by meaning.
    pub(crate) fn embedding_used(&self) -> Option<&Embedding> {
        self.embedding.as_ref().filter(|_| self.mode != Mode::Words)
    }

    /// How many candidates of each kind are needed, so that no more of them could change the results.
    pub(crate) fn candidates(&self) -> usize {
        let is_ranked_anew = self.recency_half_life.is_some()
            || (self.words_used().is_some() && self.embedding_used().is_some());
        match self.limit {
            0 => 0,
            limit if is_ranked_anew => CANDIDATES_MIN.max(limit * CANDIDATES_PER_RESULT),
            limit => limit,
        }
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
        if let Some(words) = self.words.as_ref().filter(|words| words.len() > limits::QUERY_BYTES_MAX) {
            let max = limits::QUERY_BYTES_MAX;
            return refuse(format!("expected a query of up to {max} bytes, got {}", words.len()));
        }
        let missing = match (self.mode, &self.words, &self.embedding) {
            (Mode::Auto, None, None) => Some("a query, an embedding, or both"),
            (Mode::Words, None, _) => Some("a query, which mode words looks for"),
            (Mode::Vector, _, None) => Some("an embedding, which mode vector looks for"),
            (Mode::Hybrid, None, _) | (Mode::Hybrid, _, None) => {
                Some("a query and an embedding, which mode hybrid looks for")
            }
            _ => None,
        };
        if let Some(missing) = missing {
            let got = match (&self.words, &self.embedding) {
                (None, None) => "neither",
                (Some(_), _) => "only a query",
                (None, Some(_)) => "only an embedding",
            };
            return refuse(format!("expected {missing}, got {got}"));
        }
        if self.recency_half_life.is_some_and(|half_life| half_life.is_zero()) {
            return refuse("expected a half-life above zero, got zero".to_owned());
        }
        self.filter.check()
    }
}

/// A memory that answers a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The memory.
    pub memory: Arc<Memory>,
    /// How well it answers; comparable within one recall.
    pub score: f32,
    /// Where the score comes from.
    pub explanation: Explanation,
}

/// Where a score comes from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Explanation {
    /// The cosine with the question's embedding, when it is among the candidates by meaning.
    pub similarity: Option<f32>,
    /// Its place among them, from 1 on.
    pub vector_rank: Option<u32>,
    /// The BM25 score, when it is among the candidates by words.
    pub word_score: Option<f32>,
    /// Its place among them, from 1 on.
    pub word_rank: Option<u32>,
    /// What recency has multiplied the score by.
    pub recency: Option<f32>,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Recall {
    /// The best first; the newer first among equals.
    pub hits: Vec<Hit>,
    /// All changes up to here were seen.
    pub lsn: Lsn,
    /// That as many came back as were asked for, or all that match.
    pub complete: bool,
    /// What the question was answered by: never [`Mode::Auto`].
    pub mode: Mode,
    /// How the nearest vectors were found, if they were looked for.
    pub route: Option<Route>,
}

#[cfg(test)]
mod tests;
