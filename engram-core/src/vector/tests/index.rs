//! What every way to find candidates must keep, with sizes that a test has time for; `ENGRAM_VECTORS` sets another.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::{noise, stored};
use crate::embedding::Precision;
use crate::index::{IndexMode, IndexSettings, Route};
use crate::vector::{RowId, VectorArena, chunk::Query};

pub(in crate::vector) const DIMENSION: usize = 160;

const MODES: [IndexMode; 3] = [IndexMode::Scan, IndexMode::Ivf, IndexMode::Hnsw];

type Arena = VectorArena<u64>;

fn count() -> u64 {
    std::env::var("ENGRAM_VECTORS").map_or(10_000, |count| count.parse().expect("a number of vectors"))
}

fn arena(mode: IndexMode) -> Arena {
    let settings = IndexSettings { mode, ..IndexSettings::default() };
    VectorArena::new(DIMENSION, Precision::Int8, settings)
}

/// A vector near one of 200 centres, which lie near a few: what texts on a number of topics have. Always the same for
/// the same seed.
pub(in crate::vector) fn topical(seed: u64) -> Vec<f32> {
    let (topic, field) = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40, 1 << 41);
    let topic = topic % 200;
    let (mut field, mut topic) = (noise(field + topic % 7), noise((1 << 40) + topic));
    let mut own = noise((1 << 42) + seed);
    (0..DIMENSION).map(|_| 0.5 * field() + 0.7 * topic() + 0.9 * own()).collect()
}

/// One of many that say nearly the same as one of ten: a cosine of about 0.9985.
fn repeated(seed: u64) -> Vec<f32> {
    let mut own = noise((1 << 43) + seed);
    topical(seed % 10).into_iter().map(|number| number + 0.07 * own()).collect()
}

/// Three in ten say the same.
fn mixed(seed: u64) -> Vec<f32> {
    if seed % 10 < 3 { repeated(seed) } else { topical(seed) }
}

fn fill(arena: &Arena, items: impl Iterator<Item = u64>, vector: impl Fn(u64) -> Vec<f32>) {
    for item in items {
        put(arena, item, &vector(item));
    }
}

fn put(arena: &Arena, item: u64, vector: &[f32]) -> RowId {
    arena.insert(&stored(vector, Precision::Int8), item)
}

fn query(arena: &Arena, vector: &[f32]) -> Query {
    arena.query(&vector.into()).unwrap()
}

/// The ten best, and how they were found.
pub(in crate::vector) fn ten(
    arena: &Arena,
    vector: &[f32],
    exact: bool,
    accept: impl Fn(&u64) -> bool,
) -> (Vec<u64>, Route) {
    let (found, route) = arena.search(&query(arena, vector), 10, exact, false, accept, |item| *item);
    assert!(found.is_sorted_by(|a, b| a.score > b.score || (a.score >= b.score && a.item > b.item)));
    (found.into_iter().map(|found| found.item).collect(), route)
}

/// Of what an exact search finds, the share that is found.
fn recall(arena: &Arena, queries: impl Iterator<Item = Vec<f32>>, accept: impl Fn(&u64) -> bool) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for vector in queries {
        let (expected, _) = ten(arena, &vector, true, &accept);
        let (found, _) = ten(arena, &vector, false, &accept);
        // Who is asked about before and who after changes nothing.
        let (wide, _) = arena.search(&query(arena, &vector), 10, false, true, &accept, |item| *item);
        assert!(wide.iter().map(|found| found.item).eq(found.iter().copied()));
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().all(&accept));
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len(), "one is found twice");
        hits += expected.iter().filter(|item| found.contains(item)).count();
        all += expected.len();
    }
    hits as f64 / all as f64
}

/// Queries that no memory is equal to.
fn questions(count: u64) -> impl Iterator<Item = Vec<f32>> {
    (0..count).map(|seed| topical((1 << 30) + seed))
}

