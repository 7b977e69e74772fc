//! The words that texts have, by a number each, and which of them are forms of one.

use hashbrown::HashTable;

use super::{postings::Postings, stem::stem, tokens::Word};

/// How many words may be forms of one. Language has a dozen; made-up words beyond this are found by themselves alone.
pub(super) const FORMS_MAX: usize = 32;

/// No entry.
const NONE: u32 = u32::MAX;

/// A word is there as long as it has postings, or another word has it for a stem.
#[derive(Default)]
pub(super) struct Lexicon {
    by_word: HashTable<u32>,
    entries: Vec<Entry>,
    /// Entries without a word, to be used again.
    free: Vec<u32>,
}

struct Entry {
    word: Box<str>,
    hash: u64,
    postings: Postings,
    /// The first of the words that have this one for a stem; it may be one of them itself.
    first_form: u32,
    /// The next word with the same stem.
    next_form: u32,
    /// That the word is among the forms of its stem.
    is_form: bool,
}

impl Lexicon {
    /// How many words there are, those included that are there for a stem.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_word.len()
    }

    /// The words that texts have.
    #[cfg(test)]
    pub(super) fn words(&self) -> impl Iterator<Item = (&str, &Postings)> {
        let entries = self.by_word.iter().map(|id| &self.entries[*id as usize]);
        entries.filter(|entry| entry.postings.len() > 0).map(|entry| (&*entry.word, &entry.postings))
    }

    /// The number of a word, if a text has it.
    pub(super) fn find(&self, word: Word<'_>) -> Option<u32> {
        let same = |id: &u32| {
            let entry = &self.entries[*id as usize];
            entry.hash == word.hash && *entry.word == *word.text
        };
        self.by_word.find(word.hash, same).copied()
    }

    pub(super) fn postings(&self, id: u32) -> &Postings {
        &self.entries[id as usize].postings
    }

    /// The number that a word has from now on, if only until the next word is removed.
    pub(super) fn find_or_insert(&mut self, word: Word<'_>) -> u32 {
        self.find(word).unwrap_or_else(|| self.insert(word))
    }

    /// Counts one occurrence of a word in a document of this length.
    pub(super) fn add(&mut self, id: u32, doc: u32, length: u16) {
        if self.entries[id as usize].postings.len() == 0 {
            self.link(id);
        }
        self.entries[id as usize].postings.add(doc, length);
    }

    /// Takes a document from a word that may occur in it.
    pub(super) fn remove(&mut self, word: Word<'_>, doc: u32) {
        let Some(id) = self.find(word) else { return };
        let entry = &mut self.entries[id as usize];
        if entry.postings.len() == 0 {
            return;
        }
        entry.postings.remove(doc);
        if entry.postings.len() == 0 {
            entry.postings = Postings::default();
            self.unlink(id);
            self.drop_unused(id);
        }
    }

    /// All words with the same stem that texts have, in no order.
    pub(super) fn forms(&self, word: &str) -> impl Iterator<Item = u32> {
        let first = self.find(Word::new(&stem(word))).map_or(NONE, |id| self.entries[id as usize].first_form);
        self.chain(first)
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = u32> {
        let some = |id: u32| (id != NONE).then_some(id);
        std::iter::successors(some(first), move |id| some(self.entries[*id as usize].next_form))
    }

    fn insert(&mut self, word: Word<'_>) -> u32 {
        let entry = Entry {
            word: word.text.into(),
            hash: word.hash,
            postings: Postings::default(),
            first_form: NONE,
            next_form: NONE,
            is_form: false,
        };
        let id = if let Some(id) = self.free.pop() {
            self.entries[id as usize] = entry;
            id
        } else {
            self.entries.push(entry);
            super::number(self.entries.len() - 1)
        };
        let entries = &self.entries;
        self.by_word.insert_unique(word.hash, id, |id| entries[*id as usize].hash);
        id
    }

    /// The stem of a word that is not its own.
    fn stem_apart(&self, id: u32) -> Option<String> {
        let word = &*self.entries[id as usize].word;
        let stem = stem(word);
        (stem != word).then(|| stem.into_owned())
    }

    /// Makes a word one of the forms of its stem.
    fn link(&mut self, id: u32) {
        let head = if let Some(stem) = self.stem_apart(id) {
            let stem = Word::new(&stem);
            self.find(stem).unwrap_or_else(|| self.insert(stem))
        } else {
            id
        };
        let first = self.entries[head as usize].first_form;
        if self.chain(first).count() < FORMS_MAX {
            self.entries[head as usize].first_form = id;
            let entry = &mut self.entries[id as usize];
            (entry.next_form, entry.is_form) = (first, true);
        }
    }

    fn unlink(&mut self, id: u32) {
        if !std::mem::take(&mut self.entries[id as usize].is_form) {
            return;
        }
        let next = std::mem::replace(&mut self.entries[id as usize].next_form, NONE);
        let head = self.stem_apart(id).map_or(Some(id), |stem| self.find(Word::new(&stem)));
        let Some(head) = head else { return };
        let first = self.entries[head as usize].first_form;
        if first == id {
            self.entries[head as usize].first_form = next;
        } else {
            let before = self.chain(first).find(|form| self.entries[*form as usize].next_form == id);
            if let Some(before) = before {
                self.entries[before as usize].next_form = next;
            }
        }
        if head != id {
            self.drop_unused(head);
        }
    }

    fn drop_unused(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        if entry.postings.len() > 0 || entry.first_form != NONE {
            return;
        }
        entry.word = Box::default();
        if let Ok(occupied) = self.by_word.find_entry(entry.hash, |other| *other == id) {
            occupied.remove();
        }
        self.free.push(id);
    }
}
