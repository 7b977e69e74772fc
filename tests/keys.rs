//! API keys: how they are made and kept, and what each of them opens.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use server::{Answer, Client, Server, command};

const ROOT: &str = "the-key-of-the-environment";

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// `engram`, without what the environment has of keys.
fn engram(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.args(arguments).env_remove("ENGRAM_API_KEY").env_remove("ENGRAM_API_KEY_FILE");
    command
}

fn key(data_dir: &Path, arguments: &[&str]) -> Output {
    engram(&["key"]).args(arguments).arg("--data-dir").arg(data_dir).output().unwrap()
}

/// What it prints, when all is well.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A new key.
fn create(data_dir: &Path, arguments: &[&str]) -> String {
    let arguments: Vec<&str> = ["create"].iter().chain(arguments).copied().collect();
    printed(&key(data_dir, &arguments)).trim_end().to_owned()
}

fn refusal(output: &Output, code: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

/// A server with a key in its environment.
fn start(data_dir: &Path) -> Server {
    let mut command = command(data_dir, &[]);
    command.env("ENGRAM_API_KEY", ROOT);
    Server::spawn(command)
}

fn ask(client: &Client, key: &str, method: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("authorization", &bearer)] };
    let body = if matches!(method, "POST" | "PUT") { "{\"content\": \"tea\"}" } else { "" };
    client.request(method, path, headers, body)
}

/// Asks until the answer is this one: a server looks for new keys once a second.
fn until(client: &Client, key: &str, status: u16) -> Answer {
    let started = Instant::now();
    loop {
        let answer = ask(client, key, "GET", "/v1/memories");
        if answer.status == status {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "{} instead of {status}", answer.status);
    }
}

#[test]
fn keys_are_made_listed_and_revoked_and_kept_as_hashes() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let secret = create(&data_dir, &["--name", "ops"]);
    assert!(secret.starts_with("engram_") && secret.len() == 50 && !secret.contains('\n'), "{secret:?}");
    let made =
        ["--name", "agent", "--space", "b", "--space", "a", "--space", "b", "--access", "read", "--json"];
    let made: Value = serde_json::from_str(&create(&data_dir, &made)).unwrap();
    assert_eq!(
        (&made["name"], &made["spaces"], &made["access"]),
        (&json!("agent"), &json!(["a", "b"]), &json!("read"))
    );
    let file = data_dir.join("keys.json");
    let kept = fs::read_to_string(&file).unwrap();
    for secret in [&*secret, made["key"].as_str().unwrap()] {
        assert!(!kept.contains(secret) && !kept.contains(&secret[7..]), "{kept}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let listed: Value = serde_json::from_str(&printed(&key(&data_dir, &["list", "--json"]))).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!((&listed[1]["id"], &listed[1]["key"]), (&made["id"], &Value::Null));
    let listed = printed(&key(&data_dir, &["list"]));
    assert!(listed.contains("ops") && listed.contains("read in the spaces"), "{listed}");
    assert!(!listed.contains(&secret[7..]), "{listed}");
    for wrong in [["create", "--name", "agent"], ["create", "--name", ""], ["create", "--name", "a/b"]] {
        refusal(&key(&data_dir, &wrong), 2);
    }
    refusal(&key(&data_dir, &["create", "--name", made["id"].as_str().unwrap()]), 2);
    refusal(&key(&data_dir, &["revoke", "nobody"]), 1);
    refusal(&key(&directory.path().join("not/there"), &["create", "--name", "x"]), 73);
    printed(&key(&data_dir, &["revoke", made["id"].as_str().unwrap()]));
    let last = key(&data_dir, &["revoke", "ops"]);
    assert!(String::from_utf8_lossy(&last.stderr).contains("goes on asking"), "{last:?}");
    assert_eq!(printed(&key(&data_dir, &["list", "--json"])), "[]\n");
    // All are revoked: nobody is let in, by no restart either.
    let server = Server::start(&data_dir, &[]);
    ask(&server, &secret, "GET", "/v1/memories").problem(401, "unauthorized");
}

#[test]
fn a_running_server_notices_what_becomes_of_its_keys() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    server.post("/v1/memories", &json!({"content": "tea"})).expect(201);
    let secret = create(directory.path(), &["--name", "one"]);
    let answer = until(&server, "", 401);
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    answer.problem(401, "unauthorized");
    until(&server, &secret, 200);
    let file = directory.path().join("keys.json");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    let answer = until(&server, &secret, 503);
    assert!(!answer.header("retry-after").is_empty());
    answer.problem(503, "keys_unavailable");
    ask(&server, "", "GET", "/v1/memories").problem(401, "unauthorized");
    // Half a file is never written over, nor is a server started on it.
    refusal(&key(directory.path(), &["create", "--name", "two"]), 78);
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(&file, other.join("keys.json")).unwrap();
    let error = refusal(&command(&other, &[]).output().unwrap(), 78);
    assert!(error.contains("keys.json"), "{error}");
    fs::write(&file, &good).unwrap();
    until(&server, &secret, 200);
    printed(&key(directory.path(), &["revoke", "one"]));
    until(&server, &secret, 401);
    fs::remove_file(&file).unwrap();
    let third = create(directory.path(), &["--name", "three"]);
    until(&server, &third, 200);
    assert_eq!(ask(&server, &secret, "GET", "/v1/memories").status, 401);
    let log = server.stop().1;
    assert_eq!(log.matches("keys.json cannot be read").count(), 1, "said once: {log}");
}

