//! Logs that released formats have written open for ever, with all that was in them.
//!
//! `fixtures/format-1` was made by this test with `ENGRAM_WRITE_FIXTURES=1`, when format 1 was the present one. A format that
//! comes later gets a directory of its own beside it; what is there is never written again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use server::Server;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/format-1")
}

/// What a log holds: all memories, and what a recovery says of it.
fn contents(server: &Server) -> Value {
    let ids = server.all_memories().into_iter().map(|memory| memory["id"].as_str().unwrap().to_owned());
    let memories: Vec<Value> = ids.map(|id| server.memory(&id).unwrap()).collect();
    let status = server.get("/v1/status").expect(200);
    let recovery = &status["recovery"];
    json!({
        "memories": memories,
        "dimension": status["dimension"],
        "precision": status["precision"],
        "applied_lsn": status["applied_lsn"],
        "records": recovery["records"],
        "torn_bytes": recovery["torn_bytes"],
        "clean": recovery["clean"],
    })
}

/// Every kind of record, over several starts: stopped cleanly, or killed with a torn end.
fn write(directory: &Path, precision: &str, is_torn: bool) {
    let arguments = ["--dimension", "4", "--embedding-precision", precision];
    for life in 0..2 {
        let server = Server::start(directory, &arguments);
        for n in 0..4 {
            let body = json!({
                "id": format!("m{n}"), "content": format!("the memory {n} of life {life}"),
                "when": format!("2026-03-0{}T09:30:00.00000{n}Z", n + 1),
                "embedding": [1.0, f64::from(n), -2.5, f64::from(life)],
                "confidence": 0.9, "metadata": {"text": "ü", "whole": -7, "number": 0.5, "yes": true},
            });
            server.put(&format!("/v1/memories/m{n}"), &body);
        }
        server.put(
            "/v1/memories/bare",
            &json!({"content": format!("no embedding {life}"), "when": "2026-03-05T00:00:00Z"}),
        );
        server.delete(&format!("/v1/memories/m{}", life + 2)).expect(200);
        if life == 0 || !is_torn {
            server.stop();
        } else {
            server.kill();
        }
    }
    for entry in fs::read_dir(directory.join("wal")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "log") {
            drop(fs::remove_file(path));
            continue;
        }
        // Zeros that were written ahead say nothing, and a file is as good without them.
        let mut bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        bytes.truncate(used.next_multiple_of(512));
        let is_newest = path.ends_with("wal-00000000000000000003.log");
        if is_torn && is_newest {
            // The begin of a group whose rest never came.
            bytes.extend(b"eRec and then the power went".iter().copied().chain([0; 484]));
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn logs_of_format_1_hold_what_they_held() {
    for (name, precision, is_torn) in [("stopped-int8", "int8", false), ("killed-f32", "f32", true)] {
        let (fixture, scratch) =
            (fixtures().join(name), tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let expected = fixtures().join(format!("{name}.json"));
        if std::env::var_os("ENGRAM_WRITE_FIXTURES").is_some() {
            fs::create_dir_all(&fixture).unwrap();
            write(&fixture, precision, is_torn);
        }
        fs::create_dir(scratch.path().join("wal")).unwrap();
        for entry in fs::read_dir(fixture.join("wal")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, scratch.path().join("wal").join(path.file_name().unwrap())).unwrap();
        }
        let server =
            Server::start(scratch.path(), &["--recovery", if is_torn { "torn-tail" } else { "strict" }]);
        let found = contents(&server);
        if std::env::var_os("ENGRAM_WRITE_FIXTURES").is_some() {
            fs::write(&expected, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        }
        let expected: Value = serde_json::from_slice(&fs::read(&expected).unwrap()).unwrap();
        assert_eq!(found, expected, "{name}");
        assert!(expected["memories"].as_array().unwrap().len() == 4, "{name}");
        // And it goes on.
        server.post("/v1/memories", &json!({"id": "new", "content": "and on"})).expect(201);
        server.kill();
        assert_eq!(Server::start(scratch.path(), &[]).all_memories().len(), 5, "{name}");
    }
}
