//! The Model Context Protocol, line by line: `engram mcp` as a client starts it, and `POST /mcp`. What an official SDK makes
//! of it is in `tests/mcp/`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
};

use serde_json::{Value, json};
use server::Server;

/// The revisions that begin with a handshake.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `engram mcp` as a client has it.
struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    id: u64,
}

impl Client {
    fn start(server: &str, data_dir: &Path) -> Self {
        Self::start_with(server, data_dir, &[])
    }

    fn start_with(server: &str, data_dir: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_engram"))
            .args(["mcp", "--server", server, "--data-dir"])
            .arg(data_dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { stdin: child.stdin.take(), child, stdout, id: 0 }
    }

    /// Sends a request; the result. Any line that is no answer to it fails the test.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.id += 1;
        let request = json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params});
        writeln!(self.stdin.as_mut().unwrap(), "{request}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        assert_eq!(answer["id"], self.id, "{answer}");
        answer["result"].clone()
    }

    fn shake_hands(&mut self, revision: &str) -> Value {
        let hello = self.ask("initialize", &hello(revision));
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        writeln!(self.stdin.as_mut().unwrap(), "{done}").unwrap();
        hello
    }

    /// What a tool answers.
    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        structured(&self.ask("tools/call", &json!({"name": tool, "arguments": arguments})))
    }

    /// What a model reads of a tool that does nothing.
    fn refusal(&mut self, tool: &str, arguments: &Value) -> String {
        refusal(&self.ask("tools/call", &json!({"name": tool, "arguments": arguments})))
    }

    /// Closes standard input; nothing more comes, and all is well.
    fn end(mut self) {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

fn hello(revision: &str) -> Value {
    json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}})
}

fn structured(result: &Value) -> Value {
    assert_eq!(result["isError"], false, "{result}");
    let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, result["structuredContent"]);
    text
}

fn refusal(result: &Value) -> String {
    assert_eq!(result["isError"], true, "{result}");
    let text = result["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("\nWhat to do: "), "{text}");
    text
}

/// A server that `engram mcp` has started; killed when dropped.
struct Started(PathBuf);

impl Started {
    fn pid(&self) -> String {
        fs::read_to_string(self.0.join("wal/LOCK")).unwrap()
    }

    fn kill(&self) {
        assert!(Command::new("kill").args(["-9", &self.pid()]).status().unwrap().success());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.0.join("wal/LOCK")) {
            drop(Command::new("kill").args(["-9", &pid]).status());
        }
    }
}

#[test]
fn a_server_is_started_shared_killed_and_started_again() {
    let directory = directory();
    let data_dir = directory.path().join("not-there-yet");
    let url = format!("http://127.0.0.1:{}", free_port());
    let started = Started(data_dir.clone());
    // Both find nobody there. One gets the address, the other its server.
    let mut clients = [Client::start(&url, &data_dir), Client::start(&url, &data_dir)];
    for client in &mut clients {
        client.shake_hands("2025-11-25");
    }
    let receipt = clients[0].call("remember", &json!({"content": "Ada prefers green tea", "id": "tea"}));
    assert_eq!((&receipt["outcome"], &receipt["durability"]), (&json!("created"), &json!("synced")));
    assert_eq!(clients[1].call("get_memory", &json!({"id": "tea"}))["lsn"], receipt["lsn"]);

    let before = started.pid();
    started.kill();
    for client in &mut clients {
        let recalled = client.call("recall", &json!({"query": "green tea"}));
        assert_eq!(recalled["results"][0]["id"], "tea");
    }
    assert_ne!(started.pid(), before);
    // It goes on when they go.
    for client in clients {
        client.end();
    }
    let mut other = Client::start(&url, &directory.path().join("unused"));
    other.shake_hands("2025-11-25");
    assert_eq!(other.call("memory_status", &json!({}))["memories"], 1);
    other.end();
    assert!(!directory.path().join("unused").exists());
}

