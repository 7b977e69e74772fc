//! Whether the process lives, and whether it does its work.

use std::sync::Arc;

use axum::{Json, extract::State};
use engram_core::Writes;
use serde::Serialize;

use super::{
    extract::recovering,
    problem::{Code, Problem},
    state::App,
};

/// How well the server does.
#[derive(Debug, Serialize)]
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
    readiness(&app).map(Json)
}

/// Ready, or ready but degraded; or why not.
fn readiness(app: &App) -> Result<Health, Problem> {
    let Some(service) = app.service() else { return Err(recovering(app)) };
    let status = service.status();
    let failed = app.log_failure.cause();
    let read_only = status.recovery.and_then(|report| report.read_only);
    let cause = || failed.map(str::to_owned).or(read_only).unwrap_or_default();
    match status.writes {
        Writes::Durable => Ok(Health { status: "ready", detail: None }),
        Writes::Volatile => {
            let detail = format!("writes are in memory alone, and lost with the process: {}", cause());
            Ok(Health { status: "degraded", detail: Some(detail) })
        }
        Writes::Refused => {
            let code = if failed.is_some() { Code::LogFailed } else { Code::ReadOnly };
            Err(Problem::new(code, format!("writes are refused: {}", cause())))
        }
    }
}
