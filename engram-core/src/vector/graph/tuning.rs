//! How many of the nearest must be kept on a walk.

use super::Graph;
use crate::vector::arena::Rows;
use crate::vector::background::Signal;
use crate::vector::chunk::Query;
use crate::vector::partition::{DEEPEST, DEPTHS, Partition, Tuned};
use crate::vector::search::Search;
use crate::vector::tuning::{answers, questions};

/// What is tried, the fewest first.
const EFS: [usize; 14] = [16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768];

/// Questions that are asked to find out.
const QUESTIONS: usize = 256;

/// How much of a second vector a question has.
const SHARE: f32 = 0.3;

/// Of the misses that the recall target allows, the share that these questions may have. A thousand real ones, set aside,
/// missed up to 2.7 times as much, among 10,000 and 30,000 memories.
const MISSES: f64 = 0.33;

/// A question, what a scan finds, and what is compared beside the graph.
struct Asked {
    query: Query,
    answers: Vec<u32>,
    beside: Vec<u32>,
}

/// Asks questions, and looks which is enough to find what a scan finds. `None` when told to stop.
pub(super) fn tune<T: Clone>(
    rows: &Rows<T>,
    graph: &Graph,
    partition: &Partition,
    signal: &Signal,
) -> Option<Tuned> {
    let (view, chunks) = (graph.view(), rows.chunks());
    let mut asked = Vec::new();
    for query in questions(rows, QUESTIONS, SHARE, u64::from(graph.epoch()), signal)? {
        if !signal.goes_on() {
            return None;
        }
        let search = Search { rows, chunks: &chunks, query: &query, limit: DEPTHS[0] };
        let answers = answers(rows, &query, DEEPEST).into_iter().map(|(_, row)| row).collect();
        let beside = search.listed(partition);
        asked.push(Asked { query, answers, beside });
    }
    let mut tuned = [None; DEPTHS.len()];
    for ef in EFS {
        let mut misses = [0_usize; DEPTHS.len()];
        for Asked { query, answers, beside } in &asked {
            if !signal.goes_on() {
                return None;
            }
            let search = Search { rows, chunks: &chunks, query, limit: DEPTHS[0] };
            let mut compared = search.compared(&view, ef, beside);
            compared.sort_unstable();
            for (place, _) in
                answers.iter().enumerate().filter(|(_, row)| compared.binary_search(row).is_err())
            {
                for (misses, _) in misses.iter_mut().zip(DEPTHS).filter(|(_, depth)| place < *depth) {
                    *misses += 1;
                }
            }
        }
        let target = f64::from(rows.settings.recall_target.get());
        for ((tuned, misses), depth) in tuned.iter_mut().zip(misses).zip(DEPTHS) {
            let all: usize = asked.iter().map(|asked| asked.answers.len().min(depth)).sum();
            if tuned.is_none() && misses as f64 <= MISSES * (1.0 - target) * all as f64 {
                *tuned = Some(ef);
            }
        }
        if tuned.iter().all(Option::is_some) {
            break;
        }
    }
    Some(tuned)
}
