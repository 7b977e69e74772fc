//! What the background thread does: it keeps the signs, and the lists made of them, fit for the vectors there are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::debug;

use super::arena::Rows;
use super::background::Signal;
use super::checkpoint::Adopted;
use super::clusters::Clusters;
use super::graph::GraphKeeper;
use super::partition::{Partition, Reach, Tuned};
use super::search::SCAN_ROWS_MIN;
use super::signs::Centre;
use super::tuning::tune;
use crate::index::IndexMode;

/// How many vectors, spread over all, a mean is estimated from. Its error is a hundredth of their spread.
const MEAN_ROWS: usize = 10_000;

/// A mean moves if the new one is further off than this share of the spread around it, squared. What is nearer leaves
/// the signs as good as they were.
const SHIFT_MIN: f32 = 0.01;

/// From so many vectors on lists are made if nobody says otherwise: a scan of fewer is as fast.
const LISTS_ROWS_MIN: usize = 50_000;

/// Lists are made when changes have slowed down: no more than a tenth of all vectors in this time.
const LULL: Duration = Duration::from_millis(100);

/// What the thread remembers from one time to the next.
#[derive(Default)]
pub(super) struct Keeper {
    /// How many vectors there were when their mean was last estimated.
    mean_rows: usize,
    lists: ListKeeper,
    graph: GraphKeeper,
    /// Changes when the index was last written to its file.
    saved: Option<u64>,
}

/// What it remembers of the lists.
#[derive(Default)]
struct ListKeeper(Option<Lists>);

/// What was done about the lists, in numbers of changes made to the arena by then.
pub(super) struct Lists {
    /// Changes when the clusters were found, and how many vectors there were.
    trained: u64,
    trained_rows: usize,
    /// Lists that were enough then.
    trained_tuned: Tuned<Reach>,
    /// Changes when the number of lists to look at was found out.
    tuned: u64,
    /// Changes when all vectors were put into the lists.
    filled: u64,
}

impl Keeper {
    /// Looks at what there is, and does what is to be done. Returns early when it is told to stop.
    pub(super) fn keep<T: Clone>(&mut self, rows: &Rows<T>, signal: &Signal) {
        if rows.needs_no_index() {
            return;
        }
        self.keep_centre(rows, signal);
        give_signs(rows, signal);
        if rows.is_held() {
            return;
        }
        if let Some(Adopted { lists, graph, changes }) = rows.take_adopted() {
            self.lists = ListKeeper(Some(lists));
            self.saved = Some(changes);
            if let Some(graph) = graph {
                self.graph.adopt(graph, changes);
            }
        }
        self.lists.keep(rows, signal);
        let lists = &mut self.lists;
        self.graph.keep(rows, signal, || {
            give_signs(rows, signal);
            lists.keep(rows, signal);
        });
        let changes = rows.changes.load(Ordering::Relaxed);
        if signal.goes_on() && rows.save_after(self.saved, changes) {
            self.saved = Some(changes);
        }
    }

    /// Estimates the mean anew whenever there are twice as many vectors.
    fn keep_centre<T: Clone>(&mut self, rows: &Rows<T>, signal: &Signal) {
        let (count, before) = (rows.count(), rows.centre());
        if before.is_some() && count < 2 * self.mean_rows {
            return;
        }
        let Some(mean) = mean(rows, count.div_ceil(MEAN_ROWS), signal) else { return };
        self.mean_rows = count;
        if before.is_none_or(|before| !is_near(before.mean(), &mean)) {
            rows.set_centre(Arc::new(Centre::new(mean)));
        }
    }
}

impl Lists {
    /// Lists that were in a file, and had `rows` in them at `filled` changes; there were `changes` when they were taken.
    pub(super) fn adopted(filled: u64, changes: u64, rows: usize, tuned: Tuned<Reach>) -> Self {
        Self { trained: filled, trained_rows: rows, trained_tuned: tuned, tuned: changes, filled }
    }
}

impl ListKeeper {
    /// Makes lists from some number of vectors on; fills them with what came since; makes them anew when as much has
    /// changed as there was, or when a part of that has made them worse.
    fn keep<T: Clone>(&mut self, rows: &Rows<T>, signal: &Signal) {
        let count = rows.count();
        // What is in no list is scanned; beside a graph that would take the longer part of a search.
        let (rows_min, filled_share) = match rows.settings.mode {
            IndexMode::Auto => (LISTS_ROWS_MIN, 16),
            IndexMode::Ivf => (SCAN_ROWS_MIN, 16),
            IndexMode::Hnsw => (SCAN_ROWS_MIN, 64),
            IndexMode::Scan => return,
        };
        let changes = rows.changes.load(Ordering::Relaxed);
        let changed_since = |then: u64| usize::try_from(changes.saturating_sub(then)).unwrap_or(usize::MAX);
        let (Some(lists), Some(partition)) = (&mut self.0, rows.partition()) else {
            if count >= rows_min {
                self.make(rows, signal);
            }
            return;
        };
        if changed_since(lists.trained) >= lists.trained_rows {
            self.make(rows, signal);
        } else if changed_since(lists.filled) >= (count / filled_share).max(4096) {
            let Some(filled) = Partition::new(rows, partition.clusters(), Some(&partition), signal) else {
                return;
            };
            let mut tuned = partition.tuned();
            if changed_since(lists.tuned) >= count / 8 {
                let Some(now) = tune(rows, &filled, signal) else { return };
                (tuned, lists.tuned) = (now, changes);
            }
            lists.filled = changes;
            let are_worse = filled.longest() > 8 * (filled.len() / filled.clusters().len()).max(16)
                || are_worse(probes(tuned), probes(lists.trained_tuned));
            rows.set_partition(Some(Arc::new(filled.with_tuned(tuned))));
            if are_worse && changed_since(lists.trained) >= lists.trained_rows / 4 {
                self.make(rows, signal);
            }
        }
    }

