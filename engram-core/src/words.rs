//! Recall by words: an inverted index ranked by BM25.
//!
//! What a word is: a run of alphanumeric characters (Unicode), as long as possible, lowercased, and cut to
//! [`WORD_BYTES_MAX`] bytes. Everything else separates words, apostrophes and underscores too: "John's" is
//! found by "john". There is no stemming, there are no stop words, and nothing is normalised: "é" written as
//! two characters is not "é" written as one. In scripts without spaces a whole run is one word.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::top_k::{Scored, TopK};

#[cfg(test)]
mod tests;

/// How many bytes of a word count, in UTF-8 and lowercase. What follows is ignored: a key that is pasted into
/// a text does not grow the index without bound.
pub(crate) const WORD_BYTES_MAX: usize = 64;

/// How soon more occurrences of a word in a text stop to matter (BM25's k1).
const SATURATION: f32 = 1.2;

/// How much longer texts are held back, from 0 to 1 (BM25's b).
const LENGTH_WEIGHT: f32 = 0.75;

/// A text in the index. The id stays the same until the text is removed; then another may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DocId(u32);

/// Texts by their words, with an item beside each.
///
/// It is not synchronised: writers need it for themselves, searches may share it.
///
/// A removed text leaves its postings behind, since to find them would take as long as the commonest of its
/// words is common. A posting list drops them once they outnumber the live ones in it, so that stale postings
/// never outnumber live ones, an update costs constant time on average, and a word without live texts is
/// forgotten at once.
pub(crate) struct WordIndex<T> {
    terms: HashMap<Box<str>, Term>,
    docs: Vec<Doc<T>>,
    /// Documents without item and without postings, to be used again.
    free: Vec<u32>,
    /// How many documents have an item.
    live: usize,
    /// How many words the live documents have together.
    words: u64,
    /// How many documents were removed ever: tells the removals apart in [`Term::removal`].
    removals: u64,
}

struct Term {
    /// How many live documents contain the word.
    live: u32,
    /// The last removal that has taken a document away, so that a word that occurs twice in a text is taken
    /// away once.
    removal: u64,
    /// At most one a document, in no order.
    postings: Vec<Posting>,
}

#[derive(Clone, Copy)]
struct Posting {
    doc: u32,
    /// How often the word occurs in the document.
    occurrences: u32,
}

struct Doc<T> {
    /// `None` as soon as it is removed.
    item: Option<T>,
    /// How many words it has.
    words: u32,
    /// How many postings name it. Invariant: it is used again only when there are none, or they would name
    /// the new text.
    postings: u32,
}

impl<T: Clone> WordIndex<T> {
    /// An empty index.
    pub(crate) fn new() -> Self {
        Self { terms: HashMap::new(), docs: Vec::new(), free: Vec::new(), live: 0, words: 0, removals: 0 }
    }