fn assert_mode(mode: IndexMode, route: Route) {
    match mode {
        IndexMode::Scan => assert_eq!(route, Route::Scan),
        IndexMode::Auto | IndexMode::Ivf => assert!(matches!(route, Route::Ivf { .. }), "{route:?}"),
        IndexMode::Hnsw => assert!(matches!(route, Route::Hnsw { .. }), "{route:?}"),
    }
}

pub(in crate::vector) fn assert_each_finds_itself(
    arena: &Arena,
    items: impl Iterator<Item = (u64, Vec<f32>)>,
) {
    let missing = |(item, vector): &(u64, Vec<f32>)| !ten(arena, vector, false, |_| true).0.contains(item);
    let missing: Vec<u64> = items.filter(missing).map(|(item, _)| item).collect();
    let (count, first) = (missing.len(), missing.first());
    assert_eq!(count, 0, "that do not find themselves, the first {first:?}");
}

#[test]
fn each_finds_itself_among_near_duplicates_and_after_half_were_exchanged() {
    for mode in MODES {
        let arena = arena(mode);
        let rows: Vec<_> = (0..count()).map(|item| put(&arena, item, &mixed(item))).collect();
        // While the index is being made, and when it is there.
        assert_each_finds_itself(&arena, (0..count()).step_by(37).map(|item| (item, mixed(item))));
        arena.settle();
        // Where so many say nearly the same, a graph may be of no use.
        let route = ten(&arena, &mixed(0), false, |_| true).1;
        assert!(mode != IndexMode::Scan || route == Route::Scan);
        assert!(route != Route::Exact);
        assert_each_finds_itself(&arena, (0..count()).map(|item| (item, mixed(item))));
        for item in (0..count()).step_by(2) {
            assert_eq!(arena.remove(rows[usize::try_from(item).unwrap()]), Some(item));
        }
        // In the other order: each gets a row of another.
        for item in (0..count()).rev().step_by(2).map(|item| item - item % 2) {
            put(&arena, item, &mixed(item));
        }
        assert_each_finds_itself(&arena, (0..count()).step_by(8).map(|item| (item, mixed(item))));
        arena.settle();
        assert_each_finds_itself(&arena, (0..count()).step_by(7).map(|item| (item, mixed(item))));
    }
}

#[test]
fn what_has_changed_since_the_graph_was_made_is_put_in() {
    let arena = arena(IndexMode::Hnsw);
    let rows: Vec<_> = (0..count()).map(|item| put(&arena, item, &topical(item))).collect();
    arena.settle();
    let changed = || (0..count()).step_by(16).map(|item| (count() + item, topical(count() + item)));
    for ((item, vector), row) in changed().zip(rows.iter().step_by(16)) {
        arena.replace(*row, &stored(&vector, Precision::Int8), item);
    }
    let added = || (3 * count()..3 * count() + 500).map(|item| (item, topical(item)));
    added().for_each(|(item, vector)| assert!(!rows.contains(&put(&arena, item, &vector))));
    assert_each_finds_itself(&arena, changed().chain(added()));
    arena.settle();
    let index = arena.index_status();
    // A graph takes in what the lists do not yet.
    assert_eq!((index.tail, index.nodes), (changed().count() + 500, rows.len() + 500));
    assert_each_finds_itself(&arena, changed().chain(added()));
    assert_mode(IndexMode::Hnsw, ten(&arena, &topical(0), false, |_| true).1);
}

