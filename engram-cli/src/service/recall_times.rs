//! How long recalls take.

use std::time::Duration;

use engram_core::{
    Mode, Recall, Route,
    storage::{Histogram, HistogramSnapshot},
};

/// By what a question was answered, and how the nearest vectors were found, as `explain` names them.
const MODES: [&str; 3] = ["words", "vector", "hybrid"];
const INDEXES: [&str; 6] = ["none", "exact", "scan", "ivf", "hnsw", "other"];

/// Times of all recalls, since the start.
#[derive(Debug)]
pub(crate) struct RecallTimes {
    took: [[Histogram; INDEXES.len()]; MODES.len()],
    waited: Histogram,
}

impl Default for RecallTimes {
    fn default() -> Self {
        let histograms = |_| INDEXES.map(|_| Histogram::of_latencies());
        Self { took: MODES.map(histograms), waited: Histogram::of_latencies() }
    }
}

impl RecallTimes {
    /// Takes in a recall: how long it waited for its turn, and how long it took then.
    pub(super) fn record(&self, recall: &Recall, waited: Duration, took: Duration) {
        let mode = match recall.mode {
            Mode::Words => 0,
            Mode::Vector => 1,
            Mode::Hybrid | Mode::Auto => 2, // a recall is never of `Auto`
        };
        let index = recall.route.map_or(INDEXES[0], Route::name);
        let index = INDEXES.iter().position(|it| *it == index).unwrap_or(INDEXES.len() - 1);
        self.took[mode][index].record_latency(took);
        self.waited.record_latency(waited);
    }

    /// How long recalls took: the mode, the index, and the times of those that there were.
    pub(crate) fn snapshot(&self) -> Vec<(&'static str, &'static str, HistogramSnapshot)> {
        let of_mode = |(mode, times): (&&'static str, &[Histogram; INDEXES.len()])| {
            let by_index = INDEXES.iter().zip(times.iter().map(Histogram::snapshot));
            by_index.map(|(index, times)| (*mode, *index, times)).collect::<Vec<_>>()
        };
        let all = MODES.iter().zip(&self.took).flat_map(of_mode);
        all.filter(|(_, _, times)| times.count() > 0).collect()
    }

    /// How long recalls waited for their turn.
    pub(crate) fn waits(&self) -> HistogramSnapshot {
        self.waited.snapshot()
    }
}
