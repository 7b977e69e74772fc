//! What is live at one place of the log, collected while the state goes on.
//!
//! The memories are taken in pages, in the order of time. What is replaced or forgotten before its page came is set aside
//! by the change itself. So what was collected is exact at that place, and no change waits for more than one page.

use std::sync::Arc;

use engram_storage::{Lsn, WalEntry};

use crate::{
    Cursor, Memory, StoreError,
    payload::{self, Record, StoreRecord},
    state::SPACE,
    vector::StoredVector,
};

/// Memories that are taken while changes wait: some tens of microseconds.
pub(crate) const PAGE_MEMORIES: usize = 64;

/// A memory as it was.
pub(crate) struct Captured {
    pub(crate) memory: Arc<Memory>,
    pub(crate) vector: Option<StoredVector>,
}

/// A collection that is under way. Whoever changes the state holds it, too: see `State::applying`.
pub(crate) struct Capture {
    /// Memories of a later record are not in it.
    lsn: Lsn,
    /// Where the last page ended.
    after: Option<Cursor>,
    /// Replaced or forgotten before their page.
    set_aside: Vec<Captured>,
}

impl Capture {
    pub(crate) fn new(lsn: Lsn) -> Self {
        Self { lsn, after: None, set_aside: Vec::new() }
    }

    /// Where the next page begins.
    pub(crate) fn after(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// Whether a memory belongs to it.
    pub(crate) fn takes(&self, memory: &Memory) -> bool {
        memory.lsn() <= self.lsn
    }

    /// Whether a memory that is about to go belongs to it and has not been taken.
    pub(crate) fn misses(&self, memory: &Memory) -> bool {
        self.takes(memory) && self.after.as_ref().is_none_or(|after| *after < Cursor::of(memory))
    }

    pub(crate) fn set_aside(&mut self, captured: Captured) {
        self.set_aside.push(captured);
    }

    /// Notes that a page was taken up to here; what was set aside meanwhile.
    pub(crate) fn turn(&mut self, after: Option<Cursor>) -> Vec<Captured> {
        self.after = after;
        std::mem::take(&mut self.set_aside)
    }
}

impl Captured {
    /// As a record of the log would have it.
    pub(crate) fn entry(self) -> Result<WalEntry, StoreError> {
        let Self { memory, vector } = self;
        let record = StoreRecord {
            space: SPACE.to_owned(),
            id: memory.id().to_owned(),
            when_us: memory.when().timestamp_micros(),
            content: memory.content().to_owned(),
            confidence: memory.confidence().get(),
            metadata: memory.metadata().clone(),
            vector,
        };
        payload::encode(Record::Store(record)).map_err(|reason| StoreError::Setting { reason })
    }
}
