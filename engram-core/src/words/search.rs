//! The best texts by BM25, without looking at all that have a common word.
//!
//! Documents are gone through in windows. Words that could not lift a document among the best even together (max-score;
//! Turtle and Flood 1995) are looked up only for documents that another word has brought up, and a window in which all
//! words together could not is left out (block-max, after Ding and Suel 2011). What is found is what a search over all
//! postings finds, to the last bit: scores are added up as integers, so that the order does not matter.

use std::ops::Range;

use crate::top_k::TopK;

use super::{
    lexicon::Lexicon,
    postings::{Block, Posting},
    tokens::Tokens,
};

/// How soon more occurrences of a word in a text stop to matter (BM25's k1).
const SATURATION: f32 = 1.2;

/// How much longer texts are held back, from 0 to 1 (BM25's b).
const LENGTH_WEIGHT: f32 = 0.75;

/// What another form of a word counts, beside the word itself.
pub(super) const FORM_WEIGHT: f32 = 0.5;

/// More than any score.
const SCORE_MAX: u32 = 1 << 31;

/// How many documents are looked at together.
const CHUNK: usize = 32;

/// How many documents a window has.
const WINDOW: u32 = 2048;

/// How many postings can be gone through in the time of looking up one document.
const LOOK_UP_COST: usize = 8;

/// One question.
pub(super) struct Search<'a> {
    terms: Vec<Term<'a>>,
    lengths: &'a [u16],
    length_factor: LengthFactor,
    /// What one is in integer scores: a power of two, so that the best possible score fits.
    unit: f32,
}

/// A word to look for.
struct Term<'a> {
    blocks: &'a [Block],
    /// The most that it can give.
    weight: f32,
    /// How many of the blocks have to do with the window, and the most that it can give there.
    in_window: usize,
    bound: u32,
}

/// What the length of a text adds to its occurrences.
#[derive(Clone, Copy)]
struct LengthFactor {
    fixed: f32,
    per_word: f32,
}