    fn make<T: Clone>(&mut self, rows: &Rows<T>, signal: &Signal) {
        await_lull(rows, signal);
        let Some(centre) = rows.centre() else { return };
        let began = Instant::now();
        let (changes, count) = (rows.changes.load(Ordering::Relaxed), rows.count());
        let Some(clusters) = Clusters::train(rows, &centre, lists_for(count), signal) else { return };
        let Some(partition) = Partition::new(rows, &Arc::new(clusters), None, signal) else { return };
        let Some(tuned) = tune(rows, &partition, signal) else { return };
        debug!(rows = count, lists = partition.clusters().len(), ?tuned, took = ?began.elapsed(), "made lists");
        self.0 = Some(Lists {
            trained: changes,
            trained_rows: count,
            trained_tuned: tuned,
            tuned: changes,
            filled: changes,
        });
        rows.set_partition(Some(Arc::new(partition.with_tuned(tuned))));
        rows.set_trained(began.elapsed());
    }
}

/// A set that grows faster than its lists can be made is left alone: while a log is recovered, for example.
fn await_lull<T: Clone>(rows: &Rows<T>, signal: &Signal) {
    loop {
        let before = rows.changes.load(Ordering::Relaxed);
        signal.pause(LULL);
        let changes = rows.changes.load(Ordering::Relaxed).saturating_sub(before);
        if !signal.goes_on() || changes <= rows.count() as u64 / 10 {
            return;
        }
    }
}

/// Whether twice as much must be looked at, or no number is enough any longer.
pub(super) fn are_worse(now: Tuned, before: Tuned) -> bool {
    now.iter().zip(before).any(|(now, before)| match (now, before) {
        (Some(now), Some(before)) => *now > 2 * before,
        (None, Some(_)) => true,
        (_, None) => false,
    })
}

fn probes(tuned: Tuned<Reach>) -> Tuned {
    tuned.map(|reach| reach.map(|reach| reach.probes))
}

/// A power of two near eight times the root of the number of vectors. The finer the lists, the less there is in those
/// that must be looked into; twice as many would take twice the time to make, and to be compared with a question.
fn lists_for(rows: usize) -> usize {
    let lists = 8 * rows.isqrt();
    // The nearest power of two, in the sense of a factor.
    1 << ((2 * lists * lists).ilog2() / 2)
}

/// Gives all rows signs relative to the centre there is now. Chunks that come meanwhile are made with it.
fn give_signs<T: Clone>(rows: &Rows<T>, signal: &Signal) {
    let Some(centre) = rows.centre() else { return };
    for chunk in rows.chunks().iter() {
        if !signal.goes_on() {
            return;
        }
        if !chunk.read().is_centred_on(&centre) {
            chunk.write().centre_on(rows.kernel, &centre);
        }
    }
}

/// The mean of one in `step` vectors.
fn mean<T: Clone>(rows: &Rows<T>, step: usize, signal: &Signal) -> Option<Box<[f32]>> {
    let mut sums = vec![0.0_f64; rows.dimension];
    let mut count = 0_u32;
    for chunk in rows.chunks().iter() {
        if !signal.goes_on() {
            return None;
        }
        for (_, row) in chunk.read().rows_in_use().step_by(step) {
            for (sum, code) in sums.iter_mut().zip(row.codes) {
                *sum += f64::from(*code) * f64::from(row.inverse_norm);
            }
            count += 1;
        }
    }
    let share = 1.0 / f64::from(count.max(1));
    #[expect(clippy::cast_possible_truncation, reason = "a mean of numbers between -1 and 1")]
    let mean = sums.iter().map(|sum| (sum * share) as f32).collect();
    Some(mean)
}

/// Whether signs relative to one mean are as good as those relative to the other, for vectors of length 1.
fn is_near(before: &[f32], now: &[f32]) -> bool {
    let shift: f32 = before.iter().zip(now).map(|(before, now)| (before - now) * (before - now)).sum();
    let spread = 1.0 - now.iter().map(|number| number * number).sum::<f32>();
    shift <= SHIFT_MIN * spread
}
