//! Starting, stopping, and the starts that must not happen.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::json;
use server::{Server, command};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The exit code and the last words of a start that fails.
fn refused(data_dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = command(data_dir, arguments).stderr(Stdio::piped()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(data_dir.join("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

#[test]
fn a_stop_is_clean_and_says_so() {
    let directory = directory();
    for signal in ["TERM", "INT"] {
        let server = Server::start(directory.path(), &[]);
        server.post("/v1/memories", &json!({"id": signal, "content": "x"})).expect(201);
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.all_memories().len(), 2);
    assert!(server.log().contains("clean stop"), "{}", server.log());
    assert_eq!(server.get("/v1/status").expect(200)["recovery"]["clean"], true);
}

#[test]
fn a_supervisor_is_told_when_it_is_ready_and_when_it_stops() {
    let directory = directory();
    let socket = directory.path().join("notify");
    let supervisor = UnixDatagram::bind(&socket).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let heard = || {
        let mut news = [0; 64];
        let len = supervisor.recv(&mut news).unwrap();
        String::from_utf8(news[..len].to_vec()).unwrap()
    };
    let mut start = command(&directory.path().join("data"), &[]);
    start.env("NOTIFY_SOCKET", &socket);
    let server = Server::spawn(start);
    assert_eq!(heard(), "READY=1");
    server.get("/readyz").expect(200);
    server.signal("TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_supervisor_that_cannot_be_told_keeps_no_server_from_its_work() {
    let directory = directory();
    for socket in ["/nowhere/at/all", "relative", "@nobody-is-here", "@"] {
        let mut start = command(directory.path(), &[]);
        start.env("NOTIFY_SOCKET", socket);
        let server = Server::spawn(start);
        server.post("/v1/memories", &json!({"content": "x"})).expect(201);
        let (status, log) = server.stop();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("could not be told"), "{log}");
    }
}

#[test]
fn a_directory_in_use_is_refused_with_its_holder() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.post("/v1/memories", &json!({"content": "x"})).expect(201);
    let (code, error) = refused(directory.path(), &[]);
    assert_eq!(code, 75, "{error}");
    assert!(error.contains("in use") && error.contains(&server.pid().to_string()), "{error}");
    server.post("/v1/memories", &json!({"content": "y"})).expect(201);
}

#[test]
fn directories_that_cannot_be_used_are_refused_and_nothing_is_made() {
    let directory = directory();
    let (code, error) = refused(&directory.path().join("not/mounted"), &[]);
    assert_eq!(code, 73, "{error}");
    assert!(error.contains("not/mounted") && error.contains("parent"), "{error}");
    assert!(!directory.path().join("not").exists());
    fs::write(directory.path().join("file"), "x").unwrap();
    let (code, error) = refused(&directory.path().join("file"), &[]);
    assert_eq!(code, 73, "{error}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_or_only_read() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let server = Server::start(&data_dir, &[]);
    server.post("/v1/memories", &json!({"id": "a", "content": "x"})).expect(201);
    server.stop();
    for path in [data_dir.join("wal"), data_dir.clone()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    // Root may write anywhere: then there is nothing to see.
    if fs::write(data_dir.join("probe"), "x").is_err() {
        let server = Server::start(&data_dir, &[]);
        server.get("/v1/memories/a").expect(200);
        server.post("/v1/memories", &json!({"content": "y"})).problem(503, "read_only");
        assert_eq!(server.get("/readyz").status, 503);
    }
    for path in [data_dir.clone(), data_dir.join("wal")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn an_address_in_use_is_refused() {
    let directory = directory();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // The later flag wins.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_engram"));
    command.args(["start", "--listen", &address, "--data-dir"]).arg(directory.path());
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{error}");
    assert!(error.contains(&address), "{error}");
}

#[test]
fn a_log_of_another_format_version_is_refused_unchanged() {
    let directory = directory();
    Server::start(directory.path(), &[]).stop();
    let path = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..508]);
    bytes[508..512].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let before = segments(directory.path());
    let (code, error) = refused(directory.path(), &[]);
    assert_eq!(code, 65, "{error}");
    assert!(error.contains("format version 9"), "{error}");
    assert_eq!((segments(directory.path()), fs::read(&path).unwrap()), (before, bytes));
}

#[test]
fn another_dimension_is_refused_with_the_way_out() {
    let directory = directory();
    Server::start(directory.path(), &["--dimension", "16"]).stop();
    let (code, error) = refused(directory.path(), &["--dimension", "32"]);
    assert_eq!(code, 78, "{error}");
    assert!(error.contains("16") && error.contains("32"), "{error}");
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.get("/v1/status").expect(200)["dimension"], 16);
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let directory = directory();
    for arguments in [
        ["--fsync", "sometimes"],
        ["--recovery", "hope"],
        ["--dimension", "0"],
        ["--embedding-precision", "int4"],
        ["--capacity", "-1"],
        ["--colour", "red"],
        ["--log", "inf"],
    ] {
        let (code, error) = refused(directory.path(), &arguments);
        assert!(code == 2 || code == 78, "{arguments:?}: {code} {error}");
        assert!(!error.is_empty());
    }
}

#[test]
fn a_wrong_variable_is_named_and_an_empty_one_is_not_set() {
    let directory = directory();
    let mut wrong = command(directory.path(), &[]);
    let output = wrong.env("ENGRAM_FSYNC", "sometimes").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("'ENGRAM_FSYNC'") && error.contains("expected per-write"), "{error}");
    let mut empty = command(directory.path(), &[]);
    empty.env("ENGRAM_FSYNC", "").env("ENGRAM_DIMENSION", "").env("ENGRAM_LOG", "");
    let server = Server::spawn(empty);
    assert_eq!(server.get("/v1/status").expect(200)["dimension"], 768);
}

#[test]
fn a_store_over_its_capacity_says_so_and_reads() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    for id in ["a", "b"] {
        server.post("/v1/memories", &json!({"id": id, "content": "x"})).expect(201);
    }
    server.stop();
    let server = Server::start(directory.path(), &["--capacity", "1"]);
    assert!(
        server.log().contains("the store holds 2 memories, more than its capacity of 1"),
        "{}",
        server.log()
    );
    let problem = server.post("/v1/memories", &json!({"content": "y"})).problem(507, "capacity_reached");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("holds 2 memories") && detail.contains("capacity is 1"), "{detail}");
    assert_eq!(server.all_memories().len(), 2);
}

#[test]
fn a_damaged_record_is_skipped_with_a_warning_counted_and_kept() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    for n in 0..20 {
        server
            .post("/v1/memories", &json!({"id": format!("m{n}"), "content": format!("content {n}")}))
            .expect(201);
    }
    server.kill();
    let path = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|window| window == b"content 7").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();

    for mode in ["strict", "torn-tail"] {
        let (code, error) = refused(directory.path(), &["--recovery", mode]);
        assert_eq!(code, 65, "{error}");
        assert!(error.contains(mode) && error.contains("--recovery skip-corrupt"), "{error}");
    }
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.all_memories().len(), 19);
    server.get("/v1/memories/m7").problem(404, "not_found");
    let status = server.get("/v1/status").expect(200);
    assert_eq!(status["recovery"]["lost_records"], 1, "{status}");
    let log = server.log();
    assert!(log.contains("damaged") && log.contains("WARN"), "{log}");
    assert!(server.get("/metrics").text.lines().any(|l| l.contains("skipped") && l.ends_with(" 1")));
    let kept = directory.path().join("wal/quarantine").join(path.file_name().unwrap());
    assert_eq!(fs::read(kept).unwrap(), bytes);
}
