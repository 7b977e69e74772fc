//! Answers and requests without end: export, import, and the feed of changes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use serde_json::{Value, json};
use server::Server;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/sample.jsonl");

const NDJSON: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_exported_is_imported_as_it_was_and_again_without_a_change() {
    let (one, other) = (directory(), directory());
    let server = Server::start(one.path(), &[]);
    let sample = std::fs::read_to_string(SAMPLE).unwrap();
    let imported = server.request("POST", "/v1/import", &NDJSON, &sample).expect(200);
    let count = sample.lines().count();
    assert_eq!(
        (&imported["lines"], &imported["created"], &imported["refused"]),
        (&json!(count), &json!(count), &json!(0))
    );
    let export = server.get("/v1/export");
    assert_eq!((export.status, export.content_type.as_str()), (200, "application/x-ndjson"));
    assert_eq!(export.text.lines().count(), count);

    let second = Server::start(other.path(), &[]);
    second.put("/v1/spaces/copy", &json!({})).expect(201);
    let path = "/v1/spaces/copy/import";
    assert_eq!(second.request("POST", path, &NDJSON, &export.text).expect(200)["created"], count);
    assert_eq!(second.request("POST", path, &NDJSON, &export.text).expect(200)["unchanged"], count);
    assert_eq!(second.get("/v1/spaces/copy/export").text, export.text, "bit for bit, embeddings too");
    assert_eq!(second.get("/v1/export").text, "");
    let without = lines(&server.get("/v1/export?embeddings=false").text);
    assert!(without.len() == count && without.iter().all(|line| line.get("embedding").is_none()));
}

#[test]
fn an_import_tells_each_line_that_it_refuses_and_goes_on_where_it_is_told() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let text = "{\"id\":\"a\",\"content\":\"1\"}\n\n{\"content\":7}\nnonsense\n{\"content\":\"no id\"}";
    let imported = server.request("POST", "/v1/import", &NDJSON, text).expect(200);
    assert_eq!(
        (&imported["lines"], &imported["created"], &imported["refused"]),
        (&json!(4), &json!(2), &json!(2))
    );
    let refused: Vec<_> = imported["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["line"].as_u64().unwrap(), it["error"]["code"].as_str().unwrap()))
        .collect();
    assert_eq!(refused, [(3, "invalid_body"), (4, "invalid_json")]);
    // The same line without an id is the same memory.
    let again = server.request("POST", "/v1/import?from_line=5", &NDJSON, text).expect(200);
    assert_eq!((&again["lines"], &again["created"], &again["updated"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 2);
    // A line that no memory has is refused, too, and the others are not.
    let long = format!("nonsense\n{}\n{{\"id\":\"b\",\"content\":\"1\"}}", "x".repeat(9 << 20));
    let imported = server.request("POST", "/v1/import", &NDJSON, &long).expect(200);
    assert_eq!((&imported["lines"], &imported["created"]), (&json!(3), &json!(1)));
    let refused = imported["errors"].as_array().unwrap().iter();
    let refused: Vec<_> = refused.map(|it| (&it["line"], &it["error"]["code"])).collect();
    assert_eq!(refused, [(&json!(1), &json!("invalid_json")), (&json!(2), &json!("body_too_large"))]);
    server.request("POST", "/v1/import", &[], "[]").problem(415, "unsupported_media_type");
    let with_key = [NDJSON[0], ("idempotency-key", "k")];
    server.request("POST", "/v1/import", &with_key, "").problem(422, "invalid_header");
}

/// Whatever a memory has: bytes that JSON makes six of each, numbers with all their digits.
#[test]
fn what_is_stored_goes_through_an_export_and_an_import_unchanged() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let mut random = 7_u64;
    let mut number = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from_bits(0x3ff0_0000_0000_0000 | random >> 12) - 1.5
    };
    let numbers: serde_json::Map<String, Value> = (0..60).map(|n| (n.to_string(), json!(number()))).collect();
    let memories = json!([
        {"id": "long", "content": "\u{1}".repeat(200 << 10), "when": "2026-01-01T00:00:00Z"},
        {"id": "exact", "content": "x", "when": "2026-01-01T00:00:00Z", "metadata": numbers},
    ]);
    server.post("/v1/memories/batch", &memories).expect(200);
    assert_eq!(server.get("/v1/memories/exact").expect(200)["metadata"], Value::Object(numbers));
    let export = server.get("/v1/export").text;
    let again = server.request("POST", "/v1/import", &NDJSON, &export).expect(200);
    assert_eq!((&again["unchanged"], &again["refused"]), (&json!(2), &json!(0)), "{again}");
    assert_eq!(server.get("/v1/export").text, export);
}