#[test]
fn who_follows_changes_is_cut_off_when_the_key_is_revoked() {
    let directory = directory();
    let secret = create(directory.path(), &["--name", "one"]);
    let other = create(directory.path(), &["--name", "two"]);
    let server = start(directory.path());
    let mut followed = ureq::get(format!("{}/v1/changes?follow=true", server.url))
        .header("authorization", format!("Bearer {secret}"))
        .config()
        // It would never end.
        .timeout_global(Some(Duration::from_mins(1)))
        .build()
        .call()
        .unwrap();
    printed(&key(directory.path(), &["revoke", "one"]));
    until(&server, &secret, 401);
    let body = [("authorization", &*format!("Bearer {other}")), ("content-type", "application/json")];
    server.request("PUT", "/v1/memories/a", &body, "{\"content\":\"later\"}").expect(201);
    let told = followed.body_mut().read_to_string().unwrap();
    assert!(told.contains("unauthorized") && !told.contains("later"), "{told}");
}

#[test]
fn a_key_opens_what_it_is_for() {
    let directory = directory();
    let make = |name, more: &[&str]| create(directory.path(), &[&["--name", name], more].concat());
    let all = make("all", &[]);
    let all_read = make("all-read", &["--access", "read"]);
    let default_read = make("default-read", &["--space", "default", "--access", "read"]);
    let default_write = make("default-write", &["--space", "default"]);
    let ada = make("ada", &["--space", "ada"]);
    let server = start(directory.path());
    let rows: &[(&str, &str, &[&str])] = &[
        ("GET", "/v1/memories", &[&all, &all_read, &default_read, &default_write]),
        ("GET", "/v1/memories/x", &[&all, &all_read, &default_read, &default_write]),
        ("POST", "/v1/recall", &[&all, &all_read, &default_read, &default_write]),
        ("POST", "/v1/memories", &[&all, &default_write]),
        ("PATCH", "/v1/memories/x", &[&all, &default_write]),
        ("GET", "/v1/export", &[&all, &all_read, &default_read, &default_write]),
        ("POST", "/v1/import", &[&all, &default_write]),
        ("PUT", "/v1/memories/recall", &[&all, &default_write]),
        ("DELETE", "/v1/memories/x", &[&all, &default_write]),
        ("GET", "/nothing", &[&all, &all_read, &default_read, &default_write]),
        ("GET", "/v1/spaces/ada/memories", &[&all, &all_read, &ada]),
        ("POST", "/v1/spaces/ada/recall", &[&all, &all_read, &ada]),
        ("PUT", "/v1/spaces/ada/memories/x", &[&all, &ada]),
        ("DELETE", "/v1/spaces/ada/memories", &[&all, &ada]),
        ("GET", "/v1/spaces/ada/changes", &[&all, &all_read, &ada]),
        ("GET", "/v1/spaces/%61da", &[&all, &all_read, &ada]),
        ("PUT", "/v1/spaces/ada", &[&all]),
        ("DELETE", "/v1/spaces/ada", &[&all]),
        ("GET", "/v1/spaces", &[&all, &all_read]),
        ("GET", "/v1/status", &[&all, &all_read]),
        ("GET", "/metrics", &[&all, &all_read]),
        ("POST", "/v1/snapshot", &[&all]),
        ("POST", "/v1/reembed", &[&all]),
    ];
    for (method, path, openers) in rows {
        for key in [&all, &all_read, &default_read, &default_write, &ada] {
            let answer = ask(&server, key, method, path);
            let is_open = openers.contains(&key.as_str());
            assert_eq!(answer.status != 403, is_open, "{method} {path}: {}", answer.text);
            assert_ne!(answer.status, 401, "{method} {path}");
            if !is_open {
                let detail = answer.problem(403, "forbidden")["detail"].to_string();
                assert!(detail.contains("expected a key that may"), "{detail}");
            }
        }
        assert!(![401, 403].contains(&ask(&server, ROOT, method, path).status), "{method} {path}");
        for wrong in ["", "engram_wrong", &all[..all.len() - 1], &format!("{all}x")] {
            let answer = ask(&server, wrong, method, path);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            answer.problem(401, "unauthorized");
        }
    }
    for open in ["/healthz", "/readyz"] {
        assert_eq!(ask(&server, "", "GET", open).status, 200);
    }
    let x_api_key = server.request("GET", "/v1/status", &[("x-api-key", ROOT)], "");
    assert_eq!(x_api_key.status, 200);
    // Who sends much with a wrong key hears of the key.
    let long = json!({"content": "x".repeat(3 << 20)}).to_string();
    for _ in 0..10 {
        let answer = server.request("POST", "/v1/memories", &[("x-api-key", "wrong")], &long);
        answer.problem(401, "unauthorized");
    }
}

