//! A search in the lists nearest to a query.

use std::sync::atomic::Ordering;

use super::chunk::CHUNK_ROWS;
use super::clusters::Nearness;
use super::kernel::Kernel;
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
        sieve: &impl Fn(&T) -> bool,
        accept: &impl Fn(&T) -> bool,
        tiebreak: &impl Fn(&T) -> u64,
    ) -> Option<(Vec<Scored<T>>, usize)> {
        let mut depth = self.limit;
        loop {
            let (reach, deepest) = partition.reach(depth)?;
            match self.probe_lists(partition, reach, deepest, sieve, accept, tiebreak) {
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
        sieve: &impl Fn(&T) -> bool,
        accept: &impl Fn(&T) -> bool,
        tiebreak: &impl Fn(&T) -> u64,
    ) -> Probed<T> {
        let (near, probes) = self.near(partition, reach, deepest);
        let wanted = self.rows.candidates_wanted(self.limit);
        let mut top = TopK::new(self.limit, accept, tiebreak);
        let (mut seen, mut goal, mut let_in) = (Vec::new(), wanted, 0);
        while let Some(mut rows) = near.nearest(goal, &seen) {
            let mut asked = 0;
            self.visit(&mut rows, |_, chunk, row| {
                let Some(item) = chunk.item(row) else { return };
                asked += 1;
                if sieve(item) {
                    let_in += 1;
                    top.offer(chunk.cosine(self.rows.kernel, self.query, row), item);
                }
            });
            seen.append(&mut rows);
            seen.sort_unstable();
            if let_in >= wanted || asked == 0 {
                break;
            }
            // Among so many of the nearest, the limit is let in.
            let deep = self.limit.saturating_mul(seen.len()).checked_div(let_in).unwrap_or(usize::MAX);
            if deep > deepest {
                return Probed::Deeper(deep);
            }
            goal = (seen.len() * wanted).div_ceil(let_in.max(1)).max(2 * seen.len());
        }
        Probed::Found(top.into_best_first(), probes)
    }

    /// The distances of all rows in the lists within reach, and of those that are in none as they are now; and how many
    /// lists there are within reach, for the `depth` best.
    fn near<'a>(&self, partition: &'a Partition, reach: Reach, depth: usize) -> (Near<'a>, usize) {
        let kernel = self.rows.kernel;
        let mut signs = QuerySigns::new(kernel, self.query);
        let (first, mut others) = partition.clusters().nearest_first(kernel, self.query, partition.first());
        let mut near = Near::new(self.rows.dimension);
        near.look_into(kernel, partition, &first, &mut signs);
        let least = least(&mut self.nearest_cosines(&near, compared(depth)), depth) - reach.margin;
        others.retain(|(cosine, _)| *cosine >= least);
        near.look_into(kernel, partition, &others, &mut signs);
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

    /// The cosines of the nearest of these, at least so many if there are.
    pub(super) fn nearest_cosines(&self, near: &Near<'_>, count: usize) -> Vec<f32> {
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
pub(super) struct Near<'a> {
    /// The rows of the lists that were looked into.
    lists: Vec<&'a [u32]>,
    /// The distances of these rows, one after the other.
    distances: Vec<u32>,
    /// Rows that are in no list, with their distances.
    others: Vec<(u32, u32)>,
    /// How many there are at each distance.
    counts: Vec<usize>,
}

impl<'a> Near<'a> {
    pub(super) fn new(dimension: usize) -> Self {
        let counts = vec![0; dimension + 1];
        Self { lists: Vec::new(), distances: Vec::new(), others: Vec::new(), counts }
    }

    /// Takes all rows of these lists in.
    pub(super) fn look_into(
        &mut self,
        kernel: Kernel,
        partition: &'a Partition,
        lists: &[Nearness],
        signs: &mut QuerySigns,
    ) {
        let query = signs.relative_to(partition.clusters().centre());
        let lists = lists.iter().map(|(_, list)| partition.list(*list));
        self.distances.reserve(lists.clone().map(|(rows, _)| rows.len()).sum());
        for (rows, words) in lists {
            let start = self.distances.len();
            self.distances.resize(start + rows.len(), 0);
            kernel.hamming_rows(query, words, &mut self.distances[start..]);
            self.lists.push(rows);
            for distance in &self.distances[start..] {
                self.counts[*distance as usize] += 1;
            }
        }
    }

    fn extend(&mut self, rows: impl Iterator<Item = (u32, u32)>) {
        let counts = &mut self.counts;
        self.others.extend(rows.inspect(|(distance, _)| counts[*distance as usize] += 1));
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
        let is_near = |distance: &u32| *distance as usize <= floor;
        let mut rows: Vec<u32> = Vec::with_capacity(sum.min(self.distances.len() + self.others.len()));
        let mut distances = self.distances.as_slice();
        for list in &self.lists {
            let (these, rest) = distances.split_at(list.len());
            distances = rest;
            let near = these.iter().zip(*list).filter(|(distance, _)| is_near(distance));
            rows.extend(near.map(|(_, row)| *row));
        }
        rows.extend(self.others.iter().filter(|(distance, _)| is_near(distance)).map(|(_, row)| *row));
        rows.retain(|row| seen.binary_search(row).is_err());
        rows.sort_unstable();
        rows.dedup();
        (!rows.is_empty()).then_some(rows)
    }
}
