//! The changes between their submission and their receipt.
//!
//! What is in memory does not show them yet. So whoever decides by what is in memory (is this memory the same as
//! before? is there one to forget? is there room for another?) asks here, too: else a change that was submitted after
//! another could be answered as if it came first.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use dashmap::{DashMap, DashSet};

use crate::StoreError;

/// All changes of a space that are in flight.
pub(crate) struct InFlight {
    /// How many there are of each id.
    ids: DashMap<Arc<str>, usize>,
    /// The keys of requests.
    requests: DashSet<String>,
    /// Those that may become new memories: they count against the capacity until they are stored or refused.
    new_memories: AtomicUsize,
    /// The same, of all spaces.
    new_memories_of_all: Arc<AtomicUsize>,
}

impl InFlight {
    pub(crate) fn new(new_memories_of_all: Arc<AtomicUsize>) -> Self {
        let (ids, requests, new_memories) = (DashMap::new(), DashSet::new(), AtomicUsize::new(0));
        Self { ids, requests, new_memories, new_memories_of_all }
    }

    /// Whether a change of this memory is in flight.
    pub(super) fn touches(&self, id: &str) -> bool {
        self.ids.contains_key(id)
    }

    /// How many changes may become new memories.
    pub(super) fn new_memories(&self) -> usize {
        self.new_memories.load(SeqCst)
    }

    /// A change takes off. It is in flight until the flight is dropped.
    pub(super) fn take_off(self: &Arc<Self>, id: &str, is_new: bool) -> Flight {
        let id: Arc<str> = Arc::from(id);
        *self.ids.entry(Arc::clone(&id)).or_insert(0) += 1;
        if is_new {
            self.new_memories.fetch_add(1, SeqCst);
            self.new_memories_of_all.fetch_add(1, SeqCst);
        }
        Flight { all: Arc::clone(self), id, is_new }
    }
}

impl InFlight {
    /// A request takes off, unless one with its key is in flight.
    pub(super) fn take_off_request(self: &Arc<Self>, key: &str) -> Result<RequestFlight, StoreError> {
        if !self.requests.insert(key.to_owned()) {
            return Err(StoreError::RequestInFlight { key: key.to_owned() });
        }
        Ok(RequestFlight { all: Arc::clone(self), key: key.to_owned() })
    }
}

/// A request in flight.
pub(super) struct RequestFlight {
    all: Arc<InFlight>,
    key: String,
}

impl Drop for RequestFlight {
    fn drop(&mut self) {
        self.all.requests.remove(&self.key);
    }
}

/// A change in flight.
pub(super) struct Flight {
    all: Arc<InFlight>,
    pub(super) id: Arc<str>,
    is_new: bool,
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.is_new {
            self.all.new_memories.fetch_sub(1, SeqCst);
            self.all.new_memories_of_all.fetch_sub(1, SeqCst);
        }
        if let Some(mut flights) = self.all.ids.get_mut(&self.id) {
            *flights -= 1;
        }
        self.all.ids.remove_if(&self.id, |_, flights| *flights == 0);
    }
}
