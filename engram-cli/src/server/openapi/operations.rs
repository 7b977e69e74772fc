//! What each path takes and answers.

#![allow(
    clippy::enum_glob_use,
    clippy::needless_update,
    reason = "a table: each row says what differs from none, in the codes' own names"
)]

use axum::http::StatusCode;

use crate::server::{
    batch, changes, delete_many,
    dto::{MemoryBody, MemoryView, PatchBody, ReceiptView},
    health::Health,
    import,
    memories::PageView,
    problem::Code::{self, *},
    recall::{RecallBody, RecallView},
    reembed::{ReembedBody, ReembedView},
    snapshot::SnapshotView,
    spaces::{SpaceBody, SpaceView, SpacesView},
    status::StatusView,
};

use super::document::{Answer, Body, Operation, Param, Place::*, Schemas};

/// Of any request that reaches the memories, or is kept from them.
const ANY: &[Code] = &[
    Internal,
    Recovering,
    Timeout,
    Unauthorized,
    Forbidden,
    ForeignOrigin,
    ForeignHost,
    Overloaded,
    KeysUnavailable,
];

/// Of a path that names a space.
const SPACE: &[Code] = &[SpaceNotFound, InvalidId];

/// Of a body.
const BODY: &[Code] =
    &[InvalidJson, InvalidRequest, BodyTimeout, BodyTooLarge, UnsupportedMediaType, InvalidBody];

/// Of a change.
const CHANGE: &[Code] = &[
    ReadOnly,
    LogFailed,
    ShuttingDown,
    DiskFull,
    VersionMismatch,
    InvalidHeader,
    RequestKeyReused,
    RequestInFlight,
];

/// Of a memory to store.
const MEMORY: &[Code] = &[
    InvalidId,
    InvalidContent,
    InvalidTime,
    InvalidConfidence,
    InvalidMetadata,
    InvalidEmbedding,
    EmbeddingRefused,
    EmbeddingUnavailable,
    CapacityReached,
    MemoryLimitReached,
];

const KEY: Param = Param {
    place: Header,
    name: "Idempotency-Key",
    schema: r#"{"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]([ -~]*[!-~])?$"}"#,
    what: "Makes the request safe to repeat: a repetition is answered with the first receipt.",
};
const IF_MATCH: Param = Param {
    place: Header,
    name: "If-Match",
    schema: r#"{"type": "string", "pattern": "^(\\*|\"[1-9][0-9]{0,17}\")$"}"#,
    what: "The version that is changed: an ETag.",
};
const IF_NONE_MATCH: Param = Param {
    place: Header,
    name: "If-None-Match",
    schema: r#"{"type": "string", "enum": ["*"]}"#,
    what: "Only if there is no such memory.",
};

const LAST_EVENT_ID: Param = Param {
    place: Header,
    name: "Last-Event-ID",
    schema: r#"{"type": "string", "pattern": "^[0-9]{1,18}$"}"#,
    what: "The last event that the client has had: it goes on after that.",
};

const DURABILITY: Param = Param {
    place: Header,
    name: "Engram-Durability",
    schema: r#"{"type": "string", "enum": ["synced", "written"]}"#,
    what: "What the change has to survive when it is answered: power loss, or a crash of the process.",
};
const FILTER: Param = Param {
    place: Query,
    name: "filter",
    schema: r#"{"type": "string", "contentMediaType": "application/json"}"#,
    what: "Conditions as in a recall, as JSON.",
};
const ID: Param = Param {
    place: Path,
    name: "id",
    schema: r#"{"type": "string", "minLength": 1, "maxLength": 256}"#,
    what: "The memory's id, percent-encoded.",
};
const SPACE_NAME: Param = Param {
    place: Path,
    name: "space",
    schema: r#"{"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-z0-9][a-z0-9._-]*$"}"#,
    what: "The space's name.",
};

const fn query(name: &'static str, schema: &'static str, what: &'static str) -> Param {
    Param { place: Query, name, schema, what }
}