#[test]
fn a_server_that_others_can_reach_needs_a_key_or_a_word() {
    let directory = directory();
    let start = |arguments: &[&str]| {
        let mut command = engram(&["start", "--listen", "0.0.0.0:0", "--data-dir"]);
        command.arg(directory.path()).args(arguments).stderr(std::process::Stdio::piped());
        command
    };
    let error = refusal(&start(&[]).output().unwrap(), 78);
    for way_out in ["engram key create", "ENGRAM_API_KEY", "--insecure"] {
        assert!(error.contains(way_out), "{error}");
    }
    let client = |server: &Server| Client::of(server.url.replace("0.0.0.0", "127.0.0.1"));
    let open = Server::spawn(start(&["--insecure"]));
    assert_eq!(client(&open).get("/v1/status").status, 200);
    assert!(open.stop().1.contains("lets everybody in"));
    let file = directory.path().join("a-key");
    fs::write(&file, format!("{ROOT}\n")).unwrap();
    let by_file = Server::spawn(start(&["--api-key-file", file.to_str().unwrap()]));
    assert_eq!(ask(&client(&by_file), ROOT, "GET", "/v1/status").status, 200);
    assert_eq!(client(&by_file).get("/v1/status").status, 401);
    assert!(by_file.stop().1.contains("without TLS"));
    // To say that it may be without keys does not make those that there are useless.
    create(directory.path(), &["--name", "one"]);
    let keyed = Server::spawn(start(&["--insecure"]));
    assert_eq!(client(&keyed).get("/v1/status").status, 401);
    drop(keyed);
    for (variable, value) in [("ENGRAM_API_KEY", "two words"), ("ENGRAM_API_KEY_FILE", "/not/there")] {
        let error = refusal(&start(&[]).env(variable, value).output().unwrap(), 78);
        assert!(!error.contains("two words"), "{error}");
    }
    let both = ["--api-key-file", file.to_str().unwrap()];
    refusal(&start(&both).env("ENGRAM_API_KEY", ROOT).output().unwrap(), 78);
}

#[test]
fn the_verbs_send_the_key_of_the_environment_and_none_shows_it() {
    let directory = directory();
    let server = start(directory.path());
    let snapshot = || engram(&["snapshot", "--server", &server.url]);
    let error = refusal(&snapshot().output().unwrap(), 77);
    assert!(error.contains("ENGRAM_API_KEY"), "{error}");
    refusal(&snapshot().env("ENGRAM_API_KEY", "wrong").output().unwrap(), 77);
    printed(&snapshot().env("ENGRAM_API_KEY", ROOT).output().unwrap());
    let file = directory.path().join("a-key");
    fs::write(&file, ROOT).unwrap();
    printed(&snapshot().arg("--api-key-file").arg(&file).output().unwrap());
    for verb in ["start", "snapshot"] {
        let help = engram(&[verb, "--help"]).env("ENGRAM_API_KEY", ROOT).output().unwrap();
        let help = printed(&help);
        assert!(help.contains("ENGRAM_API_KEY") && !help.contains(ROOT), "{help}");
    }
}
