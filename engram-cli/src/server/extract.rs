//! What handlers take out of a request. Each refuses with a [`Problem`].

use std::sync::Arc;

use axum::{
    extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request},
    http::{HeaderMap, header, request::Parts},
};
use engram_core::MemoryStore;
use serde::de::DeserializeOwned;

use super::{
    body,
    json::{parse_object, plain},
    problem::{Code, Problem},
    state::App,
};
use crate::service::{MemoryService, SpaceService};

/// When to ask again while memories are recovered.
const RECOVERING_RETRY_S: u32 = 1;

/// The memories, once they are recovered.
pub(crate) struct Ready(pub(crate) MemoryService);

impl FromRequestParts<Arc<App>> for Ready {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        app.service().cloned().map(Self).ok_or_else(|| recovering(app))
    }
}

/// What is answered while memories are recovered.
pub(crate) fn recovering(app: &App) -> Problem {
    let detail = format!("the memories are being recovered: {}", app.progress.describe());
    Problem::new(Code::Recovering, detail).retry_after_s(RECOVERING_RETRY_S)
}

/// The memories of the space in the path; of the one that is always there where the path has none.
pub(crate) struct InSpace(pub(crate) SpaceService);

impl FromRequestParts<Arc<App>> for InSpace {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Ready(service) = Ready::from_request_parts(parts, app).await?;
        let space = path_param(parts, "space").await?;
        Ok(Self(service.space(space.as_deref().unwrap_or(MemoryStore::DEFAULT_SPACE))?))
    }
}

/// The name in the path of a space, which there may not be yet.
pub(crate) struct SpaceName(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for SpaceName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(path_param(parts, "space").await?.unwrap_or_default()))
    }
}

/// The id in the path.
pub(crate) struct MemoryId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for MemoryId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(path_param(parts, "id").await?.unwrap_or_else(|| BATCH_ID.to_owned())))
    }
}

/// The one id whose path has no parameter, since it is a route of its own, too.
const BATCH_ID: &str = "batch";

async fn path_param(parts: &mut Parts, name: &str) -> Result<Option<String>, Problem> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|e| Problem::new(Code::InvalidId, format!("expected a path in UTF-8: {}", e.body_text())))?;
    Ok(params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()))
}

/// The parameters of the query string.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|e| {
            let reason = e.body_text();
            let reason = reason.strip_prefix("Failed to deserialize query string: ").unwrap_or(&reason);
            Problem::new(Code::InvalidQuery, plain(reason))
        })
    }
}

/// A body of JSON, of one memory or one question.
pub(crate) struct JsonBody<T>(pub(crate) T);

/// The same, and its bytes.
pub(crate) struct RawJson<T>(pub(crate) T, pub(crate) Vec<u8>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        RawJson::from_request(request, state).await.map(|RawJson(body, _)| Self(body))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for RawJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let media_type = media_type(request.headers());
        // Read first, refused after: see `DISCARDED_BYTES_MAX` for why.
        let bytes = body::read(request, body::SINGLE).await?;
        expect_json(&media_type)?;
        Ok(Self(parse_object(&bytes)?, bytes))
    }
}

/// The content type without its parameters, in lower case; empty when there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether the type is JSON. It is asked for, since a page in a browser may send other types to a server on the same
/// machine without asking that server first.
pub(crate) fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

fn expect_json(media_type: &str) -> Result<(), Problem> {
    if is_json(media_type) { Ok(()) } else { Err(unsupported(media_type, "application/json")) }
}

/// The refusal of another type than `expected`.
pub(crate) fn unsupported(media_type: &str, expected: &str) -> Problem {
    let got = if media_type.is_empty() { "none" } else { media_type };
    Problem::new(Code::UnsupportedMediaType, format!("expected the content type {expected}, got {got}"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_media_type_is_read_without_its_parameters() {
        for (value, type_, json) in [
            ("application/json", "application/json", true),
            ("Application/JSON; charset=utf-8", "application/json", true),
            ("application/vnd.x+json", "application/vnd.x+json", true),
            ("text/plain", "text/plain", false),
            ("", "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(media_type(&headers), type_);
            assert_eq!(is_json(type_), json, "{value}");
        }
        assert_eq!(media_type(&HeaderMap::new()), "");
    }
}
