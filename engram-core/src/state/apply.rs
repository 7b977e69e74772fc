//! What each record of the log does to the state.

use std::sync::{
    Arc, PoisonError,
    atomic::Ordering::{Relaxed, SeqCst},
};

use chrono::{DateTime, Utc};
use engram_storage::{Lsn, WalEntryType};

use super::{
    Answered, DEFAULT_SPACE, SpaceState, Staged, State,
    capture::Capture,
    feed::{FeedEvent, FeedItem},
    space,
};
use crate::{
    Confidence, Memory, Outcome, StoreError,
    payload::{Config, ForgetRecord, ReceiptRecord, Request, SpaceRecord, StoreRecord, Terms},
    prepared::Prepared,
    vector::StoredVector,
    words::Tokens,
};

impl State {
    /// Applies a record of the log. A record that only another build can read is an error, and changes nothing; so is one
    /// whose terms do not hold at its place.
    pub(crate) fn apply(
        &self,
        lsn: Lsn,
        entry_type: WalEntryType,
        payload: &[u8],
    ) -> Result<Outcome, StoreError> {
        let mut prepared = Prepared::of(lsn, entry_type, payload, &self.config_ref())?;
        self.apply_prepared(lsn, &mut prepared)
    }

    /// The same, of a record that was made ready before. What is left of it is of no use but for its memory.
    pub(crate) fn apply_prepared(&self, lsn: Lsn, prepared: &mut Prepared) -> Result<Outcome, StoreError> {
        self.apply_next(&mut self.applying(), lsn, prepared)
    }

    /// Makes a change of a damaged log that was not made in its turn, if `may_hold` says of the version that it expects and
    /// of the one that is there that this is for want of what is lost; its space, too. Says whether it was.
    pub(crate) fn apply_after_loss(
        &self,
        lsn: Lsn,
        prepared: &mut Prepared,
        may_hold: impl Fn(Option<Lsn>, Lsn) -> bool,
    ) -> bool {
        let Some((space, id)) = prepared.place() else { return false };
        let mut applying = self.applying();
        let there = self.space(space).and_then(|space| space.entry(id));
        let there = there.map_or(Lsn::ZERO, |entry| entry.memory.lsn);
        let terms = match prepared {
            Prepared::Store { terms, .. } => terms,
            Prepared::Forget(record) => &mut record.terms,
            _ => return self.apply_next(&mut applying, lsn, prepared).is_ok(),
        };
        if !may_hold(terms.expected.take(), there) {
            return false;
        }
        let Prepared::Store { space, memory, vector, .. } = prepared else {
            return self.apply_next(&mut applying, lsn, prepared).is_ok();
        };
        // The model may have changed since.
        if vector.take_if(|vector| vector.generation != self.config_ref().generation).is_some() {
            Arc::make_mut(memory).has_embedding = false;
        }
        if self.space(space).is_none() {
            self.apply_space(lsn, &SpaceRecord { space: space.clone(), capacity: None });
        }
        self.apply_next(&mut applying, lsn, prepared).is_ok()
    }

    /// Applies a record that no log has taken, under the next number.
    pub(crate) fn apply_volatile(
        &self,
        entry_type: WalEntryType,
        payload: &[u8],
    ) -> Result<(Lsn, Outcome), StoreError> {
        let mut applying = self.applying();
        let lsn = self.applied_lsn().next();
        let mut prepared = Prepared::of(lsn, entry_type, payload, &self.config_ref())?;
        self.volatile_from.fetch_min(lsn.get(), SeqCst);
        Ok((lsn, self.apply_next(&mut applying, lsn, &mut prepared)?))
    }

