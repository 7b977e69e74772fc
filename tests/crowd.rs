//! A crowd of clients over HTTP: writes, repetitions, recalls and deletes while the embedding endpoint fails half of the
//! time and the server is killed. Nothing acknowledged is lost, no request under a key is made twice, and no answer comes
//! that the `OpenAPI` document does not have.
//!
//! `ENGRAM_CROWD_SECONDS` (10) and `ENGRAM_CROWD_CLIENTS` (16) make it longer and larger; `ENGRAM_SEED` repeats its choices.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/embed_endpoint.rs"]
mod embed_endpoint;
#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use embed_endpoint::{EmbedEndpoint, Reply, Request, vectors};
use random::Random;
use serde_json::{Value, json};
use server::{Answer, Client, Server};

/// How long a client waits before it repeats what was not answered.
const PAUSE: Duration = Duration::from_millis(50);

const DIMENSION: usize = 16;

#[test]
fn a_crowd_loses_nothing_and_makes_nothing_twice() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (seconds, clients) =
        (random::count("ENGRAM_CROWD_SECONDS", 10), random::count("ENGRAM_CROWD_CLIENTS", 16));
    let seed = random::seed();
    let health = Arc::<Health>::default();
    let of_endpoint = Arc::clone(&health);
    let endpoint = EmbedEndpoint::start(move |request| of_endpoint.reply(request));
    let arguments = [
        "--dimension",
        "16",
        "--embed-url",
        &endpoint.url,
        "--embed-model",
        "crowd",
        "--snapshot-log-bytes",
        "1000000",
    ];
    let mut server = Server::start(directory.path(), &arguments);
    let listen = server.url.strip_prefix("http://").unwrap().to_owned();
    let again = [&arguments[..], &["--listen", &listen]].concat();
    let crowd = Arc::new(Crowd {
        url: server.url.clone(),
        document: Document::of(&server),
        until: Instant::now() + Duration::from_secs(seconds),
        undocumented: Mutex::default(),
        answered: AtomicU64::new(0),
        repeated: AtomicU64::new(0),
    });
    let threads: Vec<_> = (0..clients)
        .map(|n| {
            let crowd = Arc::clone(&crowd);
            thread::spawn(move || Member::new(&crowd, n, Random::new(seed.wrapping_add(n))).run())
        })
        .collect();
    // Two kills, at a third and at two thirds.
    for part in [1, 2] {
        let left = Duration::from_secs(seconds) * (3 - part) / 3;
        while crowd.until.saturating_duration_since(Instant::now()) > left {
            thread::sleep(PAUSE);
        }
        println!("{} MiB before kill {part}", resident(server.pid()) >> 20);
        server.kill();
        server = Server::start(directory.path(), &again);
    }
    let expected: Vec<Expected> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    println!(
        "{} answers, {} repetitions, {} MiB at the end, {} embeddings asked for, of which {} failed",
        crowd.answered.load(Relaxed),
        crowd.repeated.load(Relaxed),
        resident(server.pid()) >> 20,
        health.asked.load(Relaxed),
        health.failed.load(Relaxed),
    );
    assert_eq!(
        *crowd.undocumented.lock().unwrap(),
        BTreeSet::new(),
        "answers that the document does not have"
    );
    let client = Client::of(server.url.clone());
    let mut stored: BTreeMap<String, String> = BTreeMap::new();
    for memory in client.all_memories() {
        stored.insert(
            memory["id"].as_str().unwrap().to_owned(),
            memory["content"].as_str().unwrap().to_owned(),
        );
    }
    let expected: BTreeMap<String, String> = expected.into_iter().flatten().collect();
    let lost: Vec<_> =
        expected.iter().filter(|(id, content)| stored.get(*id) != Some(content)).take(5).collect();
    let unknown: Vec<_> = stored.iter().filter(|(id, _)| !expected.contains_key(*id)).take(5).collect();
    assert!(lost.is_empty() && unknown.is_empty(), "lost {lost:?}, there and not asked for {unknown:?}");
    // When the endpoint is well again, what it failed for is embedded.
    health.is_well.store(true, Relaxed);
    let deadline = Instant::now() + Duration::from_mins(2);
    while client.get("/v1/status").expect(200)["unembedded"] != 0 {
        assert!(Instant::now() < deadline, "{}", client.get("/v1/status").text);
        thread::sleep(PAUSE);
    }
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
}

/// What a client knows to be stored: contents by id.
type Expected = BTreeMap<String, String>;

struct Crowd {
    url: String,
    document: Document,
    until: Instant,
    undocumented: Mutex<BTreeSet<String>>,
    answered: AtomicU64,
    repeated: AtomicU64,
}

struct Member<'a> {
    crowd: &'a Crowd,
    client: Client,
    n: u64,
    made: u64,
    random: Random,
    expected: Expected,
}

impl<'a> Member<'a> {
    fn new(crowd: &'a Crowd, n: u64, random: Random) -> Self {
        Self { crowd, client: Client::of(crowd.url.clone()), n, made: 0, random, expected: Expected::new() }
    }

