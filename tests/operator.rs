//! What an operator asks of a log, as it is typed: `engram verify`, `wal`, `recover --report` and `repair`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use serde_json::{Value, json};
use server::Server;

/// What a verb said, and its exit code.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn engram(data_dir: &Path, words: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.args(words).arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Everything below a directory, with what is in it.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut contents(&path));
        } else {
            found.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A stopped store of ten memories, one of which was forgotten.
fn store() -> tempfile::TempDir {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "2"]);
    for n in 0..10 {
        let body = json!({"id": format!("m{n}"), "content": format!("the memory {n}"), "embedding": [n, 1]});
        server.post("/v1/memories", &body).expect(201);
    }
    server.delete("/v1/memories/m3").expect(200);
    assert_eq!(server.stop().0.code(), Some(0));
    directory
}

/// Changes a byte in the one place of the log where these words are.
fn damage(data_dir: &Path, words: &str) {
    for (path, mut bytes) in contents(&data_dir.join("wal")) {
        if let Some(at) = bytes.windows(words.len()).position(|window| window == words.as_bytes()) {
            bytes[at] ^= 1;
            return fs::write(path, bytes).unwrap();
        }
    }
    panic!("{words:?} is nowhere in the log");
}

#[test]
fn a_sound_log_is_read_in_every_way_and_not_changed() {
    let directory = store();
    let before = contents(directory.path());
    let verified = engram(directory.path(), &["verify", "--deep", "--json"]).expect(0).json();
    assert_eq!((&verified["sound"], &verified["sealed"]), (&true.into(), &true.into()));
    assert_eq!((&verified["records"], &verified["last_lsn"]), (&12.into(), &12.into()), "{verified}");
    assert_eq!(verified["deep"], json!({"memories": 9, "unreadable": []}));
    assert!(engram(directory.path(), &["verify"]).expect(0).out.contains(": sound"));

    let segments = engram(directory.path(), &["wal", "ls", "--json"]).expect(0).lines();
    assert_eq!(segments.iter().map(|segment| segment["records"].as_u64().unwrap()).sum::<u64>(), 12);
    assert_eq!(segments, *verified["segments"].as_array().unwrap());

    let records = engram(directory.path(), &["wal", "dump", "--json"]).expect(0).lines();
    assert_eq!(records.iter().map(|record| record["lsn"].as_u64().unwrap()).collect::<Vec<_>>(), {
        (1..=12).collect::<Vec<_>>()
    });
    assert_eq!((&records[0]["type"], &records[0]["dimension"]), (&"config".into(), &2.into()));
    assert_eq!((&records[1]["id"], &records[1]["content"]), (&"m0".into(), &"the memory 0".into()));
    assert_eq!((&records[11]["type"], &records[11]["id"]), (&"forget".into(), &"m3".into()));
    let some = engram(directory.path(), &["wal", "dump", "--json", "--from-lsn", "5", "--limit", "2"]);
    assert_eq!(some.expect(0).lines(), records[4..6]);

    let plan = engram(directory.path(), &["recover", "--report", "--json"]).expect(0).json();
    assert_eq!(
        (&plan["lost_records"], &plan["refused"], &plan["clean"]),
        (&0.into(), &Value::Null, &true.into())
    );
    assert!(engram(directory.path(), &["repair"]).expect(0).out.contains("nothing to repair"));
    assert_eq!(contents(directory.path()).len(), before.len());
    for ((path, now), (_, then)) in contents(directory.path()).iter().zip(&before) {
        // Who repairs holds the lock, and its file says who it was.
        assert!(now == then || path.ends_with("LOCK"), "{}", path.display());
    }
}

