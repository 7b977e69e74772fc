//! Recall by words: an inverted index ranked by BM25.
//!
//! What a word is, [`Tokens`] says; `docs/recall.md` says it to who asks questions. A question finds its words as they
//! are, with the score of BM25, and forms of them (see `stem`) with a part of it, so that a text with the word itself
//! ranks before one with another form.

use lexicon::Lexicon;
use search::Search;

pub(crate) use self::tokens::Tokens;
use crate::top_k::{Scored, TopK};

mod fold;
mod lexicon;
mod postings;
mod search;
mod segments;
mod stem;
mod tokens;

#[cfg(test)]
mod tests;

/// A text in the index. The id stays the same until the text is removed; then another may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DocId(u32);

/// Texts by their words, with an item beside each.
///
/// It is not synchronised: writers need it for themselves, searches may share it. What can be done without it, the
/// words of a text, is done ahead.
pub(crate) struct WordIndex<T> {
    lexicon: Lexicon,
    /// By document; `None` where a text was removed.
    items: Vec<Option<T>>,
    /// How many words each document has, up to [`LENGTH_MAX`].
    lengths: Vec<u16>,
    /// Documents without a text, to be used again.
    free: Vec<u32>,
    /// How many words all texts have together.
    words: u64,
    /// Room for the numbers of the words of the text that is being inserted.
    found: Vec<u32>,
}

/// How many words of a text count for its length.
const LENGTH_MAX: u16 = u16::MAX;

impl<T: Clone> WordIndex<T> {
    /// An empty index.
    pub(crate) fn new() -> Self {
        Self {
            lexicon: Lexicon::default(),
            items: Vec::new(),
            lengths: Vec::new(),
            free: Vec::new(),
            words: 0,
            found: Vec::new(),
        }
    }

    /// How many texts are in the index, those without words included.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Adds a text and the item that a search returns for it.
    pub(crate) fn insert(&mut self, text: &Tokens, item: T) -> DocId {
        let length = u16::try_from(text.length()).unwrap_or(LENGTH_MAX);
        let doc = if let Some(doc) = self.free.pop() {
            self.items[doc as usize] = Some(item);
            self.lengths[doc as usize] = length;
            doc
        } else {
            self.items.push(Some(item));
            self.lengths.push(length);
            number(self.items.len() - 1)
        };
        self.words += u64::from(length);
        // First all words, then all postings: what has to come from memory for one comes while another is looked up.
        let mut found = std::mem::take(&mut self.found);
        found.extend(text.words().map(|word| self.lexicon.find_or_insert(word)));
        found.drain(..).for_each(|word| self.lexicon.add(word, doc, length));
        self.found = found;
        DocId(doc)
    }

    /// Takes a text out and returns its item. `text` is the one it was inserted with.
    pub(crate) fn remove(&mut self, DocId(doc): DocId, text: &Tokens) -> T {
        let Some(item) = self.items[doc as usize].take() else { unreachable!("{doc} was removed before") };
        self.words -= u64::from(self.lengths[doc as usize]);
        for word in text.words() {
            self.lexicon.remove(word, doc);
        }
        self.free.push(doc);
        item
    }

    /// Exchanges the item of a text.
    pub(crate) fn set_item(&mut self, DocId(doc): DocId, item: T) {
        let slot = &mut self.items[doc as usize];
        assert!(slot.is_some(), "{doc} was removed before");
        *slot = Some(item);
    }

    /// The `limit` items whose texts answer the question best, of those that have a word of it, or a form of one, and
    /// that `accept` lets in: by score descending, then by `tiebreak` descending. Where no two items have the same
    /// tiebreak, the result does not depend on the order of the insertions.
    ///
    /// A word that occurs more than once in the question counts once. A question without words finds nothing.
    pub(crate) fn search(
        &self,
        query: &str,
        limit: usize,
        accept: impl Fn(&T) -> bool,
        tiebreak: impl Fn(&T) -> u64,
    ) -> Vec<Scored<T>> {
        let mut top = TopK::new(limit, accept, tiebreak);
        if limit > 0 && self.words > 0 {
            let mean_length = self.words as f32 / self.len() as f32;
            let search =
                Search::new(&Tokens::of_query(query), &self.lexicon, self.len(), mean_length, &self.lengths);
            search.run(&mut top, &self.items);
        }
        top.into_best_first()
    }
}

/// The number of a text or of a word.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or_else(|_| unreachable!("a word index of more than {} entries", u32::MAX))
}
