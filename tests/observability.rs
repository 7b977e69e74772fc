//! What an operator sees: metrics that are all described, a dashboard and alerts of metrics that there are, log lines that
//! programs read.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/embed_endpoint.rs"]
mod embed_endpoint;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use embed_endpoint::EmbedEndpoint;
use serde_json::{Value, json};
use server::{Server, command};

const DIMENSION: usize = 8;

/// What takes longer will never come.
const PATIENCE: Duration = Duration::from_mins(1);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn document(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(path)).unwrap()
}

/// The metrics that are described, each with its type.
fn described() -> BTreeMap<String, String> {
    let text = document("metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let (name, rest) = row.split_once('`').unwrap();
        let kind = rest.split('|').nth(1).unwrap().trim();
        (name.to_owned(), kind.to_owned())
    };
    rows.map(row).collect()
}

/// The metrics that a server has, each with its type, by the names that are asked for.
fn served(metrics: &str) -> BTreeMap<String, String> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let named = |line: &str| {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        (format!("{name}{suffix}"), kind.to_owned())
    };
    types.map(named).collect()
}

/// The value of a sample, by its name and labels.
fn value(metrics: &str, sample: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

#[track_caller]
fn until(server: &Server, sample: &str, is_so: impl Fn(f64) -> bool) {
    let begun = Instant::now();
    loop {
        let metrics = server.get("/metrics").text;
        if value(&metrics, sample).is_some_and(&is_so) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{sample} in {metrics}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The metrics that an expression of Prometheus names: described ones, or what comes with any scrape.
#[track_caller]
fn check_expression(expression: &str, known: &BTreeMap<String, String>) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words: Vec<&str> = expression.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect();
    let names = words.iter().filter(|word| word.starts_with("engram_") || word.starts_with("process_"));
    let mut count = words.iter().filter(|word| **word == "up").count();
    for name in names {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_histogram = |name: &&str| known.get(*name).is_some_and(|kind| kind == "histogram");
        let is_known = of_histogram.as_ref().is_some_and(is_histogram)
            || known.get(*name).is_some_and(|kind| kind != "histogram");
        assert!(is_known, "there is no {name}: {expression}");
        count += 1;
    }
    assert!(count > 0, "no metric in {expression}");
}

#[test]
fn all_metrics_are_described_and_no_others() {
    let (directory, endpoint) = (directory(), EmbedEndpoint::of_words(DIMENSION));
    let server = Server::start(directory.path(), &["--embed-url", &endpoint.url, "--embed-model", "test"]);
    let metrics = server.get("/metrics").text;
    let described = described();
    assert_eq!(served(&metrics), described);
    // As a table has one row for each.
    let rows = document("metrics.md").lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, described.len());
}

#[test]
fn what_is_done_is_counted() {
    let directory = directory();
    let server =
        Server::start(directory.path(), &["--dimension", "2", "--capacity", "2", "--max-in-flight", "7"]);
    let store = |id: &str| {
        let body = json!({"id": id, "content": "green tea", "embedding": [1, 0]});
        server.post("/v1/memories", &body)
    };
    store("a").expect(201);
    store("b").expect(201);
    store("c").problem(507, "capacity_reached");
    for question in
        [json!({"query": "tea"}), json!({"embedding": [1, 0]}), json!({"query": "tea", "embedding": [1, 0]})]
    {
        server.post("/v1/recall", &question).expect(200);
    }
    server.post("/v1/snapshot", &Value::Null).expect(200);
    let metrics = server.get("/metrics").text;
    for (sample, expected) in [
        ("engram_ready", 1.0),
        ("engram_memories", 2.0),
        ("engram_spaces", 1.0),
        ("engram_http_problems_total{code=\"capacity_reached\"}", 1.0),
        ("engram_http_requests_in_flight_max", 7.0),
        // How it is, is told without a place.
        ("engram_http_requests_in_flight", 0.0),
        ("engram_recall_seconds_count{mode=\"words\",index=\"none\"}", 1.0),
        ("engram_recall_seconds_count{mode=\"vector\",index=\"exact\"}", 1.0),
        ("engram_recall_seconds_count{mode=\"hybrid\",index=\"exact\"}", 1.0),
        ("engram_recall_wait_seconds_count", 3.0),
        ("engram_snapshots_total", 1.0),
        ("engram_recovery_clean", 0.0),
    ] {
        assert_eq!(value(&metrics, sample), Some(expected), "{sample} in {metrics}");
    }
    for sample in [
        "engram_snapshot_seconds",
        "engram_log_commit_seconds_sum",
        "engram_connections_open",
        "engram_connections_max",
        "engram_connections_accepted_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ] {
        assert!(value(&metrics, sample).is_some_and(|value| value > 0.0), "{sample} in {metrics}");
    }
    // Each record that was acknowledged has its time.
    let appends = value(&metrics, "engram_log_appends_total");
    assert_eq!(value(&metrics, "engram_log_commit_seconds_count"), appends);
    server.stop();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(value(&server.get("/metrics").text, "engram_recovery_clean"), Some(1.0));
}

#[test]
fn who_follows_changes_is_counted_as_long_as_he_does() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let followers = "engram_changes_followers";
    let following = ureq::get(format!("{}/v1/changes?follow=true", server.url)).call().unwrap();
    until(&server, followers, |count| count > 0.0);
    drop(following);
    // It is noticed when there is something to tell.
    let begun = Instant::now();
    while value(&server.get("/metrics").text, followers) != Some(0.0) {
        server.post("/v1/memories", &json!({"content": "x"})).expect(201);
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn how_the_model_answers_is_counted() {
    let (directory, endpoint) = (directory(), EmbedEndpoint::of_words(DIMENSION));
    let flags = ["--embed-url", &endpoint.url, "--embed-model", "test"];
    let server = Server::start(directory.path(), &flags);
    server.post("/v1/memories", &json!({"content": "green tea"})).expect(201);
    until(&server, "engram_embedding_pending", |count| count <= 0.0);
    let embedded = "engram_embedding_request_seconds_count{outcome=\"embedded\"}";
    until(&server, embedded, |count| count >= 1.0);
    let metrics = server.get("/metrics").text;
    assert_eq!(value(&metrics, "engram_embedding_request_seconds_count{outcome=\"transient\"}"), Some(0.0));
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let known = described();
    let dashboard: Value = serde_json::from_str(&document("grafana/engram.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut expressions = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        expressions.extend(targets.iter().map(|target| target["expr"].as_str().unwrap()));
    }
    for expression in &expressions {
        check_expression(expression, &known);
    }
    // And leaves none out.
    let all = expressions.concat();
    let missing: Vec<&String> = known.keys().filter(|name| !all.contains(name.as_str())).collect();
    assert_eq!(missing, [""; 0], "no panel shows them");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "the ids of panels are their own");
}

#[test]
fn each_alert_is_of_metrics_that_there_are_and_says_what_to_do() {
    let known = described();
    let (rules, runbook) = (document("alerts/engram.rules.yml"), document("alerts.md"));
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10);
    for rule in &rules {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("expr: ").unwrap();
        // Up to the next key.
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|key| rest.find(key)).min();
        check_expression(&rest[..end.unwrap()], &known);
        for key in ["summary: \"", "description: \""] {
            assert!(rest.contains(key), "{name} has no {key}");
        }
        let link = format!("runbook_url: \"docs/alerts.md#{}\"", name.to_lowercase());
        assert!(rest.contains(&link), "{name} has no {link}");
        assert!(runbook.lines().any(|line| line == format!("## {name}")), "{name} is not in docs/alerts.md");
    }
    let sections = runbook.lines().filter(|line| line.starts_with("## Engram")).count();
    assert_eq!(sections, rules.len());
}