#[test]
fn damage_is_named_by_id_time_and_lsn_foretold_and_repaired_with_its_bytes_kept() {
    let directory = store();
    damage(directory.path(), "the memory 5");
    let before = contents(directory.path());
    let verified = engram(directory.path(), &["verify", "--deep", "--json"]).expect(65).json();
    let found = &verified["damage"][0];
    assert_eq!((&verified["sound"], &verified["lost_records"]), (&false.into(), &1.into()));
    assert_eq!((&found["first_lsn"], &found["last_lsn"]), (&7.into(), &7.into()), "{found}");
    assert_eq!((&found["remains"][0]["id"], &found["remains"][0]["lsn"]), (&"m5".into(), &7.into()));
    let times = ["after", "before"].map(|time| found[time].as_str().unwrap().to_owned());
    assert!(times[0] < times[1], "{times:?}");
    assert_eq!(verified["deep"]["memories"], 8);
    let human = engram(directory.path(), &["verify"]).expect(65);
    assert!(human.out.contains("DAMAGED") && human.out.contains("\"m5\""), "{}", human.out);
    assert!(human.err.contains("engram repair"), "{}", human.err);
    assert!(engram(directory.path(), &["wal", "ls"]).expect(65).out.contains("DAMAGED in 1 place"));
    let dumped = engram(directory.path(), &["wal", "dump", "--json"]).expect(65).lines();
    assert_eq!(dumped.len(), 12);
    assert!(dumped[6]["damaged"].as_str().unwrap().contains("records 7 to 7"), "{}", dumped[6]);
    let strict =
        engram(directory.path(), &["recover", "--report", "--json", "--recovery", "strict"]).expect(65);
    assert!(strict.json()["refused"].as_str().unwrap().contains("strict"));
    let plan = engram(directory.path(), &["recover", "--report", "--json"]).expect(65).json();
    assert_eq!(contents(directory.path()), before, "nothing was changed");

    // A start does what was foretold.
    let server = Server::start(directory.path(), &[]);
    let recovery = &server.get("/v1/status").expect(200)["recovery"];
    for field in ["records", "lost_records", "damage", "last_lsn", "quarantined", "clean", "copied_records"] {
        assert_eq!(recovery[field], plan[field], "{field}");
    }
    assert_eq!(server.stop().0.code(), Some(0));

    let nobody = engram(directory.path(), &["repair"]).expect(2);
    assert!(nobody.err.contains("--yes") && nobody.out.contains("declares 1 record lost"), "{}", nobody.err);
    let damaged = fs::read(directory.path().join("wal/wal-00000000000000000001.log")).unwrap();
    let repaired = engram(directory.path(), &["repair", "--yes", "--json"]).expect(0).json();
    assert_eq!((&repaired["declared_lost"], &repaired["lost_records"]), (&1.into(), &0.into()), "{repaired}");
    let kept = directory.path().join("wal").join(repaired["steps"][0]["kept"].as_str().unwrap());
    assert_eq!(fs::read(kept).unwrap(), damaged);
    engram(directory.path(), &["verify", "--deep"]).expect(0);
    let server = Server::start(directory.path(), &["--recovery", "strict"]);
    assert_eq!(server.all_memories().len(), 8);
}

#[test]
fn a_missing_segment_is_named() {
    let directory = store();
    fs::remove_file(directory.path().join("wal/wal-00000000000000000001.log")).unwrap();
    let verified = engram(directory.path(), &["verify", "--json"]).expect(65).json();
    assert_eq!(verified["missing_segments"], json!([[1, 1]]));
    assert_eq!(verified["lost_records"], 12, "{verified}");
    let human = engram(directory.path(), &["recover", "--report"]).expect(65);
    assert!(human.out.contains("REFUSE"), "{}", human.out);
}

#[test]
fn a_log_that_is_written_meanwhile_is_sound_at_every_look() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..4 {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || {
                for n in 0.. {
                    // Over several segments: the first have 64 KiB.
                    let body = json!({"id": format!("{client}-{n}"), "content": "x".repeat(3_000)});
                    server.post("/v1/memories", &body).expect(201);
                    if is_over.load(SeqCst) {
                        return;
                    }
                }
            });
        }
        let mut records = 0;
        for _ in 0..25 {
            let verified = engram(directory.path(), &["verify", "--deep", "--json"]).expect(0).json();
            let now = verified["records"].as_u64().unwrap();
            assert!(now >= records, "{now} after {records}");
            records = now;
            engram(directory.path(), &["recover", "--report"]).expect(0);
        }
        is_over.store(true, SeqCst);
    });
    let refused = engram(directory.path(), &["repair", "--yes"]).expect(75);
    assert!(refused.err.contains(&server.pid().to_string()), "{}", refused.err);
    let memories = server.all_memories().len() as u64;
    server.kill();
    let verified = engram(directory.path(), &["verify", "--deep", "--json"]).expect(0).json();
    assert_eq!(verified["deep"]["memories"], memories);
}

#[test]
fn what_is_no_store_is_said_and_not_called_sound() {
    let directory = store();
    let nowhere = directory.path().join("nowhere");
    for words in [&["verify"][..], &["wal", "ls"], &["wal", "dump"], &["recover", "--report"], &["repair"]] {
        let said = engram(&nowhere, words).expect(73);
        assert!(said.err.contains("--data-dir"), "{words:?}: {}", said.err);
    }
    // The log by itself, as a program has it that embeds the store.
    engram(&directory.path().join("wal"), &["verify"]).expect(0);
    for entry in fs::read_dir(directory.path().join("wal")).unwrap() {
        drop(fs::remove_file(entry.unwrap().path()));
    }
    assert!(engram(directory.path(), &["verify"]).expect(73).err.contains("files are gone"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let body = json!({"id": "long", "content": "x".repeat(200_000)});
    for _ in 0..4 {
        server.post("/v1/memories", &body);
    }
    server.kill();
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.args(["wal", "dump", "--json", "--data-dir"]).arg(directory.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begin = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut begin).unwrap(); // and close it
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
