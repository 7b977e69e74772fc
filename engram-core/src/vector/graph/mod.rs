//! A graph of the vectors: HNSW (Malkov and Yashunin, arXiv:1603.09320) over the rows of an arena.
//!
//! The graph has links alone; a node is a row, and the vectors stay where they are. One thread puts rows in, and any
//! number walk over it meanwhile. A row that was filled anew since it was put in, or that is free, is passed through like
//! any other; whoever searches looks at what has changed beside the graph.

mod build;
mod keep;
mod links;
mod search;
mod slots;
#[cfg(test)]
mod tests;
mod tuning;
mod walk;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use self::slots::{Slots, SlotsView, numbers};
use super::partition::{DEPTHS, Tuned};

pub(super) use self::build::Builder;
pub(super) use self::keep::GraphKeeper;
pub(super) use self::links::Links;
pub(super) use self::slots::NONE;

/// Links of a node on each level above the lowest; and those that it gets at first.
const LINKS: usize = 16;

/// Links of a node on the lowest level.
const LINKS_LOWEST: usize = 2 * LINKS;

/// How many of the nearest are looked for, to choose the links of a node among them.
const EF_BUILD: usize = 100;

/// A level above these would have fewer than one node of 2^32.
const LEVEL_MAX: u32 = 8;

pub(super) struct Graph {
    /// Of each row, its links on the lowest level.
    lowest: Slots,
    /// Of each row, where its links above the lowest level are in `upper`, times 16, plus how many levels there are.
    places: Slots,
    upper: Slots,
    /// The row that a walk begins at, one on the highest level.
    entry: AtomicU32,
    /// Rows with this stamp or a later one are looked at beside the graph.
    epoch: AtomicU32,
    /// How many rows were put in.
    nodes: AtomicUsize,
    /// How many of the nearest are kept on a walk to find the ten best, the forty best and so on.
    tuned: RwLock<Tuned>,
}

/// The graph as far as there were nodes at one moment.
struct View {
    lowest: SlotsView,
    places: SlotsView,
    upper: SlotsView,
    entry: Option<u32>,
}

impl Graph {
    fn new() -> Self {
        Self {
            lowest: Slots::new(LINKS_LOWEST),
            places: Slots::new(1),
            upper: Slots::new(LINKS),
            entry: AtomicU32::new(NONE),
            epoch: AtomicU32::new(0),
            nodes: AtomicUsize::new(0),
            tuned: RwLock::default(),
        }
    }

    fn view(&self) -> View {
        // First the entry: what it has links to is in the slots that are taken then.
        let entry = self.entry.load(Ordering::Acquire);
        View {
            entry: (entry != NONE).then_some(entry),
            lowest: self.lowest.view(),
            places: self.places.view(),
            upper: self.upper.view(),
        }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// How many rows were put in. Some of them may be free by now.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }

    pub(super) fn tuned(&self) -> Tuned {
        *self.tuned.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_tuned(&self, tuned: Tuned) {
        *self.tuned.write().unwrap_or_else(PoisonError::into_inner) = tuned;
    }

    /// How many of the nearest must be kept on a walk for the `depth` best, and down to which depth that is enough.
    pub(super) fn ef(&self, depth: usize) -> Option<(usize, usize)> {
        let (deeper, ef) = DEPTHS.iter().zip(self.tuned()).find(|(deeper, _)| **deeper >= depth)?;
        ef.map(|ef| (ef, *deeper))
    }
}

impl View {
    /// The highest level that a row has links on.
    fn level(&self, row: u32) -> u32 {
        numbers(self.places.get(row as usize)).next().map_or(0, |place| place % 16)
    }

    /// The slots of the links of a row; none above its level.
    fn links(&self, row: u32, level: u32) -> &[AtomicU32] {
        if level == 0 {
            return self.lowest.get(row as usize);
        }
        match numbers(self.places.get(row as usize)).next() {
            Some(place) if level <= place % 16 => self.upper.get((place / 16 + level - 1) as usize),
            Some(_) | None => &[],
        }
    }
}
