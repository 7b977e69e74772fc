//! Where words begin and end: the boundaries of Unicode's text segmentation (UAX #29).

use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation as _;

/// A word of a folded text, from its first to its last letter, digit or mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: usize,
    pub(super) end: usize,
    /// That it is letters and digits of ASCII and nothing else.
    pub(super) is_plain: bool,
}

const OTHER: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
/// Joins whatever stands beside it.
const UNDERSCORE: u8 = 4;
/// Join two letters, two digits, or both kinds.
const MID_LETTER: u8 = 8;
const MID_DIGIT: u8 = 16;

/// What each byte of ASCII is to the boundaries. Bytes beyond ASCII are not asked for.
const KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'_' => UNDERSCORE,
            b':' => MID_LETTER,
            b',' | b';' => MID_DIGIT,
            b'.' | b'\'' => MID_LETTER | MID_DIGIT,
            _ => OTHER,
        };
        byte += 1;
    }
    kinds
};

/// The words of a text of ASCII. They are those that [`unicode_words`] finds, and found several times as fast.
pub(super) fn ascii_words(text: &[u8]) -> impl Iterator<Item = Segment> {
    let kind = |at: usize| text.get(at).map_or(OTHER, |byte| KINDS[usize::from(*byte)]);
    let mut at = 0;
    std::iter::from_fn(move || {
        while kind(at) & (LETTER | DIGIT) == 0 {
            if at >= text.len() {
                return None;
            }
            at += 1;
        }
        let start = at;
        let (mut end, mut is_plain) = (start, true);
        loop {
            let this = kind(at);
            if this & (LETTER | DIGIT) != 0 {
                is_plain &= at == end;
                at += 1;
                end = at;
            } else if this == UNDERSCORE || this & joined(kind(at - 1), kind(at + 1)) != 0 {
                at += 1;
            } else {
                return Some(Segment { start, end, is_plain });
            }
        }
    })
}

/// The kinds that join what stands before and after them.
fn joined(before: u8, after: u8) -> u8 {
    match (before, after) {
        (LETTER, LETTER) => MID_LETTER,
        (DIGIT, DIGIT) => MID_DIGIT,
        _ => OTHER,
    }
}

/// The words of any text.
pub(super) fn unicode_words(text: &str) -> impl Iterator<Item = Segment> {
    text.unicode_word_indices().filter_map(|(at, word)| {
        let start = at + word.find(is_part_of_word)?;
        let end = at + word.trim_end_matches(|c| !is_part_of_word(c)).len();
        let is_plain = text[start..end].bytes().all(|byte| byte.is_ascii_alphanumeric());
        Some(Segment { start, end, is_plain })
    })
}

/// Letters, digits and marks; what else is in a word joins its parts.
pub(super) fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}
