//! What each tool asks for, and what it refuses.

use std::sync::Mutex;

use super::*;
use crate::client::Reply;

/// Answers each request with 200 and an empty object, and keeps it.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Call>>>);

impl Backend for Recorder {
    async fn call(&self, call: Call, _: &Caller) -> Result<Reply, Refusal> {
        self.0.lock().unwrap().push(call);
        Ok(Reply { status: 200, body: json!({}) })
    }
}

fn calls(tool: &str, arguments: &Value) -> Result<Vec<Call>, Refusal> {
    let recorder = Recorder::default();
    let arguments = arguments.as_object().cloned();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tool = ToolName::of(tool).unwrap();
    runtime.block_on(tool.run(arguments, &recorder, &Caller::default()))?;
    Ok(recorder.0.lock().unwrap().clone())
}

#[test]
fn each_tool_is_a_request_of_the_http_interface() {
    let filter = json!({"user": "ada"});
    for (tool, arguments, method, path, body) in [
        ("remember", json!({"content": "x"}), "POST", "/v1/memories", Some(json!({"content": "x"}))),
        (
            "recall",
            json!({"query": "x", "space": "a b"}),
            "POST",
            "/v1/spaces/a%20b/recall",
            Some(json!({"query": "x"})),
        ),
        ("get_memory", json!({"id": "a/b"}), "GET", "/v1/memories/a%2Fb", None),
        (
            "list_memories",
            json!({"limit": 2, "cursor": "c+"}),
            "GET",
            "/v1/memories?limit=2&cursor=c%2B",
            None,
        ),
        (
            "update_memory",
            json!({"id": "a", "expires_at": null}),
            "PATCH",
            "/v1/memories/a",
            Some(json!({"expires_at": null})),
        ),
        ("forget", json!({"id": "a", "filter": null}), "DELETE", "/v1/memories/a", None),
        ("forget", json!({"id": "a", "dry_run": true}), "GET", "/v1/memories/a", None),
        (
            "forget",
            json!({"filter": filter, "dry_run": true}),
            "DELETE",
            "/v1/memories",
            Some(json!({"filter": filter, "dry_run": true})),
        ),
        ("memory_status", json!({}), "GET", "/v1/status", None),
    ] {
        let calls = calls(tool, &arguments).unwrap();
        let call = &calls[0];
        assert_eq!((call.method.as_str(), call.path.as_str(), &call.body), (method, path, &body), "{tool}");
        let is_write =
            tool == "remember" || tool == "update_memory" || (tool == "forget" && path.ends_with("/a"));
        let has_key = call.headers.iter().any(|(name, _)| *name == IDEMPOTENCY_KEY);
        assert_eq!(has_key, is_write && method != "GET", "{tool}");
    }
}

#[test]
fn remembering_under_an_id_replaces_nothing() {
    let calls = calls("remember", &json!({"content": "x", "id": "a"})).unwrap();
    assert!(calls[0].headers.contains(&(header::IF_NONE_MATCH, "*".to_owned())));
}

#[test]
fn wrong_arguments_are_refused_with_what_was_expected() {
    for (tool, arguments, expected) in [
        ("remember", json!({}), "\"content\" is missing"),
        (
            "remember",
            json!({"content": "x", "text": "y"}),
            "unknown argument \"text\": expected confidence, content",
        ),
        ("memory_status", json!({"x": 1}), "expected no argument"),
        ("get_memory", json!({"id": 7}), "id: expected a string, got 7"),
        ("get_memory", json!({"id": ""}), "id: expected 1 to 256 bytes"),
        ("forget", json!({}), "either an id or a filter"),
        ("forget", json!({"id": "a", "filter": {}}), "either an id or a filter"),
        ("forget", json!({"id": "a", "dry_run": "no"}), "expected true or false, got \"no\""),
    ] {
        let refusal = calls(tool, &arguments).unwrap_err();
        let text = format!("{refusal:?}").replace("\\\"", "\"");
        assert!(text.contains(expected), "{tool}: {text}");
    }
}

#[test]
fn every_tool_has_both_schemas_and_all_hints() {
    for tool in ToolName::ALL.map(ToolName::definition) {
        assert_eq!(tool.input_schema["type"], "object", "{}", tool.name);
        assert_eq!(tool.output_schema.unwrap()["type"], "object", "{}", tool.name);
        let hints = tool.annotations.unwrap();
        assert!(hints.read_only_hint.is_some() && hints.destructive_hint.is_some(), "{}", tool.name);
        assert!(hints.idempotent_hint.is_some() && hints.open_world_hint == Some(false), "{}", tool.name);
    }
}
