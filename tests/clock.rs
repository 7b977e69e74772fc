//! The real server, whose clock is turned back and forward, while it runs and between two runs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::json;
use server::{Server, command};

/// Where Debian has it.
fn library() -> Option<PathBuf> {
    let machines = fs::read_dir("/usr/lib").ok()?.flatten();
    machines.map(|machine| machine.path().join("faketime/libfaketime.so.1")).find(|library| library.exists())
}

/// A server whose clock differs from the machine's by what is in the file. Its monotonic clock does not, as on any machine.
fn start(data_dir: &Path, library: &Path, clock: &Path) -> Server {
    let mut command = command(data_dir, &["--fsync", "timer=20ms"]);
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
    Server::spawn(command)
}

#[test]
fn a_clock_that_jumps_loses_nothing_and_changes_no_order() {
    let Some(library) = library() else { return skip::because("libfaketime is not installed") };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (data_dir, clock) = (directory.path().join("data"), directory.path().join("clock"));
    let (mut ids, mut last_lsn, mut days) = (HashSet::new(), 0, HashSet::new());
    for run in [["+0d", "-1d", "+30d", "+0d"], ["-400d", "+30d", "-1d", "+0d"]] {
        fs::write(&clock, run[0]).unwrap();
        let server = start(&data_dir, &library, &clock);
        assert_eq!(server.all_memories().len(), ids.len());
        for shift in run {
            fs::write(&clock, shift).unwrap();
            for _ in 0..20 {
                let receipt = server.post("/v1/memories", &json!({"content": "when is now?"})).expect(201);
                let lsn = receipt["lsn"].as_u64().unwrap();
                assert!(lsn > last_lsn, "{lsn} after {last_lsn}, {shift}");
                last_lsn = lsn;
                let id = receipt["id"].as_str().unwrap().to_owned();
                days.insert(server.memory(&id).unwrap()["when"].as_str().unwrap()[..10].to_owned());
                assert!(ids.insert(id), "an id is given twice, {shift}");
            }
            // The timer goes by the clock that does not jump.
            for _ in 0..2_000 {
                if server.get("/v1/status").expect(200)["log"]["synced_lsn"] == last_lsn {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(server.get("/v1/status").expect(200)["log"]["synced_lsn"], last_lsn, "{shift}");
        }
        let recall = server.post("/v1/recall", &json!({"query": "now", "limit": 1000})).expect(200);
        assert_eq!(recall["results"].as_array().unwrap().len(), ids.len());
        server.kill();
    }
    assert!(days.len() >= 4, "the clock has jumped: {days:?}");
    let memories = Server::start(&data_dir, &["--recovery", "torn-tail"]).all_memories();
    assert_eq!(memories.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<HashSet<_>>(), ids);
    // As times: a text without a fraction of its second comes after one that has one.
    let whens: Vec<DateTime<Utc>> =
        memories.iter().map(|it| it["when"].as_str().unwrap().parse().unwrap()).collect();
    assert!(whens.is_sorted(), "the listing is by time, whatever the order of the log");
}
