//! The JSON of requests and answers. Apart from the store's types, so that neither side ties the other down.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, SecondsFormat, Utc};
use engram_core::{
    Confidence, Durability, Embedding, Episode, Lsn, Memory, MemoryStore, MetaValue, Metadata, Outcome,
    Patch, Receipt,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    embedding_field::EmbeddingField,
    json::UniqueKeys,
    problem::{Code, Problem},
    terms::etag,
};
use crate::service::{SpaceService, VectorState};

/// A memory to store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
pub(crate) struct MemoryBody {
    /// Made when there is none. No control characters.
    #[schemars(length(min = 1, max = 256))]
    id: Option<String>,
    /// What happened, in words.
    #[schemars(length(min = 1, max = 262_144))]
    content: String,
    /// When it happened, to the microsecond; now, if nothing is said.
    #[schemars(extend("format" = "date-time"))]
    when: Option<String>,
    embedding: Option<EmbeddingField>,
    /// How sure it is.
    #[schemars(range(min = 0, max = 1))]
    confidence: Option<f32>,
    #[schemars(schema_with = "metadata_schema")]
    metadata: Option<UniqueKeys<MetaValue>>,
    /// When it ends by itself.
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
}

/// Up to 64 keys of up to 128 bytes, 64 KiB in all.
fn metadata_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "maxProperties": 64,
        "propertyNames": {"minLength": 1, "maxLength": 128},
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    })
}

/// As above; a key whose value is null goes.
fn metadata_patch_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "propertyNames": {"minLength": 1, "maxLength": 128},
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    })
}

impl MemoryBody {
    /// The id of the body.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// With the id of the path, which the body may repeat.
    pub(crate) fn with_id(self, id: String) -> Result<Self, Problem> {
        match self.id {
            Some(other) if other != id => {
                let detail =
                    format!("expected no id in the body or the one in the path, {id:?}, got {other:?}");
                Err(Problem::new(Code::IdMismatch, detail))
            }
            _ => Ok(Self { id: Some(id), ..self }),
        }
    }

    /// What the store takes. What only the store can check, it checks.
    pub(crate) fn into_episode(self) -> Result<Episode, Problem> {
        Ok(Episode {
            id: self.id.unwrap_or_else(Episode::new_id),
            when: self.when.as_deref().map_or_else(|| Ok(Utc::now()), |when| time("when", when))?,
            content: self.content,
            embedding: self.embedding.map(Embedding::from),
            confidence: self.confidence.map_or(Ok(Confidence::CERTAIN), confidence)?,
            metadata: self.metadata.unwrap_or_default().0,
            expires_at: self.expires_at.as_deref().map(|at| time("expires_at", at)).transpose()?,
        })
    }
}

/// What is to change of a memory (RFC 7396): what is not named stays, what is null goes, where a memory can be without it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
#[expect(clippy::option_option, reason = "a field is not there, is null, or has a value")]
pub(crate) struct PatchBody {
    /// Takes the embedding away, unless there is one beside it.
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "String", length(min = 1, max = 262_144))]
    content: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    when: Option<String>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "named")]
    #[schemars(with = "Option<EmbeddingField>")]
    embedding: Option<Option<EmbeddingField>>,
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(with = "f32", range(min = 0, max = 1))]
    confidence: Option<f32>,
    /// Single keys; null takes one away.
    #[serde(default, deserialize_with = "not_null")]
    #[schemars(schema_with = "metadata_patch_schema")]
    metadata: Option<UniqueKeys<Option<MetaValue>>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "named")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    expires_at: Option<Option<String>>,
}

impl PatchBody {
    pub(crate) fn into_patch(self) -> Result<Patch, Problem> {
        let end = |at: Option<String>| at.as_deref().map(|at| time("expires_at", at)).transpose();
        Ok(Patch {
            content: self.content,
            when: self.when.as_deref().map(|when| time("when", when)).transpose()?,
            confidence: self.confidence.map(confidence).transpose()?,
            embedding: self.embedding.map(|embedding| embedding.map(Embedding::from)),
            metadata: self.metadata.unwrap_or_default().0.into_iter().collect(),
            expires_at: self.expires_at.map(end).transpose()?,
        })
    }
}

/// A field that may be left out, and has a value where it is not.
fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Tells a field that is null from one that is not there.
#[expect(clippy::option_option, reason = "that is the difference")]
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Reads a time of RFC 3339.
pub(crate) fn time(field: &str, text: &str) -> Result<DateTime<Utc>, Problem> {
    DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(|e| {
        let detail =
            format!("{field}: expected a time as RFC 3339, such as 2026-03-01T09:30:00Z, got {text:?}: {e}");
        Problem::new(Code::InvalidTime, detail)
    })
}

/// Reads a confidence.
pub(crate) fn confidence(value: f32) -> Result<Confidence, Problem> {
    Confidence::new(value).map_err(|e| Problem::new(Code::InvalidConfidence, e.to_string()))
}

/// The acknowledgement of a write.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReceiptView {
    id: String,
    lsn: u64,
    outcome: &'static str,
    durability: &'static str,
    /// `given`, `embedded`, `pending` or `none`; of a memory that was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'static str>,
    /// Where memories of its space are.
    #[serde(skip)]
    path: String,
}

