//! Numbers for Prometheus. Those of the store are read when they are asked for; those of HTTP are counted here.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use engram_core::{Writes, storage::HistogramSnapshot};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use super::{
    extract::Ready,
    problem::{Code, Problem},
    state::App,
    status::name_of_writes,
};
use crate::{
    embed::{self, Snapshot},
    service::MemoryService,
};

/// Upper bounds of the buckets for the time of a request, in seconds.
const REQUEST_SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// All metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: RequestSeconds,
}

type RequestSeconds = Family<RouteLabels, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    method: &'static str,
}

impl Metrics {
    /// Metrics of the server, and of the memories once they are there.
    pub(crate) fn new(service: Arc<OnceLock<MemoryService>>) -> Self {
        let mut registry = Registry::with_prefix("engram");
        let requests = Family::default();
        let request_seconds: RequestSeconds =
            Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS));
        // The registry would end each description with a full stop, the collectors' it leaves alone.
        let server = ServerCollector { requests: requests.clone(), request_seconds: request_seconds.clone() };
        registry.register_collector(Box::new(server));
        registry.register_collector(Box::new(StoreCollector(service)));
        Self { registry, requests, request_seconds }
    }

    /// Counts a request. The route is the pattern that matched, never the path: there are few of the former.
    pub(crate) fn count(&self, route: String, method: &Method, status: StatusCode, took: Duration) {
        let method = method_label(method);
        let labels = RouteLabels { route, method };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let RouteLabels { route, method } = labels;
        self.requests.get_or_create(&RequestLabels { route, method, status: status.as_u16() }).inc();
    }
}

/// A client may make up methods; none of them makes up a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// `GET /metrics`
pub(crate) async fn get(State(app): State<Arc<App>>, _: Ready) -> Result<Response, Problem> {
    let mut answer = String::new();
    text::encode(&mut answer, &app.metrics.registry)
        .map_err(|e| Problem::new(Code::Internal, format!("the metrics cannot be written: {e}")))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], answer).into_response())
}

/// The numbers of the process and of HTTP.
#[derive(Debug)]
struct ServerCollector {
    requests: Family<RequestLabels, Counter>,
    request_seconds: RequestSeconds,
}

impl Collector for ServerCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = MetricsEncoder(encoder);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        to.metric("build", "The version that runs", &build)?;
        to.metric("http_requests", "Requests answered", &self.requests)?;
        to.metric("http_request_seconds", "Time to the answer of a request", &self.request_seconds)
    }
}

/// The store's own numbers.
struct StoreCollector(Arc<OnceLock<MemoryService>>);

