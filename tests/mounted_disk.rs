//! The real server on the simulated disk, which is mounted through FUSE and loses its power again and again: what was not
//! synced is lost, torn and out of order, and so are names.
//!
//! `ENGRAM_MOUNTED_CUTS` says how often, `ENGRAM_SEED` repeats what is lost (not the machine's scheduling).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried, or why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

mod mounted;
#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{path::Path, process::Command};

use engram_core::storage::disk::SimFaults;
use mounted::{
    MountedDisk,
    clients::{self, Client},
};
use random::{Random, count, seed};
use serde_json::{Value, json};
use server::Server;

/// A directory, and a simulated disk mounted on it; or why there can be none.
fn mount(seed: u64) -> Result<(MountedDisk, tempfile::TempDir), String> {
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse".to_owned());
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = MountedDisk::mount(directory.path(), seed);
    disk.map(|disk| (disk, directory)).map_err(|e| format!("FUSE cannot be mounted: {e}"))
}

/// Runs `engram crashtest` on the mounted disk, cutting its power after each kill; whether it found a loss, and its report.
fn crashtest(
    disk: &MountedDisk,
    directory: &Path,
    rounds: u64,
    seed: u64,
    arguments: &[&str],
) -> (bool, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.arg("crashtest").arg(directory.join("test")).args(arguments);
    command.args(["--json", "--rounds", &rounds.to_string(), "--seed", &seed.to_string()]);
    let output = command.args(["--power-cut-command", &disk.cut_command()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    match output.status.code() {
        Some(0) => (false, report),
        Some(65) => (true, report),
        other => panic!("it ended with {other:?}: {said}"),
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_of_the_simulated_disk_is_cut() {
    let (seed, cuts) = (seed(), count("ENGRAM_MOUNTED_CUTS", 500));
    let (disk, directory) = match mount(seed) {
        Ok(mounted) => mounted,
        Err(reason) => return skip::because(&reason),
    };
    // Each fourth end keeps the cache, and is no cut.
    let rounds = (cuts * 4).div_ceil(3) + 1;
    for (rounds, arguments) in [
        (rounds - 2 * (rounds / 10), &["--clients", "8"][..]),
        (rounds / 10, &["--clients", "2", "--fsync", "per-write"]),
        (rounds / 10, &["--clients", "4", "--fsync", "timer=5ms"]),
    ] {
        if rounds == 0 {
            continue;
        }
        let (is_lost, report) = crashtest(&disk, directory.path(), rounds, seed, arguments);
        println!("{report}");
        assert!(!is_lost && report["lost"] == 0 && report["rounds"] == rounds, "{report}");
    }
    assert!(disk.cuts() >= cuts, "{} cuts", disk.cuts());
    // Without a promise there is something to lose, or the power was never cut.
    let (_, none) = crashtest(&disk, directory.path(), 10, seed, &["--fsync", "none"]);
    assert!(none["lost_allowed_by_mode"].as_u64().unwrap() > 0, "{none}");
    println!("{} cuts, 0 lost", disk.cuts());
}

#[test]
fn the_power_may_go_in_the_middle_of_a_write_while_the_server_still_runs() {
    let (seed, cuts) = (seed(), count("ENGRAM_MOUNTED_CUTS", 500) / 10 + 1);
    let (disk, directory) = match mount(seed) {
        Ok(mounted) => mounted,
        Err(reason) => return skip::because(&reason),
    };
    let data_dir = directory.path().join("data");
    let mut random = Random::new(seed);
    let mut clients: Vec<Client> = (0..4).map(Client::new).collect();
    let mut server = Server::start(&data_dir, &[]);
    for round in 0..cuts {
        disk.tree().power_off_after(random.below(150));
        clients::work(&mut clients, &server, seed.wrapping_add(round << 8));
        // The server has met the failures by now; it must be gone before what they have left is decided.
        server.kill();
        disk.tree().cut();
        server = Server::start(&data_dir, &[]);
        clients::check(&mut clients, &server);
    }
    let acknowledged: u64 = clients.iter().map(|client| client.acknowledged).sum();
    println!("{acknowledged} acknowledged, {} cuts, 0 lost", disk.cuts());
    assert!(acknowledged > cuts, "{acknowledged} acknowledged: the power went before anything was tried");
}

#[test]
fn a_sync_that_fails_ends_writing_and_what_is_shown_after_it_stays() {
    let (disk, directory) = match mount(seed()) {
        Ok(mounted) => mounted,
        Err(reason) => return skip::because(&reason),
    };
    let data_dir = directory.path().join("data");
    let mut shown = 0;
    for round in 0..20 {
        let server = Server::start(&data_dir, &["--on-wal-failure", "read-only"]);
        let found = server.all_memories().len();
        assert!(found >= shown, "round {round}: what was shown is gone: {found} of {shown}");
        let mut stored = found;
        for n in 0..5 {
            server.post("/v1/memories", &json!({"content": format!("{round} {n}")})).expect(201);
            stored += 1;
        }
        disk.tree().set_faults(SimFaults { sync_fails_one_in: 1, ..SimFaults::default() });
        server.post("/v1/memories", &json!({"content": "a phantom"})).problem(503, "log_failed");
        disk.tree().set_faults(SimFaults::default());
        server.post("/v1/memories", &json!({"content": "after it"})).problem(503, "log_failed");
        assert_eq!(server.all_memories().len(), stored, "reads go on");
        assert_eq!(server.get("/readyz").status, 503);
        server.kill();

        // The phantom can be read now, from the cache alone. Whoever is shown it must find it again.
        let server = Server::start(&data_dir, &[]);
        shown = server.all_memories().len();
        assert!(shown >= stored, "round {round}");
        server.kill();
        disk.tree().drop_caches();
    }
    let found = Server::start(&data_dir, &[]).all_memories().len();
    assert_eq!(found, shown, "what was shown is gone");
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_space() {
    let (disk, directory) = match mount(seed()) {
        Ok(mounted) => mounted,
        Err(reason) => return skip::because(&reason),
    };
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir, &[]);
    let store = |id: String| server.post("/v1/memories", &json!({"id": id, "content": "x".repeat(20_000)}));
    disk.tree().set_faults(SimFaults { capacity_bytes: 1 << 20, ..SimFaults::default() });
    let stored = (0..1_000).find(|n| store(format!("a{n}")).status != 201).unwrap();
    store("refused".to_owned()).problem(507, "disk_full");
    assert_eq!(server.all_memories().len(), stored);
    disk.tree().set_faults(SimFaults::default());
    store("more".to_owned()).expect(201);
    server.kill();
    disk.tree().cut();
    assert_eq!(Server::start(&data_dir, &[]).all_memories().len(), stored + 1);
}

#[test]
fn a_snapshot_for_which_there_is_no_room_is_refused_and_loses_nothing() {
    let (disk, directory) = match mount(seed()) {
        Ok(mounted) => mounted,
        Err(reason) => return skip::because(&reason),
    };
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir, &["--snapshot-log-bytes", "0"]);
    let store = |id: String| server.post("/v1/memories", &json!({"id": id, "content": "x".repeat(20_000)}));
    (0..40).for_each(|n| drop(store(format!("a{n}")).expect(201)));
    let snapshot = || server.send("POST", "/v1/snapshot", "", b"").unwrap();
    // Room for the next segment, and not for a copy of all memories.
    for more in [0, 70_000, 300_000] {
        // The segment made ready ahead is let go of, and its room with it.
        let files = std::fs::read_dir(data_dir.join("wal")).unwrap().map(Result::unwrap);
        let kept = files.filter(|file| file.file_name() != "wal-spare.tmp");
        let held: u64 = kept.map(|file| file.metadata().unwrap().len()).sum();
        disk.tree().set_faults(SimFaults { capacity_bytes: held + more, ..SimFaults::default() });
        snapshot().problem(507, "disk_full");
        disk.tree().set_faults(SimFaults::default());
        store(format!("b{more}")).expect(201);
    }
    let status = server.get("/v1/status").expect(200)["snapshots"].clone();
    assert_eq!((&status["failed"], &status["taken"]), (&json!(3), &json!(0)), "{status}");
    snapshot().expect(200);
    store("c".to_owned()).expect(201);
    server.kill();
    disk.tree().cut();
    let server = Server::start(&data_dir, &["--recovery", "torn-tail"]);
    assert_eq!(server.all_memories().len(), 44);
}

/// Cuts the power at each operation of the second start of a log in turn, as often as `sweeps` says. What the first start
/// that lost something or was refused said, and how many cuts were made.
fn cut_each_operation_of_a_start(
    disk: &MountedDisk,
    directory: &Path,
    sweeps: u64,
    defect: Option<&str>,
) -> (Option<String>, u64) {
    let mut cuts = 0;
    for sweep in 0..sweeps {
        for operation in 0.. {
            // A log of its own: each start adds a segment, and operations for the next one.
            let data_dir = directory.join(format!("{sweep}-{operation}"));
            let start = || {
                let mut command = server::command(&data_dir, &[]);
                command.envs(defect.map(|defect| ("ENGRAM_PLANTED_DEFECT", defect)));
                Server::try_until_ready(command)
            };
            let server = start().unwrap_or_else(|(status, log)| panic!("{status}: {log}"));
            server.post("/v1/memories", &json!({"content": "acknowledged"})).expect(201);
            server.kill();

            disk.tree().power_off_after(operation);
            let is_over = start().map(Server::kill).is_ok();
            disk.tree().cut();
            cuts += 1;
            let lost = match start() {
                Err((status, log)) => Some(format!("{status}: {log}")),
                Ok(server) if server.all_memories().len() == 1 => None,
                Ok(_) => Some("the memory is gone".to_owned()),
            };
            if lost.is_some() {
                return (lost, cuts);
            }
            if is_over {
                break;
            }
        }
    }
    (None, cuts)
}

#[test]
fn the_power_may_go_at_each_operation_of_a_start() {
    let (disk, directory) = match mount(seed()) {
        Ok(mounted) => mounted,
        Err(reason) => return skip::because(&reason),
    };
    let (lost, cuts) = cut_each_operation_of_a_start(&disk, directory.path(), 2, None);
    assert_eq!(lost, None);
    println!("{cuts} cuts, 0 lost");
    assert!(cuts > 20, "{cuts} cuts: a start has more operations");
}

/// Those that a cut of the power shows, and in how many cuts.
#[cfg(feature = "planted-defects")]
#[test]
fn each_planted_defect_is_found_on_the_mounted_disk() {
    /// Rounds in which each defect has to show.
    const ROUNDS: &str = "400";
    let seed = seed();
    let mut missed = Vec::new();
    for defect in ["NoFsync", "AckBeforeWrite", "NoDirectorySync", "TailNotSynced"] {
        let (disk, directory) = match mount(seed) {
            Ok(mounted) => mounted,
            Err(reason) => return skip::because(&reason),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
        command.arg("crashtest").arg(directory.path().join("test")).env("ENGRAM_PLANTED_DEFECT", defect);
        command.args(["--rounds", ROUNDS, "--seed", &seed.to_string()]);
        command.args(["--power-cut-command", &disk.cut_command()]);
        match command.output().unwrap().status.code() {
            Some(65) => println!("{defect:>20}: found in {} cuts", disk.cuts()),
            code => missed.push((defect, code, disk.cuts())),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Its window is one operation of a start, which a kill at a random moment seldom meets.
#[cfg(feature = "planted-defects")]
#[test]
fn a_planted_name_before_its_bytes_is_found_by_a_cut_at_each_operation() {
    let (disk, directory) = match mount(seed()) {
        Ok(mounted) => mounted,
        Err(reason) => return skip::because(&reason),
    };
    let defect = Some("NamedBeforeSynced");
    let (lost, cuts) = cut_each_operation_of_a_start(&disk, directory.path(), 20, defect);
    println!("   NamedBeforeSynced: found in {cuts} cuts: {}", lost.expect("not found"));
}