    /// A record is applied whole, or its terms do not hold and nothing is changed.
    fn apply_next(
        &self,
        capture: &mut Option<Capture>,
        lsn: Lsn,
        prepared: &mut Prepared,
    ) -> Result<Outcome, StoreError> {
        let outcome = match prepared {
            Prepared::Store { space, memory, vector, words, terms } => {
                let vector = vector.as_ref().map(|logged| &logged.vector);
                self.apply_store(capture, space, memory, (vector, words), terms)
            }
            Prepared::Forget(record) => self.apply_forget(capture, lsn, record),
            Prepared::Embed(record) => Ok(self.space(&record.space).map_or(Outcome::Unchanged, |space| {
                let Some(memory) = space.apply_embed(record.of, &record.id, &record.vector.vector) else {
                    return Outcome::Unchanged;
                };
                self.tell(lsn, &space, FeedEvent::Embedded(Arc::clone(&memory.id)));
                Outcome::Updated
            })),
            Prepared::Receipt(record) => {
                let ReceiptRecord { space, request, id, lsn: of, outcome } = record;
                if let Some(space) = self.space(space) {
                    let (request, id, outcome) =
                        (request.clone(), Arc::from(id.as_str()), Outcome::from_u8(*outcome));
                    let answered = Answered { request, id, lsn: *of, outcome };
                    space.requests().insert(lsn, answered);
                }
                Ok(Outcome::Unchanged)
            }
            Prepared::Space(record) => Ok(self.apply_space(lsn, record)),
            Prepared::DropSpace { space } => Ok(self.apply_drop(lsn, space)),
            Prepared::Config(config) => Ok(self.apply_config(config.clone())),
            Prepared::Former => Ok(Outcome::Unchanged),
        };
        self.applied.set(lsn);
        if let Some(hook) = self.on_change.get() {
            hook(lsn);
        }
        outcome
    }

    fn apply_store(
        &self,
        capture: &mut Option<Capture>,
        space: &str,
        memory: &mut Arc<Memory>,
        vector_and_words: (Option<&StoredVector>, &Tokens),
        terms: &mut Terms,
    ) -> Result<Outcome, StoreError> {
        let Some(space) = self.space(space) else {
            return Err(StoreError::SpaceNotFound { space: space.to_owned() });
        };
        let before = space.entry(memory.id());
        check_expected(memory.id(), terms.expected, before.as_ref().map(|entry| &*entry.memory))?;
        let Terms { request, .. } = std::mem::take(terms);
        if let Some(entry) = &before {
            keep(capture, &space, &entry.memory);
        }
        let outcome = space.apply_store(memory, vector_and_words, before.as_ref());
        note_answer(&space, memory.lsn, request, &memory.id, outcome);
        self.tell(memory.lsn, &space, FeedEvent::Stored(Arc::clone(&memory.id)));
        Ok(outcome)
    }

    fn apply_forget(
        &self,
        capture: &mut Option<Capture>,
        lsn: Lsn,
        record: &mut ForgetRecord,
    ) -> Result<Outcome, StoreError> {
        let ForgetRecord { space, id, terms } = record;
        let Some(space) = self.space(space) else {
            return Err(StoreError::SpaceNotFound { space: space.clone() });
        };
        let Some(entry) = space.entry(id) else { return Ok(Outcome::Unchanged) };
        let Terms { expected, request } = std::mem::take(terms);
        check_expected(id, expected, Some(&entry.memory))?;
        keep(capture, &space, &entry.memory);
        space.apply_forget(&entry);
        note_answer(&space, lsn, request, &entry.memory.id, Outcome::Deleted);
        self.tell(lsn, &space, FeedEvent::Forgotten(Arc::clone(&entry.memory.id)));
        Ok(Outcome::Deleted)
    }

    fn apply_space(&self, lsn: Lsn, record: &SpaceRecord) -> Outcome {
        let (space, outcome) = if let Some(space) = self.space(&record.space) {
            (space, Outcome::Updated)
        } else {
            let space = SpaceState::new(&record.space, &self.config_ref(), self.index, &self.shared);
            if self.is_recovering.load(Relaxed) {
                space.vectors().hold_index();
            }
            let space = Arc::new(space);
            let mut spaces = self.spaces.write().unwrap_or_else(PoisonError::into_inner);
            spaces.insert(Arc::clone(space.name()), Arc::clone(&space));
            (space, Outcome::Created)
        };
        space.configure(lsn, record.capacity);
        self.tell(lsn, &space, FeedEvent::SpaceConfigured);
        outcome
    }

