//! The real server on a disk that gives back other bytes than it was given, or none: on their way there, and on their way back.

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
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;
use server::{Server, command};
use traced::{Place, from_injection, is_struck};

#[test]
fn bytes_that_change_on_their_way_to_the_disk_are_found_and_named() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for n in 1..=4 {
        let (place, context) = (Place::new(), format!("write {n} rots"));
        let (server, strace) = place.start(&[], &format!("pwrite64:poke_enter=@arg2=deadbeef:when={n}"));
        // Few enough for one segment, so that each write is a record.
        for m in 0..8 {
            server
                .post("/v1/memories", &json!({"id": format!("m{m}"), "content": format!("memory {m}")}))
                .expect(201);
        }
        from_injection(&strace.detach(), &context);
        server.kill();
        let server = Server::start(&place.data_dir, &[]);
        let recovery = &server.get("/v1/status").expect(200)["recovery"];
        assert_eq!(
            (&recovery["lost_records"], &recovery["damaged_ranges"]),
            (&1.into(), &1.into()),
            "{context}"
        );
        assert_eq!(recovery["quarantined"].as_array().unwrap().len(), 1, "{context}");
        assert!(server.log().contains("damaged in 1 place"), "{}", server.log());
        for m in (0..8).filter(|&m| m != n - 1) {
            assert_eq!(
                server.memory(&format!("m{m}")).unwrap()["content"],
                format!("memory {m}"),
                "{context}"
            );
        }
        assert!(server.memory(&format!("m{}", n - 1)).is_none(), "{context}");
    }
}

/// Starts a server under strace, which injects this into the reads of one file; its exit code and last words when it ends.
fn start_reading(
    data_dir: &Path,
    file: &Path,
    inject: &str,
    trace: &Path,
) -> Result<Server, (Option<i32>, String)> {
    let inner = command(data_dir, &[]);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "trace=pread64", "-e", &format!("inject=pread64:{inject}"), "-P"])
        .arg(file);
    strace.arg("-o").arg(trace).arg(inner.get_program()).args(inner.get_args());
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Server::try_until_ready(strace).map_err(|(status, log)| (status.code(), log))
}

/// strace lets its child go when it is killed: the child is killed by its own number.
fn kill(data_dir: &Path, server: Server) {
    let pid = fs::read_to_string(data_dir.join("wal/LOCK")).unwrap();
    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    server.wait();
}

/// A store of eight memories, killed, and its first segment.
fn killed_store() -> (Place, PathBuf) {
    let place = Place::new();
    let server = Server::start(&place.data_dir, &[]);
    for n in 0..8 {
        server
            .post("/v1/memories", &json!({"id": format!("m{n}"), "content": format!("memory {n}")}))
            .expect(201);
    }
    server.kill();
    let segment = place.data_dir.join("wal/wal-00000000000000000001.log");
    (place, segment)
}

#[test]
fn bytes_that_are_misread_are_never_taken_for_another_memory() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    let mut outcomes = Vec::new();
    for n in 1..=6 {
        let (place, segment) = killed_store();
        let started =
            start_reading(&place.data_dir, &segment, &format!("poke_exit=@arg2=ff:when={n}"), &place.trace);
        if !is_struck(&fs::read_to_string(&place.trace).unwrap()) {
            kill(&place.data_dir, started.unwrap());
            break;
        }
        match started {
            Err((code, log)) => {
                assert_eq!(code, Some(65), "{log}");
                assert!(log.contains("wal-00000000000000000001.log") || log.contains("segment"), "{log}");
                outcomes.push("refused");
            }
            Ok(server) => {
                let found = server.all_memories();
                for memory in &found {
                    let n = memory["id"].as_str().unwrap().trim_start_matches('m');
                    assert_eq!(memory["content"], format!("memory {n}"));
                }
                let recovery = &server.get("/v1/status").expect(200)["recovery"];
                let reported = recovery["damaged_ranges"].as_u64().unwrap() > 0;
                assert!(found.len() == 8 || reported, "silently {} of 8: {recovery}", found.len());
                outcomes.push(if reported { "reported" } else { "all there" });
                kill(&place.data_dir, server);
            }
        }
    }
    println!("misread: {outcomes:?}");
    assert!(outcomes.len() > 1, "{outcomes:?}");
}

#[test]
fn a_log_that_cannot_be_read_stops_the_start_and_is_left_as_it_is() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for when in ["1", "2", "1+"] {
        let (place, segment) = killed_store();
        let before = files(&place.data_dir);
        let Err((code, log)) =
            start_reading(&place.data_dir, &segment, &format!("error=EIO:when={when}"), &place.trace)
        else {
            panic!("it has started over what it could not read ({when})");
        };
        assert_eq!(code, Some(74), "{log}");
        assert!(log.contains("wal-00000000000000000001.log") && log.contains("Input/output error"), "{log}");
        assert_eq!(files(&place.data_dir), before);
        assert_eq!(Server::start(&place.data_dir, &[]).all_memories().len(), 8);
    }
}

/// The log's files, but for the one that says who has it.
fn files(data_dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(data_dir.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.is_file() && !path.ends_with("LOCK"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}
