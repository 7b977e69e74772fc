//! `engram remember`, `recall`, `get`, `list`, `forget`, `import`, `export`, `status`, `space` and `stop`: as they are typed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    process::{Command, Stdio},
};

use serde_json::Value;
use server::Server;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What a command has said, and how it ended.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    /// What is on standard output, of a command that ends well and has nothing else to say.
    fn well(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }

    /// What is on standard error, of a command that ends with this code.
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }
}

/// Runs `engram` with this on standard input.
fn engram(url: &str, arguments: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_engram"))
        .args(arguments)
        .env("ENGRAM_SERVER", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended by now.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn memories_are_stored_found_read_listed_and_forgotten() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let run = |arguments: &[&str]| engram(&server.url, arguments, "");
    let tea = ["remember", "Ada prefers green tea", "--id", "tea", "--meta", "user=ada", "--meta", "stars=5"];
    assert_eq!(run(&tea).well(), "tea  created, synced\n");
    let receipt = json(&engram(&server.url, &["remember", "-", "--json"], "from\nstandard input\n").well());
    assert_eq!(receipt["outcome"], "created");
    let stored = server.memory(receipt["id"].as_str().unwrap()).unwrap();
    assert_eq!(stored["content"], "from\nstandard input");

    let found = run(&["recall", "what tea does Ada drink?", "--filter", "{\"stars\": {\"gte\": 5}}"]).well();
    assert!(found.ends_with("tea  Ada prefers green tea\n") && found.lines().count() == 1, "{found}");
    let found = json(&run(&["recall", "tea", "--json", "--limit", "1"]).well());
    assert_eq!(found["results"][0]["id"], "tea");
    assert!(run(&["get", "tea"]).well().ends_with("\n\nAda prefers green tea\n"));
    assert_eq!(json(&run(&["get", "tea", "--json"]).well())["metadata"]["user"], "ada");
    let listed = run(&["list"]).well();
    assert!(listed.lines().count() == 2 && listed.contains("from standard input"), "{listed}");
    let listed = run(&["list", "--json", "--filter", "{\"user\": \"ada\"}"]).well();
    assert_eq!(json(&listed)["id"], "tea");
    assert_eq!(run(&["list", "--limit", "1"]).well().lines().count(), 1);

    assert_eq!(run(&["forget", "--all", "--dry-run"]).well(), "2 memories would be forgotten\n");
    assert_eq!(run(&["forget", "tea"]).well(), "tea  deleted, synced\n");
    assert_eq!(run(&["forget", "--all"]).well(), "1 memory forgotten\n");
    let refused = run(&["get", "tea"]).fails(1);
    assert!(refused.contains("help: check the id"), "{refused}");
}

#[test]
fn what_is_exported_is_imported_elsewhere() {
    let directory = directory();
    let server = Server::start(&directory.path().join("a"), &[]);
    let line = |n| {
        format!("{{\"id\": \"m{n}\", \"content\": \"memory {n}\", \"when\": \"2026-03-01T09:30:00Z\"}}\n")
    };
    let lines = (0..3_000).map(line).collect::<Vec<_>>().concat();
    let imported = engram(&server.url, &["import", "-"], &lines).well();
    assert_eq!(imported, "3000 lines: 3000 created, 0 updated, 0 unchanged\n");
    let file = directory.path().join("all.jsonl");
    let export = ["export", file.to_str().unwrap()];
    let said = engram(&server.url, &export, "");
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (Some(0), "", "3000 memories written\n")
    );
    let refused = engram(&server.url, &export, "").fails(1);
    assert!(refused.contains("name a file that does not exist"), "{refused}");
    let other = Server::start(&directory.path().join("b"), &[]);
    let imported = json(&engram(&other.url, &["import", file.to_str().unwrap(), "--json"], "").well());
    assert_eq!((&imported["created"], &imported["refused"]), (&3_000.into(), &0.into()));
    assert_eq!(engram(&other.url, &["export"], "").well(), fs::read_to_string(&file).unwrap());

    // Lines that are wrong are named, and the others stored.
    let refused = engram(&other.url, &["import", "-"], "{\"content\": \"x\"}\n{\"content\": 1}\n").fails(65);
    assert!(
        refused.contains("1 line was refused\n  line 2: ") && refused.contains("help: correct"),
        "{refused}"
    );
    let missing = engram(&other.url, &["import", "/nowhere/file"], "").fails(65);
    assert!(missing.contains("cannot read /nowhere/file"), "{missing}");
}

