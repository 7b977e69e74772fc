//! The seven tools: what they are called, what they take, and which requests of the HTTP interface they are.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::http::{HeaderName, Method, header};
use engram_core::Episode;
use rmcp::{
    handler::server::tool::{schema_for_output, schema_for_type},
    model::{JsonObject, Tool, ToolAnnotations},
};
use serde_json::{Map, Value, json};

use super::{
    Backend, Caller,
    answer::Refusal,
    arguments::{self, Arguments},
    results,
};
use crate::{client::Call, server::percent_encoded};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A tool. The names are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToolName {
    Remember,
    Recall,
    GetMemory,
    ListMemories,
    UpdateMemory,
    Forget,
    MemoryStatus,
}

impl ToolName {
    pub(super) const ALL: [Self; 7] = [
        Self::Remember,
        Self::Recall,
        Self::GetMemory,
        Self::ListMemories,
        Self::UpdateMemory,
        Self::Forget,
        Self::MemoryStatus,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Remember => "remember",
            Self::Recall => "recall",
            Self::GetMemory => "get_memory",
            Self::ListMemories => "list_memories",
            Self::UpdateMemory => "update_memory",
            Self::Forget => "forget",
            Self::MemoryStatus => "memory_status",
        }
    }

    /// The tool of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    const fn title_and_description(self) -> (&'static str, &'static str) {
        match self {
            Self::Remember => (
                "Remember",
                "Stores a memory that survives restarts and power loss: a fact, a preference, a decision or an event worth \
                 knowing in a later conversation. Never replaces one: an id that there is already is refused.",
            ),
            Self::Recall => (
                "Recall",
                "Finds the memories that answer a question best, the best first. Use it before answering whatever may have \
                 come up before.",
            ),
            Self::GetMemory => ("Get a memory", "Reads one memory by its id."),
            Self::ListMemories => (
                "List memories",
                "Lists memories by time, page by page, all of them or those that a filter accepts. To look for something \
                 use recall.",
            ),
            Self::UpdateMemory => (
                "Update a memory",
                "Changes a part of a memory: what is named is changed, the rest stays. Use it when a fact has changed.",
            ),
            Self::Forget => (
                "Forget",
                "Forgets one memory by its id, or all that a filter accepts, for good. With a filter, look first with \
                 dry_run.",
            ),
            Self::MemoryStatus => (
                "Memory status",
                "Tells how many memories there are, in which spaces, and whether new ones are stored durably.",
            ),
        }
    }

    fn annotations(self) -> ToolAnnotations {
        // Nothing reaches beyond the store.
        let all = ToolAnnotations::new().open_world(false);
        match self {
            Self::Recall | Self::GetMemory | Self::ListMemories | Self::MemoryStatus => {
                all.read_only(true).destructive(false).idempotent(true)
            }
            Self::Remember => all.read_only(false).destructive(false).idempotent(false),
            Self::UpdateMemory | Self::Forget => all.read_only(false).destructive(true).idempotent(true),
        }
    }

    fn input(self) -> Arc<JsonObject> {
        match self {
            Self::Remember => schema_for_type::<arguments::Remember>(),
            Self::Recall => schema_for_type::<arguments::Recall>(),
            Self::GetMemory => schema_for_type::<arguments::Get>(),
            Self::ListMemories => schema_for_type::<arguments::List>(),
            Self::UpdateMemory => schema_for_type::<arguments::Update>(),
            Self::Forget => schema_for_type::<arguments::Forget>(),
            Self::MemoryStatus => schema_for_type::<arguments::Status>(),
        }
    }

    fn output(self) -> Arc<JsonObject> {
        match self {
            Self::Remember | Self::UpdateMemory => schema_for_output::<results::Receipt>(),
            Self::Recall => schema_for_output::<results::Recalled>(),
            Self::GetMemory => schema_for_output::<results::Memory>(),
            Self::ListMemories => schema_for_output::<results::Listed>(),
            Self::Forget => schema_for_output::<results::Forgotten>(),
            Self::MemoryStatus => schema_for_output::<results::Status>(),
        }
    }

    /// The tool as the protocol describes it.
    pub(super) fn definition(self) -> Tool {
        let (title, description) = self.title_and_description();
        Tool::new(self.name(), description, self.input())
            .with_title(title)
            .with_raw_output_schema(self.output())
            .with_annotations(self.annotations())
    }

    /// Does what the tool is for.
    pub(super) async fn run(
        self,
        arguments: Option<JsonObject>,
        backend: &impl Backend,
        caller: &Caller,
    ) -> Result<Value, Refusal> {
        let mut arguments = Arguments::new(&self.input(), arguments)?;
        let at = arguments.take_space()?;
        let server = Asked { backend, caller };
        match self {
            Self::Remember => server.ask(remember(&at, arguments)).await.map_err(if_there_is_one),
            Self::Recall => {
                server.ask(Call::new(Method::POST, format!("{at}/recall")).body(arguments.rest())).await
            }
            Self::GetMemory => server.ask(Call::get(memory(&at, &arguments.take_id()?))).await,
            Self::ListMemories => server.ask(list(&at, arguments)).await,
            Self::UpdateMemory => {
                let call = Call::new(Method::PATCH, memory(&at, &arguments.take_id()?));
                server.ask(once(call.body(arguments.rest()))).await
            }
            Self::Forget => forget(&at, arguments, &server).await,
            Self::MemoryStatus => {
                let status = server.ask(Call::get("/v1/status")).await?;
                Ok(summary(&status, &server.ask(Call::get("/v1/spaces")).await?))
            }
        }
    }
}

