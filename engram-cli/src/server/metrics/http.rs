//! What is counted of requests and of connections.

use std::{fmt, sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
};
use tokio::sync::Semaphore;

use super::encode::MetricsEncoder;
use crate::server::problem::Code;

/// Upper bounds of the buckets for the time of a request, in seconds.
const REQUEST_SECONDS: [f64; 17] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0, 30.0,
];

/// Counters of one server.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    request_seconds: RequestSeconds,
    problems: Family<ProblemLabels, Counter>,
    /// Connections that are open now, and how many were accepted.
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    /// Connections that came when there was no place: those that were told so, and those that were closed.
    pub(crate) told: Counter,
    pub(crate) closed: Counter,
    /// Answers of changes that go on now.
    pub(crate) followers: Gauge,
    /// How many connections there may be.
    pub(crate) connections_max: Gauge,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    code: &'static str,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            problems: Family::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            told: Counter::default(),
            closed: Counter::default(),
            followers: Gauge::default(),
            connections_max: Gauge::default(),
        }
    }
}

impl HttpMetrics {
    /// Counts a request. The route is the pattern that matched, never the path: there are few of the former.
    pub(crate) fn count(&self, route: String, method: &Method, status: StatusCode, took: Duration) {
        let method = method_label(method);
        let labels = RouteLabels { route, method };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let RouteLabels { route, method } = labels;
        self.requests.get_or_create(&RequestLabels { route, method, status: status.as_u16() }).inc();
    }

    /// Counts a request that was answered with a problem.
    pub(crate) fn count_problem(&self, code: Code) {
        self.problems.get_or_create(&ProblemLabels { code: code.row().name }).inc();
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

/// One more in a gauge, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Gauged(Gauge);

impl Gauged {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The numbers of HTTP.
#[derive(Debug)]
pub(super) struct HttpCollector {
    pub(super) metrics: Arc<HttpMetrics>,
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) in_flight_max: u64,
}

impl Collector for HttpCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let HttpMetrics { requests, request_seconds, problems, connections, accepted, told, closed, .. } =
            &*self.metrics;
        let mut to = MetricsEncoder(encoder);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        to.metric("build", "The version that runs", &build)?;
        to.metric("http_requests", "Requests answered", requests)?;
        to.metric("http_request_seconds", "Time to the answer of a request", request_seconds)?;
        to.metric("http_problems", "Requests answered with a problem, by its code", problems)?;
        let in_flight = self.in_flight_max.saturating_sub(self.in_flight.available_permits() as u64);
        to.gauge("http_requests_in_flight", "Requests that are being answered", in_flight)?;
        let max = "The most requests that are answered at once";
        to.gauge("http_requests_in_flight_max", max, self.in_flight_max)?;
        to.metric("connections_open", "Connections that are open", connections)?;
        let max = &self.metrics.connections_max;
        to.metric("connections_max", "The most connections that may be open", max)?;
        to.metric("connections_accepted", "Connections accepted", accepted)?;
        to.metric("connections_refused", "Connections beyond the limit that were told so", told)?;
        to.metric(
            "connections_dropped",
            "Connections far beyond the limit that were closed at once",
            closed,
        )?;
        let followers = &self.metrics.followers;
        to.metric("changes_followers", "Clients that follow changes", followers)
    }
}
