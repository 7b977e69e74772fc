//! From a text to its words.
//!
//! A pure function of the text: it can run ahead of the index, on another core. `docs/recall.md` tells the rules to who
//! asks questions; it changes with them.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    ops::Range,
    sync::LazyLock,
};

use foldhash::fast::RandomState;

use super::{
    fold::push_folded,
    segments::{Segment, ascii_words, is_part_of_word, unicode_words},
};

/// How many bytes of a word count, folded and in UTF-8. What follows is ignored: a key that is pasted into a text does
/// not grow the index without bound.
pub(crate) const WORD_BYTES_MAX: usize = 64;

/// Up to this size of a text the memory of its words is used again; that of a long one is given back.
const USED_BYTES_MAX: usize = 4096;

/// One for the process. Its seed is random, so that who stores texts cannot choose words that collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The words of a text, with their hashes, in the order in which they end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    folded: String,
    words: Vec<Token>,
    length: u32,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    hash: u64,
    start: u32,
    end: u32,
}

/// A word and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) hash: u64,
}

impl<'a> Word<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, hash: hash(text) }
    }
}

impl Tokens {
    /// The words of a text that is stored. Of a script without spaces: each character, and each pair of neighbours.
    pub(crate) fn of(text: &str) -> Self {
        Self::of_in(text, Self::default())
    }

    /// The same, in the memory that those of another text took.
    pub(crate) fn of_in(text: &str, used: Self) -> Self {
        Tokenizer { tokens: used.emptied(), ..Tokenizer::default() }.run(text)
    }

    /// The words of a question. Of a script without spaces: each pair, and a character that stands alone; single
    /// characters would find nearly everything.
    pub(crate) fn of_query(query: &str) -> Self {
        Tokenizer { is_query: true, ..Tokenizer::default() }.run(query)
    }

    /// The words, as often as they occur.
    pub(crate) fn words(&self) -> impl Iterator<Item = Word<'_>> {
        let word = |token: &Token| Word { text: self.text(token), hash: token.hash };
        self.words.iter().map(word)
    }

    /// How long the text is, in words. What is found by its whole and by its parts counts by its parts.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    fn emptied(mut self) -> Self {
        if self.folded.capacity() > USED_BYTES_MAX {
            return Self::default();
        }
        self.folded.clear();
        self.words.clear();
        self.length = 0;
        self
    }

    fn text(&self, token: &Token) -> &str {
        &self.folded[token.start as usize..token.end as usize]
    }
}

#[derive(Default)]
struct Tokenizer {
    is_query: bool,
    tokens: Tokens,
    /// Neighbouring words with one joiner between each two, such as `state-of-the-art`.
    compound: Compound,
    run: Run,
}

#[derive(Default)]
struct Compound {
    start: usize,
    end: usize,
    words: u32,
}

/// Neighbouring characters of scripts without spaces.
#[derive(Clone, Copy, Default)]
struct Run {
    /// The start of the last but one.
    before: Option<usize>,
    /// The last one, with its marks.
    start: usize,
    end: usize,
    is_open: bool,
}

impl Tokenizer {
    fn run(mut self, text: &str) -> Tokens {
        self.tokens.folded.reserve(text.len());
        self.tokens.words.reserve(text.len() / 5);
        if text.is_ascii() {
            self.chunk(text);
        } else {
            // No word goes on over a space: what is ASCII between two takes the fast path.
            text.split_inclusive(|c: char| c.is_ascii_whitespace()).for_each(|chunk| self.chunk(chunk));
        }
        self.tokens
    }

    fn chunk(&mut self, text: &str) {
        let start = self.tokens.folded.len();
        push_folded(text, &mut self.tokens.folded);
        // Taken out, so that words can be looked at while tokens are added.
        let folded = std::mem::take(&mut self.tokens.folded);
        let chunk = &folded[start..];
        let at = |segment: Segment| Segment {
            start: start + segment.start,
            end: start + segment.end,
            is_plain: segment.is_plain,
        };
        if chunk.is_ascii() {
            ascii_words(chunk.as_bytes()).for_each(|segment| self.word(&folded, at(segment)));
        } else {
            unicode_words(chunk).for_each(|segment| self.word(&folded, at(segment)));
        }
        self.close_compound(&folded);
        self.close_run(&folded);
        self.tokens.folded = folded;
    }

