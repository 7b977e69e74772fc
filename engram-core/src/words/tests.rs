use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{DocId, WORD_BYTES_MAX, WordIndex, for_each_word};
use crate::top_k::Scored;

fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for_each_word(text, |word| words.push(word.to_owned()));
    words
}

// --- what a word is

#[test]
fn words_are_runs_of_letters_and_digits_in_lowercase() {
    let rows: [(&str, &[&str]); 10] = [
        ("", &[]),
        (" \t-- ... !", &[]),
        ("Hello, World", &["hello", "world"]),
        ("John's don't", &["john", "s", "don", "t"]),
        ("snake_case kebab-case a.b/c@d", &["snake", "case", "kebab", "case", "a", "b", "c", "d"]),
        ("v1.25 2026-11-23", &["v1", "25", "2026", "11", "23"]),
        ("ÉCOLE Straße ΟΔΟΣ", &["école", "straße", "οδος"]),
        ("東京 で", &["東京", "で"]),
        ("a🎉b", &["a", "b"]),
        ("١٢٣ ②", &["١٢٣", "②"]),
    ];
    for (text, expected) in rows {
        assert_eq!(words(text), expected, "{text}");
    }
}

#[test]
fn words_are_cut_at_the_end_of_a_character() {
    assert_eq!(words(&"A".repeat(WORD_BYTES_MAX)), ["a".repeat(WORD_BYTES_MAX)]);
    assert_eq!(words(&"A".repeat(10_000)), ["a".repeat(WORD_BYTES_MAX)]);
    // Three bytes a character, and 64 is no multiple of three.
    assert_eq!(words(&"東".repeat(100)), ["東".repeat(21)]);
    // In lowercase these two bytes become three.
    assert_eq!(words(&"Ⱥ".repeat(32)), ["ⱥ".repeat(21)]);
}

proptest! {
    #[test]
    fn any_text_gives_words_within_the_limit(text in any::<String>()) {
        for word in words(&text) {
            prop_assert!((1..=WORD_BYTES_MAX).contains(&word.len()));
        }
    }
}

// --- against the definition

/// BM25 from its definition, over all texts, in f64.
fn plain_bm25(texts: &BTreeMap<u64, String>, query: &str) -> BTreeMap<u64, f64> {
    let texts: BTreeMap<u64, Vec<String>> = texts.iter().map(|(item, text)| (*item, words(text))).collect();
    let all = texts.len() as f64;
    let mean = texts.values().map(Vec::len).sum::<usize>() as f64 / all;
    let query: BTreeSet<String> = words(query).into_iter().collect();
    let mut scores = BTreeMap::new();
    for word in query {
        let with_word = texts.values().filter(|text| text.contains(&word)).count() as f64;
        let idf = (1.0 + (all - with_word + 0.5) / (with_word + 0.5)).ln();
        for (item, text) in &texts {
            let tf = text.iter().filter(|other| **other == word).count() as f64;
            if tf > 0.0 {
                let length = text.len() as f64 / mean;
                *scores.entry(*item).or_insert(0.0) += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length));
            }
        }
    }
    scores
}

fn assert_answers(index: &WordIndex<u64>, texts: &BTreeMap<u64, String>, query: &str, limit: usize) {
    let expected = plain_bm25(texts, query);
    let all = index.search(query, usize::MAX, |_| true, |item| *item);
    let found: BTreeSet<_> = all.iter().map(|found| found.item).collect();
    assert!(found.iter().eq(expected.keys()), "{query}: {found:?} {expected:?}");
    for Scored { item, score } in &all {
        assert!((f64::from(*score) - expected[item]).abs() < 1e-5, "{query}: {item} {score} {expected:?}");
    }
    assert!(all.is_sorted_by(|a, b| a.score > b.score || (a.score >= b.score && a.item > b.item)));
    let odd = |item: &u64| item % 2 == 1;
    let best_odd: Vec<_> = all.into_iter().filter(|found| odd(&found.item)).take(limit).collect();
    assert_eq!(index.search(query, limit, odd, |item| *item), best_odd);
}

