//! The real server at the limits that the system sets it: memory, address space, open files.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was seen, or why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/load.rs"]
mod load;
#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use load::{check, under_load, wait_until};
use serde_json::json;
use server::{Client, Server, command_after};

const CONTENT_BYTES: usize = 100_000;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A group of processes that the kernel gives only so much memory; removed when dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn make(limit_bytes: u64) -> Result<Self, String> {
        let group = Self(
            Path::new("/sys/fs/cgroup/memory").join(format!("engram-test-{}-{limit_bytes}", process::id())),
        );
        fs::create_dir(&group.0).map_err(|e| format!("{}: {e}", group.0.display()))?;
        let limited = fs::write(group.0.join("memory.limit_in_bytes"), limit_bytes.to_string());
        limited.map(|()| group).map_err(|e| format!("memory cannot be limited: {e}"))
    }

    fn kills(&self) -> u64 {
        let control = fs::read_to_string(self.0.join("memory.oom_control")).unwrap();
        control.lines().find_map(|line| line.strip_prefix("oom_kill ")).unwrap().parse().unwrap()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Busy until the kernel has put the last process away.
        for _ in 0..1_000 {
            if fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_server_that_the_kernel_kills_for_its_memory_has_lost_nothing() {
    let group = match MemoryGroup::make(64 << 20) {
        Ok(group) => group,
        Err(reason) => return skip::because(&reason),
    };
    let directory = directory();
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let server = Server::spawn(command_after(&enter, directory.path(), &["--memory-limit", "1000000000"]));
    let acknowledged = under_load(&server, 4, CONTENT_BYTES, |_| {
        wait_until("the kernel kills", || group.kills() > 0);
    });
    let (status, log) = server.wait();
    assert_eq!(status.code(), None, "{log}");
    println!("killed after {} memories of {CONTENT_BYTES} bytes", acknowledged.len());
    assert!(!acknowledged.is_empty());
    check(&Server::start(directory.path(), &[]), &acknowledged, CONTENT_BYTES);
}

#[test]
fn a_server_refuses_what_its_memory_has_no_room_for_before_the_kernel_kills_it() {
    let group = match MemoryGroup::make(128 << 20) {
        Ok(group) => group,
        Err(reason) => return skip::because(&reason),
    };
    let directory = directory();
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let server = Server::spawn(command_after(&enter, directory.path(), &[]));
    let status = server.get("/v1/status").expect(200);
    assert_eq!(status["memory_limit"], (128 << 20) / 100 * 70, "a share of what the group gives: {status}");
    let store = |id: usize| {
        server.post("/v1/memories", &json!({"id": id.to_string(), "content": format!("{id} ").repeat(5_000)}))
    };
    let refused = (0..20_000).find(|n| store(*n).status != 201).expect("a limit");
    let problem = store(refused).problem(507, "memory_limit_reached");
    println!("refused after {refused} memories: {problem}");
    assert!(refused > 500, "{refused}");
    // What is there can be read, replaced and forgotten, and then there is room again.
    store(0).expect(200);
    server.delete("/v1/memories/1").expect(200);
    server.delete("/v1/memories/2").expect(200);
    store(refused).expect(201);
    assert_eq!((group.kills(), server.all_memories().len()), (0, refused - 1));
}

#[test]
fn a_server_that_gets_no_more_memory_has_lost_nothing() {
    let kib = {
        let directory = directory();
        let server = Server::start(directory.path(), &[]);
        server.post("/v1/memories", &json!({"content": "x"})).expect(201);
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() + (64 << 10)
    };
    let directory = directory();
    let server = Server::spawn(command_after(&format!("ulimit -c 0 -v {kib}"), directory.path(), &[]));
    // Each client ends when it is refused, or the server is no more.
    let acknowledged = under_load(&server, 4, CONTENT_BYTES, |count| {
        let is_gone = || {
            assert!(count() < 5_000, "there was no limit");
            fs::read_to_string(format!("/proc/{}/stat", server.pid())).is_ok_and(|it| it.contains(") Z "))
        };
        wait_until("the server ends", is_gone);
    });
    assert!(!acknowledged.is_empty());
    println!("ended after {} memories of {CONTENT_BYTES} bytes", acknowledged.len());
    server.kill();
    check(&Server::start(directory.path(), &[]), &acknowledged, CONTENT_BYTES);
}

#[test]
fn a_server_without_free_file_descriptors_goes_on_for_who_is_there() {
    let directory = directory();
    let server = Server::spawn(command_after("ulimit -n 64", directory.path(), &[]));
    // This client has a connection, and keeps it.
    server.post("/v1/memories", &json!({"id": "first", "content": "x"})).expect(201);
    let address = server.url.trim_start_matches("http://").to_owned();
    // More than the server has files.
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // Over several segments: the log still gets its files.
    for n in 0..40 {
        server
            .post("/v1/memories", &json!({"id": format!("m{n}"), "content": "y".repeat(14_000)}))
            .expect(201);
    }
    drop(idle);
    let other = Client::of(server.url.clone());
    let has_place = || other.try_get("/v1/status").is_some_and(|answer| answer.status == 200);
    wait_until("there is a place for one more", has_place);
    other.post("/v1/memories", &json!({"id": "last", "content": "x"})).expect(201);
    server.kill();
    assert_eq!(Server::start(directory.path(), &["--recovery", "torn-tail"]).all_memories().len(), 42);
}