    fn word(&mut self, folded: &str, word: Segment) {
        let is_joined = self.compound.words > 0
            && word.start == self.compound.end + 1
            && matches!(folded.as_bytes()[self.compound.end], b'-' | b'@' | b'+' | b'.');
        if !is_joined {
            self.close_compound(folded);
        }
        if word.is_plain {
            self.tokens.length += 1;
            self.push(folded, word.start, word.end);
        } else if self.parts(folded, word) == Parts::Unspaced {
            return self.close_compound(folded);
        }
        if self.compound.words == 0 {
            self.compound.start = word.start;
        }
        self.compound.words += 1;
        self.compound.end = word.end;
    }

    /// The parts of a word, and the word itself if it has several.
    fn parts(&mut self, folded: &str, word: Segment) -> Parts {
        let (mut parts, mut has_unspaced) = (0, false);
        let mut part = word.start..word.start;
        for (at, c) in folded[word.start..word.end].char_indices() {
            let at = word.start + at;
            let end = at + c.len_utf8();
            if is_unspaced(c) {
                parts += self.part(folded, &part);
                self.unspaced(folded, at, end);
                (part, has_unspaced) = (end..end, true);
            } else if !is_part_of_word(c) {
                parts += self.part(folded, &part);
                part = end..end;
            } else if part.is_empty() && !c.is_alphanumeric() && self.run.end == at {
                // A mark on the character before.
                self.run.end = end;
                part = end..end;
            } else {
                part.end = end;
            }
        }
        parts += self.part(folded, &part);
        if has_unspaced {
            return Parts::Unspaced;
        }
        if parts > 1 {
            self.push(folded, word.start, word.end);
        }
        Parts::Spaced
    }

    /// How many parts that is: none if it is empty.
    fn part(&mut self, folded: &str, part: &Range<usize>) -> u32 {
        if part.is_empty() {
            return 0;
        }
        self.tokens.length += 1;
        self.push(folded, part.start, part.end);
        1
    }

    /// A character of a script without spaces. Marks may follow: it is added when the next one comes.
    fn unspaced(&mut self, folded: &str, start: usize, end: usize) {
        if self.run.end != start {
            self.close_run(folded);
        }
        self.tokens.length += 1;
        let before = self.run.is_open.then_some(self.run.start);
        if self.run.is_open {
            self.push_last(folded, !self.is_query);
        }
        self.run = Run { before, start, end, is_open: true };
    }

    fn close_run(&mut self, folded: &str) {
        if self.run.is_open {
            self.push_last(folded, !self.is_query || self.run.before.is_none());
            self.run = Run::default();
        }
    }

    /// Adds the last character with the one before, and by itself if that is wanted.
    fn push_last(&mut self, folded: &str, by_itself: bool) {
        let Run { before, start, end, .. } = self.run;
        if let Some(before) = before {
            self.push(folded, before, end);
        }
        if by_itself {
            self.push(folded, start, end);
        }
    }

    fn close_compound(&mut self, folded: &str) {
        let Compound { start, end, words } = std::mem::take(&mut self.compound);
        if words > 1 {
            self.push(folded, start, end);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a content of the largest size, folded, is far below 4 GiB"
    )]
    fn push(&mut self, folded: &str, start: usize, end: usize) {
        let mut end = end;
        if end - start > WORD_BYTES_MAX {
            end = folded.floor_char_boundary(start + WORD_BYTES_MAX);
        }
        let hash = hash(&folded[start..end]);
        self.tokens.words.push(Token { hash, start: start as u32, end: end as u32 });
    }
}

#[derive(PartialEq, Eq)]
enum Parts {
    Spaced,
    /// Some of it is of a script without spaces; such a word joins no other.
    Unspaced,
}

fn hash(word: &str) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(word.as_bytes());
    hasher.finish()
}

/// Letters of scripts that put no space between words, or, as Korean, none between a word and what belongs to it.
fn is_unspaced(c: char) -> bool {
    c >= '\u{e00}'
        && c.is_alphanumeric()
        && matches!(c,
            '\u{e00}'..='\u{eff}' // Thai, Lao
            | '\u{1000}'..='\u{109f}' // Burmese
            | '\u{1780}'..='\u{17ff}' // Khmer
            | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' // Kana
            | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' // Han
            | '\u{ac00}'..='\u{d7a3}') // Hangul
}
