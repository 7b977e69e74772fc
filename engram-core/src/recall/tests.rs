//! Questions of a whole store.

use chrono::TimeZone as _;

use super::*;
use crate::{Condition, Confidence, Episode, Field, MemoryStore, MetaValue, Test};

fn at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(seconds, 0).unwrap()
}

fn store(episodes: impl IntoIterator<Item = Episode>) -> MemoryStore {
    let store = MemoryStore::new(10_000).with_dimension(2).unwrap();
    for episode in episodes {
        store.store(episode).unwrap();
    }
    store
}

fn episode(id: &str, seconds: i64, content: &str, vector: [f32; 2]) -> Episode {
    Episode::new(id, at(seconds), content, vector, Confidence::CERTAIN)
}

fn ids(recall: &Recall) -> Vec<&str> {
    recall.hits.iter().map(|hit| hit.memory.id()).collect()
}

#[test]
fn words_and_meaning_are_fused_and_either_can_be_asked_alone() {
    let store = store([
        episode("both", 1, "green tea in the morning", [1.0, 0.1]),
        episode("meaning", 2, "a hot drink", [1.0, 0.0]),
        episode("words", 3, "green paint", [0.0, 1.0]),
    ]);
    let question = Query::hybrid("green tea", [1.0, 0.0]).limit(3);
    let recall = store.recall(&question).unwrap();
    assert_eq!((recall.mode, recall.complete), (Mode::Hybrid, true));
    assert_eq!(ids(&recall)[0], "both");
    let why = recall.hits[0].explanation;
    assert_eq!((why.vector_rank, why.word_rank), (Some(2), Some(1)));
    let by = |mode| store.recall(&Query { mode, ..question.clone() }).unwrap();
    assert_eq!(
        (ids(&by(Mode::Vector)), by(Mode::Vector).mode),
        (vec!["meaning", "both", "words"], Mode::Vector)
    );
    assert_eq!((ids(&by(Mode::Words)), by(Mode::Words).mode), (vec!["both", "words"], Mode::Words));
    assert_eq!(by(Mode::Auto), recall);
    assert_eq!(store.recall(&question.clone().limit(0)).unwrap().hits, []);
}

#[test]
fn a_memory_without_an_embedding_or_without_the_words_is_found_by_the_other() {
    let store =
        store([Episode::text("text", "green tea"), episode("vector", 2, "something else", [1.0, 0.0])]);
    let recall = store.recall(&Query::hybrid("tea", [1.0, 0.0])).unwrap();
    assert_eq!(recall.hits.len(), 2);
    assert!(recall.complete, "fewer match than were asked for");
}

#[test]
fn as_many_come_back_as_match_under_any_filter() {
    let store = store((0..1_000_u16).map(|n| {
        let mut episode =
            episode(&format!("m{n}"), n.into(), "the same words", [1.0, f32::from(n) / 1_000.0]);
        episode.metadata.insert("n".to_owned(), MetaValue::Integer(n.into()));
        episode
            .metadata
            .insert("parity".to_owned(), MetaValue::Text(["even", "odd"][usize::from(n % 2)].to_owned()));
        episode
    }));
    let meta = |key: &str, test| Condition::Field(Field::Metadata(key.to_owned()), test);
    for (condition, matching) in [
        (Condition::And(vec![]), 1_000),
        (meta("parity", Test::Eq(MetaValue::Text("odd".to_owned()))), 500),
        (meta("n", Test::Lt(MetaValue::Integer(50))), 50),
        (meta("n", Test::In(vec![MetaValue::Integer(7)])), 1),
        (Condition::Not(Box::new(meta("n", Test::Gte(MetaValue::Integer(3))))), 3),
        (Condition::Or(vec![]), 0),
    ] {
        let filter = Filter { condition: Some(condition), ..Filter::default() };
        for question in
            [Query::words("same"), Query::embedding([1.0, 0.0]), Query::hybrid("same", [1.0, 0.0])]
        {
            for limit in [1, 10, 100] {
                let recall = store.recall(&question.clone().filter(filter.clone()).limit(limit)).unwrap();
                assert_eq!(recall.hits.len(), limit.min(matching), "{filter:?}, {limit}");
                assert!(recall.complete);
                assert!(recall.hits.iter().all(|hit| filter.accepts(&hit.memory)));
            }
        }
    }
}

#[test]
fn what_is_recent_comes_first_when_that_is_asked_for() {
    let store = store([
        episode("old", 0, "tea", [1.0, 0.0]),
        episode("new", 1_000, "tea and much else besides", [1.0, 0.5]),
    ]);
    for question in [Query::words("tea"), Query::embedding([1.0, 0.0]), Query::hybrid("tea", [1.0, 0.0])] {
        assert_eq!(ids(&store.recall(&question).unwrap()), ["old", "new"]);
        let recent = Query { now: Some(at(1_000)), ..question.recency_half_life(Duration::from_secs(100)) };
        let recall = store.recall(&recent).unwrap();
        assert_eq!(ids(&recall), ["new", "old"]);
        assert_eq!(recall.hits[0].explanation.recency, Some(1.0));
    }
}

#[test]
fn a_question_says_what_it_lacks() {
    let store = store([]);
    let embedding = Some(Embedding::from([1.0, 0.0]));
    let words = Some("tea".to_owned());
    for (question, expected) in [
        (Query::default(), "expected a query, an embedding, or both, got neither"),
        (
            Query { mode: Mode::Words, embedding: embedding.clone(), ..Query::default() },
            "got only an embedding",
        ),
        (Query { mode: Mode::Vector, words: words.clone(), ..Query::default() }, "got only a query"),
        (Query { mode: Mode::Hybrid, words: words.clone(), ..Query::default() }, "got only a query"),
        (Query { mode: Mode::Hybrid, embedding, ..Query::default() }, "got only an embedding"),
        (
            Query { recency_half_life: Some(Duration::ZERO), words, ..Query::default() },
            "half-life above zero",
        ),
    ] {
        let error = store.recall(&question).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_change_is_waited_for_until_it_is_seen_or_the_time_is_over() {
    let store = store([]);
    let receipt = store.store(Episode::text("a", "x")).unwrap();
    store.wait_for(receipt.lsn, Duration::ZERO).unwrap();
    let error = store.wait_for(receipt.lsn.next(), Duration::ZERO).unwrap_err();
    assert!(matches!(error, StoreError::NotYet { applied, .. } if applied == receipt.lsn), "{error}");
}