#[test]
fn an_import_that_breaks_off_tells_the_first_line_that_is_not_stored_and_what_was_refused() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--capacity", "1500"]);
    let line = |n: usize| match n {
        7 => "nonsense\n\n\n".to_owned(),
        n => json!({"id": format!("m{n}"), "content": "x"}).to_string() + "\n\n\n",
    };
    // Of 3 lines each, two are empty.
    let text: String = (0..2000).map(line).collect();
    let problem = server.request("POST", "/v1/import", &NDJSON, &text).problem(507, "capacity_reached");
    let (detail, suggestion) = (problem["detail"].as_str().unwrap(), problem["suggestion"].as_str().unwrap());
    assert!(suggestion.contains("from_line=3001:"), "{suggestion}");
    assert!(
        detail.contains("all lines before 3001 are stored, but for 1 that were refused: line 22: "),
        "{detail}"
    );
    let text: String = (0..1500).map(line).collect();
    let break_off = |from: u64| {
        let mut stream = std::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
        let head = format!(
            "POST /v1/import?from_line={from} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {}\r\n\
             transfer-encoding: chunked\r\n\r\n",
            NDJSON[0].1
        );
        // No chunk is this long.
        write!(stream, "{head}{:x}\r\n{text}\r\nnonsense\r\n", text.len()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = break_off(1);
    assert!(answer.contains("from_line=3001") && answer.contains("line 22: "), "{answer}");
    let answer = break_off(9001);
    assert!(answer.contains("from_line=9001") && answer.contains("none of them is stored"), "{answer}");

    // The command tells as much, and goes on.
    let file = directory.path().join("memories.jsonl");
    std::fs::write(&file, (0..2000).map(line).collect::<String>()).unwrap();
    let import = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_engram"));
        command.args(["import", "--server", &server.url]).arg(&file).args(arguments).output().unwrap()
    };
    let told = import(&[]);
    let error = String::from_utf8(told.stderr).unwrap();
    assert!(error.contains("its capacity is 1500") && error.contains("line 22: "), "{error}");
    assert!(error.contains("go on with --from-line "), "{error}");
    let from = error.split("--from-line ").nth(1).unwrap().split(':').next().unwrap();
    assert_eq!((from.parse::<usize>().unwrap() - 1) % 1000, 0, "{error}");
}

#[test]
fn an_import_that_a_full_store_ends_goes_on_after_room_was_made() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--capacity", "1500"]);
    let line =
        |n: usize| json!({"id": format!("m{n}"), "content": "x", "when": "2026-01-01T00:00:00Z"}).to_string();
    let text: String = (0..3000).map(|n| line(n) + "\n").collect();
    let problem = server.request("POST", "/v1/import", &NDJSON, &text).problem(507, "capacity_reached");
    assert!(problem["suggestion"].as_str().unwrap().contains("from_line=1001"), "{problem}");
    server.kill();
    let server = Server::start(directory.path(), &[]);
    let rest = server.request("POST", "/v1/import?from_line=1001", &NDJSON, &text).expect(200);
    assert_eq!(
        (&rest["lines"], &rest["created"], &rest["unchanged"]),
        (&json!(2000), &json!(1500), &json!(500))
    );
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 3000);
}

#[test]
fn changes_are_told_in_the_order_of_the_log_to_who_asks_and_to_who_follows() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let first = server.put("/v1/memories/a", &json!({"content": "1"})).expect(201)["lsn"].as_u64().unwrap();
    server.put("/v1/memories/a", &json!({"content": "2"})).expect(200);
    server.put("/v1/spaces/s", &json!({})).expect(201);
    server.put("/v1/spaces/s/memories/b", &json!({"content": "elsewhere"})).expect(201);
    let last = server.delete("/v1/memories/a").expect(200)["lsn"].as_u64().unwrap();
    let told = lines(&server.get(&format!("/v1/changes?from_lsn={first}")).text);
    let kinds: Vec<_> = told.iter().map(|it| it["change"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["stored", "stored", "forgotten"]);
    assert!(told[0].get("memory").is_none(), "it was changed since");
    assert_eq!(lines(&server.get("/v1/spaces/s/changes").text).len(), 2);

    // Follow, then change.
    let mut followed = ureq::get(format!("{}/v1/changes?from_lsn={}&follow=true", server.url, last + 1))
        .header("accept", "text/event-stream")
        .call()
        .unwrap();
    let mut events = BufReader::new(followed.body_mut().as_reader()).lines();
    let lsn = server.put("/v1/memories/c", &json!({"content": "new"})).expect(201)["lsn"].as_u64().unwrap();
    let event: Vec<String> = events.by_ref().take(4).map(Result::unwrap).collect();
    assert_eq!((event[0].as_str(), event[1].as_str()), ("event: stored", &*format!("id: {lsn}")));
    let data: Value = serde_json::from_str(event[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&data["id"], &data["memory"]["content"]), (&json!("c"), &json!("new")));
    // A server that stops ends what would go on for ever.
    let (status, log) = server.stop();
    assert!(status.success() && !log.contains("still in flight"), "{log}");
    assert!(events.next().is_none());
}

#[test]
fn changes_before_a_snapshot_are_gone_after_a_restart_and_that_is_said() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.put("/v1/memories/a", &json!({"content": "1"})).expect(201);
    server.put("/v1/memories/a", &json!({"content": "2"})).expect(200);
    server.post("/v1/snapshot", &json!({})).expect(200);
    server.kill();
    let server = Server::start(directory.path(), &[]);
    server.get("/v1/changes?from_lsn=1").problem(410, "changes_gone");
    let export = ureq::get(format!("{}/v1/export", server.url)).call().unwrap();
    let from: u64 = export.headers()["engram-lsn"].to_str().unwrap().parse().unwrap();
    assert_eq!(server.get(&format!("/v1/changes?from_lsn={}", from + 1)).text, "");
}

#[test]
fn who_is_ahead_of_the_log_is_told_so_and_misses_nothing_unawares() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let last = server.put("/v1/memories/a", &json!({"content": "1"})).expect(201)["lsn"].as_u64().unwrap();
    assert_eq!(server.get(&format!("/v1/changes?from_lsn={}", last + 1)).text, "");
    for query in [format!("from_lsn={}", last + 2), format!("from_lsn={}&follow=true", u64::MAX)] {
        let problem = server.get(&format!("/v1/changes?{query}")).problem(410, "changes_gone");
        assert!(problem["detail"].as_str().unwrap().contains("this log has no such change"), "{problem}");
    }
    let wrong = [("last-event-id", "soon")];
    server.request("GET", "/v1/changes", &wrong, "").problem(422, "invalid_header");
}