impl LengthFactor {
    fn of(self, length: u16) -> f32 {
        self.fixed + self.per_word * f32::from(length)
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(
        query: &Tokens,
        lexicon: &'a Lexicon,
        texts: usize,
        mean_length: f32,
        lengths: &'a [u16],
    ) -> Self {
        let terms: Vec<Term<'_>> = weighted(query, lexicon, texts)
            .into_iter()
            .map(|(id, weight)| Term {
                blocks: lexicon.postings(id).blocks(),
                weight,
                in_window: 0,
                bound: 0,
            })
            .collect();
        let most: f32 = terms.iter().map(|term| term.weight).sum();
        let length_factor = LengthFactor {
            fixed: SATURATION * (1.0 - LENGTH_WEIGHT),
            per_word: SATURATION * LENGTH_WEIGHT / mean_length,
        };
        // One bit is left for what rounding adds.
        let unit = (30.0 - most.max(1.0).log2().ceil()).exp2();
        Self { terms, lengths, length_factor, unit }
    }

    /// Offers all that may be among the best.
    pub(super) fn run<T: Clone>(
        mut self,
        top: &mut TopK<T, impl Fn(&T) -> bool, impl Fn(&T) -> u64>,
        items: &[Option<T>],
    ) {
        let mut scores = [0_u32; WINDOW as usize];
        let mut candidates = Vec::new();
        let mut start = 0;
        while let Some(first) = self.next(start) {
            let window = first - first % WINDOW..(first - first % WINDOW).saturating_add(WINDOW);
            start = window.end;
            self.bound(window.end);
            // Those that may be left out come first.
            self.terms.sort_unstable_by_key(|term| term.bound);
            let floor = self.floor(|score| top.may_enter(score));
            let mut left_out = 0;
            let mut bound = 0;
            while let Some(term) = self.terms.get(left_out)
                && bound + term.bound < floor
            {
                bound += term.bound;
                left_out += 1;
            }
            let (others, needed) = self.terms.split_at(left_out);
            if needed.is_empty() {
                continue;
            }
            for term in needed.iter().filter(|term| term.in_window > 0) {
                self.add_up(term, &window, &mut scores);
            }
            candidates.clear();
            for (chunk, some) in scores.as_chunks::<CHUNK>().0.iter().enumerate() {
                // Most have none.
                if some.iter().fold(0, |found, score| found | score.saturating_sub(floor - bound - 1)) > 0 {
                    let all = some.iter().zip(CHUNK * chunk..);
                    candidates.extend(all.filter(|(score, _)| **score >= floor - bound).map(|(_, at)| at));
                }
            }
            for term in others.iter().rev().filter(|term| term.in_window > 0) {
                candidates.retain(|at| scores[*at] + bound >= floor);
                bound -= term.bound;
                self.add_to(&candidates, term, &window, &mut scores);
            }
            for at in &candidates {
                let score = self.score(scores[*at]);
                if top.may_enter(score)
                    && let Some(item) = &items[window.start as usize + at]
                {
                    top.offer(score, item);
                }
            }
            scores.fill(0);
        }
    }

    /// The lowest score that may enter, and at least 1, which is the lowest of a document that has a word.
    fn floor(&self, may_enter: impl Fn(f32) -> bool) -> u32 {
        let (mut below, mut enough) = (0, SCORE_MAX);
        while enough - below > 1 {
            let middle = u32::midpoint(below, enough);
            if may_enter(self.score(middle)) { enough = middle } else { below = middle }
        }
        enough
    }

    /// The first document from here on that has a word of the question, as far as blocks tell.
    fn next(&mut self, start: u32) -> Option<u32> {
        self.terms.retain_mut(|term| {
            while let [_, next, ..] = term.blocks
                && next.base() <= start
            {
                term.blocks = &term.blocks[1..];
            }
            !matches!(term.blocks, [last] if last.last() < start)
        });
        self.terms.iter().map(|term| term.blocks[0].base().max(start)).min()
    }

    /// Sets what each word can give up to the end of the window.
    fn bound(&mut self, end: u32) {
        for term in &mut self.terms {
            term.in_window = term.blocks.iter().take_while(|block| block.base() < end).count();
            let best = term.blocks[..term.in_window].iter().map(|block| {
                let length = self.length_factor.of(block.length_min());
                contribution(term.weight, self.unit, block.occurrences_max(), length)
            });
            // A little more, for what rounding does to each of them.
            term.bound = best.max().map_or(0, |best| best + (best >> 20) + 1);
        }
    }

    /// Adds the scores that a word gives to the documents of a window.
    fn add_up(&self, term: &Term<'_>, window: &Range<u32>, scores: &mut [u32; WINDOW as usize]) {
        let end = self.lengths.len().min(window.end as usize);
        let lengths = &self.lengths[window.start as usize..end];
        for block in &term.blocks[..term.in_window] {
            for Posting { doc, occurrences } in block.from(window.start) {
                let at = (doc - window.start) as usize;
                let Some(length) = lengths.get(at) else { break };
                let length = self.length_factor.of(*length);
                scores[at] += contribution(term.weight, self.unit, occurrences, length);
            }
        }
    }

    /// The same for some documents at least.
    fn add_to(
        &self,
        candidates: &[usize],
        term: &Term<'_>,
        window: &Range<u32>,
        scores: &mut [u32; WINDOW as usize],
    ) {
        let blocks = &term.blocks[..term.in_window];
        let postings: usize = blocks.iter().map(Block::len).sum();
        if postings < LOOK_UP_COST * candidates.len() {
            return self.add_up(term, window, scores);
        }
        for at in candidates {
            let doc = window.start + super::number(*at);
            let block = blocks.iter().rfind(|block| block.base() <= doc);
            if let Some(occurrences) = block.and_then(|block| block.occurrences(doc)) {
                let length = self.length_factor.of(self.lengths[doc as usize]);
                scores[*at] += contribution(term.weight, self.unit, occurrences, length);
            }
        }
    }

    fn score(&self, score: u32) -> f32 {
        score as f32 / self.unit
    }
}

/// What a word gives to a text in which it occurs so often. Never 0: who has a word is found.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "above 0, and the sum of all fits, see the unit"
)]
fn contribution(weight: f32, unit: f32, occurrences: u8, length: f32) -> u32 {
    let occurrences = f32::from(occurrences);
    (((weight * occurrences / (occurrences + length)) * unit) as u32).max(1)
}

/// The words of a question and their forms, each once, with their weights: the most that each can give to a text.
fn weighted(query: &Tokens, lexicon: &Lexicon, texts: usize) -> Vec<(u32, f32)> {
    let weight = |with_word: u32| (SATURATION + 1.0) * inverse_document_frequency(with_word, texts);
    let mut words: Vec<_> = query.words().collect();
    words.sort_unstable_by_key(|word| word.text);
    words.dedup_by_key(|word| word.text);
    let mut weights: Vec<(u32, f32)> = Vec::new();
    for word in words {
        let exact = lexicon.find(word).filter(|id| lexicon.postings(*id).len() > 0);
        let forms: Vec<u32> = lexicon.forms(word.text).collect();
        let together = forms.iter().map(|id| lexicon.postings(*id).len()).sum::<u32>();
        let together = weight(together.min(super::number(texts)));
        weights.extend(exact.map(|id| (id, weight(lexicon.postings(id).len()))));
        weights
            .extend(forms.into_iter().filter(|id| Some(*id) != exact).map(|id| (id, FORM_WEIGHT * together)));
    }
    // What is asked for itself counts more than what is asked for as a form.
    weights.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    weights.dedup_by_key(|(id, _)| *id);
    weights
}

/// How rare a word is: the form that stays above zero for a word that all texts have.
fn inverse_document_frequency(with_word: u32, texts: usize) -> f32 {
    let without = texts.saturating_sub(with_word as usize);
    ((without as f32 + 0.5) / (with_word as f32 + 0.5)).ln_1p()
}
