//! Snapshots of the real server: what they leave on the disk, and what comes back from them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use server::Server;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn engram(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engram")).args(arguments).output().unwrap()
}

/// What it printed, of a call that must end with this code.
fn output(arguments: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } = engram(arguments);
    let (said, printed) = (String::from_utf8(stderr).unwrap(), String::from_utf8(stdout).unwrap());
    assert_eq!(status.code(), Some(code), "{arguments:?}: {printed}{said}");
    if code == 0 { printed } else { said }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// In how many files below a directory these words are.
fn holding(directory: &Path, words: &str) -> usize {
    let holds = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(words.len()).any(|window| window == words.as_bytes())
    };
    files(directory).iter().filter(|file| holds(file)).count()
}

fn bytes_of(directory: &Path) -> u64 {
    files(directory).iter().map(|file| file.metadata().unwrap().len()).sum()
}

fn store(server: &Server, id: &str, content: &str) {
    let answer = server.put(&format!("/v1/memories/{id}"), &json!({"content": content, "confidence": 0.5}));
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
}

/// All memories, and what a few questions find.
fn everything(server: &Server) -> Value {
    let questions = ["tea", "note", "note 3 of the morning", "nothing of that kind"];
    let recall = |question: &&str| {
        let answer = server.post("/v1/recall", &json!({"query": question, "limit": 20, "explain": true}));
        answer.expect(200)["results"].clone()
    };
    json!([server.all_memories(), questions.iter().map(recall).collect::<Vec<_>>()])
}

#[test]
fn what_was_forgotten_or_replaced_is_on_the_disk_no_more_after_a_snapshot() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir, &["--snapshot-log-bytes", "0"]);
    store(&server, "secret", "the password is swordfish");
    store(&server, "old", "the meeting is on quintidi");
    store(&server, "kept", "green tea in the morning");
    server.delete("/v1/memories/secret").expect(200);
    store(&server, "old", "the meeting is on Friday");
    assert_eq!((holding(&data_dir, "swordfish"), holding(&data_dir, "quintidi")), (1, 1));
    let taken = server.send("POST", "/v1/snapshot", "", b"").unwrap().expect(200);
    assert_eq!((&taken["records"], &taken["lsn"]), (&json!(4), &json!(6)), "{taken}");
    assert!(taken["removed_bytes"].as_u64().unwrap() >= 65_536, "{taken}");
    for words in ["swordfish", "quintidi"] {
        assert_eq!(holding(&data_dir, words), 0, "{words}");
    }
    assert_eq!((holding(&data_dir, "green tea"), holding(&data_dir, "Friday")), (1, 1));
    let before = everything(&server);
    server.kill();
    let server = Server::start(&data_dir, &[]);
    assert_eq!(everything(&server), before);
    let recovery = &server.get("/v1/status").expect(200)["recovery"];
    assert_eq!((&recovery["snapshot"]["records"], &recovery["records"]), (&json!(4), &json!(0)));
}

#[test]
fn a_server_takes_snapshots_by_itself_and_its_directory_stays_small() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir, &["--snapshot-log-bytes", "200000"]);
    let batch: Vec<Value> =
        (0..50).map(|n| json!({"id": n.to_string(), "content": "note ".repeat(100)})).collect();
    let mut written = 0;
    let status = loop {
        let mut batch = batch.clone();
        for memory in &mut batch {
            memory["metadata"] = json!({"round": written});
        }
        server.post("/v1/memories/batch", &json!(batch)).expect(200);
        written += 1;
        let status = server.get("/v1/status").expect(200)["snapshots"].clone();
        if status["taken"].as_u64().unwrap() >= 5 {
            break status;
        }
        assert!(written < 100_000, "no snapshot is taken: {status}");
    };
    assert_eq!(status["failed"], 0, "{status}");
    assert!(server.get("/metrics").text.contains("engram_snapshots_total"));
    let before = everything(&server);
    let (stopped, log) = server.stop();
    assert!(stopped.success(), "{log}");
    // 50 memories of some 800 bytes, the log since, a segment made ahead.
    assert!(bytes_of(&data_dir) < 2_000_000, "{} bytes after {written} rounds", bytes_of(&data_dir));
    let server = Server::start(&data_dir, &[]);
    assert_eq!(everything(&server), before);
    assert!(server.get("/v1/status").expect(200)["recovery"]["snapshot"].is_object());
}

