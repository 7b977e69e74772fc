//! What the graph must keep, whatever is put in.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::build::Builder;
use super::slots::{NONE, Slots, numbers, put};
use super::{LINKS, LINKS_LOWEST, View};
use crate::embedding::Precision;
use crate::index::{IndexMode, IndexSettings};
use crate::vector::background::Signal;
use crate::vector::chunk::Query;
use crate::vector::search::Search;
use crate::vector::tests::{noise_vector, stored};
use crate::vector::{RowId, VectorArena};

const DIMENSION: usize = 24;

type Arena = VectorArena<u64>;

fn arena() -> Arena {
    let settings = IndexSettings { mode: IndexMode::Scan, ..IndexSettings::default() };
    VectorArena::new(DIMENSION, Precision::Int8, settings)
}

/// Vectors around a few, some of them equal.
fn vector(seed: u64) -> Vec<f32> {
    let (near, own) = (noise_vector(seed % 5, DIMENSION), noise_vector(100 + seed % 150, DIMENSION));
    near.iter().zip(own).map(|(near, own)| near + 0.7 * own).collect()
}

fn fill(builder: &mut Builder, arena: &Arena) {
    builder.fill(arena.rows(), &Signal::default(), || ()).unwrap();
}

/// The links of all nodes on a level.
fn links(builder: &Builder, view: &View, level: u32) -> Vec<(u32, Vec<u32>)> {
    let nodes = (0_u32..).zip(&builder.stamps).filter(|(_, stamp)| **stamp != NONE);
    nodes.map(|(row, _)| (row, numbers(view.links(row, level)).collect())).collect()
}

fn assert_sound(builder: &Builder) {
    let view = builder.graph.view();
    let rows = builder.stamps.len();
    let nodes: BTreeSet<u32> = links(builder, &view, 0).into_iter().map(|(row, _)| row).collect();
    assert_eq!(nodes.len(), builder.graph.nodes());
    for level in 0..=super::LEVEL_MAX {
        for (row, links) in links(builder, &view, level) {
            assert!(links.len() <= if level == 0 { LINKS_LOWEST } else { LINKS });
            assert_eq!(links.iter().collect::<BTreeSet<_>>().len(), links.len(), "{row} is linked twice");
            for link in links {
                assert!((link as usize) < rows && link != row && nodes.contains(&link), "{row} to {link}");
                assert!(view.level(link) >= level, "{row} to {link}, which is not on level {level}");
            }
        }
    }
}

/// Of the nodes, those that no way leads to.
fn unreachable(builder: &Builder) -> usize {
    let view = builder.graph.view();
    let mut ahead: Vec<u32> = view.entry.into_iter().collect();
    let mut seen: BTreeSet<u32> = ahead.iter().copied().collect();
    while let Some(row) = ahead.pop() {
        for level in 0..=view.level(row) {
            ahead.extend(numbers(view.links(row, level)).filter(|link| seen.insert(*link)));
        }
    }
    builder.graph.nodes() - seen.len()
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Remove(usize),
    Replace(usize, u64),
    Fill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_u64..10_000).prop_map(Step::Insert),
        1 => (0_usize..1000).prop_map(Step::Remove),
        1 => (0_usize..1000, 0_u64..10_000).prop_map(|(row, seed)| Step::Replace(row, seed)),
        1 => Just(Step::Fill),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn links_lead_to_nodes_of_their_level_whatever_comes_goes_and_changes(steps in steps()) {
        let (arena, mut builder) = (arena(), Builder::new());
        let mut rows: Vec<RowId> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(seed) => rows.push(arena.insert(&stored(&vector(seed), Precision::Int8), seed)),
                Step::Remove(_) | Step::Replace(..) if rows.is_empty() => {}
                Step::Remove(row) => {
                    let row = rows.swap_remove(row % rows.len());
                    arena.remove(row);
                }
                Step::Replace(row, seed) => {
                    arena.replace(rows[row % rows.len()], &stored(&vector(seed), Precision::Int8), seed);
                }
                Step::Fill => fill(&mut builder, &arena),
            }
        }
        fill(&mut builder, &arena);
        assert_sound(&builder);
        prop_assert!(builder.graph.nodes() >= rows.len());
        prop_assert_eq!(arena.rows().filled_since(builder.graph.epoch()), 0);
    }
}

#[test]
fn a_way_leads_to_each_node_and_the_nearest_are_found() {
    const COUNT: u64 = 3000;
    let (arena, mut builder) = (arena(), Builder::new());
    for seed in 0..COUNT {
        arena.insert(&stored(&noise_vector(seed, DIMENSION), Precision::Int8), seed);
    }
    fill(&mut builder, &arena);
    assert_sound(&builder);
    assert_eq!(unreachable(&builder), 0);
    let (view, chunks) = (builder.graph.view(), arena.rows().chunks());
    let mut found = 0;
    for seed in 0..100 {
        let query = Query::new(&stored(&noise_vector(COUNT + seed, DIMENSION), Precision::Int8));
        let (exact, _) = arena.search(&query, 10, true, true, |_| true, |item| *item);
        let search = Search { rows: arena.rows(), chunks: &chunks, query: &query, limit: 10 };
        let near: Vec<u64> = search.walk(&view, 100).into_iter().map(|near| u64::from(near.row)).collect();
        assert_eq!(near.len(), 100);
        found += exact.iter().filter(|found| near.contains(&found.item)).count();
    }
    assert!(found > 980, "{found} of 1000");
}

#[test]
fn a_view_does_not_know_what_came_later() {
    let slots = Slots::new(2);
    slots.reserve(0);
    let view = slots.view();
    slots.reserve(5000);
    assert!(view.get(5000).is_empty());
    put(view.get(7), &[1, 2, 3]);
    assert_eq!(numbers(slots.view().get(7)).collect::<Vec<_>>(), [1, 2]);
    put(view.get(7), &[4]);
    assert_eq!(numbers(view.get(7)).collect::<Vec<_>>(), [4]);
}
