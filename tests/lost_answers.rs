//! Answers that do not arrive: the connection is cut before the request is sent on, before its answer, or in the middle of
//! it. A client that repeats what it sent under the same id ends with one memory.
//!
//! `ENGRAM_REPEATS` says how often, `ENGRAM_SEED` repeats the choices.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was tried")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use random::{Random, count, seed};
use serde_json::json;
use server::Server;

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// It arrives, and so does its answer.
    Whole,
    /// A part of it arrives.
    CutRequest,
    /// It arrives, and its answer does not.
    NoAnswer,
    /// A part of its answer arrives.
    CutAnswer,
}

const WAYS: [Way; 4] = [Way::Whole, Way::CutRequest, Way::NoAnswer, Way::CutAnswer];

/// Sends a request by such a way; the answer, if all of it has come.
fn send(server: &str, way: Way, request: &[u8]) -> Option<String> {
    let mut upstream = TcpStream::connect(server).unwrap();
    upstream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    if way == Way::CutRequest {
        upstream.write_all(&request[..request.len() * 2 / 3]).unwrap();
        return None;
    }
    upstream.write_all(request).unwrap();
    // The request asks for the connection to be closed: the answer ends with it.
    let mut answer = String::new();
    upstream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    match way {
        Way::Whole => Some(answer),
        Way::CutAnswer => Some(answer[..answer.len() - 9].to_owned()),
        Way::CutRequest | Way::NoAnswer => None,
    }
}

/// Passes on one connection after the other, each in the way that was asked for.
fn serve(proxy: &TcpListener, server: &str, ways: impl Iterator<Item = Way>) {
    for way in ways {
        let (mut client, _) = proxy.accept().unwrap();
        let mut request = Vec::new();
        client.read_to_end(&mut request).unwrap();
        if let Some(answer) = send(server, way, &request) {
            client.write_all(answer.as_bytes()).unwrap();
        }
        // The client may be gone.
        drop(client.shutdown(Shutdown::Both));
    }
}

/// One try of a client; the receipt, if it came.
fn attempt(proxy: &TcpListener, request: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(proxy.local_addr().unwrap()).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned()).filter(|body| body.ends_with('}'))
}

#[test]
fn a_write_that_is_repeated_until_it_is_answered_is_there_once() {
    let (repeats, mut random) = (count("ENGRAM_REPEATS", 200), Random::new(seed()));
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(directory.path(), &[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut tried: BTreeMap<Way, u64> = BTreeMap::new();
    let (mut lsns, mut outcomes) = (BTreeMap::new(), BTreeMap::<String, u64>::new());
    for n in 0..repeats {
        let id = format!("m{n}");
        let body = json!({"content": format!("the memory {n}"), "when": "2026-03-01T09:30:00Z"}).to_string();
        let request = format!(
            "PUT /v1/memories/{id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        // It is lucky in the end.
        let luckless: Vec<Way> =
            (0..random.below(4)).map(|_| WAYS[1 + usize::try_from(random.below(3)).unwrap()]).collect();
        let ways: Vec<Way> = luckless.into_iter().chain([Way::Whole]).collect();
        for way in &ways {
            *tried.entry(*way).or_default() += 1;
        }
        let receipt = thread::scope(|scope| {
            let (proxy, address, ways) = (&proxy, &address, ways.clone());
            scope.spawn(move || serve(proxy, address, ways.into_iter()));
            // As often as it takes.
            (0..).find_map(|_| attempt(proxy, request.as_bytes())).unwrap()
        });
        let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
        let stored_before = ways.iter().any(|way| matches!(way, Way::NoAnswer | Way::CutAnswer));
        let outcome = receipt["outcome"].as_str().unwrap();
        assert_eq!(outcome, if stored_before { "unchanged" } else { "created" }, "{ways:?}");
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
        lsns.insert(id, receipt["lsn"].as_u64().unwrap());
    }
    println!("{tried:?}, {outcomes:?}");
    // Record 1 is how the store was made; then each memory has one record, and no more.
    server.kill();
    let server = Server::start(directory.path(), &["--recovery", "torn-tail"]);
    let found: BTreeMap<String, u64> = server
        .all_memories()
        .iter()
        .map(|it| (it["id"].as_str().unwrap().to_owned(), it["lsn"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, lsns);
    assert_eq!(server.get("/v1/status").expect(200)["applied_lsn"], repeats + 1);
}