#[test]
fn a_copy_of_a_snapshot_is_a_backup() {
    let directory = directory();
    let (data_dir, backup, new) =
        (directory.path().join("data"), directory.path().join("backup.snap"), directory.path().join("new"));
    let server = Server::start(&data_dir, &[]);
    (0..40).for_each(|n| store(&server, &format!("{}", n % 15), &format!("note {n} of the morning")));
    let before = everything(&server);
    let url = server.url.clone();
    let printed = output(&["snapshot", "--server", &url, "--copy-to", text(&backup)], 0);
    assert!(printed.contains("15 memories up to LSN 41") && printed.contains("copied to"), "{printed}");
    let again = output(&["snapshot", "--server", &url, "--copy-to", text(&backup)], 2);
    assert!(again.contains("exists already"), "{again}");
    store(&server, "later", "is not in the backup");
    // Of a directory that a server runs on it takes none.
    output(&["snapshot", "--data-dir", text(&data_dir)], 75);
    server.kill();
    let gone = output(&["snapshot", "--server", &url], 69);
    assert!(gone.contains("start the server") && gone.contains("--data-dir"), "{gone}");

    let printed = output(&["restore", text(&backup), "--data-dir", text(&new)], 0);
    assert!(printed.contains("15 memories") && printed.contains("engram start --data-dir"), "{printed}");
    let refused = output(&["restore", text(&backup), "--data-dir", text(&new)], 73);
    assert!(refused.contains("not empty"), "{refused}");
    output(&["verify", "--deep", "--data-dir", text(&new)], 0);
    let server = Server::start(&new, &["--recovery", "strict"]);
    assert_eq!(everything(&server), before);
    let receipt = server.post("/v1/memories", &json!({"content": "goes on"})).expect(201);
    assert_eq!(receipt["lsn"], 42, "after the last record of the snapshot");
    server.kill();

    let printed = output(&["snapshot", "--data-dir", text(&data_dir), "--json"], 0);
    let taken: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&taken["lsn"], &taken["records"]), (&json!(42), &json!(18)));
}

#[test]
fn a_damaged_snapshot_is_told_and_never_taken_for_an_empty_store() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir, &[]);
    (0..20).for_each(|n| store(&server, &format!("{n}"), &format!("note {n}")));
    server.send("POST", "/v1/snapshot", "", b"").unwrap().expect(200);
    server.kill();
    let is_snapshot = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "snap");
    let snapshot = files(&data_dir).into_iter().find(is_snapshot).unwrap();
    let whole = fs::read(&snapshot).unwrap();
    let mut flipped = whole.clone();
    flipped[2000] ^= 8;
    fs::write(&snapshot, &flipped).unwrap();
    let said = output(&["verify", "--data-dir", text(&data_dir)], 65);
    assert!(said.contains("damaged"), "{said}");
    let said = output(&["start", "--recovery", "torn-tail", "--data-dir", text(&data_dir)], 65);
    assert!(said.contains("1 acknowledged records are damaged") && said.contains(".snap"), "{said}");
    let server = Server::start(&data_dir, &[]);
    assert_eq!(server.all_memories().len(), 19);
    assert!(
        server.log().contains("the snapshot is damaged in 1 place: 1 memory is lost"),
        "{}",
        server.log()
    );
    let status = server.get("/v1/status").expect(200);
    assert_eq!(status["recovery"]["snapshot"]["lost_records"], 1, "{status}");
    // The next one is whole again.
    server.send("POST", "/v1/snapshot", "", b"").unwrap().expect(200);
    server.kill();
    output(&["verify", "--data-dir", text(&data_dir)], 0);
    // The damaged bytes are kept.
    assert_eq!(files(&data_dir.join("wal/quarantine")).len(), 1);

    // Neither of its headers: nothing to begin with, and the start says so and changes nothing.
    let snapshot = files(&data_dir.join("wal"))
        .into_iter()
        .rfind(|file| is_snapshot(file) && !text(file).contains("quarantine"));
    fs::write(snapshot.unwrap(), vec![7; whole.len()]).unwrap();
    let before = bytes_of(&data_dir);
    let said = output(&["start", "--data-dir", text(&data_dir)], 65);
    assert!(said.contains("no snapshot can be used") && said.contains("headers"), "{said}");
    assert_eq!(bytes_of(&data_dir), before);
}
