//! How many lists must be looked at.

use super::arena::Rows;
use super::background::Signal;
use super::chunk::Query;
use super::clusters::{Sample, question_between};
use super::partition::{DEPTHS, Partition, Tuned};
use super::search::Search;

/// Questions that are asked to find out.
const QUESTIONS: usize = 1024;

/// How much of a second vector a question has.
const SHARE: f32 = 0.7;

/// Of the misses that the recall target allows, the share that these questions may have. Real ones are not made of what
/// is stored: a thousand of them, set aside, missed up to 1.6 times as much, among 10,000 to 100,000 memories and at
/// targets of 0.98 to 0.995. The rest is for the luck of the draw.
const MISSES: f64 = 0.33;

/// From so many vectors on that share becomes less, as they become more: real questions missed ten times as much among a
/// million, 4.2 % at a target of 0.99.
const MISSES_ROWS: f64 = 100_000.0;

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

/// Asks questions like those that may come, finds their answers by a scan, and looks in which lists these are, from
/// the nearest list on. `None` when told to stop.
pub(super) fn tune<T: Clone>(arena: &Rows<T>, partition: &Partition, signal: &Signal) -> Option<Tuned> {
    let questions = questions(arena, QUESTIONS, SHARE, u64::from(partition.epoch()), signal)?;
    let clusters = partition.clusters();
    let lists = partition.lists();
    // For each depth, how many answers are in the nearest list, in the second nearest and so on.
    let mut found = vec![[0_usize; DEPTHS.len()]; clusters.len()];
    let mut scanned = vec![0_usize; clusters.len()];
    for query in &questions {
        if !signal.goes_on() {
            return None;
        }
        let mut ranks = vec![0; clusters.len()];
        for (rank, list) in clusters.nearest_to(arena.kernel, query, clusters.len()).into_iter().enumerate() {
            ranks[list as usize] = rank;
            scanned[rank] += partition.list(list).0.len();
        }
        for (place, row) in answers(arena, query).into_iter().enumerate() {
            // What is in no list is found beside them.
            let list = lists.get(row as usize).copied().unwrap_or(u32::MAX);
            let rank = ranks.get(list as usize).copied().unwrap_or(0);
            for (found, _) in found[rank].iter_mut().zip(DEPTHS).filter(|(_, depth)| place < *depth) {
                *found += 1;
            }
        }
    }
    let all: usize = scanned.iter().sum();
    let misses = MISSES * (MISSES_ROWS / arena.count().max(1) as f64).min(1.0);
    Some(std::array::from_fn(|depth| {
        let found: Vec<usize> = found.iter().map(|found| found[depth]).collect();
        enough(&found, 1.0 - misses * (1.0 - f64::from(arena.settings.recall_target.get())))
            // Otherwise a scan takes hardly longer, and finds all.
            .filter(|probes| scanned[..*probes].iter().sum::<usize>() <= all / 2)
    }))
}

/// How many of the first lists have this share of all.
fn enough(found: &[usize], share: f64) -> Option<usize> {
    let all: usize = found.iter().sum();
    let mut sum = 0;
    let is_enough = |found: &usize| {
        sum += found;
        sum as f64 >= share * all as f64
    };
    found.iter().position(is_enough).map(|last| last + 1)
}

/// What a scan finds, the best first.
pub(super) fn answers<T: Clone>(arena: &Rows<T>, query: &Query) -> Vec<u32> {
    let limit = DEPTHS[DEPTHS.len() - 1];
    let search = Search { rows: arena, chunks: &arena.chunks(), query, limit };
    let wanted = arena.candidates_wanted(limit);
    let mut candidates = search.candidates(wanted, |_| true, |_| {});
    let mut answers = Vec::new();
    search
        .visit(&mut candidates, |id, chunk, row| answers.push((chunk.cosine(arena.kernel, query, row), id)));
    answers.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    answers.into_iter().take(limit).map(|(_, row)| row).collect()
}