    fn run(mut self) -> Expected {
        while Instant::now() < self.crowd.until {
            self.made += 1;
            let content = format!("memory {} of client {} about tea", self.made, self.n);
            let some = self.random.below(self.expected.len().max(1) as u64);
            let some = self.expected.keys().nth(usize::try_from(some).unwrap()).cloned();
            match (self.random.below(10), some) {
                (0..=3, _) | (_, None) => {
                    // Without an id of its own: only the key keeps it from being stored twice.
                    let answer =
                        self.ask("POST", "/v1/memories", "/v1/memories", &json!({"content": content}));
                    self.expected.insert(answer["id"].as_str().unwrap().to_owned(), content);
                }
                (4, Some(id)) => {
                    let body = json!({"content": content});
                    self.ask("PUT", "/v1/memories/{id}", &format!("/v1/memories/{id}"), &body);
                    self.expected.insert(id, content);
                }
                (5, Some(id)) => {
                    let body = json!({"content": content, "metadata": {"n": self.made}});
                    self.ask("PATCH", "/v1/memories/{id}", &format!("/v1/memories/{id}"), &body);
                    self.expected.insert(id, content);
                }
                (6 | 7, Some(id)) => {
                    self.ask("DELETE", "/v1/memories/{id}", &format!("/v1/memories/{id}"), &Value::Null);
                    self.expected.remove(&id);
                }
                (8, Some(id)) => {
                    let memory =
                        self.ask("GET", "/v1/memories/{id}", &format!("/v1/memories/{id}"), &Value::Null);
                    assert_eq!(memory["content"], *self.expected[&id], "{id}");
                }
                (_, Some(_)) => {
                    let body = json!({"query": format!("client {} tea", self.n), "limit": 5});
                    self.ask("POST", "/v1/recall", "/v1/recall", &body);
                }
            }
        }
        self.expected
    }

    /// Asks until there is an answer that says that it was done.
    fn ask(&mut self, method: &str, template: &str, path: &str, body: &Value) -> Value {
        let key = format!("{}-{}", self.n, self.made);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let is_change = method != "GET" && template != "/v1/recall";
        let headers: &[(&str, &str)] = if is_change { &[("idempotency-key", &key)] } else { &[] };
        loop {
            let answer = self.client.try_request(method, path, headers, &body);
            match answer {
                Some(answer) if answer.status < 300 => {
                    self.note(method, template, &answer);
                    // Now and then its client has not heard it, and asks again.
                    if is_change && self.random.below(5) == 0 {
                        self.crowd.repeated.fetch_add(1, Relaxed);
                        let again = self.client.try_request(method, path, headers, &body);
                        if let Some(again) = again.filter(|again| again.status < 300) {
                            let (first, again) = (answer.json(), again.json());
                            assert_eq!((&first["id"], &first["lsn"]), (&again["id"], &again["lsn"]), "{key}");
                        }
                    }
                    return answer.json();
                }
                Some(answer) => {
                    self.note(method, template, &answer);
                    let may_come_back = answer.status == 409 || answer.status >= 500;
                    assert!(may_come_back, "{method} {path}: {} {}", answer.status, answer.text);
                }
                None => {}
            }
            self.crowd.repeated.fetch_add(1, Relaxed);
            thread::sleep(PAUSE);
        }
    }

    fn note(&self, method: &str, template: &str, answer: &Answer) {
        self.crowd.answered.fetch_add(1, Relaxed);
        if !self.crowd.document.has(method, template, answer.status) {
            let text = format!("{method} {template}: {} {}", answer.status, answer.text);
            self.crowd.undocumented.lock().unwrap().insert(text);
        }
    }
}

/// The document of the interface.
struct Document(Value);

impl Document {
    fn of(client: &Client) -> Self {
        Self(client.get("/openapi.json").expect(200))
    }

    fn has(&self, method: &str, template: &str, status: u16) -> bool {
        self.0["paths"][template][method.to_lowercase()]["responses"].get(status.to_string()).is_some()
    }
}

/// How an endpoint does.
#[derive(Default)]
struct Health {
    is_well: AtomicBool,
    asked: AtomicU64,
    failed: AtomicU64,
}

impl Health {
    /// Every second request fails, in one of four ways, until it is well.
    fn reply(&self, request: &Request) -> Reply {
        if self.is_well.load(Relaxed) {
            return Reply::Vectors(DIMENSION);
        }
        let n = self.asked.fetch_add(1, Relaxed);
        if n.is_multiple_of(2) {
            return Reply::Vectors(DIMENSION);
        }
        self.failed.fetch_add(1, Relaxed);
        match n % 8 {
            1 => Reply::Json(500, json!({"error": {"message": "out of luck"}})),
            3 => Reply::Text(429, "", "slow down".to_owned()),
            5 => {
                let whole = vectors(&request.texts(), DIMENSION).to_string();
                Reply::Text(200, "", whole[..whole.len() / 2].to_owned())
            }
            _ => Reply::Half,
        }
    }
}

/// Bytes of memory of a process.
fn resident(pid: u32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}
