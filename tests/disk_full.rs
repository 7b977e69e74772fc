//! The real server on a disk that is full, and with files that may not grow.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/block_device.rs"]
mod block_device;
#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{fs, path::Path, process::Command};

use serde_json::json;
use server::{Server, command_after};

/// A file system of a few MiB in memory, gone when dropped.
struct Tmpfs<'d>(&'d Path);

impl<'d> Tmpfs<'d> {
    fn mount(path: &'d Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "engram-test"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

/// Stores memories until one is refused; how many were stored, and the refusal.
fn fill(server: &Server, prefix: &str) -> (usize, server::Answer) {
    let content = "x".repeat(20_000);
    for n in 0..5_000 {
        let answer = server.post("/v1/memories", &json!({"id": format!("{prefix}{n}"), "content": content}));
        if answer.status != 201 {
            return (n, answer);
        }
    }
    panic!("the disk was never full");
}

#[test]
fn a_full_tmpfs_refuses_and_goes_on_when_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_tmpfs) = Tmpfs::mount(directory.path(), 8) else {
        return skip::because("mounting a tmpfs needs root");
    };
    full_and_not_full(directory.path());
}

#[test]
fn a_full_ext4_refuses_and_goes_on_when_there_is_space() {
    if let Some(reason) = block_device::cannot(&["mkfs.ext4"]) {
        return skip::because(&reason);
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (image, mount_point) = (directory.path().join("disk.img"), directory.path().join("mnt"));
    block_device::make("ext4", &image, 16, &[]);
    fs::create_dir(&mount_point).unwrap();
    let _mounted = block_device::Mounted::mount(&image, &mount_point, "noatime");
    full_and_not_full(&mount_point);
}

fn full_and_not_full(directory: &Path) {
    let filler = directory.join("filler");
    fs::write(&filler, vec![1; 2 << 20]).unwrap();
    let data_dir = directory.join("data");
    let server = Server::start(&data_dir, &[]);
    let (stored, refused) = fill(&server, "a");
    assert!(stored > 10);
    refused.problem(507, "disk_full");
    assert_eq!(server.all_memories().len(), stored, "reads go on, and what was refused is not there");

    // A start on a full disk reads.
    server.kill();
    let server = Server::start(&data_dir, &[]);
    assert_eq!(server.all_memories().len(), stored);

    fs::remove_file(&filler).unwrap();
    let server = if server.get("/readyz").status == 200 {
        server
    } else {
        server.post("/v1/memories", &json!({"content": "y"})).problem(503, "read_only");
        server.kill();
        Server::start(&data_dir, &[])
    };
    server.post("/v1/memories", &json!({"id": "after", "content": "y"})).expect(201);
    let (more, refused) = fill(&server, "b");
    refused.problem(507, "disk_full");
    let total = server.all_memories().len();
    assert_eq!(total, stored + 1 + more);
    server.kill();
    assert_eq!(Server::start(&data_dir, &[]).all_memories().len(), total);
}

#[test]
fn a_file_size_limit_refuses_and_does_not_kill() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::spawn(command_after("ulimit -f 2048", directory.path(), &[]));
    let content = "x".repeat(200_000);
    // The log goes on in another segment each time one has reached the limit.
    for n in 0..60 {
        let body = json!({"id": format!("m{n}"), "content": content});
        let mut answer = server.post("/v1/memories", &body);
        if answer.status == 507 {
            answer = server.post("/v1/memories", &body);
        }
        answer.expect(201);
    }
    assert_eq!(server.all_memories().len(), 60);
    server.kill();
    assert_eq!(Server::start(directory.path(), &[]).all_memories().len(), 60);
}
