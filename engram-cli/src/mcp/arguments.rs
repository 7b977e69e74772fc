//! What tools take: the schemas, and the arguments of one call. Values are checked where they are used, behind the HTTP
//! interface; here only names are, since an argument that nobody reads would be one that is silently ignored.

#![expect(dead_code, reason = "only the schemas of the structs are used: values go on as they came")]

use std::collections::BTreeMap;

use rmcp::model::JsonObject;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::answer::Refusal;
use crate::server::percent_encoded;

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Remember {
    /// What to remember, in words that make sense on their own later: one fact or event a memory.
    #[schemars(length(min = 1, max = 262_144))]
    content: String,
    /// A name for the memory, to find it again by; made when there is none. Must be new.
    #[schemars(length(min = 1, max = 256))]
    id: Option<String>,
    /// When it happened, as RFC 3339, such as 2026-03-01T09:30:00Z; now, if left out.
    when: Option<String>,
    /// How sure it is, from 0 to 1; 1 if left out.
    #[schemars(range(min = 0, max = 1))]
    confidence: Option<f32>,
    /// Flat facts to filter by later, such as {"user": "ada", "topic": "travel"}: strings, numbers and booleans.
    metadata: Option<BTreeMap<String, Value>>,
    /// When it ends by itself, as RFC 3339; never, if left out.
    expires_at: Option<String>,
    #[schemars(default, schema_with = "space")]
    space: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Recall {
    /// What to look for, in words: a question, or what the memory would say.
    #[schemars(length(min = 1, max = 16_384))]
    query: String,
    /// The most results; 10 if left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    #[schemars(default, schema_with = "filter")]
    filter: Option<Value>,
    #[schemars(default, schema_with = "mode")]
    mode: Option<String>,
    /// Prefers what is recent: halves a score for each such time since `when`. Such as "7d", "12h", "30m".
    recency_half_life: Option<String>,
    #[schemars(default, schema_with = "space")]
    space: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Get {
    /// The id of the memory.
    id: String,
    #[schemars(default, schema_with = "space")]
    space: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct List {
    /// The most memories on the page; 100 if left out.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    #[schemars(default, schema_with = "filter")]
    filter: Option<Value>,
    #[schemars(default, schema_with = "space")]
    space: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Update {
    /// The id of the memory to change.
    id: String,
    /// The new content, whole.
    #[schemars(length(min = 1, max = 262_144))]
    content: Option<String>,
    /// When it happened, as RFC 3339.
    when: Option<String>,
    /// How sure it is, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    confidence: Option<f32>,
    /// Single keys to set; a key whose value is null is taken away. Other keys stay.
    metadata: Option<BTreeMap<String, Value>>,
    /// When it ends by itself, as RFC 3339; null for never.
    expires_at: Option<String>,
    #[schemars(default, schema_with = "space")]
    space: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Forget {
    /// The id of the memory to forget. Either this, or `filter`.
    id: Option<String>,
    #[schemars(default, schema_with = "filter")]
    filter: Option<Value>,
    /// Tells what would be forgotten, and forgets nothing.
    dry_run: Option<bool>,
    #[schemars(default, schema_with = "space")]
    space: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Status {}

fn space(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "description": "The space of memories; \"default\" if left out. memory_status lists all spaces.",
    })
}

fn mode(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "enum": ["auto", "words", "vector", "hybrid", null],
        "description": "How to look: auto (whatever the server has for the question) if left out.",
    })
}

fn filter(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "description": "Which memories count: an object whose keys must all hold. Keys are id, when, confidence, or one of the \
            metadata. A value is one to be equal to, or an object of tests: eq, ne, gt, gte, lt, lte, in, contains. AND, OR and \
            NOT take lists of such objects. Example: {\"user\": \"ada\", \"when\": {\"gte\": \"2026-01-01T00:00:00Z\"}}",
    })
}

/// The arguments of one call, by name. Names are those of the tool's schema.
pub(super) struct Arguments(JsonObject);

impl Arguments {
    /// # Errors
    /// A [`Refusal`] when there is a name that `schema` has not, or when one is missing.
    pub(super) fn new(schema: &JsonObject, arguments: Option<JsonObject>) -> Result<Self, Refusal> {
        let arguments = arguments.unwrap_or_default();
        let known = schema.get("properties").and_then(Value::as_object);
        let names = || known.into_iter().flat_map(JsonObject::keys).map(String::as_str).collect::<Vec<_>>();
        if let Some(name) = arguments.keys().find(|name| known.is_none_or(|it| !it.contains_key(*name))) {
            let expected = if names().is_empty() { "no argument".to_owned() } else { names().join(", ") };
            return Err(Refusal::new(format!("unknown argument {name:?}: expected {expected}"))
                .suggest("Leave it out, or use one of the names that the tool's schema has."));
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        let mut missing = required.filter_map(Value::as_str).filter(|name| !arguments.contains_key(*name));
        if let Some(name) = missing.next() {
            return Err(Refusal::new(format!("the argument {name:?} is missing"))
                .suggest("Call the tool again with it."));
        }
        Ok(Self(arguments))
    }

    /// Takes one out. What is null is not there.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text out.
    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Refusal::new(format!("{name}: expected a string, got {other}"))
                .suggest("Call the tool again with a string.")),
        }
    }

    /// Takes the id out, as the last part of a path. It is required: an empty one is refused where it arrives.
    pub(super) fn take_id(&mut self) -> Result<String, Refusal> {
        let id = self.take_text("id")?.unwrap_or_default();
        if id.is_empty() {
            return Err(Refusal::new("id: expected 1 to 256 bytes, got none")
                .suggest("Give the id of a memory: recall and list_memories tell them."));
        }
        Ok(id)
    }

    /// Takes the space out, and gives the path of what is in it.
    pub(super) fn take_space(&mut self) -> Result<String, Refusal> {
        let space = self.take_text("space")?;
        Ok(space.map_or_else(|| "/v1".to_owned(), |name| format!("/v1/spaces/{}", percent_encoded(&name))))
    }

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// The others, as they came.
    pub(super) fn rest(self) -> Value {
        Value::Object(self.0)
    }
}