impl Collector for StoreCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Some(service) = self.0.get() else { return Ok(()) };
        let status = service.status();
        let log = &status.log;
        let unembedded = status.unembedded;
        let mut to = MetricsEncoder(encoder);
        to.gauge("memories", "Memories stored", status.count as u64)?;
        to.gauge("capacity", "The most memories that the store holds", status.capacity as u64)?;
        to.gauge("memory_bytes", "Memory that the memories take, by an estimate", status.memory_bytes)?;
        if status.memory_limit < u64::MAX {
            to.gauge("memory_limit_bytes", "Memory that they may take", status.memory_limit)?;
        }
        to.gauge("vectors", "Memories with a vector", status.index.rows as u64)?;
        let tail = status.index.tail as u64;
        to.gauge("vectors_unlisted", "Vectors that are in no list of the index yet, and are scanned", tail)?;
        to.writes(status.writes)?;
        to.counter("log_appends", "Records committed to the log", log.appends)?;
        to.counter("log_failed_appends", "Records that the log could not take", log.failed_appends)?;
        to.counter("log_payload_bytes", "Bytes of the records committed", log.payload_bytes)?;
        to.counter("log_written_bytes", "Bytes written, with headers and padding", log.written_bytes)?;
        to.counter("log_rotations", "Segments begun", log.rotations)?;
        to.histogram("log_batch_records", "Records a commit", &log.batch_sizes, 1.0)?;
        to.histogram("log_sync_seconds", "Time that each sync took", &log.sync_latency_us, 1e6)?;
        to.gauge("log_queue_records", "Records that wait for the log", log.queue_depth)?;
        to.gauge("log_queue_bytes", "Bytes that wait for the log", log.queue_bytes)?;
        to.gauge("log_written_lsn", "The last record that survives a crash", log.written_lsn)?;
        to.gauge("log_synced_lsn", "The last record that survives power loss", log.synced_lsn)?;
        let lag = log.durable_lag();
        to.gauge("log_durable_lag_records", "Records that a power loss could take now", lag)?;
        to.gauge("log_poisoned", "1 when a failure has ended writing", u64::from(log.poisoned))?;
        to.gauge("log_disk_full", "1 while writes are refused for want of space", u64::from(log.disk_full))?;
        let snapshots = &status.snapshots;
        to.counter("snapshots", "Snapshots taken", snapshots.taken)?;
        to.counter("snapshots_failed", "Snapshots that could not be taken", snapshots.failed)?;
        let last = snapshots.last.as_ref();
        to.gauge(
            "snapshot_lsn",
            "The last record that the last snapshot stands for",
            last.map_or(0, |it| it.lsn.get()),
        )?;
        to.gauge("snapshot_bytes", "Bytes of the last snapshot", last.map_or(0, |it| it.bytes))?;
        let since = snapshots.log_bytes;
        to.gauge("log_bytes_since_snapshot", "Bytes of log that the next start reads", since)?;
        let recovered = log.recovered_records;
        to.gauge("log_recovered_records", "Records replayed at the start", recovered)?;
        let skipped = log.skipped_records;
        to.gauge("log_skipped_records", "Acknowledged records that the start could not read", skipped)?;
        let damaged = status.recovery.map_or(0, |report| report.damaged_ranges);
        to.gauge("log_damaged_ranges", "Damaged places that the start found in the log", damaged)?;
        service.embed().map_or(Ok(()), |embed| to.embedding(&embed.progress().snapshot(), unembedded))
    }
}

impl fmt::Debug for StoreCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreCollector")
    }
}

struct MetricsEncoder<'a>(DescriptorEncoder<'a>);

impl MetricsEncoder<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    /// 1 for the state that writes are in, 0 for the others: an alert names the one that it is about.
    fn writes(&mut self, now: Writes) -> fmt::Result {
        let help = "1 for what becomes of a write now";
        let mut family = self.0.encode_descriptor("writes", help, None, MetricType::Gauge)?;
        for state in [Writes::Durable, Writes::Volatile, Writes::Refused] {
            let gauge = ConstGauge::new(u64::from(state == now));
            gauge.encode(family.encode_family(&[("state", name_of_writes(state))])?)?;
        }
        Ok(())
    }

    fn embedding(&mut self, now: &Snapshot, pending: usize) -> fmt::Result {
        self.gauge("embedding_pending", "Memories without a vector", pending as u64)?;
        let failed = "Memories that the model does not take, and that are not tried for now";
        self.gauge("embedding_failed", failed, now.failed)?;
        self.counter("embedded_memories", "Memories that the server has embedded", now.embedded)?;
        self.counter("embedded_questions", "Questions that were to be embedded", now.questions)?;
        let failed = "Questions that could not be embedded";
        self.counter("embedded_questions_failed", failed, now.questions_failed)?;
        let help = "1 for what the embedder does now";
        let mut family = self.0.encode_descriptor("embedding_state", help, None, MetricType::Gauge)?;
        for state in embed::State::ALL {
            let gauge = ConstGauge::new(u64::from(state == now.state));
            gauge.encode(family.encode_family(&[("state", state.name())])?)?;
        }
        Ok(())
    }

    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        histogram: &HistogramSnapshot,
        per_unit: f64,
    ) -> fmt::Result {
        // The encoder adds up the buckets itself, and knows the last one by its bound.
        let bounds = histogram.bounds.iter().map(|&bound| bound as f64 / per_unit).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts.iter().copied()).collect();
        self.0
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<[(&str, &str); 0]>(
                histogram.sum as f64 / per_unit,
                histogram.count(),
                &buckets,
                None,
            )
    }
}
