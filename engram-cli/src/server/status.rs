//! The state of the server, for people and their tools.

use std::sync::Arc;

use axum::{Json, extract::State};
use engram_core::{
    IndexStatus, ModelIdentity, SnapshotStatus, StoreStatus, Writes, chrono::SecondsFormat,
    storage::MetricsSnapshot,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{extract::Ready, snapshot::SnapshotView, state::App};
use crate::{
    embed::{EmbedService, Snapshot},
    recovery_view::RecoveryView,
};

/// The answer to `GET /v1/status`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StatusView {
    version: &'static str,
    uptime_s: u64,
    /// Of all spaces.
    memories: usize,
    spaces: usize,
    /// Memories without an embedding.
    unembedded: usize,
    capacity: usize,
    /// About how much memory the memories take, and how much they may; null for no limit.
    memory_bytes: u64,
    memory_limit: Option<u64>,
    dimension: usize,
    precision: String,
    /// What the embeddings are from, once that was said.
    model: Option<ModelView>,
    index: IndexView,
    /// `durable`, `volatile` or `refused`.
    writes: &'static str,
    /// The last change that readers see.
    applied_lsn: u64,
    log: LogView,
    snapshots: SnapshotsView,
    recovery: Option<RecoveryView>,
    /// Null where the server makes no embeddings.
    embedding: Option<EmbeddingView>,
}

/// How the server is doing with embeddings, since its start.
#[derive(Debug, Serialize, JsonSchema)]
struct EmbeddingView {
    model: String,
    /// Where the vectors come from.
    source: String,
    /// `idle`, `embedding`, `retrying` or `misconfigured`.
    state: &'static str,
    /// Memories without an embedding.
    pending: usize,
    embedded: u64,
    /// Memories that the model does not take, and that are not tried for now.
    failed: u64,
    questions: u64,
    questions_failed: u64,
    last_error: Option<String>,
}

impl EmbeddingView {
    fn new(embed: &EmbedService, pending: usize) -> Self {
        let Snapshot { state, embedded, failed, questions, questions_failed, last_error } =
            embed.progress().snapshot();
        Self {
            model: embed.embedder().identity().name,
            source: embed.embedder().source(),
            state: state.name(),
            pending,
            embedded,
            failed,
            questions,
            questions_failed,
            last_error,
        }
    }
}

/// What finds the candidates of a recall by vector.
#[derive(Debug, Serialize, JsonSchema)]
struct IndexView {
    /// As it was set: `auto`, `scan`, `ivf` or `hnsw`.
    mode: String,
    recall_target: f32,
    /// What a recall of ten does now: `exact`, `scan`, `ivf` or `hnsw`.
    route: &'static str,
    /// Memories with a vector.
    vectors: usize,
    /// Of these, those that are in no list, or not in the graph, yet, and are scanned.
    tail: usize,
    lists: usize,
    /// How many lists a recall of ten looks at.
    probes: Option<usize>,
    /// How many were put into the graph.
    graph_vectors: usize,
    /// How many of the nearest a recall of ten keeps on its way through the graph.
    ef: Option<usize>,
    /// Whether it is being made or filled now.
    is_working: bool,
    /// When the lists, or the graph, were last made anew.
    trained_at: Option<String>,
    training_ms: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LogView {
    directory: String,
    fsync: String,
    on_failure: &'static str,
    /// Why the log has failed, when it has.
    failure: Option<String>,
    poisoned: bool,
    /// A write was refused for want of space, and none has succeeded since.
    disk_full: bool,
    written_lsn: u64,
    synced_lsn: u64,
    durable_lag: u64,
    appends: u64,
    failed_appends: u64,
    payload_bytes: u64,
    written_bytes: u64,
    rotations: u64,
    queue_depth: u64,
    queue_bytes: u64,
}

/// What was done about snapshots since the start.
#[derive(Debug, Serialize, JsonSchema)]
struct SnapshotsView {
    /// The last one.
    last: Option<SnapshotView>,
    taken: u64,
    failed: u64,
    last_error: Option<String>,
    /// Bytes of log since the last one, which the next start will read.
    log_bytes: u64,
}

impl From<&SnapshotStatus> for SnapshotsView {
    fn from(status: &SnapshotStatus) -> Self {
        Self {
            last: status.last.as_ref().map(SnapshotView::from),
            taken: status.taken,
            failed: status.failed,
            last_error: status.last_error.clone(),
            log_bytes: status.log_bytes,
        }
    }
}

/// A model of embeddings.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelView {
    name: String,
    document_prefix: String,
    query_prefix: String,
}

impl From<ModelIdentity> for ModelView {
    fn from(ModelIdentity { name, document_prefix, query_prefix }: ModelIdentity) -> Self {
        Self { name, document_prefix, query_prefix }
    }
}

/// `GET /v1/status`
pub(crate) async fn get(State(app): State<Arc<App>>, Ready(service): Ready) -> Json<StatusView> {
    let status = service.status();
    let embedding = service.embed().map(|embed| EmbeddingView::new(&embed, status.unembedded));
    let StoreStatus {
        memory_bytes,
        memory_limit,
        count,
        capacity,
        spaces,
        unembedded,
        dimension,
        precision,
        model,
        index,
        applied_lsn,
        log,
        recovery,
        writes,
        snapshots,
    } = status;
    Json(StatusView {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: app.started.elapsed().as_secs(),
        memories: count,
        spaces,
        unembedded,
        capacity,
        memory_bytes,
        memory_limit: (memory_limit < u64::MAX).then_some(memory_limit),
        dimension,
        precision: precision.to_string(),
        model: model.map(ModelView::from),
        index: IndexView::from(index),
        writes: name_of_writes(writes),
        applied_lsn: applied_lsn.get(),
        log: LogView::new(&app, &log),
        snapshots: SnapshotsView::from(&snapshots),
        recovery: recovery.map(RecoveryView::from),
        embedding,
    })
}

/// What becomes of a write now, as clients read it.
pub(crate) const fn name_of_writes(writes: Writes) -> &'static str {
    match writes {
        Writes::Durable => "durable",
        Writes::Volatile => "volatile",
        Writes::Refused => "refused",
    }
}

impl From<IndexStatus> for IndexView {
    fn from(index: IndexStatus) -> Self {
        let (trained_at, took) = index.trained.unzip();
        Self {
            mode: index.mode.to_string(),
            recall_target: index.recall_target.get(),
            route: index.route.name(),
            vectors: index.rows,
            tail: index.tail,
            lists: index.lists,
            probes: index.route.probes(),
            graph_vectors: index.nodes,
            ef: index.route.ef(),
            is_working: index.is_working,
            trained_at: trained_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)),
            training_ms: took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl LogView {
    fn new(app: &App, log: &MetricsSnapshot) -> Self {
        Self {
            directory: app.config.log_directory().display().to_string(),
            fsync: app.config.fsync.to_string(),
            on_failure: app.config.on_wal_failure.name(),
            failure: app.log_failure.cause().map(str::to_owned),
            poisoned: log.poisoned,
            disk_full: log.disk_full,
            written_lsn: log.written_lsn,
            synced_lsn: log.synced_lsn,
            durable_lag: log.durable_lag(),
            appends: log.appends,
            failed_appends: log.failed_appends,
            payload_bytes: log.payload_bytes,
            written_bytes: log.written_bytes,
            rotations: log.rotations,
            queue_depth: log.queue_depth,
            queue_bytes: log.queue_bytes,
        }
    }
}