#[test]
fn what_has_changed_since_the_lists_were_made_is_found_beside_them() {
    let arena = arena(IndexMode::Ivf);
    let rows: Vec<_> = (0..count()).map(|item| put(&arena, item, &topical(item))).collect();
    arena.settle();
    assert_eq!(arena.index_status().tail, 0);
    // So few that they are not put into the lists.
    let changed = || (0..count()).step_by(16).map(|item| (count() + item, topical(count() + item)));
    for ((item, vector), row) in changed().zip(rows.iter().step_by(16)) {
        arena.replace(*row, &stored(&vector, Precision::Int8), item);
    }
    let added = || (3 * count()..3 * count() + 500).map(|item| (item, topical(item)));
    added().for_each(|(item, vector)| assert!(!rows.contains(&put(&arena, item, &vector))));
    arena.settle();
    let index = arena.index_status();
    assert_eq!(index.tail, changed().count() + 500);
    assert_eq!(index.rows, rows.len() + 500);
    assert!(matches!(index.route, Route::Ivf { .. }), "{index:?}");
    assert_each_finds_itself(&arena, changed().chain(added()));
}

#[test]
fn what_an_exact_search_finds_is_found() {
    for mode in MODES {
        let arena = arena(mode);
        fill(&arena, 0..count(), topical);
        arena.settle();
        assert_mode(mode, ten(&arena, &topical(0), false, |_| true).1);
        let recall = recall(&arena, questions(300), |_| true);
        assert!(recall >= 0.985, "{mode}: {recall}");
    }
}

/// One of a continuum, with a few directions.
fn gradual(seed: u64) -> Vec<f32> {
    let mut own = noise((1 << 45) + seed);
    let mut vector: Vec<f32> = (0..DIMENSION).map(|_| 0.5 * own()).collect();
    for direction in 0..12 {
        let (mut direction, part) = (noise((1 << 46) + direction), own());
        for number in &mut vector {
            *number += part * direction();
        }
    }
    vector
}

#[test]
fn a_question_takes_the_more_lists_the_less_is_near_it() {
    let arena = arena(IndexMode::Ivf);
    fill(&arena, 0..count(), gradual);
    arena.settle();
    let lists = |vector: Vec<f32>| ten(&arena, &vector, false, |_| true).1.probes().unwrap();
    let near: usize = (0..50).map(|item| lists(gradual(item * 7))).sum();
    let far = |seed: u64| {
        let mut number = noise((1 << 44) + seed);
        (0..DIMENSION).map(|_| number()).collect()
    };
    let far: usize = (0..50).map(|seed| lists(far(seed))).sum();
    assert!(far > 2 * near, "{far} and {near} lists for 50 questions each");
}

/// After a restart all is compared exactly until there are signs: the same question is to find the same.
#[test]
fn a_scan_gives_other_ids_than_an_exact_search_to_less_than_one_question_in_a_hundred() {
    let arena = arena(IndexMode::Scan);
    fill(&arena, 0..count(), topical);
    arena.settle();
    let asked = questions(400);
    let others = asked.filter(|question| {
        let (expected, (found, route)) =
            (ten(&arena, question, true, |_| true).0, ten(&arena, question, false, |_| true));
        assert_eq!(route, Route::Scan);
        found != expected
    });
    let others = others.count();
    assert!(others < 4, "{others} of 400");
}

#[test]
fn a_filter_thins_out_nothing() {
    for mode in MODES {
        let arena = arena(mode);
        fill(&arena, 0..count(), topical);
        arena.settle();
        for one_in in [2, 20, 1000] {
            let recall = recall(&arena, questions(60), |item| item % one_in == 0);
            assert!(recall >= 0.985, "{mode}, one in {one_in}: {recall}");
        }
        // Fewer than ten match.
        assert_eq!(ten(&arena, &topical(3), false, |item| *item < 3).0.len(), 3);
        assert_eq!(ten(&arena, &topical(3), false, |_| false).0.len(), 0);
    }
}

#[test]
fn signs_are_as_good_where_all_vectors_have_much_in_common() {
    let mut offset = noise(77);
    let offset: Vec<f32> = (0..DIMENSION).map(|_| 4.0 * offset()).collect();
    let shifted = |vector: Vec<f32>| -> Vec<f32> {
        vector.iter().zip(&offset).map(|(number, offset)| number + offset).collect()
    };
    for mode in MODES {
        let arena = arena(mode);
        fill(&arena, 0..count(), |item| shifted(topical(item)));
        arena.settle();
        let recall = recall(&arena, questions(200).map(shifted), |_| true);
        assert!(recall >= 0.985, "{mode}: {recall}");
    }
}

