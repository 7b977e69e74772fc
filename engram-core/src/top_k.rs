//! The best `limit` of many scored items, in one total order, shared by recall by meaning and recall by
//! words.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// An item and how well it answers; a higher score is a better answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored<T> {
    /// What was found.
    pub(crate) item: T,
    /// How well it answers: a cosine, or a BM25 score.
    pub(crate) score: f32,
}

/// Collects the best `limit` items that `accept` lets in: by score, then by `tiebreak`, both descending.
///
/// The order is total as long as no two items have the same tiebreak, and so the result does not depend on
/// the order in which the items are offered. The filter sees an item before any is cut off, so that it never
/// thins out the result; it is asked only about items that would enter.
pub(crate) struct TopK<T, A, B> {
    limit: usize,
    accept: A,
    tiebreak: B,
    /// A score below this cannot enter.
    floor: f32,
    worst_first: BinaryHeap<Reverse<Entry<T>>>,
}

impl<T: Clone, A: Fn(&T) -> bool, B: Fn(&T) -> u64> TopK<T, A, B> {
    /// An empty collection for `limit` items; the limit may be 0 or beyond all that will be offered.
    pub(crate) fn new(limit: usize, accept: A, tiebreak: B) -> Self {
        let floor = if limit == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Self { limit, accept, tiebreak, floor, worst_first: BinaryHeap::new() }
    }

    /// Whether an item with this score could enter: one comparison, to be made before the item is fetched.
    #[inline]
    pub(crate) fn may_enter(&self, score: f32) -> bool {
        score >= self.floor
    }

    /// Takes the item in if it is among the best so far and accepted. A NaN never enters.
    pub(crate) fn offer(&mut self, score: f32, item: &T) {
        if !self.may_enter(score) {
            return;
        }
        // Minus zero would lose against zero instead of being equal to it.
        let score = score + 0.0;
        let rank = Rank { score, tiebreak: (self.tiebreak)(item) };
        if self.worst_first.len() < self.limit {
            if (self.accept)(item) {
                self.worst_first.push(Reverse(Entry { rank, item: item.clone() }));
            }
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && rank > worst.0.rank
            && (self.accept)(item)
        {
            *worst = Reverse(Entry { rank, item: item.clone() });
        }
        if self.worst_first.len() == self.limit
            && let Some(worst) = self.worst_first.peek()
        {
            self.floor = worst.0.rank.score;
        }
    }

    /// What was collected, best first.
    pub(crate) fn into_best_first(self) -> Vec<Scored<T>> {
        let best_first = self.worst_first.into_sorted_vec();
        best_first
            .into_iter()
            .map(|Reverse(entry)| Scored { item: entry.item, score: entry.rank.score })
            .collect()
    }
}

#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Rank {
    score: f32,
    tiebreak: u64,
}

/// Ordered by rank alone. Invariant: the score is no NaN, see [`TopK::offer`].
struct Entry<T> {
    rank: Rank,
    item: T,
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.rank.score.total_cmp(&other.rank.score);
        by_score.then(self.rank.tiebreak.cmp(&other.rank.tiebreak))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    fn best(offered: &[(f32, u64)], limit: usize, accept: impl Fn(u64) -> bool) -> Vec<(f32, u64)> {
        let mut top = TopK::new(limit, |item: &u64| accept(*item), |item| *item);
        for (score, item) in offered {
            top.offer(*score, item);
        }
        top.into_best_first().into_iter().map(|scored| (scored.score, scored.item)).collect()
    }

    proptest! {
        #[test]
        fn the_best_are_those_a_full_sort_gives(
            scores in prop::collection::vec(-3_i8..4, 0..60),
            limit in 0_usize..70,
            modulus in 1_u64..4,
        ) {
            let offered: Vec<(f32, u64)> = scores.iter().map(|score| f32::from(*score)).zip(0..).collect();
            let accepted = offered.iter().filter(|(_, item)| item.is_multiple_of(modulus));
            let mut expected: Vec<_> = accepted.copied().collect();
            expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
            expected.truncate(limit);
            prop_assert_eq!(&best(&offered, limit, |item| item.is_multiple_of(modulus)), &expected);
            let reversed: Vec<_> = offered.into_iter().rev().collect();
            prop_assert_eq!(&best(&reversed, limit, |item| item.is_multiple_of(modulus)), &expected);
        }
    }

    #[test]
    fn minus_zero_ties_with_zero_and_nan_never_enters() {
        assert_eq!(best(&[(0.0, 1), (-0.0, 2), (f32::NAN, 3)], 1, |_| true), [(0.0, 2)]);
        assert_eq!(best(&[(0.0, 1), (-0.0, 2)], 2, |_| true), [(0.0, 2), (0.0, 1)]);
        assert_eq!(best(&[(f32::INFINITY, 1)], 0, |_| true), []);
        assert_eq!(best(&[(f32::NEG_INFINITY, 1)], usize::MAX, |_| true), [(f32::NEG_INFINITY, 1)]);
    }

    #[test]
    fn the_filter_is_not_asked_about_items_that_cannot_enter() {
        for step in [0.0, 1.0] {
            let asked = Cell::new(0);
            let accept = |_: &u64| {
                asked.set(asked.get() + 1);
                true
            };
            let mut top = TopK::new(10, accept, |item: &u64| *item);
            for item in (0..1000_u16).rev() {
                top.offer(f32::from(item) * step, &u64::from(item));
            }
            assert_eq!(asked.get(), 10);
            assert!(!top.may_enter(-1.0));
            assert!(top.may_enter(990.0 * step));
        }
    }
}
