//! What is recalled after a SIGKILL and a start: the same as before, with the same scores, at once, and without any file but
//! the log's.

#![expect(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a test")]
#![expect(clippy::print_stdout, reason = "how many answers differed")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::fs;

use random::{Random, seed};
use serde_json::{Value, json};
use server::Server;

/// Enough for signs to be compared before vectors are.
const MEMORIES: u64 = 10_000;
const DIMENSION: usize = 128;
const QUESTIONS: u64 = 1_000;

const WORDS: [&str; 24] = [
    "tea",
    "green",
    "morning",
    "Lisbon",
    "flight",
    "Friday",
    "deployment",
    "certificate",
    "failed",
    "expired",
    "meeting",
    "budget",
    "invoice",
    "garden",
    "sister",
    "birthday",
    "doctor",
    "python",
    "rust",
    "index",
    "vector",
    "log",
    "disk",
    "power",
];

/// Near one of a hundred others, as texts on a hundred topics are; always the same for the same number.
fn embedding(seed: u64, number: u64) -> Vec<f32> {
    let numbers = |seed: u64| {
        let mut random = Random::new(seed);
        (0..DIMENSION).map(move |_| (random.below(2001) as f32 - 1000.0) / 1000.0)
    };
    let topic = Random::new(seed ^ number).below(100);
    let near = numbers(seed ^ (topic + 1) << 40).zip(numbers(seed ^ number << 1 ^ 0x55));
    near.map(|(topic, own)| topic + 0.9 * own).collect()
}

fn content(seed: u64, number: u64) -> String {
    let mut random = Random::new(seed ^ number);
    let words: Vec<&str> = (0..8).map(|_| WORDS[random.below(24) as usize]).collect();
    format!("{} {number}", words.join(" "))
}

/// By words, by meaning and by both in turn, some with a filter, and with what ten came back as ids and scores.
fn ask(server: &Server, seed: u64, number: u64, exact: bool) -> Vec<(String, f64)> {
    let mut question = json!({"limit": 10, "exact": exact});
    if number % 3 != 1 {
        question["query"] = json!(content(seed, MEMORIES + number));
    }
    if !number.is_multiple_of(3) {
        question["embedding"] = json!(embedding(seed, MEMORIES + number));
    }
    if number.is_multiple_of(5) {
        question["filter"] = json!({"turn": {"lt": 20}});
    }
    let answer = server.post("/v1/recall", &question).expect(200);
    let hit = |hit: &Value| (hit["id"].as_str().unwrap().to_owned(), hit["score"].as_f64().unwrap());
    answer["results"].as_array().unwrap().iter().map(hit).collect()
}

fn ask_all(server: &Server, seed: u64, exact: bool) -> Vec<Vec<(String, f64)>> {
    (0..QUESTIONS).map(|number| ask(server, seed, number, exact)).collect()
}

#[test]
fn after_a_kill_and_a_start_the_same_is_recalled_with_the_same_scores() {
    let seed = seed();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dimension = DIMENSION.to_string();
    let arguments = ["--dimension", dimension.as_str(), "--snapshot-log-bytes", "1000000"];
    let server = Server::start(directory.path(), &arguments);
    let memory = |number: u64| {
        json!({
            "id": number.to_string(), "content": content(seed, number), "embedding": embedding(seed, number),
            "metadata": {"turn": number % 40},
        })
    };
    for first in (0..MEMORIES).step_by(1000) {
        let batch: Vec<Value> = (first..first + 1000).map(memory).collect();
        server.post("/v1/memories/batch", &json!(batch)).expect(200);
    }
    // Some are replaced, some are gone.
    let batch: Vec<Value> = (0..500)
        .map(|number| {
            let mut changed = memory(number * 7);
            changed["content"] = json!(content(seed, number * 7 + 3));
            changed
        })
        .collect();
    server.post("/v1/memories/batch", &json!(batch)).expect(200);
    (0..50).for_each(|number| drop(server.delete(&format!("/v1/memories/{}", number * 11)).expect(200)));
    let (before, before_exact) = (ask_all(&server, seed, false), ask_all(&server, seed, true));
    server.kill();
    drop(fs::remove_file(directory.path().join("wal/index.cache")));
    let server = Server::start(directory.path(), &arguments);
    let after = ask_all(&server, seed, false);
    assert!(ask_all(&server, seed, true) == before_exact, "an exact recall differs");
    assert!(before.iter().all(|hits| hits.len() == 10));
    // Where vectors are found by their signs first, a few are missed; not the same ones before the signs were made. By words
    // alone nothing is, among the ten best by meaning hardly anything. Both together rank 200 of each: among so few memories
    // so many of the nearest are found by comparing all.
    let mut different = [0; 3];
    for (number, _) in before.iter().zip(&after).enumerate().filter(|(_, (before, after))| before != after) {
        different[number % 3] += 1;
    }
    let [by_words, by_meaning, by_both] = different;
    println!(
        "of {QUESTIONS} answers, different are {by_words} by words, {by_meaning} by meaning, {by_both} by both"
    );
    assert_eq!((by_words, by_both), (0, 0));
    assert!(by_meaning <= 3, "{different:?}");
}
