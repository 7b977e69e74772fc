//! The store's errors as problems: the one place that knows both.

use engram_core::{EmbeddingError, StorageError, StoreError};
use tracing::error;

use super::problem::{Code, Problem};
use crate::{
    embed::{EmbedError, Kind},
    service::ServiceError,
};

/// When to try again what only needs some space or a restart.
const RETRY_AFTER_S: u32 = 5;

/// What to do about an embedding of another length: it comes from another model.
const OTHER_DIMENSION: &str = "Send the vector of the model that the store is for; GET /v1/status says its dimension. A \
                               store for another model is made by `engram start --dimension N` on a new --data-dir.";

/// What to do about an embedder that will not work by itself.
const MISCONFIGURED: &str = "Correct the setting that the detail is about, of this server (`engram start --help`, --embed-…) \
                             or of the endpoint; nothing was stored.";

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Id { .. } => Code::InvalidId,
            StoreError::Content { .. } => Code::InvalidContent,
            StoreError::When { .. } => Code::InvalidTime,
            StoreError::Metadata { .. } => Code::InvalidMetadata,
            StoreError::Embedding(EmbeddingError::Dimension { .. }) => {
                return Self::new(Code::InvalidEmbedding, error.to_string()).suggest(OTHER_DIMENSION);
            }
            StoreError::Embedding(_) => Code::InvalidEmbedding,
            StoreError::Query { .. } => Code::InvalidQuery,
            StoreError::NotYet { .. } => Code::LsnNotReached,
            StoreError::NotFound { .. } => Code::NotFound,
            StoreError::SpaceNotFound { .. } => Code::SpaceNotFound,
            StoreError::Space { .. } => Code::InvalidSpace,
            StoreError::VersionMismatch { .. } => Code::VersionMismatch,
            StoreError::RequestKey { .. } => Code::InvalidHeader,
            StoreError::RequestKeyReused { .. } => Code::RequestKeyReused,
            StoreError::RequestInFlight { .. } => {
                return Self::new(Code::RequestInFlight, error.to_string()).retry_after_s(1);
            }
            StoreError::ChangesGone { .. } | StoreError::ChangesAhead { .. } => Code::ChangesGone,
            StoreError::CapacityReached { .. } => Code::CapacityReached,
            StoreError::MemoryLimitReached { .. } => Code::MemoryLimitReached,
            StoreError::Storage(error) => return of_storage(error),
            _ => return of_defect(&error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Store(error) => error.into(),
            ServiceError::Embed(error) => error.into(),
        }
    }
}

impl From<EmbedError> for Problem {
    fn from(error: EmbedError) -> Self {
        let unavailable = Self::new(Code::EmbeddingUnavailable, error.to_string());
        match error.kind {
            Kind::Refused => Self::new(Code::EmbeddingRefused, error.to_string()),
            Kind::Misconfigured => unavailable.suggest(MISCONFIGURED),
            Kind::Transient { retry_after: None } | Kind::Broken => unavailable.retry_after_s(RETRY_AFTER_S),
            Kind::Transient { retry_after: Some(wait) } => {
                unavailable.retry_after_s(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1))
            }
        }
    }
}

fn of_storage(error: &StorageError) -> Problem {
    let code = match error {
        StorageError::DiskFull { .. } => Code::DiskFull,
        // A snapshot that does not read back as it was written: the disk's affair, and nothing is lost by it.
        StorageError::Corrupt { .. }
        | StorageError::Io { .. }
        | StorageError::Poisoned { .. }
        | StorageError::WriterPanicked => Code::LogFailed,
        StorageError::ReadOnly { .. } => Code::ReadOnly,
        StorageError::Closed => Code::ShuttingDown,
        _ => return of_defect(error),
    };
    Problem::new(code, error.to_string()).retry_after_s(RETRY_AFTER_S)
}

/// An error that no request should be able to cause.
fn of_defect(error: &(dyn std::error::Error + 'static)) -> Problem {
    error!(error, "a request met an error that it should not");
    Problem::new(Code::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc, time::Duration};

    use axum::{http::StatusCode, response::IntoResponse as _};
    use engram_core::{EmbeddingError, Lsn};

    use super::*;

    #[test]
    fn each_error_of_the_store_has_its_problem() {
        let source = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
        let full = StorageError::DiskFull { operation: "write", path: "wal".into(), source };
        let poisoned = || StorageError::Poisoned { cause: Arc::new(StorageError::WriterPanicked) };
        let read_only = StorageError::ReadOnly { cause: Arc::new(full.clone()) };
        let rows = [
            (StoreError::Id { reason: "got 0 bytes".to_owned() }, Code::InvalidId, 422),
            (StoreError::Content { got: 0 }, Code::InvalidContent, 422),
            (StoreError::When { field: "when", reason: String::new() }, Code::InvalidTime, 422),
            (StoreError::Metadata { reason: String::new() }, Code::InvalidMetadata, 422),
            (EmbeddingError::Zero.into(), Code::InvalidEmbedding, 422),
            (StoreError::Query { reason: String::new() }, Code::InvalidQuery, 422),
            (StoreError::NotFound { id: "a".to_owned() }, Code::NotFound, 404),
            (
                StoreError::NotYet { lsn: Lsn::FIRST, applied: Lsn::ZERO, waited: Duration::ZERO },
                Code::LsnNotReached,
                504,
            ),
            (StoreError::SpaceNotFound { space: "a".to_owned() }, Code::SpaceNotFound, 404),
            (StoreError::Space { reason: String::new() }, Code::InvalidSpace, 422),
            (
                StoreError::VersionMismatch { id: "a".to_owned(), expected: Lsn::FIRST, actual: Lsn::ZERO },
                Code::VersionMismatch,
                412,
            ),
            (StoreError::RequestKey { reason: String::new() }, Code::InvalidHeader, 422),
            (StoreError::RequestKeyReused { key: "a".to_owned() }, Code::RequestKeyReused, 422),
            (StoreError::RequestInFlight { key: "a".to_owned() }, Code::RequestInFlight, 409),
            (StoreError::ChangesGone { after: Lsn::ZERO, oldest: Lsn::FIRST }, Code::ChangesGone, 410),
            (StoreError::ChangesAhead { after: Lsn::FIRST, applied: Lsn::ZERO }, Code::ChangesGone, 410),
            (StoreError::CapacityReached { space: None, capacity: 1, count: 2 }, Code::CapacityReached, 507),
            (StoreError::MemoryLimitReached { limit: 1, bytes: 2 }, Code::MemoryLimitReached, 507),
            (StoreError::Setting { reason: String::new() }, Code::Internal, 500),
            (full.into(), Code::DiskFull, 507),
            (poisoned().into(), Code::LogFailed, 503),
            (read_only.into(), Code::ReadOnly, 503),
            (StorageError::Closed.into(), Code::ShuttingDown, 503),
        ];
        for (error, code, status) in rows {
            let (detail, problem) = (error.to_string(), Problem::from(error));
            assert_eq!((problem.code(), problem.detail()), (code, &*detail));
            let response = problem.into_response();
            assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{detail}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }
}
