//! What is live at one place of the log, collected while the state goes on.
//!
//! First all spaces; then, space by space, what requests were answered and the memories in pages, in the order of time.
//! What is replaced or forgotten before its page came is set aside by the change itself. So what was collected is exact at
//! that place, and no change waits for more than one page.

use std::sync::Arc;

use engram_storage::{Lsn, WalEntry};

use super::{Answered, SpaceState, State};
use crate::{
    Cursor, Memory, Outcome, StoreError,
    payload::{self, LoggedVector, ReceiptRecord, Record, SpaceRecord, StoreRecord, Terms},
    vector::StoredVector,
};

/// Memories that are taken while changes wait: some tens of microseconds.
const PAGE_MEMORIES: usize = 64;

/// Something as it was.
pub(crate) enum Captured {
    Memory { space: Arc<str>, memory: Arc<Memory>, vector: Option<StoredVector> },
    Space { lsn: Lsn, record: SpaceRecord },
    Receipt { space: Arc<str>, record: Lsn, answered: Arc<Answered> },
}

/// A collection that is under way. Whoever changes the state holds it, too: see `State::applying`.
pub(super) struct Capture {
    /// Nothing of a later record is in it.
    lsn: Lsn,
    /// Those that there were then, in the order of their names. One that is dropped meanwhile does not change any more.
    spaces: Vec<Arc<SpaceState>>,
    place: Place,
    /// The spaces themselves, then what is replaced or forgotten before its page.
    set_aside: Vec<Captured>,
}

/// Where the next page begins.
struct Place {
    /// Which space.
    space: usize,
    /// After which receipt; none when all of the space have come.
    receipts: Option<Lsn>,
    /// After which memory.
    memories: Option<Cursor>,
}

impl Place {
    const fn beginning_of(space: usize) -> Self {
        Self { space, receipts: Some(Lsn::ZERO), memories: None }
    }
}

impl Capture {
    /// Whether a memory that is about to go belongs to it and has not been taken.
    pub(super) fn misses(&self, space: &SpaceState, memory: &Memory) -> bool {
        if memory.lsn() > self.lsn {
            return false;
        }
        match self.spaces.get(self.place.space) {
            None => false,
            Some(now) if now.name() == space.name() => {
                self.place.memories.as_ref().is_none_or(|after| *after < Cursor::of(memory))
            }
            Some(now) => now.name() < space.name(),
        }
    }

    pub(super) fn set_aside(&mut self, captured: Captured) {
        self.set_aside.push(captured);
    }

    /// The next page of the space whose turn it is; nothing when all have come.
    fn page(&mut self) -> Option<Vec<Captured>> {
        let space = self.spaces.get(self.place.space)?;
        let mut page = std::mem::take(&mut self.set_aside);
        if let Some(after) = self.place.receipts {
            let receipts = space.requests().next(after, PAGE_MEMORIES);
            self.place.receipts = receipts.last().map(|(record, _)| *record);
            let taken = receipts.into_iter().filter(|(record, _)| *record <= self.lsn);
            let name = space.name();
            page.extend(taken.map(|(record, answered)| Captured::Receipt {
                space: Arc::clone(name),
                record,
                answered,
            }));
            return Some(page);
        }
        let memories = space.timeline.next(self.place.memories.as_ref(), PAGE_MEMORIES);
        let taken = memories.iter().filter(|memory| memory.lsn() <= self.lsn);
        page.extend(taken.map(|memory| space.captured(memory)));
        match memories.last() {
            Some(last) => self.place.memories = Some(Cursor::of(last)),
            None => self.place = Place::beginning_of(self.place.space + 1),
        }
        Some(page)
    }

    /// The record of a space that has one.
    fn properties(space: &SpaceState) -> Option<Captured> {
        let record = SpaceRecord { space: space.name().to_string(), capacity: space.capacity() };
        let lsn = space.lsn();
        (lsn > Lsn::ZERO).then_some(Captured::Space { lsn, record })
    }
}

impl State {
    /// From now on what is live at `lsn`, the last record that was applied, is collected page by page.
    pub(crate) fn begin_capture(&self, lsn: Lsn) {
        let mut applying = self.applying();
        let (spaces, place) = (self.spaces(), Place::beginning_of(0));
        // Before all else: no start takes a memory whose space has not come, and any change may set one aside at once.
        let set_aside = spaces.iter().filter_map(|space| Capture::properties(space)).collect();
        *applying = Some(Capture { lsn, spaces, place, set_aside });
    }

    pub(crate) fn end_capture(&self) {
        *self.applying() = None;
    }

    /// The next page of what is collected, which may be empty; nothing when all of it has come.
    pub(crate) fn capture_page(&self) -> Option<Vec<Captured>> {
        let mut applying = self.applying();
        let page = applying.as_mut()?.page();
        if page.is_none() {
            *applying = None;
        }
        page
    }
}

impl Captured {
    /// As a record of the log would have it, with the number that it has there.
    /// All vectors are of one generation: no model is changed while a snapshot is taken.
    pub(crate) fn entry(self, generation: u32) -> Result<(Lsn, WalEntry), StoreError> {
        let (lsn, record) = match self {
            Self::Memory { space, memory, vector } => {
                let record = StoreRecord {
                    space: space.to_string(),
                    id: memory.id().to_owned(),
                    when_us: memory.when().timestamp_micros(),
                    content: memory.content().to_owned(),
                    confidence: memory.confidence().get(),
                    metadata: memory.metadata().clone(),
                    vector: vector.map(|vector| LoggedVector { generation, vector }),
                    expires_us: memory.expires_at().map(|at| at.timestamp_micros()),
                    terms: Terms::default(),
                };
                (memory.lsn(), Record::Store(record))
            }
            Self::Space { lsn, record } => (lsn, Record::Space(record)),
            Self::Receipt { space, record, answered } => {
                let Answered { request, id, lsn, outcome } = &*answered;
                let receipt = ReceiptRecord {
                    space: space.to_string(),
                    request: request.clone(),
                    id: id.to_string(),
                    lsn: *lsn,
                    outcome: Outcome::to_u8(*outcome),
                };
                (record, Record::Receipt(receipt))
            }
        };
        let entry = payload::encode(record).map_err(|reason| StoreError::Setting { reason })?;
        Ok((lsn, entry))
    }
}
