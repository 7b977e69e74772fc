//! The HTTP surface of the real server, as a client meets it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use serde_json::{Value, json};
use server::Server;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/sample.jsonl");
const QUESTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/question-moon.json");

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn ids(recall: &Value) -> Vec<&str> {
    recall["results"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[test]
fn a_memory_is_stored_read_recalled_updated_and_deleted() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "3"]);
    let body = json!({
        "id": "tea", "content": "Ada prefers green tea", "when": "2026-01-02T03:04:05.000006+01:00",
        "embedding": [0.5, -0.25, 1.0], "confidence": 0.5, "metadata": {"n": 1, "x": 0.5, "t": "text", "b": true},
    });
    let receipt = server.post("/v1/memories", &body).expect(201);
    assert_eq!(
        (&receipt["id"], &receipt["outcome"], &receipt["durability"]),
        (&json!("tea"), &json!("created"), &json!("synced"))
    );
    let again = server.post("/v1/memories", &body).expect(200);
    assert_eq!((&again["outcome"], &again["lsn"]), (&json!("unchanged"), &receipt["lsn"]));

    let memory = server.get("/v1/memories/tea?include=embedding").expect(200);
    for field in ["id", "content", "metadata", "confidence"] {
        assert_eq!(memory[field], body[field], "{field}");
    }
    assert_eq!(memory["lsn"], receipt["lsn"]);
    assert!(memory["when"].as_str().unwrap().starts_with("2026-01-02T02:04:05.000006"), "{memory}");
    assert!((memory["embedding"][0].as_f64().unwrap() - 0.5).abs() < 0.01);
    assert!(server.get("/v1/memories/tea").expect(200).get("embedding").is_none());

    let updated = server.put("/v1/memories/tea", &json!({"content": "Ada prefers black tea"})).expect(200);
    assert_eq!(updated["outcome"], "updated");
    assert!(updated["lsn"].as_u64() > receipt["lsn"].as_u64());
    let recall = server.post("/v1/recall", &json!({"query": "black tea"})).expect(200);
    assert_eq!((ids(&recall), &recall["lsn"]), (vec!["tea"], &updated["lsn"]));
    assert!(ids(&server.post("/v1/recall", &json!({"query": "green"})).expect(200)).is_empty());

    assert_eq!(server.delete("/v1/memories/tea").expect(200)["outcome"], "deleted");
    server.get("/v1/memories/tea").problem(404, "not_found");
    server.delete("/v1/memories/tea").problem(404, "not_found");
    assert!(ids(&server.post("/v1/recall", &json!({"query": "tea"})).expect(200)).is_empty());
}

#[test]
fn an_id_is_made_where_none_is_given_and_any_text_can_be_one() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let receipt = server.post("/v1/memories", &json!({"content": "x"})).expect(201);
    let id = receipt["id"].as_str().unwrap();
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "a UUIDv7: {id}");
    for (id, in_path) in [("a b/c?d#e%", "a%20b%2Fc%3Fd%23e%25"), ("größe", "gr%C3%B6%C3%9Fe")] {
        server.post("/v1/memories", &json!({"id": id, "content": "x"})).expect(201);
        assert_eq!(server.get(&format!("/v1/memories/{in_path}")).expect(200)["id"], id);
        assert_eq!(server.delete(&format!("/v1/memories/{in_path}")).expect(200)["id"], id);
    }
}

#[test]
fn the_sample_is_loaded_at_once_and_recalled_alike_before_and_after_a_kill() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let sample = std::fs::read(SAMPLE).unwrap();
    let lines = sample.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let answer = server.send("POST", "/v1/memories/batch", "application/x-ndjson", &sample).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let receipts: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(receipts.len(), lines);
    assert!(receipts.iter().all(|receipt| receipt["outcome"] == "created"), "{:?}", receipts[0]);

    let question = std::fs::read(QUESTION).unwrap();
    let ask = |server: &Server| {
        let by_vector = server.send("POST", "/v1/recall", "application/json", &question).unwrap().expect(200);
        let by_words =
            server.post("/v1/recall", &json!({"query": "expedition to the moon", "limit": 5})).expect(200);
        (by_vector, by_words)
    };
    let before = ask(&server);
    assert_eq!(before.0["results"].as_array().unwrap().len(), 3);
    assert!(
        before.0["results"][0]["content"].as_str().unwrap().contains("moon"),
        "{}",
        before.0["results"][0]
    );
    assert!(
        before.1["results"][0]["content"].as_str().unwrap().contains("moon"),
        "{}",
        before.1["results"][0]
    );
    let memories = server.all_memories();
    server.kill();

    let server = Server::start(directory.path(), &[]);
    assert_eq!(ask(&server), before, "same ids, same scores");
    assert_eq!(server.all_memories(), memories);
    // The same again changes nothing.
    let answer = server.send("POST", "/v1/memories/batch", "application/x-ndjson", &sample).unwrap();
    assert!(answer.text.lines().all(|line| line.contains("\"unchanged\"")));
}

