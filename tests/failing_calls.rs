//! The real server, whose calls fail: a sync that the disk refuses, a write that finds it full, a disk that is slow. strace makes them so, each at the very call that is meant, and its trace says that it did.

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
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use server::{Answer, Server};
use traced::{Place, from_injection};

/// Every fifth memory begins another segment: the first have 64 KiB.
const CONTENT_BYTES: usize = 14_000;

/// After a kill, these are there, and of those that were refused without a promise either way all or nothing; the log goes on.
fn check(place: &Place, stored: &[usize], unknown: &[usize], context: &str) {
    let server = Server::start(&place.data_dir, &["--recovery", "torn-tail"]);
    let mut found: BTreeSet<usize> = BTreeSet::new();
    for memory in server.all_memories() {
        let n = memory["id"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(memory["content"], content(n), "{context}: m{n} is another");
        found.insert(n);
    }
    for n in stored {
        assert!(found.remove(n), "{context}: m{n} is lost");
    }
    found.retain(|n| !unknown.contains(n));
    assert!(found.is_empty(), "{context}: refused, and there all the same: {found:?}");
    server.post("/v1/memories", &json!({"content": "and on"})).expect(201);
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
        check(&place, &stored, &[stored.len()], &context);
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
    check(&place, &stored, &[stored.len()], "exit");
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
            check(&place, &stored, &[], &context);
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
        check(&place, &stored, &[], &context);
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
        check(&place, &stored, &[stored.len()], &context);
    }
    let place = Place::new();
    let (server, strace) = place.start(&[], "pwrite64:error=EINTR:when=3+3");
    let (stored, refused) = fill(&server, 0..20);
    assert!(refused.is_none());
    from_injection(&strace.detach(), "interrupted");
    server.kill();
    check(&place, &stored, &[stored.len()], "interrupted");
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
                let mut unknown = Vec::new();
                if let Some(refused) = refused {
                    // Without space it goes on; after any other failure reading does.
                    assert!(matches!(refused.status, 503 | 507), "{context}: {}", refused.text);
                    if refused.status == 507 {
                        stored.extend(fill(&server, 100..102).0);
                    } else {
                        unknown.push(stored.len());
                    }
                }
                assert_eq!(server.all_memories().len(), stored.len(), "{context}");
                from_injection(&strace.detach(), &context);
                server.kill();
                check(&place, &stored, &unknown, &context);
            }
        }
    }
}

#[test]
fn a_slow_disk_is_waited_for_and_reads_are_not() {
    if let Some(reason) = traced::cannot() {
        return skip::because(reason);
    }
    for delay_ms in [500, 3_000] {
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
            // Those that begin when the sync has long begun, and end before it does.
            let mut reads = 0;
            while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                let begun = started.elapsed();
                assert!(server.memory("m0").is_some());
                reads += u32::from(begun > delay / 2 && started.elapsed() < delay);
            }
            (writers.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>(), reads)
        });
        waited.sort_unstable();
        println!(
            "a sync of {delay_ms} ms: 16 writes answered after {:?} to {:?}, {reads} reads meanwhile",
            waited[0], waited[15]
        );
        assert!(waited[0] >= delay, "acknowledged before the sync has returned: {:?}", waited[0]);
        assert!(reads > 0, "reads wait for the disk");
        from_injection(&strace.detach(), "slow");
        server.kill();
        check(&place, &(0..17).collect::<Vec<_>>(), &[], "slow");
    }
}
