//! What a client gets wrong: each time a clear error, nothing changed, and the server goes on.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use serde_json::json;
use server::Server;

const JSON: &str = "application/json";

#[test]
fn bad_memories_are_refused_and_change_nothing() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(directory.path(), &["--dimension", "3"]);
    server.post("/v1/memories", &json!({"id": "kept", "content": "x", "embedding": [1, 2, 3]})).expect(201);
    let before = server.all_memories();
    let lsn = server.get("/v1/status").expect(200)["applied_lsn"].clone();

    let memory = |extra: &str| format!(r#"{{"id": "kept", "content": "y", {extra}}}"#);
    let huge = "x".repeat(300 << 10);
    // Bodies, their status, and what the detail must speak of.
    let bodies: Vec<(String, u16, &str)> = vec![
        (memory(r#""embedding": [1, 2]"#), 422, "3"),
        (memory(r#""embedding": [1, 2, 3, 4]"#), 422, "4"),
        (memory(r#""embedding": [0, 0, 0]"#), 422, "zero"),
        (memory(r#""embedding": [1, 1e400, 3]"#), 422, "1"),
        (memory(r#""embedding": [1, 1e39, 3]"#), 422, "1"),
        (memory(r#""embedding": "AADAfwAAgD8AAIA/""#), 422, "0"), // NaN, 1, 1
        (memory(r#""embedding": "AACAfwAAgD8AAIA/""#), 422, "0"), // infinity, 1, 1
        (memory(r#""embedding": "AACA!w""#), 422, "base64"),
        (memory(r#""embedding": "AACAPwA=""#), 422, ""),
        (memory(r#""embedding": [1, null, 3]"#), 422, "embedding[1]: expected a number, got null"),
        (memory(r#""embedding": {"x": 1}"#), 422, ""),
        (memory(r#""embedding": [1, NaN, 3]"#), 400, ""),
        (memory(r#""when": "yesterday""#), 422, "yesterday"),
        (memory(r#""when": "2026-13-01T00:00:00Z""#), 422, "2026-13-01"),
        (memory(r#""when": 5"#), 422, "when: expected a string"),
        (memory(r#""confidence": 1.5"#), 422, "1.5"),
        (memory(r#""confidence": -0.1"#), 422, "-0.1"),
        (memory(r#""confidence": "high""#), 422, "confidence: expected a number"),
        (memory(r#""metadata": {"k": [1]}"#), 422, ""),
        (memory(r#""metadata": {"k": null}"#), 422, "metadata.k: "),
        (memory(r#""metadata": {"k": 18446744073709551615}"#), 422, "18446744073709551615"),
        (memory(r#""metadata": {"": 1}"#), 422, "key"),
        (memory(r#""colour": "red""#), 422, "colour"),
        (r#"{"id": "kept"}"#.to_owned(), 422, "content"),
        (r#"{"id": "kept", "content": ""}"#.to_owned(), 422, "content"),
        (r#"{"id": "kept", "content": 5}"#.to_owned(), 422, "content: expected a string, got the number 5"),
        (format!(r#"{{"id": "kept", "content": "{huge}"}}"#), 422, "content"),
        (r#"{"id": "", "content": "y"}"#.to_owned(), 422, "id"),
        (format!(r#"{{"id": "{}", "content": "y"}}"#, "x".repeat(257)), 422, "257"),
        (r#"{"id": "a\u0000b", "content": "y"}"#.to_owned(), 422, "control"),
        (r#"{"id": "kept", "content": "y""#.to_owned(), 400, ""),
        ("[1, 2]".to_owned(), 422, ""),
        (String::new(), 400, ""),
        ("\u{0}".to_owned(), 400, ""),
        (format!(r#"{{"id": "kept", "content": "{}"}}"#, "x".repeat(2 << 20)), 413, ""),
        ("[".repeat(100_000), 422, "object"),
    ];
    for (body, status, word) in bodies {
        let shown: String = body.chars().take(100).collect();
        let answer = server.send("POST", "/v1/memories", JSON, body.as_bytes()).unwrap();
        assert_eq!(answer.content_type, "application/problem+json", "{shown}: {}", answer.text);
        assert_eq!(answer.status, status, "{shown}: {}", answer.text);
        let problem = answer.json();
        assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{shown}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.len() > 10 && detail.contains(word), "{shown}: {problem}");
        assert!(problem["suggestion"].as_str().is_some_and(|text| !text.is_empty()), "{shown}: {problem}");
    }
    let mut not_utf8 = br#"{"id": "kept", "content": ""#.to_vec();
    not_utf8.extend_from_slice(b"\xff\"}");
    assert_eq!(server.send("POST", "/v1/memories", JSON, &not_utf8).unwrap().status, 400);

    assert_eq!(server.all_memories(), before);
    assert_eq!(server.get("/v1/status").expect(200)["applied_lsn"], lsn);
    server.get("/readyz").expect(200);
}

#[test]
fn bad_questions_and_requests_are_refused() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(directory.path(), &["--dimension", "2"]);
    for (body, word) in [
        (json!({}), "query"),
        (json!({"query": "x", "mode": "hybrid"}), "got only a query"),
        (json!({"query": "x", "mode": "magic"}), "mode"),
        (json!({"query": "x", "recency_half_life": "soon"}), "such as 90s"),
        (json!({"embedding": [1]}), "2"),
        (json!({"query": "x", "limit": 100_000}), "limit"),
        (json!({"query": "x", "limit": -1}), "limit: expected a whole number"),
        (json!({"query": "x", "limit": 0}), "limit"),
        (json!({"query": "x", "filter": {"colour": {"like": 1}}}), "filter.colour.like: expected one of"),
        (json!({"query": "x", "filter": {"AND": {"OR": 1}}}), "filter.AND.OR: expected a list"),
        (json!({"query": "x", "filter": [1]}), "filter"),
        (json!({"query": "x", "filter": {"n": {"in": vec![1; 2_000]}}}), "up to 1024 conditions"),
        (json!({"query": "x", "filter": {"confidence": {"gte": 2}}}), "2"),
        (json!({"query": "x", "filter": {"when": {"gte": "then"}}}), "then"),
        (json!({"query": "x".repeat(100_000)}), "bytes"),
    ] {
        let answer = server.post("/v1/recall", &body);
        let text = answer.text.clone();
        assert_eq!(answer.status, 422, "{body}: {text}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(word), "{body}: {text}");
    }
    server.get("/v1/nothing").problem(404, "route_not_found");
    assert_eq!(server.put("/v1/recall", &json!({})).status, 405);
    let unsupported = server.send("POST", "/v1/memories", "text/plain", b"{\"content\": \"x\"}").unwrap();
    let problem = unsupported.problem(415, "unsupported_media_type");
    assert!(problem["suggestion"].as_str().unwrap().contains("application/json"), "{problem}");
    server.put("/v1/memories/a", &json!({"id": "b", "content": "x"})).expect(422);
    server.put(&format!("/v1/memories/{}", "x".repeat(257)), &json!({"content": "x"})).expect(422);
    server.get("/readyz").expect(200);
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 0);
}
