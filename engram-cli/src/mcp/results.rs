//! The schemas of what tools answer: the JSON of the HTTP interface, as far as a model has use for it.

#![expect(dead_code, reason = "only their schemas are used: the JSON is that of the HTTP interface")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

/// The acknowledgement of a change.
#[derive(JsonSchema)]
pub(super) struct Receipt {
    /// The memory that was changed.
    id: String,
    /// The version of the memory: its position in the log.
    lsn: u64,
    /// `created`, `updated`, `unchanged` or `deleted`.
    outcome: String,
    /// `synced`: survives power loss; `written`: survives a crash of the process; `volatile`: survives neither.
    durability: String,
}

/// A memory.
#[derive(JsonSchema)]
pub(super) struct Memory {
    id: String,
    content: String,
    /// When it happened, as RFC 3339.
    when: String,
    /// How sure it is, from 0 to 1.
    confidence: f32,
    metadata: BTreeMap<String, Value>,
    /// When it ends by itself, if it does.
    #[schemars(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// What answers a question best, the best first.
#[derive(JsonSchema)]
pub(super) struct Recalled {
    results: Vec<Hit>,
    /// Whether as many came as were asked for, or all that match.
    complete: bool,
}

#[derive(JsonSchema)]
struct Hit {
    #[schemars(flatten)]
    memory: Memory,
    /// Comparable within one answer only.
    score: f32,
}

/// A page of memories, by time.
#[derive(JsonSchema)]
pub(super) struct Listed {
    memories: Vec<Memory>,
    /// Give it as `cursor` for the next page; null on the last.
    next_cursor: Option<String>,
}

/// What has been forgotten, or would be.
#[derive(JsonSchema)]
pub(super) struct Forgotten {
    dry_run: bool,
    /// Memories that were found.
    matched: u64,
    /// Memories that are gone.
    deleted: u64,
    /// The first hundred of those that were found.
    ids: Vec<String>,
}

/// How the server is, and which spaces it has.
#[derive(JsonSchema)]
pub(super) struct Status {
    version: String,
    /// Memories in all spaces.
    memories: u64,
    /// The most memories that it takes.
    capacity: u64,
    /// `durable`, `volatile` or `refused`.
    writes: String,
    /// Memories that are recalled by words alone, since they have no embedding.
    unembedded: u64,
    spaces: Vec<SpaceStatus>,
}

#[derive(JsonSchema)]
struct SpaceStatus {
    name: String,
    memories: u64,
}
