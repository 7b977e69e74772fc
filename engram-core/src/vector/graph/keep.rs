//! When the graph is made, filled and made anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::debug;

use super::build::Builder;
use super::tuning::tune;
use crate::index::IndexMode;
use crate::vector::arena::Rows;
use crate::vector::background::Signal;
use crate::vector::keeper::are_worse;
use crate::vector::partition::Tuned;

/// What the background thread remembers of the graph.
#[derive(Default)]
pub(in crate::vector) struct GraphKeeper(Option<Kept>);

struct Kept {
    builder: Builder,
    /// How many nodes there were when it was made, and what was enough then.
    made_nodes: usize,
    made_tuned: Tuned,
    /// Changes of the arena when it was tuned.
    tuned: u64,
}

impl GraphKeeper {
    /// Goes on with a graph that was in a file.
    pub(in crate::vector) fn adopt(&mut self, builder: Builder, changes: u64) {
        let (made_nodes, made_tuned) = (builder.graph.nodes(), builder.graph.tuned());
        self.0 = Some(Kept { builder, made_nodes, made_tuned, tuned: changes });
    }

    /// Makes a graph if there is to be one and there are lists to complete it; fills it with what came since; makes it
    /// anew when as many rows have changed as there were, or when a quarter of that has made it worse. `between` runs
    /// now and then.
    pub(in crate::vector) fn keep<T: Clone>(
        &mut self,
        rows: &Rows<T>,
        signal: &Signal,
        mut between: impl FnMut(),
    ) {
        if rows.settings.mode != IndexMode::Hnsw || rows.partition().is_none() {
            return;
        }
        let Some(kept) = &mut self.0 else {
            self.0 = make(rows, signal, between);
            return;
        };
        if rows.filled_since(kept.builder.graph.epoch()) == 0 {
            return;
        }
        let changes = rows.changes.load(Ordering::Relaxed);
        if kept.builder.fill(rows, signal, &mut between).is_none() {
            return;
        }
        let graph = &kept.builder.graph;
        if changes.saturating_sub(kept.tuned) >= rows.count() as u64 / 8 {
            let Some(partition) = rows.partition() else { return };
            let Some(now) = tune(rows, graph, &partition, signal) else { return };
            graph.set_tuned(now);
            kept.tuned = changes;
        }
        let gone = kept.builder.replaced + graph.nodes().saturating_sub(rows.count());
        let is_worse = are_worse(graph.tuned(), kept.made_tuned);
        if gone >= kept.made_nodes || (is_worse && gone >= kept.made_nodes / 4) {
            // Until the next one is there this one is used.
            self.0 = make(rows, signal, between);
        }
    }
}

fn make<T: Clone>(rows: &Rows<T>, signal: &Signal, between: impl FnMut()) -> Option<Kept> {
    let began = Instant::now();
    let mut builder = Builder::new();
    let changes = rows.changes.load(Ordering::Relaxed);
    builder.fill(rows, signal, between)?;
    let partition = rows.partition()?;
    let tuned = tune(rows, &builder.graph, &partition, signal)?;
    debug!(rows = builder.graph.nodes(), ?tuned, took = ?began.elapsed(), "made a graph");
    builder.graph.set_tuned(tuned);
    rows.set_graph(Arc::clone(&builder.graph));
    rows.set_trained(began.elapsed());
    Some(Kept { made_nodes: builder.graph.nodes(), made_tuned: tuned, tuned: changes, builder })
}
