//! The signs in lists, one a cluster: an inverted file. A question is compared with the lists of the nearest clusters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::arena::Rows;
use super::background::Signal;
use super::chunk::CHUNK_ROWS;
use super::clusters::{Clusters, PIECE_ROWS, Sample};

/// The list of a row that is in none.
const NONE: u32 = u32::MAX;

/// The lists of an arena at the beginning of an epoch. Rows that were filled since are in none as they are now; a list
/// may hold their signs of before, which makes them candidates and no more.
pub(super) struct Partition {
    clusters: Arc<Clusters>,
    /// Rows with this stamp or a later one are looked at beside the lists.
    epoch: u32,
    /// Where each list starts in `rows`; and the end of the last.
    starts: Vec<usize>,
    rows: Vec<u32>,
    /// The signs of each of `rows`.
    words: Vec<u64>,
    tuned: Tuned<Reach>,
}

/// How much work is enough to find what a scan finds, for the ten best of all, for the forty best and so on; `None` where
/// no work is enough, or a scan is as fast.
pub(super) type Tuned<W = usize> = [Option<W>; DEPTHS.len()];

/// Which lists are looked into after the first: those whose middles are hardly further from the question than the last
/// of the best that the first lists hold. So a question that has nothing near it takes more lists than others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reach {
    /// How much further, in cosines.
    pub(super) margin: f32,
    /// How many lists that were, the first among them, on the average.
    pub(super) probes: usize,
}

/// A filter that lets in one of four makes the ten best the forty best without it.
pub(super) const DEPTHS: [usize; 3] = [10, 40, DEEPEST];

/// Whoever needs more of the nearest is answered by a scan.
pub(super) const DEEPEST: usize = 160;

/// One in so many lists is looked into for every question, but not fewer than these.
const FIRST_SHARE: usize = 64;

const FIRST_MIN: usize = 16;

impl Partition {
    /// Lists of all rows that are in use, by the clusters that they belong to; those that have not changed since they
    /// were in the lists `before`, of the same clusters, stay where they are. `None` when told to stop.
    pub(super) fn new<T: Clone>(
        arena: &Rows<T>,
        clusters: &Arc<Clusters>,
        before: Option<&Self>,
        signal: &Signal,
    ) -> Option<Self> {
        let epoch = arena.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        let lists = assign(arena, clusters, before, epoch, signal)?;
        Self::of_lists(arena, clusters, &lists, epoch, signal)
    }

    /// Lists of the rows that `lists` gives one to; all others were filled in this epoch, or are free. `None` when told
    /// to stop.
    pub(super) fn of_lists<T: Clone>(
        arena: &Rows<T>,
        clusters: &Arc<Clusters>,
        lists: &[u32],
        epoch: u32,
        signal: &Signal,
    ) -> Option<Self> {
        let mut starts = vec![0; clusters.len() + 1];
        for list in lists.iter().filter(|list| **list != NONE) {
            starts[*list as usize + 1] += 1;
        }
        for list in 0..clusters.len() {
            starts[list + 1] += starts[list];
        }
        let width = clusters.centre().words();
        let count = starts[clusters.len()];
        let (mut rows, mut words) = (vec![0; count], vec![0; count * width]);
        let mut ends = starts.clone();
        for ((chunk, lists), first) in
            arena.chunks().iter().zip(lists.chunks(CHUNK_ROWS)).zip((0_u32..).step_by(CHUNK_ROWS))
        {
            if !signal.goes_on() {
                return None;
            }
            let chunk = chunk.read();
            for ((row, id), list) in (first..).enumerate().zip(lists).filter(|(_, list)| **list != NONE) {
                let place = ends[*list as usize];
                ends[*list as usize] += 1;
                rows[place] = id;
                let words = &mut words[place * width..][..width];
                chunk.signs(arena.kernel, clusters.centre(), row, words);
            }
        }
        Some(Self { clusters: Arc::clone(clusters), epoch, starts, rows, words, tuned: [None; DEPTHS.len()] })
    }

    pub(super) fn with_tuned(self, tuned: Tuned<Reach>) -> Self {
        Self { tuned, ..self }
    }

    pub(super) fn tuned(&self) -> Tuned<Reach> {
        self.tuned
    }

    /// Which lists are enough for the `depth` best, and down to which depth they are.
    pub(super) fn reach(&self, depth: usize) -> Option<(Reach, usize)> {
        let (deeper, reach) = DEPTHS.iter().zip(self.tuned).find(|(deeper, _)| **deeper >= depth)?;
        reach.map(|reach| (reach, *deeper))
    }

    /// How many lists are looked into for every question.
    pub(super) fn first(&self) -> usize {
        (self.clusters.len() / FIRST_SHARE).max(FIRST_MIN)
    }

    pub(super) fn clusters(&self) -> &Arc<Clusters> {
        &self.clusters
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How many rows are in the lists.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows of a list, and their signs.
    pub(super) fn list(&self, list: u32) -> (&[u32], &[u64]) {
        let range = self.starts[list as usize]..self.starts[list as usize + 1];
        let width = self.clusters.centre().words();
        (&self.rows[range.clone()], &self.words[range.start * width..range.end * width])
    }

    /// How many rows the longest list has.
    pub(super) fn longest(&self) -> usize {
        self.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0)
    }

    /// The list of each row, [`NONE`] for those in none, up to the last row that is in one.
    pub(super) fn lists(&self) -> Vec<u32> {
        let end = self.rows.iter().max().map_or(0, |row| *row as usize + 1);
        let mut lists = vec![NONE; end];
        for list in 0..self.clusters.len() {
            for row in &self.rows[self.starts[list]..self.starts[list + 1]] {
                lists[*row as usize] = u32::try_from(list).unwrap_or(NONE);
            }
        }
        lists
    }
}

/// The list that each row belongs to, [`NONE`] for those that are free or filled since the epoch began.
fn assign<T: Clone>(
    arena: &Rows<T>,
    clusters: &Clusters,
    before: Option<&Partition>,
    epoch: u32,
    signal: &Signal,
) -> Option<Vec<u32>> {
    let known = before.map(Partition::lists).unwrap_or_default();
    let known_until = before.map_or(0, Partition::epoch);
    // Taken after the epoch began: the rows of later chunks have its stamp.
    let chunks = arena.chunks();
    let mut lists = vec![NONE; chunks.len() * CHUNK_ROWS];
    let (mut copied, mut places) = (Sample::new(arena.dimension), Vec::new());
    for (index, chunk) in chunks.iter().enumerate() {
        copied.clear();
        places.clear();
        // The chunk is unlocked again before the long work begins.
        for (row, view) in chunk.read().rows_in_use().filter(|(_, view)| view.stamp < epoch) {
            let place = index * CHUNK_ROWS + row;
            match known.get(place) {
                Some(list) if *list != NONE && view.stamp < known_until => lists[place] = *list,
                Some(_) | None => {
                    copied.push(view.codes, view.inverse_norm);
                    places.push(place);
                }
            }
        }
        for (index, place) in places.iter().enumerate() {
            if index.is_multiple_of(PIECE_ROWS) && !signal.goes_on() {
                return None;
            }
            let (codes, inverse_norm) = copied.get(index);
            lists[*place] = clusters.nearest(arena.kernel, codes, inverse_norm);
        }
    }
    Some(lists)
}