    /// A snapshot that is collecting it goes on: what it has is as it was.
    fn apply_drop(&self, lsn: Lsn, name: &str) -> Outcome {
        if name == DEFAULT_SPACE {
            return Outcome::Unchanged;
        }
        let space = self.spaces.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(space) = space else { return Outcome::Unchanged };
        space.leave_shared();
        self.tell(lsn, &space, FeedEvent::SpaceDropped);
        Outcome::Deleted
    }

    /// Embeddings of another form, or of another model, take the place of all there are.
    fn apply_config(&self, config: Config) -> Outcome {
        let before = self.config();
        if before == config {
            // Said once more, which nobody was refused.
            return Outcome::Updated;
        }
        // A note of the model keeps what there is; a change begins a generation.
        if before.generation != config.generation || !before.has_form_of(&config) {
            self.set_form(&config);
            let staged = std::mem::take(&mut *self.staged());
            if !staged.is_empty() {
                self.apply_staged(&staged);
            }
        }
        self.set_config(config);
        Outcome::Updated
    }

    pub(super) fn set_form(&self, config: &Config) {
        for space in self.spaces() {
            let vectors = space::arena(config, self.index);
            if self.is_recovering.load(Relaxed) {
                vectors.hold_index();
            }
            space.apply_form(vectors);
        }
    }

    /// Puts in the vectors of the new form that were made ahead: one look at all memories, whatever spaces there are.
    fn apply_staged(&self, staged: &Staged) {
        for (space, memory) in self.shared.unembedded(Lsn::ZERO, usize::MAX) {
            if let (Some(vector), Some(space)) = (staged.get(&memory.lsn), self.space(&space)) {
                space.apply_embed(memory.lsn, memory.id(), vector);
            }
        }
    }

    fn tell(&self, lsn: Lsn, space: &SpaceState, event: FeedEvent) {
        self.feed.push(FeedItem { lsn, space: Arc::clone(space.name()), event });
    }
}

/// Keeps a memory that is about to go, if it is collected and its turn has not come.
fn keep(capture: &mut Option<Capture>, space: &SpaceState, memory: &Arc<Memory>) {
    if let Some(capture) = capture.as_mut().filter(|capture| capture.misses(space, memory)) {
        capture.set_aside(space.captured(memory));
    }
}

fn note_answer(space: &SpaceState, lsn: Lsn, request: Option<Request>, id: &Arc<str>, outcome: Outcome) {
    if let Some(request) = request {
        let answered = Answered { request, id: Arc::clone(id), lsn, outcome };
        space.requests().insert(lsn, answered);
    }
}

/// Whether a memory is of the version that a change is made for.
pub(crate) fn check_expected(
    id: &str,
    expected: Option<Lsn>,
    memory: Option<&Memory>,
) -> Result<(), StoreError> {
    let Some(expected) = expected else { return Ok(()) };
    let actual = memory.map_or(Lsn::ZERO, Memory::lsn);
    if actual == expected {
        return Ok(());
    }
    Err(StoreError::VersionMismatch { id: id.to_owned(), expected, actual })
}

/// Whether a memory of the log can be in a store as it is at its place; its time and its confidence. A vector of a
/// generation before is taken from it.
pub(crate) fn check(
    lsn: Lsn,
    record: &mut StoreRecord,
    config: &Config,
) -> Result<(DateTime<Utc>, Confidence), StoreError> {
    let unreadable = |reason: String| StoreError::Record { lsn, reason };
    if let Some(vector) = record.vector.take() {
        record.vector = vector.is_of(config).map_err(unreadable)?.then_some(vector);
    }
    let time = |us: i64| {
        DateTime::from_timestamp_micros(us).ok_or_else(|| unreadable(format!("a time of {us} µs since 1970")))
    };
    record.expires_us.map(time).transpose()?;
    Ok((time(record.when_us)?, Confidence::new(record.confidence).map_err(|e| unreadable(e.to_string()))?))
}
