//! All memories of a space, a line each, as `POST /v1/import` and `POST /v1/memories/batch` take them.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use engram_core::Filter;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    auth::Admission,
    dto::EpisodeView,
    extract::{InSpace, Params},
    filter::FilterField,
    problem::{Code, Problem},
    state::App,
    stream::{self, NDJSON, Parts},
};
use crate::{numbers, service::SpaceService};

/// Bytes of one part of the answer, and what the memory with which it reaches them has beyond.
const PART_BYTES: usize = 256 << 10;

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
    State(app): State<Arc<App>>,
    Extension(admission): Extension<Admission>,
) -> Result<Response, Problem> {
    let filter = params.filter.as_deref().map(FilterField::parse).transpose()?.unwrap_or_default();
    let filter = filter.into_filter()?;
    let lsn = space.service().status().applied_lsn.get();
    let with_embeddings = params.embeddings != Some(false);
    // A wrong query is an error, and no answer that breaks off.
    let made_at = space.status()?.lsn;
    let ids = space.ids(filter.clone()).await?;
    let (parts, mut response) = stream::answer(NDJSON);
    response.headers_mut().insert(LSN, HeaderValue::from(lsn));
    let of = space.clone();
    let may_go_on = move || {
        admission.renew(&app)?;
        // Another one by the same name has other memories.
        let is_same = of.status()?.lsn == made_at;
        let changed = || Problem::new(Code::SpaceNotFound, "the space was dropped or changed");
        is_same.then_some(()).ok_or_else(changed)
    };
    tokio::spawn(send(space, ids, filter, with_embeddings, may_go_on, parts));
    Ok(response)
}

/// Each memory as it is when its turn comes. What is stored or forgotten meanwhile may be in it or not; what is there all the
/// time is in it once.
async fn send(
    space: SpaceService,
    ids: Vec<Arc<str>>,
    filter: Filter,
    with_embeddings: bool,
    may_go_on: impl Fn() -> Result<(), Problem>,
    mut parts: Parts,
) {
    let model = space.service().embed();
    let (mut part, mut held) = (Vec::new(), None);
    for id in ids {
        if held.is_none() {
            let now = space.service().hold_model().await;
            if with_embeddings && !now.is_of(model.as_ref()) {
                return warn!("an export was broken off: its embeddings would be of two models");
            }
            held = Some(now);
        }
        let Some((memory, embedding)) = space.get_with_embedding(&id) else { continue };
        if !filter.accepts(&memory) {
            continue;
        }
        let embedding = embedding.filter(|_| with_embeddings);
        let embedding = embedding.map(|embedding| numbers::encode(embedding.as_slice()));
        let line = Line { what: (&*memory).into(), embedding };
        // Our own views can be written, and a vector takes all.
        part.extend_from_slice(serde_json::to_string(&line).unwrap_or_default().as_bytes());
        part.push(b'\n');
        if part.len() >= PART_BYTES {
            held = None;
            if let Err(problem) = may_go_on() {
                return warn!(reason = problem.detail(), "an export was broken off");
            }
            if parts.send(std::mem::take(&mut part)).await.is_err() {
                return;
            }
        }
    }
    drop(held);
    if let Err(problem) = may_go_on() {
        return warn!(reason = problem.detail(), "an export was broken off");
    }
    if parts.send(part).await.is_ok() {
        parts.finish();
    }
}
