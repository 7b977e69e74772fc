//! The links of a graph as they are in a file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::build::Builder;
use super::slots::{NONE, numbers, put};
use super::{Graph, LEVEL_MAX, LINKS, LINKS_LOWEST};
use crate::vector::partition::Tuned;

/// The links between nodes that are named by numbers from 0 on.
#[derive(Debug, PartialEq)]
pub(in crate::vector) struct Links {
    pub(in crate::vector) tuned: Tuned,
    /// The node that walks begin at.
    pub(in crate::vector) entry: u32,
    /// Of each node: its level, and for each level from the lowest on how many links there are, and those.
    pub(in crate::vector) words: Vec<u32>,
}

impl Links {
    /// Whether these are the links of so many nodes, all between them.
    pub(in crate::vector) fn are_sound(&self, nodes: usize) -> bool {
        let mut read = 0;
        let are_sound = self.nodes().all(|levels| {
            read += 1;
            levels.iter().zip(0..).all(|(links, level)| {
                links.len() <= if level == 0 { LINKS_LOWEST } else { LINKS }
                    && links.iter().all(|link| (*link as usize) < nodes)
            })
        });
        are_sound && read == nodes && self.len() == self.words.len() && (self.entry as usize) < nodes.max(1)
    }

    /// The links of each node, level by level. Ends where it is not understood.
    fn nodes(&self) -> impl Iterator<Item = Vec<&[u32]>> {
        let mut rest = &self.words[..];
        std::iter::from_fn(move || {
            let (levels, after) = node(rest)?;
            rest = after;
            Some(levels)
        })
    }

    /// How many of the words are understood.
    fn len(&self) -> usize {
        self.nodes().map(|levels| 1 + levels.iter().map(|links| 1 + links.len()).sum::<usize>()).sum()
    }
}

fn node(words: &[u32]) -> Option<(Vec<&[u32]>, &[u32])> {
    let (level, mut rest) = words.split_first()?;
    if *level > LEVEL_MAX {
        return None;
    }
    let mut levels = Vec::new();
    for _ in 0..=*level {
        let (count, after) = rest.split_first()?;
        let (links, after) = after.split_at_checked(*count as usize)?;
        levels.push(links);
        rest = after;
    }
    Some((levels, rest))
}

impl Graph {
    /// The links between the rows that have a place, [`NONE`] for those without.
    pub(in crate::vector) fn links_of(&self, places: &[u32]) -> Links {
        let view = self.view();
        let place = |row: u32| places.get(row as usize).copied().filter(|place| *place != NONE);
        let mut words = Vec::new();
        let mut entry = (0, 0);
        for (row, place_of) in (0..).zip(places).filter(|(_, place)| **place != NONE) {
            let level = view.level(row);
            entry = entry.max((level, *place_of));
            words.push(level);
            for level in 0..=level {
                let count = words.len();
                words.push(0);
                words.extend(numbers(view.links(row, level)).filter_map(place));
                words[count] = u32::try_from(words.len() - count - 1).unwrap_or(NONE);
            }
        }
        Links { tuned: self.tuned(), entry: entry.1, words }
    }
}

impl Builder {
    /// A graph of these links, between the row at each place; of rows that are gone there is [`NONE`]. `stamps` are those
    /// of the rows, and rows stamped with `epoch` are not in the graph.
    pub(in crate::vector) fn of_links(links: &Links, rows: &[u32], stamps: Vec<u32>, epoch: u32) -> Self {
        let mut builder = Self::new();
        let row = |place: u32| rows.get(place as usize).copied().filter(|row| *row != NONE);
        let mut entry = None;
        // First all nodes, so that no link leads to one that is not there yet.
        for (levels, row) in links.nodes().zip(rows) {
            if *row != NONE {
                let above = u32::try_from(levels.len() - 1).unwrap_or(0);
                builder.reserve_levels(*row, above);
                entry = entry.max(Some((above, *row)));
            }
        }
        let view = builder.graph.view();
        for (levels, from) in links.nodes().zip(rows).filter(|(_, row)| **row != NONE) {
            for (links, level) in levels.into_iter().zip(0..) {
                let links: Vec<u32> = links.iter().filter_map(|place| row(*place)).collect();
                put(view.links(*from, level), &links);
            }
        }
        builder.stamps = stamps;
        builder.graph.set_tuned(links.tuned);
        builder.graph.epoch.store(epoch, Ordering::SeqCst);
        if let Some((_, entry)) = row(links.entry).map(|row| (0, row)).or(entry) {
            builder.graph.entry.store(entry, Ordering::Release);
        }
        builder
    }

    pub(in crate::vector) fn graph(&self) -> Arc<Graph> {
        Arc::clone(&self.graph)
    }
}
