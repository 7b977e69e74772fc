//! Spaces over HTTP: a hard boundary, and one log for all.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use serde_json::{Value, json};
use server::Server;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn ids(answer: &Value, list: &str) -> Vec<String> {
    answer[list].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_space_is_made_filled_described_and_dropped() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "3"]);
    server.get("/v1/spaces/work").problem(404, "space_not_found");
    server.post("/v1/spaces/work/memories", &json!({"content": "x"})).problem(404, "space_not_found");
    let made = server.put("/v1/spaces/work", &json!({"capacity": 2})).expect(201);
    assert_eq!(
        (&made["id"], &made["outcome"], &made["durability"]),
        (&json!("work"), &json!("created"), &json!("synced"))
    );
    assert_eq!(server.put("/v1/spaces/work", &json!({"capacity": 2})).expect(200)["outcome"], "updated");

    let tea = json!({"id": "tea", "content": "tea at work", "embedding": [1, 2, 3]});
    let answer = server.request("POST", "/v1/spaces/work/memories", &[], &tea.to_string());
    assert_eq!(answer.expect(201)["outcome"], "created");
    server.put("/v1/memories/tea", &json!({"content": "tea at home"})).expect(201);
    assert_eq!(server.get("/v1/spaces/work/memories/tea").expect(200)["content"], "tea at work");
    assert_eq!(server.get("/v1/spaces/default/memories/tea").expect(200)["content"], "tea at home");
    let recall = server.post("/v1/spaces/work/recall", &json!({"query": "home"})).expect(200);
    assert_eq!(recall["results"], json!([]), "nothing of another space");

    let batch = json!([{"id": "a", "content": "1"}, {"id": "b", "content": "2"}]);
    let receipts = server.post("/v1/spaces/work/memories/batch", &batch).expect(200);
    assert_eq!(
        (&receipts[0]["outcome"], &receipts[1]["error"]["code"]),
        (&json!("created"), &json!("capacity_reached"))
    );
    let space = server.get("/v1/spaces/work").expect(200);
    assert_eq!(
        (&space["memories"], &space["capacity"], &space["vectors"]),
        (&json!(2), &json!(2), &json!(1))
    );
    let spaces = server.get("/v1/spaces").expect(200);
    let names: Vec<_> =
        spaces["spaces"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "work"]);
    let status = server.get("/v1/status").expect(200);
    assert_eq!((&status["memories"], &status["spaces"]), (&json!(3), &json!(2)));
    server.kill();

    let server = Server::start(directory.path(), &[]);
    let page = server.get("/v1/spaces/work/memories").expect(200);
    assert_eq!(ids(&page, "memories").len(), 2);
    assert_eq!(server.delete("/v1/spaces/work").expect(200)["outcome"], "deleted");
    server.get("/v1/spaces/work/memories/tea").problem(404, "space_not_found");
    server.delete("/v1/spaces/work").problem(404, "space_not_found");
    assert_eq!(server.get("/v1/memories/tea").expect(200)["content"], "tea at home");
    server.kill();
    let server = Server::start(directory.path(), &[]);
    server.get("/v1/spaces/work").problem(404, "space_not_found");
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 1);
}

#[test]
fn what_was_in_a_dropped_space_is_in_no_file_after_the_next_snapshot() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.put("/v1/spaces/secret", &json!({})).expect(201);
    server
        .post("/v1/spaces/secret/memories", &json!({"content": "the xylophone is under the bed"}))
        .expect(201);
    let is_on_disk = || {
        let files = std::fs::read_dir(directory.path().join("wal")).unwrap().flatten();
        files
            .filter_map(|file| std::fs::read(file.path()).ok())
            .any(|bytes| bytes.windows(9).any(|it| it == b"xylophone"))
    };
    assert!(is_on_disk());
    server.delete("/v1/spaces/secret").expect(200);
    server.post("/v1/snapshot", &json!({})).expect(200);
    assert!(!is_on_disk());
}

#[test]
fn names_and_properties_that_no_space_can_have_are_refused() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    for name in ["Work", "-x", "a%20b", "%C3%A9"] {
        server.put(&format!("/v1/spaces/{name}"), &json!({})).problem(422, "invalid_space");
    }
    server.put("/v1/spaces/a", &json!({"capacity": 0})).problem(422, "invalid_space");
    server.put("/v1/spaces/a", &json!({"color": "red"})).problem(422, "invalid_body");
    server.delete("/v1/spaces/default").problem(422, "invalid_space");
    server.request("POST", "/v1/spaces/a", &[], "{}").problem(405, "method_not_allowed");
}
