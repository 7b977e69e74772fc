//! Numbers for Prometheus: `docs/metrics.md` has a line for each. Those of the store and of the process are read when they
//! are asked for; those of HTTP are counted in [`http`].

mod encode;
mod http;
mod process;
mod store;

use std::sync::{Arc, OnceLock};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::sync::Semaphore;

pub(crate) use self::http::{Gauged, HttpMetrics};
use self::{http::HttpCollector, process::ProcessCollector, store::StoreCollector};
use super::{
    problem::{Code, Problem},
    state::App,
};
use crate::service::MemoryService;

/// All metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) http: Arc<HttpMetrics>,
}

impl Metrics {
    /// Metrics of the server, and of the memories once they are there.
    pub(crate) fn new(
        service: Arc<OnceLock<MemoryService>>,
        in_flight: Arc<Semaphore>,
        in_flight_max: usize,
    ) -> Self {
        let http = Arc::new(HttpMetrics::default());
        let mut registry = Registry::default();
        // These have the names that all processes have.
        registry.register_collector(Box::new(ProcessCollector::new()));
        let engram = registry.sub_registry_with_prefix("engram");
        // The registry would end each description with a full stop, the collectors' it leaves alone.
        let collector =
            HttpCollector { metrics: Arc::clone(&http), in_flight, in_flight_max: in_flight_max as u64 };
        engram.register_collector(Box::new(collector));
        engram.register_collector(Box::new(StoreCollector(service)));
        Self { registry, http }
    }
}

/// `GET /metrics`: also while memories are recovered, then without what is theirs.
pub(crate) async fn get(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut answer = String::new();
    text::encode(&mut answer, &app.metrics.registry)
        .map_err(|e| Problem::new(Code::Internal, format!("the metrics cannot be written: {e}")))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], answer).into_response())
}
