//! Texts that the server embeds itself: what is stored, recalled and told while the endpoint works, fails, and comes back.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/embed_endpoint.rs"]
mod embed_endpoint;
#[path = "support/server.rs"]
mod server;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use embed_endpoint::{EmbedEndpoint, Reply, vector};
use serde_json::{Value, json};
use server::{Server, command};

const DIMENSION: usize = 16;
const KEY: &str = "sk-never-shown";

/// What takes longer will never come.
const HANGS: Duration = Duration::from_mins(1);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A server that embeds by this endpoint.
fn start(data_dir: &Path, endpoint: &EmbedEndpoint, more: &[&str]) -> Server {
    let flags = [&["--embed-url", &endpoint.url, "--embed-model", "test"], more].concat();
    Server::spawn({
        let mut command = command(data_dir, &flags);
        command.env("ENGRAM_EMBED_KEY", KEY);
        command
    })
}

/// An endpoint that works while it is told to, and else answers so.
fn switched(status: u16) -> (EmbedEndpoint, Arc<AtomicBool>) {
    let works = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&works);
    let endpoint = EmbedEndpoint::start(move |request| {
        if now.load(SeqCst) {
            return Reply::Vectors(DIMENSION);
        }
        let key = request.authorization.clone().unwrap();
        Reply::Json(status, json!({"error": {"message": format!("not now, {key}")}}))
    });
    (endpoint, works)
}

/// Asks until the answer is so.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < HANGS, "it never comes");
        thread::sleep(Duration::from_millis(2));
    }
}

fn embedding(server: &Server) -> Value {
    server.get("/v1/status").expect(200)["embedding"].clone()
}

fn until_embedded(server: &Server) {
    until(|| embedding(server)["pending"] == 0);
}

