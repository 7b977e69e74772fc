//! What is taken for the same character: compatibility forms, and upper and lower case. And which letters are taken
//! for alike: with and without their diacritics.

use unicode_normalization::UnicodeNormalization as _;

/// Appends the text in the form in which words are compared: NFKC, case folded, with plain apostrophes and hyphens, and
/// without characters that are not seen.
pub(super) fn push_folded(text: &str, folded: &mut String) {
    if text.is_ascii() {
        let start = folded.len();
        folded.push_str(text);
        folded[start..].make_ascii_lowercase();
        return;
    }
    for c in text.nfkc() {
        match c {
            'a'..='z' | '0'..='9' => folded.push(c),
            // A soft hyphen, joiners and a byte order mark: what is written with them is read without.
            '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}' | '\u{feff}' => {}
            '’' => folded.push('\''),
            '‐' => folded.push('-'),
            'ß' | 'ẞ' => folded.push_str("ss"),
            'ς' => folded.push('σ'),
            _ => folded.extend(c.to_lowercase()),
        }
    }
}

/// A folded word without its diacritics, which many who ask do not type. Marks that make another letter (a dakuten, a
/// virama) stay.
pub(super) fn without_diacritics(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    for c in word.nfd().filter(|c| !is_diacritic(*c)) {
        match c {
            'ø' => plain.push('o'),
            'ł' => plain.push('l'),
            'đ' | 'ð' => plain.push('d'),
            'ħ' => plain.push('h'),
            'ı' => plain.push('i'),
            'æ' => plain.push_str("ae"),
            'œ' => plain.push_str("oe"),
            'þ' => plain.push_str("th"),
            _ => plain.push(c),
        }
    }
    plain.nfc().collect()
}

/// Accents of Latin, Greek and Cyrillic, vowel points of Hebrew and Arabic.
fn is_diacritic(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}'
        | '\u{5c7}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}')
}
