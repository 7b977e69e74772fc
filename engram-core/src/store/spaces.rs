//! The spaces of a store: made, listed, dropped.

use std::sync::Arc;

use engram_storage::{Lsn, WalEntry};

use super::{Automatic, LogFailure, MemoryStore, Space, SpaceStatus, apply_volatile, encode, receipt};
use crate::{
    Memory, Receipt, ReceiptHandle, StoreError,
    limits::{SPACE_NAME_MAX, SPACES_MAX},
    payload::{Record, SpaceRecord},
    state::DEFAULT_SPACE,
};

/// A memory without an embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Unembedded {
    /// The space that it is in.
    pub space: Arc<str>,
    /// The memory.
    pub memory: Arc<Memory>,
}

impl MemoryStore {
    /// The name of the space that is always there, and that the store's own methods are about.
    pub const DEFAULT_SPACE: &str = DEFAULT_SPACE;

    /// The space that is always there.
    pub fn default_space(&self) -> Space<'_> {
        Space { store: self, state: Arc::clone(self.state.default_space()) }
    }

    /// The space with this name.
    ///
    /// # Errors
    /// [`StoreError::SpaceNotFound`] when there is none.
    pub fn space(&self, name: &str) -> Result<Space<'_>, StoreError> {
        self.find_space(name).ok_or_else(|| StoreError::SpaceNotFound { space: name.to_owned() })
    }

    pub(super) fn find_space(&self, name: &str) -> Option<Space<'_>> {
        self.state.space(name).map(|state| Space { store: self, state })
    }

    /// All spaces, in the order of their names.
    pub fn spaces(&self) -> Vec<SpaceStatus> {
        let spaces = self.state.spaces().into_iter();
        spaces.map(|state| Space { store: self, state }.status()).collect()
    }

    /// Makes a space, or gives one that is there another capacity: the most memories that it takes, beside what all take
    /// together. The receipt has its name as id. Returns when the log's mode promises that it is kept.
    ///
    /// # Errors
    /// [`StoreError::Space`] for a name that no space can have, or when there are too many; [`StoreError::Storage`] as
    /// [`store`](Self::store).
    pub fn make_space(&self, name: &str, capacity: Option<u64>) -> Result<Receipt, StoreError> {
        check_name(name)?;
        if self.state.space(name).is_none() && self.state.spaces().len() >= SPACES_MAX {
            return Err(StoreError::Space {
                reason: format!("expected up to {SPACES_MAX} spaces, there are so many"),
            });
        }
        if capacity.is_some_and(|capacity| capacity == 0) {
            return Err(StoreError::Space { reason: "expected a capacity of at least 1, got 0".to_owned() });
        }
        let space = name.to_owned();
        self.commit_entry(name, encode(Record::Space(SpaceRecord { space, capacity }))?)
    }

    /// Drops a space and all memories in it. They are gone from recall when this returns, and from the disk after the next
    /// snapshot.
    ///
    /// # Errors
    /// [`StoreError::SpaceNotFound`] when there is none; [`StoreError::Space`] for the one that is always there;
    /// [`StoreError::Storage`] as [`store`](Self::store).
    pub fn drop_space(&self, name: &str) -> Result<Receipt, StoreError> {
        if name == DEFAULT_SPACE {
            let reason =
                format!("the space {DEFAULT_SPACE:?} is always there: forget the memories in it instead");
            return Err(StoreError::Space { reason });
        }
        let not_found = || StoreError::SpaceNotFound { space: name.to_owned() };
        self.state.space(name).ok_or_else(not_found)?;
        let dropped = self.commit_entry(name, encode(Record::DropSpace { space: name.to_owned() })?);
        dropped.map_err(|error| match error {
            StoreError::NotFound { .. } => not_found(),
            other => other,
        })
    }

    /// The memories without an embedding, of all spaces, after a version, in the order of their versions.
    pub fn unembedded(&self, after: Lsn, limit: usize) -> Vec<Unembedded> {
        let found = self.state.unembedded(after, limit).into_iter();
        found.map(|(space, memory)| Unembedded { space, memory }).collect()
    }

    /// Logs a change of the store itself, and applies it.
    pub(super) fn commit_entry(&self, id: &str, entry: WalEntry) -> Result<Receipt, StoreError> {
        self.submit_entry(id, entry).wait()
    }

    /// The same, with a handle to wait on or to await.
    pub(super) fn submit_entry(&self, id: &str, entry: WalEntry) -> ReceiptHandle {
        self.submit_change(Arc::from(id), entry, None, ())
    }

    /// Logs a change, and applies it when it is committed: on the log's thread, in the order of the log, before the
    /// receipt is given. `unchanged` is what is answered for a record that changes no memory; what is in flight is, until
    /// the change is applied or refused.
    pub(super) fn submit_change(
        &self,
        id: Arc<str>,
        entry: WalEntry,
        unchanged: Option<Receipt>,
        in_flight: impl Send + 'static,
    ) -> ReceiptHandle {
        let Some(log) = &self.log else {
            return ReceiptHandle::ready(apply_volatile(&self.state, &id, unchanged, &entry));
        };
        let (completer, handle) = ReceiptHandle::channel();
        let (state, log_failure) = (Arc::clone(&self.state), self.log_failure);
        let due = self.automatic.as_ref().map(Automatic::due);
        log.submit_with(entry, move |entry, outcome| {
            let answer = match outcome {
                Ok(commit) => state.apply(commit.lsn, entry.entry_type, &entry.payload).and_then(|outcome| {
                    receipt(&id, unchanged, commit.lsn, outcome, commit.durability.into())
                }),
                Err(error) if log_failure == LogFailure::Volatile && error.ended_writing() => {
                    apply_volatile(&state, &id, unchanged, entry)
                }
                Err(error) => Err(error.into()),
            };
            drop(in_flight);
            completer.complete(answer);
            if let Some(due) = due {
                due.look();
            }
        });
        handle
    }
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let begins = name.chars().next().is_some_and(is_plain);
    if begins && name.len() <= SPACE_NAME_MAX && name.chars().all(|c| is_plain(c) || "-_.".contains(c)) {
        return Ok(());
    }
    let reason = format!(
        "expected a space's name of 1 to {SPACE_NAME_MAX} small letters, digits, '-', '_' and '.', the first a letter or a \
         digit, got {name:?}"
    );
    Err(StoreError::Space { reason })
}
