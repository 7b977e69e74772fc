//! How numbers are written.

use std::fmt;

use engram_core::storage::HistogramSnapshot;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Units of a time in a second: histograms of times are kept in microseconds.
const US_PER_SECOND: f64 = 1e6;

pub(super) struct MetricsEncoder<'a>(pub(super) DescriptorEncoder<'a>);

impl MetricsEncoder<'_> {
    /// What only grows. The encoder ends its name with `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    pub(super) fn counter_of(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    pub(super) fn gauge_of(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    pub(super) fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    /// 1 for the state that something is in, 0 for the others: an alert names the one that it is about.
    pub(super) fn states(
        &mut self,
        name: &str,
        help: &str,
        states: impl IntoIterator<Item = (&'static str, bool)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (state, is_now) in states {
            let gauge = ConstGauge::new(u64::from(is_now));
            gauge.encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }

    /// A histogram of plain numbers.
    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &HistogramSnapshot) -> fmt::Result {
        let to = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        encode_histogram(to, histogram, 1.0)
    }

    /// A histogram of times.
    pub(super) fn times(&mut self, name: &str, help: &str, histogram: &HistogramSnapshot) -> fmt::Result {
        let to = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        encode_histogram(to, histogram, US_PER_SECOND)
    }

    /// Histograms of times, each with its labels.
    pub(super) fn times_by<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        histograms: impl IntoIterator<Item = (L, HistogramSnapshot)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in histograms {
            encode_histogram(family.encode_family(&labels)?, &histogram, US_PER_SECOND)?;
        }
        Ok(())
    }
}

fn encode_histogram(mut to: MetricEncoder<'_>, histogram: &HistogramSnapshot, per_unit: f64) -> fmt::Result {
    // The encoder adds up the buckets itself, and knows the last one by its bound.
    let bounds = histogram.bounds.iter().map(|&bound| bound as f64 / per_unit).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts.iter().copied()).collect();
    let (sum, count) = (histogram.sum as f64 / per_unit, histogram.count());
    to.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
}