/// Stale postings never outnumber live ones, and all counts are those of the live texts.
fn assert_counts(index: &WordIndex<u64>, texts: &BTreeMap<u64, String>) {
    let texts: Vec<Vec<String>> = texts.values().map(|text| words(text)).collect();
    assert_eq!(index.len(), texts.len());
    assert_eq!(index.words, texts.iter().map(|text| text.len() as u64).sum::<u64>());
    let known: BTreeSet<&String> = texts.iter().flatten().collect();
    assert_eq!(index.terms.len(), known.len());
    let mut named = vec![0; index.docs.len()];
    for (word, term) in &index.terms {
        let live = texts.iter().filter(|text| text.iter().any(|other| **other == **word)).count();
        assert_eq!(term.live as usize, live, "{word}");
        assert!(term.postings.len() <= 2 * live, "{word}");
        for posting in &term.postings {
            named[posting.doc as usize] += 1;
        }
    }
    let unused = index.docs.iter().zip(&named).enumerate().filter(|(_, (doc, named))| {
        assert_eq!(doc.postings, **named);
        doc.item.is_none() && doc.postings == 0
    });
    let unused: BTreeSet<u32> = unused.map(|(id, _)| u32::try_from(id).unwrap()).collect();
    assert_eq!(index.free.len(), unused.len());
    assert_eq!(index.free.iter().copied().collect::<BTreeSet<_>>(), unused);
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(String),
    Update(usize, String),
    Touch(usize),
    Remove(usize),
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![3 => "[a-c]", 2 => "[d-p]", 1 => "[a-b]{3}"], 0..9)
        .prop_map(|words| words.join(" "))
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => text().prop_map(Operation::Insert),
        3 => (any::<usize>(), text()).prop_map(|(doc, text)| Operation::Update(doc, text)),
        1 => any::<usize>().prop_map(Operation::Touch),
        2 => any::<usize>().prop_map(Operation::Remove),
    ]
}

proptest! {
    #[test]
    fn scores_are_those_of_the_definition_whatever_happened_before(
        operations in prop::collection::vec(operation(), 0..60),
        query in text(),
        limit in 0_usize..12,
    ) {
        let mut index = WordIndex::new();
        let mut docs: Vec<(DocId, u64)> = Vec::new();
        let mut texts = BTreeMap::new();
        for (operation, item) in operations.into_iter().zip(0_u64..) {
            match operation {
                Operation::Insert(text) => {
                    docs.push((index.insert(&text, item), item));
                    texts.insert(item, text);
                }
                Operation::Update(doc, text) if !docs.is_empty() => {
                    let doc = doc % docs.len();
                    let (id, old) = docs[doc];
                    prop_assert_eq!(index.remove(id, &texts.remove(&old).unwrap()), old);
                    docs[doc] = (index.insert(&text, item), item);
                    texts.insert(item, text);
                }
                Operation::Touch(doc) if !docs.is_empty() => {
                    let doc = doc % docs.len();
                    let (id, old) = docs[doc];
                    index.set_item(id, item);
                    docs[doc].1 = item;
                    let text = texts.remove(&old).unwrap();
                    texts.insert(item, text);
                }
                Operation::Remove(doc) if !docs.is_empty() => {
                    let (id, item) = docs.swap_remove(doc % docs.len());
                    prop_assert_eq!(index.remove(id, &texts.remove(&item).unwrap()), item);
                }
                Operation::Update(..) | Operation::Touch(_) | Operation::Remove(_) => {}
            }
            assert_counts(&index, &texts);
        }
        assert_answers(&index, &texts, &query, limit);
        assert_answers(&index, &texts, "a b c d", limit);
    }
}

// --- single behaviours

