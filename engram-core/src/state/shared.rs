//! What all spaces of a store count together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize},
    },
};

use chrono::{DateTime, Utc};
use engram_storage::Lsn;

use crate::Memory;

#[derive(Default)]
pub(crate) struct Shared {
    pub(super) count: AtomicUsize,
    /// About how much memory the memories take.
    pub(super) bytes: AtomicU64,
    /// Changes in flight that may become new memories.
    pub(crate) new_memories: Arc<AtomicUsize>,
    waiting: Mutex<Waiting>,
}

/// Memories that something is still to be done about.
#[derive(Default)]
struct Waiting {
    /// Those without an embedding, with their space, in the order of the log.
    unembedded: BTreeMap<Lsn, (Arc<str>, Arc<Memory>)>,
    /// Those that end by themselves, by when they do, with their space.
    expiring: BTreeSet<(DateTime<Utc>, Arc<str>, Arc<str>)>,
}

impl Shared {
    pub(super) fn note(&self, space: &Arc<str>, memory: &Arc<Memory>) {
        if memory.has_embedding && memory.expires_at.is_none() {
            return;
        }
        let mut waiting = self.waiting();
        if !memory.has_embedding {
            waiting.unembedded.insert(memory.lsn, (Arc::clone(space), Arc::clone(memory)));
        }
        if let Some(at) = memory.expires_at {
            waiting.expiring.insert((at, Arc::clone(space), Arc::clone(&memory.id)));
        }
    }

    pub(super) fn forget(&self, space: &Arc<str>, memory: &Memory) {
        if memory.has_embedding && memory.expires_at.is_none() {
            return;
        }
        let mut waiting = self.waiting();
        if !memory.has_embedding {
            waiting.unembedded.remove(&memory.lsn);
        }
        if let Some(at) = memory.expires_at {
            waiting.expiring.remove(&(at, Arc::clone(space), Arc::clone(&memory.id)));
        }
    }

    pub(super) fn forget_space(&self, space: &Arc<str>) {
        let mut waiting = self.waiting();
        waiting.unembedded.retain(|_, (of, _)| of != space);
        waiting.expiring.retain(|(_, of, _)| of != space);
    }

    pub(super) fn unembedded(&self, after: Lsn, limit: usize) -> Vec<(Arc<str>, Arc<Memory>)> {
        let waiting = self.waiting();
        waiting.unembedded.range(after.next()..).take(limit).map(|(_, found)| found.clone()).collect()
    }

    pub(super) fn unembedded_count(&self) -> usize {
        self.waiting().unembedded.len()
    }

    /// The space and the id of what has ended by now.
    pub(super) fn expired(&self, now: DateTime<Utc>, limit: usize) -> Vec<(Arc<str>, Arc<str>)> {
        let waiting = self.waiting();
        let expired = waiting.expiring.iter().take_while(|(at, ..)| *at <= now);
        expired.take(limit).map(|(_, space, id)| (Arc::clone(space), Arc::clone(id))).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
