//! Another model for a store while its server serves: what is written, asked and forgotten meanwhile, and what becomes of
//! all of it when it is cancelled, fails, or the server is killed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/embed_endpoint.rs"]
mod embed_endpoint;
#[path = "support/server.rs"]
mod server;

use std::{
    path::Path,
    process::{Command, Output},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use embed_endpoint::{EmbedEndpoint, Reply, vector, vectors};
use serde_json::{Value, json};
use server::{Client, Server, command};

/// What takes longer will never come.
const HANGS: Duration = Duration::from_mins(2);

const KEY: &str = "sk-of-the-server";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What a model makes of a text: models agree about nothing.
fn said_by(model: &str, text: &str) -> String {
    text.split_whitespace().map(|word| format!("{model}/{word}")).collect::<Vec<_>>().join(" ")
}

/// Requests that wait until they are let through.
#[derive(Clone)]
struct Gate(Arc<(Mutex<Now>, Condvar)>);

struct Now {
    /// How many may pass.
    left: usize,
    waiting: usize,
}

impl Gate {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(Now { left: usize::MAX, waiting: 0 }), Condvar::new())))
    }

    fn shut(&self) {
        self.let_pass(0);
    }

    fn open(&self) {
        self.let_pass(usize::MAX);
    }

    /// So many pass, and no more.
    fn let_pass(&self, requests: usize) {
        self.0.0.lock().unwrap().left = requests;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut now = self.0.0.lock().unwrap();
        now.waiting += 1;
        self.0.1.notify_all();
        let mut now = self.0.1.wait_while(now, |now| now.left == 0).unwrap();
        now.waiting -= 1;
        if now.left < usize::MAX {
            now.left -= 1;
        }
        self.0.1.notify_all();
    }

    /// Waits until so many requests are at the shut gate.
    fn await_waiting(&self, requests: usize) {
        let now = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(now, |now| now.left > 0 || now.waiting < requests).unwrap());
    }
}

/// An endpoint of all models, each of vectors of its own, behind a gate.
fn endpoint(dimension: usize) -> (EmbedEndpoint, Gate) {
    let gate = Gate::new();
    let of_endpoint = gate.clone();
    let endpoint = EmbedEndpoint::start(move |request| {
        of_endpoint.pass();
        let model = request.body["model"].as_str().unwrap();
        let texts: Vec<String> = request.texts().iter().map(|text| said_by(model, text)).collect();
        Reply::Json(200, vectors(&texts.iter().map(String::as_str).collect::<Vec<_>>(), dimension))
    });
    (endpoint, gate)
}

fn start(data_dir: &Path, endpoint: &EmbedEndpoint, model: &str, more: &[&str]) -> Server {
    Server::spawn(with_model(data_dir, endpoint, model, more))
}

