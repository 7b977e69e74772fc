//! Clients that are slow, lie, or speak no HTTP: each is refused or let go of in bounded time, and others are served.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was seen")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use random::{Random, seed};
use serde_json::json;
use server::Server;

/// Far longer than the server takes with anybody.
const PATIENCE: Duration = Duration::from_mins(2);

/// Memory that the server may take on for all of them together: it buffers no more than what is within its limits.
const GROWTH_MAX_KIB: u64 = 200 << 10;

struct Rude {
    server: Server,
    _directory: tempfile::TempDir,
}

impl Rude {
    fn start() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let server = Server::start(directory.path(), &[]);
        server.post("/v1/memories", &json!({"id": "a", "content": "x"})).expect(201);
        Self { server, _directory: directory }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends this, as far as it is taken, and reads to the end of the connection; the status, if there was an answer.
    fn ask(&self, bytes: &[u8]) -> Option<u16> {
        let mut stream = self.connect();
        // The server may answer and close before it has all.
        drop(stream.write_all(bytes));
        answer(&mut stream)
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Others are served as ever.
    fn serves(&self) {
        self.server.post("/v1/memories", &json!({"id": "b", "content": "y"}));
        assert!(self.server.memory("a").is_some());
        self.server.get("/readyz").expect(200);
    }
}

/// The status of the answer that comes before the connection ends; nothing when none does.
fn answer(stream: &mut TcpStream) -> Option<u16> {
    let mut answer = Vec::new();
    // A reset is an end, too.
    match stream.read_to_end(&mut answer) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            panic!("the server keeps the connection for ever: {}", String::from_utf8_lossy(&answer))
        }
        Ok(_) | Err(_) => {}
    }
    let text = String::from_utf8_lossy(&answer);
    Some(text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().unwrap())
}

const POST: &str = "POST /v1/memories HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";

#[test]
fn what_is_no_request_is_refused_and_never_a_fault_of_the_server() {
    let rude = Rude::start();
    let head = |lines: &str| format!("{POST}{lines}\r\n\r\n{{\"content\":\"x\"}}");
    for (what, bytes, expected) in [
        ("nothing", String::new(), None),
        ("another protocol", "\u{16}\u{3}\u{1}garbage\r\n\r\n".to_owned(), Some(400)),
        ("no version", "GET /healthz\r\n\r\n".to_owned(), Some(400)),
        ("two lengths", head("content-length: 15\r\ncontent-length: 16"), Some(400)),
        ("a length that is none", head("content-length: many"), Some(400)),
        ("a negative length", head("content-length: -1"), Some(400)),
        ("a length beyond the limit", head("content-length: 99999999999"), Some(413)),
        ("a chunk that is none", format!("{POST}transfer-encoding: chunked\r\n\r\nxyz\r\n"), Some(400)),
        ("a head beyond the limit", format!("{POST}x: {}\r\n\r\n", "y".repeat(1 << 20)), Some(431)),
        ("too many headers", format!("{POST}{}\r\n", "a: b\r\n".repeat(10_000)), Some(431)),
        (
            "a path beyond the limit",
            format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "p".repeat(1 << 20)),
            Some(431),
        ),
        ("a control character in a header", format!("{POST}a: b\u{0}c\r\n\r\n"), Some(400)),
    ] {
        // Half of the connections of one who sends nothing are closed by us.
        let status = if bytes.is_empty() {
            drop(rude.connect());
            None
        } else {
            rude.ask(bytes.as_bytes())
        };
        // What is beyond a limit may be cut off before its answer can be read.
        let is_cut = status.is_none() && bytes.len() > 1 << 16;
        assert!(status == expected || is_cut, "{what}: {status:?}");
        rude.serves();
    }
    let body = format!("{POST}content-length: {}\r\n\r\n{}", 4 << 20, "x".repeat(4 << 20));
    assert!(matches!(rude.ask(body.as_bytes()), Some(413) | None), "a body beyond the limit");
    let mut random = Random::new(seed());
    for _ in 0..300 {
        let garbage: Vec<u8> =
            (0..random.below(300)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        let mut bytes = if random.below(2) == 0 { POST.as_bytes().to_vec() } else { Vec::new() };
        bytes.extend(garbage);
        bytes.extend(b"\r\n\r\n");
        let status = rude.ask_and_leave(&bytes);
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{status:?} for {bytes:?}");
    }
    rude.serves();
    assert_eq!(rude.server.all_memories().len(), 2, "nothing of it was stored");
}

impl Rude {
    /// As [`ask`](Self::ask), and sends no more.
    fn ask_and_leave(&self, bytes: &[u8]) -> Option<u16> {
        let mut stream = self.connect();
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        answer(&mut stream)
    }
}

#[test]
fn who_is_slow_or_says_nothing_is_let_go_of_and_others_are_served_meanwhile() {
    let rude = Rude::start();
    let before = rude.resident_kib();
    let mut patient: Vec<(&str, TcpStream)> = Vec::new();
    let body = format!("{POST}content-length: 100\r\n\r\n{{");
    for _ in 0..100 {
        for (what, bytes) in
            [("silence", ""), ("half a head", "POST /v1/memories HT"), ("half a body", &body)]
        {
            let mut stream = rude.connect();
            stream.write_all(bytes.as_bytes()).unwrap();
            patient.push((what, stream));
        }
    }
    for _ in 0..50 {
        rude.serves();
    }
    thread::scope(|scope| {
        // A letter now and then keeps nobody's place: the whole head has its time, and so has the whole body.
        for begin in ["GET /healthz HTTP/1.1\r\nx: ".to_owned(), body.clone()] {
            let rude = &rude;
            scope.spawn(move || {
                let mut stream = rude.connect();
                stream.write_all(begin.as_bytes()).unwrap();
                let started = std::time::Instant::now();
                while stream.write_all(b"y").is_ok() {
                    assert!(started.elapsed() < PATIENCE, "a slow client keeps its place: {begin}");
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
        for (what, stream) in &mut patient {
            let status = answer(stream);
            assert!(matches!(status, None | Some(408)), "{what}: {status:?}");
        }
    });
    rude.serves();
    let grown = rude.resident_kib().saturating_sub(before);
    println!("300 patient clients: {grown} KiB more");
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    assert_eq!(rude.server.all_memories().len(), 2);
}

#[test]
fn who_does_not_read_its_answer_is_let_go_of() {
    let rude = Rude::start();
    // An answer of 8 MiB, which no buffer of the system takes.
    for n in 0..100 {
        let body = json!({"id": format!("large{n}"), "content": "x".repeat(100_000)});
        rude.server.post("/v1/memories", &body).expect(201);
    }
    let sockets = || {
        let files = fs::read_dir(format!("/proc/{}/fd", rude.server.pid())).unwrap().flatten();
        files
            .filter_map(|it| fs::read_link(it.path()).ok())
            .filter(|it| it.to_string_lossy().contains("socket"))
            .count()
    };
    rude.serves();
    let before = sockets();
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = rude.connect();
            stream.write_all(b"GET /v1/memories?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let started = std::time::Instant::now();
    let mut most = 0;
    loop {
        most = most.max(sockets());
        // Our own connection may have been renewed meanwhile.
        if most >= before + deaf.len() && sockets() <= before + 1 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{} sockets are kept", sockets());
        rude.serves();
        thread::sleep(Duration::from_millis(20));
    }
    rude.serves();
}
