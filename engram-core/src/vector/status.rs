//! What is told of the index.

use std::sync::atomic::Ordering;

use super::arena::{Rows, VectorArena};
use crate::index::{IndexStatus, Route};

impl<T: Clone + Send + Sync + 'static> VectorArena<T> {
    /// The index as it is now.
    pub(crate) fn index_status(&self) -> IndexStatus {
        const LIMIT: usize = 10;
        let rows = self.rows();
        let count = rows.count();
        let partition = rows.partition();
        let reach = partition.as_ref().and_then(|partition| partition.reach(LIMIT));
        let graph = rows.graph();
        let ef = graph.as_ref().and_then(|graph| graph.ef(LIMIT));
        let route = match (ef, reach) {
            _ if !rows.may_scan(LIMIT) => Route::Exact,
            (Some((ef, _)), _) => Route::Hnsw { ef },
            (None, Some((reach, _))) => Route::Ivf { probes: reach.probes },
            (None, None) => Route::Scan,
        };
        let graph_epoch = graph.as_ref().map_or(u32::MAX, |graph| graph.epoch());
        let epoch = partition.as_ref().map(|partition| partition.epoch().min(graph_epoch));
        IndexStatus {
            mode: rows.settings.mode,
            recall_target: rows.settings.recall_target,
            route,
            rows: count,
            tail: epoch.map_or(count, |epoch| rows.filled_since(epoch)),
            lists: partition.map_or(0, |partition| partition.clusters().len()),
            nodes: graph.map_or(0, |graph| graph.nodes()),
            is_working: self.is_working(),
            trained: rows.trained(),
        }
    }
}

impl<T: Clone> Rows<T> {
    /// How many rows in use were filled in this epoch or later.
    pub(super) fn filled_since(&self, epoch: u32) -> usize {
        let chunks = self.chunks();
        let newer = chunks.iter().filter(|chunk| chunk.newest.load(Ordering::SeqCst) >= epoch);
        newer.map(|chunk| chunk.read().filled_since(epoch)).sum()
    }
}
