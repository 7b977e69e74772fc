//! What a tool answers: the JSON of the HTTP interface, or what went wrong and what to do next, for a model to act on.

use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::Value;

use crate::client::Reply;

/// Why a tool has done nothing. It is a result of the tool, and no error of the protocol: those do not reach the model.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Never changes its meaning; nothing for what has none.
    code: Option<String>,
    detail: String,
    suggestion: String,
}

impl Refusal {
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Self { code: None, detail: detail.into(), suggestion: String::new() }
    }

    /// With what to do next.
    pub(crate) fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: suggestion.into(), ..self }
    }

    /// Of an answer that is a problem.
    pub(crate) fn of_problem(reply: &Reply) -> Self {
        let detail = reply.field("detail");
        let detail = detail.map_or_else(|| format!("the server answered {}", reply.status), str::to_owned);
        let code = reply.field("code").map(str::to_owned);
        let suggestion = code.as_deref().and_then(suggestion).or(reply.field("suggestion"));
        let suggestion = suggestion.unwrap_or("Tell the user; the server's log may say more.").to_owned();
        Self { code, detail, suggestion }
    }

    pub(crate) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

/// What to do about a problem, where the HTTP interface speaks of itself.
fn suggestion(code: &str) -> Option<&'static str> {
    Some(match code {
        "not_found" => "Check the id: recall and list_memories tell the ids that there are.",
        "space_not_found" => {
            "Use a space that memory_status lists, or leave `space` out for the default one."
        }
        "recovering" => "Nothing is lost. Call the tool again in a few seconds.",
        "shutting_down" | "timeout" => {
            "Call the tool again a moment later. It may have been done all the same: look with recall before you \
             remember something a second time."
        }
        "log_failed" | "read_only" => {
            "Tell the user that nothing can be stored until the server is restarted. What is there can still be recalled."
        }
        "body_too_large" | "invalid_content" => {
            "Split a long text into several memories, each of them one fact or event."
        }
        "invalid_time" => "Write times as RFC 3339, such as 2026-03-01T09:30:00Z.",
        "unauthorized" | "forbidden" => {
            "Tell the user that the key which they gave you does not allow this. Another key may: see `engram key`."
        }
        "version_mismatch" => "Read the memory with get_memory, and decide anew.",
        _ => return None,
    })
}

/// The result as the protocol has it: structured, and the same as text.
pub(crate) fn result(outcome: Result<Value, Refusal>) -> CallToolResult {
    match outcome {
        Ok(value) => CallToolResult::structured(value),
        Err(Refusal { code, detail, suggestion }) => {
            let code = code.map(|code| format!("{code}: ")).unwrap_or_default();
            let text = format!("{code}{detail}\nWhat to do: {suggestion}");
            CallToolResult::error(vec![ContentBlock::text(text)])
        }
    }
}
