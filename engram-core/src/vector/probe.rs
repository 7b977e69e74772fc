//! A search in the lists nearest to a query.

use std::sync::atomic::Ordering;

use super::chunk::CHUNK_ROWS;
use super::clusters::Nearness;
use super::partition::{Partition, Reach};
use super::search::Search;
use super::signs::QuerySigns;
use crate::top_k::{Scored, TopK};

/// What the lists gave.
enum Probed<T> {
    /// And how many lists that took.
    Found(Vec<Scored<T>>, usize),
    /// The filter lets in so few that they must be looked for among so many of the nearest.
    Deeper(usize),
}

impl<T: Clone> Search<'_, T> {
    /// The signs of the nearest lists, and of all rows that are in none, then the nearest exactly; and how many lists
    /// that were. `None` if lists are not enough: for so many results, for so narrow a filter, or because there may be
    /// more to find.
    pub(super) fn probe(
        &self,
        partition: &Partition,
        accept: impl Fn(&T) -> bool,
        tiebreak: impl Fn(&T) -> u64,
    ) -> Option<(Vec<Scored<T>>, usize)> {
        let mut depth = self.limit;
        loop {
            let (reach, deepest) = partition.reach(depth)?;
            match self.probe_lists(partition, reach, deepest, &accept, &tiebreak) {
                Probed::Found(found, probes) => {
                    return (found.len() == self.limit).then_some((found, probes));
                }
                Probed::Deeper(deeper) => depth = deeper,
            }
        }
    }

    fn probe_lists(
        &self,
        partition: &Partition,
        reach: Reach,
        deepest: usize,
        accept: impl Fn(&T) -> bool,
        tiebreak: impl Fn(&T) -> u64,
    ) -> Probed<T> {
        let (near, probes) = self.near(partition, reach, deepest);
        let wanted = self.rows.candidates_wanted(self.limit);
        let mut top = TopK::new(self.limit, |_: &T| true, tiebreak);
        let (mut seen, mut goal, mut accepted) = (Vec::new(), wanted, 0);
        while let Some(mut rows) = near.nearest(goal, &seen) {
            let mut asked = 0;
            self.visit(&mut rows, |_, chunk, row| {
                let Some(item) = chunk.item(row) else { return };
                asked += 1;
                if accept(item) {
                    accepted += 1;
                    top.offer(chunk.cosine(self.rows.kernel, self.query, row), item);
                }
            });
            seen.append(&mut rows);
            seen.sort_unstable();
            if accepted >= wanted || asked == 0 {
                break;
            }
            // Of so many nearest rows the filter lets in the limit.
            let deep = self.limit.saturating_mul(seen.len()).checked_div(accepted).unwrap_or(usize::MAX);
            if deep > deepest {
                return Probed::Deeper(deep);
            }
            goal = (seen.len() * wanted).div_ceil(accepted.max(1)).max(2 * seen.len());
        }
        Probed::Found(top.into_best_first(), probes)
    }

    /// The distances of all rows in the lists within reach, and of those that are in none as they are now; and how many
    /// lists there are within reach, for the `depth` best.
    fn near(&self, partition: &Partition, reach: Reach, depth: usize) -> (Near, usize) {
        let kernel = self.rows.kernel;
        let mut signs = QuerySigns::new(kernel, self.query);
        let (first, mut others) = partition.clusters().nearest_first(kernel, self.query, partition.first());
        let mut near = self.look_into(partition, &first, &mut signs);
        let least = least(&mut self.nearest_cosines(&near, compared(depth)), depth) - reach.margin;
        others.retain(|(cosine, _)| *cosine >= least);
        near.join(self.look_into(partition, &others, &mut signs));
        for (chunk, first) in self.chunks.iter().zip((0_u32..).step_by(CHUNK_ROWS)) {
            if chunk.newest.load(Ordering::SeqCst) < partition.epoch() {
                continue;
            }
            let chunk = chunk.read();
            let is_new = |(_, stamp): &(u32, &u32)| **stamp >= partition.epoch();
            let new = (0_u32..).zip(chunk.stamps()).filter(is_new).map(|(row, _)| row);
            // What has no signs yet is a candidate.
            near.extend(
                new.map(|row| (chunk.distance(kernel, &mut signs, row as usize).unwrap_or(0), first + row)),
            );
        }
        (near, first.len() + others.len())
    }

    /// The distances of all rows in these lists.
    pub(super) fn look_into(
        &self,
        partition: &Partition,
        lists: &[Nearness],
        signs: &mut QuerySigns,
    ) -> Near {
        let mut near = Near { rows: Vec::new(), counts: vec![0; self.rows.dimension + 1] };
        let mut distances = [0; CHUNK_ROWS];
        let query = signs.relative_to(partition.clusters().centre());
        for (_, list) in lists {
            let (rows, words) = partition.list(*list);
            for (rows, words) in rows.chunks(CHUNK_ROWS).zip(words.chunks(CHUNK_ROWS * query.len())) {
                let distances = &mut distances[..rows.len()];
                self.rows.kernel.hamming_rows(query, words, distances);
                near.extend(distances.iter().copied().zip(rows.iter().copied()));
            }
        }
        near
    }

    /// The cosines of the nearest of these, at least so many if there are.
    pub(super) fn nearest_cosines(&self, near: &Near, count: usize) -> Vec<f32> {
        let mut cosines = Vec::new();
        if let Some(mut rows) = near.nearest(count, &[]) {
            self.visit(&mut rows, |_, chunk, row| {
                if chunk.item(row).is_some() {
                    cosines.push(chunk.cosine(self.rows.kernel, self.query, row));
                }
            });
        }
        cosines
    }
}

/// How many rows of the first lists are compared exactly for the last of the `depth` best of them.
pub(super) const fn compared(depth: usize) -> usize {
    64 + 4 * depth
}

/// The last of the `depth` best; -1 if there are not so many.
pub(super) fn least(cosines: &mut [f32], depth: usize) -> f32 {
    if cosines.len() < depth {
        return -1.0;
    }
    *cosines.select_nth_unstable_by(depth - 1, |a, b| b.total_cmp(a)).1
}

/// Rows by their distance.
pub(super) struct Near {
    rows: Vec<(u32, u32)>,
    /// How many there are at each distance.
    counts: Vec<usize>,
}

impl Near {
    fn extend(&mut self, rows: impl Iterator<Item = (u32, u32)>) {
        let counts = &mut self.counts;
        self.rows.extend(rows.inspect(|(distance, _)| counts[*distance as usize] += 1));
    }

    fn join(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.counts.iter_mut().zip(other.counts).for_each(|(count, other)| *count += other);
    }

    /// The `count` nearest rows, all that are as far as the last of them, and each once, without those that were seen,
    /// which are in order. `None` if there are no others.
    fn nearest(&self, count: usize, seen: &[u32]) -> Option<Vec<u32>> {
        let mut sum = 0;
        let is_enough = |at: &usize| {
            sum += at;
            sum >= count
        };
        let floor = self.counts.iter().position(is_enough).unwrap_or(self.counts.len());
        let near = self.rows.iter().filter(|(distance, _)| *distance as usize <= floor);
        let mut rows: Vec<u32> =
            near.map(|(_, row)| *row).filter(|row| seen.binary_search(row).is_err()).collect();
        rows.sort_unstable();
        rows.dedup();
        (!rows.is_empty()).then_some(rows)
    }
}
