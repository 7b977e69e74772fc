//! `engram doctor`, where something is wrong, and where nothing is.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/embed_endpoint.rs"]
mod embed_endpoint;
#[path = "support/server.rs"]
mod server;

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use embed_endpoint::EmbedEndpoint;
use serde_json::{Value, json};
use server::Server;
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// How it ended, and its checks by name.
fn doctor(data_dir: &Path, flags: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command
        .args(["doctor", "--json", "--data-dir"])
        .arg(data_dir)
        .args(flags)
        .env("ENGRAM_LISTEN", "127.0.0.1:0");
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let mut by_name = json!({});
    for check in answer["checks"].as_array().unwrap() {
        // What has failed is not hidden by what comes after it under the same name.
        let name = check["check"].as_str().unwrap();
        if by_name[name]["state"] != "failed" {
            by_name[name] = check.clone();
        }
    }
    let code = output.status.code().unwrap();
    assert_eq!(code, i32::from(answer["failed"] != 0), "{answer}");
    (code, by_name)
}

/// The state of a check, after a look at what it says.
fn state<'a>(checks: &'a Value, name: &str, expected: &str) -> &'a str {
    let check = &checks[name];
    let said = format!("{} {}", check["found"], check["mend"]);
    assert!(said.contains(expected), "{name}: expected {expected:?}, got {check}");
    check["state"].as_str().unwrap()
}

#[test]
fn nothing_is_wrong_and_nothing_is_changed() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let (code, checks) = doctor(&data_dir, &[]);
    assert_eq!((code, state(&checks, "directory", "will be made")), (0, "ok"), "{checks}");
    assert_eq!(directory.path().read_dir().unwrap().count(), 0, "it leaves nothing");
    for check in ["version", "settings", "space", "address", "keys", "clock"] {
        assert_eq!(checks[check]["state"], "ok", "{checks}");
    }
}

#[test]
fn a_running_server_is_found_and_asked() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.post("/v1/memories", &json!({ "content": "well" })).expect(201);
    let address = server.url.strip_prefix("http://").unwrap();
    let (code, checks) = doctor(directory.path(), &["--listen", address]);
    assert_eq!(code, 0, "{checks}");
    assert_eq!(state(&checks, "lock", &format!("process {}", server.pid())), "ok");
    assert_eq!(state(&checks, "server", "1 memory, writes durable"), "ok");
    assert_eq!(state(&checks, "log", "1 file"), "ok");
    // Somebody has the directory, and does not listen where it is looked for.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, checks) = doctor(directory.path(), &["--listen", &nobody]);
    assert_eq!((code, state(&checks, "server", "no answer from")), (1, "failed"));
}

#[test]
fn what_keeps_a_server_from_starting_is_found() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flags, check, expected) in [
        (&["--listen", &taken][..], "address", "another program has it"),
        (&["--listen", "nowhere.invalid:1"], "address", "nowhere.invalid"),
        (&["--listen", "0.0.0.0:0"], "keys", "engram key create"),
        (&["--capacity", "0"], "settings", "got 0"),
        (
            &["--tls-cert", "/nowhere/chain.pem", "--tls-key", "/nowhere/key.pem"],
            "certificate",
            "/nowhere/chain.pem",
        ),
        (&["--data-dir", "/nowhere/at/all"], "directory", "make /nowhere/at/all"),
        (&["--data-dir", "/etc/passwd"], "directory", "is no directory"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
        command
            .args(["doctor", "--json"])
            .args(flags)
            .env("ENGRAM_DATA_DIR", &data_dir)
            .env("ENGRAM_LISTEN", "127.0.0.1:0");
        let output = command.output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failed: Vec<&Value> =
            answer["checks"].as_array().unwrap().iter().filter(|it| it["state"] == "failed").collect();
        assert_eq!((failed.len(), &failed[0]["check"]), (1, &json!(check)), "{flags:?}: {answer}");
        assert!(failed[0].to_string().contains(expected), "{flags:?}: {}", failed[0]);
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn keys_that_are_weak_or_read_on_the_way_are_warned_of() {
    let directory = directory();
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.args(["doctor", "--data-dir"]).arg(directory.path().join("data")).env("ENGRAM_API_KEY", "short");
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(said.contains("warning  keys") && said.contains("openssl rand"), "{said}");
    let (_, checks) = doctor(directory.path(), &["--listen", "0.0.0.0:0", "--insecure"]);
    assert_eq!(state(&checks, "keys", "everybody is let in"), "warning");
}

#[test]
fn a_clock_behind_the_log_is_found() {
    let directory = directory();
    Server::start(directory.path(), &[]).kill();
    let wal = directory.path().join("wal");
    let segment = fs::read_dir(&wal).unwrap().flatten().next().unwrap().path();
    let later = SystemTime::now() + Duration::from_hours(24);
    File::options().write(true).open(segment).unwrap().set_modified(later).unwrap();
    let (code, checks) = doctor(directory.path(), &[]);
    assert_eq!((code, state(&checks, "clock", "before the log was last written")), (0, "warning"));
    assert_eq!(state(&checks, "lock", "nobody"), "ok");
}

#[test]
fn the_model_is_asked() {
    let directory = directory();
    let endpoint = EmbedEndpoint::of_words(8);
    let flags = ["--embed-model", "test", "--embed-url", &endpoint.url];
    let (code, checks) = doctor(directory.path(), &flags);
    assert_eq!((code, state(&checks, "model", "8 dimensions")), (0, "ok"));
    let (code, checks) = doctor(directory.path(), &[&flags[..], &["--dimension", "9"]].concat());
    assert_eq!((code, state(&checks, "model", "--dimension is 9")), (1, "failed"));
    let (code, checks) =
        doctor(directory.path(), &["--embed-model", "test", "--embed-url", "http://127.0.0.1:1/v1"]);
    assert_eq!((code, state(&checks, "model", "recalled by words")), (1, "failed"));
}

#[test]
fn what_the_store_was_made_with_and_what_is_damaged_is_found() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "8"]);
    for n in 0..40 {
        server.post("/v1/memories", &json!({ "id": n.to_string(), "content": "x" })).expect(201);
    }
    server.kill();
    let (code, checks) = doctor(directory.path(), &["--dimension", "8"]);
    assert_eq!((code, state(&checks, "store", "int8 of 8 dimensions")), (0, "ok"));
    assert_eq!(state(&checks, "log", "after a kill or crash: a start loses nothing"), "ok");
    let (code, checks) = doctor(directory.path(), &["--dimension", "9"]);
    assert_eq!((code, state(&checks, "store", "--dimension is 9")), (1, "failed"));
    let segments = fs::read_dir(directory.path().join("wal")).unwrap().flatten().map(|it| it.path());
    let segment = segments.filter(|it| it.extension().is_some_and(|it| it == "log")).min().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    // A record in the middle, of which later ones say that it was durable.
    bytes[512 * 20 + 70] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let (code, checks) = doctor(directory.path(), &[]);
    assert_eq!((code, state(&checks, "log", "a start would lose 1 acknowledged record")), (0, "warning"));
    let (code, checks) = doctor(directory.path(), &["--recovery", "strict"]);
    assert_eq!((code, state(&checks, "log", "a start would refuse")), (1, "failed"));
}
