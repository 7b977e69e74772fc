//! A text as BERT's tokenizers see it: the words and the punctuation marks, cleaned.

use serde::Deserialize;
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// What is done to a text before it is split.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct Normalizer {
    clean_text: bool,
    handle_chinese_chars: bool,
    /// Like `lowercase`, where it is not said.
    strip_accents: Option<bool>,
    lowercase: bool,
}

impl Default for Normalizer {
    fn default() -> Self {
        Self { clean_text: true, handle_chinese_chars: true, strip_accents: None, lowercase: true }
    }
}

impl Normalizer {
    pub(super) fn with_lowercase(self, lowercase: bool) -> Self {
        Self { lowercase, ..self }
    }

    /// The words of a text, each punctuation mark a word of its own.
    pub(super) fn words(self, text: &str) -> Vec<String> {
        let mut words = Words::default();
        let cleaned = text.chars().filter(|&c| !self.clean_text || !is_dropped(c));
        if self.strip_accents.unwrap_or(self.lowercase) {
            let stripped = cleaned.nfd().filter(|c| c.general_category() != GeneralCategory::NonspacingMark);
            stripped.for_each(|c| self.take(c, &mut words));
        } else {
            cleaned.for_each(|c| self.take(c, &mut words));
        }
        words.finish()
    }

    fn take(self, c: char, words: &mut Words) {
        if c.is_whitespace() {
            words.end();
        } else if is_punctuation(c) || (self.handle_chinese_chars && is_chinese(c)) {
            words.end();
            words.push(c);
            words.end();
        } else if self.lowercase {
            c.to_lowercase().for_each(|c| words.push(c));
        } else {
            words.push(c);
        }
    }
}

/// Words as they come, letter by letter.
#[derive(Default)]
struct Words {
    whole: Vec<String>,
    open: String,
}

impl Words {
    fn push(&mut self, c: char) {
        self.open.push(c);
    }

    fn end(&mut self) {
        if !self.open.is_empty() {
            self.whole.push(std::mem::take(&mut self.open));
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.end();
        self.whole
    }
}

/// What is in no text: control characters, and what stands for a broken one.
fn is_dropped(c: char) -> bool {
    let is_control = || c.general_category_group() == GeneralCategoryGroup::Other;
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{fffd}' => true,
        _ => !c.is_whitespace() && c.general_category() != GeneralCategory::Unassigned && is_control(),
    }
}

/// All of ASCII that is no letter or digit counts, too.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// The ideographs, each of which is a word. Not the syllables of Japanese and Korean, which are written with spaces or
/// known as parts.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b73f | 0x2_b740..=0x2_b81f
        | 0x2_b920..=0x2_ceaf | 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cleaned_and_split() {
        let words = |text: &str| Normalizer::default().words(text).join("|");
        assert_eq!(words("  Hello, WORLD!\tit's\u{a0}me "), "hello|,|world|!|it|'|s|me");
        assert_eq!(words("Größe café naïve"), "große|cafe|naive");
        assert_eq!(words("日本 x東京"), "日|本|x|東|京");
        assert_eq!(words("a\u{200b}b\0c\u{fffd}d"), "abcd");
        assert_eq!(words("$5+5=10 “quoted”—so"), "$|5|+|5|=|10|“|quoted|”|—|so");
        assert_eq!(words(" \n "), "");
    }

    #[test]
    fn a_cased_model_keeps_case_and_accents() {
        let words = Normalizer::default().with_lowercase(false).words("Café LA");
        assert_eq!(words, ["Café", "LA"]);
    }
}
