//! The way through the graph to what is nearest to a query.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::View;
use super::slots::numbers;
use crate::vector::chunk::CHUNK_ROWS;
use crate::vector::search::Search;

/// A row, and its cosine with the query. Ordered by that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Near {
    pub(super) cosine: f32,
    pub(super) row: u32,
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cosine.total_cmp(&other.cosine).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Near {}

impl<T: Clone> Search<'_, T> {
    /// About the `ef` nearest rows on the lowest level, in no order. They may be free, or have changed since.
    pub(super) fn walk(&self, view: &View, ef: usize) -> Vec<Near> {
        let Some(start) = self.descend(view, 0) else { return Vec::new() };
        self.nearest_on(view, 0, start, ef)
    }

    /// The nearest row that is found above `level`, from the entry of the graph on.
    pub(super) fn descend(&self, view: &View, level: u32) -> Option<Near> {
        let entry = view.entry?;
        let mut best = self.cosines(&mut vec![entry]).into_iter().next()?;
        for level in (level + 1..=view.level(entry)).rev() {
            loop {
                let mut rows: Vec<u32> = numbers(view.links(best.row, level)).collect();
                match self.cosines(&mut rows).into_iter().max() {
                    Some(nearer) if nearer.cosine > best.cosine => best = nearer,
                    Some(_) | None => break,
                }
            }
        }
        Some(best)
    }

    /// About the `ef` nearest rows on a level that links lead to from `start`, with it.
    pub(super) fn nearest_on(&self, view: &View, level: u32, start: Near, ef: usize) -> Vec<Near> {
        let mut seen = Seen(vec![0; self.chunks.len() * CHUNK_ROWS / 64]);
        seen.insert(start.row);
        let mut ahead = BinaryHeap::from([start]);
        let mut nearest = BinaryHeap::from([Reverse(start)]);
        let mut rows = Vec::with_capacity(super::LINKS_LOWEST);
        while let Some(here) = ahead.pop() {
            let furthest = nearest.peek().map_or(f32::NEG_INFINITY, |Reverse(near)| near.cosine);
            if nearest.len() >= ef && here.cosine < furthest {
                break;
            }
            rows.clear();
            rows.extend(numbers(view.links(here.row, level)).filter(|row| seen.insert(*row)));
            for near in self.cosines(&mut rows) {
                let furthest = nearest.peek().map_or(f32::NEG_INFINITY, |Reverse(near)| near.cosine);
                if nearest.len() < ef || near.cosine > furthest {
                    ahead.push(near);
                    nearest.push(Reverse(near));
                    if nearest.len() > ef {
                        nearest.pop();
                    }
                }
            }
        }
        nearest.into_iter().map(|Reverse(near)| near).collect()
    }

    /// The cosines of these rows, without those that came after the search began.
    fn cosines(&self, rows: &mut Vec<u32>) -> Vec<Near> {
        rows.retain(|row| (*row as usize) < self.chunks.len() * CHUNK_ROWS);
        let mut near = Vec::with_capacity(rows.len());
        self.visit(rows, |row, chunk, place| {
            near.push(Near { cosine: chunk.cosine(self.rows.kernel, self.query, place), row });
        });
        near
    }
}

/// Rows that a walk has come to, a bit a row.
struct Seen(Vec<u64>);

impl Seen {
    /// Whether it is new. A row that came after the search began never is.
    fn insert(&mut self, row: u32) -> bool {
        let Some(word) = self.0.get_mut(row as usize / 64) else { return false };
        let bit = 1 << (row % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}
