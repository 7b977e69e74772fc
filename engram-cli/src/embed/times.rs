//! How long the model takes to answer.

use std::{array::from_fn, time::Duration};

use engram_core::storage::{Histogram, HistogramSnapshot};

use super::{EmbedError, Kind};

/// What can come of asking it.
const OUTCOMES: [&str; 5] = ["embedded", "transient", "refused", "broken", "misconfigured"];

/// Times of all that the model was asked, since the start.
#[derive(Debug)]
pub(crate) struct EmbedTimes([Histogram; OUTCOMES.len()]);

impl Default for EmbedTimes {
    fn default() -> Self {
        Self(OUTCOMES.map(|_| Histogram::of_latencies()))
    }
}

impl EmbedTimes {
    pub(super) fn record<T>(&self, outcome: &Result<T, EmbedError>, took: Duration) {
        let place = match outcome.as_ref().map_err(|error| error.kind) {
            Ok(_) => 0,
            Err(Kind::Transient { .. }) => 1,
            Err(Kind::Refused) => 2,
            Err(Kind::Broken) => 3,
            Err(Kind::Misconfigured) => 4,
        };
        self.0[place].record_latency(took);
    }

    /// The times, by what came of it.
    pub(crate) fn snapshot(&self) -> [(&'static str, HistogramSnapshot); OUTCOMES.len()] {
        from_fn(|place| (OUTCOMES[place], self.0[place].snapshot()))
    }
}
