//! How an arena takes an index that was in the file.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::collect::crc;
use super::format::Index;
use crate::vector::arena::Rows;
use crate::vector::background::Signal;
use crate::vector::chunk::CHUNK_ROWS;
use crate::vector::clusters::Clusters;
use crate::vector::graph::{Builder, NONE};
use crate::vector::keeper::Lists;
use crate::vector::partition::Partition;
use crate::vector::signs::Centre;

/// What the one who keeps the index must know of it.
pub(in crate::vector) struct Adopted {
    pub(in crate::vector) lists: Lists,
    pub(in crate::vector) graph: Option<Builder>,
    pub(in crate::vector) changes: u64,
}

/// Uses lists and graph for the rows that they are of. The others count as filled since, and are looked at beside them.
/// Says how many rows it knew; or why it does not count.
pub(super) fn adopt<T: Clone>(arena: &Rows<T>, name: fn(&T) -> u64, index: Index) -> Result<usize, String> {
    let places: HashMap<u64, u32> = (0..).zip(&index.rows).map(|(place, row)| (row.lsn, place)).collect();
    let changes = arena.changes.load(Ordering::Relaxed);
    let epoch = arena.epoch.fetch_add(1, Ordering::SeqCst) + 1;
    let chunks = arena.chunks();
    let mut lists = vec![NONE; chunks.len() * CHUNK_ROWS];
    let mut stamps = vec![NONE; chunks.len() * CHUNK_ROWS];
    // The row at each place.
    let mut rows = vec![NONE; index.rows.len()];
    let mut known = 0;
    for (shared, first) in chunks.iter().zip((0_usize..).step_by(CHUNK_ROWS)) {
        let mut chunk = shared.write();
        let mut others = Vec::new();
        for (row, view) in chunk.rows_in_use().filter(|(_, view)| view.stamp < epoch) {
            let place = chunk.item(row).and_then(|item| places.get(&name(item)));
            match place.map(|place| *place as usize) {
                Some(place) if index.rows[place].crc == crc(view.codes) => {
                    lists[first + row] = index.rows[place].list;
                    stamps[first + row] = view.stamp;
                    rows[place] = u32::try_from(first + row).unwrap_or(NONE);
                    known += 1;
                }
                Some(_) | None => others.push(row),
            }
        }
        if !others.is_empty() {
            for row in others {
                chunk.restamp(row, epoch);
            }
            shared.newest.fetch_max(epoch, Ordering::SeqCst);
        }
    }
    if known == 0 {
        return Err("none of what it knows is stored".to_owned());
    }
    let centre = Arc::new(Centre::new(index.mean.into()));
    let clusters = Arc::new(Clusters::new(arena.kernel, &centre, index.middles));
    let partition = Partition::of_lists(arena, &clusters, &lists, epoch, &Signal::default());
    let partition = partition.ok_or("it was not to go on")?.with_tuned(index.tuned);
    arena.set_partition(Some(Arc::new(partition)));
    let graph = index.graph.map(|links| {
        let builder = Builder::of_links(&links, &rows, stamps, epoch);
        arena.set_graph(builder.graph());
        builder
    });
    let since = (arena.count() - known) as u64;
    let lists = Lists::adopted(changes.saturating_sub(since), changes, known, index.tuned);
    arena.set_adopted(Adopted { lists, graph, changes });
    Ok(known)
}
