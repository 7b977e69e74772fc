//! How rows come into the graph.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::slots::{NONE, numbers, put};
use super::walk::Near;
use super::{EF_BUILD, Graph, LEVEL_MAX, LINKS, LINKS_LOWEST, View};
use crate::vector::StoredVector;
use crate::vector::arena::Rows;
use crate::vector::background::Signal;
use crate::vector::chunk::{CHUNK_ROWS, Query};
use crate::vector::clusters::{Sample, lot};
use crate::vector::search::Search;

/// Rows that are put in between two questions whether to go on: some milliseconds.
const PIECE_ROWS: usize = 32;

/// The one who puts rows into a graph.
pub(in crate::vector) struct Builder {
    pub(super) graph: Arc<Graph>,
    /// The stamp that each row had when it was put in; [`NONE`] for those that are not.
    pub(super) stamps: Vec<u32>,
    /// Where the next links above the lowest level go.
    pub(super) upper_end: u32,
    /// How many rows were put in again, since they had changed.
    pub(super) replaced: usize,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { graph: Arc::new(Graph::new()), stamps: Vec::new(), upper_end: 0, replaced: 0 }
    }

    /// Puts in all rows that are not in the graph as they are; what is filled meanwhile is left for the next time.
    /// `between` runs after each thousand of them. `None` when told to stop.
    pub(super) fn fill<T: Clone>(
        &mut self,
        rows: &Rows<T>,
        signal: &Signal,
        mut between: impl FnMut(),
    ) -> Option<()> {
        let epoch = rows.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        let since = self.graph.epoch();
        // Taken after the epoch began: the rows of later chunks have its stamp.
        let chunks = rows.chunks();
        self.stamps.resize(chunks.len() * CHUNK_ROWS, NONE);
        for (chunk, first) in chunks.iter().zip((0_usize..).step_by(CHUNK_ROWS)) {
            if chunk.newest.load(Ordering::SeqCst) < since {
                continue;
            }
            // The chunk is unlocked again before the long work begins.
            let changed: Vec<(usize, u32, StoredVector)> = {
                let chunk = chunk.read();
                let changed = chunk
                    .rows_in_use()
                    .filter(|(row, view)| view.stamp < epoch && self.stamps[first + *row] != view.stamp);
                changed.map(|(row, view)| (row, view.stamp, chunk.vector(row, rows.dimension))).collect()
            };
            for (index, (row, stamp, vector)) in changed.iter().enumerate() {
                if index.is_multiple_of(PIECE_ROWS) && !signal.goes_on() {
                    return None;
                }
                let search = Search { rows, chunks: &chunks, query: &Query::new(vector), limit: 0 };
                self.insert(&search, u32::try_from(first + row).unwrap_or(NONE));
                self.stamps[first + row] = *stamp;
            }
            if !changed.is_empty() {
                between();
            }
        }
        self.graph.epoch.store(epoch, Ordering::SeqCst);
        Some(())
    }

    /// Puts in the row whose vector `search` is for; in place of what it was, if it is in already.
    fn insert<T: Clone>(&mut self, search: &Search<'_, T>, row: u32) {
        let view = self.reserve(row);
        let level = view.level(row);
        let Some(entry) = view.entry else {
            self.graph.entry.store(row, Ordering::Release);
            return;
        };
        let top = view.level(entry);
        let Some(mut start) = search.descend(&view, level.min(top)) else { return };
        for level in (0..=level.min(top)).rev() {
            let nearest = search.nearest_on(&view, level, start, EF_BUILD);
            start = nearest.iter().copied().max().unwrap_or(start);
            let others = nearest.into_iter().map(|near| near.row).filter(|other| *other != row);
            let links = search.choose(row, others.collect(), LINKS);
            put(view.links(row, level), &links);
            for other in links {
                link(search, &view, other, row, level);
            }
        }
        if level > top {
            self.graph.entry.store(row, Ordering::Release);
        }
    }

    /// Makes room for the links of a row.
    fn reserve(&mut self, row: u32) -> View {
        if self.stamps[row as usize] == NONE {
            self.reserve_levels(row, level_of(row));
        } else {
            self.replaced += 1;
        }
        self.graph.view()
    }

    /// Makes room for the links of a row that is on so many levels above the lowest.
    pub(super) fn reserve_levels(&mut self, row: u32, levels: u32) {
        let graph = &self.graph;
        graph.lowest.reserve(row as usize);
        graph.places.reserve(row as usize);
        if levels > 0 {
            graph.upper.reserve((self.upper_end + levels - 1) as usize);
            put(graph.places.view().get(row as usize), &[self.upper_end * 16 + levels]);
            self.upper_end += levels;
        }
        graph.nodes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Gives `from` a link to `row`; if it has no room, the best of all its links stay.
fn link<T: Clone>(search: &Search<'_, T>, view: &View, from: u32, row: u32, level: u32) {
    let slots = view.links(from, level);
    let mut links: Vec<u32> = numbers(slots).collect();
    if links.contains(&row) {
        return;
    }
    links.push(row);
    let links = if links.len() > slots.len() {
        search.choose(from, links, if level == 0 { LINKS_LOWEST } else { LINKS })
    } else {
        links
    };
    put(slots, &links);
}

impl<T: Clone> Search<'_, T> {
    /// Of `others`, up to `most` for `row` to be linked with: the nearest, without those that are as near to one that was
    /// chosen before, since there is a way to them.
    fn choose(&self, row: u32, others: Vec<u32>, most: usize) -> Vec<u32> {
        let kernel = self.rows.kernel;
        let mut rows = others;
        rows.push(row);
        // In the order of the rows, which `visit` brings them into.
        let mut vectors = Sample::new(self.rows.dimension);
        self.visit(&mut rows, |_, chunk, row| {
            if let Some((codes, inverse_norm)) = chunk.codes(row) {
                vectors.push(codes, inverse_norm);
            }
        });
        let mut cosines = Vec::new();
        let own = rows.partition_point(|other| *other < row);
        vectors.cosines(kernel, vectors.get(own), &mut cosines);
        let near = (0..).zip(&cosines).map(|(row, cosine)| Near { cosine: *cosine, row });
        let mut near: Vec<Near> = near.filter(|near| near.row as usize != own).collect();
        near.sort_unstable_by(|a, b| b.cmp(a));
        let (mut chosen, mut links) = (Sample::new(self.rows.dimension), Vec::new());
        for Near { cosine, row: index } in near {
            let vector = vectors.get(index as usize);
            chosen.cosines(kernel, vector, &mut cosines);
            if cosines.iter().all(|other| *other < cosine) {
                chosen.push(vector.0, vector.1);
                links.push(rows[index as usize]);
                if links.len() == most {
                    break;
                }
            }
        }
        links
    }
}

/// How many levels above the lowest a row is on: each has one of sixteen of those below.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number above zero")]
fn level_of(row: u32) -> u32 {
    let share = 1.0 - lot(2, u64::from(row)) as f64 / u64::MAX as f64;
    ((-share.max(f64::MIN_POSITIVE).ln() / (LINKS as f64).ln()) as u32).min(LEVEL_MAX)
}