fn search(index: &WordIndex<u64>, query: &str) -> Vec<u64> {
    index.search(query, 10, |_| true, |item| *item).into_iter().map(|found| found.item).collect()
}

#[test]
fn rare_words_and_short_texts_rank_first() {
    let mut index = WordIndex::new();
    index.insert("the user prefers dark mode", 1);
    index.insert("the user prefers light mode and the user said so twice, at length, in the evening", 2);
    index.insert("the cat", 3);
    assert_eq!(search(&index, "the DARK"), [1, 3, 2]);
    assert_eq!(search(&index, "user mode"), [1, 2]);
    assert_eq!(search(&index, "light, light, light!"), [2]);
}

#[test]
fn a_query_without_known_words_finds_nothing() {
    let mut index = WordIndex::new();
    assert!(search(&index, "cat").is_empty());
    let cat = index.insert("the cat", 1);
    let wordless = index.insert("...", 2);
    for query in ["", " ?! ", "dog"] {
        assert!(search(&index, query).is_empty());
    }
    assert!(index.search("cat", 0, |_| true, |item| *item).is_empty());
    assert_eq!((index.len(), index.remove(cat, "the cat"), index.remove(wordless, "...")), (2, 1, 2));
    assert_eq!(index.len(), 0);
    assert!(search(&index, "cat").is_empty());
}

#[test]
fn a_word_repeated_in_the_query_counts_once() {
    let mut index = WordIndex::new();
    index.insert("cat dog", 1);
    index.insert("dog", 2);
    let search = |query: &str| index.search(query, 10, |_| true, |item| *item);
    assert_eq!(search("cat dog"), search("cat Cat CAT dog cat"));
}

#[test]
fn equal_scores_are_ordered_newest_first_wherever_they_lie() {
    let mut forwards = WordIndex::new();
    let mut backwards = WordIndex::new();
    for item in 0..50 {
        forwards.insert("same text", item);
        backwards.insert("same text", 49 - item);
    }
    assert_eq!(search(&forwards, "text"), (40..50).rev().collect::<Vec<_>>());
    assert_eq!(search(&forwards, "text"), search(&backwards, "text"));
}

#[test]
fn updates_do_not_grow_the_index() {
    const TEXTS: usize = 100;
    let mut index = WordIndex::new();
    let text = |version: usize| {
        format!("the user said {} and then {} about run{version}", version % 7, version % 31)
    };
    let mut docs: Vec<_> =
        (0..TEXTS).map(|version| (index.insert(&text(version), version as u64), version)).collect();
    for version in TEXTS..50_000 {
        let (id, old) = docs[version % TEXTS];
        index.remove(id, &text(old));
        docs[version % TEXTS] = (index.insert(&text(version), version as u64), version);
    }
    let texts: BTreeMap<u64, String> =
        docs.iter().map(|(_, version)| (*version as u64, text(*version))).collect();
    assert_counts(&index, &texts);
    assert_answers(&index, &texts, "then 3 run49999", 10);
    assert!(index.docs.len() <= 3 * TEXTS, "{} documents", index.docs.len());
    let capacity: usize = index.terms.values().map(|term| term.postings.capacity()).sum();
    assert!(capacity <= 100 * TEXTS, "room for {capacity} postings");
    for (id, version) in docs {
        index.remove(id, &text(version));
    }
    assert_eq!((index.len(), index.terms.len(), index.words), (0, 0, 0));
    assert_eq!(index.free.len(), index.docs.len());
}

#[test]
fn a_word_that_was_common_gives_its_memory_back() {
    let mut index = WordIndex::new();
    let docs: Vec<_> = (0..1000).map(|item| index.insert("common", item)).collect();
    for id in &docs[1..] {
        index.remove(*id, "common");
    }
    assert_eq!(search(&index, "common"), [0]);
    assert!(index.terms["common"].postings.capacity() <= 8);
}