#[test]
fn each_line_of_a_log_in_json_is_an_object() {
    let directory = directory();
    let server = Server::start(directory.path(), &["--log-format", "json", "--log", "debug"]);
    let (secret, id) = ("a memory that is nobody's affair", "an-id-that-is-not-either");
    server.put(&format!("/v1/memories/{id}"), &json!({"content": secret})).expect(201);
    server.get(&format!("/v1/memories/{id}")).expect(200);
    server.post("/v1/recall", &json!({"query": secret})).expect(200);
    let (status, text) = server.stop();
    assert!(status.success(), "{text}");
    assert!(!text.contains(secret) && !text.contains(id), "{text}");
    let object = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let log: Vec<Value> = text.lines().map(object).collect();
    for line in &log {
        assert!(line["message"].as_str().is_some_and(|message| !message.is_empty()), "{line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG"].contains(&line["level"].as_str().unwrap()), "{line}");
        chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
    }
    let of_request = log.iter().find(|line| line["span"]["route"] == "/v1/recall").unwrap();
    assert_eq!(
        (&of_request["span"]["name"], &of_request["span"]["method"]),
        (&json!("request"), &json!("POST"))
    );
}

#[test]
fn why_a_server_does_not_start_is_said_as_text() {
    let directory = directory();
    let output = command(directory.path(), &["--log-format", "json", "--capacity", "0"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{error}");
    assert!(error.starts_with("error: expected a capacity"), "{error}");
}
