//! A search by the graph, and beside it in all that the graph might miss.

use std::sync::atomic::Ordering;

use super::{Graph, View};
use crate::top_k::{Scored, TopK};
use crate::vector::candidates::Candidates;
use crate::vector::chunk::CHUNK_ROWS;
use crate::vector::partition::Partition;
use crate::vector::search::Search;
use crate::vector::signs::QuerySigns;

/// Lists that are looked into beside the graph: no way may lead to a vector, but its list is known.
const LISTS: usize = 8;

/// Rows of these lists, and as many of those that the graph or no list has, that are compared exactly.
const ROWS_MIN: usize = 128;

impl<T: Clone> Search<'_, T> {
    /// What the graph, the nearest lists, and a scan of what is not in the graph find; and how many of the nearest were
    /// kept on the way. `None` if that is not enough: for so many results, for so narrow a filter, or because there may
    /// be more to find.
    pub(in crate::vector) fn by_graph(
        &self,
        graph: &Graph,
        partition: &Partition,
        sieve: &impl Fn(&T) -> bool,
        accept: &impl Fn(&T) -> bool,
        tiebreak: &impl Fn(&T) -> u64,
    ) -> Option<(Vec<Scored<T>>, usize)> {
        // What the graph has and no list is looked at, too: no way may lead to it. First the epoch: what is stamped before
        // it is in the graph that is looked at then.
        let tail = self.tail(graph.epoch().min(partition.epoch()), sieve);
        let view = graph.view();
        let mut listed = self.listed(partition);
        let mut depth = self.depth(&mut listed, sieve)?;
        loop {
            let (ef, deepest) = graph.ef(depth)?;
            let mut walked: Vec<u32> = self.walk(&view, ef).into_iter().map(|near| near.row).collect();
            depth = self.depth(&mut walked, sieve)?;
            if depth > deepest {
                continue;
            }
            walked.extend_from_slice(&listed);
            walked.extend_from_slice(&tail);
            walked.sort_unstable();
            walked.dedup();
            let mut top = TopK::new(self.limit, accept, tiebreak);
            self.visit(&mut walked, |_, chunk, row| {
                let cosine = chunk.cosine(self.rows.kernel, self.query, row);
                if top.may_enter(cosine)
                    && let Some(item) = chunk.item(row)
                {
                    top.offer(cosine, item);
                }
            });
            let found = top.into_best_first();
            return (found.len() == self.limit).then_some((found, ef));
        }
    }

    /// What a question for the nearest, without a filter, would compare exactly.
    pub(super) fn compared(&self, view: &View, ef: usize, beside: &[u32]) -> Vec<u32> {
        let mut rows: Vec<u32> = self.walk(view, ef).into_iter().map(|near| near.row).collect();
        rows.extend_from_slice(beside);
        rows
    }

    /// How many of the nearest there must be for the limit to be among them, as far as these rows tell; `None` if none
    /// of them is let in.
    fn depth(&self, rows: &mut [u32], sieve: impl Fn(&T) -> bool) -> Option<usize> {
        let (mut asked, mut accepted) = (0_usize, 0_usize);
        self.visit(rows, |_, chunk, row| {
            if let Some(item) = chunk.item(row) {
                asked += 1;
                accepted += usize::from(sieve(item));
            }
        });
        self.limit.saturating_mul(asked).checked_div(accepted)
    }

    /// The nearest rows, by their signs, of the nearest lists. The first of these is the one that the query would be in.
    pub(super) fn listed(&self, partition: &Partition) -> Vec<u32> {
        let (kernel, clusters) = (self.rows.kernel, partition.clusters());
        let Some((codes, inverse_norm)) = self.query.codes() else { return Vec::new() };
        let mut signs = QuerySigns::new(kernel, self.query);
        let query = signs.relative_to(clusters.centre());
        let mut candidates = self.few();
        let mut distances = Vec::new();
        for list in clusters.nearest_few(kernel, codes, inverse_norm, LISTS) {
            let (rows, words) = partition.list(list);
            distances.resize(rows.len(), 0);
            kernel.hamming_rows(query, words, &mut distances);
            for (distance, row) in distances.iter().zip(rows) {
                if *distance <= candidates.floor() {
                    candidates.push(*distance, *row);
                }
            }
        }
        candidates.into_rows()
    }

    /// The nearest rows, by their signs, of those that were filled in this epoch or later, each let in.
    fn tail(&self, epoch: u32, sieve: impl Fn(&T) -> bool) -> Vec<u32> {
        let mut signs = QuerySigns::new(self.rows.kernel, self.query);
        let mut candidates = self.few();
        for (chunk, first) in self.chunks.iter().zip((0_u32..).step_by(CHUNK_ROWS)) {
            if chunk.newest.load(Ordering::SeqCst) < epoch {
                continue;
            }
            let chunk = chunk.read();
            for (row, id) in (first..).take(chunk.stamps().len()).enumerate() {
                if chunk.stamps()[row] < epoch {
                    continue;
                }
                // What has no signs yet is a candidate.
                let distance = chunk.distance(self.rows.kernel, &mut signs, row).unwrap_or(0);
                if distance <= candidates.floor() && chunk.item(row).is_some_and(&sieve) {
                    candidates.push(distance, id);
                }
            }
        }
        candidates.into_rows()
    }

    fn few(&self) -> Candidates {
        Candidates::new(self.limit.saturating_mul(8).max(ROWS_MIN), self.rows.dimension)
    }
}