impl ReceiptView {
    /// Of a memory in this space.
    pub(crate) fn in_space(space: &SpaceService, receipt: Receipt) -> Self {
        let path = match &**space.name() {
            MemoryStore::DEFAULT_SPACE => String::new(),
            name => format!("/spaces/{name}"),
        };
        Self { path, ..receipt.into() }
    }

    /// With what there is of the memory's vector.
    pub(crate) fn with_vector(self, vector: VectorState) -> Self {
        let embedding = match vector {
            VectorState::Given => "given",
            VectorState::Embedded => "embedded",
            VectorState::Pending => "pending",
            VectorState::None => "none",
        };
        Self { embedding: Some(embedding), ..self }
    }
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        let outcome = match receipt.outcome {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Unchanged => "unchanged",
            Outcome::Deleted => "deleted",
        };
        let durability = match receipt.durability {
            Durability::Synced => "synced",
            Durability::Written => "written",
            Durability::Volatile => "volatile",
        };
        let (id, lsn) = (receipt.id, receipt.lsn.get());
        Self { id, lsn, outcome, durability, embedding: None, path: String::new() }
    }
}

impl IntoResponse for ReceiptView {
    /// 201 with where the memory is when it is new, 200 otherwise; with its version, where there is a memory.
    fn into_response(self) -> Response {
        let tag = [(header::ETAG, etag(Lsn::new(self.lsn)))];
        match self.outcome {
            "created" => {
                let location = format!("/v1{}/memories/{}", self.path, percent_encoded(&self.id));
                (StatusCode::CREATED, tag, [(header::LOCATION, location)], Json(self)).into_response()
            }
            "deleted" => Json(self).into_response(),
            _ => (tag, Json(self)).into_response(),
        }
    }
}

/// A text as a segment of a path, or as a value in a query.
pub(crate) fn percent_encoded(id: &str) -> String {
    use std::fmt::Write as _;
    let mut segment = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(char::from(byte));
            }
            // Writing to a string does not fail.
            _ => drop(write!(segment, "%{byte:02X}")),
        }
    }
    segment
}

/// A memory as it is read.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MemoryView<'a> {
    #[serde(flatten)]
    what: EpisodeView<'a>,
    lsn: u64,
    has_embedding: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
}

impl<'a> From<&'a Memory> for MemoryView<'a> {
    fn from(memory: &'a Memory) -> Self {
        Self {
            what: memory.into(),
            lsn: memory.lsn().get(),
            has_embedding: memory.has_embedding(),
            embedding: None,
        }
    }
}

impl<'a> MemoryView<'a> {
    /// With its numbers.
    pub(crate) fn with_embedding(self, embedding: Option<&'a Embedding>) -> Self {
        Self { embedding: embedding.map(Embedding::as_slice), ..self }
    }
}

/// What every reader of a memory is told.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EpisodeView<'a> {
    id: &'a str,
    content: &'a str,
    when: String,
    confidence: f32,
    #[schemars(schema_with = "metadata_schema")]
    metadata: &'a Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> From<&'a Memory> for EpisodeView<'a> {
    fn from(memory: &'a Memory) -> Self {
        Self {
            id: memory.id(),
            content: memory.content(),
            when: memory.when().to_rfc3339_opts(SecondsFormat::AutoSi, true),
            confidence: memory.confidence().get(),
            metadata: memory.metadata(),
            expires_at: memory.expires_at().map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_zone_and_wrong_ones_refused_with_an_example() {
        let utc = time("when", "2026-03-01T09:30:00.25Z").unwrap();
        assert_eq!(time("when", "2026-03-01T11:30:00.25+02:00").unwrap(), utc);
        for text in
            ["yesterday", "2026-03-01", "2026-02-30T00:00:00Z", "1772357400", "2026-03-01T09:30:00", ""]
        {
            let problem = time("from", text).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidTime);
            let detail = problem.detail();
            assert!(
                detail.starts_with("from: ") && detail.contains("such as") && detail.contains(text),
                "{detail}"
            );
        }
    }

    #[test]
    fn an_id_in_a_path_is_one_segment() {
        assert_eq!(percent_encoded("a-Z_0.9~"), "a-Z_0.9~");
        assert_eq!(percent_encoded("a/b c?ü%"), "a%2Fb%20c%3F%C3%BC%25");
    }

    #[test]
    fn the_id_in_the_body_may_only_repeat_the_one_in_the_path() {
        let body =
            |id: &str| serde_json::from_str::<MemoryBody>(&format!("{{{id}\"content\":\"x\"}}")).unwrap();
        assert_eq!(body("").with_id("a".to_owned()).unwrap().id.as_deref(), Some("a"));
        assert_eq!(body("\"id\":\"a\",").with_id("a".to_owned()).unwrap().id.as_deref(), Some("a"));
        let problem = body("\"id\":\"b\",").with_id("a".to_owned()).unwrap_err();
        assert_eq!(problem.code(), Code::IdMismatch);
    }
}
