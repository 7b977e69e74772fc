//! `engram reembed`: another model for a store, all at once or not at all.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/embed_endpoint.rs"]
mod embed_endpoint;
#[path = "support/server.rs"]
mod server;

use std::{
    path::Path,
    process::{Command, Output},
};

use embed_endpoint::{EmbedEndpoint, Reply};
use serde_json::{Value, json};
use server::{Server, command};

fn start(data_dir: &Path, endpoint: &EmbedEndpoint, model: &str) -> Server {
    Server::spawn(command(data_dir, &["--embed-url", &endpoint.url, "--embed-model", model]))
}

fn reembed(data_dir: &Path, endpoint: &EmbedEndpoint, model: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.args(["reembed", "--json", "--embed-url", &endpoint.url, "--embed-model", model, "--data-dir"]);
    command.arg(data_dir).output().unwrap()
}

/// All that is there, embeddings too.
fn everything(server: &Server) -> Vec<Value> {
    let ids = server.all_memories();
    ids.iter().map(|memory| server.memory(memory["id"].as_str().unwrap()).unwrap()).collect()
}

#[test]
fn another_model_is_refused_with_the_way_out_which_changes_all_or_nothing() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data_dir = directory.path();
    let old = EmbedEndpoint::start(|_| Reply::Vectors(16));
    let server = start(data_dir, &old, "old");
    server.put("/v1/spaces/other", &json!({})).expect(201);
    for n in 0..300 {
        let body =
            json!({"id": format!("m{n}"), "content": format!("memory {n}"), "when": "2026-01-01T00:00:00Z"});
        server.post("/v1/memories", &body).expect(201);
    }
    server.post("/v1/spaces/other/memories", &json!({"id": "o", "content": "of another space"})).expect(201);
    while server.get("/v1/status").expect(200)["unembedded"] != 0 {
        std::thread::yield_now();
    }
    let before = everything(&server);
    let running = reembed(data_dir, &old, "new");
    assert_eq!(running.status.code(), Some(75), "a server is running on it: {running:?}");
    server.kill();

    let new = EmbedEndpoint::start(|_| Reply::Vectors(8));
    let (status, log) =
        Server::try_until_ready(command(data_dir, &["--embed-url", &new.url, "--embed-model", "new"]))
            .err()
            .unwrap();
    assert!(status.code() == Some(78) && log.contains("engram reembed"), "{log}");

    let closed = EmbedEndpoint::start(|_| Reply::Json(401, json!({"error": {"message": "no"}})));
    let failed = reembed(data_dir, &closed, "new");
    assert_eq!(failed.status.code(), Some(78), "{failed:?}");
    let server = start(data_dir, &old, "old");
    assert_eq!(everything(&server), before, "nothing was changed");
    server.kill();

    let done = reembed(data_dir, &new, "new");
    assert!(done.status.success(), "{done:?}");
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&report["embedded"], &report["refused"], &report["dimension"]),
        (&json!(301), &json!(0), &json!(8))
    );
    let server = start(data_dir, &new, "new");
    let status = server.get("/v1/status").expect(200);
    assert_eq!(
        (&status["dimension"], &status["unembedded"], &status["model"]["name"]),
        (&json!(8), &json!(0), &json!("new"))
    );
    for (now, before) in everything(&server).iter().zip(&before) {
        assert_eq!(now["embedding"].as_array().unwrap().len(), 8);
        for field in ["id", "content", "when", "lsn"] {
            assert_eq!(now[field], before[field], "a memory stays the same version");
        }
    }
    let recall =
        server.post("/v1/spaces/other/recall", &json!({"query": "space", "mode": "vector"})).expect(200);
    assert_eq!(recall["results"][0]["id"], "o");
    // The length of before is not taken any more.
    let body = json!({"content": "x", "embedding": vec![1.0; 16]});
    server.post("/v1/memories", &body).problem(422, "invalid_embedding");
    server.kill();
    let server = start(data_dir, &new, "new");
    assert_eq!(server.get("/v1/status").expect(200)["index"]["vectors"], 300);
}