const LIMIT: Param =
    query("limit", r#"{"type": "integer", "minimum": 1, "maximum": 1000}"#, "The most memories (100).");
const CURSOR: Param = query("cursor", r#"{"type": "string"}"#, "next_cursor of the page before.");
const FROM: Param =
    query("from", r#"{"type": "string", "format": "date-time"}"#, "Those that happened then or later.");
const TO: Param = query("to", r#"{"type": "string", "format": "date-time"}"#, "Those that happened before.");
const INCLUDE: Param =
    query("include", r#"{"type": "string", "enum": ["embedding"]}"#, "What is told besides.");
const EMBEDDINGS: Param = query("embeddings", r#"{"type": "boolean"}"#, "With embeddings (true).");
const FROM_LINE: Param =
    query("from_line", r#"{"type": "integer", "minimum": 0}"#, "The first line that is looked at.");
const FROM_LSN: Param =
    query("from_lsn", r#"{"type": "integer", "minimum": 0}"#, "The first change that is wanted.");
const FOLLOW: Param = query("follow", r#"{"type": "boolean"}"#, "Goes on for ever.");

const NONE: Operation =
    Operation { method: "get", path: "", name: "", what: "", in_each_space: false, params: &[], errors: &[] };

fn json<T: schemars::JsonSchema>(status: StatusCode, what: &'static str, schemas: &mut Schemas) -> Answer {
    Answer { status, what, content: vec![("application/json", schemas.written::<T>())] }
}

/// All operations.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn operations(schemas: &mut Schemas) -> Vec<(Operation, Vec<Answer>, Vec<Body>)> {
    const OK: StatusCode = StatusCode::OK;
    let receipt = |schemas: &mut Schemas| {
        vec![
            json::<ReceiptView>(OK, "The memory was there, and is as it was asked for.", schemas),
            json::<ReceiptView>(StatusCode::CREATED, "The memory is new.", schemas),
        ]
    };
    let ndjson = |what, schema| Answer { status: OK, what, content: vec![("application/x-ndjson", schema)] };
    let any_text = || serde_json::json!({"type": "string"});
    let lines = || serde_json::json!({"description": "A memory a line."});
    vec![
        (
            Operation { path: "/healthz", name: "healthz", what: "Whether the process lives.", ..NONE },
            vec![json::<Health>(OK, "It does.", schemas)],
            vec![],
        ),
        (
            Operation {
                path: "/readyz",
                name: "readyz",
                what: "Whether memories are recovered, and writes are acknowledged as configured.",
                errors: &[&[Recovering, LogFailed, ReadOnly, ShuttingDown]],
                ..NONE
            },
            vec![json::<Health>(OK, "They are.", schemas)],
            vec![],
        ),
        (
            Operation {
                path: "/metrics",
                name: "metrics",
                what: "OpenMetrics text, for Prometheus.",
                ..NONE
            },
            vec![Answer {
                status: OK,
                what: "The metrics.",
                content: vec![("application/openmetrics-text; version=1.0.0; charset=utf-8", any_text())],
            }],
            vec![],
        ),
        (
            Operation {
                path: "/v1/status",
                name: "status",
                what: "Counts, LSNs, settings, and what the last recovery found.",
                errors: &[ANY],
                ..NONE
            },
            vec![json::<StatusView>(OK, "The state of the server.", schemas)],
            vec![],
        ),
        (
            Operation {
                method: "post",
                path: "/v1/snapshot",
                name: "take_snapshot",
                what: "Writes all memories, as they are at one moment, into a file, and removes the log before it.",
                errors: &[ANY, &[LogFailed, ReadOnly, ShuttingDown, DiskFull]],
                ..NONE
            },
            vec![json::<SnapshotView>(OK, "The snapshot is on stable storage.", schemas)],
            vec![],
        ),
        (
            Operation {
                path: "/v1/reembed",
                name: "get_reembed",
                what: "How embedding all memories anew is doing.",
                errors: &[ANY],
                ..NONE
            },
            vec![json::<ReembedView>(OK, "What is being done, or was done last.", schemas)],
            vec![],
        ),
        (
            Operation {
                method: "post",
                path: "/v1/reembed",
                name: "start_reembed",
                what: "Embeds all memories anew in the background, by another model, which is the store's from then on.",
                errors: &[ANY, BODY, &[ReembedRunning, ReadOnly, LogFailed, ShuttingDown, DiskFull]],
                ..NONE
            },
            vec![json::<ReembedView>(StatusCode::ACCEPTED, "It has begun.", schemas)],
            vec![Body { content_type: "application/json", schema: schemas.read::<ReembedBody>() }],
        ),
        (
            Operation {
                method: "delete",
                path: "/v1/reembed",
                name: "cancel_reembed",
                what: "Cancels embedding all memories anew: all is as it was, unless the model has changed already.",
                errors: &[ANY],
                ..NONE
            },
            vec![json::<ReembedView>(OK, "What has become of it.", schemas)],
            vec![],
        ),
        (
            Operation {
                path: "/v1/spaces",
                name: "list_spaces",
                what: "All spaces.",
                errors: &[ANY],
                ..NONE
            },
            vec![json::<SpacesView>(OK, "All spaces, in the order of their names.", schemas)],
            vec![],
        ),
        (
            Operation {
                path: "/v1/spaces/{space}",
                name: "get_space",
                what: "A space as it is.",
                params: &[SPACE_NAME],
                errors: &[ANY, SPACE],
                ..NONE
            },
            vec![json::<SpaceView>(OK, "The space.", schemas)],
            vec![],
        ),
        (
            Operation {
                method: "put",
                path: "/v1/spaces/{space}",
                name: "make_space",
                what: "Makes a space, or gives it other properties.",
                params: &[SPACE_NAME],
                errors: &[ANY, BODY, &[InvalidSpace, InvalidId, ReadOnly, LogFailed, ShuttingDown, DiskFull]],
                ..NONE
            },
            receipt(schemas),
            vec![Body { content_type: "application/json", schema: schemas.read::<SpaceBody>() }],
        ),
        (
            Operation {
                method: "delete",
                path: "/v1/spaces/{space}",
                name: "drop_space",
                what: "Drops a space with all memories in it.",
                params: &[SPACE_NAME],
                errors: &[ANY, SPACE, &[InvalidSpace, ReadOnly, LogFailed, ShuttingDown, DiskFull]],
                ..NONE
            },
            vec![json::<ReceiptView>(OK, "It is gone.", schemas)],
            vec![],
        ),
        (
            Operation {
                path: "/memories",
                name: "list_memories",
                what: "All memories by when they happened, then by id, page by page.",
                in_each_space: true,
                params: &[LIMIT, CURSOR, FROM, TO, FILTER],
                errors: &[ANY, &[InvalidQuery, InvalidTime, InvalidFilter, InvalidCursor]],
                ..NONE
            },
            vec![json::<PageView>(OK, "A page; the last one has no next_cursor.", schemas)],
            vec![],
        ),
        (
            Operation {
                method: "post",
                path: "/memories",
                name: "store_memory",
                what: "Stores a memory, in place of what has its id.",
                in_each_space: true,
                params: &[KEY, IF_MATCH, IF_NONE_MATCH, DURABILITY],
                errors: &[ANY, BODY, CHANGE, MEMORY],
                ..NONE
            },
            receipt(schemas),
            vec![Body { content_type: "application/json", schema: schemas.read::<MemoryBody>() }],
        ),
        (
            Operation {
                method: "delete",
                path: "/memories",
                name: "forget_memories",
                what: "Forgets all memories that a filter accepts.",
                in_each_space: true,
                params: &[DURABILITY],
                errors: &[ANY, BODY, CHANGE, &[InvalidFilter, InvalidQuery]],
                ..NONE
            },
            vec![json::<delete_many::DeletedView>(OK, "What has gone, or would.", schemas)],
            vec![Body {
                content_type: "application/json",
                schema: schemas.read::<delete_many::DeleteBody>(),
            }],
        ),
        (
            Operation {
                method: "post",
                path: "/memories/batch",
                name: "store_batch",
                what: "Stores up to 10,000 memories: an array, or one a line. Each has an answer of its own.",
                in_each_space: true,
                params: &[KEY, DURABILITY],
                errors: &[ANY, BODY, CHANGE, &[BatchTooLarge]],
                ..NONE
            },
            vec![Answer {
                status: OK,
                what: "A receipt or a problem for each memory, in order and in the form of the request.",
                content: vec![
                    ("application/json", {
                        let answer = schemas.written::<batch::Answer>();
                        serde_json::json!({"type": "array", "items": answer})
                    }),
                    ("application/x-ndjson", any_text()),
                ],
            }],
            vec![
                Body {
                    content_type: "application/json",
                    schema: {
                        let memory = schemas.read::<MemoryBody>();
                        // One that is wrong gets an answer of its own.
                        serde_json::json!({"type": "array", "items": {"anyOf": [memory, {}]}})
                    },
                },
                Body { content_type: "application/x-ndjson", schema: lines() },
            ],
        ),
        (
            Operation {
                path: "/memories/{id}",
                name: "get_memory",
                what: "A memory.",
                in_each_space: true,
                params: &[ID, INCLUDE],
                errors: &[ANY, &[NotFound, InvalidId, InvalidQuery]],
                ..NONE
            },
            vec![
                json::<MemoryView>(OK, "The memory; its ETag is its version.", schemas),
                Answer {
                    status: StatusCode::NOT_MODIFIED,
                    what: "It is as in If-None-Match.",
                    content: vec![],
                },
            ],
            vec![],
        ),
        (
            Operation {
                method: "put",
                path: "/memories/{id}",
                name: "put_memory",
                what: "Stores a memory under this id.",
                in_each_space: true,
                params: &[ID, KEY, IF_MATCH, IF_NONE_MATCH, DURABILITY],
                errors: &[ANY, BODY, CHANGE, MEMORY, &[IdMismatch]],
                ..NONE
            },
            receipt(schemas),
            vec![Body { content_type: "application/json", schema: schemas.read::<MemoryBody>() }],
        ),
        (
            Operation {
                method: "patch",
                path: "/memories/{id}",
                name: "patch_memory",
                what: "Changes what the body names, and leaves the rest.",
                in_each_space: true,
                params: &[ID, KEY, IF_MATCH, DURABILITY],
                errors: &[ANY, BODY, CHANGE, MEMORY, &[NotFound]],
                ..NONE
            },
            vec![json::<ReceiptView>(OK, "It is changed.", schemas)],
            vec![Body { content_type: "application/json", schema: schemas.read::<PatchBody>() }],
        ),
        (
            Operation {
                method: "delete",
                path: "/memories/{id}",
                name: "forget_memory",
                what: "Forgets a memory.",
                in_each_space: true,
                params: &[ID, KEY, IF_MATCH, DURABILITY],
                errors: &[ANY, CHANGE, &[NotFound, InvalidId]],
                ..NONE
            },
            vec![json::<ReceiptView>(OK, "It is gone.", schemas)],
            vec![],
        ),
        (
            Operation {
                method: "post",
                path: "/recall",
                name: "recall",
                what: "The memories that answer a question best: by words, by an embedding, or by both.",
                in_each_space: true,
                errors: &[
                    ANY,
                    BODY,
                    &[
                        InvalidQuery,
                        InvalidFilter,
                        InvalidEmbedding,
                        EmbeddingRefused,
                        EmbeddingUnavailable,
                        LsnNotReached,
                    ],
                ],
                ..NONE
            },
            vec![json::<RecallView>(OK, "The best first.", schemas)],
            vec![Body { content_type: "application/json", schema: schemas.read::<RecallBody>() }],
        ),
        (
            Operation {
                path: "/export",
                name: "export",
                what: "All memories, one a line, as imports take them.",
                in_each_space: true,
                params: &[EMBEDDINGS, FILTER],
                errors: &[ANY, &[InvalidQuery, InvalidFilter]],
                ..NONE
            },
            vec![ndjson("The memories.", any_text())],
            vec![],
        ),
        (
            Operation {
                method: "post",
                path: "/import",
                name: "import",
                what: "Stores memories without end, one a line.",
                in_each_space: true,
                params: &[FROM_LINE, DURABILITY],
                errors: &[ANY, BODY, CHANGE, MEMORY, &[InvalidQuery]],
                ..NONE
            },
            vec![json::<import::ImportView>(OK, "What became of the lines.", schemas)],
            vec![Body { content_type: "application/x-ndjson", schema: lines() }],
        ),
        (
            Operation {
                path: "/changes",
                name: "changes",
                what: "What changed from an LSN on, one change a line, and what changes from now on.",
                in_each_space: true,
                params: &[FROM_LSN, FOLLOW, LAST_EVENT_ID],
                errors: &[ANY, &[InvalidQuery, InvalidHeader, ChangesGone]],
                ..NONE
            },
            vec![Answer {
                status: OK,
                what: "The changes.",
                content: vec![
                    ("application/x-ndjson", {
                        schemas.written::<changes::ChangeView>();
                        any_text()
                    }),
                    ("text/event-stream", any_text()),
                ],
            }],
            vec![],
        ),
    ]
}

/// Of a path in a space that is named.
pub(super) const IN_SPACE: (Param, &[Code]) = (SPACE_NAME, SPACE);
