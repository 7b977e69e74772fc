//! What of the index goes into the file.

use super::format::{Index, Known};
use crate::vector::arena::Rows;
use crate::vector::chunk::CHUNK_ROWS;
use crate::vector::graph::NONE;

/// The rows that are in the lists, and in the graph if there is one, as they are now. `None` if there are no lists.
///
/// Lists and graph must not be made anew meanwhile: whoever keeps the index calls this, or nobody does.
pub(super) fn collect<T: Clone>(arena: &Rows<T>, name: fn(&T) -> u64) -> Option<Index> {
    let (partition, graph) = (arena.partition()?, arena.graph());
    let epoch = graph.as_ref().map_or(u32::MAX, |graph| graph.epoch()).min(partition.epoch());
    let lists = partition.lists();
    let mut rows = Vec::new();
    // The place of each row among those.
    let mut places = vec![NONE; lists.len()];
    for (chunk, first) in arena.chunks().iter().zip((0_usize..).step_by(CHUNK_ROWS)) {
        let chunk = chunk.read();
        for (row, view) in chunk.rows_in_use().filter(|(_, view)| view.stamp < epoch) {
            if let Some(list) = lists.get(first + row).copied().filter(|list| *list != NONE)
                && let Some(item) = chunk.item(row)
            {
                places[first + row] = u32::try_from(rows.len()).unwrap_or(NONE);
                rows.push(Known { lsn: name(item), crc: crc(view.codes), list });
            }
        }
    }
    let clusters = partition.clusters();
    Some(Index {
        mean: clusters.centre().mean().to_vec(),
        middles: clusters.middles().clone(),
        tuned: partition.tuned(),
        rows,
        graph: graph.map(|graph| graph.links_of(&places)),
    })
}

/// Of the codes of a vector, with the zeros at their end.
pub(super) fn crc(codes: &[i8]) -> u32 {
    let bytes: Vec<u8> = codes.iter().map(|code| code.cast_unsigned()).collect();
    crc32c::crc32c(&bytes)
}
