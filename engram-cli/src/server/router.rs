//! Which path is answered by which handler, through which layers.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, Uri},
    middleware::{from_fn, from_fn_with_state},
    routing::{MethodRouter, delete, get, post},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    trace::{DefaultOnFailure, TraceLayer},
};
use tracing::Level;

use super::{
    auth::authorize,
    batch, changes, delete_many, export,
    extract::Ready,
    health, import,
    layers::{
        BATCH_TIME_MAX, LONG_TIME_MAX, REQUEST_TIME_MAX, answer_panic, limit_in_flight, limit_time, measure,
    },
    memories, metrics, openapi,
    origin::{refuse_foreign_hosts, refuse_foreign_pages},
    problem::{Code, Problem},
    recall, reembed, request_id, snapshot, spaces,
    state::App,
    status,
};
use crate::mcp;

/// All of the HTTP interface, and MCP over it. What concerns all requests is a layer here.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let of_server = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::get))
        .route("/openapi.json", get(openapi::json))
        .route("/docs", get(openapi::page))
        .route("/v1/status", get(status::get))
        .route("/v1/reembed", get(reembed::get).post(reembed::post).delete(reembed::delete))
        .route("/v1/spaces", get(spaces::list))
        .route("/v1/spaces/{space}", get(spaces::get).put(spaces::put).delete(spaces::delete));
    let single = of_server.merge(in_each_space(&[
        ("/memories", get(memories::list).post(memories::post)),
        ("/memories/{id}", memory()),
        ("/recall", post(recall::post)),
        ("/changes", get(changes::get)),
        ("/export", get(export::get)),
    ]));
    // "batch" is an id like any other, too: what has it is read and written where batches are posted.
    let batch = in_each_space(&[
        ("/memories/batch", memory().post(batch::post)),
        ("/memories", delete(delete_many::delete)),
    ]);
    let long = Router::new()
        .route("/v1/snapshot", post(snapshot::post))
        .merge(in_each_space(&[("/import", post(import::post))]));
    let limited =
        |routes: Router<Arc<App>>, time_max: Duration| routes.layer(from_fn_with_state(time_max, limit_time));
    let trace = TraceLayer::new_for_http().make_span_with(request_id::span);
    let trace = trace.on_failure(DefaultOnFailure::new().level(Level::DEBUG));
    let routes = limited(single, REQUEST_TIME_MAX)
        .merge(limited(batch, BATCH_TIME_MAX))
        .merge(limited(long, LONG_TIME_MAX))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method);
    // Its tools ask these routes: what a tool does is a request like any other, within the one that has called it.
    let tools = routes.clone().layer(CatchPanicLayer::custom(answer_panic)).with_state(Arc::clone(app));
    let mcp = limited(Router::new().route_service("/mcp", mcp::over_http(tools)), BATCH_TIME_MAX);
    routes
        .merge(mcp.layer(from_fn_with_state(Arc::clone(app), refuse_foreign_hosts)))
        // From here on the last is the first that a request meets. Who has no key takes no place.
        .layer(from_fn_with_state(Arc::clone(app), limit_in_flight))
        .layer(from_fn_with_state(Arc::clone(app), authorize))
        .layer(from_fn_with_state(Arc::clone(app), refuse_foreign_pages))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(trace)
        .layer(from_fn(request_id::name))
        .layer(from_fn_with_state(Arc::clone(app), measure))
        .with_state(Arc::clone(app))
}

/// What is done with one memory.
fn memory() -> MethodRouter<Arc<App>> {
    get(memories::get).put(memories::put).patch(memories::patch).delete(memories::delete)
}

/// The routes of the space that is always there, and of every other.
fn in_each_space(routes: &[(&str, MethodRouter<Arc<App>>)]) -> Router<Arc<App>> {
    routes.iter().fold(Router::new(), |all, (path, methods)| {
        let all = all.route(&format!("/v1{path}"), methods.clone());
        all.route(&format!("/v1/spaces/{{space}}{path}"), methods.clone())
    })
}

async fn no_route(_: Ready, uri: Uri) -> Problem {
    Problem::new(Code::RouteNotFound, format!("there is nothing at {}", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} does not know {method}", uri.path()))
}