fn ids(recall: &Value) -> Vec<&str> {
    recall["results"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

fn by_meaning(server: &Server, question: &str) -> Value {
    server
        .post("/v1/recall", &json!({"query": question, "mode": "vector", "limit": 1, "explain": true}))
        .expect(200)
}

#[test]
fn a_text_is_stored_at_once_and_recalled_by_meaning_soon_also_after_a_kill() {
    let (directory, endpoint) = (directory(), EmbedEndpoint::of_words(DIMENSION));
    let server = start(directory.path(), &endpoint, &[]);
    assert_eq!(server.get("/v1/status").expect(200)["dimension"], DIMENSION, "asked of the model");
    let store = |id: &str, content: &str| {
        server.post("/v1/memories", &json!({"id": id, "content": content})).expect(201)
    };
    assert_eq!(store("tea", "Ada prefers green tea")["embedding"], "pending");
    assert_eq!(store("trip", "Grace flies to Lisbon")["embedding"], "pending");
    let given = json!({"id": "given", "content": "x", "embedding": vector("something else", DIMENSION)});
    assert_eq!(server.post("/v1/memories", &given).expect(201)["embedding"], "given");
    until_embedded(&server);
    let answer = by_meaning(&server, "green tea");
    assert_eq!(ids(&answer), ["tea"]);
    assert!(answer["results"][0]["explain"]["similarity"].as_f64().unwrap() > 0.5, "{answer}");
    let answer = server.post("/v1/recall", &json!({"query": "Lisbon", "explain": true})).expect(200);
    assert_eq!(
        (ids(&answer)[0], &answer["explain"]["mode"], answer.get("embedding_error")),
        ("trip", &json!("hybrid"), None)
    );
    let status = embedding(&server);
    assert_eq!(
        (&status["embedded"], &status["failed"], &status["model"]),
        (&json!(2), &json!(0), &json!("test"))
    );
    let metrics = server.get("/metrics").text;
    for line in ["engram_embedding_pending 0", "engram_embedded_memories_total 2", "state=\"idle\"} 1"] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let before = server.all_memories();
    assert!(before.iter().all(|memory| memory["has_embedding"] == true));
    server.kill();
    let server = start(directory.path(), &endpoint, &[]);
    assert_eq!(server.all_memories(), before);
    assert_eq!(by_meaning(&server, "green tea")["results"], by_meaning(&server, "green tea")["results"]);
    assert_eq!(ids(&by_meaning(&server, "green tea")), ["tea"]);
}

#[test]
fn a_dead_endpoint_costs_meaning_and_no_memory() {
    let directory = directory();
    let (endpoint, works) = switched(503);
    let server = start(directory.path(), &endpoint, &[]);
    works.store(false, SeqCst);
    let receipt = server.post("/v1/memories", &json!({"id": "tea", "content": "green tea"})).expect(201);
    assert_eq!((&receipt["durability"], &receipt["embedding"]), (&json!("synced"), &json!("pending")));
    until(|| embedding(&server)["state"] == "retrying");

    let answer = server.post("/v1/recall", &json!({"query": "tea"})).expect(200);
    assert_eq!(ids(&answer), ["tea"]);
    assert!(answer["embedding_error"].as_str().unwrap().contains("503"), "{answer}");
    for mode in ["vector", "hybrid"] {
        let problem = server.post("/v1/recall", &json!({"query": "tea", "mode": mode}));
        problem.problem(503, "embedding_unavailable");
    }
    let answer = server.post("/v1/recall", &json!({"query": "tea", "mode": "words"})).expect(200);
    assert!(answer.get("embedding_error").is_none());
    server.kill();

    // The next one begins with what the last one could not do.
    works.store(true, SeqCst);
    let server = start(directory.path(), &endpoint, &[]);
    until_embedded(&server);
    assert_eq!(ids(&by_meaning(&server, "tea")), ["tea"]);
}

#[test]
fn an_endpoint_that_comes_back_is_used_without_a_restart() {
    let directory = directory();
    let (endpoint, works) = switched(401);
    let server = start(directory.path(), &endpoint, &[]);
    works.store(false, SeqCst);
    server.post("/v1/memories", &json!({"id": "tea", "content": "green tea"})).expect(201);
    until(|| embedding(&server)["state"] == "misconfigured");
    works.store(true, SeqCst);
    until_embedded(&server);
    assert_eq!(embedding(&server)["embedded"], 1);
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let directory = directory();
    let (endpoint, works) = switched(401);
    let server = start(directory.path(), &endpoint, &["--log", "debug"]);
    works.store(false, SeqCst);
    server.post("/v1/memories", &json!({"content": "green tea"})).expect(201);
    let problem = server.post("/v1/recall", &json!({"query": "tea", "mode": "vector"}));
    let problem = problem.problem(503, "embedding_unavailable").to_string();
    until(|| embedding(&server)["state"] == "misconfigured");
    let shown = [problem, embedding(&server).to_string(), server.get("/metrics").text];
    let (_, log) = server.stop();
    assert!(log.contains("not now, Bearer [key]"), "{log}");
    assert!(!log.contains(KEY) && shown.iter().all(|text| !text.contains(KEY)), "{shown:?}");
    let sent = endpoint.requests().pop().unwrap().authorization.unwrap();
    assert_eq!(sent, format!("Bearer {KEY}"));
    let help = command(directory.path(), &["--help"])
        .env("ENGRAM_EMBED_KEY", KEY)
        .stdout(std::process::Stdio::piped())
        .output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    assert!(help.contains("--embed-url") && !help.contains(KEY), "{help}");
}

#[test]
fn where_an_embedding_is_required_a_text_is_stored_with_it_or_not_at_all() {
    let directory = directory();
    let works = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&works);
    let endpoint = EmbedEndpoint::start(move |request| {
        let refused = || Reply::Json(400, json!({"error": {"message": "no such text"}}));
        match (now.load(SeqCst), request.texts().contains(&"bad")) {
            (true, false) => Reply::Vectors(DIMENSION),
            (true, true) => refused(),
            (false, _) => Reply::Text(503, "retry-after: 7\r\n", "loading".to_owned()),
        }
    });
    let server = start(directory.path(), &endpoint, &["--embed-required"]);
    let store = |content: &str| server.post("/v1/memories", &json!({"id": content, "content": content}));
    assert_eq!(store("tea").expect(201)["embedding"], "embedded");
    assert_eq!(ids(&by_meaning(&server, "tea")), ["tea"]);
    store("bad").problem(422, "embedding_refused");
    let batch = json!([
        {"id": "a", "content": "a"}, {"id": "bad", "content": "bad"}, {"id": "b", "content": "b"},
        {"id": "given", "content": "bad", "embedding": vector("x", DIMENSION)},
    ]);
    let answers = server.post("/v1/memories/batch", &batch).expect(200);
    let embedded: Vec<&Value> =
        answers.as_array().unwrap().iter().map(|answer| &answer["embedding"]).collect();
    assert_eq!(embedded, [&json!("embedded"), &Value::Null, &json!("embedded"), &json!("given")]);
    assert_eq!((&answers[1]["item"], &answers[1]["error"]["code"]), (&json!(1), &json!("embedding_refused")));

    let repeated = || {
        let with = |method, path, body: Value| {
            let headers = [("idempotency-key", method), ("content-type", "application/json")];
            server.request(method, path, &headers, &body.to_string()).expect(200)
        };
        let episodes = json!([{"id": "a", "content": "again"}, {"id": "b", "content": "anew"}]);
        (
            with("POST", "/v1/memories/batch", episodes),
            with("PUT", "/v1/memories/a", json!({"content": "put"})),
            with("PATCH", "/v1/memories/b", json!({"content": "patched"})),
        )
    };
    let first = repeated();
    let patch = |body: &str| server.request("PATCH", "/v1/memories/tea", &[], body);
    assert_eq!(patch(r#"{"content": "green tea"}"#).expect(200)["embedding"], "embedded");
    works.store(false, SeqCst);
    patch(r#"{"content": "black tea"}"#).problem(503, "embedding_unavailable");
    assert_eq!(patch(r#"{"confidence": 0.5}"#).expect(200)["embedding"], "embedded");
    assert_eq!(server.memory("tea").unwrap()["content"], "green tea");
    let detail = store("train").problem(503, "embedding_unavailable")["detail"].to_string();
    assert!(detail.contains("loading"), "{detail}");
    let batch = json!([{"id": "c", "content": "c"}, {"id": "d", "content": "d", "embedding": vector("x", DIMENSION)}]);
    let answers = server.post("/v1/memories/batch", &batch).expect(200);
    assert_eq!(answers[0]["error"]["code"], "embedding_unavailable");
    assert_eq!(answers[1]["embedding"], "given");
    for id in ["bad", "train", "c"] {
        server.get(&format!("/v1/memories/{id}")).problem(404, "not_found");
    }
    assert_eq!(server.all_memories().len(), 5);
    // What was answered is not asked for again.
    assert_eq!(repeated().1["lsn"], first.1["lsn"]);
    assert_eq!(repeated().2["lsn"], first.2["lsn"]);
    let lsns = |answers: &Value| (answers[0]["lsn"].as_u64(), answers[1]["lsn"].as_u64());
    assert!(lsns(&first.0).0.is_some());
    assert_eq!(lsns(&repeated().0), lsns(&first.0));
}

#[test]
fn a_text_that_is_not_taken_is_recalled_by_words_and_blocks_no_other() {
    let directory = directory();
    let endpoint = EmbedEndpoint::start(|request| {
        if request.texts().iter().any(|text| text.contains("bad")) {
            return Reply::Json(400, json!({"error": {"message": "no such text"}}));
        }
        Reply::Vectors(DIMENSION)
    });
    let server = start(directory.path(), &endpoint, &["--embed-batch", "4"]);
    let batch: Vec<Value> = ["a", "bad one", "c", "d", "e", "f"]
        .iter()
        .map(|content| json!({"id": content[..1], "content": content}))
        .collect();
    let answers = server.post("/v1/memories/batch", &json!(batch)).expect(200);
    assert!(answers.as_array().unwrap().iter().all(|answer| answer["embedding"] == "pending"), "{answers}");
    until(|| embedding(&server)["embedded"] == 5);
    let status = embedding(&server);
    assert_eq!((&status["failed"], &status["pending"]), (&json!(1), &json!(1)));
    assert!(status["last_error"].as_str().unwrap().contains("no such text"), "{status}");
    let answer = server.post("/v1/recall", &json!({"query": "bad", "mode": "words"})).expect(200);
    assert_eq!(ids(&answer), ["b"]);
}

#[test]
fn a_memory_that_is_replaced_while_it_is_embedded_gets_the_vector_of_its_new_text() {
    let directory = directory();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let endpoint = EmbedEndpoint::start(move |request| {
        if request.texts() == ["old words"] {
            wait.lock().unwrap().recv().unwrap();
        }
        Reply::Vectors(DIMENSION)
    });
    let server = start(directory.path(), &endpoint, &[]);
    server.put("/v1/memories/m", &json!({"content": "old words"})).expect(201);
    endpoint.wait_for_requests(2); // that for the dimension, and that for the text
    let receipt = server.put("/v1/memories/m", &json!({"content": "new thoughts"})).expect(200);
    server.put("/v1/memories/gone", &json!({"content": "old words"})).expect(201);
    server.delete("/v1/memories/gone").expect(200);
    go.send(()).unwrap();
    until_embedded(&server);
    let memory = server.memory("m").unwrap();
    assert_eq!((&memory["content"], &memory["lsn"]), (&json!("new thoughts"), &receipt["lsn"]));
    let answer = by_meaning(&server, "new thoughts");
    assert!(answer["results"][0]["explain"]["similarity"].as_f64().unwrap() > 0.99, "{answer}");
}

#[test]
fn a_repeated_text_is_unchanged_also_when_it_was_embedded_meanwhile() {
    let (directory, endpoint) = (directory(), EmbedEndpoint::of_words(DIMENSION));
    let server = start(directory.path(), &endpoint, &[]);
    let body = json!({"id": "tea", "content": "green tea", "when": "2026-03-01T09:30:00Z"});
    let first = server.post("/v1/memories", &body).expect(201);
    until_embedded(&server);
    let again = server.post("/v1/memories", &body).expect(200);
    assert_eq!((&again["outcome"], &again["lsn"]), (&json!("unchanged"), &first["lsn"]));
    assert_eq!(again["embedding"], "embedded");
    let patch = |body: &str| server.request("PATCH", "/v1/memories/tea", &[], body).expect(200);
    assert_eq!(patch(r#"{"confidence": 0.5}"#)["embedding"], "embedded");
    assert_eq!(patch(r#"{"content": "black coffee"}"#)["embedding"], "pending");
    until_embedded(&server);
    let answer = by_meaning(&server, "black coffee");
    assert!(answer["results"][0]["explain"]["similarity"].as_f64().unwrap() > 0.99, "{answer}");
}

#[test]
fn a_model_that_does_not_say_its_dimension_leaves_the_default_and_a_warning() {
    let directory = directory();
    let endpoint = EmbedEndpoint::start(|request| match request.number {
        0 => Reply::Json(404, json!({"error": "model \"test\" not found, try pulling it first"})),
        _ => Reply::Vectors(DIMENSION),
    });
    let server = start(directory.path(), &endpoint, &[]);
    assert_eq!(server.get("/v1/status").expect(200)["dimension"], 768);
    // From then on the model is another than the store's.
    server.post("/v1/memories", &json!({"content": "tea"})).expect(201);
    until(|| embedding(&server)["state"] == "misconfigured");
    let error = embedding(&server)["last_error"].to_string();
    assert!(error.contains("expected embeddings of 768 numbers") && error.contains("got 16"), "{error}");
    let (_, log) = server.stop();
    assert!(log.contains("--dimension") && log.contains("try pulling it first"), "{log}");
}

#[test]
fn a_start_with_another_model_or_other_prefixes_is_refused() {
    let (directory, endpoint) = (directory(), EmbedEndpoint::of_words(DIMENSION));
    let server = start(directory.path(), &endpoint, &["--embed-query-prefix", "ask: "]);
    let model = server.get("/v1/status").expect(200)["model"].clone();
    assert_eq!(model, json!({"name": "test", "document_prefix": "", "query_prefix": "ask: "}));
    server.stop();
    for (model, prefix) in [("other", "ask: "), ("test", "")] {
        let flags = ["--embed-url", &endpoint.url, "--embed-model", model, "--embed-query-prefix", prefix];
        let outcome = Server::try_until_ready(command(directory.path(), &flags));
        let Err((status, log)) = outcome else { panic!("it started with {model} and {prefix:?}") };
        assert_eq!(status.code(), Some(78), "{log}");
        assert!(log.contains("embedding model test") && log.contains("\"ask: \""), "{log}");
    }
    // Without a model the store is as any other.
    Server::start(directory.path(), &[]);
}

#[test]
fn a_silent_endpoint_is_waited_for_once() {
    let directory = directory();
    let endpoint = EmbedEndpoint::start(|request| match request.number {
        0 => Reply::Vectors(DIMENSION),
        _ => Reply::Silence,
    });
    let server = start(directory.path(), &endpoint, &[]);
    let ask =
        || server.post("/v1/recall", &json!({"query": "tea"})).expect(200)["embedding_error"].to_string();
    let first = ask();
    assert!(first.contains("within"), "{first}");
    assert_eq!(ask(), first);
    assert_eq!(endpoint.requests().len(), 2);
}

#[test]
fn without_an_embedder_nothing_is_said_to_be_pending() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(server.post("/v1/memories", &json!({"content": "tea"})).expect(201)["embedding"], "none");
    let answer = server.post("/v1/recall", &json!({"query": "tea"})).expect(200);
    assert!(answer.get("embedding_error").is_none());
    assert!(embedding(&server).is_null());
}
