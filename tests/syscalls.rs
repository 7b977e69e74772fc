//! What the real server asks of the kernel, seen by strace: no acknowledgement before the sync that covers it, and the
//! directory synced for each new segment.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was seen, or why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use server::{Server, command};

const TRACED: &str = "trace=pwrite64,fdatasync,fsync,rename,renameat,renameat2,write,writev,sendto";

/// A server under strace, whose calls go to `trace`.
fn traced(data_dir: &Path, trace: &Path, mode: &str) -> Server {
    let inner = command(data_dir, &["--fsync", mode]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "64", "-e", TRACED, "-o"]).arg(trace);
    strace.arg(inner.get_program()).args(inner.get_args());
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Server::spawn(strace)
}

/// The calls in the order in which they returned: each whole, also where strace split it in two.
fn calls(trace: &str) -> Vec<String> {
    let mut unfinished: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            // A write begins to matter when it is asked for, a sync when it has returned.
            if call.starts_with("pwrite64") || call.starts_with("write") || call.starts_with("sendto") {
                calls.push(start.to_owned());
            }
            unfinished.insert(pid, start);
        } else if call.starts_with("<... ") {
            let start = unfinished.remove(pid).unwrap_or_default();
            if start.starts_with("fdatasync") || start.starts_with("fsync") || start.starts_with("rename") {
                calls.push(format!("{start} {call}"));
            }
        } else {
            calls.push(call.to_owned());
        }
    }
    calls
}

#[test]
fn nothing_is_acknowledged_before_its_sync() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip::because("strace is not installed");
    }
    for mode in ["per-batch", "per-write"] {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (data_dir, trace) = (directory.path().join("data"), directory.path().join("trace"));
        let server = traced(&data_dir, &trace, mode);
        // Over several segments: the first have 64 KiB.
        for n in 0..60 {
            let body = json!({"id": format!("m{n}"), "content": "x".repeat(5_000)});
            server.post("/v1/memories", &body).expect(201);
        }
        server.delete("/v1/memories/m1").expect(200);
        // strace lets its child go when it is killed: end the child by its own pid.
        let pid = std::fs::read_to_string(data_dir.join("wal/LOCK")).unwrap();
        assert!(Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success());
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");

        let trace = std::fs::read_to_string(&trace).unwrap();
        let (mut unsynced, mut name_unsynced) = (false, false);
        let (mut acknowledged, mut syncs, mut segments) = (0, 0, 0);
        for call in calls(&trace) {
            let on_log = call.contains("/wal/wal-") && call.contains(".log>");
            let ok = call.ends_with("= 0");
            if call.starts_with("pwrite64") && on_log {
                assert!(!name_unsynced, "{mode}: a record before the name of its segment is durable: {call}");
                unsynced = true;
            } else if call.starts_with("fdatasync") && on_log {
                assert!(ok, "{call}");
                unsynced = false;
                syncs += 1;
            } else if call.starts_with("rename") {
                assert!(ok && call.contains(".tmp\"") && call.contains(".log\""), "{call}");
                name_unsynced = true;
                segments += 1;
            } else if call.starts_with("fsync") && call.contains("/wal>") {
                assert!(ok, "{call}");
                name_unsynced = false;
            } else if call.contains("HTTP/1.1 201") || call.contains("HTTP/1.1 200") {
                assert!(!unsynced && !name_unsynced, "{mode}: acknowledged before the sync: {call}");
                acknowledged += 1;
            }
        }
        println!("{mode}: {acknowledged} acknowledgements, {syncs} syncs of the log, {segments} segments");
        assert!(acknowledged >= 61 && syncs >= 61 && segments >= 2, "{acknowledged} {syncs} {segments}");
    }
}
