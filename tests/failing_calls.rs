//! The real server, whose calls fail: a sync that the disk refuses, a write that finds it full, bytes that change on their way,
//! a disk that is slow. strace makes them so, each at the very call that is meant, and its trace says that it did.

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
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use server::{Answer, Server, command};
use tempfile::TempDir;
use traced::{Attached, WRITER};

/// What shows in a trace.
const TRACED: &str = "pwrite64,fdatasync,fsync,openat,rename";

/// Every fifth memory begins another segment: the first have 64 KiB.
const CONTENT_BYTES: usize = 14_000;

/// A data directory, and a file for a trace beside it.
struct Place {
    _directory: TempDir,
    data_dir: PathBuf,
    trace: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (data_dir, trace) = (directory.path().join("data"), directory.path().join("trace"));
        Self { _directory: directory, data_dir, trace }
    }

    /// A server whose log's thread meets this.
    fn start(&self, arguments: &[&str], inject: &str) -> (Server, Attached) {
        let server = Server::start(&self.data_dir, arguments);
        let attached = Attached::to(traced::thread(server.pid(), WRITER), TRACED, Some(inject), &self.trace);
        (server, attached)
    }

    /// After a kill, exactly these are there, and the log goes on.
    fn check(&self, stored: &[usize], context: &str) {
        let server = Server::start(&self.data_dir, &["--recovery", "torn-tail"]);
        let found = server.all_memories().len();
        // What was refused may be there all the same: it is not promised.
        assert!(
            (stored.len()..=stored.len() + 1).contains(&found),
            "{context}: {} and {found}",
            stored.len()
        );
        for &n in stored {
            let memory = server.memory(&format!("m{n}")).unwrap_or_else(|| panic!("{context}: m{n} is lost"));
            assert_eq!(memory["content"], content(n), "{context}");
        }
        server.post("/v1/memories", &json!({"content": "and on"})).expect(201);
    }
}

fn content(n: usize) -> String {
    format!("{n} ").repeat(CONTENT_BYTES / 3)
}

fn store(server: &Server, n: usize) -> Answer {
    server.post("/v1/memories", &json!({"id": format!("m{n}"), "content": content(n)}))
}

/// Stores memories until one is refused, or there are so many; those that were stored, and the refusal.
fn fill(server: &Server, range: std::ops::Range<usize>) -> (Vec<usize>, Option<Answer>) {
    let mut stored = Vec::new();
    for n in range {
        let answer = store(server, n);
        if answer.status != 201 {
            return (stored, Some(answer));
        }
        stored.push(n);
    }
    (stored, None)
}

/// Whether strace has done something to a call: it says what, in brackets.
fn is_struck(call: &str) -> bool {
    call.contains("(INJECTED") || call.contains("(DELAYED)")
}

/// The calls from the one that was struck on.
fn from_injection<'t>(trace: &'t str, context: &str) -> Vec<&'t str> {
    let calls: Vec<&str> = trace.lines().skip_while(|call| !is_struck(call)).collect();
    assert!(!calls.is_empty(), "{context}: nothing was injected:\n{trace}");
    calls
}

#[test]
fn a_sync_that_fails_is_final_whichever_it_is() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for n in 1..=30 {
        let (place, context) = (Place::new(), format!("fdatasync {n} fails"));
        let inject = format!("fdatasync:error=EIO:when={n}");
        let (server, strace) = place.start(&["--on-wal-failure", "read-only"], &inject);
        let (stored, refused) = fill(&server, 0..60);
        refused.unwrap_or_else(|| panic!("{context}: and nothing was refused")).problem(503, "log_failed");
        for other in 100..103 {
            store(&server, other).problem(503, "log_failed");
        }
        assert_eq!(server.get("/readyz").status, 503);
        assert_eq!(
            server.all_memories().len(),
            stored.len(),
            "{context}: reads go on, without what was refused"
        );
        let trace = strace.detach();
        server.kill();
        let calls = from_injection(&trace, &context);
        let later: Vec<_> =
            calls[1..].iter().filter(|call| call.contains("sync(") || call.contains("pwrite64(")).collect();
        assert!(later.is_empty(), "{context}: the log is used after that: {later:?}");
        place.check(&stored, &context);
    }
}

#[test]
fn a_server_whose_log_fails_ends_with_its_own_code() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    let place = Place::new();
    let (server, strace) = place.start(&[], "fdatasync:error=EIO:when=3");
    let (stored, refused) = fill(&server, 0..60);
    refused.unwrap().problem(503, "log_failed");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(74), "{log}");
    assert!(log.contains("Input/output error") && log.contains("start again"), "{log}");
    from_injection(&strace.wait(), "exit");
    place.check(&stored, "exit");
}

