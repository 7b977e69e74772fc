//! On what terms memories are changed: versions, requests that are repeated, durability, ends of life, parts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use serde_json::{Value, json};
use server::Server;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn a_version_is_read_as_an_etag_and_expected_by_if_match() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let path = "/v1/memories/a";
    let put = |headers: &[(&str, &str)], content: &str| {
        server.request("PUT", path, headers, &json!({"content": content}).to_string())
    };
    for (method, body) in [("PUT", "{\"content\":\"0\"}"), ("PATCH", "{}"), ("DELETE", "")] {
        for tag in ["*", "\"7\""] {
            server.request(method, path, &[("if-match", tag)], body).problem(412, "version_mismatch");
        }
    }
    let first = put(&[("if-none-match", "*")], "1").expect(201)["lsn"].as_u64().unwrap();
    let tag = format!("\"{first}\"");
    put(&[("if-none-match", "*")], "1").problem(412, "version_mismatch");
    assert_eq!(server.request("GET", path, &[("if-none-match", &tag)], "").status, 304);
    put(&[("if-match", &tag)], "2").expect(200);
    let stale = put(&[("if-match", &tag)], "3").problem(412, "version_mismatch");
    assert!(stale["detail"].as_str().unwrap().contains(&format!("expected was version {first}")), "{stale}");
    server.request("DELETE", path, &[("if-match", &tag)], "").problem(412, "version_mismatch");
    put(&[("if-match", "*")], "4").expect(200);
    assert_eq!(server.request("GET", path, &[("if-none-match", &tag)], "").expect(200)["content"], "4");
    for header in [("if-match", "soon"), ("engram-durability", "perhaps"), ("idempotency-key", "")] {
        put(&[header], "5").problem(422, "invalid_header");
    }
    assert_eq!(server.get(path).expect(200)["content"], "4");
}

#[test]
fn a_request_with_a_key_is_answered_the_same_again_also_after_a_kill() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let key = [("idempotency-key", "first-of-may")];
    let store = |server: &Server, content: &str| {
        server.request("POST", "/v1/memories", &key, &json!({"content": content}).to_string())
    };
    let first = store(&server, "without an id").expect(201);
    assert_eq!(store(&server, "without an id").expect(201), first);
    store(&server, "something else").problem(422, "idempotency_key_reused");
    let batch = json!([{"content": "a"}, {"content": "b"}]).to_string();
    let receipts =
        server.request("POST", "/v1/memories/batch", &[("idempotency-key", "b")], &batch).expect(200);
    let id = first["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/memories/{id}");
    let gone = server.request("DELETE", &path, &[("idempotency-key", "d")], "").expect(200);
    server.kill();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(store(&server, "without an id").expect(201), first, "though it was deleted since");
    assert_eq!(
        server.request("POST", "/v1/memories/batch", &[("idempotency-key", "b")], &batch).expect(200),
        receipts
    );
    assert_eq!(server.request("DELETE", &path, &[("idempotency-key", "d")], "").expect(200), gone);
    server.get(&path).problem(404, "not_found");
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 2);
    server.post("/v1/snapshot", &json!({})).expect(200);
    server.kill();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(store(&server, "without an id").expect(201), first, "also out of a snapshot");
}

#[test]
fn one_request_is_made_as_durable_as_it_asks_for() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--fsync", "none"]);
    let store = |durability: &[(&str, &str)]| {
        let receipt = server.request("POST", "/v1/memories", durability, r#"{"content":"x"}"#).expect(201);
        receipt["durability"].as_str().unwrap().to_owned()
    };
    assert_eq!(store(&[]), "written");
    assert_eq!(store(&[("engram-durability", "written")]), "written");
    assert_eq!(store(&[("engram-durability", "synced")]), "synced");
    let status = server.get("/v1/status").expect(200);
    assert_eq!(status["log"]["synced_lsn"], status["applied_lsn"]);
    let batch = server.request(
        "POST",
        "/v1/memories/batch",
        &[("engram-durability", "synced")],
        r#"[{"content":"y"}]"#,
    );
    assert_eq!(batch.expect(200)[0]["durability"], "synced");
}

