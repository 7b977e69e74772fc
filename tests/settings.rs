//! Flags, variables, a file and defaults: what goes before what, and what is said of what is wrong.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use server::Server;
use tempfile::TempDir;

/// A directory with a file of settings.
fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("engram.toml");
    fs::write(&path, text).unwrap();
    (directory, path)
}

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn engram(arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    let output = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The settings, with this file.
fn show(file: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Value {
    let arguments = ["config", "show", "--json", "--config", file.to_str().unwrap()];
    let said = engram(&[&arguments, flags].concat(), variables);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    let text = r#"
        # Each kind of value.
        listen = "127.0.0.1:1"
        capacity = 5_000
        recall_target = 0.95
        insecure = true
        allowed_hosts = ["one.example", "two.example:8443"]
    "#;
    let (_directory, file) = file(text);
    let from = |value: Value, from: &str| json!({ "value": value, "from": from });
    let settings = show(&file, &[], &[]);
    assert_eq!(settings["listen"], from(json!("127.0.0.1:1"), "config"));
    assert_eq!(settings["capacity"], from(json!(5_000), "config"));
    assert_eq!(settings["recall_target"], from(json!("0.95"), "config"));
    assert_eq!(settings["insecure"], from(json!(true), "config"));
    assert_eq!(settings["allowed_hosts"], from(json!(["one.example", "two.example:8443"]), "config"));
    assert_eq!(settings["fsync"], from(json!("per-batch"), "default"));
    assert_eq!(settings["embed_url"], from(Value::Null, "not set"));

    let variables =
        [("ENGRAM_LISTEN", "127.0.0.1:2"), ("ENGRAM_INSECURE", "false"), ("ENGRAM_CAPACITY", "6")];
    let settings = show(&file, &["--listen", "127.0.0.1:3", "--allowed-host", "three.example"], &variables);
    assert_eq!(settings["listen"], from(json!("127.0.0.1:3"), "--listen"));
    assert_eq!(settings["allowed_hosts"], from(json!(["three.example"]), "--allowed-host"));
    assert_eq!(settings["capacity"], from(json!(6), "ENGRAM_CAPACITY"));
    assert_eq!(settings["insecure"], from(json!(false), "ENGRAM_INSECURE"));
    // One that is empty is not set.
    assert_eq!(show(&file, &[], &[("ENGRAM_CAPACITY", "")])["capacity"], from(json!(5_000), "config"));
}

#[test]
fn what_is_shown_is_a_file_that_says_the_same() {
    let (directory, path) =
        file("embed_url = \"http://127.0.0.1:1/v1\"\nembed_model = \"4.10\"\ncapacity = 7\n");
    let shown = engram(&["config", "show"], &[("ENGRAM_CONFIG", path.to_str().unwrap())]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(
        shown.stdout.contains("embed_model = \"4.10\"") && shown.stdout.contains("# config"),
        "{}",
        shown.stdout
    );
    let again = directory.path().join("again.toml");
    fs::write(&again, &shown.stdout).unwrap();
    let (once, twice) = (show(&path, &[], &[]), show(&again, &[], &[]));
    for (key, value) in once.as_object().unwrap() {
        assert_eq!(value["value"], twice[key]["value"], "{key}");
    }
}

#[test]
fn secrets_are_neither_taken_from_the_file_nor_shown() {
    let (_directory, path) = file("");
    let secret = [("ENGRAM_API_KEY", "hush-hush-hush"), ("ENGRAM_EMBED_KEY", "hush-hush-hush")];
    for format in [&["config", "show"][..], &["config", "show", "--json"]] {
        let said = engram(format, &secret);
        assert!(said.stdout.contains("ENGRAM_API_KEY") && said.stdout.contains("ENGRAM_EMBED_KEY"));
        assert!(!said.stdout.contains("hush") && !said.stderr.contains("hush"), "{}", said.stdout);
    }
    fs::write(&path, "api_key = \"hush\"").unwrap();
    let said = engram(&["config", "show", "--config", path.to_str().unwrap()], &[]);
    assert_eq!(said.code, Some(78));
    assert!(said.stderr.contains("api_key_file") && !said.stderr.contains("hush"), "{}", said.stderr);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, code, expected) in [
        ("\n\nlisten = ", 78, "line 3: this is no TOML"),
        ("fsync = \"none\"\nfsnc = \"none\"\n", 78, "line 2: there is no setting \"fsnc\""),
        ("data-dir = \"x\"", 78, "it is called data_dir"),
        ("allowed_host = \"x\"", 78, "it is called allowed_hosts"),
        ("config = \"x\"", 78, "there is no setting \"config\""),
        ("[server]\nlisten = \"x\"", 78, "line 1: there is no setting \"server\""),
        (
            "listen = 2026-01-01",
            78,
            "listen: expected a text, a number, true or false, or a list of texts, got a time",
        ),
        ("capacity = [7, 8]", 78, "got a list: it takes one value"),
        ("listen = []", 78, "got a list: it takes one value"),
        ("allowed_hosts = [[\"x\"]]", 78, "got a list in a list"),
        ("fsync = \"sometimes\"", 2, "for 'fsync of "),
        ("capacity = \"many\"", 2, "for 'capacity of "),
        ("capacity = -1", 2, "for 'capacity of "),
        ("capacity = 0", 78, "expected a capacity of at least 1, got 0"),
    ] {
        let (_directory, path) = file(text);
        let said = engram(&["start", "--config", path.to_str().unwrap()], &[]);
        assert_eq!(said.code, Some(code), "{text}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "{text}: {}", said.stderr);
    }
    let said = engram(&["start", "--config=/nowhere/engram.toml"], &[]);
    assert_eq!(said.code, Some(78));
    assert!(said.stderr.contains("/nowhere/engram.toml"), "{}", said.stderr);
    // Not its affair: it talks to a server.
    let nowhere = [("ENGRAM_CONFIG", "/nowhere/engram.toml"), ("ENGRAM_SERVER", "http://127.0.0.1:1")];
    assert_eq!(engram(&["get", "x"], &nowhere).code, Some(69));
}

#[test]
fn a_server_and_the_verbs_of_its_directory_go_by_one_file() {
    let (directory, path) = file("listen = \"127.0.0.1:0\"\ncapacity = 3\n");
    let data_dir = directory.path().join("memories");
    let text = format!("{}data_dir = {:?}\n", fs::read_to_string(&path).unwrap(), data_dir);
    fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
    command.args(["start", "--config"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
    let server = Server::spawn(command);
    assert_eq!(server.get("/v1/status").expect(200)["capacity"], 3);
    server.post("/v1/memories", &json!({ "id": "x", "content": "by one file" })).expect(201);
    let stopped = engram(&["stop", "--config", path.to_str().unwrap()], &[]);
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    let verified = engram(&["verify", "--json"], &[("ENGRAM_CONFIG", path.to_str().unwrap())]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
    assert!(data_dir.join("wal").is_dir());
}

#[test]
fn completions_and_pages_of_the_manual_know_all_verbs() {
    let secret = [("ENGRAM_EMBED_URL", "http://hush.example/v1")];
    for shell in ["bash", "zsh", "fish"] {
        let script = engram(&["completions", shell], &secret);
        assert_eq!(script.code, Some(0), "{}", script.stderr);
        assert!(["remember", "doctor", "config"].iter().all(|verb| script.stdout.contains(verb)), "{shell}");
    }
    let (directory, _) = file("");
    let written = engram(&["man", "--dir", directory.path().to_str().unwrap()], &secret);
    assert_eq!((written.code, &*written.stdout, &*written.stderr), (Some(0), "", ""));
    for name in ["engram", "engram-start", "engram-recall", "engram-wal-dump", "engram-config-show"] {
        let page = fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && !page.contains("hush"), "{name}");
    }
    let page = engram(&["man", "wal", "dump"], &[]).stdout;
    assert_eq!(page, fs::read_to_string(directory.path().join("engram-wal-dump.1")).unwrap());
    let said = engram(&["man", "fly"], &[]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr.contains("expected a verb, got \"fly\"") && said.stderr.contains("recall"),
        "{}",
        said.stderr
    );
}

/// What a verb is about is no setting: a file must not decide what is restored over, nor which store a snapshot is of.
#[test]
fn a_file_has_no_say_in_what_is_restored() {
    for verb in [&["restore", "x.snap", "--data-dir", "x"][..], &["snapshot"], &["recall", "x"]] {
        let said = engram(&[verb, &["--config", "engram.toml"]].concat(), &[]);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.contains("unexpected argument '--config'"), "{}", said.stderr);
    }
}

/// The page that tells of the settings knows each by its key and by its flag.
#[test]
fn each_setting_is_in_the_documentation() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md")).unwrap();
    let (_directory, path) = file("");
    for key in show(&path, &[], &[]).as_object().unwrap().keys() {
        let row = page.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{key}`")));
        let flag = format!("--{}", key.trim_end_matches('s').replace('_', "-"));
        assert!(row.is_some_and(|row| row.contains(&flag)), "{key} is not in docs/configuration.md");
    }
}

/// Each verb says what is wrong with a value, wherever it comes from.
#[test]
fn a_wrong_value_of_any_verb_is_named() {
    let (_directory, path) = file("capacity = \"lots\"");
    let path = path.to_str().unwrap();
    for (arguments, variables, expected) in [
        (&["recall", "x", "--limit", "ten"][..], &[][..], "'--limit <N>'"),
        (&["remember", "x", "--id"], &[], "'--id <ID>'"),
        (&["wal", "dump", "--limit", "x"], &[], "'--limit <N>'"),
        (&["space", "make", "x", "--capacity", "x"], &[], "'--capacity <N>'"),
        (&["key", "create", "--name", "x", "--access", "x"], &[], "'--access <ACCESS>'"),
        (&["completions", "tcsh"], &[], "'<SHELL>'"),
        (&["crashtest", "--rounds", "0"], &[], "'--rounds <N>'"),
        (&["verify", "--data-dir"], &[], "'--data-dir <DIR>'"),
        (&["doctor"], &[("ENGRAM_CAPACITY", "bogus")], "'ENGRAM_CAPACITY'"),
        (&["config", "show"], &[("ENGRAM_INSECURE", "maybe")], "'ENGRAM_INSECURE'"),
        (&["start", "--listen", "0.0.0.0:0"], &[("ENGRAM_INSECURE", "none")], "'ENGRAM_INSECURE'"),
        (&["config", "show", "--config", path], &[], "'capacity of "),
        (&["doctor", "--config", path], &[], "'capacity of "),
    ] {
        let said = engram(arguments, variables);
        assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.stderr);
        assert!(
            said.stderr.contains(expected) && !said.stderr.contains("panicked"),
            "{arguments:?}: {}",
            said.stderr
        );
    }
}
