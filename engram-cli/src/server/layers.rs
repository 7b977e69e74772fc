//! What happens around every handler.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;
use tracing::error;

use super::{
    body,
    problem::{Code, Problem},
    state::App,
};

/// How long a request may take, except for a batch.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a batch may take.
pub(crate) const BATCH_TIME_MAX: Duration = Duration::from_mins(2);

/// How long a snapshot or an import may take. A snapshot that takes longer is taken all the same, and so is what an import
/// has submitted.
pub(crate) const LONG_TIME_MAX: Duration = Duration::from_mins(30);

/// When to come again after there was no place: requests are short.
const OVERLOADED_RETRY_S: u32 = 1;

/// A mark of requests on connections beyond their limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BeyondLimit;

/// Refuses at once what is beyond the limit of requests in flight: who waits in a queue gives up in it, and is worked
/// for all the same. How the server is, it tells in any case.
pub(crate) async fn limit_in_flight(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/healthz" | "/readyz" | "/metrics") {
        return next.run(request).await;
    }
    let is_beyond = request.extensions().get::<BeyondLimit>().is_some();
    let place = if is_beyond { None } else { app.in_flight.try_acquire().ok() };
    if place.is_some() {
        return next.run(request).await;
    }
    body::discard(request).await;
    let what = if is_beyond { "connections" } else { "requests in flight (--max-in-flight)" };
    Problem::new(Code::Overloaded, format!("there are as many {what} as the server takes"))
        .retry_after_s(OVERLOADED_RETRY_S)
        .into_response()
}

/// Answers when a handler does not. A write that was submitted by then may still be stored.
pub(crate) async fn limit_time(State(time_max): State<Duration>, request: Request, next: Next) -> Response {
    timeout(time_max, next.run(request)).await.unwrap_or_else(|_| {
        let detail =
            format!("expected to answer within {} s; a write may be stored all the same", time_max.as_secs());
        Problem::new(Code::Timeout, detail).into_response()
    })
}

/// Counts requests, their time and their problems.
pub(crate) async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let metrics = &app.metrics.http;
    let route = route.unwrap_or_else(|| "none".to_owned());
    metrics.count(route, &method, response.status(), started.elapsed());
    if let Some(&code) = response.extensions().get::<Code>() {
        metrics.count_problem(code);
    }
    response
}

/// A handler panicked: one request fails, the server goes on.
#[expect(clippy::needless_pass_by_value, reason = "the layer that calls it gives it away")]
pub(crate) fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    let message =
        panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    error!(panic = message, "a request handler panicked");
    Problem::new(Code::Internal, "the handler of the request panicked").into_response()
}
