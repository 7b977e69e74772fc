use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{DocId, Tokens, WordIndex, search::FORM_WEIGHT, stem::stem};
use crate::top_k::Scored;

fn words(text: &str) -> Vec<String> {
    Tokens::of(text).words().map(|word| word.text.to_owned()).collect()
}

fn insert(index: &mut WordIndex<u64>, text: &str, item: u64) -> DocId {
    index.insert(&Tokens::of(text), item)
}

fn remove(index: &mut WordIndex<u64>, id: DocId, text: &str) -> u64 {
    index.remove(id, &Tokens::of(text))
}

mod postings;
mod tokens;

// --- against the definition

/// BM25 from its definition, over all texts, in f64; and other forms of the words, as if all of them were one.
fn plain_bm25(texts: &BTreeMap<u64, String>, query: &str) -> BTreeMap<u64, f64> {
    let texts: BTreeMap<u64, Vec<String>> = texts.iter().map(|(item, text)| (*item, words(text))).collect();
    let all = texts.len() as f64;
    let mean = texts.values().map(Vec::len).sum::<usize>() as f64 / all;
    let with_word =
        |word: &str| texts.values().filter(|text| text.iter().any(|other| other == word)).count() as f64;
    let idf = |with_word: f64| (1.0 + (all - with_word + 0.5) / (with_word + 0.5)).ln();
    let known: BTreeSet<&String> = texts.values().flatten().collect();
    let query: BTreeSet<String> = words(query).into_iter().collect();
    let mut weights = BTreeMap::new();
    for word in &query {
        let forms: Vec<_> = known.iter().filter(|form| stem(form) == stem(word)).collect();
        let together = forms.iter().map(|form| with_word(form)).sum::<f64>().min(all);
        for form in forms {
            let weight =
                if *form == word { idf(with_word(word)) } else { f64::from(FORM_WEIGHT) * idf(together) };
            let most = weights.entry((*form).clone()).or_insert(weight);
            *most = f64::max(*most, weight);
        }
    }
    let mut scores = BTreeMap::new();
    for (word, weight) in weights {
        for (item, text) in &texts {
            let tf = text.iter().filter(|other| **other == word).count() as f64;
            if tf > 0.0 {
                let length = text.len() as f64 / mean;
                *scores.entry(*item).or_insert(0.0) +=
                    weight * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length));
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

/// All counts are those of the texts, and nothing is left of others.
fn assert_counts(index: &WordIndex<u64>, texts: &BTreeMap<u64, String>) {
    let texts: Vec<Vec<String>> = texts.values().map(|text| words(text)).collect();
    assert_eq!(index.len(), texts.len());
    assert_eq!(index.words, texts.iter().map(|text| text.len() as u64).sum::<u64>());
    let known: BTreeSet<&str> = texts.iter().flatten().map(String::as_str).collect();
    assert_eq!(index.lexicon.words().map(|(word, _)| word).collect::<BTreeSet<_>>(), known);
    let stems: BTreeSet<String> = known.iter().map(|word| stem(word).into_owned()).collect();
    let entries: BTreeSet<&str> = known.iter().copied().chain(stems.iter().map(String::as_str)).collect();
    assert_eq!(index.lexicon.len(), entries.len(), "{entries:?}");
    for (word, postings) in index.lexicon.words() {
        let live = texts.iter().filter(|text| text.iter().any(|other| *other == *word)).count();
        assert_eq!(postings.len() as usize, live, "{word}");
        let all: Vec<_> = postings.blocks().iter().flat_map(|block| block.from(0)).collect();
        assert!(all.is_sorted_by(|a, b| a.doc < b.doc));
        assert_eq!(all.len(), live);
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(String),
    Update(usize, String),
    Touch(usize),
    Remove(usize),
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![3 => "[a-c]", 2 => "[d-p]", 1 => "[a-b]{3}", 1 => "b[ao]t(s|ed|ing)?"],
        0..9,
    )
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
                    docs.push((insert(&mut index, &text, item), item));
                    texts.insert(item, text);
                }
                Operation::Update(doc, text) if !docs.is_empty() => {
                    let doc = doc % docs.len();
                    let (id, old) = docs[doc];
                    prop_assert_eq!(remove(&mut index, id, &texts.remove(&old).unwrap()), old);
                    docs[doc] = (insert(&mut index, &text, item), item);
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
                    prop_assert_eq!(remove(&mut index, id, &texts.remove(&item).unwrap()), item);
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
    insert(&mut index, "the user prefers dark mode", 1);
    insert(
        &mut index,
        "the user prefers light mode and the user said so twice, at length, in the evening",
        2,
    );
    insert(&mut index, "the cat", 3);
    assert_eq!(search(&index, "the DARK"), [1, 3, 2]);
    assert_eq!(search(&index, "user mode"), [1, 2]);
    assert_eq!(search(&index, "light, light, light!"), [2]);
}

#[test]
fn a_query_without_known_words_finds_nothing() {
    let mut index = WordIndex::new();
    assert!(search(&index, "cat").is_empty());
    let cat = insert(&mut index, "the cat", 1);
    let wordless = insert(&mut index, "...", 2);
    for query in ["", " ?! ", "dog"] {
        assert!(search(&index, query).is_empty());
    }
    assert!(index.search("cat", 0, |_| true, |item| *item).is_empty());
    assert_eq!(index.len(), 2);
    assert_eq!(remove(&mut index, cat, "the cat"), 1);
    assert_eq!(remove(&mut index, wordless, "..."), 2);
    assert_eq!(index.len(), 0);
    assert!(search(&index, "cat").is_empty());
}

#[test]
fn a_word_repeated_in_the_query_counts_once() {
    let mut index = WordIndex::new();
    insert(&mut index, "cat dog", 1);
    insert(&mut index, "dog", 2);
    let search = |query: &str| index.search(query, 10, |_| true, |item| *item);
    assert_eq!(search("cat dog"), search("cat Cat CAT dog cat"));
}

#[test]
fn equal_scores_are_ordered_newest_first_wherever_they_lie() {
    let mut forwards = WordIndex::new();
    let mut backwards = WordIndex::new();
    for item in 0..50 {
        insert(&mut forwards, "same text", item);
        insert(&mut backwards, "same text", 49 - item);
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
        (0..TEXTS).map(|version| (insert(&mut index, &text(version), version as u64), version)).collect();
    for version in TEXTS..50_000 {
        let (id, old) = docs[version % TEXTS];
        remove(&mut index, id, &text(old));
        docs[version % TEXTS] = (insert(&mut index, &text(version), version as u64), version);
    }
    let texts: BTreeMap<u64, String> =
        docs.iter().map(|(_, version)| (*version as u64, text(*version))).collect();
    assert_counts(&index, &texts);
    assert_answers(&index, &texts, "then 3 run49999", 10);
    assert_eq!(index.items.len(), TEXTS);
    let bytes: usize = index.lexicon.words().map(|(_, postings)| postings.bytes()).sum();
    assert!(bytes <= 300 * TEXTS, "{bytes} bytes of postings");
    for (id, version) in docs {
        remove(&mut index, id, &text(version));
    }
    assert_eq!((index.len(), index.lexicon.len(), index.words), (0, 0, 0));
}

#[test]
fn a_word_that_was_common_gives_its_memory_back() {
    let mut index = WordIndex::new();
    let docs: Vec<_> = (0..1000).map(|item| insert(&mut index, "common", item)).collect();
    for id in &docs[1..] {
        remove(&mut index, *id, "common");
    }
    assert_eq!(search(&index, "common"), [0]);
    let bytes: usize = index.lexicon.words().map(|(_, postings)| postings.bytes()).sum();
    assert!(bytes <= 300, "{bytes} bytes of postings");
}

#[test]
fn a_word_itself_ranks_before_its_other_forms() {
    let mut index = WordIndex::new();
    for (item, text) in
        (0..).zip(["he was running home", "he was to run home", "a run-time error", "rune stones here"])
    {
        insert(&mut index, text, item);
    }
    assert_eq!(search(&index, "running"), [0, 2, 1]);
    assert_eq!(search(&index, "run"), [2, 1, 0]);
    insert(&mut index, "un café noir", 10);
    insert(&mut index, "an old cafe car", 11);
    insert(&mut index, "some cafés far", 12);
    assert_eq!(search(&index, "cafe"), [11, 12, 10]);
    assert_eq!(search(&index, "CAFÉ")[0], 10);
    insert(&mut index, "my e-mail address", 20);
    insert(&mut index, "an email address", 21);
    assert_eq!(search(&index, "emails"), [21, 20]);
    assert_eq!(search(&index, "e-mail")[0], 20);
}

#[test]
fn a_search_that_leaves_out_texts_finds_what_one_over_all_finds() {
    // Enough for several windows and blocks, with some documents used again in the middle.
    let mut random = 7_u64;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (random >> 33) % bound
    };
    let mut index = WordIndex::new();
    let mut docs = Vec::new();
    for item in 0..9_000 {
        let text: Vec<_> = (0..2 + below(12)).map(|_| format!("w{}", below(60) * below(60) / 60)).collect();
        let text = text.join(" ");
        docs.push((insert(&mut index, &text, item), text));
        if item % 3 == 2 {
            let (id, text) = docs.swap_remove(usize::try_from(below(docs.len() as u64)).unwrap());
            remove(&mut index, id, &text);
        }
    }
    for query in
        ["w0 w1 w2 w3 w9", "w0 w55", "w58", "w1 w1 w2", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w20 w30 w40"]
    {
        let all = index.search(query, usize::MAX, |_| true, |item| *item);
        for limit in [1, 10, 200] {
            assert_eq!(
                index.search(query, limit, |_| true, |item| *item),
                all[..limit.min(all.len())],
                "{query}"
            );
            let odd: Vec<_> = all.iter().filter(|found| found.item % 7 == 1).take(limit).cloned().collect();
            assert_eq!(index.search(query, limit, |item| item % 7 == 1, |item| *item), odd, "{query}");
        }
    }
}

#[test]
fn made_up_forms_without_end_are_found_by_themselves() {
    let mut index = WordIndex::new();
    let accents = ["a", "á", "à", "ä", "â", "ã"];
    let word = |n: usize| [0, 1, 2].map(|at| accents[n / 6_usize.pow(at) % 6]).concat() + "xyz";
    for n in 0..216 {
        insert(&mut index, &word(n), n as u64);
    }
    for n in 0..216 {
        let found = search(&index, &word(n));
        assert_eq!(found[0], n as u64);
    }
    assert_eq!(index.search("aaaxyz", usize::MAX, |_| true, |item| *item).len(), super::lexicon::FORMS_MAX);
}
