//! All memories of a space, a line each, as `POST /v1/import` and `POST /v1/memories/batch` take them.

use std::sync::Arc;

use axum::{
    http::{HeaderName, HeaderValue},
    response::Response,
};
use engram_core::{ListQuery, Memory};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    dto::EpisodeView,
    extract::{InSpace, Params},
    filter::FilterField,
    problem::Problem,
    stream::{self, NDJSON, Parts},
};
use crate::{numbers, service::SpaceService};

/// Memories of one part of the answer: about a megabyte with embeddings.
const PART_MEMORIES: usize = 200;

/// The last change that the answer has for certain.
const LSN: HeaderName = HeaderName::from_static("engram-lsn");

/// Parameters of `GET /v1/export`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportParams {
    /// With embeddings, base64 of little-endian f32; they are, unless it is false.
    embeddings: Option<bool>,
    /// JSON, as in a recall.
    filter: Option<String>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    what: EpisodeView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<String>,
}

/// `GET /v1/export`
pub(crate) async fn get(
    InSpace(space): InSpace,
    Params(params): Params<ExportParams>,
) -> Result<Response, Problem> {
    let filter = params.filter.as_deref().map(FilterField::parse).transpose()?.unwrap_or_default();
    let query = ListQuery { limit: PART_MEMORIES, filter: filter.into_filter()?, ..ListQuery::default() };
    let lsn = space.service().status().applied_lsn.get();
    let with_embeddings = params.embeddings != Some(false);
    let (parts, mut response) = stream::answer(NDJSON);
    response.headers_mut().insert(LSN, HeaderValue::from(lsn));
    // A wrong query is an error, and no answer that breaks off.
    space.list(ListQuery { limit: 1, ..query.clone() }).await?;
    tokio::spawn(send(space, query, with_embeddings, parts));
    Ok(response)
}

/// What is stored or forgotten meanwhile may be in it or not; what is there all the time is in it once.
async fn send(space: SpaceService, mut query: ListQuery, with_embeddings: bool, mut parts: Parts) {
    let model = space.service().embed();
    loop {
        let page = match space.list(query.clone()).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "an export was broken off");
                return parts.abort();
            }
        };
        let mut part = Vec::new();
        let held = space.service().hold_model().await;
        if with_embeddings && !held.is_of(model.as_ref()) {
            warn!("an export was broken off: its embeddings would be of two models");
            return parts.abort();
        }
        for memory in &page.memories {
            let embedding = with_embeddings.then(|| embedding(&space, memory)).flatten();
            let line = Line { what: (&**memory).into(), embedding };
            // Our own views can be written, and a vector takes all.
            part.extend_from_slice(serde_json::to_string(&line).unwrap_or_default().as_bytes());
            part.push(b'\n');
        }
        drop(held);
        if parts.send(part).await.is_err() {
            return;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return,
        }
    }
}

/// The embedding of this version of a memory.
fn embedding(space: &SpaceService, memory: &Arc<Memory>) -> Option<String> {
    let (now, embedding) = space.get_with_embedding(memory.id())?;
    let embedding = embedding.filter(|_| now.lsn() == memory.lsn())?;
    Some(numbers::encode(embedding.as_slice()))
}