#[test]
fn every_revision_has_its_handshake_before_there_is_a_server() {
    // A directory that cannot be made: there never is a server.
    let nowhere = Path::new("/dev/null/data");
    for revision in REVISIONS {
        let mut client = Client::start(&format!("http://127.0.0.1:{}", free_port()), nowhere);
        let hello = client.shake_hands(revision);
        assert_eq!(hello["protocolVersion"], revision);
        assert_eq!(hello["serverInfo"]["name"], "engram");
        assert_eq!(hello["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(hello["instructions"].as_str().unwrap().contains("memory"));
        assert_eq!(client.ask("tools/list", &json!({}))["tools"].as_array().unwrap().len(), 7);
        let text = client.refusal("recall", &json!({"query": "x"}));
        assert!(text.contains("could be started") && text.contains("/dev/null/data"), "{text}");
        client.end();
    }
    // One on another machine is not started.
    let mut client = Client::start(&format!("http://0.0.0.0:{}", free_port()), nowhere);
    client.shake_hands("2025-06-18");
    let text = client.refusal("memory_status", &json!({}));
    assert!(text.contains("no answer from the Engram server at http://0.0.0.0"), "{text}");
    assert!(text.contains("engram start"), "{text}");
    client.end();
    // Who goes at once has done nothing wrong.
    Client::start(&format!("http://0.0.0.0:{}", free_port()), nowhere).end();
}

#[test]
fn the_api_key_goes_along_and_is_never_told() {
    let directory = directory();
    let file = directory.path().join("key");
    fs::write(&file, "from-a-file\n").unwrap();
    for (variable, value, key) in [
        ("ENGRAM_API_KEY", "from-a-variable", "from-a-variable"),
        ("ENGRAM_API_KEY_FILE", file.to_str().unwrap(), "from-a-file"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // It answers everything, to the end of the test, and tells the heads of the requests of tools.
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                let body =
                    json!({"detail": "no", "suggestion": "Ask for a key.", "code": "of_its_own"}).to_string();
                let status = if head.contains("/v1/") { "403 Forbidden" } else { "200 OK" };
                // Who breaks off needs no answer.
                drop(write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
                if head.contains("/v1/") {
                    drop(tell.send(head));
                }
            }
        });
        let _started = Started(directory.path().to_owned());
        let mut client = Client::start_with(&url, directory.path(), &[(variable, value)]);
        client.shake_hands("2025-06-18");
        let text = client.refusal("get_memory", &json!({"id": "a"}));
        assert_eq!(text, "of_its_own: no\nWhat to do: Ask for a key.");
        let head = told.recv().unwrap();
        assert!(head.contains(&format!("authorization: Bearer {key}\r\n")), "{head}");
        client.end();
    }
}

/// A request over HTTP, of the handshake's revisions; the status and the answer.
fn post(server: &Server, headers: &[(&str, &str)], method: &str, params: &Value) -> (u16, Value) {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let accept = [("accept", "application/json, text/event-stream"), ("content-type", "application/json")];
    let headers: Vec<_> = accept.iter().chain(headers).copied().collect();
    let answer = server.request("POST", "/mcp", &headers, &body);
    (answer.status, serde_json::from_str(&answer.text).unwrap_or_default())
}

#[test]
fn over_http_each_request_stands_for_itself_and_pages_of_others_are_refused() {
    let directory = directory();
    let server = Server::start(directory.path(), &[]);
    for revision in REVISIONS {
        let (status, answer) = post(&server, &[], "initialize", &hello(revision));
        assert_eq!((status, &answer["result"]["protocolVersion"]), (200, &json!(revision)), "{answer}");
    }
    let call = |arguments: Value| json!({"name": "remember", "arguments": arguments});
    let (_, answer) = post(&server, &[], "tools/call", &call(json!({"content": "x", "id": "a"})));
    assert_eq!(structured(&answer["result"])["outcome"], "created");
    assert_eq!(server.memory("a").unwrap()["content"], "x");
    let (_, answer) = post(&server, &[], "tools/call", &call(json!({"content": "y", "id": "a"})));
    let text = refusal(&answer["result"]);
    assert!(text.starts_with("version_mismatch: ") && text.contains("update_memory"), "{text}");
    assert_eq!(server.memory("a").unwrap()["content"], "x");
    // The revision without a handshake.
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "server/discover")];
    let (status, answer) = post(&server, &headers, "server/discover", &json!({"_meta": meta}));
    assert_eq!(status, 200, "{answer}");
    let versions = answer["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2024-11-05")), "{answer}");

    for header in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
        assert_eq!(post(&server, &[header], "tools/list", &json!({})).0, 403, "{header:?}");
    }
    assert_eq!(server.get("/mcp").status, 405);
    assert_eq!(
        server.request("POST", "/mcp", &[("accept", "application/json, text/event-stream")], "{").status
            / 100,
        4
    );
    assert_eq!(server.get("/v1/status").expect(200)["memories"], 1);
}

