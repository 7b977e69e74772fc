//! From what words and vectors have found to one list.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{Explanation, Hit, Memory, top_k::Scored};

/// How little the first ranks differ (reciprocal rank fusion's k).
const RANK_OFFSET: f32 = 60.0;

/// What one way of looking has found, the best first.
pub(crate) type Found = Vec<Scored<Arc<Memory>>>;

/// How much a memory counts for being recent: half as much each time so much time has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recency {
    pub(crate) half_life: Duration,
    pub(crate) now: DateTime<Utc>,
}

impl Recency {
    /// From 0 to 1; 1 for what happened now, or is to happen.
    #[expect(clippy::cast_possible_truncation, reason = "a factor needs no more precision")]
    fn factor(self, memory: &Memory) -> f32 {
        let age_us = (self.now - memory.when()).num_microseconds().unwrap_or(i64::MAX).max(0);
        (-(age_us as f64 / 1e6) / self.half_life.as_secs_f64()).exp2() as f32
    }
}

/// The best `limit` of both lists. One list alone keeps its scores; two are fused by their ranks, since a cosine and a
/// BM25 score cannot be added. Recency multiplies; a score below 0 counts as 0 then.
pub(crate) fn fuse(
    by_vector: Option<Found>,
    by_words: Option<Found>,
    recency: Option<Recency>,
    limit: usize,
) -> Vec<Hit> {
    let is_fused = by_vector.is_some() && by_words.is_some();
    let mut hits: HashMap<Arc<str>, Hit> = HashMap::new();
    let mut take = |found: Found, note: fn(&mut Explanation, u32, f32)| {
        for (rank, Scored { item, score }) in (1_u32..).zip(found) {
            let new = || Hit { memory: Arc::clone(&item), score: 0.0, explanation: Explanation::default() };
            let hit = hits.entry(Arc::clone(&item.id)).or_insert_with(new);
            // It was changed between the two looks: the later one counts.
            if hit.memory.lsn() < item.lsn() {
                hit.memory = item;
            }
            hit.score += if is_fused { 1.0 / (RANK_OFFSET + rank as f32) } else { score };
            note(&mut hit.explanation, rank, score);
        }
    };
    take(by_vector.unwrap_or_default(), |why, rank, score| {
        (why.vector_rank, why.similarity) = (Some(rank), Some(score));
    });
    take(by_words.unwrap_or_default(), |why, rank, score| {
        (why.word_rank, why.word_score) = (Some(rank), Some(score));
    });
    let mut hits: Vec<Hit> = hits.into_values().collect();
    if let Some(recency) = recency {
        for hit in &mut hits {
            let factor = recency.factor(&hit.memory);
            hit.score = hit.score.max(0.0) * factor;
            hit.explanation.recency = Some(factor);
        }
    }
    let newer_first = |a: &Hit, b: &Hit| b.memory.lsn().cmp(&a.memory.lsn());
    hits.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then_with(|| newer_first(a, b)));
    hits.truncate(limit);
    hits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Confidence, Lsn, Metadata};

    fn scored(id: &str, lsn: u64, score: f32) -> Scored<Arc<Memory>> {
        let memory = Memory {
            id: Arc::from(id),
            lsn: Lsn::new(lsn),
            when: DateTime::from_timestamp(i64::try_from(lsn).unwrap() * 100, 0).unwrap(),
            content: "x".into(),
            confidence: Confidence::CERTAIN,
            metadata: Metadata::new(),
            expires_at: None,
            has_embedding: true,
        };
        Scored { item: Arc::new(memory), score }
    }

    fn ids(hits: &[Hit]) -> Vec<&str> {
        hits.iter().map(|hit| hit.memory.id()).collect()
    }

    #[test]
    fn one_list_keeps_its_scores_and_its_order() {
        let found = vec![scored("b", 2, 0.9), scored("c", 3, 0.9), scored("a", 1, -0.5)];
        let hits = fuse(Some(found), None, None, 10);
        assert_eq!(ids(&hits), ["c", "b", "a"], "the newer first among equals");
        assert_eq!(hits.iter().map(|hit| hit.score).collect::<Vec<_>>(), [0.9, 0.9, -0.5]);
        assert_eq!(hits[1].explanation.vector_rank, Some(1));
        assert_eq!((hits[0].explanation.word_rank, hits[0].explanation.recency), (None, None));
    }

    #[test]
    fn two_lists_are_fused_by_rank() {
        let vectors = vec![scored("a", 1, 0.9), scored("b", 2, 0.8), scored("c", 3, 0.1)];
        let words = vec![scored("b", 2, 99.0), scored("d", 4, 1.0)];
        let hits = fuse(Some(vectors), Some(words), None, 3);
        assert_eq!(ids(&hits), ["b", "a", "d"]);
        assert!((hits[0].score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-7);
        let why = hits[0].explanation;
        assert_eq!((why.vector_rank, why.word_rank), (Some(2), Some(1)));
        assert_eq!((why.similarity, why.word_score), (Some(0.8), Some(99.0)));
    }

    #[test]
    fn a_memory_that_changes_between_two_looks_is_there_once_and_as_it_is() {
        let hits = fuse(Some(vec![scored("a", 1, 0.9)]), Some(vec![scored("a", 7, 3.0)]), None, 5);
        assert_eq!((hits.len(), hits[0].memory.lsn()), (1, Lsn::new(7)));
    }

    #[test]
    fn recency_halves_and_never_turns_an_order_round_below_zero() {
        let now = DateTime::from_timestamp(300, 0).unwrap();
        let recency = Some(Recency { half_life: Duration::from_secs(100), now });
        let found = vec![
            scored("old", 1, 1.0),
            scored("new", 3, 0.5),
            scored("future", 9, 0.4),
            scored("bad", 2, -1.0),
        ];
        let hits = fuse(Some(found), None, recency, 4);
        assert_eq!(ids(&hits), ["new", "future", "old", "bad"]);
        assert_eq!(hits.iter().map(|hit| hit.score).collect::<Vec<_>>(), [0.5, 0.4, 0.25, 0.0]);
        assert_eq!(hits[2].explanation.recency, Some(0.25));
    }
}