#[test]
fn of_equal_vectors_the_newest_are_found_however_many_there_are() {
    for mode in MODES {
        let arena = arena(mode);
        let vector = |item: u64| if item.is_multiple_of(3) { topical(0) } else { topical(item) };
        fill(&arena, 0..count(), vector);
        arena.settle();
        let (found, route) = ten(&arena, &topical(0), false, |_| true);
        assert!(route != Route::Exact);
        assert_eq!(found, ten(&arena, &topical(0), true, |_| true).0);
        assert!(found[0] > count() - 4);
    }
}

#[test]
fn what_is_found_is_there_and_accepted_while_the_index_is_made_and_all_changes() {
    const FIRST: u64 = 1 << 20;
    let seed = |item: u64| item % FIRST;
    for mode in MODES {
        let arena = arena(mode);
        // An item is the number of its vector, plus how often it was replaced, in steps.
        let rows: Vec<_> = (0..count()).map(|item| (put(&arena, item, &topical(item)), item)).collect();
        let (is_done, searches) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for (row, item) in rows.iter().filter(|(_, item)| item % 3 == 0) {
                    arena.replace(*row, &stored(&topical(*item), Precision::Int8), item + FIRST);
                }
                for (row, _) in rows.iter().filter(|(_, item)| item % 3 == 1) {
                    arena.remove(*row);
                }
                fill(&arena, count()..count() * 3 / 2, topical);
                while searches.load(Ordering::Relaxed) < 100 {
                    thread::yield_now();
                }
                is_done.store(true, Ordering::Relaxed);
            });
            for start in [0, 1] {
                let (arena, is_done, searches) = (&arena, &is_done, &searches);
                scope.spawn(move || {
                    // Those that stay as they are, under a filter that lets in half of all.
                    let mut item = start * 3 + 2;
                    while !is_done.load(Ordering::Relaxed) {
                        let is_same = |other: &u64| seed(*other) % 2 == item % 2;
                        let (found, _) = ten(arena, &topical(item), false, is_same);
                        assert_eq!((found.len(), found[0]), (10, item));
                        assert!(found.iter().all(is_same));
                        item = (item + 42) % (count() - 3) / 3 * 3 + 2;
                        searches.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let last = |item: u64| if item < count() && item.is_multiple_of(3) { item + FIRST } else { item };
        let stay = (0..count() * 3 / 2).filter(|item| *item >= count() || item % 3 != 1);
        assert_each_finds_itself(&arena, stay.clone().step_by(16).map(|item| (last(item), topical(item))));
        arena.settle();
        assert_eq!(arena.len(), stay.clone().count());
        assert_each_finds_itself(&arena, stay.step_by(5).map(|item| (last(item), topical(item))));
    }
}

#[test]
fn few_vectors_and_those_in_f32_are_compared_exactly() {
    for (mode, precision, count) in
        [(IndexMode::Ivf, Precision::Int8, 1000), (IndexMode::Auto, Precision::F32, 10_000)]
    {
        let settings = IndexSettings { mode, ..IndexSettings::default() };
        let arena = VectorArena::new(DIMENSION, precision, settings);
        for item in 0..count {
            arena.insert(&stored(&topical(item), precision), item);
        }
        arena.settle();
        assert_eq!(ten(&arena, &topical(1), false, |_| true).1, Route::Exact);
    }
}

#[test]
fn an_arena_ends_while_its_index_is_made() {
    for mode in MODES {
        let arena = arena(mode);
        fill(&arena, 0..count(), topical);
        drop(arena);
    }
}
