//! The real server, killed at each call by which it changes the disk: while it recovers, stores, goes on in another segment,
//! and stops. No luck is needed: strace kills it as it enters the n-th such call, for every n.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was tried, or why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;
#[path = "support/traced.rs"]
mod traced;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use server::{Server, command};
use traced::{Attached, SNAPSHOT, SPARE, WRITER, thread};

/// By which the disk is changed, in the threads of the log.
const CALLS: [&str; 6] = ["pwrite64", "fdatasync", "fsync", "openat", "rename", "unlink"];

/// The same for a start, whose other calls of `openat` are the loader's.
const CALLS_OF_A_START: [&str; 6] = ["pwrite64", "fdatasync", "fsync", "rename", "unlink", "flock"];

/// Bytes of a content, so that the twelve changes fill more than two segments of 64 KiB.
const CONTENT_BYTES: usize = 14_000;

type Contents = BTreeMap<String, String>;

/// The changes of the script. Each is whole or not there at all.
#[derive(Clone, Copy)]
enum Change {
    Store(&'static str, char),
    Forget(&'static str),
}

const SCRIPT: [Change; 12] = [
    Change::Store("a", '1'),
    Change::Store("b", '2'),
    Change::Store("c", '3'),
    Change::Store("d", '4'),
    Change::Store("a", '5'),
    Change::Store("e", '6'),
    Change::Forget("b"),
    Change::Store("f", '7'),
    Change::Store("g", '8'),
    Change::Store("b", '9'),
    Change::Forget("g"),
    Change::Store("h", 'x'),
];

impl Change {
    /// Whether it was acknowledged.
    fn send(self, server: &Server) -> bool {
        let answer = match self {
            Self::Store(id, letter) => {
                let body = json!({"id": id, "content": content(letter)}).to_string();
                server.send("POST", "/v1/memories", "application/json", body.as_bytes()).ok()
            }
            Self::Forget(id) => server.try_delete(&format!("/v1/memories/{id}")),
        };
        // A connection that breaks in the middle of an answer gives an empty one.
        answer.is_some_and(|answer| matches!(answer.status, 200 | 201) && answer.text.contains("\"synced\""))
    }

    fn apply(self, contents: &mut Contents) {
        match self {
            Self::Store(id, letter) => drop(contents.insert(id.to_owned(), content(letter))),
            Self::Forget(id) => drop(contents.remove(id)),
        }
    }
}

fn content(letter: char) -> String {
    letter.to_string().repeat(CONTENT_BYTES)
}

/// What the first so many changes leave.
fn after(changes: usize) -> Contents {
    let mut contents = Contents::new();
    SCRIPT[..changes].iter().for_each(|change| change.apply(&mut contents));
    contents
}

/// Starts a server on what a kill has left: all that was acknowledged is there, and of what was under way all or nothing.
fn check(data_dir: &Path, acknowledged: usize, context: &str) {
    let next = (acknowledged + 1).min(SCRIPT.len());
    check_one_of(data_dir, &[after(acknowledged), after(next)], context);
}

/// Starts a server, which must show one of these.
fn check_one_of(data_dir: &Path, allowed: &[Contents], context: &str) {
    let server = Server::start(data_dir, &["--recovery", "torn-tail"]);
    let found: Contents = server
        .all_memories()
        .into_iter()
        .map(|memory| {
            (memory["id"].as_str().unwrap().to_owned(), memory["content"].as_str().unwrap().to_owned())
        })
        .collect();
    assert!(
        allowed.contains(&found),
        "{context}: there are {:?}",
        found
            .iter()
            .map(|(id, content)| format!("{id} {:.2} {}", content, content.len()))
            .collect::<Vec<_>>()
    );
    let recovery = &server.get("/v1/status").expect(200)["recovery"];
    assert_eq!(recovery["lost_records"], 0, "{context}: {recovery}");
    server.post("/v1/memories", &json!({"content": "and on"})).expect(201);
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn killed_at_each_call_of_a_script_over_several_segments_and_of_the_stop_after_it() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    let mut tried = Vec::new();
    for name in [WRITER, SPARE] {
        for call in CALLS {
            let mut n = 0;
            loop {
                n += 1;
                let directory = directory();
                let (data_dir, trace) = (directory.path().join("data"), directory.path().join("trace"));
                let server = Server::start(&data_dir, &[]);
                let kill = format!("{call}:signal=KILL:when={n}");
                let strace = Attached::to(thread(server.pid(), name), &CALLS.join(","), Some(&kill), &trace);
                let acknowledged = SCRIPT.iter().take_while(|change| change.send(&server)).count();
                let (status, log) = if acknowledged == SCRIPT.len() { server.stop() } else { server.wait() };
                let was_killed = status.signal() == Some(9);
                assert!(was_killed || acknowledged == SCRIPT.len(), "{log}");
                drop(strace);
                check(&data_dir, acknowledged, &format!("{name}, {call} {n}"));
                if !was_killed {
                    break;
                }
            }
            tried.push(format!("{name}: {call} {}", n - 1));
        }
    }
    println!("killed at: {}", tried.join(", "));
    let reached =
        ["engram-wal: pwrite64", "engram-wal: fdatasync", "engram-wal: rename", "engram-spare: pwrite64"];
    for what in reached {
        assert!(!tried.contains(&format!("{what} 0")), "{what} was never made");
    }
}

#[test]
fn killed_at_each_call_of_a_snapshot_and_of_the_removal_of_what_it_stands_for() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    let mut tried = Vec::new();
    for call in CALLS {
        let mut n = 0;
        loop {
            n += 1;
            assert!(n < 200, "{call}: a snapshot that makes it has no end");
            let directory = directory();
            let (data_dir, trace) = (directory.path().join("data"), directory.path().join("trace"));
            // The script writes more than twice as much.
            let server = Server::start(&data_dir, &["--snapshot-log-bytes", "65536"]);
            let kill = format!("{call}:signal=KILL:when={n}");
            let strace = Attached::to(thread(server.pid(), SNAPSHOT), &CALLS.join(","), Some(&kill), &trace);
            let acknowledged = SCRIPT.iter().take_while(|change| change.send(&server)).count();
            let mut allowed = vec![after(acknowledged), after((acknowledged + 1).min(SCRIPT.len()))];
            // Then one memory again and again, until a second snapshot has removed the first.
            let mut again = ['y', 'x'].into_iter().cycle().map(|letter| Change::Store("h", letter));
            while acknowledged == SCRIPT.len() && taken(&server).is_some_and(|taken| taken < 2) {
                for change in again.by_ref().take(1) {
                    let before = allowed[0].clone();
                    change.apply(&mut allowed[0]);
                    allowed[1] = if change.send(&server) { allowed[0].clone() } else { before };
                }
            }
            let was_killed = taken(&server).is_none();
            if was_killed {
                let (status, log) = server.wait();
                assert_eq!(status.signal(), Some(9), "{log}");
            } else {
                server.kill();
            }
            drop(strace);
            check_one_of(&data_dir, &allowed, &format!("snapshot, {call} {n}"));
            if !was_killed {
                break;
            }
        }
        tried.push(format!("{call} {}", n - 1));
    }
    println!("killed at: {}", tried.join(", "));
    for what in ["pwrite64", "fdatasync", "fsync", "rename", "unlink"] {
        assert!(!tried.contains(&format!("{what} 0")), "{what} was never made");
    }
}

/// How many snapshots were taken; nothing when the server is gone.
fn taken(server: &Server) -> Option<u64> {
    let answer = server.try_get("/v1/status").filter(|answer| answer.status == 200)?;
    answer.json()["snapshots"]["taken"].as_u64()
}

#[test]
fn killed_at_each_call_of_a_recovery() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    let original = directory();
    let server = Server::start(original.path(), &[]);
    assert!(SCRIPT.iter().all(|change| change.send(&server)));
    server.kill();
    let mut tried = Vec::new();
    for call in CALLS_OF_A_START {
        let mut n = 0;
        loop {
            n += 1;
            assert!(n < 200, "{call}: a start that makes it has no end");
            let directory = directory();
            let data_dir = directory.path().join("data");
            let copied = Command::new("cp").arg("-r").arg(original.path()).arg(&data_dir).status();
            assert!(copied.unwrap().success());
            let inner = command(&data_dir, &[]);
            let mut strace = Command::new("strace");
            strace.args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
            strace.arg("-e").arg(format!("inject={call}:signal=KILL:when={n}"));
            strace.arg(inner.get_program()).args(inner.get_args());
            strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let was_killed = match Server::try_until_ready(strace) {
                Ok(server) => {
                    // strace lets its child go when it is killed: end the child by its own pid.
                    let pid = fs::read_to_string(data_dir.join("wal/LOCK")).unwrap();
                    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
                    server.wait();
                    false
                }
                // strace ends as what it traces does.
                Err((status, log)) => {
                    assert_eq!(status.signal(), Some(9), "{call} {n}: {log}");
                    true
                }
            };
            check(&data_dir, SCRIPT.len(), &format!("recovery, {call} {n}"));
            if !was_killed {
                break;
            }
        }
        tried.push(format!("{call} {}", n - 1));
    }
    println!("killed at: {}", tried.join(", "));
    assert!(!tried.iter().any(|it| it == "pwrite64 0" || it == "rename 0" || it == "fsync 0"), "{tried:?}");
}
