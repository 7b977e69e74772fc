//! What is live at one place of the log, collected while the state goes on.
//!
//! The memories are taken in pages, in the order of time. What is replaced or forgotten before its page came is set aside
//! by the change itself. So what was collected is exact at that place, and no change waits for more than one page.

use std::sync::Arc;

use engram_storage::{Lsn, WalEntry};

use super::{SPACE, State};
use crate::{
    Cursor, Memory, StoreError,
    payload::{self, Record, StoreRecord},
    vector::StoredVector,
};

/// Memories that are taken while changes wait: some tens of microseconds.
const PAGE_MEMORIES: usize = 64;

/// A memory as it was.
pub(crate) struct Captured {
    pub(crate) memory: Arc<Memory>,
    pub(crate) vector: Option<StoredVector>,
}

/// A collection that is under way. Whoever changes the state holds it, too: see `State::applying`.
pub(super) struct Capture {
    /// Memories of a later record are not in it.
    lsn: Lsn,
    /// Where the last page ended.
    after: Option<Cursor>,
    /// Replaced or forgotten before their page.
    set_aside: Vec<Captured>,
}

impl Capture {
    fn new(lsn: Lsn) -> Self {
        Self { lsn, after: None, set_aside: Vec::new() }
    }

    /// Where the next page begins.
    fn after(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// Whether a memory belongs to it.
    fn takes(&self, memory: &Memory) -> bool {
        memory.lsn() <= self.lsn
    }

    /// Whether a memory that is about to go belongs to it and has not been taken.
    fn misses(&self, memory: &Memory) -> bool {
        self.takes(memory) && self.after.as_ref().is_none_or(|after| *after < Cursor::of(memory))
    }

    fn set_aside(&mut self, captured: Captured) {
        self.set_aside.push(captured);
    }

    /// Notes that a page was taken up to here; what was set aside meanwhile.
    fn turn(&mut self, after: Option<Cursor>) -> Vec<Captured> {
        self.after = after;
        std::mem::take(&mut self.set_aside)
    }
}

impl State {
    /// From now on what is live at `lsn`, the last record that was applied, is collected page by page.
    pub(crate) fn begin_capture(&self, lsn: Lsn) {
        *self.applying() = Some(Capture::new(lsn));
    }

    pub(crate) fn end_capture(&self) {
        *self.applying() = None;
    }

    /// The next page of what is collected, which may be empty; nothing when all of it has come.
    pub(crate) fn capture_page(&self) -> Option<Vec<Captured>> {
        let mut applying = self.applying();
        let capture = applying.as_mut()?;
        let memories = self.timeline.next(capture.after(), PAGE_MEMORIES);
        let after = memories.last().map(|memory| Cursor::of(memory));
        let taken = memories.iter().filter(|memory| capture.takes(memory));
        let mut page: Vec<Captured> = taken.map(|memory| self.captured(memory)).collect();
        let is_last = after.is_none();
        page.extend(capture.turn(after));
        if is_last {
            *applying = None;
        }
        Some(page).filter(|page| !is_last || !page.is_empty())
    }

    /// A memory with its vector; no change is under way.
    fn captured(&self, memory: &Arc<Memory>) -> Captured {
        let row = self.memories.get(memory.id()).and_then(|entry| entry.row);
        let vector = row.and_then(|row| self.vectors.read(row)).map(|(_, vector)| vector);
        Captured { memory: Arc::clone(memory), vector }
    }

    /// Keeps a memory that is about to go, if it is collected and its turn has not come.
    pub(super) fn keep(&self, capture: &mut Option<Capture>, memory: &Arc<Memory>) {
        if let Some(capture) = capture.as_mut().filter(|capture| capture.misses(memory)) {
            capture.set_aside(self.captured(memory));
        }
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
