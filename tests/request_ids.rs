//! What can be followed of a request, and what is never told of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use serde_json::json;
use server::{Server, command};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn each_answer_and_each_line_of_the_log_names_its_request() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--log", "debug"]);
    let ask = |id: &str, path: &str| server.request("GET", path, &[("x-request-id", id)], "");
    assert_eq!(ask("trace-1:a", "/healthz").header("x-request-id"), "trace-1:a");
    let missing = ask("trace-2", "/v1/memories/nobody");
    assert_eq!(missing.header("x-request-id"), "trace-2");
    assert_eq!(missing.problem(404, "not_found")["request_id"], "trace-2");
    assert_eq!(ask("trace-3", "/nothing").problem(404, "route_not_found")["request_id"], "trace-3");
    let made = [server.get("/healthz"), ask("no name", "/healthz"), ask(&"x".repeat(200), "/healthz")];
    for answer in &made {
        assert_eq!(answer.header("x-request-id").len(), 32, "{}", answer.header("x-request-id"));
    }
    let log = server.stop().1;
    for id in ["trace-1:a", "trace-2", "trace-3", made[0].header("x-request-id")] {
        assert!(log.lines().any(|line| line.contains(id) && line.contains("request")), "{id} in {log}");
    }
}

#[test]
fn neither_keys_nor_contents_nor_questions_are_logged() {
    const SECRETS: [&str; 9] = [
        "s3cret-root-key-of-the-server",
        "s3cret-wrong-key",
        "s3cret-x-api-key",
        "s3cret-content",
        "s3cret-id",
        "s3cret-metadata",
        "s3cret-question",
        "s3cret-cursor",
        "s3cret-path",
    ];
    let [root, wrong, other, content, id, metadata, question, cursor, path] = SECRETS;
    for level in ["info", "debug", "trace"] {
        let directory = directory();
        let mut command = command(directory.path(), &["--log", level]);
        command.env("ENGRAM_API_KEY", root);
        let server = Server::spawn(command);
        let bearer = format!("Bearer {root}");
        let ask = |method: &str, path: &str, body: &str| {
            server.request(method, path, &[("authorization", &bearer)], body).status
        };
        let memory = json!({"id": id, "content": content, "metadata": {"secret": metadata}});
        assert_eq!(ask("POST", "/v1/memories", &memory.to_string()), 201);
        assert_eq!(
            ask("POST", "/v1/memories/batch", &json!([memory, {"content": content, "x": 1}]).to_string()),
            200
        );
        assert_eq!(ask("GET", &format!("/v1/memories/{id}"), ""), 200);
        assert_eq!(
            ask(
                "POST",
                "/v1/recall",
                &json!({"query": question, "filter": {"secret": metadata}}).to_string()
            ),
            200
        );
        assert_eq!(
            ask("POST", "/v1/recall", &json!({"query": question, "unknown": content}).to_string()),
            422
        );
        assert_eq!(ask("GET", &format!("/v1/memories?cursor={cursor}"), ""), 422);
        assert_eq!(ask("GET", &format!("/{path}?{cursor}"), ""), 404);
        assert_eq!(ask("DELETE", &format!("/v1/memories/{id}"), ""), 200);
        for header in [("authorization", &*format!("Bearer {wrong}")), ("x-api-key", other)] {
            assert_eq!(server.request("GET", "/v1/status", &[header], "").status, 401);
        }
        let (status, log) = server.stop();
        assert!(status.success() && log.contains("listening on"), "{log}");
        for secret in SECRETS {
            assert!(!log.contains(secret), "{secret} at {level}: {log}");
        }
    }
}