#[test]
fn spaces_and_status_are_told() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let run = |arguments: &[&str]| engram(&server.url, arguments, "");
    assert_eq!(run(&["space", "make", "work", "--capacity", "9"]).well(), "work  created, synced\n");
    run(&["remember", "x", "--space", "work"]).well();
    let spaces = run(&["space", "list"]).well();
    assert!(spaces.contains("work     1 memory of 9 at most"), "{spaces}");
    assert_eq!(run(&["list", "--space", "default", "--json"]).well(), "");
    let status = run(&["status"]).well();
    assert!(
        status.contains("1 memory in 2 spaces") && status.contains("durable, fsync per-batch"),
        "{status}"
    );
    assert_eq!(json(&run(&["status", "--json"]).well())["memories"], 1);
    assert_eq!(run(&["space", "drop", "work", "--yes"]).well(), "work  deleted, synced\n");
    run(&["list", "--space", "work"]).fails(1);
}

#[test]
fn what_is_not_there_is_told_in_the_words_of_the_command_line() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let run = |arguments: &[&str]| engram(&server.url, arguments, "");
    for (arguments, told) in [(&["recall", "x"][..], "nothing found\n"), (&["list"], "no memories\n")] {
        let said = run(arguments);
        assert_eq!((said.code, &*said.stdout, &*said.stderr), (Some(0), "", told));
        assert_eq!(run(&[arguments, &["--json"]].concat()).stderr, "");
    }
    assert!(run(&["get", "x"]).fails(1).contains("`engram list`"));
    assert!(run(&["get", "x", "--space", "s"]).fails(1).contains("`engram space make`"));
    for arguments in
        [&["get", ""][..], &["forget", ""], &["remember", "x", "--id", ""], &["space", "make", ""]]
    {
        assert!(run(arguments).fails(2).contains("a value is required"), "{arguments:?}");
    }
    assert!(run(&["store", "x", "--id", "a"]).well().starts_with("a  created"));
    assert!(run(&["search", "x"]).well().contains("  a  "));
    assert!(run(&["delete", "a"]).well().starts_with("a  deleted"));
}

#[test]
fn without_a_server_help_says_how_to_start_one() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for arguments in
        [&["remember", "x"][..], &["recall", "x"], &["list"], &["status"], &["space", "list"], &["export"]]
    {
        let said = engram(&url, arguments, "").fails(69);
        assert!(said.contains(&url) && said.contains("help: start it with `engram start`"), "{said}");
    }
    engram(&url, &["forget"], "").fails(2);
    let said = engram(&url, &["recall", "x", "--filter", "{user}"], "").fails(2);
    assert!(said.contains("--filter: expected JSON, got \"{user}\""), "{said}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let long = "long ".repeat(1_000);
    let line = |n| format!("{{\"id\": \"{n}\", \"content\": \"{long}\"}}\n");
    let lines = (0..500).map(line).collect::<Vec<_>>().concat();
    engram(&server.url, &["import", "-"], &lines).well();
    for verb in ["list", "list --json", "export"] {
        let shell =
            format!("{} {verb} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_engram"));
        let output =
            Command::new("bash").args(["-c", &shell]).env("ENGRAM_SERVER", &server.url).output().unwrap();
        let said = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(said, ("0\n".to_owned(), String::new()), "{verb}");
    }
}

#[test]
fn a_server_is_stopped_by_its_directory() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    engram(&server.url, &["remember", "x", "--id", "a"], "").well();
    let stop = ["stop", "--data-dir", directory.path().to_str().unwrap()];
    let said = engram(&server.url, &stop, "").well();
    assert_eq!(
        said,
        format!("stopped the server of {}, process {}\n", directory.path().display(), server.pid())
    );
    assert_eq!(server.wait().0.code(), Some(0));
    let said = engram("", &stop, "").fails(69);
    assert!(said.contains("no server runs on"), "{said}");
    let server = Server::start(directory.path(), &["--recovery", "strict"]);
    assert_eq!(server.memory("a").unwrap()["content"], "x");
}