/// Who carries the requests of one call out, for whom.
struct Asked<'a, B> {
    backend: &'a B,
    caller: &'a Caller,
}

impl<B: Backend> Asked<'_, B> {
    async fn ask(&self, call: Call) -> Result<Value, Refusal> {
        let reply = self.backend.call(call, self.caller).await?;
        if reply.is_success() { Ok(reply.body) } else { Err(Refusal::of_problem(&reply)) }
    }
}

fn memory(at: &str, id: &str) -> String {
    format!("{at}/memories/{}", percent_encoded(id))
}

/// So that it is done once, also when its answer is lost and it is sent again.
fn once(call: Call) -> Call {
    call.header(IDEMPOTENCY_KEY, Episode::new_id())
}

fn remember(at: &str, arguments: Arguments) -> Call {
    let call = once(Call::new(Method::POST, format!("{at}/memories")));
    let call = if arguments.has("id") { call.header(header::IF_NONE_MATCH, "*") } else { call };
    call.body(arguments.rest())
}

/// A memory that is there is not replaced by the way: its id may be there by accident.
fn if_there_is_one(refusal: Refusal) -> Refusal {
    if refusal.code() != Some("version_mismatch") {
        return refusal;
    }
    refusal.suggest(
        "There is a memory with this id already. Read it with get_memory; change it with update_memory; or remember the new one \
         without an id, or with another.",
    )
}

fn list(at: &str, mut arguments: Arguments) -> Call {
    let mut path = format!("{at}/memories");
    let mut separator = '?';
    for name in ["limit", "cursor", "filter"] {
        let Some(value) = arguments.take(name) else { continue };
        // A text as it is; a number and an object as JSON.
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        path.push(separator);
        path.push_str(name);
        path.push('=');
        path.push_str(&percent_encoded(&value));
        separator = '&';
    }
    Call::get(path)
}

async fn forget(
    at: &str,
    mut arguments: Arguments,
    server: &Asked<'_, impl Backend>,
) -> Result<Value, Refusal> {
    let is_dry_run = match arguments.take("dry_run") {
        None => false,
        Some(Value::Bool(is_dry_run)) => is_dry_run,
        Some(other) => {
            return Err(Refusal::new(format!("dry_run: expected true or false, got {other}"))
                .suggest("Nothing was forgotten. Call the tool again with true or false."));
        }
    };
    match (arguments.has("id"), arguments.take("filter")) {
        (true, None) => {
            let id = arguments.take_id()?;
            let path = memory(at, &id);
            if is_dry_run {
                server.ask(Call::get(path)).await?;
            } else {
                server.ask(once(Call::new(Method::DELETE, path))).await?;
            }
            Ok(json!({"dry_run": is_dry_run, "matched": 1, "deleted": u8::from(!is_dry_run), "ids": [id]}))
        }
        (false, Some(filter)) => {
            let body = json!({"filter": filter, "dry_run": is_dry_run});
            server.ask(Call::new(Method::DELETE, format!("{at}/memories")).body(body)).await
        }
        _ => Err(Refusal::new("expected either an id or a filter")
            .suggest("Nothing was forgotten. Call the tool again with one of them.")),
    }
}

/// What a model has use for.
fn summary(status: &Value, spaces: &Value) -> Value {
    let only = |from: &Value, names: &[&str]| -> Map<String, Value> {
        let known = names.iter().filter_map(|name| Some(((*name).to_owned(), from.get(name)?.clone())));
        known.collect()
    };
    let mut summary = only(status, &["version", "memories", "capacity", "writes", "unembedded"]);
    let spaces = spaces["spaces"].as_array().into_iter().flatten();
    let spaces = spaces.map(|space| only(space, &["name", "memories"]).into()).collect();
    summary.insert("spaces".to_owned(), Value::Array(spaces));
    summary.into()
}
