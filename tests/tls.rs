//! TLS by the server itself.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use server::{Client, Server, command};

/// Far longer than the server takes with anybody.
const PATIENCE: Duration = Duration::from_mins(2);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tls").join(name)
}

fn tls(data_dir: &Path) -> Command {
    let mut command = command(data_dir, &[]);
    command.arg("--tls-cert").arg(fixture("certificate.pem")).arg("--tls-key").arg(fixture("key.pem"));
    command
}

/// A server, and a client that trusts it.
fn start(data_dir: &Path) -> (Server, Client) {
    let server = Server::spawn(tls(data_dir));
    let client = Client::trusting(server.url.clone(), &fs::read(fixture("certificate.pem")).unwrap());
    (server, client)
}

#[test]
fn memories_are_stored_and_recalled_over_tls_alone() {
    let directory = directory();
    let (server, client) = start(directory.path());
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    client.post("/v1/memories", &json!({"id": "a", "content": "green tea"})).expect(201);
    let recall = client.post("/v1/recall", &json!({"query": "tea"})).expect(200);
    assert_eq!(recall["results"][0]["id"], "a");
    // Who trusts the public authorities does not trust this one.
    assert!(Client::of(server.url.clone()).try_get("/healthz").is_none());
    // Who speaks in the clear gets nothing, and does no harm.
    assert!(Client::of(server.url.replace("https", "http")).try_get("/healthz").is_none());
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
}

#[test]
fn a_client_that_does_not_agree_on_a_key_is_let_go_of_and_others_are_served() {
    let directory = directory();
    let (server, client) = start(directory.path());
    let mut silent: Vec<TcpStream> = (0..100)
        .map(|n| {
            let mut stream = TcpStream::connect(server.url.trim_start_matches("https://")).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // Nothing, or the begin of a hello.
            stream.write_all(&[22, 3, 1, 2, 0][..n % 6]).unwrap();
            stream
        })
        .collect();
    client.post("/v1/memories", &json!({"id": "a", "content": "x"})).expect(201);
    for stream in &mut silent {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("the server keeps the connection for ever")
            }
            Ok(_) | Err(_) => {}
        }
    }
    client.get("/v1/memories/a").expect(200);
    // Nor does one keep a server from its end.
    let stream = TcpStream::connect(server.url.trim_start_matches("https://")).unwrap();
    let (status, log) = server.stop();
    assert!(status.success() && !log.contains("still in flight"), "{log}");
    drop(stream);
}

#[test]
fn the_verbs_trust_whom_they_are_told_to() {
    let directory = directory();
    let (server, _) = start(directory.path());
    let snapshot = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engram"));
        command.args(["snapshot", "--server", &server.url]).args(arguments).output().unwrap()
    };
    let certificate = fixture("certificate.pem");
    let output = snapshot(&["--tls-ca", certificate.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(snapshot(&[]).status.code(), Some(69));
    let key = fixture("key.pem");
    assert_eq!(snapshot(&["--tls-ca", key.to_str().unwrap()]).status.code(), Some(78));
}

#[test]
fn a_certificate_that_is_renewed_is_served_to_the_next_connection() {
    let directory = directory();
    let (certificate, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let put = |from: &str, to: &Path| {
        // As tools that renew do it: the new file takes the place of the old at once.
        let new = directory.path().join("new.pem");
        fs::copy(fixture(from), &new).unwrap();
        fs::rename(&new, to).unwrap();
    };
    put("certificate.pem", &certificate);
    put("key.pem", &key);
    let mut command = command(&directory.path().join("data"), &[]);
    command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key);
    let server = Server::spawn(command);
    let is_served = |name: &str| {
        let trusted = fs::read(fixture(name)).unwrap();
        Client::trusting(server.url.clone(), &trusted).try_get("/healthz").is_some()
    };
    let (before, renewed) = ("certificate.pem", "other-certificate.pem");
    assert!(is_served(before) && !is_served(renewed));
    put(renewed, &certificate);
    assert!(is_served(before), "the certificate has no key yet");
    put("other-key.pem", &key);
    assert!(is_served(renewed) && !is_served(before));
    fs::remove_file(&key).unwrap();
    assert!(is_served(renewed));
    let (status, log) = server.stop();
    assert!(status.success() && log.matches("still serving the certificate before").count() == 2, "{log}");
}

#[test]
fn files_that_are_no_identity_are_refused_by_name() {
    let directory = directory();
    let (certificate, key) = (fixture("certificate.pem"), fixture("key.pem"));
    let other = fixture("other-key.pem");
    let missing = fixture("missing.pem");
    for (arguments, expected) in [
        (vec![("--tls-cert", &certificate)], "--tls-key"),
        (vec![("--tls-key", &key)], "--tls-cert"),
        (vec![("--tls-cert", &certificate), ("--tls-key", &missing)], "missing.pem"),
        (vec![("--tls-cert", &certificate), ("--tls-key", &other)], "other-key.pem"),
        (vec![("--tls-cert", &key), ("--tls-key", &key)], "a certificate in PEM"),
    ] {
        let mut command = command(directory.path(), &[]);
        for (flag, file) in arguments {
            command.arg(flag).arg(file);
        }
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
