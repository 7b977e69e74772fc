//! Which lists must be looked into.

use super::arena::Rows;
use super::background::Signal;
use super::chunk::Query;
use super::clusters::{Nearness, Sample, question_between};
use super::partition::{DEEPEST, DEPTHS, Partition, Reach, Tuned};
use super::probe::{Near, compared, least};
use super::search::Search;
use super::signs::{Centre, QuerySigns};

/// Questions that are asked to find out.
const QUESTIONS: usize = 1024;

/// Of the misses that the recall target allows, the share that these questions may have. The target is held against a scan,
/// which has misses of its own; and lists are tuned on what is stored, while real questions may be a little harder.
const MISSES: f64 = 0.5;

/// A question is a vector that is stored; what is nearer to it than this, as a share of how far two vectors are from each
/// other, says the same and is no answer. Otherwise, where each thing is told often, all answers would be in the first
/// lists, and those of a question about something else are not.
const SAME: f32 = 0.15;

/// How many may say the same.
const SAME_MAX: usize = 160;

/// About `count` questions like those that may come, each a vector and a share of another. `None` when told to stop.
pub(super) fn questions<T: Clone>(
    arena: &Rows<T>,
    count: usize,
    share: f32,
    seed: u64,
    signal: &Signal,
) -> Option<Vec<Query>> {
    let sample = Sample::draw(arena, count, seed, signal)?;
    let question = |index| {
        let other = (index + 1) % sample.len();
        question_between(sample.get(index), sample.get(other), share, arena.dimension)
    };
    Some((0..sample.len()).map(question).collect())
}

/// Asks for what is near to stored vectors, finds it by a scan, and looks how far its lists are. `None` when told to
/// stop.
pub(super) fn tune<T: Clone>(
    arena: &Rows<T>,
    partition: &Partition,
    signal: &Signal,
) -> Option<Tuned<Reach>> {
    let questions = questions(arena, QUESTIONS, 0.0, u64::from(partition.epoch()), signal)?;
    let (lists, chunks) = (partition.lists(), arena.chunks());
    let same = same(partition.clusters().centre());
    let search = |query| Search { rows: arena, chunks: &chunks, query, limit: DEEPEST };
    // For each depth, how much further than the last of the best in the first lists the list of each answer is.
    let mut needed = [const { Vec::new() }; DEPTHS.len()];
    for query in &questions {
        if !signal.goes_on() {
            return None;
        }
        let Began { others, least } = search(query).begin(partition, same);
        let mut cosines = vec![f32::INFINITY; partition.clusters().len()];
        for (cosine, list) in &others {
            cosines[*list as usize] = *cosine;
        }
        let answers =
            answers(arena, query, DEEPEST + SAME_MAX).into_iter().filter(|(cosine, _)| *cosine < same);
        for (place, (_, row)) in answers.enumerate() {
            // What is in no list is found beside them, and what is in the first at once.
            let list = lists.get(row as usize).copied().unwrap_or(u32::MAX);
            let cosine = cosines.get(list as usize).copied().unwrap_or(f32::INFINITY);
            for ((needed, least), _) in
                needed.iter_mut().zip(least).zip(DEPTHS).filter(|(_, depth)| place < *depth)
            {
                needed.push(least - cosine);
            }
        }
    }
    let misses = MISSES * (1.0 - f64::from(arena.settings.recall_target.get()));
    let margins = needed.map(|needed| enough(needed, misses));
    let (mut probes, mut scanned) = ([0; DEPTHS.len()], [0; DEPTHS.len()]);
    for query in &questions {
        if !signal.goes_on() {
            return None;
        }
        let Began { others, least } = search(query).begin(partition, same);
        for (depth, (margin, least)) in margins.iter().zip(least).enumerate() {
            let Some(margin) = margin else { continue };
            for (_, list) in others.iter().filter(|(cosine, _)| *cosine >= least - margin) {
                probes[depth] += 1;
                scanned[depth] += partition.list(*list).0.len();
            }
        }
    }
    let first = partition.first().min(partition.clusters().len());
    Some(std::array::from_fn(|depth| {
        let (margin, probes) = (margins[depth]?, first + probes[depth] / questions.len().max(1));
        // Otherwise a scan takes hardly longer, and finds all.
        (scanned[depth] <= questions.len() * partition.len() / 2).then_some(Reach { margin, probes })
    }))
}

/// What is known of a question when the first lists have been looked into.
struct Began {
    /// The lists beyond the first.
    others: Vec<Nearness>,
    /// For each depth, the cosine of the last of the best in the first lists.
    least: [f32; DEPTHS.len()],
}

impl<T: Clone> Search<'_, T> {
    fn begin(&self, partition: &Partition, same: f32) -> Began {
        let kernel = self.rows.kernel;
        let (first, others) = partition.clusters().nearest_first(kernel, self.query, partition.first());
        let mut near = Near::new(self.rows.dimension);
        near.look_into(kernel, partition, &first, &mut QuerySigns::new(kernel, self.query));
        let mut cosines = self.nearest_cosines(&near, compared(DEEPEST + SAME_MAX));
        cosines.retain(|cosine| *cosine < same);
        Began { others, least: DEPTHS.map(|depth| least(&mut cosines, depth)) }
    }
}

/// The cosine from which on two vectors say the same. The mean of the cosines of all pairs is the square of their mean.
fn same(centre: &Centre) -> f32 {
    1.0 - SAME * (1.0 - centre.mean().iter().map(|number| number * number).sum::<f32>())
}

/// The least that is enough for all of these but this share; no less than -2, which no list is within. `None` if there is
/// nothing to tell by.
fn enough(mut needed: Vec<f32>, misses: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let misses = (misses * needed.len() as f64) as usize;
    needed.sort_unstable_by(|a, b| b.total_cmp(a));
    needed.get(misses).map(|margin| margin.max(-2.0))
}

/// What a scan finds, and how near it is, the best first.
pub(super) fn answers<T: Clone>(arena: &Rows<T>, query: &Query, limit: usize) -> Vec<(f32, u32)> {
    let search = Search { rows: arena, chunks: &arena.chunks(), query, limit };
    let wanted = arena.candidates_wanted(limit);
    let mut candidates = search.candidates(wanted, |_| true, |_| {});
    let mut answers = Vec::new();
    search
        .visit(&mut candidates, |id, chunk, row| answers.push((chunk.cosine(arena.kernel, query, row), id)));
    answers.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    answers.truncate(limit);
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_enough_for_all_but_the_share_that_may_be_missed() {
        let needed: Vec<f32> = (0_u8..100).map(|needed| f32::from(needed) / 100.0).collect();
        assert_eq!(enough(needed.clone(), 0.0), Some(0.99));
        assert_eq!(enough(needed.clone(), 0.05), Some(0.94));
        assert_eq!(enough(needed, 0.999), Some(0.0));
        assert_eq!(enough(vec![f32::NEG_INFINITY; 9], 0.1), Some(-2.0));
        assert_eq!(enough(Vec::new(), 0.1), None);
    }
}
