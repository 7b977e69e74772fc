//! All memories in the order of time.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};

use crate::{Filter, Memory, StoreError, limits};

/// What to list: from the oldest on, in a stable order.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// The most memories: 1 to [`LIST_LIMIT_MAX`](limits::LIST_LIMIT_MAX), 100 by default.
    pub limit: usize,
    /// Where the page before this one ended.
    pub after: Option<Cursor>,
    /// Those that happened then or later.
    pub from: Option<DateTime<Utc>>,
    /// Those that happened before.
    pub before: Option<DateTime<Utc>>,
    /// Those that it accepts. A page may be short, or empty, and not the last: see [`Page::next`].
    pub filter: Filter,
}

/// Memories that are looked at for one page: no change waits for longer.
const LOOKED_AT_MAX: usize = 10_000;

/// Memories that are copied at once when all are shown.
const SHOWN_TOGETHER: usize = 1024;

impl Default for ListQuery {
    fn default() -> Self {
        Self { limit: 100, after: None, from: None, before: None, filter: Filter::default() }
    }
}

/// A place in the order of time. Stays valid whatever is stored or forgotten.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the last memory of a page happened, in microseconds since 1970.
    pub when_us: i64,
    /// Its id.
    pub id: Arc<str>,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// By the time they happened, then by id.
    pub memories: Vec<Arc<Memory>>,
    /// Where to go on; nothing when this was the last page.
    pub next: Option<Cursor>,
}

/// The memories by time, then by id.
#[derive(Default)]
pub(crate) struct Timeline {
    /// Held for one change, or for the reading of one page.
    memories: RwLock<BTreeMap<Cursor, Arc<Memory>>>,
}

impl Timeline {
    pub(crate) fn insert(&self, memory: Arc<Memory>) {
        let mut memories = self.memories.write().unwrap_or_else(PoisonError::into_inner);
        memories.insert(Cursor::of(&memory), memory);
    }

    pub(crate) fn remove(&self, memory: &Memory) {
        self.memories.write().unwrap_or_else(PoisonError::into_inner).remove(&Cursor::of(memory));
    }

    /// The next memories after a place, or from the beginning.
    pub(crate) fn next(&self, after: Option<&Cursor>, limit: usize) -> Vec<Arc<Memory>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let memories = self.memories.read().unwrap_or_else(PoisonError::into_inner);
        let after = memories.range::<Cursor, _>((start, Bound::Unbounded));
        after.take(limit).map(|(_, memory)| Arc::clone(memory)).collect()
    }

    /// Shows each memory, page for page: what changes meanwhile may be missing, or there twice.
    pub(crate) fn each(&self, mut show: impl FnMut(&Arc<Memory>)) {
        let mut after = None;
        loop {
            let page = self.next(after.as_ref(), SHOWN_TOGETHER);
            let Some(last) = page.last() else { return };
            after = Some(Cursor::of(last));
            page.iter().for_each(&mut show);
        }
    }

    /// The query was checked.
    pub(crate) fn page(&self, query: &ListQuery, now: DateTime<Utc>) -> Page {
        let first_at = |when: DateTime<Utc>| Cursor { when_us: when.timestamp_micros(), id: Arc::from("") };
        let from = query.from.map(first_at);
        let start = match (&query.after, &from) {
            (Some(after), Some(from)) if after < from => Bound::Included(from),
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(from)) => Bound::Included(from),
            (None, None) => Bound::Unbounded,
        };
        let before = query.before.map(first_at);
        let memories = self.memories.read().unwrap_or_else(PoisonError::into_inner);
        let all = memories.range::<Cursor, _>((start, Bound::Unbounded));
        let mut page = Page { memories: Vec::new(), next: None };
        let mut last: Option<&Cursor> = None;
        for (looked_at, (cursor, memory)) in all.enumerate() {
            if before.as_ref().is_some_and(|before| cursor >= before) {
                break;
            }
            if looked_at == LOOKED_AT_MAX || page.memories.len() == query.limit {
                page.next = last.cloned();
                break;
            }
            if !memory.has_expired(now) && query.filter.accepts(memory) {
                page.memories.push(Arc::clone(memory));
            }
            last = Some(cursor);
        }
        page
    }
}

impl ListQuery {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.limit == 0 || self.limit > limits::LIST_LIMIT_MAX {
            let max = limits::LIST_LIMIT_MAX;
            return Err(StoreError::Query {
                reason: format!("expected a limit of 1 to {max}, got {}", self.limit),
            });
        }
        self.filter.check()
    }
}

impl Cursor {
    pub(crate) fn of(memory: &Memory) -> Self {
        Self { when_us: memory.when.timestamp_micros(), id: Arc::clone(&memory.id) }
    }
}
