//! `engram crashtest`, run as a user runs it: it finds nothing lost after kills and power cuts, it finds what is lost, and
//! it leaves a directory as it was.
//!
//! `ENGRAM_SEED` repeats the choices of a run (not the machine's scheduling); `ENGRAM_KILLS`, `ENGRAM_EXT4_CUTS` and
//! `ENGRAM_XFS_CUTS` say how many rounds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what a run tried, or why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/random.rs"]
mod random;
#[path = "support/skip.rs"]
mod skip;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use random::{count, seed};
use serde_json::Value;

/// How often a condition that another process brings about is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A directory for directories of tests.
fn parent() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A crash test that runs; told to end when dropped, so that it puts everything away.
struct Running(Child);

/// How one has ended.
struct Ended {
    code: Option<i32>,
    report: String,
    said: String,
}

impl Running {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
        command.arg("crashtest").arg(directory).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    fn wait(mut self) -> Ended {
        let (mut report, mut said) = (String::new(), String::new());
        // What is said on stderr is short: nobody waits for it while the report is read.
        self.0.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        Ended { code: self.0.wait().unwrap().code(), report, said }
    }

    /// Waits until `happens`, as long as the test runs.
    fn wait_until(&mut self, what: &str, happens: impl Fn() -> bool) {
        while !happens() {
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none(), "it ended with {ended:?} before {what}");
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.signal("TERM");
            drop(self.0.wait());
        }
    }
}

impl Ended {
    /// Of one that must have ended with this code.
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.report, self.said);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.report).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.report, self.said))
    }
}

/// Runs so many rounds, which must lose nothing, and leave nothing behind. The report.
fn nothing_is_lost(rounds: u64, arguments: &[&str]) -> Value {
    let (parent, rounds, seed) = (parent(), rounds.to_string(), seed().to_string());
    let directory = parent.path().join("crashtest");
    let common = ["--rounds", &rounds, "--seed", &seed, "--json"];
    let ended = Running::start(&directory, &[&common, arguments].concat()).wait().expect(0);
    let report = ended.json();
    println!("{report}");
    assert_eq!(report["lost"], 0, "{report}");
    assert_eq!(report["losses"], serde_json::json!([]), "{report}");
    assert_eq!(report["rounds"].to_string(), rounds, "{report}");
    assert_eq!(report["interrupted"], false, "{report}");
    assert_eq!(report["seed"].to_string(), seed, "{report}");
    assert!(report["acknowledged"].as_u64().unwrap() > 0, "{report}");
    assert!(ended.said.starts_with(&format!("seed {seed} ")), "{}", ended.said);
    assert!(!directory.exists(), "what it made is removed");
    report
}

/// Why the power of this file system cannot be cut here, if it cannot.
fn cannot_cut(mkfs: &str) -> Option<String> {
    let runs = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if runs("id", "-u").as_deref() != Some("0") {
        return Some("mounting a file system needs root".to_owned());
    }
    if runs(mkfs, "-V").is_none() {
        return Some(format!("{mkfs} is missing"));
    }
    // Free or not, there is one where the kernel has loop devices.
    (!Path::new("/dev/loop-control").exists()).then(|| "there are no loop devices".to_owned())
}