    /// How many texts are in the index, those without words included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Adds a text and the item that a search returns for it.
    pub(crate) fn insert(&mut self, text: &str, item: T) -> DocId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.docs.push(Doc { item: None, words: 0, postings: 0 });
            doc_number(self.docs.len() - 1)
        });
        let (mut words, mut postings) = (0, 0);
        for_each_word(text, |word| {
            words += 1;
            let new = if let Some(term) = self.terms.get_mut(word) {
                term.add(id)
            } else {
                let mut term = Term { live: 0, removal: 0, postings: Vec::new() };
                term.add(id);
                self.terms.insert(word.into(), term);
                true
            };
            postings += u32::from(new);
        });
        self.docs[id as usize] = Doc { item: Some(item), words, postings };
        self.live += 1;
        self.words += u64::from(words);
        DocId(id)
    }

    /// Takes a text out and returns its item. `text` is the one it was inserted with: its words are counted
    /// down.
    pub(crate) fn remove(&mut self, id: DocId, text: &str) -> T {
        let Self { terms, docs, free, live, words, removals } = self;
        let doc = &mut docs[id.0 as usize];
        let Some(item) = doc.item.take() else { unreachable!("{id:?} was removed before") };
        *live -= 1;
        *words -= u64::from(doc.words);
        *removals += 1;
        if doc.postings == 0 {
            free.push(id.0);
        }
        for_each_word(text, |word| {
            // The word is gone if this text was the last that had it and it occurs in it twice.
            let Some(term) = terms.get_mut(word) else { return };
            if term.removal == *removals {
                return;
            }
            term.removal = *removals;
            term.live -= 1;
            if term.postings.len() > 2 * term.live as usize {
                term.drop_stale(docs, free);
            }
            if term.postings.is_empty() {
                terms.remove(word);
            }
        });
        item
    }

    /// Exchanges the item of a text.
    pub(crate) fn set_item(&mut self, id: DocId, item: T) {
        let slot = &mut self.docs[id.0 as usize].item;
        assert!(slot.is_some(), "{id:?} was removed before");
        *slot = Some(item);
    }

    /// The `limit` items whose texts answer the query best, of those that have a word of it and that `accept`
    /// lets in: by score descending, then by `tiebreak` descending. Where no two items have the same
    /// tiebreak, the result does not depend on the order of the insertions.
    ///
    /// A word that occurs more than once in the query counts once. A query without words finds nothing.
    pub(crate) fn search(
        &self,
        query: &str,
        limit: usize,
        accept: impl Fn(&T) -> bool,
        tiebreak: impl Fn(&T) -> u64,
    ) -> Vec<Scored<T>> {
        let mut top = TopK::new(limit, accept, tiebreak);
        if limit == 0 || self.words == 0 {
            return top.into_best_first();
        }
        let mean_words = self.words as f32 / self.live as f32;
        let mut scores = vec![0.0_f32; self.docs.len()];
        let mut found = Vec::new();
        for term in self.distinct_terms(query) {
            let weight = self.inverse_document_frequency(term);
            for posting in &term.postings {
                let doc = &self.docs[posting.doc as usize];
                let occurrences = posting.occurrences as f32;
                let length = 1.0 - LENGTH_WEIGHT + LENGTH_WEIGHT * doc.words as f32 / mean_words;
                let score = &mut scores[posting.doc as usize];
                // Every contribution is above zero.
                if *score == 0.0 {
                    found.push(posting.doc);
                }
                *score += weight * occurrences * (SATURATION + 1.0) / (occurrences + SATURATION * length);
            }
        }
        for doc in found {
            let score = scores[doc as usize];
            if top.may_enter(score)
                && let Some(item) = &self.docs[doc as usize].item
            {
                top.offer(score, item);
            }
        }
        top.into_best_first()
    }

    /// The query's words that some text has, each once, in the order of the query: the order in which scores
    /// are added up is the same for all texts.
    fn distinct_terms(&self, query: &str) -> Vec<&Term> {
        let mut seen = HashSet::new();
        let mut terms = Vec::new();
        for_each_word(query, |word| {
            if let Some((word, term)) = self.terms.get_key_value(word)
                && seen.insert(word)
            {
                terms.push(term);
            }
        });
        terms
    }

    /// How rare a word is: the form that stays above zero for a word that all texts have.
    fn inverse_document_frequency(&self, term: &Term) -> f32 {
        let (with_word, without) = (term.live as f32, self.live - term.live as usize);
        ((without as f32 + 0.5) / (with_word + 0.5)).ln_1p()
    }
}

impl Term {
    /// Counts one occurrence in a document that is being inserted; true if it is the first.
    fn add(&mut self, doc: u32) -> bool {
        if let Some(last) = self.postings.last_mut()
            && last.doc == doc
        {
            last.occurrences += 1;
            return false;
        }
        self.postings.push(Posting { doc, occurrences: 1 });
        self.live += 1;
        true
    }

    /// Drops the postings of removed documents, and frees those documents whose last posting it was.
    fn drop_stale<T>(&mut self, docs: &mut [Doc<T>], free: &mut Vec<u32>) {
        self.postings.retain(|posting| {
            let doc = &mut docs[posting.doc as usize];
            if doc.item.is_some() {
                return true;
            }
            doc.postings -= 1;
            if doc.postings == 0 {
                free.push(posting.doc);
            }
            false
        });
        debug_assert_eq!(
            self.postings.len(),
            self.live as usize,
            "a text was removed with other words than it had"
        );
        if self.postings.capacity() > 4 * self.postings.len() {
            self.postings.shrink_to(2 * self.postings.len());
        }
    }
}

fn doc_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or_else(|_| unreachable!("a word index of more than {} texts", u32::MAX))
}

/// Calls `visit` with each word of the text, see the module's rule.
fn for_each_word(text: &str, mut visit: impl FnMut(&str)) {
    let mut lowercase = [0; WORD_BYTES_MAX];
    for run in text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
        visit(&normalised(run, &mut lowercase));
    }
}

/// The run in lowercase, cut to [`WORD_BYTES_MAX`] bytes at the end of a character. Only a run that is not
/// ASCII needs memory of its own.
fn normalised<'a>(run: &str, lowercase: &'a mut [u8; WORD_BYTES_MAX]) -> Cow<'a, str> {
    let cut = &run[..run.floor_char_boundary(WORD_BYTES_MAX)];
    if cut.is_ascii() {
        let lowercase = &mut lowercase[..cut.len()];
        lowercase.copy_from_slice(cut.as_bytes());
        lowercase.make_ascii_lowercase();
        return String::from_utf8_lossy(lowercase);
    }
    // Lowercase can be longer than what it was made of.
    let mut lowercase = cut.to_lowercase();
    lowercase.truncate(lowercase.floor_char_boundary(WORD_BYTES_MAX));
    Cow::Owned(lowercase)
}
