//! The real server on file systems of the kernel whose disk fails: block writes that are refused, a file system that goes
//! read-only, a phantom that the page cache shows after a failed sync.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![expect(clippy::print_stdout, reason = "what was tried, or why a test was skipped")]
#![allow(dead_code, reason = "each test uses a part of the harness")]

#[path = "support/block_device.rs"]
mod block_device;
#[path = "support/server.rs"]
mod server;
#[path = "support/skip.rs"]
mod skip;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use block_device::{Daemon, Mounted, make, run};
use serde_json::json;
use server::{Server, command};

/// A disk whose writes can be made to fail. Its parts go in the order in which they are declared.
struct FailingDisk {
    mounted: Mounted,
    _fuse: Daemon,
    nbd: std::process::Child,
    inject: PathBuf,
    directory: tempfile::TempDir,
}

impl FailingDisk {
    fn make(kind: &str, mib: u64, options: &[&str]) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = |name: &str| directory.path().join(name);
        let (image, socket, export, inject) = (path("disk.img"), path("nbd"), path("export"), path("inject"));
        make(kind, &image, mib, options);
        let mut nbd = Command::new("nbdkit");
        nbd.args(["-f", "-U"]).arg(&socket).args(["--filter=error", "file"]).arg(&image);
        nbd.args(["error-pwrite-rate=100%", "error-pwrite=EIO"])
            .arg(format!("error-file={}", inject.display()));
        let nbd = nbd.spawn().unwrap();
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        File::create(&export).unwrap();
        fs::create_dir(path("mnt")).unwrap();
        let mut fuse = Command::new("nbdfuse");
        fuse.arg(&export).arg(format!("nbd+unix:///?socket={}", socket.display()));
        let fuse = Daemon::start(fuse, &export);
        let mounted = Mounted::mount(&export, &path("mnt"), "noatime");
        Self { mounted, _fuse: fuse, nbd, inject, directory }
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("mnt/data")
    }

    fn fails(&self, it_does: bool) {
        if it_does {
            File::create(&self.inject).unwrap();
        } else {
            fs::remove_file(&self.inject).unwrap();
        }
    }

    /// The disk is well, and the file system is mounted anew: what the page cache alone had is gone.
    fn mount_again(&mut self) {
        self.mounted.unmount();
        self.mounted.mount_again("noatime");
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // Writes that wait for a failing disk would keep it from being unmounted.
        drop(fs::remove_file(&self.inject));
        drop(run("umount", &["-l", self.directory.path().join("mnt").to_str().unwrap()]));
        drop(self.nbd.kill());
        drop(self.nbd.wait());
    }
}

fn store(server: &Server, id: &str) -> server::Answer {
    server.post("/v1/memories", &json!({"id": id, "content": format!("what {id} is about")}))
}

#[test]
fn a_disk_that_fails_ends_writing_on_every_file_system_and_loses_nothing() {
    if let Some(reason) = block_device::cannot(&["nbdkit", "nbdfuse", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"])
    {
        return skip::because(&reason);
    }
    for (kind, mib) in [("ext4", 64), ("xfs", 320), ("btrfs", 128)] {
        let mut disk = FailingDisk::make(kind, mib, &[]);
        let server = Server::start(&disk.data_dir(), &["--on-wal-failure", "read-only"]);
        for n in 0..10 {
            store(&server, &format!("m{n}")).expect(201);
        }
        disk.fails(true);
        let problem = store(&server, "refused").problem(503, "log_failed");
        println!("{kind}: {}", problem["detail"]);
        disk.fails(false);
        // The disk is well again; what it has lost it does not tell, so nothing more is promised.
        store(&server, "later").problem(503, "log_failed");
        assert_eq!(server.get("/readyz").status, 503, "{kind}");
        assert_eq!(server.all_memories().len(), 10, "{kind}: reads go on");
        server.kill();
        disk.mount_again();
        let server = Server::start(&disk.data_dir(), &["--recovery", "torn-tail"]);
        for n in 0..10 {
            assert!(server.memory(&format!("m{n}")).is_some(), "{kind}: m{n} is lost");
        }
        assert!(server.memory("later").is_none(), "{kind}");
        store(&server, "after").expect(201);
        server.kill();
    }
}

#[test]
fn what_is_shown_after_a_failed_sync_stays_when_the_page_cache_is_gone() {
    if let Some(reason) = block_device::cannot(&["nbdkit", "nbdfuse", "mkfs.ext4"]) {
        return skip::because(&reason);
    }
    let mut phantoms = 0;
    for _ in 0..3 {
        // Without a journal the file system goes on after the failure, as if nothing had been.
        let mut disk = FailingDisk::make("ext4", 64, &["-O", "^has_journal"]);
        let server = Server::start(&disk.data_dir(), &["--on-wal-failure", "read-only"]);
        for n in 0..5 {
            store(&server, &format!("m{n}")).expect(201);
        }
        disk.fails(true);
        store(&server, "phantom").problem(503, "log_failed");
        disk.fails(false);
        server.kill();
        let server = Server::start(&disk.data_dir(), &["--recovery", "torn-tail"]);
        let shown = server.all_memories().len();
        phantoms += shown - 5;
        server.kill();
        disk.mount_again();
        let found = Server::start(&disk.data_dir(), &["--recovery", "torn-tail"]).all_memories().len();
        assert_eq!(found, shown, "what was shown is gone");
    }
    println!("{phantoms} of 3 refused records were shown after the restart, and stayed");
    assert!(phantoms > 0, "or there was nothing to lose");
}

#[test]
fn a_file_system_that_goes_read_only_is_said_so_and_read() {
    if let Some(reason) = block_device::cannot(&["mkfs.ext4", "e2fsck"]) {
        return skip::because(&reason);
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (image, mount_point) = (directory.path().join("disk.img"), directory.path().join("mnt"));
    make("ext4", &image, 64, &[]);
    fs::create_dir(&mount_point).unwrap();
    let mut mounted = Mounted::mount(&image, &mount_point, "errors=remount-ro");
    let data_dir = mount_point.join("data");
    let server = Server::start(&data_dir, &["--on-wal-failure", "read-only"]);
    for n in 0..10 {
        store(&server, &format!("m{n}")).expect(201);
    }
    let trigger = Path::new("/sys/fs/ext4").join(mounted.name()).join("trigger_fs_error");
    fs::write(trigger, "1").unwrap();
    let problem = store(&server, "refused").problem(503, "log_failed");
    let detail = problem["detail"].as_str().unwrap();
    let says_why = ["Read-only file system", "Input/output error", "Structure needs cleaning"];
    assert!(says_why.iter().any(|why| detail.contains(why)), "{detail}");
    assert_eq!(server.all_memories().len(), 10, "reads go on");
    server.kill();

    let server = Server::start(&data_dir, &[]);
    assert!(server.all_memories().len() >= 10);
    let problem = store(&server, "refused").problem(503, "read_only");
    assert!(problem["detail"].as_str().unwrap().contains("Read-only file system"), "{problem}");
    server.kill();
    mounted.unmount();
    // It mends what the error has marked; its code says that it has.
    drop(run("e2fsck", &["-fy", mounted.device()]));
    mounted.mount_again("errors=remount-ro");
    let server = Server::spawn(command(&data_dir, &["--recovery", "torn-tail"]));
    for n in 0..10 {
        assert!(server.memory(&format!("m{n}")).is_some(), "m{n} is lost");
    }
    store(&server, "after").expect(201);
    server.kill();
}
