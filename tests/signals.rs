//! The real server, stopped, halted, and without anybody who reads what it says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was tried")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/load.rs"]
mod load;
#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use load::{check, under_load, wait_until};
use random::{Random, count, seed};
use serde_json::{Value, json};
use server::{Server, command, command_after};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The state of a process: `R`, `S`, `T` (halted), `Z` (gone).
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn a_stop_under_load_is_clean_and_loses_nothing() {
    let (stops, mut random) = (count("ENGRAM_STOPS", 20), Random::new(seed()));
    let mut total = 0;
    for stop in 0..stops {
        let directory = directory();
        let server = Server::start(directory.path(), &[]);
        let after = usize::try_from(random.below(200)).unwrap();
        let acknowledged = under_load(&server, 8, 1_000, |count| {
            wait_until("the load", || count() >= after);
            server.signal("TERM");
        });
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "stop {stop}: {log}");
        let mut report = Command::new(env!("CARGO_BIN_EXE_engram"));
        let report = report.args(["verify", "--json", "--data-dir"]).arg(directory.path()).output().unwrap();
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(
            (&report["sound"], &report["sealed"]),
            (&true.into(), &true.into()),
            "stop {stop}: {report}"
        );
        check(&Server::start(directory.path(), &["--recovery", "strict"]), &acknowledged, 1_000);
        total += acknowledged.len();
    }
    println!("{stops} stops, {total} acknowledged, 0 lost");
}

#[test]
fn requests_in_flight_at_a_stop_are_answered_and_kept() {
    const CLIENTS: usize = 20;
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let body = |n| json!({"id": format!("m{n}"), "content": "x"}).to_string();
    let half = |n: usize| body(n).len() / 2;
    let begin = |n| {
        let (body, half) = (body(n), half(n));
        let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let head = "POST /v1/memories HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{}", body.len(), &body[..half]).unwrap();
        stream
    };
    let mut streams: Vec<TcpStream> = (0..CLIENTS).map(begin).collect();
    let in_flight = format!("engram_http_requests_in_flight {CLIENTS}");
    wait_until("all to be in flight", || server.get("/metrics").text.lines().any(|line| line == in_flight));
    server.signal("TERM");
    wait_until("the stop", || server.log().contains("answering what is in flight"));
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&body(n).as_bytes()[half(n)..]).unwrap();
    }
    for mut stream in streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with('}'), "{answer}");
    }
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let server = Server::start(directory.path(), &["--recovery", "strict"]);
    assert_eq!(server.all_memories().len(), CLIENTS);
}

#[test]
fn a_second_signal_does_not_wait_for_who_never_ends() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.post("/v1/memories", &json!({"id": "a", "content": "x"})).expect(201);
    // A request whose body does not come.
    let mut slow = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    slow.write_all(b"POST /v1/memories HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        .unwrap();
    // It is in flight once another one, sent after it, is answered.
    server.get("/readyz").expect(200);
    server.signal("TERM");
    wait_until("the stop", || server.log().contains("answering what is in flight"));
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("not waiting"), "{log}");
    let server = Server::start(directory.path(), &["--recovery", "strict"]);
    assert_eq!(server.all_memories().len(), 1);
    assert!(server.log().contains("clean stop"), "{}", server.log());
    drop(slow);
}

#[test]
fn a_halt_under_load_is_survived() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let acknowledged = under_load(&server, 4, 1_000, |count| {
        for _ in 0..10 {
            let before = count();
            wait_until("the load", || count() >= before + 20);
            server.signal("STOP");
            wait_until("the halt", || state(server.pid()) == 'T');
            server.signal("CONT");
        }
    });
    assert!(acknowledged.len() >= 200);
    server.kill();
    check(&Server::start(directory.path(), &["--recovery", "torn-tail"]), &acknowledged, 1_000);
}

#[test]
fn a_server_whose_words_nobody_can_read_goes_on() {
    for output in [">/dev/full 2>/dev/full", ">&- 2>&-", "</dev/null >/dev/full 2>&-"] {
        let directory = directory();
        // Debug says something of each request.
        let start = command_after(&format!("exec {output}"), directory.path(), &["--log", "debug"]);
        let server = Server::spawn_mute(start);
        let acknowledged = under_load(&server, 4, 1_000, |count| {
            wait_until("the load", || count() >= 200);
        });
        server.signal("TERM");
        let (status, _) = server.wait();
        assert_eq!(status.code(), Some(0), "{output}");
        check(&Server::start(directory.path(), &["--recovery", "strict"]), &acknowledged, 1_000);
    }
    // A pipe whose reader goes away.
    let directory = directory();
    let server = Server::spawn_deaf(command(directory.path(), &["--log", "debug"]));
    let acknowledged = under_load(&server, 4, 1_000, |count| {
        wait_until("the load", || count() >= 200);
    });
    server.signal("TERM");
    assert_eq!(server.wait().0.code(), Some(0));
    check(&Server::start(directory.path(), &["--recovery", "strict"]), &acknowledged, 1_000);
}