#[test]
fn a_write_that_finds_the_disk_full_is_refused_alone() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for error in ["ENOSPC", "EDQUOT"] {
        for n in 1..=8 {
            let (place, context) = (Place::new(), format!("{error} at write {n}"));
            let (server, strace) = place.start(&[], &format!("pwrite64:error={error}:when={n}"));
            let (mut stored, refused) = fill(&server, 0..20);
            // Where it strikes what is made ahead, another way is found, and nobody is refused.
            if let Some(refused) = refused {
                refused.problem(507, "disk_full");
                let (more, refused) = fill(&server, 100..110);
                assert!(refused.is_none(), "{context}: it goes on when there is space");
                stored.extend(more);
            }
            assert_eq!(server.all_memories().len(), stored.len(), "{context}");
            from_injection(&strace.detach(), &context);
            server.kill();
            place.check(&stored, &context);
        }
        // Full until there is space again.
        let (place, context) = (Place::new(), format!("{error} from write 4 on"));
        let (server, strace) = place.start(&[], &format!("pwrite64:error={error}:when=4+"));
        let (mut stored, refused) = fill(&server, 0..20);
        refused.unwrap().problem(507, "disk_full");
        store(&server, 50).problem(507, "disk_full");
        assert_eq!(server.get("/readyz").status, 503, "{context}");
        strace.detach();
        let (more, refused) = fill(&server, 100..110);
        assert!(refused.is_none(), "{context}: it goes on when there is space");
        stored.extend(more);
        server.kill();
        place.check(&stored, &context);
    }
}

#[test]
fn a_write_that_fails_otherwise_is_final_and_one_that_is_interrupted_is_not_seen() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for n in [1, 2, 5] {
        let (place, context) = (Place::new(), format!("EIO at write {n}"));
        let (server, strace) =
            place.start(&["--on-wal-failure", "read-only"], &format!("pwrite64:error=EIO:when={n}"));
        let (stored, refused) = fill(&server, 0..20);
        refused.unwrap().problem(503, "log_failed");
        assert_eq!(server.all_memories().len(), stored.len(), "{context}");
        from_injection(&strace.detach(), &context);
        server.kill();
        place.check(&stored, &context);
    }
    let place = Place::new();
    let (server, strace) = place.start(&[], "pwrite64:error=EINTR:when=3+3");
    let (stored, refused) = fill(&server, 0..20);
    assert!(refused.is_none());
    from_injection(&strace.detach(), "interrupted");
    server.kill();
    place.check(&stored, "interrupted");
}

#[test]
fn a_segment_that_cannot_be_made_loses_nothing() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for call in ["rename", "fsync", "openat"] {
        for error in ["EIO", "ENOSPC", "EMFILE"] {
            for n in 1..=2 {
                let (place, context) = (Place::new(), format!("{call} {n} fails with {error}"));
                let (server, strace) = place
                    .start(&["--on-wal-failure", "read-only"], &format!("{call}:error={error}:when={n}"));
                let (mut stored, refused) = fill(&server, 0..30);
                if let Some(refused) = refused {
                    // Without space it goes on; after any other failure reading does.
                    assert!(matches!(refused.status, 503 | 507), "{context}: {}", refused.text);
                    if refused.status == 507 {
                        stored.extend(fill(&server, 100..102).0);
                    }
                }
                assert_eq!(server.all_memories().len(), stored.len(), "{context}");
                from_injection(&strace.detach(), &context);
                server.kill();
                place.check(&stored, &context);
            }
        }
    }
}

#[test]
fn a_slow_disk_is_waited_for_and_reads_are_not() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for delay_ms in [200, 2_000] {
        let (place, delay) = (Place::new(), Duration::from_millis(delay_ms));
        let inject = format!("fdatasync:delay_exit={}:when=2", delay.as_micros());
        let (server, strace) = place.start(&[], &inject);
        store(&server, 0).expect(201);
        let started = Instant::now();
        let (mut waited, reads) = thread::scope(|scope| {
            let writers: Vec<_> = (1..17)
                .map(|n| {
                    let server = &server;
                    scope.spawn(move || {
                        store(server, n).expect(201);
                        started.elapsed()
                    })
                })
                .collect();
            let mut reads = 0;
            while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                assert!(server.memory("m0").is_some());
                reads += 1;
            }
            (writers.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>(), reads)
        });
        waited.sort_unstable();
        println!(
            "a sync of {delay_ms} ms: 16 writes answered after {:?} to {:?}, {reads} reads meanwhile",
            waited[0], waited[15]
        );
        assert!(waited[0] >= delay, "acknowledged before the sync has returned: {:?}", waited[0]);
        assert!(reads > 1, "reads wait for the disk");
        from_injection(&strace.detach(), "slow");
        server.kill();
        place.check(&(0..17).collect::<Vec<_>>(), "slow");
    }
}

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
        let before = fs::read(&segment).unwrap();
        let Err((code, log)) =
            start_reading(&place.data_dir, &segment, &format!("error=EIO:when={when}"), &place.trace)
        else {
            panic!("it has started over what it could not read ({when})");
        };
        assert_eq!(code, Some(74), "{log}");
        assert!(log.contains("wal-00000000000000000001.log") && log.contains("Input/output error"), "{log}");
        assert_eq!(fs::read(&segment).unwrap(), before);
        assert_eq!(Server::start(&place.data_dir, &[]).all_memories().len(), 8);
    }
}