fn with_model(data_dir: &Path, endpoint: &EmbedEndpoint, model: &str, more: &[&str]) -> Command {
    let flags = [&["--embed-url", &endpoint.url, "--embed-model", model], more].concat();
    let mut command = command(data_dir, &flags);
    command.env("ENGRAM_EMBED_KEY", KEY);
    command
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

fn remember(server: &Client, path: &str, id: &str, content: &str) {
    server.post(path, &json!({"id": id, "content": content})).expect(201);
}

fn until_embedded(server: &Server) {
    until(|| server.get("/v1/status").expect(200)["unembedded"] == 0);
}

fn reembed(server: &Client, endpoint: &EmbedEndpoint, model: &str) -> Value {
    server.post("/v1/reembed", &json!({"url": endpoint.url, "model": model})).expect(202)
}

fn progress(server: &Client) -> Value {
    server.get("/v1/reembed").expect(200)
}

#[track_caller]
fn until_over(server: &Client) -> Value {
    until(|| progress(server)["state"] != "running");
    progress(server)
}

/// Whether a memory has the vector that this model makes of its content.
#[track_caller]
fn assert_is_of(memory: &Value, model: &str, dimension: usize) {
    let stored: Vec<f64> = serde_json::from_value(memory["embedding"].clone()).unwrap();
    let content = memory["content"].as_str().unwrap();
    let expected: Vec<f64> = vector(&said_by(model, content), dimension).into_iter().map(f64::from).collect();
    assert_eq!(stored.len(), expected.len(), "{memory}");
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(&stored, &expected) / (dot(&stored, &stored) * dot(&expected, &expected)).sqrt();
    assert!(cosine > 0.99, "{cosine}: not of {model}: {memory}");
}

fn nearest(server: &Client, question: &str) -> Value {
    let body = json!({"query": question, "mode": "vector", "limit": 1, "explain": true});
    server.post("/v1/recall", &body).expect(200)["results"][0].clone()
}

/// All that is there, embeddings too.
fn everything(server: &Server) -> Vec<Value> {
    let all = server.all_memories();
    all.iter().map(|memory| server.memory(memory["id"].as_str().unwrap()).unwrap()).collect()
}

fn verb(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.arg("reembed").args(arguments).env_remove("ENGRAM_API_KEY").output().unwrap()
}

#[test]
fn a_running_server_changes_to_another_model_and_what_comes_meanwhile_is_neither_lost_nor_mixed() {
    let (directory, (old, _), (new, gate)) = (directory(), endpoint(16), endpoint(8));
    let server = start(directory.path(), &old, "old", &[]);
    server.put("/v1/spaces/other", &json!({})).expect(201);
    for n in 0..60 {
        remember(&server, "/v1/memories", &format!("m{n}"), &format!("memory number {n}"));
    }
    remember(&server, "/v1/spaces/other/memories", "o", "of another space");
    until_embedded(&server);
    assert_eq!(progress(&server)["state"], "idle");

    gate.shut();
    let status = reembed(&server, &new, "new");
    assert_eq!((&status["state"], &status["model"]["name"]), (&json!("running"), &json!("new")));
    gate.await_waiting(1); // it is asked how many numbers it gives
    let again = server.post("/v1/reembed", &json!({"url": new.url, "model": "third"}));
    again.problem(409, "reembed_running");
    // Meanwhile all is as ever, by the old model.
    assert_eq!(nearest(&server, "number 7")["id"], "m7");
    let given = json!({"id": "given", "content": "x", "embedding": vec![1.0; 16]});
    assert_eq!(server.post("/v1/memories", &given).expect(201)["embedding"], "given");
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("engram_reembed_state{state=\"running\"} 1"), "{metrics}");
    gate.let_pass(2);
    // Some of the memories are embedded, others on their way.
    gate.await_waiting(1);
    for n in (0..60).step_by(3) {
        server.put(&format!("/v1/memories/m{n}"), &json!({"content": format!("changed {n}")})).expect(200);
        server.delete(&format!("/v1/memories/m{}", n + 1)).expect(200);
        remember(&server, "/v1/memories", &format!("n{n}"), &format!("new {n}"));
    }
    server.request("PATCH", "/v1/memories/m2", &[], r#"{"confidence": 0.5}"#).expect(200);
    gate.open();
    let done = until_over(&server);
    assert_eq!((&done["state"], &done["dimension"]), (&json!("done"), &json!(8)), "{done}");
    assert_eq!((&done["done"], &done["total"], &done["refused"]), (&done["total"], &done["done"], &json!(0)));
    until_embedded(&server);
    let check = |server: &Server| {
        let all = everything(server);
        assert_eq!(all.len(), 61);
        for memory in &all {
            assert_is_of(memory, "new", 8);
        }
        assert_is_of(&server.get("/v1/spaces/other/memories/o?include=embedding").expect(200), "new", 8);
        assert_eq!(nearest(server, "changed 3")["id"], "m3");
        assert_eq!(nearest(server, "new 9")["id"], "n9");
        let status = server.get("/v1/status").expect(200);
        assert_eq!((&status["dimension"], &status["model"]["name"]), (&json!(8), &json!("new")));
        assert_eq!(status["embedding"]["source"], format!("{}/embeddings", new.url));
        let body = json!({"content": "x", "embedding": vec![1.0; 16]});
        server.post("/v1/memories", &body).problem(422, "invalid_embedding");
    };
    check(&server);
    let start_with = done["start_with"].as_str().unwrap();
    assert_eq!(start_with, format!("--embed-url {} --embed-model new", new.url));
    assert!(server.log().contains(&format!("start the server with {start_with} from now on")));
    server.kill();

    let refused = Server::try_until_ready(with_model(directory.path(), &old, "old", &[]));
    let (status, log) = refused.err().unwrap();
    assert!(status.code() == Some(78) && log.contains("--embed-model new"), "{log}");
    let asked = new.requests().len();
    let server = start(directory.path(), &new, "new", &[]);
    assert_eq!(server.get("/v1/status").expect(200)["unembedded"], 0);
    assert_eq!(new.requests().len(), asked, "all of it was in the log");
    check(&server);
}

#[test]
fn what_the_old_model_has_made_is_of_no_use_after_the_change_although_it_is_as_long() {
    let (directory, (old, gate), (new, _)) = (directory(), endpoint(16), endpoint(16));
    let server = start(directory.path(), &old, "old", &["--embed-required"]);
    for content in ["green tea", "black coffee", "a train to Lisbon"] {
        remember(&server, "/v1/memories", &content.replace(' ', "-"), content);
    }
    gate.shut();
    thread::scope(|scope| {
        let server: &Client = &server;
        let asked = scope.spawn(|| nearest(server, "black coffee"));
        let stored =
            scope.spawn(|| server.post("/v1/memories", &json!({"id": "late", "content": "late news"})));
        let patched = scope
            .spawn(|| server.request("PATCH", "/v1/memories/green-tea", &[], r#"{"content": "cold tea"}"#));
        let batch = json!([{"id": "b1", "content": "one more"}, {"id": "b2", "content": "two more"}]);
        let batch = scope.spawn(move || server.post("/v1/memories/batch", &batch));
        gate.await_waiting(4);
        reembed(server, &new, "new");
        let done = until_over(server);
        assert_eq!(done["state"], "done", "{done}");
        gate.open();
        let hit = asked.join().unwrap();
        assert_eq!(hit["id"], "black-coffee");
        assert!(hit["explain"]["similarity"].as_f64().unwrap() > 0.99, "{hit}");
        assert_eq!(stored.join().unwrap().expect(201)["embedding"], "embedded");
        assert_eq!(patched.join().unwrap().expect(200)["embedding"], "embedded");
        batch.join().unwrap().expect(200);
    });
    let all = everything(&server);
    assert_eq!(all.len(), 6);
    for memory in &all {
        assert_is_of(memory, "new", 16);
    }
}

#[test]
fn what_is_cancelled_leaves_all_as_it_was_and_the_next_one_is_not_mixed_with_it() {
    let (directory, (old, _), (new, gate)) = (directory(), endpoint(16), endpoint(16));
    let server = start(directory.path(), &old, "old", &[]);
    assert_eq!(server.delete("/v1/reembed").expect(200)["state"], "idle");
    for n in 0..40 {
        remember(&server, "/v1/memories", &format!("m{n}"), &format!("memory number {n}"));
    }
    until_embedded(&server);
    let before = everything(&server);
    reembed(&server, &old, "never");
    let over = until_over(&server);
    assert_eq!(over["state"], "done", "{over}");
    assert_ne!(everything(&server), before);

    let before = everything(&server);
    gate.shut();
    reembed(&server, &new, "new");
    gate.await_waiting(1);
    let cancelled = server.delete("/v1/reembed").expect(200);
    assert_eq!((&cancelled["state"], &cancelled["lsn"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(everything(&server), before);
    // The one that was cancelled still waits for its answer.
    reembed(&server, &new, "next");
    gate.await_waiting(2);
    gate.open();
    let done = until_over(&server);
    assert_eq!((&done["state"], &done["model"]["name"]), (&json!("done"), &json!("next")), "{done}");
    for memory in everything(&server) {
        assert_is_of(&memory, "next", 16);
    }
    assert_eq!(server.delete("/v1/reembed").expect(200)["state"], "done", "it is too late");
}

#[test]
fn a_kill_before_the_change_leaves_the_old_model() {
    let (directory, (old, _), (new, gate)) = (directory(), endpoint(16), endpoint(8));
    let server = start(directory.path(), &old, "old", &[]);
    for n in 0..40 {
        remember(&server, "/v1/memories", &format!("m{n}"), &format!("memory number {n}"));
    }
    until_embedded(&server);
    let before = everything(&server);
    reembed(&server, &new, "new");
    gate.shut();
    server.kill();
    gate.open();
    // It may have been changed already, and then it is whole.
    let started = Server::try_until_ready(with_model(directory.path(), &old, "old", &[]));
    match started {
        Ok(server) => assert_eq!(everything(&server), before),
        Err((status, log)) => {
            assert!(status.code() == Some(78) && log.contains("--embed-model new"), "{log}");
            let server = start(directory.path(), &new, "new", &[]);
            until_embedded(&server);
            for memory in everything(&server) {
                assert_is_of(&memory, "new", 8);
            }
        }
    }
}

#[test]
fn an_endpoint_that_fails_is_waited_for_and_one_that_refuses_ends_it() {
    let (directory, (old, _)) = (directory(), endpoint(16));
    let server = start(directory.path(), &old, "old", &[]);
    remember(&server, "/v1/memories", "tea", "green tea");
    until_embedded(&server);
    let before = everything(&server);
    let refuses = EmbedEndpoint::start(|request| {
        let key = request.authorization.clone().unwrap_or_default();
        Reply::Json(401, json!({"error": {"message": format!("not you, {key}")}}))
    });
    let body = json!({"url": refuses.url, "model": "new", "key": "sk-of-the-caller"});
    let begun = server.post("/v1/reembed", &body);
    assert!(!begun.text.contains("sk-of"), "{}", begun.text);
    begun.expect(202);
    let failed = until_over(&server);
    assert_eq!(failed["state"], "failed");
    let error = failed["last_error"].as_str().unwrap();
    assert!(error.contains("not you, Bearer [key]"), "{error}");
    assert_eq!(refuses.requests()[0].authorization.as_deref(), Some("Bearer sk-of-the-caller"));

    // The server's own key goes to its own endpoint alone.
    server.post("/v1/reembed", &json!({"url": refuses.url, "model": "new"})).expect(202);
    until_over(&server);
    assert_eq!(refuses.requests().last().unwrap().authorization, None);
    assert_eq!(everything(&server), before);

    let fails = EmbedEndpoint::start(|request| match request.number {
        1 => Reply::Text(503, "", "loading".to_owned()),
        _ => Reply::Vectors(8),
    });
    reembed(&server, &fails, "new");
    let done = until_over(&server);
    assert_eq!((&done["state"], fails.requests().len()), (&json!("done"), 3), "{done}");

    server.post("/v1/reembed", &json!({"url": old.url, "model": "old again"})).expect(202);
    assert_eq!(until_over(&server)["state"], "done");
    let asked = old.requests();
    let own = asked.iter().rfind(|request| request.body["model"] == "old again").unwrap();
    assert_eq!(own.authorization, Some(format!("Bearer {KEY}")));
    let (_, log) = server.stop();
    assert!(!log.contains("sk-of") && log.contains("'old again' --embed-key-file FILE"), "{log}");
}

#[test]
fn what_takes_more_memory_than_there_may_be_is_refused_before_anything_is_embedded() {
    let (directory, (old, _), (new, _)) = (directory(), endpoint(4), endpoint(16_384));
    let server = start(directory.path(), &old, "old", &["--memory-limit", "200000"]);
    for n in 0..20 {
        remember(&server, "/v1/memories", &format!("m{n}"), &format!("memory number {n}"));
    }
    until_embedded(&server);
    reembed(&server, &new, "new");
    let failed = until_over(&server);
    assert!(failed["last_error"].as_str().unwrap().contains("--memory-limit"), "{failed}");
    assert_eq!((&failed["state"], new.requests().len()), (&json!("failed"), 1));
    for memory in everything(&server) {
        assert_is_of(&memory, "old", 4);
    }
    remember(&server, "/v1/memories", "more", "there is room for more");
}

#[test]
fn a_store_that_takes_no_writes_is_not_embedded_anew() {
    let (directory, (old, _)) = (directory(), endpoint(16));
    let server = start(directory.path(), &old, "old", &[]);
    remember(&server, "/v1/memories", "tea", "green tea");
    until_embedded(&server);
    server.stop();
    let flags = ["--on-wal-failure", "read-only", "--snapshot-log-bytes", "0"];
    let mut limited = server::command_after("ulimit -f 0", directory.path(), &flags);
    limited.env("ENGRAM_EMBED_URL", &old.url).env("ENGRAM_EMBED_MODEL", "old");
    let Ok(server) = Server::try_until_ready(limited) else { panic!("it reads") };
    let answer = server.post("/v1/reembed", &json!({"url": old.url, "model": "new"}));
    answer.problem(503, "read_only");
    assert_eq!(progress(&server)["state"], "idle");
}

#[test]
fn the_verb_has_a_server_do_it_and_follows_it() {
    let (directory, (new, gate)) = (directory(), endpoint(8));
    // One that embeds nothing gets a model.
    let server = Server::start(directory.path(), &["--dimension", "8"]);
    for n in 0..40 {
        remember(&server, "/v1/memories", &format!("m{n}"), &format!("memory number {n}"));
    }
    let model = ["--embed-url", &new.url, "--embed-model"];
    let data_dir = directory.path().to_str().unwrap();
    let locked = verb(&[&model[..], &["new", "--data-dir", data_dir]].concat());
    let error = String::from_utf8(locked.stderr).unwrap();
    assert!(locked.status.code() == Some(75) && error.contains("reembed --server"), "{error}");
    let at = |more: &[&str]| verb(&[&["--server", &server.url], more].concat());

    gate.shut();
    let begun = at(&[&model[..], &["never", "--detach"]].concat());
    let said = String::from_utf8(begun.stdout).unwrap();
    assert!(begun.status.success() && said.contains("40 memories are being embedded by never"), "{said}");
    let second = at(&[&model[..], &["new"]].concat());
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(second.status.code() == Some(1) && error.contains("DELETE /v1/reembed"), "{error}");
    let cancelled = at(&["--cancel"]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    assert!(at(&["--cancel"]).status.success(), "once more is no failure");

    let mut followed = Command::new(env!("CARGO_BIN_EXE_engram"));
    followed.args(["reembed", "--server", &server.url]).args(model).arg("new");
    let followed = followed.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let followed = followed.spawn().unwrap();
    gate.await_waiting(2);
    let interrupt = Command::new("kill").arg("-INT").arg(followed.id().to_string()).status().unwrap();
    assert!(interrupt.success());
    let left = followed.wait_with_output().unwrap();
    let error = String::from_utf8(left.stderr).unwrap();
    assert!(left.status.code() == Some(130) && error.contains("--cancel"), "{error}");
    gate.open();
    assert_eq!(until_over(&server)["state"], "done", "it goes on by itself");

    let done = at(&[&model[..], &["last", "--embed-query-prefix", "ask: ", "--json"]].concat());
    assert!(done.status.success(), "{done:?}");
    let status: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&status["state"], &status["done"]), (&json!("done"), &json!(40)));
    let end = "--embed-model last --embed-query-prefix 'ask: '";
    assert!(status["start_with"].as_str().unwrap().ends_with(end), "{status}");
    for memory in everything(&server) {
        assert_is_of(&memory, "last", 8);
    }
    assert_eq!(at(&["--cancel"]).status.code(), Some(1), "there is nothing to cancel any more");
    let closed = EmbedEndpoint::start(|_| Reply::Json(401, json!({"error": "no"})));
    let failed = at(&["--embed-url", &closed.url, "--embed-model", "closed"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let nobody = verb(&["--server", "http://127.0.0.1:9", "--cancel"]);
    assert_eq!(nobody.status.code(), Some(69), "{nobody:?}");
    let shown = verb(&[
        "--server",
        "http://engram.invalid",
        "--embed-url",
        "http://h",
        "--embed-model",
        "m",
        "--embed-key",
        "k",
    ]);
    assert!(shown.status.code() == Some(2), "the key would be read on the way: {shown:?}");
}
