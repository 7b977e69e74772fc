//! A page of somebody else's, in a browser on the server's machine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use serde_json::json;
use server::{Answer, Server, command};

const KEY: &str = "the-key-of-the-environment";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    server.request("GET", path, headers, "")
}

#[test]
fn a_page_of_another_site_is_refused() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--allowed-origin", "https://app.example"]);
    let memory = json!({"content": "x"}).to_string();
    for origin in ["http://localhost:3000", "http://127.0.0.1", "https://app.example"] {
        let answer = server.request("POST", "/v1/memories", &[("origin", origin)], &memory);
        assert_eq!(answer.status, 201, "{origin}: {}", answer.text);
    }
    for origin in ["https://evil.example", "https://app.example:444", "null"] {
        let headers = [("origin", origin)];
        let answer = server.request("POST", "/v1/memories", &headers, &memory);
        answer.problem(403, "foreign_origin");
        get(&server, "/v1/memories", &headers).problem(403, "foreign_origin");
        assert_eq!(get(&server, "/healthz", &headers).status, 200);
    }
    assert_eq!(server.all_memories().len(), 3);
}

#[test]
fn a_name_that_is_bound_to_this_machine_by_another_site_is_refused() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--allowed-host", "engram"]);
    let port = server.url.rsplit_once(':').unwrap().1.to_owned();
    for host in ["localhost", "engram", &format!("localhost:{port}"), &format!("engram:{port}")] {
        assert_eq!(get(&server, "/v1/memories", &[("host", host)]).status, 200, "{host}");
    }
    let foreign = format!("evil.example:{port}");
    for path in ["/v1/memories", "/v1/status", "/metrics", "/nothing"] {
        get(&server, path, &[("host", &foreign)]).problem(403, "foreign_host");
    }
    assert_eq!(get(&server, "/healthz", &[("host", &foreign)]).status, 200);
    drop(server);
    // A page has no key: with one, a client may call the server as it likes.
    let mut command = command(directory.path(), &[]);
    command.env("ENGRAM_API_KEY", KEY);
    let server = Server::spawn(command);
    let answer = get(&server, "/v1/memories", &[("host", &foreign), ("x-api-key", KEY)]);
    assert_eq!(answer.status, 200, "{}", answer.text);
    get(&server, "/v1/memories", &[("host", &foreign)]).problem(401, "unauthorized");
    let foreign = [("origin", "https://evil.example"), ("x-api-key", KEY)];
    get(&server, "/v1/memories", &foreign).problem(403, "foreign_origin");
}
