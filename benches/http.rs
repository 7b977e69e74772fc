//! What the server costs: durable writes over HTTP at 1, 16 and 64 clients, beside the log's own, and beside a server that
//! reads the same bytes and answers nothing.
//!
//! `cargo bench -p engram-cli --bench http`. Each client has a connection and waits for its answer; a memory has 120
//! characters of content and 768 dimensions, as a JSON array or as base64. Clients, server and log share the machine's cores.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use engram_core::storage::{FsyncMode, StorageMetrics, WalEntry, WalEntryType, WalWriter};

const DIMENSION: usize = 768;
const PAYLOAD_LEN: usize = 1_000;
const TIME: Duration = Duration::from_secs(4);

fn main() {
    println!("| clients | | writes/s | p50 ms | p99 ms |\n|---|---|---|---|---|");
    for clients in [1, 16, 64] {
        log(clients);
        for (name, body) in [("array", array as fn(u64) -> String), ("base64", base64)] {
            let echo = Echo::start();
            over_http(&format!("a server that answers nothing, {name}"), &echo, clients, body);
            let (_server, address, _directory) = engram();
            over_http(&format!("engram, {name}"), &address, clients, body);
        }
    }
}

fn log(clients: usize) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = WalWriter::new(directory.path(), FsyncMode::PerBatch, Arc::new(StorageMetrics::new())).unwrap();
    let entry = WalEntry { entry_type: WalEntryType::MemoryStore, payload: vec![0x5a; PAYLOAD_LEN] };
    measure("the log alone", clients, |_| {
        let (log, entry) = (&log, &entry);
        move |_| {
            log.write(entry.clone()).unwrap();
        }
    });
}

fn over_http(name: &str, address: &str, clients: usize, body: fn(u64) -> String) {
    measure(name, clients, |client| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        move |n| {
            let body = body((client << 32) + n);
            let head = "POST /v1/memories HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
            let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(request.as_bytes()).unwrap();
            let status = read_message(&mut reader).unwrap();
            assert_eq!(status.split(' ').nth(1), Some("201"), "{status}");
        }
    });
}

/// Reads one message whole, and gives its first line; nothing when the connection is over.
fn read_message(reader: &mut impl std::io::BufRead) -> Option<String> {
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        let is_end = line.trim().is_empty();
        first.get_or_insert(line);
        if is_end {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    first
}

/// Runs as many clients at once, for some seconds, and prints what they saw.
fn measure<F: FnMut(u64) + Send>(name: &str, clients: usize, client: impl Fn(u64) -> F) {
    let until = Instant::now() + TIME;
    let began = Instant::now();
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients as u64)
            .map(|n| {
                let mut write = client(n);
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while Instant::now() < until {
                        let began = Instant::now();
                        write(took.len() as u64);
                        took.push(began.elapsed());
                    }
                    took
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 1000).min(took.len() - 1)].as_secs_f64() * 1e3;
    println!("| {clients} | {name} | {:.0} | {:.3} | {:.3} |", took.len() as f64 / seconds, at(500), at(990));
}

fn numbers(n: u64) -> impl Iterator<Item = f32> {
    (0..DIMENSION as u64).map(move |k| ((n * 31 + k * 17) % 1000) as f32 / 1000.0 + 0.001)
}

fn memory(n: u64, embedding: &str) -> String {
    let content =
        format!("{:120}", format!("memory {n} of a client that measures what a durable write takes"));
    format!(r#"{{"id":"{n}","content":"{content}","when":"2026-01-01T00:00:00Z","embedding":{embedding}}}"#)
}

fn array(n: u64) -> String {
    let numbers: Vec<String> = numbers(n).map(|number| number.to_string()).collect();
    memory(n, &format!("[{}]", numbers.join(",")))
}

fn base64(n: u64) -> String {
    let bytes: Vec<u8> = numbers(n).flat_map(f32::to_le_bytes).collect();
    memory(n, &format!("\"{}\"", BASE64_STANDARD.encode(bytes)))
}

/// Killed also when the benchmark fails.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A server of ours, on a directory of its own.
fn engram() -> (Server, String, tempfile::TempDir) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_engram"))
        .args(["start", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path().join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("listening on http://")).unwrap();
    let address = line.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    // It must not stand still for want of a reader.
    thread::spawn(move || lines.for_each(drop));
    (Server(server), address, directory)
}

/// Reads each request whole and answers 201: what sockets and threads take by themselves.
struct Echo;

impl Echo {
    fn start() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut stream = stream;
                    while read_message(&mut reader).is_some() {
                        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}").unwrap();
                    }
                });
            }
        });
        address
    }
}
