//! Which path is answered by which handler, through which layers.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, Uri},
    middleware::from_fn_with_state,
    routing::{get, post},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    trace::{DefaultOnFailure, TraceLayer},
};
use tracing::Level;

use super::{
    batch,
    extract::Ready,
    health,
    layers::{BATCH_TIME_MAX, REQUEST_TIME_MAX, SNAPSHOT_TIME_MAX, answer_panic, limit_time, measure},
    memories, metrics,
    problem::{Code, Problem},
    recall, snapshot,
    state::App,
    status,
};

/// All of the HTTP interface. A further way in (MCP, say) is merged in here; what concerns all requests
/// (authentication, say) is a layer here.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let memory = get(memories::get).put(memories::put).delete(memories::delete);
    let single = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::get))
        .route("/v1/status", get(status::get))
        .route("/v1/memories", get(memories::list).post(memories::post))
        .route("/v1/memories/{id}", memory.clone())
        .route("/v1/recall", post(recall::post));
    // "batch" is an id like any other, too: what has it is read and written where batches are posted.
    let batch = Router::new().route("/v1/memories/batch", memory.post(batch::post));
    let snapshots = Router::new().route("/v1/snapshot", post(snapshot::post));
    let limited =
        |routes: Router<Arc<App>>, time_max: Duration| routes.layer(from_fn_with_state(time_max, limit_time));
    limited(single, REQUEST_TIME_MAX)
        .merge(limited(batch, BATCH_TIME_MAX))
        .merge(limited(snapshots, SNAPSHOT_TIME_MAX))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(TraceLayer::new_for_http().on_failure(DefaultOnFailure::new().level(Level::DEBUG)))
        .layer(from_fn_with_state(Arc::clone(app), measure))
        .with_state(Arc::clone(app))
}

async fn no_route(_: Ready, uri: Uri) -> Problem {
    Problem::new(Code::RouteNotFound, format!("there is nothing at {}", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} does not know {method}", uri.path()))
}
