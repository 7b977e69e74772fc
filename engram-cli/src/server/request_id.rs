//! A name for each request: in its answer, in its problem, and on each line that is logged for it.

use std::future::Future;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::{Span, info_span};
use uuid::Uuid;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a name that a client has given: what is longer is no name.
const LEN_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// Visible ASCII: it ends no line of a log, and colours none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The client's own, or a new one.
    fn of(headers: &HeaderMap) -> Self {
        let given = headers
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| (1..=LEN_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
        Self(given.map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned))
    }
}

/// The name of the request that this task answers.
pub(crate) fn current() -> Option<String> {
    CURRENT.try_with(|id| id.0.clone()).ok()
}

/// Names the request.
pub(crate) async fn name(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let header = HeaderValue::from_str(&id.0);
    let mut response = scope(id, next.run(request)).await;
    // It always is one, of such characters.
    if let Ok(header) = header {
        response.headers_mut().insert(X_REQUEST_ID, header);
    }
    response
}

async fn scope<T>(id: RequestId, answer: impl Future<Output = T>) -> T {
    CURRENT.scope(id, answer).await
}

/// What is said of a request on each line that is logged for it: never its path, since ids are in it, nor its query.
pub(crate) fn span(request: &Request) -> Span {
    let id = request.extensions().get::<RequestId>().map_or("", |id| &id.0);
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    info_span!("request", id, method = request.method().as_str(), route)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> RequestId {
        RequestId::of(&HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(value).unwrap())]))
    }

    #[test]
    fn a_name_is_taken_if_it_is_one() {
        let long = "x".repeat(LEN_MAX);
        for name in ["a", "0af7651916cd43dd-8448eb211c80319c:1", &long] {
            assert_eq!(of(name).0, name);
        }
        let new = of("");
        assert_eq!((new.0.len(), new.0.is_ascii()), (32, true));
        for none in ["", "a b", "a\tb", &format!("{long}x")] {
            assert_ne!(of(none).0, none);
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }
}
