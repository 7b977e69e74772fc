//! Numbers that one thread writes while any number of others read them, without a lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::vector::chunk::CHUNK_ROWS;

/// What is in a slot that nothing was put into.
pub(in crate::vector) const NONE: u32 = u32::MAX;

/// Groups of `width` slots, one group an index. They are added at the end, in blocks, and never moved.
pub(super) struct Slots {
    width: usize,
    /// Exchanged for a list that is longer, never for another.
    blocks: RwLock<Blocks>,
}

type Blocks = Arc<Vec<Arc<[AtomicU32]>>>;

/// The groups there were at one moment. What they hold may change.
pub(super) struct SlotsView {
    width: usize,
    blocks: Blocks,
}

impl Slots {
    pub(super) fn new(width: usize) -> Self {
        Self { width, blocks: RwLock::default() }
    }

    pub(super) fn view(&self) -> SlotsView {
        let blocks = Arc::clone(&self.blocks.read().unwrap_or_else(PoisonError::into_inner));
        SlotsView { width: self.width, blocks }
    }

    /// Adds groups until there is one with this index.
    pub(super) fn reserve(&self, index: usize) {
        let block = index / CHUNK_ROWS;
        let before = self.view().blocks;
        if block < before.len() {
            return;
        }
        let mut longer = Vec::clone(&before);
        while longer.len() <= block {
            longer.push((0..CHUNK_ROWS * self.width).map(|_| AtomicU32::new(NONE)).collect());
        }
        *self.blocks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(longer);
    }
}

impl SlotsView {
    /// The group with this index; none if it came later.
    pub(super) fn get(&self, index: usize) -> &[AtomicU32] {
        let block = self.blocks.get(index / CHUNK_ROWS);
        block.map_or(&[], |block| &block[index % CHUNK_ROWS * self.width..][..self.width])
    }
}

/// What is in the slots of a group, without those that are empty. A reader may see some of it from before a change and
/// some from after.
pub(super) fn numbers(group: &[AtomicU32]) -> impl Iterator<Item = u32> {
    // What a link leads to was there before the link: rows are filled before they are put into a graph.
    group.iter().map(|slot| slot.load(Ordering::Acquire)).filter(|number| *number != NONE)
}

/// Puts these numbers into a group, in place of what it has; what has no room is left out.
pub(super) fn put(group: &[AtomicU32], numbers: &[u32]) {
    for (index, slot) in group.iter().enumerate() {
        slot.store(numbers.get(index).copied().unwrap_or(NONE), Ordering::Release);
    }
}
