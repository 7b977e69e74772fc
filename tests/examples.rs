//! The examples do what they say.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "../examples/journal.rs"]
mod journal;
#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use server::Server;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What the agent says to these lines; nothing where there is no Python.
fn agent(url: &str, lines: &str) -> Option<String> {
    let mut child = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/agent.py"))
        .env("ENGRAM_SERVER", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn an_agent_still_knows_after_its_server_was_killed() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    let Some(said) = agent(&server.url, "What does Grace drink?\nGrace drinks black coffee\n") else {
        return skip::because("there is no python3");
    };
    assert!(said.starts_with("I know nothing about that yet.") && said.contains(", synced)"), "{said}");
    server.kill();
    let server = Server::start(directory.path(), &[]);
    let said = agent(&server.url, "What does Grace drink?\n").unwrap();
    assert!(said.starts_with("I remember:\n- Grace drinks black coffee ("), "{said}");
}

#[test]
fn a_journal_still_knows_after_its_process_has_ended() {
    let directory = directory();
    let run = |lines: &[&str]| journal::journal(&directory.path().join("journal"), lines).unwrap();
    assert_eq!(run(&["what does Ada drink?"]), ["0 kept so far", "nothing is known"]);
    let kept = run(&["Ada prefers green tea"]);
    assert!(kept[1].starts_with("Created at LSN "), "{kept:?}");
    assert_eq!(run(&["which tea?"]), ["1 kept so far", "Ada prefers green tea"]);
}