#[test]
fn a_batch_answers_for_each_item() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "2"]);
    let items = json!([
        {"id": "a", "content": "one"},
        {"id": "", "content": "two"},
        {"id": "c", "content": "three", "embedding": [1.0]},
        {"id": "d", "content": "four", "colour": "red"},
        {"id": "e", "content": "five", "embedding": [1.0, 2.0]},
    ]);
    let answer = server.post("/v1/memories/batch", &items).expect(200);
    let answers = answer.as_array().unwrap();
    let codes: Vec<&str> = answers.iter().map(|item| item["error"]["code"].as_str().unwrap_or("-")).collect();
    assert_eq!(answers.len(), 5);
    assert_eq!((codes[0], codes[4]), ("-", "-"), "{answer}");
    assert!(codes[1..4].iter().all(|code| *code != "-"), "{answer}");
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 2);

    let lines = "{\"id\":\"f\",\"content\":\"six\"}\n\nnot json\n{\"id\":\"g\",\"content\":\"seven\"}";
    let answer = server.send("POST", "/v1/memories/batch", "application/x-ndjson", lines.as_bytes()).unwrap();
    let answers: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 3);
    assert_eq!((&answers[0]["outcome"], &answers[2]["outcome"]), (&json!("created"), &json!("created")));
    assert!(answers[1]["error"]["code"].is_string(), "{answers:?}");
    assert_eq!((&answers[1]["item"], &answers[1]["line"]), (&json!(1), &json!(3)));
    server
        .send("POST", "/v1/memories/batch", "application/json", b"[{]")
        .unwrap()
        .problem(400, "invalid_json");
}

#[test]
fn listing_goes_through_all_memories_in_the_order_of_time() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    for n in (0..25).rev() {
        let when = format!("2026-01-{:02}T00:00:00Z", n / 2 + 1);
        server
            .post("/v1/memories", &json!({"id": format!("m{n:02}"), "content": "x", "when": when}))
            .expect(201);
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/memories?limit=4{cursor}")).expect(200);
        found.extend(
            page["memories"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, (0..25).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
    let range = "/v1/memories?from=2026-01-03T00:00:00Z&to=2026-01-05T00:00:00Z";
    assert_eq!(server.get(range).expect(200)["memories"].as_array().unwrap().len(), 4);
    server.get("/v1/memories?cursor=nonsense").problem(422, "invalid_cursor");
    server.get("/v1/memories?limit=0").problem(422, "invalid_query");
}

#[test]
fn recall_filters_before_it_cuts() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "2"]);
    for n in 0..40 {
        let body = json!({
            "id": format!("m{n:02}"), "content": format!("the same words {n}"), "embedding": [1.0, f64::from(n)],
            "when": format!("2026-02-{:02}T00:00:00Z", n % 20 + 1), "confidence": if n % 4 == 0 { 0.9 } else { 0.1 },
        });
        server.post("/v1/memories", &body).expect(201);
    }
    let filter = json!({"when": {"gte": "2026-02-05T00:00:00Z", "lt": "2026-02-13T00:00:00Z"}, "confidence": {"gte": 0.5}});
    for question in [json!({"query": "same words"}), json!({"embedding": [1.0, 39.0]})] {
        let mut question = question;
        question["filter"] = filter.clone();
        question["limit"] = json!(10);
        let recall = server.post("/v1/recall", &question).expect(200);
        let mut found = ids(&recall);
        found.sort_unstable();
        assert_eq!(found, ["m04", "m08", "m24", "m28"], "{question}");
    }
}