/// While somebody starts it again, no other takes its place.
#[test]
fn a_server_that_was_not_started_here_is_not_replaced() {
    let (of_others, own) = (directory(), directory());
    let server = Server::start(of_others.path(), &[]);
    let mut client = Client::start(&server.url, own.path());
    client.shake_hands(REVISIONS[0]);
    client.call("remember", &json!({"content": "x"}));
    server.kill();
    let text = client.refusal("recall", &json!({"query": "x"}));
    assert!(text.contains("has answered before and does not now"), "{text}");
    assert!(!own.path().join("wal").exists());
    client.end();
}

#[test]
fn no_log_has_what_is_remembered_at_any_level() {
    let directory = directory();
    let server =
        Server::start(directory.path(), &["--log", "trace,rmcp=trace,rmcp::service=trace,[request]=trace"]);
    let secrets = ["nobodys-affair", "an-id-of-it", "what-is-asked"];
    let call = |name: &str, arguments: Value| {
        let (status, _) = post(&server, &[], "tools/call", &json!({"name": name, "arguments": arguments}));
        assert_eq!(status, 200);
    };
    call("remember", json!({"content": secrets[0], "id": secrets[1]}));
    call("recall", json!({"query": secrets[2]}));
    call("get_memory", json!({"id": secrets[1]}));
    let (_, log) = server.stop();
    assert!(log.contains("DEBUG"), "{log}");
    for secret in secrets {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_tool_may_what_the_key_may() {
    let directory = directory();
    let arguments = ["key", "create", "--name", "reader", "--access", "read", "--data-dir"];
    let made =
        Command::new(env!("CARGO_BIN_EXE_engram")).args(arguments).arg(directory.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bearer = format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim());
    let server = Server::start(directory.path(), &[]);
    let call = |tool: &str, arguments: Value| {
        let params = json!({"name": tool, "arguments": arguments});
        post(&server, &[("authorization", &bearer)], "tools/call", &params)
    };
    assert_eq!(post(&server, &[], "tools/list", &json!({})).0, 401);
    let (_, answer) = call("recall", json!({"query": "x"}));
    assert_eq!(structured(&answer["result"])["results"], json!([]));
    let (status, answer) = call("remember", json!({"content": "x"}));
    assert_eq!(status, 200);
    let text = refusal(&answer["result"]);
    assert!(text.starts_with("forbidden: ") && text.contains("reader"), "{text}");
}

/// It listens before it reads its log, and ends over what it finds there.
#[test]
fn a_server_that_ends_over_its_log_is_told_of_with_its_reason() {
    let directory = directory();
    let wal = directory.path().join("wal");
    fs::create_dir(&wal).unwrap();
    fs::write(wal.join("wal-00000000000000000001.log"), [0xff; 4096]).unwrap();
    let mut client = Client::start(&format!("http://127.0.0.1:{}", free_port()), directory.path());
    client.shake_hands("2025-11-25");
    for _ in 0..2 {
        let text = client.refusal("recall", &json!({"query": "x"}));
        assert!(text.contains("exit status: 65") && text.contains("server.log"), "{text}");
    }
    client.end();
}
