//! Spaces: made, described, dropped.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use engram_core::{Outcome, SpaceStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dto::ReceiptView,
    extract::{InSpace, JsonBody, Ready, SpaceName},
    problem::Problem,
};

/// A space as it is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SpaceView {
    name: String,
    memories: usize,
    /// The most that it takes, if it has a limit of its own.
    capacity: Option<u64>,
    memory_bytes: u64,
    /// The record that made it, or last changed its properties; 0 for the space that is always there.
    lsn: u64,
    vectors: usize,
    index: &'static str,
}

impl From<SpaceStatus> for SpaceView {
    fn from(status: SpaceStatus) -> Self {
        Self {
            name: status.name.to_string(),
            memories: status.count,
            capacity: status.capacity,
            memory_bytes: status.memory_bytes,
            lsn: status.lsn.get(),
            vectors: status.index.rows,
            index: status.index.route.name(),
        }
    }
}

/// All spaces.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SpacesView {
    spaces: Vec<SpaceView>,
}

/// Properties of a space.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct SpaceBody {
    /// The most memories that it takes, beside what all spaces take together.
    #[schemars(range(min = 1))]
    capacity: Option<u64>,
}

/// `GET /v1/spaces`
pub(crate) async fn list(Ready(service): Ready) -> Json<SpacesView> {
    Json(SpacesView { spaces: service.spaces().into_iter().map(SpaceView::from).collect() })
}

/// `GET /v1/spaces/{space}`
pub(crate) async fn get(InSpace(space): InSpace) -> Result<Json<SpaceView>, Problem> {
    Ok(Json(space.status()?.into()))
}

/// `PUT /v1/spaces/{space}`
pub(crate) async fn put(
    Ready(service): Ready,
    SpaceName(name): SpaceName,
    JsonBody(body): JsonBody<SpaceBody>,
) -> Result<Response, Problem> {
    let receipt = service.make_space(name, body.capacity).await?;
    let status = if receipt.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ReceiptView::from(receipt))).into_response())
}

/// `DELETE /v1/spaces/{space}`
pub(crate) async fn delete(
    Ready(service): Ready,
    SpaceName(name): SpaceName,
) -> Result<Json<ReceiptView>, Problem> {
    Ok(Json(service.drop_space(name).await?.into()))
}