#[test]
fn recall_fuses_words_and_meaning_and_explains_itself() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "2"]);
    for (id, content, embedding, user) in [
        ("both", "green tea in the morning", [1.0, 0.1], "ada"),
        ("meaning", "a hot drink", [1.0, 0.0], "ada"),
        ("words", "green paint", [0.0, 1.0], "grace"),
    ] {
        let body =
            json!({"id": id, "content": content, "embedding": embedding, "metadata": {"user": user, "n": 3}});
        server.post("/v1/memories", &body).expect(201);
    }
    let ask = |more: Value| {
        let mut question = json!({"query": "green tea", "embedding": [1.0, 0.0]});
        question.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        server.post("/v1/recall", &question).expect(200)
    };
    let recall = ask(json!({"explain": true}));
    assert_eq!((ids(&recall)[0], &recall["complete"]), ("both", &true.into()), "{recall}");
    assert_eq!(
        (&recall["explain"]["mode"], &recall["explain"]["index"]),
        (&"hybrid".into(), &"exact".into())
    );
    let why = &recall["results"][0]["explain"];
    assert_eq!((&why["vector_rank"], &why["word_rank"]), (&2.into(), &1.into()), "{why}");
    assert!(why["similarity"].as_f64().unwrap() > 0.9 && why["recency"].is_null(), "{why}");
    assert!(recall.get("explain").is_some() && ask(json!({})).get("explain").is_none());
    assert_eq!(ids(&ask(json!({"mode": "vector", "limit": 2}))), ["meaning", "both"]);
    assert_eq!(ids(&ask(json!({"mode": "words"}))), ["both", "words"]);
    assert_eq!(ids(&ask(json!({"filter": {"user": "grace"}}))), ["words"]);
    let filter =
        json!({"OR": [{"user": {"contains": "rac"}}, {"AND": [{"n": {"lt": 4}}, {"id": {"in": ["both"]}}]}]});
    let found = ask(json!({"filter": filter}));
    assert_eq!(ids(&found), ["both", "words"]);
    assert_eq!(ids(&ask(json!({"filter": {"NOT": {"user": "ada"}}}))), ["words"]);
    assert_eq!(ids(&ask(json!({"recency_half_life": "7d", "mode": "vector", "exact": true})))[0], "meaning");
}

#[test]
fn a_question_waits_for_the_change_that_it_must_see() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let lsn = server.post("/v1/memories", &json!({"id": "a", "content": "tea"})).expect(201)["lsn"].clone();
    let next = lsn.as_u64().unwrap() + 1;
    let recall = server.post("/v1/recall", &json!({"query": "tea", "min_lsn": lsn})).expect(200);
    assert_eq!(ids(&recall), ["a"]);
    let question = json!({"query": "tea", "min_lsn": next});
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.post("/v1/recall", &question).expect(200));
        server.post("/v1/memories", &json!({"id": "b", "content": "more tea"})).expect(201);
        assert_eq!(waiting.join().unwrap()["results"].as_array().unwrap().len(), 2);
    });
    let never = server.post("/v1/recall", &json!({"query": "tea", "min_lsn": next + 1}));
    let problem = never.problem(504, "lsn_not_reached");
    assert!(problem["detail"].as_str().unwrap().contains(&next.to_string()), "{problem}");
}

#[test]
fn an_embedding_can_be_base64() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "2", "--embedding-precision", "f32"]);
    // 1.0 and -2.5 as little-endian f32.
    server.post("/v1/memories", &json!({"id": "a", "content": "x", "embedding": "AACAPwAAIMA="})).expect(201);
    assert_eq!(server.memory("a").unwrap()["embedding"], json!([1.0, -2.5]));
    let recall = server.post("/v1/recall", &json!({"embedding": "AACAPwAAIMA="})).expect(200);
    assert!((recall["results"][0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-6);
}

#[test]
fn an_operator_sees_how_it_is() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.post("/v1/memories", &json!({"content": "x"})).expect(201);
    server.get("/healthz").expect(200);
    server.get("/readyz").expect(200);
    let status = server.get("/v1/status").expect(200);
    assert_eq!(
        (&status["memories"], &status["dimension"], &status["writes"]),
        (&json!(1), &json!(768), &json!("durable"))
    );
    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    for name in [
        "appends",
        "batch",
        "sync",
        "queue_records",
        "lag",
        "skipped",
        "poisoned",
        "memories",
        "http_requests",
    ] {
        assert!(metrics.text.contains(name), "{name} in {}", metrics.text);
    }
    assert!(metrics.text.contains("engram_log_sync_seconds_bucket{le=\"0.0001\"}"), "{}", metrics.text);
    assert!(metrics.text.contains("engram_log_sync_seconds_bucket{le=\"+Inf\"}"), "{}", metrics.text);
    for line in [
        "engram_writes{state=\"durable\"} 1",
        "engram_writes{state=\"refused\"} 0",
        "engram_log_disk_full 0",
        "engram_log_damaged_ranges 0",
    ] {
        assert!(metrics.text.lines().any(|other| other == line), "{line} in {}", metrics.text);
    }
    let full_stop = metrics.text.lines().find(|line| line.starts_with("# HELP") && line.ends_with('.'));
    assert_eq!(full_stop, None);
    assert_eq!(status["log"]["disk_full"], false);
    assert!(metrics.text.trim_end().ends_with("# EOF"));
}
