//! Whether the process lives, and whether it does its work.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use engram_core::{StoreStatus, Writes};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    extract::recovering,
    problem::{Code, Problem},
    state::App,
};

/// How well the server does.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    status: &'static str,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// `GET /healthz`: the process lives. Who asks that must not be told of a failed disk, or a supervisor would kill a
/// server that still answers questions.
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok", detail: None })
}

/// `GET /readyz`: writes are acknowledged as configured.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Health>, Problem> {
    let Some(service) = app.service() else { return Err(recovering(&app)) };
    let mut status = service.status();
    if status.log.disk_full {
        // A balancer that sends no writes here would never hear that there is space again: so it is looked for. How it
        // went is in the status.
        service.sync().await.ok();
        status = service.status();
    }
    readiness(status, app.log_failure.cause()).map(Json)
}

/// Ready, or ready but degraded; or why not. `failure` is why the log has failed, when it has.
fn readiness(status: StoreStatus, failure: Option<&str>) -> Result<Health, Problem> {
    let read_only = status.recovery.and_then(|report| report.read_only);
    match status.writes {
        Writes::Durable if status.log.disk_full => {
            // 507 is the answer to a write. Who asks here is told what each balancer knows.
            let detail = "writes are refused while there is no space left; reads go on";
            let problem = Problem::new(Code::DiskFull, detail).status(StatusCode::SERVICE_UNAVAILABLE);
            Err(problem.suggest("Free some space: the server goes on by itself."))
        }
        Writes::Durable => Ok(Health { status: "ready", detail: None }),
        Writes::Volatile => {
            let cause = failure.map(str::to_owned).or(read_only).unwrap_or_default();
            let detail = format!("writes are in memory alone, and lost with the process: {cause}");
            Ok(Health { status: "degraded", detail: Some(detail) })
        }
        Writes::Refused => Err(match (failure, read_only) {
            (Some(cause), _) => Problem::new(Code::LogFailed, format!("writes are refused: {cause}")),
            (None, Some(cause)) => Problem::new(Code::ReadOnly, format!("writes are refused: {cause}")),
            (None, None) => Problem::new(Code::ShuttingDown, "writes are refused: the log is closed"),
        }),
    }
}
