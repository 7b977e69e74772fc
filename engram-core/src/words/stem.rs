//! Which words are taken for forms of one.

use std::borrow::Cow;

use super::fold::without_diacritics;

/// The shortest that may be left of a word.
const KEPT_MIN: usize = 3;

/// What words have in common that find each other: the word without diacritics, hyphens and underscores, and without an
/// English ending (-s, -es, -ies, -ed, -ing, -e). Nobody sees it, and it need not be a word.
pub(super) fn stem(word: &str) -> Cow<'_, str> {
    if word.bytes().any(|byte| byte.is_ascii_digit()) && word.is_ascii() {
        return Cow::Borrowed(word);
    }
    let mut stem = if word.is_ascii() { word.to_owned() } else { without_diacritics(word) };
    // A compound with a digit in it is a number, a date or a version: its joiners tell it from another.
    if stem.bytes().all(|byte| byte.is_ascii_lowercase() || is_joiner(byte)) {
        stem.retain(|c| !matches!(c, '-' | '_'));
        strip_plural(&mut stem);
        strip_past_and_gerund(&mut stem);
        // A house is housed; a rune is no run.
        if stem.len() > KEPT_MIN
            && let Some(kept) = stem.strip_suffix('e')
            && !is_short(kept)
        {
            stem.pop();
        }
    }
    Cow::Owned(stem)
}

fn is_joiner(byte: u8) -> bool {
    matches!(byte, b'-' | b'_')
}

fn strip_plural(word: &mut String) {
    let ends = |ending: &str| word.len() > ending.len() + 1 && word.ends_with(ending);
    let cut = |word: &mut String, by: usize| word.truncate(word.len() - by);
    if word.len() <= KEPT_MIN || !word.ends_with('s') {
    } else if ends("ies") && word.len() > 4 {
        cut(word, 3);
        word.push('y');
    } else if ["sses", "xes", "zes", "ches", "shes"].into_iter().any(ends) {
        cut(word, 2);
    } else if !["ss", "us", "is"].into_iter().any(ends) {
        cut(word, 1);
    }
}

fn strip_past_and_gerund(word: &mut String) {
    if word.ends_with("ied") && word.len() > 4 {
        word.truncate(word.len() - 3);
        word.push('y');
        return;
    }
    let kept = match word.strip_suffix("ing").or_else(|| word.strip_suffix("ed")) {
        Some(kept) if kept.len() >= KEPT_MIN && has_vowel(kept) && !word.ends_with("eed") => kept.len(),
        _ => return,
    };
    word.truncate(kept);
    // Making, hoped.
    if is_short(word) {
        word.push('e');
        return;
    }
    // Running, stopped; but not falling, passed, buzzed.
    if let [.., a, b] = word.as_bytes()
        && a == b
        && kept > KEPT_MIN
        && !is_vowel(*b)
        && !matches!(b, b'l' | b's' | b'z')
    {
        word.pop();
    }
}

fn has_vowel(word: &str) -> bool {
    word.bytes().any(|byte| is_vowel(byte) || byte == b'y')
}

fn is_vowel(byte: u8) -> bool {
    matches!(byte, b'a' | b'e' | b'i' | b'o' | b'u')
}

/// One vowel between consonants, as in `hop`: what a silent e makes another word of (Porter 1980).
fn is_short(word: &str) -> bool {
    let [before @ .., vowel, last] = word.as_bytes() else { return false };
    let is_consonant = |byte: &u8| !is_vowel(*byte);
    !before.is_empty()
        && before.iter().all(is_consonant)
        && is_vowel(*vowel)
        && is_consonant(last)
        && !matches!(last, b'w' | b'x' | b'y')
}
