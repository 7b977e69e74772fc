//! What a word is.

use std::collections::BTreeSet;

use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization as _;

use super::words;
use crate::words::{
    fold::push_folded,
    segments::{Segment, ascii_words, unicode_words},
    stem::stem,
    tokens::{Tokens, WORD_BYTES_MAX},
};

fn query_words(text: &str) -> Vec<String> {
    Tokens::of_query(text).words().map(|word| word.text.to_owned()).collect()
}

#[test]
fn the_table_of_the_documentation_holds() {
    let rows: [(&str, &[&str]); 19] = [
        ("", &[]),
        (" \t-- ... ! __ 🎉", &[]),
        ("Hello, World. Bye", &["hello", "world", "bye"]),
        ("Ada's don’t", &["ada", "s", "ada's", "don", "t", "don't"]),
        ("user_id __init__", &["user", "id", "user_id", "init"]),
        ("foo.bar v1.2.3", &["foo", "bar", "foo.bar", "v1", "2", "3", "v1.2.3"]),
        ("2026-11-23 12:30", &["2026", "11", "23", "2026-11-23", "12", "30"]),
        ("1,250.50", &["1", "250", "50", "1,250.50"]),
        (
            "e-mail state-of-the-art",
            &["e", "mail", "e-mail", "state", "of", "the", "art", "state-of-the-art"],
        ),
        ("ada.l@example.com", &["ada", "l", "ada.l", "example", "com", "example.com", "ada.l@example.com"]),
        ("a/b c++", &["a", "b", "c"]),
        ("ÉCOLE e\u{301}cole Straße ΟΔΟΣ", &["école", "école", "strasse", "οδοσ"]),
        ("Ｆｕｌｌ ﬁne ② soft\u{ad}ware", &["full", "fine", "2", "software"]),
        ("हिन्दी में", &["हिन्दी", "में"]),
        ("東京都", &["東", "東京", "京", "京都", "都"]),
        ("コーヒー。", &["コ", "コー", "ー", "ーヒ", "ヒ", "ヒー", "ー"]),
        ("학교에서 3월", &["학", "학교", "교", "교에", "에", "에서", "서", "3", "월"]),
        ("ไทย", &["ไ", "ไท", "ท", "ทย", "ย"]),
        ("GPT4を使う", &["gpt4", "を", "を使", "使", "使う", "う"]),
    ];
    for (text, expected) in rows {
        assert_eq!(words(text), expected, "{text}");
    }
    assert_eq!(query_words("東京都 猫 cat"), ["東京", "京都", "猫", "cat"]);
}

#[test]
fn the_length_of_a_text_counts_parts_once() {
    for (text, length) in [("", 0), ("one two", 2), ("ada.l@example.com e-mail", 6), ("東京都", 3)] {
        assert_eq!(Tokens::of(text).length(), length, "{text}");
    }
}

#[test]
fn words_with_the_same_stem_are_forms_of_one() {
    for forms in [
        "cat cats",
        "city cities",
        "class classes",
        "box boxes boxed boxing",
        "house houses housed housing",
        "make makes making",
        "hope hopes hoped hoping",
        "run runs running",
        "stop stops stopped stopping",
        "try tries tried trying",
        "fall falls falling",
        "pass passes passed passing",
        "deploy deploys deployed deploying",
        "café cafe cafés cafes",
        "e-mail email emails e-mails",
        "user_id userid",
        "straße strasse",
        "Übung ubung",
        "smørrebrød smorrebrod",
        "ёлка елка",
        "οδος ΟΔΟΣ",
    ] {
        let stems: BTreeSet<_> = forms.split(' ').map(|word| stem(&folded(word)).into_owned()).collect();
        assert_eq!(stems.len(), 1, "{stems:?}");
    }
    for different in [
        "this thi",
        "string str",
        "bus bu",
        "king k",
        "need ne",
        "v1.2 v12",
        "1-2 12",
        "が か",
        "bed b",
        "rune run",
        "hope hop",
        "hoping hop",
    ] {
        let (a, b) = different.split_once(' ').unwrap();
        assert_ne!(stem(a), stem(b));
    }
}

#[test]
fn words_are_cut_at_the_end_of_a_character() {
    assert_eq!(words(&"A".repeat(WORD_BYTES_MAX)), ["a".repeat(WORD_BYTES_MAX)]);
    assert_eq!(words(&"A".repeat(10_000)), ["a".repeat(WORD_BYTES_MAX)]);
    // Two bytes a character, after one.
    assert_eq!(words(&format!("a{}", "é".repeat(100))), [format!("a{}", "é".repeat(31))]);
}

/// Every kind of character that boundaries depend on, oftener than by chance.
const ASCII: &str = "[ab1_.':,;@+ -]{0,40}";
const MIXED: &str = "[ab1_.':,;@+ \n\u{301}\u{200d}\u{ad}\u{ac}éßΣ’‐東京かガ\u{3099}학ไท\u{e34}हि\u{94d}א\"ב①Ａ½🎉\u{a8}]{0,30}";

fn segments(text: &str) -> Vec<Segment> {
    unicode_words(text).collect()
}

fn folded(text: &str) -> String {
    let mut folded = String::new();
    push_folded(text, &mut folded);
    folded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn ascii_has_the_words_that_unicode_says(text in prop_oneof![ASCII, "[ -~\\n\\t]{0,60}", "[\u{0}-\u{7f}]{0,30}"]) {
        prop_assert_eq!(ascii_words(text.as_bytes()).collect::<Vec<_>>(), segments(&text));
    }

    #[test]
    fn a_text_has_the_words_of_what_stands_between_its_spaces(text in prop_oneof![MIXED, any::<String>()]) {
        let whole: Vec<String> = {
            let folded = folded(&text);
            segments(&folded).into_iter().map(|segment| folded[segment.start..segment.end].to_owned()).collect()
        };
        let apart: Vec<String> = text.split(|c: char| c.is_ascii_whitespace()).flat_map(|chunk| {
            let folded = folded(chunk);
            segments(&folded).into_iter().map(|segment| folded[segment.start..segment.end].to_owned()).collect::<Vec<_>>()
        }).collect();
        prop_assert_eq!(whole, apart);
    }

    #[test]
    fn any_text_gives_words_within_the_limit_in_any_normal_form(text in prop_oneof![MIXED, any::<String>()]) {
        let found = words(&text);
        for word in &found {
            prop_assert!((1..=WORD_BYTES_MAX).contains(&word.len()));
            stem(word);
        }
        prop_assert_eq!(&found, &words(&text.nfd().collect::<String>()));
        prop_assert_eq!(&found, &words(&text.nfc().collect::<String>()));
    }

    #[test]
    fn what_a_question_looks_for_a_text_has(text in prop_oneof![MIXED, any::<String>()]) {
        let found = words(&text);
        for word in query_words(&text) {
            prop_assert!(found.contains(&word), "{} of {:?}", word, found);
        }
    }
}

#[test]
fn words_in_the_memory_of_others_are_those_of_a_text_alone() {
    let long = "a long text, ".repeat(1_000);
    let mut used = Tokens::default();
    for text in ["Tea at four", "", "state-of-the-art 東京都", &long, "tea"] {
        used = Tokens::of_in(text, used);
        let alone = Tokens::of(text);
        assert!(used.words().eq(alone.words()), "{text}");
        assert_eq!(used.length(), alone.length(), "{text}");
    }
}
