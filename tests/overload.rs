//! More than the server takes at once: those beyond are told so, and how it is, it tells all the same.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use server::{Answer, Client, Server, command_after};

const PATIENCE: Duration = Duration::from_mins(1);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Asks on connections of its own until the answer has this status.
fn until(server: &Server, path: &str, status: u16) -> Answer {
    let started = Instant::now();
    loop {
        let answered = Client::of(server.url.clone()).try_get(path);
        match answered {
            Some(answer) if answer.status == status => return answer,
            _ => assert!(started.elapsed() < PATIENCE, "{:?}", answered.map(|answer| answer.text)),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn requests_beyond_those_in_flight_are_told_to_come_again() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--max-in-flight", "1"]);
    let mut slow = connect(&server);
    let head = "POST /v1/memories HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    write!(slow, "{head}expect: 100-continue\r\ncontent-length: 26\r\n\r\n").unwrap();
    // The server asks for the body of a request that it has taken on: no question below can take its place.
    let mut go_on = [0; 25];
    slow.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    slow.write_all(b"{\"id\": \"a\", ").unwrap();
    let answer = until(&server, "/v1/status", 503);
    assert_eq!(answer.header("retry-after"), "1");
    answer.problem(503, "overloaded");
    // With a body that the server has not asked for, too.
    let long = json!({"content": "x".repeat(3 << 20)});
    server.post("/v1/memories", &long).problem(503, "overloaded");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    slow.write_all(b"\"content\":\"x\"}").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    until(&server, "/v1/memories/a", 200);
}

#[test]
fn connections_beyond_their_limit_are_told_so() {
    let directory = directory();
    // 32 connections, and two more to say that there are as many as may be.
    let server = Server::spawn(command_after("ulimit -n 64", directory.path(), &[]));
    let idle: Vec<TcpStream> = (0..32).map(|_| connect(&server)).collect();
    let answer = until(&server, "/v1/status", 503);
    assert_eq!((answer.header("retry-after"), answer.header("connection")), ("1", "close"));
    answer.problem(503, "overloaded");
    for path in ["/healthz", "/readyz", "/metrics"] {
        until(&server, path, 200);
    }
    // Beyond these, too, nobody is left to hang.
    let mut silent: Vec<TcpStream> = (0..10).map(|_| connect(&server)).collect();
    for stream in &mut silent {
        match stream.read_to_end(&mut Vec::new()) {
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("the server keeps the connection for ever")
            }
            Ok(_) | Err(_) => {}
        }
    }
    drop((idle, silent));
    until(&server, "/v1/status", 200);
}