#[test]
fn a_part_of_a_memory_is_changed_and_the_rest_stays() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--dimension", "2"]);
    let memory = json!({"content": "tea", "when": "2026-01-01T00:00:00Z", "embedding": [1, 2], "metadata": {"a": 1, "b": 2}});
    server.put("/v1/memories/m", &memory).expect(201);
    let patch = |body: Value| server.request("PATCH", "/v1/memories/m", &[], &body.to_string());
    patch(json!({"metadata": {"a": null, "c": "x"}, "confidence": 0.25})).expect(200);
    let now = server.get("/v1/memories/m?include=embedding").expect(200);
    assert_eq!((&now["metadata"], &now["confidence"]), (&json!({"b": 2, "c": "x"}), &json!(0.25)));
    assert_eq!((&now["content"], &now["when"]), (&json!("tea"), &memory["when"]));
    assert!(now["embedding"].is_array());
    patch(json!({"content": "coffee"})).expect(200);
    assert_eq!(
        server.get("/v1/memories/m").expect(200)["has_embedding"],
        false,
        "it was that of another content"
    );
    patch(json!({"expires_at": "2100-01-01T00:00:00Z"})).expect(200);
    assert_eq!(server.get("/v1/memories/m").expect(200)["expires_at"], "2100-01-01T00:00:00Z");
    patch(json!({"expires_at": null})).expect(200);
    assert!(server.get("/v1/memories/m").expect(200).get("expires_at").is_none());
    assert_eq!(patch(json!({})).expect(200)["outcome"], "unchanged");
    patch(json!({"content": ""})).problem(422, "invalid_content");
    patch(json!({"content": 7})).problem(422, "invalid_body");
    // What a memory cannot be without does not go.
    for (field, code) in [
        ("content", "invalid_body"),
        ("when", "invalid_time"),
        ("confidence", "invalid_confidence"),
        ("metadata", "invalid_metadata"),
    ] {
        patch(json!({field: null})).problem(422, code);
    }
    let twice = "{\"metadata\":{\"a\":1,\"a\":2}}";
    server.request("PATCH", "/v1/memories/m", &[], twice).problem(422, "invalid_metadata");
    patch(json!({"id": "n"})).problem(422, "invalid_body");
    server.request("PATCH", "/v1/memories/other", &[], "{}").problem(404, "not_found");
}

#[test]
fn clients_that_change_parts_at_the_same_time_lose_none() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.put("/v1/memories/m", &json!({"content": "counted"})).expect(201);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let client = server::Client::of(server.url.clone());
            scope.spawn(move || {
                for k in 0..8 {
                    let body = json!({"metadata": {format!("{n}-{k}"): true}}).to_string();
                    client.request("PATCH", "/v1/memories/m", &[], &body).expect(200);
                }
            });
        }
    });
    assert_eq!(server.get("/v1/memories/m").expect(200)["metadata"].as_object().unwrap().len(), 64);
}

/// However many there are: none is refused because others are faster.
#[test]
fn a_crowd_that_changes_one_memory_is_served_to_the_last() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.put("/v1/memories/m", &json!({"content": "counted"})).expect(201);
    std::thread::scope(|scope| {
        for n in 0..40 {
            let client = server::Client::of(server.url.clone());
            scope.spawn(move || {
                for k in 0..6 {
                    let (method, headers, body) = match n % 4 {
                        0 => ("PUT", &[("if-match", "*")][..], json!({"content": format!("{n} {k}")})),
                        1 => ("PATCH", &[("if-match", "*")][..], json!({"metadata": {n.to_string(): k}})),
                        _ => ("PATCH", &[][..], json!({"metadata": {n.to_string(): k}})),
                    };
                    client.request(method, "/v1/memories/m", headers, &body.to_string()).expect(200);
                }
            });
        }
    });
}