/// Processes whose command line has this path in it, and mounts below it.
fn leftovers(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    let mut found: Vec<String> = fs::read_to_string("/proc/mounts")
        .unwrap()
        .lines()
        .filter(|mount| mount.contains(path))
        .map(str::to_owned)
        .collect();
    for process in fs::read_dir("/proc").unwrap() {
        // A process may have ended meanwhile.
        let Ok(line) = fs::read(process.unwrap().path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(path) {
            found.push(line);
        }
    }
    found
}

/// Waits until no loop device has a file below this path: the kernel detaches one some time after its last user is gone.
fn wait_until_detached(path: &Path) {
    let is_attached = || {
        fs::read_dir("/sys/block").unwrap().flatten().any(|device| {
            let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
            file.contains(path.to_str().unwrap())
        })
    };
    for _ in 0..2_000 {
        if !is_attached() {
            return;
        }
        thread::sleep(POLL);
    }
    panic!("a loop device still has a file of {}", path.display());
}

/// All files below a directory, with what is in them.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut self::files(&path));
        } else {
            files.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_under_load() {
    nothing_is_lost(count("ENGRAM_KILLS", 300), &["--clients", "16"]);
}

#[test]
fn no_mode_loses_anything_to_a_kill() {
    for mode in ["per-write", "timer=10ms", "none"] {
        let report = nothing_is_lost(10, &["--clients", "4", "--fsync", mode]);
        assert_eq!((&report["fsync"], &report["lost_allowed_by_mode"]), (&mode.into(), &0.into()));
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_of_an_ext4_is_cut() {
    if let Some(reason) = cannot_cut("mkfs.ext4") {
        return skip::because(&reason);
    }
    let report = nothing_is_lost(count("ENGRAM_EXT4_CUTS", 150), &["--power-cut", "ext4"]);
    assert_eq!(report["lost_allowed_by_mode"], 0, "per-batch allows nothing");
    let per_write = nothing_is_lost(10, &["--power-cut", "ext4", "--fsync", "per-write"]);
    assert_eq!(per_write["lost_allowed_by_mode"], 0);
    nothing_is_lost(10, &["--power-cut", "ext4", "--fsync", "timer=10ms"]);
    let none = nothing_is_lost(10, &["--power-cut", "ext4", "--fsync", "none"]);
    assert!(none["lost_allowed_by_mode"].as_u64().unwrap() > 0, "or the power was not cut: {none}");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_of_an_xfs_is_cut() {
    if let Some(reason) = cannot_cut("mkfs.xfs") {
        return skip::because(&reason);
    }
    nothing_is_lost(count("ENGRAM_XFS_CUTS", 50), &["--power-cut", "xfs"]);
    let none = nothing_is_lost(10, &["--power-cut", "xfs", "--fsync", "none"]);
    assert!(none["lost_allowed_by_mode"].as_u64().unwrap() > 0, "or the power was not cut: {none}");
}

#[test]
fn a_loss_is_found_named_and_kept() {
    let parent = parent();
    let directory = parent.path().join("crashtest");
    // A disk that has lost its newest segment, if there is one: a snapshot can have just taken the place of all.
    let cut = r#"rm -f $(ls "$ENGRAM_CRASHTEST_DIR"/data/*/wal/wal-0*.log 2>/dev/null | tail -1)"#;
    let seed = seed().to_string();
    let arguments = ["--rounds", "50", "--seed", &seed, "--power-cut-command", cut];
    let json = [&arguments[..], &["--json"]].concat();
    let ended = Running::start(&directory, &json).wait().expect(65);
    let report = ended.json();
    assert!(report["lost"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["losses"][0]["round"], report["rounds"], "it ends with the first loss: {report}");
    for field in ["expected", "found"] {
        assert!(report["losses"][0][field].is_string(), "{report}");
    }
    assert!(
        ended.said.contains("LOST") && ended.said.contains(directory.to_str().unwrap()),
        "{}",
        ended.said
    );
    assert!(directory.join("data").is_dir(), "the store is kept");
    assert!(directory.join("evidence/server-last.log").is_file());
    let kept: Value =
        serde_json::from_slice(&fs::read(directory.join("evidence/report.json")).unwrap()).unwrap();
    assert_eq!(kept, report);

    // No later test takes the evidence away; and a person reads the same.
    let before = files(&directory);
    let again = Running::start(&directory, &arguments).wait().expect(73);
    assert!(again.said.contains("evidence"), "{}", again.said);
    assert_eq!(files(&directory), before);
    fs::remove_dir_all(&directory).unwrap();
    let human = Running::start(&directory, &arguments).wait().expect(65);
    assert!(human.report.contains("LOST in round"), "{}", human.report);
}

#[test]
fn a_directory_with_something_in_it_is_refused_and_not_touched() {
    let parent = parent();
    let directory = parent.path().join("full");
    fs::create_dir_all(directory.join("data")).unwrap();
    fs::write(directory.join("data/precious"), "x").unwrap();
    let before = files(&directory);
    let refused = |directory: &Path| Running::start(directory, &["--rounds", "1"]).wait().expect(73).said;
    assert!(refused(&directory).contains("\"data\""));
    // Not even beside what is a crash test's.
    fs::write(directory.join("engram-crashtest"), "1\n").unwrap();
    fs::write(directory.join("more"), "x").unwrap();
    assert!(refused(&directory).contains("\"more\""));
    fs::remove_file(directory.join("more")).unwrap();
    fs::remove_file(directory.join("engram-crashtest")).unwrap();
    assert_eq!(files(&directory), before);

    assert!(refused(&parent.path().join("missing/below")).contains("parent"));
    assert!(refused(&directory.join("data/precious")).contains("not a directory"));

    let empty = parent.path().join("empty");
    fs::create_dir_all(empty.join("lost+found")).unwrap();
    Running::start(&empty, &["--rounds", "1"]).wait().expect(0);
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 1, "it stays, as it was");
}

#[test]
fn ctrl_c_ends_it_with_what_it_has() {
    let cuts = if let Some(reason) = cannot_cut("mkfs.ext4") {
        println!("without a power cut: {reason}");
        &[("none", "data")][..]
    } else {
        &[("none", "data"), ("ext4", "mnt/data")]
    };
    for (cut, stores) in cuts {
        let parent = parent();
        let directory = parent.path().join("crashtest");
        let arguments = ["--rounds", "1000000", "--clients", "2", "--json", "--power-cut", cut];
        let mut running = Running::start(&directory, &arguments);
        // Each start has made a segment.
        let log = directory.join(stores).join("1/wal");
        running.wait_until("its second round", || {
            fs::read_dir(&log).is_ok_and(|entries| {
                entries
                    .flatten()
                    .filter(|entry| entry.path().extension().is_some_and(|it| it == "log"))
                    .count()
                    > 2
            })
        });
        running.signal("INT");
        let ended = running.wait().expect(0);
        let report = ended.json();
        assert_eq!((&report["interrupted"], &report["lost"]), (&true.into(), &0.into()), "{report}");
        assert!((1..1_000_000).contains(&report["rounds"].as_u64().unwrap()), "{report}");
        assert!(!directory.exists());
        assert_eq!(leftovers(&directory), Vec::<String>::new());
        wait_until_detached(&directory);
    }
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_next_test_puts_things_right() {
    let parent = parent();
    let (directory, pid) = (parent.path().join("crashtest"), parent.path().join("pid"));
    // A power cut that takes for ever.
    let cut = format!("echo $$ > {0}.new && mv {0}.new {0} && exec sleep 1000", pid.display());
    let mut running = Running::start(&directory, &["--power-cut-command", &cut]);
    running.wait_until("the power cut", || pid.exists());
    let locked = Running::start(&directory, &["--rounds", "1"]).wait().expect(75);
    assert!(locked.said.contains("another crash test"), "{}", locked.said);
    running.signal("INT");
    running.signal("TERM");
    let ended = running.0.wait().unwrap();
    assert!(Command::new("kill").arg(fs::read_to_string(&pid).unwrap().trim()).status().unwrap().success());
    assert_eq!(ended.code(), Some(130));
    assert_eq!(leftovers(&directory), Vec::<String>::new());
    assert!(directory.join("data").is_dir());
    Running::start(&directory, &["--rounds", "1"]).wait().expect(0);
}

#[test]
fn a_server_that_outlives_a_killed_test_is_named() {
    let parent = parent();
    let directory = parent.path().join("crashtest");
    let server = loop {
        let mut running = Running::start(&directory, &["--rounds", "1000000"]);
        running.wait_until("its first round", || directory.join("data/1/wal/LOCK").exists());
        running.signal("KILL");
        running.0.wait().unwrap();
        let again = Running::start(&directory, &["--rounds", "1"]).wait();
        // It may have been killed while there was no server: then the next test goes on as if nothing had been.
        if again.code == Some(75) {
            break again.said.split("process ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        }
        again.expect(0);
    };
    assert!(Command::new("kill").args(["-KILL", &server]).status().unwrap().success());
    let mut free = Command::new(env!("CARGO_BIN_EXE_engram"));
    free.arg("crashtest").arg(&directory).args(["--rounds", "1"]);
    // It is gone soon: it is not our child, to be waited for.
    while free.output().unwrap().status.code() == Some(75) {
        thread::sleep(POLL);
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn a_power_cut_command_that_fails_ends_it() {
    let parent = parent();
    let directory = parent.path().join("crashtest");
    let cut = "test -d \"$ENGRAM_CRASHTEST_DIR/data\" && exit 3";
    let ended = Running::start(&directory, &["--rounds", "5", "--power-cut-command", cut]).wait().expect(1);
    assert!(ended.said.contains("exit status: 3"), "{}", ended.said);
    assert!(!directory.exists());
    let both = Running::start(&directory, &["--power-cut", "ext4", "--power-cut-command", "true"]).wait();
    both.expect(2);
}
