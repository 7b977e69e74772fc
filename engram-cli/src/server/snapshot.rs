//! Snapshots on demand.

use axum::Json;
use engram_core::storage::SnapshotReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{extract::Ready, problem::Problem};

/// What a snapshot came to: the answer to `POST /v1/snapshot`, and what `engram snapshot --json` prints.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SnapshotView {
    /// It holds what all records up to this one have come to.
    pub(crate) lsn: u64,
    /// Its file, on the server's machine.
    pub(crate) path: String,
    /// Memories in it.
    pub(crate) memories: u64,
    /// Memories, and what else there is to know: how the store was made, spaces, requests under a key.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Segments and snapshots that it stands for, and that are gone.
    pub(crate) removed_files: u64,
    pub(crate) removed_bytes: u64,
    pub(crate) took_ms: f64,
}

impl From<&SnapshotReport> for SnapshotView {
    fn from(report: &SnapshotReport) -> Self {
        Self {
            lsn: report.lsn.get(),
            path: report.path.display().to_string(),
            memories: report.memories,
            records: report.records,
            bytes: report.bytes,
            removed_files: report.removed_files,
            removed_bytes: report.removed_bytes,
            took_ms: report.took.as_secs_f64() * 1e3,
        }
    }
}

/// `POST /v1/snapshot`
pub(crate) async fn post(Ready(service): Ready) -> Result<Json<SnapshotView>, Problem> {
    let report = service.snapshot().await?;
    Ok(Json(SnapshotView::from(&report)))
}