#[test]
fn a_repetition_is_answered_whatever_has_become_of_the_memory() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let terms = |key| [("if-match", "*"), ("idempotency-key", key)];
    server.put("/v1/memories/a", &json!({"content": "1"})).expect(201);
    let ask = |method, key, body| server.request(method, "/v1/memories/a", &terms(key), body).expect(200);
    let put = ask("PUT", "put", "{\"content\":\"2\"}");
    let patch = ask("PATCH", "patch", "{\"confidence\":0.5}");
    let deleted = ask("DELETE", "delete", "");
    assert_eq!(ask("PUT", "put", "{\"content\":\"2\"}"), put);
    assert_eq!(ask("PATCH", "patch", "{\"confidence\":0.5}"), patch);
    assert_eq!(ask("DELETE", "delete", ""), deleted);
    assert!(server.memory("a").is_none());
}

/// A memory that ends by itself is a lock that its holder may not give back.
#[test]
fn what_has_expired_is_in_nobodys_way_before_it_is_forgotten() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    for n in 0..50 {
        let path = format!("/v1/memories/{n}");
        server.put(&path, &json!({"content": "over", "expires_at": "2001-01-01T00:00:00Z"})).expect(201);
        server.request("DELETE", &path, &[], "").problem(404, "not_found");
        let body = json!({"content": "mine"}).to_string();
        let taken = server.request("PUT", &path, &[("if-none-match", "*")], &body);
        assert!(matches!(taken.status, 200 | 201), "{}", taken.text);
        server.request("PUT", &path, &[("if-none-match", "*")], &body).problem(412, "version_mismatch");
    }
}

#[test]
fn what_has_expired_is_not_seen_and_its_room_is_given_back() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--capacity", "1"]);
    server
        .put("/v1/memories/a", &json!({"content": "gone", "expires_at": "2001-01-01T00:00:00Z"}))
        .expect(201);
    server.get("/v1/memories/a").problem(404, "not_found");
    assert_eq!(server.post("/v1/recall", &json!({"query": "gone"})).expect(200)["results"], json!([]));
    // Its room comes back when the server has looked for such memories.
    while server.get("/v1/status").expect(200)["memories"] != 0 {
        std::thread::yield_now();
    }
    server
        .put("/v1/memories/b", &json!({"content": "here", "expires_at": "soon"}))
        .problem(422, "invalid_time");
    server
        .put("/v1/memories/b", &json!({"content": "here", "expires_at": "2100-01-01T00:00:00Z"}))
        .expect(201);
}

#[test]
fn all_that_a_filter_accepts_is_forgotten_after_it_was_shown() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let batch: Vec<_> =
        (0..2500).map(|n| json!({"id": format!("m{n}"), "content": "x", "metadata": {"n": n}})).collect();
    server.post("/v1/memories/batch", &json!(batch)).expect(200);
    let delete = |body: Value| server.request("DELETE", "/v1/memories", &[], &body.to_string());
    let some = json!({"n": {"lt": 2000}});
    let shown = delete(json!({"filter": some, "dry_run": true})).expect(200);
    assert_eq!((&shown["matched"], &shown["deleted"]), (&json!(2000), &json!(0)));
    assert_eq!(shown["ids"].as_array().unwrap().len(), 100);
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 2500);
    let gone = delete(json!({"filter": some})).expect(200);
    assert_eq!(
        (&gone["matched"], &gone["deleted"], &gone["changed"]),
        (&json!(2000), &json!(2000), &json!(0))
    );
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 500);
    delete(json!({})).problem(422, "invalid_filter");
    delete(json!({"filter": {}})).problem(422, "invalid_filter");
    delete(json!({"filter": {"n": 1}, "all": true})).problem(422, "invalid_filter");
    assert_eq!(delete(json!({"all": true})).expect(200)["deleted"], 500);
}

#[test]
fn a_listing_takes_the_filters_of_a_recall() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let batch: Vec<_> = (0..20)
        .map(|n| json!({"id": format!("m{n:02}"), "content": "x", "metadata": {"even": n % 2 == 0}}))
        .collect();
    server.post("/v1/memories/batch", &json!(batch)).expect(200);
    let filter = "%7B%22even%22%3Atrue%7D";
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/v1/memories?limit=3&filter={filter}{cursor}")).expect(200);
        found.extend(
            page["memories"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, (0..20).step_by(2).map(|n| format!("m{n:02}")).collect::<Vec<_>>());
    server.get("/v1/memories?filter=tea").problem(422, "invalid_filter");
}
