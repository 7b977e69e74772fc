//! The memories by id.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use dashmap::DashMap;
use foldhash::quality::RandomState;

use crate::{Memory, vector::RowId, words::DocId};

/// The hot memories by id. Only whole values leave it: a guard that a caller held while it asked for another
/// would lock it up.
#[derive(Default)]
pub(super) struct HotMemories {
    /// By a hash that is fast on short ids, and seeded at random: who chooses ids cannot choose those that collide.
    by_id: DashMap<Arc<str>, Entry, RandomState>,
    count: AtomicUsize,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) memory: Arc<Memory>,
    pub(super) row: Option<RowId>,
    pub(super) doc: DocId,
}

impl HotMemories {
    pub(super) fn get(&self, id: &str) -> Option<Entry> {
        self.by_id.get(id).map(|entry| entry.clone())
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Says whether there was none with its id.
    pub(super) fn insert(&self, entry: Entry) -> bool {
        let is_new = self.by_id.insert(Arc::clone(&entry.memory.id), entry).is_none();
        if is_new {
            self.count.fetch_add(1, SeqCst);
        }
        is_new
    }

    /// Says whether there was one.
    pub(super) fn remove(&self, id: &str) -> bool {
        let was_there = self.by_id.remove(id).is_some();
        if was_there {
            self.count.fetch_sub(1, SeqCst);
        }
        was_there
    }
}
